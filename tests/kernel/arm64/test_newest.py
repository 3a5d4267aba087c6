# SPDX-License-Identifier: Apache-2.0
"""The newest kernel that Debian has: what its rules add is foreseen, and is what happens."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from hotbank import kernels, operate
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code, KernelError
from hotbank.machine import Machine
from hotbank.memory import KernelState, Online, Power
from hotbank.radar import guests
from kernel.kernel_kit import LIMITS, guest, lean

pytestmark = pytest.mark.kernel

BOARD = Path(__file__).with_name("leaf.toml")
SERIES = kernels.KERNELS[-1].release
BLOCKS = "rodata=off kfence.sample_interval=100"  # else arm64 maps each page by itself, and no leaf is larger


def test_a_bank_in_one_leaf_is_refused_before_the_kernel_refuses_it() -> None:
    with guest(lean(Wanted(str(BOARD), series=SERIES, cmdline=BLOCKS))) as machine:
        assert machine.runner.run("uname -r").startswith(SERIES)
        assert operate.add(machine, "high", limits=LIMITS).exit == 0
        refused_beforehand(machine, "high")
        bank = machine.snapshot().bank("high")
        assert bank is not None
        assert (bank.kernel, machine.files["high"].power) == (KernelState.ONLINE, Power.ON)


@pytest.mark.slow
@pytest.mark.parametrize("series", ["7.1", SERIES])
def test_a_dimm_in_one_leaf_is_refused_so_too(series: str) -> None:
    """7.1 has come without modules, and with that without routes."""
    with guests.booted(series, print) as subject:
        print(subject.release)
        for number in guests.LARGE:
            subject.machine.online(number, Online.MOVABLE)
        refused_beforehand(subject.machine, "large")


def refused_beforehand(machine: QemuMachine, name: str) -> None:
    """Block by block and as a bank, with the reason and without a word of the kernel; and the kernel does refuse."""
    for number in blocks(machine, name):
        answer = operate.explain(machine, number)
        assert (answer.code, "linear map" in answer.fact) == (Code.VETO, True)
    told = operate.remove(machine, name, limits=LIMITS)
    print(told.code, told.fact)
    assert (told.code, told.exit) == (Code.VETO, 1)
    assert machine.runner.run("dmesg | grep -c 'splits a leaf' || true").strip() == "0"
    with pytest.raises(KernelError) as caught:
        machine.offline(blocks(machine, name)[0], machine.clock.now() + LIMITS.block)
    assert caught.value.errno == errno.EPERM
    assert "splits a leaf entry in linear map" in machine.runner.run("dmesg")


def blocks(machine: Machine, name: str) -> tuple[int, ...]:
    """The numbers of a bank's blocks."""
    status = machine.snapshot().bank(name)
    assert status is not None
    return status.blocks
