# SPDX-License-Identifier: Apache-2.0
"""NO_MACHINE means that no machine is there, or does not answer: a program, a file or an option that is missing is not
that. The rooms that may say so, read off the source."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "hotbank"
ROOMS = {
    "session.py",  # a name that is none's, or no name
    "remote.py", "ssh.py", "watch/asking.py", "sweep/cluster.py",  # a line to somebody who does not answer
    "serve/background.py", "serve/door.py", "serve/loop.py", "serve/owner.py",  # an owner that is none
    "boards_qemu/qemu.py", "boards_qemu/qmp.py", "boards_qemu/shell.py", "boards_qemu/supervisor.py",  # a guest that
    "compare/real.py",  # is gone
}  # fmt: skip


def without_a_code(source: str) -> list[str]:
    """What the MachineErrors say that name no code of their own."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    machine = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "MachineError")
    return [ast.unparse(c.args[0]) for c in machine if not any(k.arg == "code" for k in c.keywords)]


def test_nobody_else_says_that_no_machine_is_there() -> None:
    found = {str(path.relative_to(SOURCE)): without_a_code(path.read_text()) for path in SOURCE.rglob("*.py")}
    assert {name for name, said in found.items() if said} == ROOMS


def test_an_error_without_a_code_is_seen() -> None:
    source = "raise MachineError(f'{a} is not installed', remedy=b)\nraise MachineError('c', code=Code.SYSTEM_ERROR)"
    assert without_a_code(source) == ["f'{a} is not installed'"]
