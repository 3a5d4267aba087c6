# SPDX-License-Identifier: Apache-2.0
"""No test waits for less than a hang: seconds of their own, which a busy machine can reach, end none of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ENDING = {"join", "wait"}  # of threads, processes, events
WAITING = {"run", "communicate", "check_output", "check_call"}


def impatient(source: str) -> Iterator[int]:
    """Lines that give something a few seconds to end: numbers of their own instead of ``patience.HANG``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            given = node.args[:1] if name in ENDING and len(node.args) == 1 else []
            given += [k.value for k in node.keywords if k.arg == "timeout" and name in ENDING | WAITING]
            yield from [node.lineno] * any(isinstance(g, ast.Constant) and not isinstance(g.value, str) for g in given)


def test_nothing_is_given_a_few_seconds() -> None:
    found = [f"{p.relative_to(HERE)}:{n}" for p in HERE.rglob("*.py") for n in impatient(p.read_text("utf-8"))]
    assert not found, "wait for patience.HANG, or without an end: pytest has one"


@pytest.mark.parametrize(
    ("breach", "count"),
    [
        ("t.join(5)", 1),
        ("e.wait(timeout=3.0)", 1),
        ("subprocess.run(x, timeout=60)", 1),
        ("t.join()", 0),
        ("', '.join(words)", 0),
        ("e.wait(HANG)", 0),
    ],
)
def test_a_few_seconds_are_noticed(breach: str, count: int) -> None:
    assert len(list(impatient(breach))) == count
