# SPDX-License-Identifier: Apache-2.0
"""A full bank emptied behind a fence and block by block; holders that are killed, for long (``make fence``)."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import pytest

from hotbank import kernels
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.memory import KIB, MIB
from kernel.kernel_kit import EVACUATION, Holder, add, complaints, evacuated, guest, intact, lean, span_of

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

SERIES = (kernels.DEFAULT, kernels.KERNELS[-1].release)
FULL = {"anon": 200, "shared": 80, "tmpfs": 80, "file": 80}
LITTLE = {"anon": 30, "shared": 10, "tmpfs": 10, "file": 10}
CANCELS, CYCLES, AT_ONCE = 50, 200, 10


@pytest.fixture(scope="module", params=SERIES)
def machine(request: pytest.FixtureRequest) -> Iterator[QemuMachine]:
    """A guest of two CPUs, each a thread of QEMU's; its bank is in the kernel, online and Movable."""
    with guest(lean(Wanted("virt-arm64", series=request.param, files=EVACUATION), cpus=2)) as booted:
        assert add(booted).exit == 0
        yield booted
        assert complaints(booted) == []


def test_a_full_bank_moves_once(machine: QemuMachine) -> None:
    for way, number in (("plain", 0), ("fenced", 2), ("fenced", 1), ("plain", 0), ("fenced", 2)):
        with Holder(machine, **FULL) as holder:
            inside = sum(holder.where(span_of(machine)).values())
            found = evacuated(machine, way, number)
            assert intact(holder.damage())
            holder.end()
        if way == "fenced":
            assert found["held"] == span_of(machine).size // KIB
            assert found["moved"] <= 1.02 * inside
            assert found["moved"] == pytest.approx(found["early"], abs=100)


def test_a_holder_that_is_killed_holds_nothing(machine: QemuMachine) -> None:
    with Holder(machine, **LITTLE) as holder:
        parts = [evacuated(machine, "cancel", AT_ONCE) for _ in range(CANCELS // AT_ONCE)]
        assert not any(lost for found in parts for lost in found["lost"])
        after = [seconds for found in parts for seconds in found["after"]]
        print(f"back after {min(after):.3f} to {max(after):.3f} s, median {median(after):.3f}")
        assert intact(holder.damage())


def test_cycles_and_kills_lose_nothing(machine: QemuMachine) -> None:
    with Holder(machine, **LITTLE) as holder:
        for _ in range(CYCLES // AT_ONCE):
            found = evacuated(machine, "cycles", AT_ONCE)
            assert (found["not_online"], found["lost"]) == ([], 0)
            assert found["free"] * KIB < 32 * MIB
        assert intact(holder.damage())
