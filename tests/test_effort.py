# SPDX-License-Identifier: Apache-2.0
"""Hypothesis' two profiles: one that finds the same each time, one that looks further. And nobody goes around them."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROPERTY = """
from effort import examples
from hypothesis import given, strategies as st

@given(st.integers())
def test_usual(number): print("usual", number)

@examples(7)
@given(st.integers())
def test_few(number): print("few", number)
"""


@pytest.fixture
def properties(tmp_path: Path) -> Path:
    for name in ("conftest.py", "effort.py"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "test_properties.py").write_text(PROPERTY)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def drawn(folder: Path, *options: str) -> list[str]:
    """What a run of the properties draws, in order."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:benchmark",
        "-p",
        "no:xdist",
        *options,
        str(folder),
    ]
    env = {**os.environ, "PYTEST_ADDOPTS": ""}  # what was asked of this run is not asked of that one
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    return [line.lstrip(".") for line in ended.stdout.splitlines() if line.lstrip(".").startswith(("usual", "few"))]


def count(lines: list[str], word: str) -> int:
    return sum(line.startswith(word) for line in lines)


def test_an_ordinary_run_draws_the_same_each_time(properties: Path) -> None:
    first = drawn(properties)
    assert drawn(properties) == first
    assert (count(first, "usual"), count(first, "few")) == (100, 7)


def test_a_fuzzing_run_draws_ten_times_as_many_and_never_the_same(properties: Path) -> None:
    first, second = (drawn(properties, "--hypothesis-profile=fuzz") for _ in range(2))
    assert first != second
    assert (count(first, "usual"), count(first, "few")) == (1000, 70)


def on_their_own(source: str) -> Iterator[int]:
    """Lines that ask for a number of examples or a deadline of their own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and "settings" in ast.unparse(node.func):
            words = {keyword.arg for keyword in node.keywords}
            yield from [node.lineno] * bool(words & {"max_examples", "deadline", "derandomize"})


def test_every_property_takes_its_number_from_the_profile() -> None:
    files = [path for path in HERE.rglob("*.py") if path.name != "effort.py"]
    found = [f"{path.relative_to(HERE)}:{line}" for path in files for line in on_their_own(path.read_text("utf-8"))]
    assert not found, "use effort.examples"


def test_a_number_of_its_own_is_noticed() -> None:
    assert list(on_their_own("@settings(max_examples=9)\ndef f(): ...")) == [1]
