# SPDX-License-Identifier: Apache-2.0
"""Kernels that put added memory anywhere, as Debian's do today: by each route a bank comes in as Movable, and the
policy is what it was, also after whoever had set it aside is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hotbank import operate
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.memory import KernelState, Online, Power
from kernel.kernel_kit import LIMITS, add, complaints, guest, lean, remove
from operate.mortal import Mortal, crash

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

BOARD = Path(__file__).with_name("routes.toml")
ANYWHERE = f"memhp_default_state={Online.ONLINE}"
KERNELS = ("6.12.117", "7.2", "7.3")
BANKS = {"dax": True, "plugged": True, "driven": False}  # whether its route needs the policy set aside


@pytest.fixture(scope="module", params=KERNELS)
def machine(request: pytest.FixtureRequest) -> Iterator[QemuMachine]:
    """A guest whose banks are out."""
    with guest(lean(Wanted(str(BOARD), series=request.param, cmdline=ANYWHERE))) as booted:
        assert booted.runner.run("uname -r").startswith(request.param)
        yield booted
        assert complaints(booted) == []


@pytest.mark.parametrize("bank", BANKS)
def test_a_bank_comes_in_as_movable(machine: QemuMachine, bank: str) -> None:
    steps = {step.action.value for step in operate.plan_add(machine, bank).steps}
    assert ("suspend-policy" in steps) is BANKS[bank]
    for _ in range(2):
        check(machine, bank, add(machine, bank).kernel)
        check(machine, bank, remove(machine, bank).kernel)


@pytest.mark.parametrize("bank", [bank for bank, suspends in BANKS.items() if suspends])
def test_whoever_had_set_it_aside_dies(machine: QemuMachine, bank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dies_with_it_set_aside(machine, bank, monkeypatch)


def dies_with_it_set_aside(machine: QemuMachine, bank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each write of an addition at which the policy is another; the bank is out before and afterwards."""
    seen = 0
    for at in range(2, 8):  # from the intent of setting it aside on
        journal = Mortal(at, after_writing=True)
        crash(monkeypatch, lambda last=journal: operate.add(machine, bank, limits=LIMITS, journal=last))  # type: ignore[misc]
        seen += machine.snapshot().auto_online == Online.MOVABLE
        assert operate.recover(machine, journal) is not None
        check(machine, bank, KernelState.ABSENT)
    assert seen == 4, "set, about to add, added, about to put it back"


def check(machine: QemuMachine, bank: str, reached: KernelState | None) -> None:
    """All of it in ZONE_MOVABLE or nothing of it, the power to match, and the policy as the kernel was started with."""
    snapshot = machine.snapshot()
    status = snapshot.bank(bank)
    assert status is not None
    assert status.kernel is reached
    assert (status.kernel, status.zone) in ((KernelState.ONLINE, "Movable"), (KernelState.ABSENT, None))
    assert status.power is (Power.ON if status.blocks else Power.OFF)
    assert snapshot.auto_online == Online.ONLINE
