# SPDX-License-Identifier: Apache-2.0
"""The man page says what the help says: every command, option, exit status and reason code, in clean roff."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hotbank.cli import SECTIONS, cli
from hotbank.errors import Code

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("man") / "hotbank.1"
    subprocess.run([sys.executable, ROOT / "man" / "make_page.py", target], check=True)
    return target.read_text(encoding="utf-8")


def plain(page: str) -> str:
    """Words without roff."""
    return re.sub(r"\s+", " ", page.replace(r"\-", "-").replace(r"\(dq", '"').replace(r"\e", "\\").replace(r"\&", ""))


def test_every_command_and_option_is_on_it(page: str) -> None:
    words, context = plain(page), click.Context(cli)
    for name in (name for names in SECTIONS.values() for name in names):
        command = cli.get_command(context, name)
        assert command is not None
        assert f"hotbank {name}" in words
        for option in (o for p in command.params if isinstance(p, click.Option) for o in p.opts if not p.hidden):
            assert option in words, f"{name} {option}"
        for paragraph in (command.help or "").split("\n\n"):
            assert " ".join(paragraph.split()) in words


def test_every_reason_and_exit_status_is_on_it(page: str) -> None:
    for code in Code:
        assert f".B {code}\n" in page
    for status in (0, 1, 2, 64, 130):
        assert f".B {status}\n" in page


@pytest.mark.referee
@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_no_complaint(page: str) -> None:
    command = ["groff", "-man", "-Tascii", "-ww", "-P-cbou"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "REASON CODES" in done.stdout
