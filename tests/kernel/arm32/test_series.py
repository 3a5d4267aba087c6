# SPDX-License-Identifier: Apache-2.0
"""The port as patches: what git makes of them on an unmodified kernel is the tree that the edits make."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hotbank.boards_qemu.parts.kernel_build import port_folder
from hotbank.boards_qemu.parts.kernel_port import Edit, KernelPort, Patch
from hotbank.boards_qemu.parts.kernel_series import written
from hotbank.errors import MachineError
from kernel.kernel_source import from_source
from kernel.test_style import complaints_about_patch

PORT = KernelPort.load(port_folder("arm"))
COVER = (port_folder("arm") / "cover").read_text(encoding="utf-8")
TOUCHED = {edit.file for edit in PORT.edits} - PORT.files.keys()
ASKED = {edit.unless.file for edit in PORT.edits if edit.unless is not None}
WHO = {"AUTHOR": "Anna Sender", "COMMITTER": "Anna Sender"}


@pytest.fixture(autouse=True)
def _sender(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who sends, whatever git is set to here; the folder of another repository is nobody's business."""
    for role, name in WHO.items():
        monkeypatch.setenv(f"GIT_{role}_NAME", name)
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "sender@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))


def contents(tree: Path) -> dict[str, str]:
    """Every file of a tree but git's own."""
    files = (path for path in tree.rglob("*") if path.is_file() and ".git" not in path.relative_to(tree).parts)
    return {str(path.relative_to(tree)): path.read_text(encoding="utf-8") for path in files}


def after_git_am(tree: Path, patches: tuple[Path, ...], repository: Path) -> dict[str, str]:
    """What ``git am`` makes of the tree."""
    shutil.copytree(tree, repository)
    commands = (["init", "-q"], ["add", "-A"], ["commit", "-qm", "source"], ["am", "-q", *map(str, patches)])
    for command in commands:
        subprocess.run(["git", f"--git-dir={repository}/.git", *command], cwd=repository, check=True)
    return contents(repository)


@pytest.mark.kernel
@pytest.mark.parametrize("release", PORT.releases)
def test_git_am_makes_the_tree_that_the_edits_make(release: str, tmp_path: Path) -> None:
    """On Debian's source of each release; checkpatch has nothing to say of any patch."""
    tree = tmp_path / "tree"
    pristine = from_source(*sorted(TOUCHED | ASKED), series=release)
    for file in TOUCHED | ASKED:
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pristine / file, tree / file)
    cover, *patches = written(PORT, COVER, tree, tmp_path / "originals", tmp_path / "series")
    assert len(patches) == len(PORT.patches)
    assert "[RFC PATCH 0/6] ARM: memory banks that can leave and return" in cover.read_text(encoding="utf-8")
    made = after_git_am(tree, tuple(patches), tmp_path / "repository")
    PORT.apply(tree, tmp_path / "originals")
    assert made == contents(tree)
    assert made.keys() == TOUCHED | ASKED | PORT.files.keys()
    assert {patch.name: complaints_about_patch(patch) for patch in patches} == {patch.name: [] for patch in patches}


def small(tmp_path: Path) -> tuple[KernelPort, Path]:
    """A port of two patches, and a tree of one file for it."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.c").write_text("int a;\n")
    first = Patch("a: one", "Why.\n", (Edit("a.c", "after", "int a;", "int b;\n"),), ("own.c",))
    second = Patch("a: two", "And why.\n", (Edit("own.c", "replace", "int c;", "int d;\n"),))
    return KernelPort((first, second), {"own.c": "int c;\n"}, ""), tmp_path / "tree"


def test_each_patch_has_its_text_and_who_sends_it(tmp_path: Path) -> None:
    port, tree = small(tmp_path)
    made = written(port, "Both\n\nTogether.\n", tree, tree, tmp_path / "new/series")
    assert [path.name for path in made] == ["0000-cover-letter.patch", "0001-a-one.patch", "0002-a-two.patch"]
    cover, one, two = (path.read_text() for path in made)
    assert "Subject: [RFC PATCH 0/2] Both\n\nTogether.\n" in cover
    assert "From: Anna Sender <sender@example.org>" in one
    assert "\nWhy.\n\nSigned-off-by: Anna Sender <sender@example.org>\n---\n" in one
    assert "\nAnd why.\n\nSigned-off-by" in two
    assert contents(tree) == {"a.c": "int a;\n"}
    assert after_git_am(tree, made[1:], tmp_path / "repository") == {"a.c": "int a;\nint b;\n", "own.c": "int d;\n"}


def test_the_series_is_the_same_however_git_is_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text(
        "[commit]\ngpgsign = true\n[diff]\nnoprefix = true\nmnemonicPrefix = true\n"
        "[format]\nuseAutoBase = true\nnoprefix = true\n[init]\ndefaultBranch = else\n"
    )
    port, tree = small(tmp_path)
    for number, config in enumerate(("/dev/null", settings)):
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
        made = written(port, "Both\n", tree, tree, tmp_path / f"series{number}")
        lines = [line for path in made for line in path.read_text().splitlines()]
        assert [line for line in lines if line.startswith("diff")] == [
            "diff --git a/a.c b/a.c",
            "diff --git a/own.c b/own.c",
            "diff --git a/own.c b/own.c",
        ]


def test_nobody_signs_for_somebody_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in WHO:
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    port, tree = small(tmp_path)
    with pytest.raises(MachineError, match="git commit: ") as caught:
        written(port, "Both\n", tree, tree, tmp_path / "series")
    assert "user.name and user.email in your ~/.gitconfig" in (caught.value.remedy or "")


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, tree = small(tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MachineError, match="git is not installed"):
        written(port, "Both\n", tree, tree, tmp_path / "series")
