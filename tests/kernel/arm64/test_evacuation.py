# SPDX-License-Identifier: Apache-2.0
"""A full bank emptied behind a fence and block by block; holders that are killed, for long (``make fence``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import median

import pytest

from hotbank import kernels
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.memory import KIB, MIB
from kernel import splats
from kernel.kernel_kit import EVACUATION, Holder, add, complaints, evacuated, guest, intact, lean, span_of
from microscope import kernel as debug
from microscope import walks
from microscope.__main__ import asking

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

SERIES = (kernels.DEFAULT, kernels.KERNELS[-1].release)
DEBUG = "with lockdep"  # and KASAN and faults: the kernel of make microscope
FULL = {"anon": 200, "shared": 80, "tmpfs": 80, "file": 80}
LITTLE = {"anon": 30, "shared": 10, "tmpfs": 10, "file": 10}
CANCELS, CYCLES, AT_ONCE = 50, 200, 10


@pytest.fixture(scope="module", params=SERIES)
def machine(request: pytest.FixtureRequest) -> Iterator[QemuMachine]:
    """A guest of two CPUs, each a thread of QEMU's; its bank is in the kernel, online and Movable."""
    with guest(lean(wanted(request.param), cpus=2)) as booted:
        assert add(booted).exit == 0
        yield booted
        assert complaints(booted) == []
        assert request.param != DEBUG or walks.blind(asking(booted)) == []


def wanted(series: str) -> Wanted:
    """On that kernel."""
    if series != DEBUG:
        return Wanted("virt-arm64", series=series, files=EVACUATION)
    image, tree = debug.built(print)
    return Wanted("virt-arm64", kernel=str(image), source=str(tree), files=EVACUATION)


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
        assert all(free * KIB < 32 * MIB for found in parts for free in found["free"])
        after = [seconds for found in parts for seconds in found["after"]]
        print(f"back after {min(after):.3f} to {max(after):.3f} s, median {median(after):.3f}")
        assert intact(holder.damage())


@pytest.mark.parametrize("machine", [*SERIES, DEBUG], indirect=True)
def test_cycles_and_kills_lose_nothing(machine: QemuMachine, request: pytest.FixtureRequest) -> None:
    """Where lockdep looks on, most ranges are denied an allocation, too."""
    machine.runner.run(f"python3 -S -c '{walks.FILL}'")
    with Holder(machine, **LITTLE) as holder:
        denied = Counter[str]()
        for _ in range(CYCLES // AT_ONCE):
            found = evacuated(machine, "cycles", AT_ONCE)
            assert (found["not_online"], found["lost"]) == ([], 0)
            assert found["free"] * KIB < 32 * MIB
            seen = splats.read(machine.runner.run("dmesg -c"))
            assert not seen.mistakes
            denied.update(seen.faults)
        print(f"{denied.total()} allocations denied: {dict(denied)}")
        assert bool(denied) is bool(request.node.callspec.params["machine"] == DEBUG)
        assert intact(holder.damage())
