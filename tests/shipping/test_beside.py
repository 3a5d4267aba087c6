# SPDX-License-Identifier: Apache-2.0
"""What is installed beside the program: man pages that say what the help says, in clean roff; completions; units."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest

from hotbank.cli import SECTIONS, cli
from hotbank.errors import Code

ROOT = Path(__file__).parents[2]
SHELLS = ("share/bash-completion/completions/hotbank", "share/fish/vendor_completions.d/hotbank.fish")
PAGES = {f"hotbank{page}.1" for page in ("", *(f"-{section.lower()}" for section in SECTIONS))}


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beside")
    subprocess.run([sys.executable, ROOT / "packaging/beside.py", folder, "/opt/x/hotbank"], check=True)
    return folder


@pytest.fixture(scope="module")
def pages(beside: Path) -> dict[str, str]:
    return {page.name: page.read_text(encoding="ascii") for page in (beside / "share/man/man1").iterdir()}


def plain(page: str) -> str:
    """Words without roff."""
    return re.sub(r"\s+", " ", page.replace(r"\-", "-").replace(r"\(dq", '"').replace(r"\e", "\\").replace(r"\&", ""))


def test_a_page_for_each_section_of_the_help(pages: dict[str, str]) -> None:
    assert pages.keys() == PAGES


@pytest.mark.parametrize("section", SECTIONS)
def test_every_command_and_option_is_on_its_page(section: str, pages: dict[str, str]) -> None:
    words, context = plain(pages[f"hotbank-{section.lower()}.1"]), click.Context(cli)
    for name in SECTIONS[section]:
        command = cli.get_command(context, name)
        assert command is not None
        assert f"hotbank {name}" in words
        assert f".B {name}\n" in pages["hotbank.1"]
        for option in (o for p in command.params if isinstance(p, click.Option) for o in p.opts if not p.hidden):
            assert option in words, f"{name} {option}"
        for paragraph in (command.help or "").split("\n\n"):
            assert " ".join(paragraph.split()) in words


def test_every_reason_and_exit_status_is_on_the_first_page(pages: dict[str, str]) -> None:
    for code in Code:
        assert f".B {code}\n" in pages["hotbank.1"]
    for status in (0, 1, 2, 64, 130):
        assert f".B {status}\n" in pages["hotbank.1"]


def test_what_a_page_names_is_there(pages: dict[str, str], beside: Path) -> None:
    units = "".join(unit.read_text() for unit in (beside / "lib/systemd/system").iterdir())
    named = set(re.findall(r"(?:man:|\.BR )(hotbank[\\a-z-]*) ?\(1\)", units + "".join(pages.values())))
    assert {f"{page}.1".replace("\\", "") for page in named} == PAGES


@pytest.mark.referee
@pytest.mark.parametrize("page", sorted(PAGES))
def test_groff_has_no_complaint(page: str, pages: dict[str, str]) -> None:
    command = ["groff", "-man", "-Tascii", "-ww", "-P-cbou"]
    done = subprocess.run(command, input=pages[page], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "SEE ALSO" in done.stdout


@pytest.mark.referee
def test_man_shows_them(beside: Path) -> None:
    page = beside / "share/man/man1/hotbank-operate.1"
    done = subprocess.run(["man", "--warnings=w", "-l", page], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "HOTBANK-OPERATE(1)" in done.stdout


def test_units_start_the_program_that_is_named(beside: Path) -> None:
    owner = (beside / "lib/systemd/system/hotbank.service").read_text()
    assert "\nExecStart=/opt/x/hotbank -m host serve" in owner
    governs = (beside / "share/doc/hotbank/hotbank.service.d/auto.conf").read_text()
    assert "\nExecStart=/opt/x/hotbank -m host serve" in governs
    assert (beside / "lib/sysusers.d/hotbank.conf").is_file()


def test_a_drop_in_is_an_example_and_does_not_act_by_being_there(beside: Path) -> None:
    for example in ("hotbank.service.d/board-commands.conf", "grafana/hotbank.json", "prometheus/hotbank.rules.yml"):
        assert (beside / "share/doc/hotbank" / example).is_file()
    assert not [path for path in (beside / "lib/systemd/system").iterdir() if path.is_dir()]


@pytest.mark.long
def test_a_wheel_carries_pages_and_completions(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "tests", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored, symlinks=True)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    static = (path for path in (ROOT / "src/hotbank/web/static").rglob("*") if path.is_file())
    assert {path.relative_to(ROOT / "src").as_posix() for path in static} <= set(inside)
    names = {name.partition(".data/data/")[2] for name in inside}
    assert names >= {f"share/man/man1/{page}" for page in PAGES} | set(SHELLS)
