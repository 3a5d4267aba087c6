# SPDX-License-Identifier: Apache-2.0
"""NUMA nodes: drivers/base/node.c, and lists of numbers as lib/vsprintf.c prints them (``%*pbl``)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hotbank.sysfs import names
from hotbank.sysfs.form import Form, wrong

_RUN = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_MOST = 1 << 16  # far above MAX_NUMNODES


def _numbers(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for run in filter(None, text.strip().split(",")):
        match = _RUN.fullmatch(run)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < _MOST or (found and first <= found[-1]):
            raise wrong("nodes", text, "must be ascending numbers such as 0-2,5")
        found += range(first, last + 1)
    return tuple(found)


def _show_numbers(numbers: tuple[int, ...]) -> str:
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in _runs(numbers)) + "\n"


def _runs(numbers: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    begun = last = None
    for number in numbers:
        if begun is not None and last is not None and number != last + 1:
            yield begun, last
            begun = number
        begun, last = number if begun is None else begun, number
    if begun is not None and last is not None:
        yield begun, last


def _of_link(text: str) -> int:
    number = names.node_number(text.rpartition("/")[2])
    if number is None:
        raise wrong("node link", text, "must end in nodeN")
    return number


def _of_back_link(text: str) -> int:
    number = names.block_number(text.rpartition("/")[2])
    if number is None:
        raise wrong("memory link", text, "must end in memoryN")
    return number


LIST: Form[tuple[int, ...]] = Form(_numbers, _show_numbers)
"""``online``, ``possible``, ``has_memory``: ascending numbers of nodes."""
LINK: Form[int] = Form(_of_link, lambda node: f"../../node/node{node}")
"""Where ``memoryN/nodeM`` points: the number of the node."""
BACK_LINK: Form[int] = Form(_of_back_link, lambda block: f"../../memory/memory{block}")
"""Where ``nodeM/memoryN`` points: the number of the block."""
