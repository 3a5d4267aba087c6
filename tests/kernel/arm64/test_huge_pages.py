# SPDX-License-Identifier: Apache-2.0
"""Huge pages in a block that leaves, on real kernels of one node: where the pool has a free page, those before 6.14
only move them round, and the verdict says so of each kernel what then happens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hotbank import operate
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code, KernelError
from hotbank.memory import KIB, MIB, BlockState, Online
from kernel.kernel_kit import complaints, guest, lean, plug
from patience import HANG

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

HOLDER = Path(__file__).parents[1] / "guest_huge.py"
FRAMES = 32768  # of a block
ATTEMPT = 10.0  # seconds for an offline that can't succeed
SMALL, GIGANTIC = 21, 25


@dataclass(frozen=True)
class Case:
    """So many pages of ``1 << shift`` bytes, of which so many are let go outside of the block that is to leave."""

    shift: int
    pages: int
    free: int


CASES = {
    "none free, from memory": Case(SMALL, 200, 0),
    "some free": Case(SMALL, 200, 70),
    "gigantic, none free": Case(GIGANTIC, 16, 0),
    "gigantic, as many free": Case(GIGANTIC, 16, 4),
}
LEAVES = {
    "6.12": {"none free, from memory"},
    "6.16": {"none free, from memory", "some free", "gigantic, as many free"},
}


@pytest.fixture(scope="module", params=LEAVES)
def machine(request: pytest.FixtureRequest) -> Iterator[QemuMachine]:
    own = {"opt/huge.py": HOLDER.read_text(encoding="utf-8")}
    wanted = replace(lean(Wanted("virt-arm64-virtio-mem")), files=own, series=request.param)
    with guest(wanted) as booted:
        plug(booted, 512 * MIB, Online.KERNEL)
        yield booted
        assert complaints(booted) == []


class Held:
    """Huge pages in use in the guest, see guest_huge.py."""

    def __init__(self, machine: QemuMachine, case: Case) -> None:
        self._runner, self._pool = machine.runner, f"/sys/kernel/mm/hugepages/hugepages-{(1 << case.shift) // KIB}kB"
        pages = self._runner.run(
            f"echo {case.pages} > {self._pool}/nr_hugepages; cat {self._pool}/nr_hugepages", timeout=HANG
        )
        assert int(pages) == case.pages
        self._runner.run("rm -rf /run/huge; mkdir -p /run/huge; mkfifo /run/huge/in /run/huge/out")
        self._job = self._runner.start(f"exec python3 -S /opt/huge.py /run/huge {case.pages} {case.shift}")

    def ask(self, line: str) -> list[int]:
        """The first frames of the pages that are still held, after the line was followed."""
        frames: list[int] = json.loads(self._runner.run(f"echo {line} > /run/huge/in; cat /run/huge/out", timeout=HANG))
        return frames

    def end(self) -> None:
        self._job.kill()
        self._runner.run(
            f"until echo 0 > {self._pool}/nr_hugepages && grep -q ^0 {self._pool}/nr_hugepages; do sleep 0.1; done"
        )


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_what_this_kernel_does(machine: QemuMachine, name: str) -> None:
    case, release = CASES[name], machine.runner.run("uname -r")
    leaves = name in LEAVES[".".join(release.split(".")[:2])]
    held = Held(machine, case)
    try:
        bank = machine.snapshot().bank("high")
        assert bank is not None
        inside = Counter(frame // FRAMES for frame in held.ask("where"))
        number = max(bank.blocks, key=lambda n: inside[n])
        held.ask(f"drop {case.free} {number * FRAMES} {(number + 1) * FRAMES}")
        answer = operate.explain(machine, f"memory{number}")
        assert answer.impossible is not leaves, answer
        if leaves:
            machine.offline(number, machine.clock.now() + HANG)
            block = machine.snapshot().block(number)
            assert block is not None
            assert block.state is BlockState.OFFLINE
            machine.online(number, Online.KERNEL)
            return
        assert answer.code is Code.HUGETLB
        with pytest.raises(KernelError, match="EINTR"):
            machine.offline(number, machine.clock.now() + ATTEMPT)
    finally:
        held.end()
