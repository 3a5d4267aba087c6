# SPDX-License-Identifier: Apache-2.0
"""``plan --free``: the choice is the cheapest there is, by trying them all; and it is quick where there are many."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import Phase, example, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from effort import examples
from hotbank import operate
from hotbank.errors import Code
from hotbank.machine import BankStatus, Block, Snapshot, Survey, ZoneInfo
from hotbank.memory import BlockState, KernelState, Kind, Power, Range, parse_size
from hotbank.operate import Action, Target, choice, knapsack
from hotbank.operate.choice import Choice, Offer, choose
from hotbank.room import Bound, ZoneRoom, leaving_of, must_fit
from hotbank.room import room as room_of
from hotbank.testing import ScriptedMachine
from verdicts.made_boards import PAGE, Made, crowded, fewest_pages, made

_ONCE = (Phase.generate,)


def agrees(board: Made) -> bool:
    """The choice costs what the cheapest of all sets costs, or both say that there is none."""
    found = choose(board.snapshot, board.surveys, board.size)
    best = fewest_pages(board)
    if best is None:
        return found.plan.impossible and not found.plan.steps
    plan = found.plan
    return not plan.impossible and plan.may_move == best and found.size >= board.size and found.at_least == best


@example(crowded())
@given(made())
def test_equals_brute_force_with_banks_and_domains(board: Made) -> None:
    assert agrees(board)


@given(made(domains=False))
def test_equals_brute_force_with_blocks(board: Made) -> None:
    assert agrees(board)


def test_a_set_is_not_judged_by_the_room_of_another() -> None:
    found = choose(crowded().snapshot, crowded().surveys, 655_360)
    assert (found.plan.code, found.plan.steps) == (Code.NO_CAPACITY, ())
    assert found.plan.fact == "the memory that stays has room for the pages of 480K at most"
    assert choose(crowded().snapshot, crowded().surveys, 480 << 10).plan.pages == 23


@given(made(), st.integers(8, 40))
def test_a_plan_that_is_impossible_as_a_whole_has_no_steps(board: Made, held: int) -> None:
    found = choose(replace(board.snapshot, pending=held), board.surveys, board.size)
    assert found.plan.impossible
    assert not found.plan.steps


# The oracle finds each of these faults.


def _judge_all_by_the_room_of_kernel_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did once: more zones were closed to the set, and the reserve with them forgotten."""
    bounds = choice._bounds

    def forgetful(snapshot: Snapshot, offers: Sequence[Offer]) -> list[tuple[Bound, tuple[bool, ...]]]:
        return [(replace(bound, high=not bound.kernel), inside) for bound, inside in bounds(snapshot, offers)]

    monkeypatch.setattr(choice, "_bounds", forgetful)


def _ignore_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_fits", lambda *_: True)


def _give_up_when_the_cheapest_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_within_limits", lambda *_: knapsack.Found(None, 0, 0))


