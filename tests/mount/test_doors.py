# SPDX-License-Identifier: Apache-2.0
"""A write to a mounted file acts on the machine as it is when it is written, never on what it was when looked up."""

from __future__ import annotations

import errno

import pytest

from hotbank import board
from hotbank.errors import KernelError
from hotbank.load import Workload
from hotbank.machine import Snapshot
from hotbank.memory import BlockState, KernelState, Power
from hotbank.model import Model
from hotbank.mount import File, Folder, MachineFiles

TWO_IN_ONE = """
name = "two"
arch = "arm"
block_size = "64M"
describe = "atags"
[bank.low]
start = 0x40000000
size = "256M"
[bank.a]
start = 0x50000000
size = "64M"
movable = true
route = "driver"
domain = "ddr"
[bank.b]
start = 0x54000000
size = "64M"
movable = true
route = "driver"
domain = "ddr"
[domain.ddr]
states = ["on", "off"]
switch = "machine"
"""
A, B = 20, 21


@pytest.fixture
def model() -> Model:
    model = Model.boot(board.loads(TWO_IN_ONE), backend="reference", seed=1)
    Workload(model, 1, pages=40_000).fill()
    return model


def look(model: Model) -> Folder:
    return MachineFiles(model, model).tree()


def write(tree: Folder, path: str, word: str) -> None:
    file = tree.find(path)
    assert isinstance(file, File)
    assert file.store is not None
    file.store(word)


def refused(tree: Folder, path: str, word: str, expected: int) -> None:
    with pytest.raises(KernelError) as caught:
        write(tree, path, word)
    assert caught.value.errno == expected


def take_out(model: Model, bank: str, block: int) -> None:
    write(look(model), f"sys/devices/system/memory/memory{block}/state", "offline")
    write(look(model), f"sys/class/hotbank/{bank}/state", "remove")


def kernel(snapshot: Snapshot, bank: str) -> KernelState:
    found = snapshot.bank(bank)
    assert found is not None
    return found.kernel


def test_a_bank_that_is_out_does_not_darken_its_neighbour(model: Model) -> None:
    """The switch is the whole domain's."""
    take_out(model, "a", A)
    assert kernel(model.snapshot(), "b") is KernelState.ONLINE
    refused(look(model), "sys/class/hotbank/a/supply", "off", errno.EBUSY)
    assert model.power("ddr") is Power.ON
    model.validate()
    take_out(model, "b", B)
    write(look(model), "sys/class/hotbank/a/supply", "off")
    assert model.power("ddr") is Power.OFF


def test_a_bank_that_came_in_since_is_seen(model: Model) -> None:
    take_out(model, "a", A)
    take_out(model, "b", B)
    before = look(model)
    model.add("a")
    refused(before, "sys/class/hotbank/a/supply", "off", errno.EBUSY)
    assert model.power("ddr") is Power.ON


def test_no_file_acts_on_a_remembered_look(model: Model) -> None:
    """Each file as it was looked up, written to after the machine has changed: what it does is what a new look does."""
    before = look(model)
    state, switch = (f"sys/devices/system/memory/memory{A}/{name}" for name in ("state", "online"))
    model.offline(A, model.clock.now() + 60)
    refused(before, state, "offline", errno.EINVAL)
    write(before, switch, "0")  # it is offline already
    write(before, switch, "1")
    found = model.snapshot().block(A)
    assert found is not None
    assert found.state is BlockState.ONLINE
    take_out(model, "a", A)
    refused(before, state, "online", errno.ENOENT)
    refused(before, switch, "1", errno.ENOENT)
    refused(before, "sys/class/hotbank/a/supply", "released", errno.EINVAL)
    write(before, "sys/class/hotbank/a/state", "add")
    assert kernel(model.snapshot(), "a") is KernelState.OFFLINE


def test_the_policy_for_added_blocks_can_be_written(model: Model) -> None:
    name = "sys/devices/system/memory/auto_online_blocks"
    refused(look(model), name, "movable", errno.EINVAL)
    write(look(model), name, "online_movable\n")
    assert model.snapshot().auto_online == "online_movable"
