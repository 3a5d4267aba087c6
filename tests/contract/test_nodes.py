# SPDX-License-Identifier: Apache-2.0
"""What the Vacating protocol promises, over a model and one at the far end of a wire; real kernels: tests/kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract import promises
from contract.test_machine import MACHINES
from hotbank.machine import Machine
from model.test_nodes import NEW, in_use


@pytest.fixture(params=["model", "remote"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    model, _ = in_use(NEW)
    yield from MACHINES[request.param](model)
    model.validate()
    assert model.check_contents() == ()


def test_a_vacated_node(machine: Machine) -> None:
    block = next(b.number for b in machine.snapshot().blocks if b.node == 1)
    promises.a_vacated_node_is_as_it_was_but_for_its_pages(machine, block, 0)