def _take_one_maximum_only(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = ZoneRoom.ways
    monkeypatch.setattr(ZoneRoom, "ways", lambda *args: list(ways(*args))[:1])


def _believe_a_bound_that_is_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    least = knapsack._Priced.least
    monkeypatch.setattr(
        knapsack._Priced, "least", lambda self, at, need: None if (b := least(self, at, need)) is None else b * 3 // 2
    )


def _count_half_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_saves_nothing", lambda *_: None)
    offer = choice._offer

    def halved(snapshot: Snapshot, surveys: dict[int, Survey], name: str, group: list[Target]) -> object:
        return offer(snapshot, surveys, name, group[:1])

    monkeypatch.setattr(choice, "_offer", halved)


def _forget_the_other_nodes_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_fitting", lambda *_: knapsack.anything)


BREACHES = (
    _forget_the_other_nodes_that_are_left,
    _judge_all_by_the_room_of_kernel_pages,
    _ignore_room,
    _give_up_when_the_cheapest_does_not_fit,
    _take_one_maximum_only,
    _believe_a_bound_that_is_too_high,
    _count_half_a_domain,
)


@pytest.mark.long
@pytest.mark.parametrize("breach", BREACHES, ids=lambda b: b.__name__.strip("_"))
def test_brute_force_notices(breach: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    breach(monkeypatch)
    boards = made() if breach is _count_half_a_domain else made(domains=False)
    try:
        find(boards, lambda board: not agrees(board), settings=settings(examples(2000), phases=_ONCE))
    except NoSuchExample:
        pytest.fail("the oracle did not see the breach")


# Many blocks


def host(blocks: int, seed: int, *, room: int | None = None) -> tuple[Snapshot, dict[int, Survey]]:
    """A machine without a board, some of whose blocks can't leave; ``room``: free pages beyond its blocks' own."""
    dice = random.Random(seed)
    pages = 32768
    surveys = {n: _busy_block(dice, n, pages) for n in range(blocks)}
    size = pages * PAGE
    listed = tuple(Block(n, Range.sized(n * size, size), BlockState.ONLINE, (_zone_of(n, blocks),), 0) for n in surveys)
    free = {z: sum(surveys[b.number].kinds[Kind.FREE] for b in listed if b.valid_zones == (z,)) for z in ZONES}
    extra = 10 * blocks * pages if room is None else room
    zones = tuple(ZoneInfo(0, z, 0, pages, pages, pages, free=max(0, free[z] + extra), min=500) for z in ZONES)
    names = ((f"memory{b.number}", b) for b in listed)
    banks = tuple(BankStatus(n, b.range, KernelState.ONLINE, Power.ON, (b.number,), movable=True) for n, b in names)
    return Snapshot("many", "any", PAGE, size, "boot", listed, zones, banks), surveys


ZONES = ("Normal", "Movable")


def _zone_of(number: int, blocks: int) -> str:
    return ZONES[number * 3 > blocks]


def _busy_block(dice: random.Random, number: int, pages: int) -> Survey:
    anon = dice.randrange(pages // 2)
    file = dice.randrange(pages - anon)
    kinds = {Kind.ANON: anon, Kind.FILE: file, Kind.FREE: pages - anon - file}
    return Survey(number, kinds, boot=True, clean=dice.randrange(file + 1))


@pytest.mark.long
@pytest.mark.parametrize(("room", "steps"), [(None, 20_000), (0, 800_000), (3000 * 8192, 3_000_000)])
def test_eight_thousand_blocks_take_seconds(room: int | None, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million steps are a second or two; without enough of them the choice would not be proven."""
    monkeypatch.setattr(choice, "EFFORT", steps)
    snapshot, surveys = host(8192, 1, room=room)
    found = choose(snapshot, surveys, 4096 * snapshot.block_size)
    cheapest = sum(sorted(s.to_move for s in surveys.values())[:4096])
    if room is None:
        assert found.plan.pages == found.at_least == cheapest
    elif room:
        assert found.plan.pages == found.at_least > cheapest, "the cheapest do not fit; others do"
        leaving = leaving_of(snapshot, {n: surveys[n] for n in found.plan.blocks})
        assert must_fit(snapshot.zones, leaving) <= room_of(snapshot.zones, leaving)
    else:
        assert found.plan.code is Code.NO_CAPACITY


@pytest.mark.parametrize("seed", range(5))
def test_what_fits_at_most_is_exact(seed: int) -> None:
    """The refusal names a size; that much can leave, and one block more can't."""
    snapshot, surveys = host(64, seed, room=0)
    refused = choose(snapshot, surveys, 60 * snapshot.block_size)
    assert refused.plan.code is Code.NO_CAPACITY
    most = parse_size(refused.plan.fact.split(" at most")[0].split()[-1])
    assert not choose(snapshot, surveys, most).plan.impossible
    assert choose(snapshot, surveys, most + 1).plan.impossible


def test_what_was_given_up_is_named_with_its_reason() -> None:
    machine = ScriptedMachine(others={"mate": "ddr"})
    machine.slots[24].why = Code.PINNED
    found = look(machine, 1)
    assert {g.name: g.code for g in found.given_up} == {
        "domain ddr": Code.PINNED,
        "low": Code.NOT_MOVABLE_ZONE,
    }
    assert (found.plan.code, found.plan.steps) == (Code.PINNED, ())
    sleeping = ScriptedMachine(states=(Power.ON, Power.SELF_REFRESH))
    assert "self-refresh only" in next(g.why for g in look(sleeping, 1).given_up if g.name == "domain ddr")


def test_a_domain_leaves_as_one_plan_emptiest_block_first() -> None:
    machine = ScriptedMachine(others={"mate": "ddr"})
    machine.slots[22].pages, machine.slots[24].pages = 3, 50
    plan = look(machine, 1).plan
    assert plan.banks == ("high", "mate")
    assert [s.target for s in plan.steps] == [
        *("memory22", "memory24", "memory20", "memory21", "memory23"),
        *("high", "mate", "ddr"),
    ]
    assert [s.action for s in plan.steps[-3:]] == [Action.REMOVE, Action.REMOVE, Action.POWER_OFF]
    assert plan == operate.plan_remove(machine, ["high", "mate"])
    half = operate.plan_remove(machine, ["high"])
    assert (half.code, half.steps[-1].action) == (Code.DOMAIN_IN_USE, Action.KEEP_POWER)


def look(machine: ScriptedMachine, size: int) -> Choice:
    return operate.plan_free(machine, size)


def test_many_nodes_make_more_ways_than_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three for each of 32 zones: the search ends with its effort, and says no more than it knows."""
    monkeypatch.setattr(choice, "EFFORT", 20_000)
    snapshot, surveys = host(64, 3, room=0)
    blocks = tuple(replace(block, node=block.number % 16) for block in snapshot.blocks)
    here = {
        (b.zone, b.node): [surveys[o.number] for o in blocks if (o.zone, o.node) == (b.zone, b.node)] for b in blocks
    }
    free = {where: sum(survey.kinds[Kind.FREE] for survey in found) for where, found in here.items()}
    zones = tuple(replace(z, node=n, free=free.get((z.zone, n), 0)) for z in snapshot.zones for n in range(16))
    found = choose(replace(snapshot, blocks=blocks, zones=zones), surveys, 60 * snapshot.block_size)
    assert (found.plan.code, found.plan.steps) == (Code.NO_CAPACITY, ())
    assert "nothing was found" in found.plan.fact


def test_what_was_seen_is_taken_before_what_shows_nothing() -> None:
    """A block that shows nothing of its pages is not an empty one: it may be as dear as one that is full."""
    snapshot, surveys = host(3, 1)
    full = {Kind.ANON: 32000, Kind.FREE: 768}
    surveys |= {0: Survey(0, {Kind.UNKNOWN: 32768}, unknown=("pins",)), 1: Survey(1, full), 2: Survey(2, full)}
    found = choose(snapshot, surveys, 2 * snapshot.block_size)
    assert sorted(found.plan.blocks) == [1, 2]
    every = choose(snapshot, surveys, 3 * snapshot.block_size).plan
    assert (every.pages, every.may_move) == (64000, 96768)
    assert [step.block for step in every.steps] == [1, 2, 0]
    assert "32768 pages do not show what they hold" in every.fact
