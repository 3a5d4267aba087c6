# SPDX-License-Identifier: Apache-2.0
"""Real kernels for the tests: left out with one clear line where QEMU or a compiler is missing, never in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PROGRAMS = (
    "qemu-system-aarch64",
    "aarch64-linux-gnu-gcc",
    "make",
    "mkfs.ext4",
    "cpio",
    "setpriv",
    "apt-get",
    "dpkg-deb",
    "prove",  # perl as a whole: checkpatch needs more than perl-base
)

HERE = Path(__file__).parent
# Of the files that run side by side, these begin: what is left for the end is short.
LONGEST = ("test_compare.py", "test_verdicts.py", "test_routes.py", "test_crashes.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything marked ``kernel`` is ``long`` too, and needs its programs. The longest files come first."""
    items.sort(key=lambda item: not (item.path.is_relative_to(HERE) and item.path.name in LONGEST))
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    for item in items:
        if item.get_closest_marker("kernel") is None:
            continue
        item.add_marker("long")
        if missing and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)} missing: sh tests/kernel/packages.sh"))
