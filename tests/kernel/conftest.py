# SPDX-License-Identifier: Apache-2.0
"""Real kernels for the tests: left out with one clear line where QEMU or a compiler is missing, never in CI."""

from __future__ import annotations

import os
import shutil

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything marked ``kernel`` is ``long`` too, and needs its programs."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    for item in items:
        if item.get_closest_marker("kernel") is None:
            continue
        item.add_marker("long")
        if missing and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)} missing: sh tests/kernel/packages.sh"))
