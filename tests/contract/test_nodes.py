# SPDX-License-Identifier: Apache-2.0
"""What the Vacating protocol promises, over a model and one at the far end of a wire; real kernels: tests/kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract import promises
from contract.test_machine import MACHINES
from hotbank import operate
from hotbank.machine import Machine
from hotbank.memory import KernelState, Kind
from hotbank.operate import Action
from model.test_nodes import NEW, in_use, kinds, two_nodes


@pytest.fixture(params=["model", "remote"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    model, _ = in_use(NEW)
    yield from MACHINES[request.param](model)
    model.validate()
    assert model.check_contents() == ()


def test_a_vacated_node(machine: Machine) -> None:
    block = next(b.number for b in machine.snapshot().blocks if b.node == 1)
    promises.a_vacated_node_is_as_it_was_but_for_its_pages(machine, block, 0)


def test_what_is_said_to_need_no_room_is_dropped_also_where_it_is_little() -> None:
    model, blocks = two_nodes(NEW)
    free = sum(zone.free for zone in model.reading().zones if zone.node == 0)
    filler = model.spawn("filler", anon_pages=free - 6000)
    model.spawn("user", anon_pages=6100)
    model.read_file("cache", 800)
    model.shrink(filler, 2200)
    plan = operate.plan_remove(model, "high")
    assert plan.steps[0].action is Action.VACATE
    assert 0 < plan.steps[0].drop < kinds(model, blocks, Kind.FILE)
    assert operate.remove(model, "high").kernel is KernelState.ABSENT
    assert model.check_contents() == ()
