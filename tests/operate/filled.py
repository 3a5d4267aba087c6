# SPDX-License-Identifier: Apache-2.0
"""Models whose movable blocks are in use by given shares, in runs of pages that lie apart."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import chain

from hotbank.board import Bank, Board
from hotbank.memory import MIB, Online, Range
from hotbank.model import Model

BLOCK = 8 * MIB
_PAGES = BLOCK // 4096


def model_of(shares: Sequence[int], run: int, dice: random.Random, route: str = "kmem") -> tuple[Model, list[int]]:
    """A model with movable blocks in use by so many percent, in runs of so many pages; the blocks' numbers."""
    return model_of_banks({"high": shares}, run, dice, route)


def model_of_banks(
    shares: Mapping[str, Sequence[int]], run: int, dice: random.Random, route: str
) -> tuple[Model, list[int]]:
    """The same with several banks, one after the other."""
    banks, start = [Bank("low", Range.sized(0x40000000, 512 * MIB))], 0x60000000
    for name, its in shares.items():
        banks.append(Bank(name, Range.sized(start, len(its) * BLOCK), movable=True, at_boot=False, route=route))
        start = banks[-1].range.end
    board = Board("filled", "arm64", block_size=BLOCK, describe="dtb", banks=tuple(banks))
    model = Model.boot(board, backend="reference")
    model.set_auto_online("offline")
    for bank in banks[1:]:
        model.add(bank.name)
    numbers = [block.number for block in model.snapshot().blocks if block.range.start >= banks[1].range.start]
    for number in numbers:
        model.online(number, Online.MOVABLE)
    _fill(model, dict(zip(numbers, chain(*shares.values()), strict=True)), run, dice)
    return model, numbers


def _fill(model: Model, shares: dict[int, int], run: int, dice: random.Random) -> None:
    """Take all of the blocks, a process for each run, and end those that are too many."""
    inside: dict[int, list[int]] = {number: [] for number in shares}
    for _ in range(len(shares) * _PAGES // run):
        pid = model.spawn("load", anon_pages=run)
        block = next((number for number in shares if len(model.place(pid, number)) == run), None)
        inside.get(block or 0, [pid]).append(pid)
    too_many = [pid for number, pids in inside.items() for pid in _too_many(pids, shares[number], dice)]
    dice.shuffle(too_many)
    for pid in too_many:
        model.exit(pid)


def _too_many(pids: list[int], share: int, dice: random.Random) -> list[int]:
    """Those that end so that so many percent stay."""
    return dice.sample(pids, len(pids) - len(pids) * share // 100)
