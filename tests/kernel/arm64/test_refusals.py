# SPDX-License-Identifier: Apache-2.0
"""What keeps a bank in place on a real kernel: ``explain`` says it beforehand, ``remove`` refuses, and ``--force``
gives up at its deadline with everything as it was."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.crashing import end, worker_of
from contract.test_serve import FOREVER, Running
from hotbank import operate, serve
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.gpio import line_is_high
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code, KernelError, SwitchError
from hotbank.machine import Block, Snapshot
from hotbank.memory import MIB, BlockState, KernelState, Online, Power, Zone
from hotbank.operate import Limits, MemoryJournal, Outcome, Transaction
from hotbank.serve import local
from hotbank.serve.owner import Owner
from kernel.kernel_kit import Holder, add, complaints, guest, intact, lean, remove, span_of
from patience import HANG, until

pytestmark = pytest.mark.kernel

BOARD = str(Path(__file__).with_name("small.toml"))
SUPPLY, LINE = "/sys/class/hotbank/high/supply", 0
ATTEMPT, LATE = 3.0, 1.0  # seconds for an attempt, and for an answer after its deadline
BUSY = 1.5  # seconds for a look at the bank, 0.5 on an idle host: beyond, answers take as much longer


@pytest.fixture(scope="module")
def machine() -> Iterator[QemuMachine]:
    """A guest whose bank is in the kernel."""
    with guest(lean(Wanted(BOARD), cpus=2)) as booted:
        assert add(booted).exit == 0
        yield booted
        assert complaints(booted) == []


@pytest.fixture(autouse=True)
def bank_stays_as_it_was(machine: QemuMachine) -> Iterator[None]:
    """Each test leaves every block of the bank online and Movable."""
    yield
    assert in_place(machine)


def in_place(machine: QemuMachine) -> bool:
    """True if the whole bank is online in ZONE_MOVABLE and its power is on."""
    snapshot = machine.snapshot()
    status = snapshot.bank("high")
    assert status is not None
    zones = {block.valid_zones[:1] for block in blocks_of(machine, snapshot)}
    return (status.kernel, status.power, zones) == (KernelState.ONLINE, Power.ON, {(Zone.MOVABLE,)})


def blocks_of(machine: QemuMachine, snapshot: Snapshot) -> list[Block]:
    """The bank's blocks."""
    return [block for block in snapshot.blocks if block.range.overlaps(span_of(machine))]


def force(machine: QemuMachine, journal: MemoryJournal) -> Outcome:
    """Try although the verdict says no, for a few seconds, as the command has it done: by the owner's worker. The
    answer is there within a second of the deadline, unless the host gives the guest hardly any time."""
    with local.attached(Owner(machine, journal=journal)) as client:
        look = seconds(lambda: operate.explain(client, "high"))
        deadline = ATTEMPT + 4 * look  # the worker looks too, and may find the host busier
        limits, outcomes = Limits(total=deadline, block=deadline, grace=1.0), list[Outcome]()
        late = seconds(lambda: outcomes.append(serve.remove(client, "high", limits=limits, force=True))) - deadline
        look = max(look, seconds(lambda: operate.explain(client, "high")))
    seen = f"look {look:.1f} s, load {os.getloadavg()[0]:.1f}"
    print(f"{outcomes[0].code} {late:+.2f} s from a deadline of {deadline:.1f} s; {seen}")
    assert late <= LATE * max(1.0, look / BUSY), outcomes
    return outcomes[0]


def settled(journal: MemoryJournal) -> None:
    """Wait for the worker, which stays until the kernel lets go."""
    until(lambda: journal.unfinished() is None, pause=0.1)


