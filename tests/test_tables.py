# SPDX-License-Identifier: Apache-2.0
"""A package's face names every file of the package, so that a reader finds each by what it is about."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hotbank import operate

TABLES = (
    "hotbank.boards_qemu",
    "hotbank.boards_qemu.parts",
    "hotbank.guest",
    "hotbank.host",
    "hotbank.load",
    "hotbank.model",
    "hotbank.sysfs",
)  # packages whose docstring is a table of their files


@pytest.mark.parametrize("package", TABLES)
def test_every_module_is_in_its_packages_table(package: str) -> None:
    face = importlib.import_module(package)
    assert face.__file__ is not None
    files = {path.name for path in Path(face.__file__).parent.glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"^(\w+\.py) ", face.__doc__ or "", re.MULTILINE)) == files


def test_the_face_of_operate_hands_on_what_it_names() -> None:
    """Each when it is first asked for, and nothing else."""
    found = {name: getattr(operate, name) for name in operate.__all__}
    assert all(thing.__name__ == name for name, thing in found.items())
    assert set(operate.__all__) == {name for names in operate._HOMES.values() for name in names}
    with pytest.raises(AttributeError, match="nothing"):
        operate.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_a_list_imports_nothing_that_changes_a_machine() -> None:
    """It is what people run most, also on a small board."""
    code = "import sys, hotbank.cli.listing; print(*(name for name in sys.modules if name.startswith('hotbank')))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    late = ("operate.transaction", "operate.choice", "host.writer", "host.routes", "host.switch", "model", "serve")
    assert not {f"hotbank.{name}" for name in late} & set(said)
