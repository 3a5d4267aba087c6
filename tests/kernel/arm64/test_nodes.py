# SPDX-License-Identifier: Apache-2.0
"""A bank that is the only memory of a node, emptied as a whole before its blocks go (``make nodes``): on the newest
kernel, which can be told to drop a node's cache, and on one that can't."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotbank import kernels, operate
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code, KernelError
from hotbank.machine import NodeStatus
from hotbank.memory import KernelState, Kind, Power
from hotbank.operate import Action
from kernel.kernel_kit import LIMITS, add, complaints, guest, lean, remove
from patience import HANG

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

BOARD = str(Path(__file__).with_name("node.toml"))
BINDER = Path(__file__).parents[1].joinpath("guest_binder.py").read_text(encoding="utf-8")
SERIES = (kernels.KERNELS[-1].release, kernels.DEFAULT)
NAME = "python3"


@pytest.fixture(scope="module", params=SERIES)
def machine(request: pytest.FixtureRequest) -> Iterator[QemuMachine]:
    files = {"opt/binder.py": BINDER}
    with guest(lean(Wanted(BOARD, series=request.param, files=files), cpus=2)) as booted:
        drops = kernels.kernel(request.param).reclaims_nodes
        assert add(booted).exit == 0
        assert booted.snapshot().nodes == (NodeStatus(0, drops, True), NodeStatus(1, drops, True))
        yield booted
        assert complaints(booted) == []


class Held:
    """Memory of a process of the guest, see guest_binder.py; the process ends at the end of a ``with``."""

    def __init__(self, machine: QemuMachine, policy: str, mib: int, cache: int = 0) -> None:
        self._run, name = machine.runner.run, f"/run/{policy}"
        self._job = machine.runner.start(f"exec python3 -S /opt/binder.py {name} {policy} {mib} {cache}")
        self._run(f"until [ -e {name} ]; do sleep 0.1; done", timeout=HANG)
        self.pid = int(self._run(f"cat {name}; rm {name}"))

    def on(self, node: int) -> int:
        """Its anonymous pages there."""
        maps = self._run(f"grep anon= /proc/{self.pid}/numa_maps || true")
        counts = (word.removeprefix(f"N{node}=") for word in maps.split() if word.startswith(f"N{node}="))
        return sum(map(int, counts))

    def whole(self) -> bool:
        """Whether all of it reads as it was written."""
        wait = "until [ -e /run/whole ]; do sleep 0.1; done"
        return self._run(f"kill -USR1 {self.pid}; {wait}; cat /run/whole; rm /run/whole", timeout=HANG) == "0\n"

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._job.kill()
        self._job.wait(HANG)


def pages(machine: QemuMachine, kind: Kind) -> int:
    """On the node."""
    return sum(machine.survey(b.number).kinds.get(kind, 0) for b in machine.snapshot().blocks if b.node == 1)


def test_a_node_is_emptied_before_its_bank_leaves(machine: QemuMachine) -> None:
    """Who prefers the node moves, who is bound to it is named and moves with the offline; all content is whole."""
    with Held(machine, "prefer", 120, cache=32) as first, Held(machine, "bind", 20) as bound:
        assert first.on(1) > 25_000
        plan = operate.plan_remove(machine, "high")
        assert [step.action for step in plan.steps[:2]] == [Action.VACATE, Action.OFFLINE]
        outcome = remove(machine)
        print(plan.pages, outcome)
        assert (outcome.code, outcome.exit) == (Code.OK, 0)
        assert (outcome.kernel, outcome.power) == (KernelState.ABSENT, Power.OFF)
        named = f"bound to node 1 alone, so left to the offline, which heeds no policy: {NAME} ({bound.pid})"
        assert named in outcome.fact
        assert outcome.moved is not None
        assert outcome.moved >= 30_000
        assert (first.on(1), bound.on(1), first.whole(), bound.whole()) == (0, 0, True, True)
    assert add(machine).exit == 0


def test_vacating_alone_moves_what_is_mapped_and_nothing_bound(machine: QemuMachine) -> None:
    block = next(b.number for b in machine.snapshot().blocks if b.node == 1)
    with Held(machine, "prefer", 60) as first, Held(machine, "bind", 20) as bound:
        there, fixed = first.on(1), bound.on(1)
        deadline = machine.clock.now() + LIMITS.block
        machine.interrupt(block, deadline)
        with pytest.raises(KernelError) as caught:
            machine.vacate(block, deadline)
        assert (caught.value.errno, first.on(1)) == (errno.EINTR, there)
        found = machine.vacate(block, deadline + 1)
        print(found)
        assert found.dropped == 0
        assert (first.on(1), bound.on(1)) == (0, fixed)
        assert first.whole()


def test_so_much_cache_is_dropped_as_is_asked_for(machine: QemuMachine) -> None:
    drops = kernels.kernel(machine.snapshot().release).reclaims_nodes
    block = next(b.number for b in machine.snapshot().blocks if b.node == 1)
    with Held(machine, "prefer", 4, cache=64):
        cached = pages(machine, Kind.FILE)
        assert cached > 14_000
        found = machine.vacate(block, machine.clock.now() + LIMITS.block, drop=4096)
        left = pages(machine, Kind.FILE)
        print(found, cached, left, machine.runner.run("grep refault /proc/vmstat"))
        assert found.dropped is not None
        assert 4096 * drops <= found.dropped <= 8192 * drops
        assert abs(cached - left - found.dropped) < 1024
