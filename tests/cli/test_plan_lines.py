# SPDX-License-Identifier: Apache-2.0
"""A plan as people read it."""

from __future__ import annotations

import pytest

from hotbank.cli.plan import plan_lines
from hotbank.errors import Code
from hotbank.operate import Action, Plan
from hotbank.operate.plan import Step
from hotbank.room import Leaving


def test_every_action_has_a_space_behind_it() -> None:
    plan = Plan("m", "add", "high", (), tuple(Step(action, "high") for action in Action), Code.OK)
    rows = [line.split() for line in plan_lines(plan) if line.lstrip()[:1].isdigit()]
    assert [row[1:3] for row in rows] == [[action.value, "high"] for action in Action]


@pytest.mark.parametrize(("unseen", "told"), [(0, "3 pages to move, about"), (2, "3 pages to move, 2 more of unknown")])
def test_cache_that_is_dropped_before_is_no_page_of_unknown_contents(unseen: int, told: str) -> None:
    emptied = Step(Action.VACATE, "node1", 7, 3, drop=5, leaving=Leaving("Movable", 1))
    offline = Step(Action.OFFLINE, "memory7", 7, 0, leaving=Leaving("Movable", 1, 20, 8, unseen=unseen))
    lines = list(plan_lines(Plan("m", "remove", "high", (), (emptied, offline), Code.OK)))
    assert lines[3].strip() == "after 5 pages of clean cache without room elsewhere were dropped"
    assert told in lines[-1]
