# SPDX-License-Identifier: Apache-2.0
"""A plan's seconds are those that this machine took before, for the steps that it has done before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import operate
from hotbank.errors import Code
from hotbank.operate import Action, Before, Entry, Row
from hotbank.operate.pace import Pace, foretold
from hotbank.operate.plan import offline_seconds
from hotbank.session import connect
from hotbank.testing import ScriptedMachine

STEPS = (Action.OFFLINE, Action.OFFLINE, Action.REMOVE, Action.POWER_OFF)


def done(seconds: float, moved: int | None, *, planned: int = 0, code: Code | None = Code.OK) -> Entry:
    """A removal each of whose steps took so long."""
    rows = tuple(Row(s, "x", code, None, 10.0 * i + 1, 10.0 * i + 1 + seconds) for i, s in enumerate(STEPS))
    return Entry(1, 1, Before("remove", ("high",), "boot", planned=planned), 1.0, rows, code, moved, 99.0)


@given(st.floats(0.001, 9), st.integers(0, 100_000), st.integers(1, 4))
def test_the_same_again_takes_as_long_again(seconds: float, moved: int, times: int) -> None:
    machine = ScriptedMachine()
    plan = operate.plan_remove(machine, "high")
    steps = tuple(replace(s, seconds=offline_seconds(1, moved // 2)) for s in plan.steps if s.action is Action.OFFLINE)
    pace = Pace.of([done(seconds, moved // 2 * 2)] * times)
    told = pace.applied(replace(plan, steps=steps))
    assert told.seconds == pytest.approx(seconds * len(steps))
    assert told.paced_by == times
    others = [s for s in plan.steps if s.action in STEPS and s.action is not Action.OFFLINE]
    assert others
    assert all(s.seconds == pytest.approx(seconds) for s in pace.applied(replace(plan, steps=tuple(others))).steps)


def test_without_a_history_nothing_changes_and_failures_teach_nothing() -> None:
    plan = operate.plan_remove(ScriptedMachine(), "high")
    for entries in (
        (),
        (done(9, 10, code=Code.DEADLINE),),
        (done(9, 10, code=None),),
        (replace(done(9, 1), damage="x"),),
    ):
        assert Pace.of(entries).applied(plan) == plan


def test_where_a_machine_does_not_count_what_was_planned_counts() -> None:
    assert Pace.of([done(1, None, planned=500)]) == Pace.of([done(1, 500)])


@given(st.lists(st.floats(0.001, 100), min_size=2, max_size=30))
def test_a_plan_says_how_far_off_earlier_ones_were(seconds: list[float]) -> None:
    """Of transactions that moved the same each was expected to take as long as those before it, one with another."""
    entries = [replace(done(taken, 100, planned=100), id=number) for number, taken in enumerate(seconds)]
    told = foretold(entries)
    assert list(told) == list(range(1, len(entries)))
    for number, one in told.items():
        assert one.took == pytest.approx(seconds[number] * len(STEPS))
        assert one.expected == pytest.approx(fmean(seconds[:number]) * len(STEPS))
    plan = Pace.of(entries).applied(operate.plan_remove(ScriptedMachine(), "high"))
    ratios = [one.ratio for one in told.values()][-20:]
    assert (plan.between is None) is (len(ratios) < 2)
    if plan.between is not None:
        assert plan.between == pytest.approx((plan.seconds * min(ratios), plan.seconds * max(ratios)))


def test_what_is_foretold_is_what_a_plan_says() -> None:
    """Also of steps that no transaction before has done: they are none that went just as expected."""
    machine = ScriptedMachine()
    assert operate.remove(machine, "high").exit == 0
    plan = Pace.of([done(3, 5)]).applied(operate.plan_add(machine, "high"))
    rows = tuple(Row(step.action, step.target, Code.OK, None, 1.0, 8.0) for step in plan.steps)
    added = Entry(2, 1, Before("add", ("high",), "boot"), 1.0, rows, Code.OK, 0, 99.0)
    (told,) = foretold([done(3, 5), added]).values()
    assert told.expected == pytest.approx(plan.seconds)


def test_what_failed_was_never_foretold() -> None:
    assert foretold([done(1, 5), done(2, 5, code=Code.DEADLINE), replace(done(3, 5), damage="x")]) == {}


def test_a_session_plans_by_its_own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    with connect(ScriptedMachine(), change=True) as machine:
        assert machine.plan("high").paced_by == 0
        machine.remove("high")
        machine.add("high")
        assert machine.plan("high").paced_by == 2
