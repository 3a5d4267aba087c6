# SPDX-License-Identifier: Apache-2.0
"""What work costs, counted: the same on any machine, however busy it is."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def _own_work() -> Iterator[None]:
    """Without what is done as things are collected that somebody else has left, whenever that is due."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def calls(act: Callable[[], object]) -> int:
    """Functions that are called in the course of it, of Python and of C."""
    count = 0

    def see(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    with _own_work():
        sys.setprofile(see)
        try:
            act()
        finally:
            sys.setprofile(None)
    return count


def lines(act: Callable[[], object]) -> int:
    """Lines of Python that run in the course of it."""
    count = 0

    def see(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return see

    before = sys.gettrace()
    with _own_work():
        sys.settrace(see)
        try:
            act()
        finally:
            sys.settrace(before)
    return count


_PROGRAM = """
import sys
calls = 0
def see(frame, event, arg):
    global calls
    calls += event == "call"
sys.setprofile(see)
{statements}
sys.setprofile(None)
print(calls, file=sys.stderr)
"""
BARE = "import click, re, json, time"  # Python with its command line library, and nothing else


def calls_of_a_program(statements: str) -> int:
    """Functions of Python that a new interpreter calls for these statements, imports and all."""
    command = [sys.executable, "-c", _PROGRAM.format(statements=statements)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split()[-1])