def seconds(act: Callable[[], object]) -> float:
    """What it takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_a_pinned_page(machine: QemuMachine) -> None:
    with Holder(machine, pinned=4, anon=8) as holder:
        assert holder.where(span_of(machine))["pinned"] > 0
        verdict = operate.explain(machine, "high")
        assert verdict.code is Code.PINNED, verdict
        owners = {e.owner.comm for e in verdict.evidence if e.why is Code.PINNED and e.owner is not None}
        assert owners == {"python3"} or "owners" in verdict.unknown  # the search has a time limit
        assert (remove(machine).code, in_place(machine)) == (Code.PINNED, True)
        outcome = force(machine, journal := MemoryJournal())
        assert (outcome.exit, outcome.errno) == (1, errno.EINTR)
        assert outcome.code in (Code.DEADLINE, Code.CANCEL_PENDING)
        settled(journal)
        assert in_place(machine)
        assert intact(holder.damage())
    assert operate.explain(machine, "high").code is Code.OK


def test_no_room(machine: QemuMachine) -> None:
    """Nor is it begun by a plan that was good before. By force it would be, and the guest's OOM killer might end our
    agent: that force is passed on is asked of a scripted machine (tests/operate/test_transaction.py)."""
    plan = operate.plan_remove(machine, "high")
    filled = fill(machine, leave_mib=100)
    try:
        verdict = operate.explain(machine, "high")
        assert verdict.code is Code.NO_CAPACITY, verdict
        assert verdict.needs > verdict.room
        assert (remove(machine).code, in_place(machine)) == (Code.NO_CAPACITY, True)
        late = Transaction(machine, plan, journal=MemoryJournal()).run()
        assert (late.code, in_place(machine)) == (Code.NO_CAPACITY, True), late
        assert "was not begun" in late.fact
        assert machine.runner.run("md5sum < /tmp/fill") == filled
    finally:
        machine.runner.run("rm -f /tmp/fill")
    assert operate.explain(machine, "high").code is Code.OK


def fill(machine: QemuMachine, leave_mib: int) -> str:
    """Fill the guest's memory with a file on tmpfs, but for ``leave_mib``; its checksum."""
    free = int(machine.runner.run("awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo"))
    machine.runner.run("mount -o remount,size=2G /tmp")
    machine.runner.run(f"dd if=/dev/urandom of=/tmp/fill bs=1M count={free - leave_mib} 2>/dev/null", timeout=HANG)
    return machine.runner.run("md5sum < /tmp/fill")


@contextmanager
def stalled_writeback(machine: QemuMachine) -> Iterator[None]:
    """Pages of the bank are being written to a disk that takes next to nothing."""
    machine.runner.run("dd if=/dev/urandom of=/mnt/dirty bs=1M count=48 2>/dev/null")
    throttle(machine, bytes_per_second=20_000)
    syncing = machine.runner.start("sync")
    try:
        written = "grep -q 'Writeback: *[1-9][0-9][0-9]' /proc/meminfo"
        machine.runner.run(f"until {written}; do sleep 0.1; done", timeout=HANG)
        yield
    finally:
        throttle(machine, bytes_per_second=0)
        syncing.wait(HANG)


def test_stalled_writeback(machine: QemuMachine) -> None:
    """The kernel looks at signals only between migration passes: a page under writeback holds it."""
    journal = MemoryJournal()
    with stalled_writeback(machine):
        outcome = force(machine, journal)
        assert (outcome.exit, outcome.errno) == (1, errno.EINTR)
        assert outcome.code in (Code.CANCEL_PENDING, Code.DEADLINE)
        if outcome.code is Code.CANCEL_PENDING:
            assert outcome.open
            assert machine.power("ddr-high") is Power.ON
            assert journal.unfinished() is not None
    settled(journal)
    machine.runner.run("rm /mnt/dirty")


def test_a_worker_killed_while_the_kernel_holds_a_block(machine: QemuMachine) -> None:
    """It ends in CANCEL_PENDING with the power on; who has it open settles it once the kernel lets go."""
    owner = Owner(machine, journal=(journal := MemoryJournal()))
    with local.attached(owner) as client, without_a_fence(machine):
        with stalled_writeback(machine):
            running = Running(client, FOREVER)
            assert running.offlining.wait(HANG)
            until(lambda: is_held(machine), "a block that the kernel holds", pause=0.1)
            end(worker_of(owner))
            outcome = running.end()
            assert (outcome.code, outcome.exit, outcome.open) == (Code.CANCEL_PENDING, 1, True), outcome
            assert machine.power("ddr-high") is Power.ON
            assert journal.unfinished() is not None
        settled(journal)
        owner.wait()
    machine.runner.run("rm /mnt/dirty")


