# SPDX-License-Identifier: Apache-2.0
"""Every example in README.md and docs/ is run, and prints what the page says it prints.

A fenced block tagged ``console`` holds commands after ``$ `` and their output; ``...`` stands for anything.
The blocks of one page run in order, in one empty folder, with a runtime folder of their own. Standard error
is part of the output, ``$REPO`` is this checkout. A command that fails is written with ``; echo $?`` behind it, so
its status shows.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(page: str) -> Iterator[tuple[str, str]]:
    """Command and expected output, in the page's order."""
    for block in _BLOCK.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            while command.endswith("\\"):
                more, _, output = output.partition("\n")
                command = f"{command[:-1]} {more.removeprefix('> ').strip()}"
            yield command, output


def same(expected: str, got: str) -> bool:
    """Equal apart from white space and what ``...`` stands for."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(expected, got, flags)


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_examples_of_page_print_what_it_says(page: Path, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    folder = tmp_path / "empty"
    folder.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "XDG_RUNTIME_DIR": str(runtime), "COLUMNS": "110", "NO_COLOR": "1"}
    env["REPO"] = str(ROOT)
    env.pop("HOTBANK_MACHINE", None)
    try:
        for command, expected in examples(page.read_text(encoding="utf-8")):
            done = _run(command, folder, env)
            assert same(expected, done), f"{page.name}: $ {command}\n{done}"
    finally:
        _run("hotbank down", folder, env)


def test_checker_notices_a_wrong_page() -> None:
    page = "text\n```console\n$ echo one; \\\n>   echo two\none\n...\n$ false; echo $?\n0\n```\n"
    (first, expected), (second, wrong) = examples(page)
    assert same(expected, _run(first, ROOT, dict(os.environ)))
    assert not same(wrong, _run(second, ROOT, dict(os.environ)))


def _run(command: str, folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout
