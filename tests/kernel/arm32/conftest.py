# SPDX-License-Identifier: Apache-2.0
"""The 32-bit tests need programs of their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PROGRAMS = ("qemu-system-arm", "arm-linux-gnueabihf-gcc", "make", "flex", "bison", "bc", "setpriv", "apt-get", "git")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Left out where a program is missing, never in CI."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    for item in items:
        if (
            missing
            and item.path.is_relative_to(HERE)
            and item.get_closest_marker("kernel")
            and not os.environ.get("CI")
        ):
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)} missing: sh tests/kernel/packages.sh"))
