# SPDX-License-Identifier: Apache-2.0
"""Policies against the clairvoyant: an adversary that chooses the demand, and what each promises by itself."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, target
from hypothesis import strategies as st

from effort import examples
from hotbank.govern.gaps import Gaps
from hotbank.govern.guard import Guard
from hotbank.govern.policy import Balance, Policy, Reserve
from hotbank.govern.replay import Park, Result, Series, replay
from hotbank.govern.view import Group, View

COST = 6.0
BARE = Guard(returning=0.0, foresight=0.0, hourly=10**9)
PURE = Balance(returning=0.0, floor=0.0, guess=0.0, foresight=0.0, trust=1.0)


def park(groups: int, fixed: int = 3) -> Park:
    return Park(fixed, tuple(Group(f"g{number}", 4, cost=COST) for number in range(groups)))


LONG = st.lists(st.tuples(st.sampled_from((1.0, 2.0, 3.0, 6.0, 12.0)), st.integers(0, 15)), min_size=2, max_size=25)


def made(stretches: list[tuple[float, int]]) -> Series:
    """A demand by lengths and heights."""
    at, demand = 0.0, []
    for seconds, wanted in stretches:
        demand += [(at + moment, wanted) for moment in range(round(seconds))]
        at += seconds
    return [*demand, (at, 0)]


def ratio(result: Result) -> float:
    """The bill over the optimum's, of all memory that may leave; 1 where neither pays."""
    return result.bill.total / result.optimum.total if result.optimum.total else 1.0 + (result.bill.total > 0) * 9.0


@examples(300)
@given(LONG, st.integers(1, 3))
def test_the_deterministic_mode_is_never_worse_than_twice_the_clairvoyant(
    stretches: list[tuple[float, int]], groups: int
) -> None:
    found = replay(made([(COST, 99), *stretches]), park(groups), PURE, BARE)
    target(ratio(found))
    assert ratio(found) <= 2.0 + 1e-9


def test_the_adversary_gets_to_two_and_beats_who_waits_longer() -> None:
    """It asks again at the moment after a bank has left."""
    demand = made([(COST, 99), *[(COST + 1, 0), (1.0, 99)] * 12])
    assert 1.7 < ratio(replay(demand, park(1), PURE, BARE)) <= 2.0
    patient = made([(COST, 99), *[(3 * COST + 1, 0), (1.0, 99)] * 12])
    assert ratio(replay(patient, park(1), Reserve(headroom=0.0, patience=3 * COST), BARE)) > 2.0


@examples(100)
@given(LONG, st.sampled_from((0.25, 0.5, 1.0)))
def test_trust_bounds_what_believing_the_past_may_cost(stretches: list[tuple[float, int]], trust: float) -> None:
    demand = made([(COST, 99), *stretches])
    assert ratio(replay(demand, park(1), replace(PURE, trust=trust), BARE)) <= 1 + 1 / trust + 1e-9


def test_gaps_that_were_always_long_are_not_waited_through() -> None:
    gaps = Gaps()
    assert gaps.patience(100.0, 0.1) == 100.0
    for _ in range(5):
        gaps = gaps.seen(5000.0)
    assert gaps.patience(100.0, 0.1) == 10.0
    assert gaps.patience(100.0, 1.0) == 100.0
    for _ in range(40):
        gaps = gaps.seen(60.0)
    assert gaps.patience(100.0, 0.1) >= 64.0


@given(st.lists(st.floats(0.1, 1e6), max_size=40), st.floats(0.5, 1e4), st.floats(0.01, 1.0))
def test_patience_lies_within_its_bounds(lengths: list[float], cost: float, trust: float) -> None:
    gaps = Gaps()
    for length in lengths:
        gaps = gaps.seen(length)
    assert trust * cost <= gaps.patience(cost, trust) <= cost


@pytest.mark.parametrize("policy", [Reserve(), Balance(), PURE], ids=["reserve", "balance", "deterministic"])
@given(used=st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_a_wish_covers_what_is_used(policy: Policy, used: list[int]) -> None:
    state, groups = policy.begin(), park(3).groups
    for at, wanted in enumerate(used):
        view = View(float(at), 3, groups, wanted)
        wish, state = policy.decide(view, state)
        assert wish.keep >= min(wanted, view.total)
        assert wish.why


def test_a_rise_is_met_before_it_arrives() -> None:
    """Four a second from 4 on, 15 in all: what leaves room for the next look is in before it is wanted."""
    groups = tuple(Group(f"g{number}", 4, dark=number > 0, cost=COST) for number in range(3))
    state = Balance().begin()
    for at, used in ((0.0, 0), (1.0, 4)):
        wish, state = Balance().decide(View(at, 3, groups, used), state)
    assert wish.keep >= 4 + 4 * 1.5


@examples(200)
@given(LONG, st.integers(0, 3), st.integers(1, 9))
def test_a_bank_that_never_leaves_is_memory_like_any_other_that_stays(
    stretches: list[tuple[float, int]], place: int, size: int
) -> None:
    """Wherever it stands on the board: what is kept is the same as if it had been there since boot."""
    groups = park(3).groups
    beside = (*groups[:place], Group("stays", size, cost=math.inf), *groups[place:])
    policy = Balance()
    one, other = policy.begin(), policy.begin()
    for at, used in made(stretches):
        kept, one = policy.decide(View(at, 3, beside, used), one)
        expected, other = policy.decide(View(at, 3 + size, groups, used), other)
        assert kept == expected
