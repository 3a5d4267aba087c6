# SPDX-License-Identifier: Apache-2.0
"""The tools that are shipped for tests of others: from an installed wheel, outside of this tree."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

THEIRS = """
import hotbank
from hotbank import operate
from hotbank.errors import Code
from hotbank.testing import ScriptedMachine, Watched, breaches, places

assert not hotbank.__file__.startswith({tree!r}), hotbank.__file__
machine = ScriptedMachine()
machine.slots[22].why = Code.PINNED
before, watched = places(machine), Watched(machine)
outcome = operate.remove(watched, "high", force=True)
assert outcome.code is Code.DEADLINE
assert breaches(before, machine, watched, outcome) == []
machine.slots[22].why = None
assert operate.remove(watched, "high").exit == 0
assert breaches(before, machine, watched, outcome) != [], "an outcome that lies is caught"
print("theirs passed")
"""


@pytest.mark.long
def test_a_test_of_others_with_an_installed_wheel(tmp_path: Path) -> None:
    """With the standard library alone."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv/bin/python")
    install = ["-m", "pip", "--python", python, "install", "--no-deps", "--no-index", *map(str, tmp_path.glob("*.whl"))]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    (tmp_path / "theirs.py").write_text(THEIRS.format(tree=str(ROOT)))
    run = [python, "-I", "theirs.py"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "theirs passed\n", done.stderr
