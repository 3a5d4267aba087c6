# SPDX-License-Identifier: Apache-2.0
"""A bank leaves an unmodified Debian kernel and returns, by each route, with data in it and its power really off."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

import pytest

from hotbank import operate
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code
from hotbank.memory import KIB, MIB, KernelState, Online, Power, Range, Zone
from hotbank.routes import route
from kernel.arm64.test_policies import ANYWHERE, dies_with_it_set_aside
from kernel.kernel_kit import EVACUATION, Holder, add, complaints, evacuated, guest, intact, lean, remove, span_of

pytestmark = pytest.mark.kernel

# The first as Debian has it, on two CPUs. Added memory goes to any zone by itself where no driver vetoes that.
ROUTES = {
    "driver, 6.12": Wanted("virt-arm64", files=EVACUATION),
    "driver, 6.1": lean(Wanted("virt-arm64", series="6.1")),
    "kmem, 6.12": lean(Wanted("virt-arm64-kmem", cmdline=ANYWHERE)),
    "virtio-mem, 6.12": lean(Wanted("virt-arm64-virtio-mem", cmdline=ANYWHERE)),
    "virtio-mem, 6.1": lean(Wanted("virt-arm64-virtio-mem", series="6.1")),
}
CYCLES = {"6.12": 20, "6.1": 3}


@pytest.fixture(scope="module", params=ROUTES)
def machine(request: pytest.FixtureRequest) -> Iterator[QemuMachine]:
    """The guest of one route; its bank is in the kernel, online and Movable."""
    with guest(ROUTES[request.param]) as booted:
        policy = booted.snapshot().auto_online
        assert add(booted).exit == 0
        yield booted
        assert booted.snapshot().auto_online == policy
        assert complaints(booted) == []


def test_data_survives_a_bank_that_leaves_and_returns(machine: QemuMachine) -> None:
    """380 MiB of four kinds are carried out of the bank, and what is written to the returned bank stays."""
    span = span_of(machine)
    with Holder(machine, anon=120, shared=100, tmpfs=80, file=80) as holder:
        inside = holder.where(span)
        assert sum(inside.values()) > 0.9 * 380 * MIB / 4096, inside
        assert min(inside.values()) > 0, inside
        assert machine.files["high"].resident >= 380 * MIB
        outcome = remove(machine)
        assert (outcome.code, outcome.exit) == (Code.OK, 0), outcome
        assert outcome.moved is not None
        if route(machine.board.banks[-1].route).fences:
            assert outcome.moved < 1.02 * outcome.planned, outcome  # each page once, and clean page cache dropped
        else:
            assert outcome.planned == pytest.approx(outcome.moved, rel=0.1)  # what moves twice was foretold
        assert (outcome.kernel, outcome.power) == (KernelState.ABSENT, Power.OFF)
        assert is_gone(machine)
        assert machine.files["high"].resident == 0
        assert sum(holder.where(span).values()) == 0
        assert intact(holder.damage())
        assert machine.files["high"].resident == 0  # nothing touched the dark bank meanwhile
        assert add(machine).exit == 0
        status = machine.snapshot().bank("high")
        assert status is not None
        assert (status.kernel, status.zone, status.power) == (KernelState.ONLINE, Zone.MOVABLE, Power.ON)
        assert intact(holder.damage())
    with Holder(machine, anon=200, shared=100) as holder:
        assert sum(holder.where(span).values()) > 200 * 256
        assert intact(holder.rewrite())


def test_cycles_lose_nothing(machine: QemuMachine, request: pytest.FixtureRequest) -> None:
    """Each time the host gets its memory back; at the end the guest has as much free memory as at the beginning."""
    free = []
    cycles = CYCLES[request.node.callspec.params["machine"].split()[-1]]
    with Holder(machine, anon=16, shared=16, tmpfs=16, file=16) as holder:
        for _ in range(cycles):
            assert remove(machine).exit == 0
            assert machine.files["high"].resident == 0
            assert add(machine).exit == 0
            assert machine.files["high"].resident == span_of(machine).size  # all of it, filled at power-on
            free.append(settled_free(machine))
        assert intact(holder.damage())
    first, last = fmean(free[: cycles // 3]), fmean(free[-(cycles // 3) :])
    assert abs(last - first) <= 0.01 * first, free


def test_a_policy_that_was_set_aside_is_put_back(machine: QemuMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has to be: of the others the default is another, or their driver vetoes kernel zones."""
    if machine.snapshot().auto_online == Online.ONLINE:
        assert remove(machine).exit == 0
        dies_with_it_set_aside(machine, "high", monkeypatch)
        assert add(machine).exit == 0


@pytest.mark.parametrize("machine", ["driver, 6.12"], indirect=True)
def test_what_is_held_is_given_back(machine: QemuMachine) -> None:
    """Whoever holds a bank, or is about to, is killed at random moments: nothing stays held, and no block offline."""
    with Holder(machine, anon=16, shared=16, tmpfs=16, file=16) as holder:
        ended = evacuated(machine, "cancel", 4)
        assert ended["lost"] == [0] * 4, ended
        assert max(ended["held"]) == span_of(machine).size // KIB, ended
        cycles = evacuated(machine, "cycles", 3)
        assert (cycles["not_online"], cycles["lost"]) == ([], 0), cycles
        assert max(*ended["free"], cycles["free"]) * KIB < 32 * MIB
        assert intact(holder.damage())


def test_pins_are_seen(machine: QemuMachine) -> None:
    with Holder(machine, pinned=2):
        verdict = operate.explain(machine, "high")
    assert verdict.code is Code.PINNED, verdict
    assert Code.PINS_UNKNOWN not in verdict.unknown


def test_pins_without_kcore(machine: QemuMachine) -> None:
    """The bank driver tells the reference counts of its pages; by the other routes nobody does."""
    machine.runner.run("mount --bind /dev/null /proc/kcore")
    try:
        with Holder(machine, pinned=2):
            verdict = operate.explain(machine, "high")
    finally:
        machine.runner.run("umount /proc/kcore")
    told = machine.board.banks[-1].route == "driver"
    assert verdict.code is (Code.PINNED if told else Code.PINS_UNKNOWN), verdict
    assert (Code.PINS_UNKNOWN in verdict.unknown) is not told


def settled_free(machine: QemuMachine) -> int:
    """MemFree in bytes without caches, the most of a few looks: short-lived processes hold some."""
    machine.runner.run("echo 3 > /proc/sys/vm/drop_caches")
    looks = machine.runner.run("for i in 1 2 3 4; do grep MemFree /proc/meminfo; sleep 0.1; done")
    return max(int(line.split()[1]) for line in looks.splitlines()) * KIB


def is_gone(machine: QemuMachine) -> bool:
    """True if neither sysfs nor /proc/iomem knows the bank as memory."""
    span = span_of(machine)
    size = machine.snapshot().block_size
    names = [f"memory{number}" for number in range(span.start // size, span.end // size)]
    there = set(machine.runner.run("ls /sys/devices/system/memory").split())
    rams = [
        line.split()[0].split("-")
        for line in machine.runner.run("cat /proc/iomem").splitlines()
        if "System RAM" in line
    ]
    return not there.intersection(names) and not any(span.overlaps(Range(int(a, 16), int(b, 16) + 1)) for a, b in rams)
