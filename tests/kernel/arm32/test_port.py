# SPDX-License-Identifier: Apache-2.0
"""The edit tool: a port is applied whole or not at all, and taken back without a trace."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.boards_qemu.parts import kernel_port
from hotbank.boards_qemu.parts.kernel_build import port_folder
from hotbank.boards_qemu.parts.kernel_port import Edit, KernelPort, Line, Patch, applied, read_edits
from hotbank.errors import FormatError, Refusal

SOURCE = "int f(void)\n{\n\treturn 0;\n}\n\nint g(void)\n{\n\treturn 0;\n}\n"
BEFORE_F = Edit("a.c", "before", "int f(void)", "/* ours */\n")
IN_G = Edit("a.c", "replace", "return 0;", "\treturn 1;\n", within="int g(void)")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small source tree."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.c").write_text(SOURCE)
    return tmp_path / "tree"


def apply(tree: Path, *edits: Edit, files: dict[str, str] | None = None) -> None:
    """Make the tree that of a port with these edits and files."""
    port(*edits, files=files).apply(tree, tree.parent / "originals")


def port(*edits: Edit, files: dict[str, str] | None = None) -> KernelPort:
    """A port of one patch."""
    return KernelPort((Patch("it", "all", edits, tuple(files or {})),), files or {}, "")


def contents(tree: Path) -> dict[str, str]:
    """Every file of a tree."""
    return {str(p.relative_to(tree)): p.read_text() for p in tree.rglob("*") if p.is_file()}


def test_text_goes_to_its_place() -> None:
    after = Edit("a.c", "after", "int f(void)", "/* behind */\n")
    assert applied(after, SOURCE) == SOURCE.replace("int f(void)\n", "int f(void)\n/* behind */\n")
    assert applied(IN_G, SOURCE) == SOURCE[: SOURCE.index("int g")] + "int g(void)\n{\n\treturn 1;\n}\n"
    assert applied(BEFORE_F, SOURCE) == "/* ours */\n" + SOURCE


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (Edit("a.c", "before", "int h(void)", "x\n"), SOURCE),
        (Edit("a.c", "before", "return 0;", "x\n"), SOURCE),
        (Edit("a.c", "before", "return 0;", "x\n", within="int h(void)"), SOURCE),
        (IN_G, "int g(void)\n" + "\n" * 60 + "return 0;\n"),
        (BEFORE_F, applied(BEFORE_F, SOURCE)),
        (IN_G, applied(IN_G, SOURCE)),
    ],
    ids=["no anchor", "two anchors", "no within", "anchor too far", "inserted already", "replaced already"],
)
def test_a_tree_that_does_not_fit_is_refused(edit: Edit, text: str) -> None:
    with pytest.raises(Refusal, match=r"a\.c"):
        applied(edit, text)


def test_a_refusal_writes_nothing(tree: Path) -> None:
    before = contents(tree)
    with pytest.raises(Refusal):
        apply(tree, BEFORE_F, Edit("b.c", "before", "x", "y\n"), files={"new.c": "new\n"})
    with pytest.raises(Refusal, match=r"a\.c is in the kernel's source already"):
        apply(tree, BEFORE_F, files={"a.c": "new\n"})
    assert contents(tree) == before


def test_another_port_starts_from_the_originals(tree: Path) -> None:
    """Whatever was applied before, the tree is that of the last port; an empty port gives the first tree back."""
    pristine = contents(tree)
    apply(tree, BEFORE_F, files={"d/new.c": "one\n"})
    assert contents(tree) == {"a.c": applied(BEFORE_F, SOURCE), "d/new.c": "one\n"}
    apply(tree, IN_G, files={"d/new.c": "two\n"})
    assert contents(tree) == {"a.c": applied(IN_G, SOURCE), "d/new.c": "two\n"}
    apply(tree)
    assert contents(tree) == pristine


@pytest.mark.parametrize("writes", range(8))
def test_whoever_is_cut_short_is_taken_up_again(tree: Path, writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any number of writes: the same port again makes the tree whole, and an empty one gives the first back."""
    pristine, left = contents(tree), writes
    really = kernel_port._write

    def write(path: Path, text: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        really(path, text)

    monkeypatch.setattr(kernel_port, "_write", write)
    with suppress(KeyboardInterrupt):
        apply(tree, BEFORE_F, files={"new.c": "one\n"})
    monkeypatch.setattr(kernel_port, "_write", really)
    apply(tree, BEFORE_F, files={"new.c": "one\n"})
    assert contents(tree) == {"a.c": applied(BEFORE_F, SOURCE), "new.c": "one\n"}
    apply(tree)
    assert contents(tree) == pristine


def test_a_full_disk_leaves_no_half_of_an_original(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Path.write_text

    def half(path: Path, text: str, **options: str) -> int:
        written(path, text[: len(text) // 2], **options)
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as context:
        context.setattr(Path, "write_text", half)
        with pytest.raises(OSError, match="No space"):
            apply(tree, BEFORE_F)
    apply(tree, BEFORE_F)
    assert (tree / "a.c").read_text() == applied(BEFORE_F, SOURCE)
    apply(tree)
    assert (tree / "a.c").read_text() == SOURCE


def test_what_does_not_change_is_not_written(tree: Path) -> None:
    """``make`` goes by times: applying the same port again must not touch a file."""
    apply(tree, BEFORE_F, files={"new.c": "one\n"})
    times = {path: path.stat().st_mtime_ns for path in tree.rglob("*.c")}
    apply(tree, BEFORE_F, files={"new.c": "one\n"})
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*.c")} == times


LINES = st.lists(st.sampled_from(["a", "b", "c", "d", "  a", ""]), max_size=8)


@given(lines=LINES, anchor=st.sampled_from("abcd"), place=st.sampled_from(["before", "after"]))
def test_an_edit_made_twice_is_refused(lines: list[str], anchor: str, place: str) -> None:
    """And one that is made keeps every line that was there."""
    text = "".join(f"{line}\n" for line in lines)
    edit = Edit("f", place, anchor, "ours\n")
    if [line.strip() for line in lines].count(anchor) != 1:
        with pytest.raises(Refusal):
            applied(edit, text)
        return
    once = applied(edit, text)
    assert once.replace("ours\n", "") == text
    with pytest.raises(Refusal, match="edited already"):
        applied(edit, once)


def test_an_edit_is_left_out_where_the_kernel_does_without(tree: Path) -> None:
    """What the kernel's own line says, edited or not; a file of ours can be edited as well."""
    has = Line("a.c", "  int g(void)")
    not_here, here = (
        Edit("own.c", "after", "new", "more\n", unless=line) for line in (has, Line("a.c", "int h(void)"))
    )
    for _ in range(2):
        apply(tree, BEFORE_F, IN_G, not_here, files={"own.c": "new\n"})
        assert contents(tree)["own.c"] == "new\n"
    apply(tree, Edit("a.c", "replace", "int g(void)", "int h(void)\n"), here, files={"own.c": "new\n"})
    assert contents(tree)["own.c"] == "new\nmore\n"


def test_each_patch_starts_from_the_one_before(tree: Path) -> None:
    first, second = (
        Patch("f", "", (BEFORE_F,)),
        Patch("g", "", (IN_G, Edit("own.c", "after", "new", "x\n")), ("own.c",)),
    )
    steps = KernelPort((first, second), {"own.c": "new\n"}, "").steps(tree, tree)
    both = applied(IN_G, applied(BEFORE_F, SOURCE))
    assert list(steps) == [
        {"a.c": SOURCE},
        {"a.c": applied(BEFORE_F, SOURCE)},
        {"a.c": both, "own.c": "new\nx\n"},
    ]


@pytest.mark.parametrize("brought", ["", '"f", "f"', '"f", "g"'])
def test_each_file_comes_with_one_patch(brought: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/f").write_text("ours\n")
    (tmp_path / "config").write_text("")
    listed = f"releases = ['1']\n[[patch]]\nsubject = 's'\ntext = 't'\nfiles = [{brought}]\n"
    (tmp_path / "edits.toml").write_text(listed)
    with pytest.raises(FormatError, match="files/ holds"):
        KernelPort.load(tmp_path)
    (tmp_path / "edits.toml").write_text(listed.replace(f"[{brought}]", "['f']"))
    assert KernelPort.load(tmp_path).releases == ("1",)


HEAD = "releases = ['1']\n[[patch]]\nsubject = 's'\ntext = 't'\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "[[patch.edit]]\nfile = 'a'\ntext = 'x'",
        HEAD + "[[patch.edit]]\nfile = 'a'\nbefore = 'b'\nafter = 'c'\ntext = 'x'",
        HEAD + "[[patch.edit]]\nbefore = 'b'\ntext = 'x'",
        HEAD + "[[patch.edit]]\nfile = 'a'\nbefore = 'b'\ntext = ' '",
        HEAD + "[[patch.edit]]\nfile = 'a'\nbefore = 'b'\ntext = 'x'\nwhere = 'y'",
        HEAD + "[[patch.edit]]\nfile = 'a'\nbefore = 'b'\ntext = 'x'\nunless = 'y'",
        HEAD + "[[patch.edit]]\nfile = 'a'\nbefore = 1\ntext = 'x'",
        HEAD + "why = 'x'",
        HEAD.replace("subject", "title"),
        HEAD.removeprefix("releases = ['1']\n"),
        "releases = ['1']\npatch = 1",
        "releases",
        "x = 1",
    ],
)
def test_a_bad_list_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match=r"edits\.toml"):
        read_edits(text)


def test_the_port_holds_no_text_of_the_kernel_but_anchors() -> None:
    """Each anchor is one line, our files are GPL-2.0, and every file of ours says so first."""
    port = KernelPort.load(port_folder("arm"))
    assert all("\n" not in line for edit in port.edits for line in (edit.anchor, edit.within or ""))
    for name, text in port.files.items():
        assert "SPDX-License-Identifier: GPL-2.0-only" in text.splitlines()[0], name
