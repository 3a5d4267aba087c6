# SPDX-License-Identifier: Apache-2.0
"""Remove and add, over and over, on a model that works meanwhile: nothing is lost, nothing leaks."""

from __future__ import annotations

import pytest

from hotbank import board, operate
from hotbank.load import Workload
from hotbank.memory import Power
from hotbank.model import Model
from hotbank.testing import Watched


def cycle(times: int, *, backend: str, check_every: int) -> None:
    model = Model.boot(board.load("arm-2009"), backend=backend, seed=1)
    operate.remove(model, "high")
    operate.add(model, "high")  # the memmap that the boot took stays taken: from here on it comes and goes
    free_when_empty = model.free()
    workload = Workload(model, seed=2, pages=4000).fill().start(0.02)
    watched = Watched(model)
    for turn in range(times):
        out = operate.remove(watched, "high")
        assert (out.exit, out.power) == (0, Power.OFF), out.fact
        check = turn % check_every == 0 or turn == times - 1
        if check:
            model.validate()
            assert not model.check_contents()
        back = operate.add(watched, "high")
        assert (back.exit, back.power) == (0, Power.ON), back.fact
        if check:
            model.validate()
            assert not model.check_contents()
    assert not watched.breaches
    assert workload.steps > times, "it must have worked meanwhile"
    workload.stop()
    quiet(model)
    assert model.free() == free_when_empty


def quiet(model: Model) -> None:
    """End all that the workload began, so that what is left in use is what the boot took."""
    model.clock.sleep(60)  # short pins end
    model.kernel_free("a driver")
    for pid in list(model.tasks.processes):
        model.exit(pid)
    for name in list(model.tasks.files):
        model.remove_file(name)


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_twenty_cycles_under_workload(backend: str) -> None:
    cycle(20, backend=backend, check_every=1)


@pytest.mark.long
def test_a_thousand_cycles_under_workload() -> None:
    cycle(1000, backend="compiled", check_every=25)
