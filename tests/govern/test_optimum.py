# SPDX-License-Identifier: Apache-2.0
"""The clairvoyant: against a linear program in HiGHS on real series, a mixed one for groups, and all schedules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import highspy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.govern.optimum import Bill, Level, Stretch, optimum
from hotbank.load import trace

TRACES = sorted((Path(__file__).parents[1] / "data/traces").glob("*.csv.gz"))
SAMPLES = 2000


def series(path: Path) -> tuple[int, list[Stretch]]:
    """A machine and its first 2,000 samples."""
    found = trace.load(path, allow_gaps=True)
    samples = found.samples[:SAMPLES]
    lengths = [later.seconds - sample.seconds for sample, later in pairwise(samples)]
    return found.total, [Stretch(s, sample.used) for s, sample in zip(lengths, samples, strict=False)]


def highs(demand: Sequence[Stretch], fixed: int, levels: Sequence[Level], *, whole: bool = False) -> float:
    """The same problem as a program: in each stretch what is on covers the demand; what comes in is paid for.

    ``on`` in [0, 1] per bank and stretch, ``came`` at least its rise; begin and end with everything on. ``whole``:
    banks are on or off and any set of them may cover; else the order of filling is given.
    """
    h, unit = highspy.Highs(), max(level.size for level in levels)
    h.setOptionValue("output_flag", False)
    h.setOptionValue("mip_rel_gap", 0.0)
    kind = highspy.HighsVarType.kInteger if whole else highspy.HighsVarType.kContinuous
    cost = 0
    for number, level in enumerate(levels):
        start = fixed + sum(other.size for other in levels[:number])
        before = 1.0
        for stretch in demand:
            needed = 1.0 if not whole and stretch.needed > start else 0.0
            on = h.addVariable(needed, 1.0, type=kind)
            came = h.addVariable(0.0, 1.0)
            h.addConstr(came >= on - before)
            cost = cost + level.size / unit * (stretch.seconds * on + level.cost * came)
            before = on
        came = h.addVariable(0.0, 1.0)
        h.addConstr(came >= 1.0 - before)
        cost = cost + level.size / unit * level.cost * came
    if whole:
        _cover(h, demand, fixed, levels)
    h.minimize(cost)
    return float(h.getObjectiveValue()) * unit


def _cover(h: highspy.Highs, demand: Sequence[Stretch], fixed: int, levels: Sequence[Level]) -> None:
    columns = 2 * len(demand) + 1  # of a level: on and came of each stretch, and the last coming
    for place, stretch in enumerate(demand):
        indices = np.array([columns * number + 2 * place for number in range(len(levels))], dtype=np.int32)
        sizes = np.array([float(level.size) for level in levels])
        h.addRow(min(float(stretch.needed - fixed), float(sizes.sum())), highspy.kHighsInf, len(levels), indices, sizes)


@pytest.mark.long
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name.partition("_")[0])
def test_equals_the_linear_program_on_a_real_series(path: Path) -> None:
    total, demand = series(path)
    levels = [Level(total // 8, 38.5)] * 8
    found = optimum(demand, 0, levels).total
    assert found == pytest.approx(highs(demand, 0, levels), rel=1e-9)


STRETCHES = st.lists(st.builds(Stretch, st.integers(1, 9).map(float), st.integers(0, 12)), min_size=1, max_size=7)


@given(STRETCHES, st.lists(st.integers(0, 12).map(float), min_size=1, max_size=2), st.integers(0, 3))
def test_equals_the_cheapest_of_all_schedules(demand: list[Stretch], costs: list[float], fixed: int) -> None:
    levels = [Level(4, cost) for cost in costs]
    assert optimum(demand, fixed, levels).total == pytest.approx(cheapest(demand, fixed, levels))


def cheapest(demand: Sequence[Stretch], fixed: int, levels: Sequence[Level]) -> float:
    """By trying every schedule of each bank."""
    bill = 0.0
    for number, level in enumerate(levels):
        start = fixed + sum(other.size for other in levels[:number])
        bill += level.size * min(
            _price(demand, level, schedule)
            for schedule in product((True, False), repeat=len(demand))
            if all(on or stretch.needed <= start for on, stretch in zip(schedule, demand, strict=True))
        )
    return bill


def _price(demand: Sequence[Stretch], level: Level, schedule: Sequence[bool]) -> float:
    comes = sum(1 for before, now in zip(schedule, (*schedule[1:], True), strict=True) if now and not before)
    return sum(stretch.seconds for stretch, on in zip(demand, schedule, strict=True) if on) + comes * level.cost


@given(
    st.lists(st.builds(Stretch, st.integers(1, 9).map(float), st.integers(0, 14)), min_size=1, max_size=6),
    st.integers(2, 3),
)
def test_groups_of_equal_size_fill_in_order_at_no_loss(demand: list[Stretch], groups: int) -> None:
    """A mixed program that may choose any set of groups finds nothing cheaper than filling from below."""
    levels = [Level(4, 6.0)] * groups
    within = [Stretch(s.seconds, min(s.needed, 2 + 4 * groups)) for s in demand]
    assert optimum(within, 2, levels).total == pytest.approx(highs(within, 2, levels, whole=True), rel=1e-9, abs=1e-6)


@given(
    st.lists(st.builds(Stretch, st.integers(1, 9).map(float), st.integers(0, 14)), min_size=1, max_size=5),
    st.lists(st.builds(Level, st.integers(1, 6), st.integers(1, 9).map(float)), min_size=2, max_size=3),
)
def test_groups_of_other_sizes_are_never_said_to_be_cheaper_than_they_can_be(
    demand: list[Stretch], levels: list[Level]
) -> None:
    total = sum(level.size for level in levels)
    within = [Stretch(s.seconds, min(s.needed, total)) for s in demand]
    assert optimum(within, 0, levels).total >= highs(within, 0, levels, whole=True) - 1e-6


@given(STRETCHES, st.integers(0, 3))
def test_seconds_split_in_two_cost_the_same(demand: list[Stretch], fixed: int) -> None:
    halves = [Stretch(s.seconds / 2, s.needed) for s in demand for _ in range(2)]
    levels = [Level(4, 7.0), Level(4, 3.0)]
    assert optimum(halves, fixed, levels).total == pytest.approx(optimum(demand, fixed, levels).total)


def test_the_oracle_notices_one_who_never_turns_anything_off() -> None:
    demand, level = [Stretch(5, 9), Stretch(100, 0), Stretch(5, 9)], Level(4, 10.0)
    assert highs(demand, 0, [level]) == pytest.approx(optimum(demand, 0, [level]).total)
    assert highs(demand, 0, [level]) < Bill(on=4 * 110.0).total
