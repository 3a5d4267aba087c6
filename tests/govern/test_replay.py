# SPDX-License-Identifier: Apache-2.0
"""A demand against banks: what counts as short, what is paid, and that splitting time changes nothing."""

from __future__ import annotations

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
