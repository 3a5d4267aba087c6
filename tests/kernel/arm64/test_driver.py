# SPDX-License-Identifier: Apache-2.0
"""Our bank driver on the kernels that Debian has headers for: a bank of 1 GiB comes block by block, stays Movable
whatever the policy, and leaves although the kernel maps memory in blocks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from hotbank import kernels, operate
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code
from hotbank.memory import BlockState, KernelState, Kind, Power, Zone
from kernel.kernel_kit import Holder, add, complaints, guest, lean, remove, span_of
from patience import HANG, until

pytestmark = pytest.mark.kernel

BOARD = str(Path(__file__).with_name("driver.toml"))
LOOK = Path(__file__).parents[1] / "guest_pages.py"
NEWEST = kernels.KERNELS[-1].release
SERIES = (NEWEST, *(pytest.param(series, marks=pytest.mark.slow) for series in ("7.2", "6.12", "6.1")))
BLOCKS = "rodata=off kfence.sample_interval=100"  # else arm64 maps each page by itself, and no leaf is larger
POLICY, BANK = "/sys/devices/system/memory/auto_online_blocks", "/sys/class/hotbank/high"


@pytest.mark.parametrize("series", SERIES)
def test_a_bank_of_several_blocks(series: str) -> None:
    files = {"opt/pages.py": LOOK.read_text(encoding="utf-8")}
    with guest(lean(Wanted(BOARD, series=series, cmdline=BLOCKS, files=files), cpus=2)) as machine:
        print(machine.runner.run(f"uname -r; cat {POLICY}; echo online > {POLICY}"))
        comes_block_by_block(machine)
        shows_its_pages(machine)
        holds_nobody_up(machine)
        leaves_while_it_is_looked_at(machine)
        assert add(machine).exit == 0
        assert complaints(machine) == []


def comes_block_by_block(machine: QemuMachine) -> None:
    """One resource of many calls; each block Movable, although the policy says a kernel zone; none with a leaf veto."""
    outcome = add(machine)
    assert (outcome.code, outcome.exit, machine.snapshot().auto_online) == (Code.OK, 0, "online")
    zones = {block.zone for block in machine.snapshot().blocks if block.range.overlaps(span_of(machine))}
    assert zones == {Zone.MOVABLE}
    assert machine.runner.run("grep hotbank /proc/iomem").split() == [
        "80000000-bfffffff",
        ":",
        "System",
        "RAM",
        "(hotbank)",
    ]
    assert operate.explain(machine, "high").code is Code.OK


def shows_its_pages(machine: QemuMachine) -> None:
    """``pages`` and ``counts`` as the kernel's own files have it, but for what moves from one read to the next."""
    with Holder(machine, anon=24, shared=8, tmpfs=16, file=16, pinned=4) as holder:
        where = holder.where(span_of(machine))
        print(where)
        seen = dict.fromkeys(("used", "pages", "kinds", "refs", "maps", "counts", "held", "pinned"), 0)
        for pfn in range(span_of(machine).start >> 12, span_of(machine).end >> 12, 32768):
            told = json.loads(machine.runner.run(f"python3 -S /opt/pages.py {BANK} {pfn} 32768"))
            print(told)
            seen = {name: seen[name] + told[name] for name in seen}
        surveys_agree(machine, where["pinned"])
    assert seen["used"] > 10_000
    assert max(seen["kinds"], seen["refs"], seen["maps"]) <= seen["used"] // 100, seen
    assert seen["counts"] <= seen["used"] // 50, seen
    assert where["pinned"] <= seen["held"] <= seen["pinned"] + 64, seen


def surveys_agree(machine: QemuMachine, pinned: int) -> None:
    """With glances, which see flags alone, but for what moves from one to the next; and they see the pins.

    A glance can't tell the free pages that a processor keeps for itself: it doesn't know what they are.
    """
    online = [block.number for block in machine.snapshot().blocks if block.range.start >= span_of(machine).start]
    surveys, glances = ([look(n) for n in online] for look in (machine.survey, machine.glance))
    surveyed, glanced = (sum((Counter(one.kinds) for one in of), Counter()) for of in (surveys, glances))
    print(surveyed, glanced, pinned)
    assert (surveyed - glanced).total() - glanced[Kind.UNKNOWN] <= surveyed.total() // 100
    assert pinned <= sum(survey.blocked for survey in surveys) <= pinned + 16


def holds_nobody_up(machine: QemuMachine) -> None:
    """An eviction that a pin holds for ever is in nobody's way, and can be ended; nothing has left then."""
    with Holder(machine, pinned=4):
        evicting = machine.runner.start(f"exec python3 -S -c \"open('{BANK}/state', 'w').write('evict')\"")
        until(lambda: any(b.state is BlockState.GOING_OFFLINE for b in machine.snapshot().blocks), pause=0.1)
        assert machine.runner.run(f"echo on > {BANK}/supply; cat {BANK}/supply {BANK}/state") == "on\npresent\n"
        assert (
            machine.runner.run(f"timeout 1 dd if={BANK}/pages of=/dev/null bs=4k count=9 2>/dev/null; echo $?") == "0\n"
        )
        assert machine.runner.run(f"timeout 1 sh -c 'echo off > {BANK}/supply' 2>/dev/null || echo ended") == "ended\n"
        evicting.kill()
        evicting.wait(HANG)
        until(lambda: all(b.state is BlockState.ONLINE for b in machine.snapshot().blocks), pause=0.1)
    status = machine.snapshot().bank("high")
    assert status is not None
    assert (status.kernel, status.power) == (KernelState.ONLINE, Power.ON)


def leaves_while_it_is_looked_at(machine: QemuMachine) -> None:
    """All of it, with its resource; whoever reads its struct pages meanwhile meets none that is gone."""
    reading = machine.runner.start(f"while :; do cat {BANK}/pages {BANK}/refcounts {BANK}/counts > /dev/null; done")
    outcome = remove(machine)
    reading.kill()
    assert (outcome.code, outcome.exit) == (Code.OK, 0), outcome
    status = machine.snapshot().bank("high")
    assert status is not None
    assert (status.kernel, status.power) == (KernelState.ABSENT, Power.OFF)
    assert "hotbank" not in machine.runner.run("cat /proc/iomem; dmesg | grep 'splits a leaf' || true")
