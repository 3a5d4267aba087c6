# SPDX-License-Identifier: Apache-2.0
"""/proc/buddyinfo: mm/vmstat.c, ``frag_show_print``. Free blocks of each order, one line for each populated zone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from hotbank.numbers import digits
from hotbank.sysfs.form import Form, wrong

_LINE = r"Node (\d{1,4}), zone +(\w{1,16})((?: +\d{1,19}){1,64}) *"  # compiled by who reads one
Orders = Mapping[tuple[int, str], tuple[int, ...]]


def _parse(text: str) -> Orders:
    return dict(map(_line, text.splitlines()))


@lru_cache(maxsize=64)  # who looks at one block after the other reads the same lines again
def _line(line: str) -> tuple[tuple[int, str], tuple[int, ...]]:
    found = re.fullmatch(_LINE, line)
    node, counts = (None, []) if found is None else (digits(found[1]), list(map(digits, found[3].split())))
    if found is None or node is None or None in counts:
        raise wrong("buddyinfo", line, "must be a node, a zone and a number for each order")
    return (node, found[2]), tuple(count for count in counts if count is not None)


def _show(orders: Orders) -> str:
    return "".join(
        f"Node {node}, zone {zone:>8} {''.join(f'{count:>6} ' for count in counts)}\n"
        for (node, zone), counts in orders.items()
    )


BUDDYINFO: Form[Orders] = Form(_parse, _show)
"""By node and zone: how many free blocks there are of each order, from 0 on."""
