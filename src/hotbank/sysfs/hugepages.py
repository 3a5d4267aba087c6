# SPDX-License-Identifier: Apache-2.0
"""Pools of huge pages: mm/hugetlb.c, a folder for each size in which each file is a number of huge pages."""

from __future__ import annotations

from hotbank.memory import KIB
from hotbank.numbers import digits
from hotbank.sysfs.form import decimal

COUNT = decimal("hugepages")


def size_named(name: str) -> int | None:
    """Bytes of ``hugepages-2048kB``; None for any other name."""
    number = digits(name[10:-2]) if name.startswith("hugepages-") and name.endswith("kB") else None
    return None if number is None else number * KIB
