# SPDX-License-Identifier: Apache-2.0
"""What ``list`` shows of many blocks, and what it and ``explain --all`` cost: passes over them, which don't grow with
their number, whatever a processor makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.cli import explain, listing, run
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


BLOCKS = st.lists(
    st.tuples(st.integers(1, 2), st.sampled_from(["Movable", "Normal"]), st.sampled_from([None, 0, 3])), min_size=1
)
NAMES = ("BLOCK", "RANGE", "SIZE", "ZONES", "USED")


def printed(made: Snapshot, *, every_block: bool) -> list[list[str]]:
    """The cells of the table of blocks, sizes in bytes."""
    bare = listing.Listing(made, (), tuple(listing.Row(block, None, None, None) for block in made.blocks))
    told = listing.tables(bare, NAMES, in_bytes=True, headings=False, every_block=every_block)
    return [line.split() for line in told.splitlines()]


@given(BLOCKS)
def test_blocks_that_are_alike_are_one_line_and_nothing_is_lost(steps: list[tuple[int, str, int | None]]) -> None:
    """Against one line for each: the lines stand for the same blocks, bytes and use, and no two could be one."""
    numbers = accumulate(gap for gap, *_ in steps)
    there = [
        Block(n, Range.sized(n * BLOCK, BLOCK), BlockState.ONLINE, (zone,), 0, used=used)
        for n, (_, zone, used) in zip(numbers, steps, strict=True)
    ]
    made = Snapshot("m", "any", PAGE, BLOCK, "boot", tuple(there), (), ())
    each, folded = printed(made, every_block=True), printed(made, every_block=False)
    assert [row for line in folded for row in unfolded(line)] == each
    breaks = [now[0] > 1 or before[1:] != now[1:] for before, now in pairwise(steps)]
    assert len(folded) == 1 + sum(breaks)


def unfolded(cells: list[str]) -> Iterator[list[str]]:
    """The lines that one stands for."""
    first, last = int(cells[0].split("-")[0]), int(cells[0].split("-")[-1])
    count = last - first + 1
    assert cells[1] == str(Range.sized(first * BLOCK, count * BLOCK))
    for number in range(first, last + 1):
        used = cells[4] if cells[4] == "-" else str(int(cells[4]) // count)
        yield [str(number), str(Range.sized(number * BLOCK, BLOCK)), str(int(cells[2]) // count), cells[3], used]


@pytest.mark.parametrize(("machine", "used", "told"), [("arm-2009", [], True), ("arm-2009", ["--used"], False)])
def test_a_verdict_without_a_look_says_so(
    machine: str, used: list[str], told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-m", f"model:{machine}", "list", *used]) == 0
    shown = capsys.readouterr().out
    assert ("NOT_MOVABLE_ZONE" in shown) == told
    assert ("no page was looked at" in shown) == told
