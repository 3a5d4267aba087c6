# SPDX-License-Identifier: Apache-2.0
"""The map says of every block what ``explain --all`` says of it, on made-up boards and on models at work."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank.cli.explain import explain
from hotbank.errors import Code
from hotbank.load import Workload
from hotbank.machine import BankStatus, Block, DomainStatus, Snapshot, Survey
from hotbank.memory import KINDS, BlockState, KernelState, Kind, Power, Range
from hotbank.operate.look import surveys_of
from hotbank.report.cells import GROUP, KEEPS, Cell, Group, Map
from model.small_boards import HIGH, small_model
from verdicts.made_boards import Made, made


class Asked:
    """What a command asks for its machine (cli/context.py) and what it gets (session.py): here the one under test."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine

    def session(self, *, changing: bool) -> Any:
        return self


class Still:
    """A machine that answers with what was made up."""

    def __init__(self, its: Made) -> None:
        self._its = its

    def snapshot(self) -> Snapshot:
        return self._its.snapshot

    def survey(self, block: int) -> Survey:
        return self._its.surveys[block]


def explained(machine: Any) -> dict[int, dict[str, Any]]:
    """The documents of ``explain --all --json``, by block."""
    done = CliRunner().invoke(explain, ["--all", "--json"], obj=Asked(machine), standalone_mode=False)
    assert done.exception is None, done.output
    documents = map(json.loads, done.stdout.splitlines())
    return {int(d["target"].removeprefix("memory")): d for d in documents}


def disagreements(machine: Any, drawn: Map) -> list[str]:
    """Blocks of which the map and ``explain --all`` do not say the same, and what the map leaves out."""
    snapshot, told = machine.snapshot(), explained(machine)
    wrong = [f"memory{number} is not on the map" for number in told if drawn.cell(number) is None]
    for cell in drawn.cells:
        block, said = snapshot.block(cell.block), told.get(cell.block)
        if (said is None) is not (cell.state is None):
            wrong.append(f"memory{cell.block}: {cell.state}")
        if block is None or said is None:
            continue
        kinds = {kind.value: pages for kind, pages in (cell.kinds or {}).items()}
        by_group = Counter[Group]()
        for kind, pages in kinds.items():
            by_group[GROUP[Kind(kind)]] += pages
        same = (
            (cell.state, cell.zone) == (block.state, block.zone)
            and kinds == said["kinds"]
            and (not said["evidence"] or Code(said["code"]) in cell.why)
            and sum(cell.groups.values()) == sum(kinds.values())
            and all(cell.groups.get(g, 0) <= by_group[g] for g in Group if g is not Group.PINNED)
        )
        if not same:
            wrong.append(f"memory{cell.block}: {said}")
    return wrong


@given(made())
def test_cells_are_what_explain_all_says_of_made_up_boards(case: Made) -> None:
    drawn = Map.of(case.snapshot, case.surveys)
    assert disagreements(Still(case), drawn) == []
    banks = [strip.bank for strip in drawn.strips if strip.bank is not None]
    assert sorted(bank.name for bank in banks) == sorted(b.name for b in case.snapshot.banks if not b.is_a_block)
    numbers = [cell.block for cell in drawn.cells]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("seed", range(6))
def test_cells_are_what_explain_all_says_of_models_at_work(seed: int) -> None:
    dice, model = random.Random(seed), small_model()
    Workload(model, seed, pages=2000).fill()
    pid = model.spawn("capture", anon_pages=200)
    homes = {n: pages for n in HIGH if (pages := model.place(pid, n))}
    number = dice.choice(sorted(homes))
    (model.pin if seed % 2 else model.poison)(pid, homes[number][0])
    if seed == 5:
        model.offline(HIGH[-1], model.clock.now() + 10)
    snapshot = model.snapshot()
    drawn = Map.of(snapshot, surveys_of(model, snapshot, [b.number for b in snapshot.blocks]))
    assert disagreements(model, drawn) == []
    cell = drawn.cell(number)
    assert cell is not None
    group = Group.PINNED if seed % 2 else Group.POISONED
    assert cell.groups[group] == 1
    assert group in dict(cell.parts(4))


def test_the_oracle_sees_a_page_of_another_kind_and_a_missing_block() -> None:
    """Planted: the map of a machine on which a page has changed since, or that lost a block."""
    model = small_model()
    snapshot = model.snapshot()
    surveys = surveys_of(model, snapshot, [b.number for b in snapshot.blocks])
    model.spawn("late", anon_pages=1)
    assert disagreements(model, Map.of(snapshot, surveys))
    assert disagreements(model, Map(snapshot.machine, snapshot.page_size, snapshot.block_size, ()))


def test_every_kind_has_its_group() -> None:
    assert set(GROUP) == set(KINDS)
    assert all(GROUP[kind] not in KEEPS for kind in KINDS if kind.movable)


@examples(200)
@given(st.dictionaries(st.sampled_from(KINDS), st.integers(0, 1 << 20)), st.integers(1, 60))
def test_parts_fill_the_width_and_leave_out_nothing_that_fits(kinds: dict[Kind, int], width: int) -> None:
    cell = Cell(0, Range(0, 4096), BlockState.ONLINE, kinds=kinds)
    parts = dict(cell.parts(width))
    assert sum(parts.values()) == (width if cell.groups else 0)
    assert set(parts) <= set(cell.groups)
    if len(cell.groups) <= width:
        assert set(parts) == set(cell.groups)


def test_in_one_column_what_keeps_a_block_comes_first_and_then_the_most() -> None:
    def shown(**pages: int) -> list[tuple[Group, int]]:
        kinds = {Kind(kind): count for kind, count in pages.items()}
        return list(Cell(0, Range(0, 4096), BlockState.ONLINE, kinds=kinds).parts(1))

    assert shown(slab=1, free=999) == [(Group.KERNEL, 1)]
    assert shown(anon=1, free=999) == [(Group.FREE, 1)]
    assert shown(anon=600, file=1, free=399) == [(Group.ANON, 1)]


def test_blocks_without_a_board_are_one_strip_and_a_gap_divides_it() -> None:
    there = [Block(n, Range.sized(n << 12, 1 << 12), BlockState.ONLINE, ("Normal",), 0) for n in (0, 1, 2, 8)]
    banks = tuple(BankStatus.of(f"memory{b.number}", b.range, [b], Power.ON) for b in there)
    drawn = Map.of(Snapshot("host", "any", 4096, 4096, "boot", tuple(there), (), banks))
    assert [(s.bank, s.range.start >> 12, len(s.cells)) for s in drawn.strips] == [(None, 0, 3), (None, 8, 1)]


def test_what_is_out_is_there_and_dark() -> None:
    span = Range.sized(4 << 12, 2 << 12)
    bank = BankStatus("high", span, KernelState.ABSENT, Power.OFF, domain="ddr")
    domain = DomainStatus("ddr", Power.OFF, (Power.ON, Power.OFF), ("high",), "machine", interleaved=True)
    (strip,) = Map.of(Snapshot("board", "arm", 4096, 4096, "boot", (), (), (bank,), (domain,))).strips
    assert (strip.bank, strip.interleaved, strip.range) == (bank, True, span)
    assert [(cell.block, cell.state, cell.dark, cell.groups) for cell in strip.cells] == [
        (4, None, True, {}),
        (5, None, True, {}),
    ]
