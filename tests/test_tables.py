# SPDX-License-Identifier: Apache-2.0
"""A package's face names every file of the package, so that a reader finds each by what it is about."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

TABLES = (
    "hotbank.boards_qemu",
    "hotbank.boards_qemu.parts",
    "hotbank.guest",
    "hotbank.host",
    "hotbank.sysfs",
)  # packages whose docstring is a table of their files


@pytest.mark.parametrize("package", TABLES)
def test_every_module_is_in_its_packages_table(package: str) -> None:
    face = importlib.import_module(package)
    assert face.__file__ is not None
    files = {path.name for path in Path(face.__file__).parent.glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"^(\w+\.py) ", face.__doc__ or "", re.MULTILINE)) == files