@contextmanager
def without_a_fence(machine: QemuMachine) -> Iterator[None]:
    """The driver's evacuation is not to be found."""
    machine.runner.run("mv /dev/hotbank /dev/aside")
    try:
        yield
    finally:
        machine.runner.run("mv /dev/aside /dev/hotbank")


def is_held(machine: QemuMachine) -> bool:
    """The same block is going offline, look after look: all has left it that would."""
    looks = [going_offline(machine) for _ in range(10)]
    return looks[0] != () and len(set(looks)) == 1


def going_offline(machine: QemuMachine) -> tuple[int, ...]:
    """The bank's blocks that the kernel works on."""
    blocks = blocks_of(machine, machine.snapshot())
    return tuple(block.number for block in blocks if block.state is BlockState.GOING_OFFLINE)


def throttle(machine: QemuMachine, bytes_per_second: int) -> None:
    """Limit how fast the guest's disk takes data; 0 for no limit."""
    none = dict.fromkeys(("bps", "bps_rd", "iops", "iops_rd", "iops_wr"), 0)
    machine.qemu.qmp.execute("block_set_io_throttle", device="disk", bps_wr=bytes_per_second, **none)


def test_boot_memory_never_leaves(machine: QemuMachine) -> None:
    last = max(block.number for block in machine.snapshot().blocks if not block.range.overlaps(span_of(machine)))
    assert operate.explain(machine, f"memory{last}").code in (Code.BOOT_MEMORY, Code.UNMOVABLE, Code.NOT_MOVABLE_ZONE)
    with pytest.raises(KernelError):
        machine.offline(last, machine.clock.now() + 30)
    block = machine.snapshot().block(last)
    assert block is not None
    assert block.state is BlockState.ONLINE


def test_the_driver_keeps_the_bank_out_of_kernel_zones(machine: QemuMachine) -> None:
    number = blocks_of(machine, machine.snapshot())[-1].number
    machine.offline(number, machine.clock.now() + 60)
    for how in (Online.ONLINE, Online.KERNEL):
        with pytest.raises(KernelError, match="EPERM"):
            machine.online(number, how)
    machine.online(number, Online.MOVABLE)


def test_the_driver_can_not_leave_while_its_bank_is_in_use(machine: QemuMachine) -> None:
    with pytest.raises(Exception, match="rmmod"):
        machine.runner.run("rmmod hotbank_bank")
    assert "hotbank_bank" in machine.runner.run("lsmod")


def keeps_its_supply(machine: QemuMachine) -> bool:
    """Whether the driver, told by its own file to let go, says EBUSY and that it did not, and the line says so, too."""
    told = machine.runner.start(f"echo off > {SUPPLY}").wait(HANG)
    busy = told.status != 0 and os.strerror(errno.EBUSY) in told.out
    return busy and machine.runner.run(f"cat {SUPPLY}") == "on\n" and line_is_high(machine.qemu.qmp, LINE)


def test_the_driver_keeps_its_supply_while_a_block_is_in_the_kernel(machine: QemuMachine) -> None:
    """None of our gates is asked: online, half of it offline, all of it offline and not taken out."""
    assert keeps_its_supply(machine)
    numbers = [block.number for block in blocks_of(machine, machine.snapshot())]
    for number in numbers:
        machine.offline(number, machine.clock.now() + 60)
        assert keeps_its_supply(machine)
    for number in numbers:
        machine.online(number, Online.MOVABLE)


def test_a_driver_that_lets_go_of_its_supply_is_noticed(machine: QemuMachine) -> None:
    """The check itself, on a file that takes every word."""
    fake, file = "/run/supply", f"$(realpath {SUPPLY})"
    machine.runner.run(f"echo on > {fake}; mount --bind {fake} {file}")
    assert not keeps_its_supply(machine)
    machine.runner.run(f"umount {file}")


def test_a_touch_of_the_dark_bank_is_found(machine: QemuMachine) -> None:
    """The detector itself: one read of a dark bank, which no kernel does by itself."""
    assert remove(machine).exit == 0
    assert machine.power("ddr-high") is Power.OFF
    machine.runner.run(f"devmem {span_of(machine).start + 4 * MIB:#x} 32")
    with pytest.raises(SwitchError, match="touched while dark"):
        machine.power("ddr-high")
    assert add(machine).exit == 0
