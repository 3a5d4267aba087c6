# SPDX-License-Identifier: Apache-2.0
"""A demand against banks: what counts as short, what is paid, and that splitting time changes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.govern.guard import Guard
from hotbank.govern.policy import Balance, Reserve, Seen, Wish
from hotbank.govern.replay import Park, lines, replay, steps
from hotbank.govern.view import Group, View

PARK = Park(10, tuple(Group(f"g{number}", 10, cost=5.0) for number in range(3)))
FREE = Guard(returning=0.0, foresight=0.0, hourly=10**9)


@dataclass(frozen=True)
class Keep:
    """Always wishes the same."""

    keep: int

    def begin(self) -> None:
        return None

    def decide(self, view: View, state: None) -> tuple[Wish, None]:
        return Wish(self.keep, "always"), None


def test_who_keeps_everything_saves_nothing_and_is_never_short() -> None:
    result = replay([(0, 0), (50, 30), (100, 0)], PARK, Keep(99), FREE)
    assert (result.share, result.short, result.switches) == (0.0, 0, 0)
    assert result.bill.on == result.always_on == 30 * 100


def test_a_step_meets_what_was_decided_before_it() -> None:
    result = replay([(0.0, 5), (10.0, 35), (20.0, 5), (30.0, 5)], PARK, Keep(0), FREE)
    assert result.short == 1
    assert result.bill.on == 10 * 30  # all in from the step on, for its ten seconds
    assert result.bill.returns == 2 * 3 * 10 * 5.0  # for the step, and for the end


def test_straight_lines_are_met_by_looking_often() -> None:
    """Three a second: a look every two seconds sees each rise with less than a bank to go."""
    demand = [(0.0, 5), (10.0, 35), (20.0, 5)]
    blind = replay(demand, replace(PARK, period=10.0, returning=1.0), Keep(0), FREE)
    seeing = replay(demand, replace(PARK, period=2.0, returning=0.5), Balance(), Guard())
    assert (blind.short, seeing.short) == (2, 0)


def test_a_demand_without_a_second_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="two samples"):
        replay([(0.0, 1)], PARK, Keep(0))


SERIES = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 45)), min_size=2, max_size=20)


def at_times(stretches: list[tuple[int, int]]) -> list[tuple[float, int]]:
    at, series = 0.0, []
    for seconds, wanted in stretches:
        series.append((at, wanted))
        at += seconds
    return series


@given(SERIES, st.sampled_from((0.5, 2.0, 7.0)), st.sampled_from((0.0, 0.5)))
def test_looks_cover_the_whole_time_and_see_every_peak(
    stretches: list[tuple[int, int]], period: float, returning: float
) -> None:
    demand = at_times(stretches)
    looks = list(lines(demand, period, returning))
    assert sum(look.seconds for look in looks) == pytest.approx(demand[-1][0])
    assert max(max(look.early, look.late) for look in looks) == max(wanted for _, wanted in demand)
    assert all(min(look.early, look.late) >= min(wanted for _, wanted in demand) for look in looks)


@given(SERIES)
def test_steps_are_the_samples(stretches: list[tuple[int, int]]) -> None:
    demand = at_times(stretches)
    assert [(look.at, look.seen) for look in steps(demand)] == demand


@given(SERIES, st.booleans())
def test_what_is_saved_lies_between_nothing_and_the_optimum(stretches: list[tuple[int, int]], often: bool) -> None:
    demand = at_times(stretches)
    park = replace(PARK, period=2.0, returning=0.5) if often else PARK
    result = replay(demand, park, Reserve(headroom=0.0, patience=5.0), FREE)
    assert result.optimum.total <= result.bill.total + 1e-6
    assert result.optimum.total <= result.always_on


@dataclass
class Counting:
    """`balance`, and how often it was asked."""

    asked: int = 0

    def begin(self) -> Seen:
        return Balance().begin()

    def decide(self, view: View, state: Seen) -> tuple[Wish, Seen]:
        self.asked += 1
        return Balance().decide(view, state)


def test_a_day_is_looked_at_once_a_period() -> None:
    hours, counting = [(float(at), 20 if at % 3600 else 5) for at in range(0, 7201, 600)], Counting()
    replay(hours, replace(PARK, period=2.0, returning=0.5), counting)
    assert counting.asked == 3600


UNEQUAL = st.lists(st.integers(1, 9), min_size=1, max_size=6)
CALM = Balance(floor=0.0, guess=0.0, foresight=0.0)


@given(UNEQUAL, st.integers(0, 60), st.integers(0, 5))
def test_a_calm_demand_leaves_only_the_banks_on_that_it_needs(sizes: list[int], wanted: int, fixed: int) -> None:
    """Banks of any sizes: they fill from the first, and leave from the last."""
    park = Park(fixed, tuple(Group(f"g{number}", size, cost=5.0) for number, size in enumerate(sizes)))
    result = replay([(float(at), wanted) for at in range(0, 3000, 15)], park, CALM, FREE)
    assert result.share is None or result.share > 0.99


@given(SERIES, UNEQUAL, st.integers(1, 9), st.sampled_from((None, 2.0)))
def test_banks_that_never_leave_are_as_memory_that_never_does(
    stretches: list[tuple[int, int]], sizes: list[int], stays: int, period: float | None
) -> None:
    demand, groups = at_times(stretches), tuple(Group(f"g{n}", size, cost=5.0) for n, size in enumerate(sizes))
    bank = Park(3, (*groups[:1], Group("stays", stays, cost=math.inf), *groups[1:]), period)
    memory = Park(3 + stays, groups, period)
    assert replay(demand, bank, Balance()) == replay(demand, memory, Balance())


@given(SERIES, st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=4))
def test_nobody_saves_more_than_could_be(stretches: list[tuple[int, int]], banks: list[tuple[int, int]]) -> None:
    """Whatever the sizes and the costs of the banks."""
    park = Park(0, tuple(Group(f"g{n}", size, cost=float(cost)) for n, (size, cost) in enumerate(banks)))
    for policy in (Balance(), Reserve(headroom=0.0, patience=3.0)):
        share = replay(at_times(stretches), park, policy, FREE).share
        assert share is None or share <= 1.0


@pytest.mark.parametrize("period", [None, 2.0])
def test_a_demand_may_jump_at_a_moment_that_stands_twice(period: float | None) -> None:
    demand = [(0.0, 5), (0.0, 15), (10.0, 15), (10.0, 25), (20.0, 25), (20.0, 5)]
    result = replay(demand, replace(PARK, period=period), Keep(99))
    assert (result.seconds, result.short, result.samples) == (20.0, 0, 6)
