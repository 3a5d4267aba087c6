# SPDX-License-Identifier: Apache-2.0
"""A plan as people read it."""

from __future__ import annotations

from hotbank.cli.plan import plan_lines
from hotbank.errors import Code
from hotbank.operate import Action, Plan
from hotbank.operate.plan import Step


def test_every_action_has_a_space_behind_it() -> None:
    plan = Plan("m", "add", "high", (), tuple(Step(action, "high") for action in Action), Code.OK)
    rows = [line.split() for line in plan_lines(plan) if line.lstrip()[:1].isdigit()]
    assert [row[1:3] for row in rows] == [[action.value, "high"] for action in Action]
