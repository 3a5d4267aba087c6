# SPDX-License-Identifier: Apache-2.0
"""States of ten movable blocks that somebody wants memory from."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """``shares``: percent in use of each block, the lowest first. ``wanted``: blocks to be freed, or 0 for the bank of
    four. ``pinned``: blocks with a few pinned pages, counted from the first. ``cache``: MiB of clean page cache on
    top. ``own_node``: the bank is all the memory of a node, and what is in use was to lie there. ``kernel``: blocks of
    a kernel zone, with slab in them, counted from the first; ``series``, ``cmdline``: of a kernel that it is about."""

    name: str
    words: str
    shares: Callable[[random.Random], list[int]]
    wanted: int
    pinned: tuple[int, ...] = ()
    cache: int = 0
    own_node: bool = False
    kernel: tuple[int, ...] = ()
    series: str | None = None
    cmdline: str = ""

    @property
    def board(self) -> str:
        """The file that describes where the ten blocks are."""
        return "node.toml" if self.own_node else "zones.toml" if self.kernel else "board.toml"


def _scattered(low: int, high: int) -> Callable[[random.Random], list[int]]:
    """Ten blocks evenly between two shares, in an order of their own."""

    def shares(dice: random.Random) -> list[int]:
        found = [low + (high - low) * number // 9 for number in range(10)]
        dice.shuffle(found)
        return found

    return shares


PINNED, KERNEL = (7, 8, 9), (9,)
SMALL_SLABS = "slub_max_order=0 slab_max_order=0"
STATES = (
    State("full bank", "a bank of 512 MiB in use, room elsewhere", lambda _: [5] * 6 + [95] * 4, 0),
    State("half", "ten blocks, 10 to 90 % in use; 512 MiB wanted", _scattered(10, 90), 4),
    State("third", "ten blocks, 0 to 66 % in use; 512 MiB wanted", _scattered(0, 66), 4),
    State(
        "cache", "ten blocks, 70 to 90 % in use, 96 MiB clean cache; 128 MiB wanted", _scattered(70, 90), 1, cache=96
    ),
    State(
        "own node",
        "a bank of 512 MiB that is a node's only memory, 70 % in use and 48 MiB clean cache",
        lambda _: [5] * 6 + [70] * 4,
        0,
        cache=48,
        own_node=True,
    ),
    State("pins", "10 to 90 % in use, pins in the highest three; 512 MiB wanted", _scattered(10, 90), 4, pinned=PINNED),
    State(
        "kernel zone",
        "0 to 66 % in use, the highest in a kernel zone, with slab in it; 512 MiB wanted",
        _scattered(0, 66),
        4,
        kernel=KERNEL,
    ),
    State(
        "frozen slab",
        "the same on 7.3 with slabs of one page, which that kernel takes for free memory",
        _scattered(0, 66),
        4,
        kernel=KERNEL,
        series="7.3",
        cmdline=SMALL_SLABS,
    ),
)
