# SPDX-License-Identifier: Apache-2.0
"""Plans of many banks, domains, blocks and zones: twice as many cost hardly more than twice as much, counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from counted import lines
from hotbank import operate
from hotbank.machine import Snapshot
from hotbank.operate.targets import everything
from hotbank.testing import ScriptedMachine

FEW, SLACK = 60, 2.6  # 2 for what grows in proportion, and its logarithm


class Still(ScriptedMachine):
    """One that stays as it is: its own looking around is not counted."""

    def snapshot(self) -> Snapshot:
        """The same each time."""
        if "seen" not in vars(self):
            self.seen = super().snapshot()
        return self.seen


def banks(count: int, *, apart: bool) -> Still:
    """So many banks of one block, in a domain each or all in one."""
    machine = Still(others={f"b{n}": f"d{n}" if apart else "d" for n in range(count)})
    machine.snapshot()
    return machine


def names(machine: Still) -> list[str]:
    return [name for name in machine.ranges if name != "low"]


WORK: dict[str, Callable[[Still], object]] = {
    "remove all": lambda m: operate.plan_remove(m, names(m)),
    "add all": lambda m: operate.plan_add(m, names(m)),
    "free some": lambda m: operate.plan_free(m, 3 << 26),
    "everything": lambda m: everything(m.snapshot(), "remove"),
    "explain one": lambda m: operate.explain(m, "b0"),
}


@pytest.mark.parametrize("apart", [True, False], ids=["a domain each", "one domain"])
@pytest.mark.parametrize("name", WORK)
def test_twice_as_many_banks_cost_twice_as_much(name: str, apart: bool) -> None:
    few, many = banks(FEW, apart=apart), banks(2 * FEW, apart=apart)
    assert lines(lambda: WORK[name](many)) < SLACK * lines(lambda: WORK[name](few))
