# SPDX-License-Identifier: Apache-2.0
"""What ``list`` and ``explain --all`` cost on a machine with many blocks: passes over them, which don't grow with their
number, whatever a processor makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hotbank.cli import explain, listing
from hotbank.machine import BankStatus, Block, Snapshot, Survey
from hotbank.memory import BlockState, Kind, Power, Range
from hotbank.operate.targets import block_target

PAGE, PAGES = 4096, 16
BLOCK = PAGE * PAGES


class Counted(tuple[Any, ...]):
    """A tuple that counts how often somebody goes through all of it."""

    passes = 0

    def __iter__(self) -> Iterator[Any]:
        type(self).passes += 1
        return super().__iter__()

    def __contains__(self, item: object) -> bool:
        type(self).passes += 1
        return super().__contains__(item)


class Large:
    """A machine of so many blocks, each of which is a bank, or two of them one."""

    def __init__(self, blocks: int, span: int) -> None:
        there = [Block(n, Range.sized(n * BLOCK, BLOCK), BlockState.ONLINE, ("Movable",), 0) for n in range(blocks)]
        banks = [
            BankStatus.of(
                f"memory{n}" if span == 1 else f"bank{n}",
                Range.sized(n * BLOCK, span * BLOCK),
                there[n : n + span],
                Power.ON,
            )
            for n in range(0, blocks, span)
        ]
        self._made = Snapshot("large", "any", PAGE, BLOCK, "boot", Counted(there), (), Counted(banks))

    def snapshot(self) -> Snapshot:
        return self._made

    def survey(self, block: int) -> Survey:
        return Survey(block, {Kind.FREE: PAGES}, boot=False)


def listed(machine: Large) -> None:
    found = listing.look(machine, used=False)  # type: ignore[arg-type]
    listing.document(found)


def explained(machine: Large) -> None:
    explain._ranked(machine, machine.snapshot())  # type: ignore[arg-type]


def passes(act: Callable[[Large], None], machine: Large) -> int:
    """How often the act goes through blocks or banks."""
    before = Counted.passes
    act(machine)
    return Counted.passes - before


@pytest.mark.parametrize("act", [listed, explained])
@pytest.mark.parametrize("span", [1, 2])
def test_passes_over_blocks_and_banks_do_not_grow_with_their_number(act: Callable[[Large], None], span: int) -> None:
    few, many = passes(act, Large(40, span)), passes(act, Large(400, span))
    assert many == few < 20


def test_a_pass_for_each_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it once was: each row looked its block up among all of them."""

    def searched(snapshot: Snapshot, number: int) -> object:
        assert any(block.number == number for block in snapshot.blocks)
        return block_target(snapshot, number)

    monkeypatch.setattr(listing, "block_target", searched)
    assert passes(listed, Large(400, 1)) >= 400
