# SPDX-License-Identifier: Apache-2.0
"""README's install part, as a newcomer follows it: an empty home, Python and pip and nothing of ours.

Each line of it that needs no program besides is run as it is printed; then README's examples, in order, with what was
installed; then it is uninstalled, and nothing is left but in the folders that README names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.test_examples import ROOT, blocks, examples, same

README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL = README.partition("\n## Install\n")[2].partition("\n## ")[0]
_KEPT = (
    "src",
    "docs",
    "boards",
    "workloads",
    "memspecs",
    "traces",
    "kernel",
    "packaging",
    "README.md",
    "LICENSE",
    "Makefile",
)
_CACHES = shutil.ignore_patterns("__pycache__", "build", "*.pyc")


class Newcomer:
    """Somebody with an empty home and a checkout. ``env`` has nothing of this test's own environment but pip's."""

    def __init__(self, root: Path) -> None:
        self.root, self.home, self.checkout = root, root / "home", root / "checkout"
        self.home.mkdir()
        (root / "tmp").mkdir()
        python = Path(sys.base_prefix, "bin")
        pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        places = {"PATH": f"{python}:/usr/bin:/bin", "HOME": str(self.home), "TMPDIR": str(root / "tmp")}
        self.env = {**pip, **places, "LANG": "C.UTF-8", "COLUMNS": "110", "PIP_NO_CACHE_DIR": "1"}

    def run(self, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
        out = subprocess.PIPE
        words = ["bash", "-c", command]
        return subprocess.run(
            words,
            cwd=folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def must(self, command: str, folder: Path) -> str:
        done = self.run(command, folder)
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        return done.stdout

    def left(self) -> set[str]:
        """Folders and files in home and the temporary folder, the first two steps of their paths."""
        tops = (path for top in (self.home, self.root / "tmp") for path in top.rglob("*"))
        return {str(Path(*path.relative_to(self.root).parts[:4])) for path in tops if not path.is_dir()}


@pytest.fixture
def newcomer() -> Iterator[Newcomer]:
    """In a folder with a short name: sockets are in it."""
    root = Path(tempfile.mkdtemp(prefix="hb"))
    try:
        one = Newcomer(root)
        for name in _KEPT:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, one.checkout / name, ignore=_CACHES)
            else:
                shutil.copy(source, one.checkout / name)
        for name in ("pyproject.toml", "CONTRIBUTING.md"):
            shutil.copy(ROOT / name, one.checkout / name)
        yield one
        one.run("venv/bin/hotbank down", one.checkout)
    finally:
        shutil.rmtree(root)


def _named_folders() -> list[str]:
    """The folders of README's table."""
    return re.findall(r"`([^`]*hotbank[^`]*)`", "\n".join(re.findall(r"^\| (`.*?) \|", INSTALL, re.MULTILINE)))


def _line(beginning: str) -> str:
    """README's command that begins so, without what is said of it."""
    found = re.search(rf"^    ({re.escape(beginning)}.*?)(?:  +#.*)?$", INSTALL, re.MULTILINE)
    assert found, beginning
    return found[1]


@pytest.mark.long
def test_a_newcomer_installs_uses_and_uninstalls_it(newcomer: Newcomer) -> None:
    newcomer.must(_line("python3 -m venv"), newcomer.checkout)
    newcomer.must("venv/bin/hotbank --version", newcomer.checkout)
    newcomer.env["PATH"] = f"{newcomer.checkout}/venv/bin:{newcomer.env['PATH']}"
    before = newcomer.left()
    newcomer.must(_line("python3 -m pip wheel"), newcomer.checkout)
    newcomer.must("pip install --no-deps --force-reinstall dist/*.whl", newcomer.checkout)
    folder = newcomer.root / "work"
    folder.mkdir()
    for _, block in blocks(README, "console"):
        for command, expected in examples(block):
            got = newcomer.run(command, folder).stdout
            assert same(expected, got), f"$ {command}\n{got}"
    newcomer.must("pip uninstall --yes hotbank", newcomer.checkout)
    ours = [path for path in Path(newcomer.checkout, "venv").rglob("*hotbank*") if path.is_file()]
    assert ours == []
    allowed = (f"tmp/hotbank-{os.getuid()}/", "home/.local/state/hotbank/", "home/.cache/hotbank/")
    assert [path for path in newcomer.left() - before if not f"{path}/".startswith(allowed)] == []
    assert {path.name for path in folder.iterdir()} == {"tags"}, "what was named with -o"


@pytest.mark.long
def test_make_install_puts_it_below_a_prefix_and_takes_it_away(newcomer: Newcomer) -> None:
    prefix = newcomer.root / "prefix"
    (prefix / "share/man/man1").mkdir(parents=True)
    (prefix / "share/man/man1/other.1").touch()
    newcomer.must(_line("make install").replace("/usr/local", str(prefix)), newcomer.checkout)
    assert "hotbank" in newcomer.must(f"{prefix}/bin/hotbank --version", newcomer.root)
    assert (prefix / "share/man/man1/hotbank.1").is_file()
    unit = (prefix / "lib/systemd/system/hotbank.service").read_text()
    assert f"ExecStart={prefix}/bin/hotbank " in unit
    newcomer.must(f"make uninstall PREFIX={prefix}", newcomer.checkout)
    assert [path.name for path in prefix.rglob("*") if path.is_file()] == ["other.1"]


@pytest.mark.slow
def test_pipx_installs_it_with_man_pages_and_takes_it_away(newcomer: Newcomer) -> None:
    newcomer.must("python3 -m venv tools && tools/bin/pip install --quiet pipx", newcomer.root)
    newcomer.env["PATH"] = f"{newcomer.root}/tools/bin:{newcomer.home}/.local/bin:{newcomer.env['PATH']}"
    newcomer.must(_line("pipx install"), newcomer.checkout)
    assert newcomer.must("type -P hotbank", newcomer.root).strip() == f"{newcomer.home}/.local/bin/hotbank"
    assert "arm-2009" in newcomer.must("hotbank board list", newcomer.root)
    assert (newcomer.home / ".local/share/man/man1/hotbank.1").exists()
    newcomer.must("pipx uninstall hotbank", newcomer.root)
    left = [path for path in newcomer.home.rglob("*hotbank*") if "pipx/logs" not in path.as_posix()]
    assert [path for path in left if path.name != ".hotbank.lock"] == []  # pipx's own


def test_readme_names_the_folders_that_the_code_writes_to() -> None:
    named = " ".join(_named_folders())
    for folder in ("$XDG_RUNTIME_DIR/hotbank", "/tmp/hotbank-UID", "/var/lib/hotbank", "~/.local/state/hotbank"):
        assert folder in named
    assert "/run/hotbank" in named
    assert "~/.cache/hotbank" in named


def test_every_extra_is_explained() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"^\| `(\w+)` \|", INSTALL, re.MULTILINE)) == set(extras)


def test_what_is_left_is_seen(tmp_path: Path) -> None:
    one = Newcomer(tmp_path)
    assert one.left() == set()
    (one.home / ".config/hotbank").mkdir(parents=True)
    (one.home / ".config/hotbank/left").touch()
    (tmp_path / "tmp/left").touch()
    assert one.left() == {"home/.config/hotbank/left", "tmp/left"}
