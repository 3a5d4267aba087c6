# SPDX-License-Identifier: Apache-2.0
"""Every example in README.md and docs/ is run, and prints what the page says it prints.

A fenced block tagged ``console`` holds commands after ``$ `` and their output; ``...`` stands for anything.
One tagged ``pycon`` holds Python after ``>>> `` and its output, with the names of those before it on the page.
The blocks of one page run in order, in one empty folder, with a runtime folder of their own.
Standard error is part of the output, ``$REPO`` is this checkout. A command that fails is written with ``; echo $?``
behind it, so its status shows.
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

import hotbank

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
_BLOCK = re.compile(r"^```([\w-]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: str, *kinds: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page that are tagged so, in its order: the tag, and what stands in it."""
    return ((tag, block) for tag, block in _BLOCK.findall(page) if tag in kinds)


def examples(block: str) -> Iterator[tuple[str, str]]:
    """Command and expected output of a console block, in its order."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command = f"{command[:-1]} {more.removeprefix('> ').strip()}"
        yield command, output


def python_run(block: str, names: dict[str, object], page: str) -> str:
    """What is wrong with a pycon block; empty when it prints what it says."""
    wrong: list[str] = []
    test = doctest.DocTest(doctest.DocTestParser().get_examples(block), names, page, page, 0, block)
    doctest.DocTestRunner(optionflags=_FLAGS).run(test, out=wrong.append, clear_globs=False)
    names.update(test.globs)
    return "".join(wrong)


def same(expected: str, got: str) -> bool:
    """Equal apart from white space and what ``...`` stands for."""
    return doctest.OutputChecker().check_output(expected, got, _FLAGS)


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_examples_of_page_print_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    folder = tmp_path / "empty"
    folder.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "XDG_RUNTIME_DIR": str(runtime), "COLUMNS": "110", "NO_COLOR": "1"}
    env["REPO"] = str(ROOT)
    env.pop("HOTBANK_MACHINE", None)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    names: dict[str, object] = {"__name__": page.name}
    try:
        for kind, block in blocks(page.read_text(encoding="utf-8"), "console", "pycon"):
            if kind == "pycon":
                assert not (wrong := python_run(block, names, page.name)), wrong
                continue
            for command, expected in examples(block):
                done = _run(command, folder, env)
                assert same(expected, done), f"{page.name}: $ {command}\n{done}"
    finally:
        for session in [value for value in names.values() if isinstance(value, hotbank.Session)]:
            session.close()
        _run("hotbank down", folder, env)


def test_checker_notices_a_wrong_page() -> None:
    page = "text\n```console\n$ echo one; \\\n>   echo two\none\n...\n$ false; echo $?\n0\n```\n"
    ((_, block),) = blocks(page, "console")
    (first, expected), (second, wrong) = examples(block)
    assert same(expected, _run(first, ROOT, dict(os.environ)))
    assert not same(wrong, _run(second, ROOT, dict(os.environ)))


def test_checker_notices_wrong_python() -> None:
    names: dict[str, object] = {}
    assert not python_run(">>> a = 1\n>>> a\n1\n", names, "page")
    assert "Expected:" in python_run(">>> a\n2\n", names, "page")
    assert "NameError" in python_run(">>> b\n2\n", names, "page")


def test_every_name_that_is_promised_has_an_example() -> None:
    code = "".join(block for _, block in blocks((ROOT / "docs/python.md").read_text(), "pycon"))
    assert [name for name in hotbank.__all__ if not re.search(rf"\bhotbank\.{name}\b", code)] == []


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
