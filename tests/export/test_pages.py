# SPDX-License-Identifier: Apache-2.0
"""Folded stacks and rows of a survey add up to what the surveys say, block by block."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given

from effort import examples
from hotbank.export import folded, tables
from hotbank.load import Workload
from hotbank.machine import Evidence, Owner, Snapshot, Survey
from hotbank.memory import Kind
from hotbank.operate.look import surveys_of
from model.small_boards import HIGH, small_model
from verdicts.made_boards import Made, made


def parsed(lines: Iterable[str]) -> Counter[tuple[str, ...]]:
    """As flamegraph.pl reads them: the count behind the last space, frames between semicolons."""
    counts = Counter[tuple[str, ...]]()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        counts[tuple(stack.split(";"))] += int(count)
    return counts


def wrong(snapshot: Snapshot, surveys: Mapping[int, Survey], block: int, lines: Iterable[str]) -> list[str]:
    """What the stacks of one block say that its survey does not."""
    counts, faults = parsed(lines), []
    there, bank = snapshot.block(block), snapshot.bank_at(block)
    assert there is not None
    if counts.total() != snapshot.pages_per_block:
        faults.append(f"{counts.total()} pages of {snapshot.pages_per_block}")
    if {stack[0] for stack in counts} != {"-" if bank is None else bank.name}:
        faults.append(f"banks {counts}")
    if block in surveys:
        kinds = Counter[str]()
        for (_, zone, kind, _), pages in counts.items():
            kinds[kind] += pages
            faults += [] if zone == (there.zone or "-") else [f"zone {zone}"]
        faults += [] if kinds == Counter({str(k): n for k, n in surveys[block].kinds.items() if n}) else [f"{kinds}"]
    return faults


def stacks(snapshot: Snapshot, surveys: Mapping[int, Survey], *blocks: int) -> list[str]:
    return list(folded.lines(folded.stacks(snapshot, surveys, blocks)))


@examples(30)
@given(made())
def test_stacks_of_made_up_boards_add_up(case: Made) -> None:
    whole = Counter[tuple[str, ...]]()
    looked = {n: s for n, s in case.surveys.items() if sum(s.kinds.values()) == case.snapshot.pages_per_block}
    blocks = [b.number for b in case.snapshot.blocks if b.number in looked or b.number not in case.surveys]
    for number in blocks:
        lines = stacks(case.snapshot, looked, number)
        assert wrong(case.snapshot, looked, number, lines) == []
        whole += parsed(lines)
    assert parsed(stacks(case.snapshot, looked, *blocks)) == whole


@pytest.mark.parametrize("seed", range(4))
def test_stacks_of_models_at_work_add_up(seed: int) -> None:
    dice, model = random.Random(seed), small_model()
    Workload(model, seed, pages=2000).fill()
    pid = model.spawn("a;name\nwith breaks", anon_pages=200)
    number = dice.choice(sorted(n for n in HIGH if model.place(pid, n)))
    model.pin(pid, model.place(pid, number)[0])
    if seed == 3:
        model.offline(next(n for n in HIGH if n != number), model.clock.now() + 10)
    snapshot = model.snapshot()
    surveys = surveys_of(model, snapshot, [b.number for b in snapshot.blocks])
    for block in snapshot.blocks:
        assert wrong(snapshot, surveys, block.number, stacks(snapshot, surveys, block.number)) == []
    owners = {stack[3] for stack in parsed(stacks(snapshot, surveys, number))}
    assert owners == {"-", "a_name_with_breaks"}


def test_the_oracle_sees_a_page_too_many_and_a_kind_mistaken() -> None:
    """Planted."""
    model = small_model()
    snapshot = model.snapshot()
    number = HIGH[0]
    surveys = surveys_of(model, snapshot, [number])
    good = stacks(snapshot, surveys, number)
    assert wrong(snapshot, surveys, number, good) == []
    assert wrong(snapshot, surveys, number, [*good, "high;Movable;free;- 1"])
    assert wrong(snapshot, surveys, number, [line.replace("free", "file") for line in good])


def test_an_owner_is_who_is_known() -> None:
    def named(owner: Owner | None) -> str:
        return folded.owner_of(Evidence(1, Kind.ANON, next(iter(Kind)), owner))  # type: ignore[arg-type]

    known = (None, Owner(), Owner(7, "top"), Owner(7), Owner(cgroup="/a b"))
    assert [named(owner) for owner in known] == ["-", "-", "top", "pid 7", "/a b"]


@examples(30)
@given(made())
def test_rows_of_a_survey_say_what_it_says(case: Made) -> None:
    numbers = [block.number for block in case.snapshot.blocks]
    columns, *rows = tables.survey(case.snapshot, case.surveys, numbers)
    told = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [row["block"] for row in told] == numbers
    for row in told:
        found = case.surveys.get(int(str(row["block"])))
        block = case.snapshot.block(int(str(row["block"])))
        assert block is not None
        assert (row["start"], row["size"], row["state"], row["zone"]) == (
            block.range.start,
            block.range.size,
            block.state,
            block.zone,
        )
        kinds = {kind: row[kind] for kind in Kind}
        if found is None or not found.kinds:
            assert set(kinds.values()) == {None}
        else:
            assert kinds == {kind: found.kinds.get(kind, 0) for kind in Kind}
            assert row["blocked"] == found.blocked
