# SPDX-License-Identifier: Apache-2.0
"""The supply of banks, a GPIO line that the guest's driver switches, and their content, both watched from outside."""

from __future__ import annotations

import base64
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract import promises
from hotbank import operate
from hotbank.boards_qemu import Wanted, arm64
from hotbank.boards_qemu.gpio import GpioSwitch, line_is_high
from hotbank.boards_qemu.parts import bank_module
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code, KernelError, MachineError
from hotbank.memory import MIB, KernelState, Online, Power, Zone
from hotbank.operate import Event, Outcome
from kernel.kernel_kit import LIMITS, Holder, complaints, guest, guest_memory, headers_of, intact, lean, span_of
from patience import HANG

pytestmark = pytest.mark.kernel

BOARD = str(Path(__file__).with_name("pair.toml"))
INTRUDER = Path(__file__).with_name("intruder")
BANKS = ("high", "top")  # one domain, one line
LINE = 0
SUPPLY = "/sys/class/hotbank/{}/supply"
VERBS = {"remove": operate.remove, "add": operate.add}


@pytest.fixture(scope="module")
def machine() -> Iterator[QemuMachine]:
    """A guest whose driver added both banks by itself, online and Movable, and holds their supply."""
    wanted = Wanted(BOARD, cmdline="memhp_default_state=online_movable", default_on=BANKS)
    with guest(lean(wanted, cpus=2)) as booted:
        yield booted
        assert complaints(booted) == []


@dataclass(frozen=True)
class Look:
    """What is there at one moment: blocks of the banks, whether the line is high, bytes of content."""

    blocks: int
    high: bool
    content: int


def looked(machine: QemuMachine) -> Look:
    """A look while nothing changes."""
    seen = [b for bank in machine.snapshot().banks if bank.name in BANKS for b in bank.blocks]
    return Look(len(seen), is_high(machine), content(machine))


def is_high(machine: QemuMachine) -> bool:
    """The line, read by QEMU's monitor behind the guest's back."""
    return line_is_high(machine.qemu.qmp, LINE)


def content(machine: QemuMachine) -> int:
    """Bytes that the banks' files have on this host."""
    return sum(machine.files[bank].resident for bank in BANKS)


def done(machine: QemuMachine, verb: str, bank: str, looks: list[Look] | None = None) -> Outcome:
    """Carry out the verb; with ``looks``, hold it before and after every step to look."""

    def look(event: Event) -> None:
        if looks is not None and event.event in ("step", "progress"):
            looks.append(looked(machine))

    return VERBS[verb](machine, bank, limits=LIMITS, on_event=look)


@contextmanager
def sampled(machine: QemuMachine) -> Iterator[list[Look]]:
    """Looks at content and line as they come, from a thread of their own; it does not look for blocks."""
    samples, over = list[Look](), threading.Event()

    def sample() -> None:
        while not over.is_set():
            there = content(machine)  # first: a line that is where it should not be now, was there then as well
            samples.append(Look(0, is_high(machine), there))
            time.sleep(0.002)  # QEMU answers between two turns of the guest

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        time.sleep(0.05)
        over.set()
        thread.join()


def blocks_in_the_dark(looks: list[Look]) -> list[Look]:
    """Looks at memory without power."""
    return [look for look in looks if look.blocks and not (look.high and look.content)]


def emptied_too_early(looks: list[Look]) -> list[Look]:
    """Looks at content that had gone while its line was still high."""
    return [look for look in looks if look.high and look.content < looks[0].content]


def filled_too_early(looks: list[Look]) -> list[Look]:
    """Looks at content that came before its line was high."""
    return [look for look in looks if not look.high and look.content > looks[0].content]


def bring_in(machine: QemuMachine) -> None:
    """Both banks are in the kernel."""
    for bank in BANKS:
        assert done(machine, "add", bank).exit == 0


def take_out(machine: QemuMachine) -> None:
    """Both banks are out of the kernel, and dark."""
    for bank in BANKS:
        assert done(machine, "remove", bank).exit == 0


def test_banks_that_are_on_from_the_start_and_in_use_keep_their_supply(machine: QemuMachine) -> None:
    for bank in BANKS:
        status = machine.snapshot().bank(bank)
        assert status is not None
        assert (status.kernel, status.zone, status.power) == (KernelState.ONLINE, Zone.MOVABLE, Power.ON)
        with pytest.raises(MachineError):
            machine.runner.run(f"echo off > {SUPPLY.format(bank)}")
        assert machine.runner.run(f"cat {SUPPLY.format(bank)}") == "on\n"
    promises.power_stays_under_memory(machine, "ddr-high")
    promises.power_stays_under_memory(machine._changes.machine(), "ddr-high")  # the guest by itself
    assert looked(machine).high
    assert machine.power("ddr-high") is Power.ON


def test_banks_that_leave_together_are_behind_one_fence(machine: QemuMachine) -> None:
    """When a block of the one leaves, the other is held as well, empty; when it comes back, all is as it was."""
    size = machine.board.block_size
    first, second = (span_of(machine, name).start // size for name in BANKS)
    before = guest_memory(machine)["MemTotal"]
    with Holder(machine, anon=70, shared=40) as holder:
        machine.offline(first, machine.clock.now() + HANG, fence=(second,))
        assert before - guest_memory(machine)["MemTotal"] == 2 * size
        assert sum(sum(holder.where(span_of(machine, name)).values()) for name in BANKS) == 0
        machine.online(first, Online.MOVABLE)
        assert guest_memory(machine)["MemTotal"] == before
        assert intact(holder.damage())


def test_what_every_machine_promises(machine: QemuMachine) -> None:
    bring_in(machine)
    promises.unknown_names_have_one_refusal(machine)
    promises.unknown_blocks_have_one_refusal(machine)
    promises.a_reading_answers(machine)
    promises.time_goes_forward(machine)
    promises.the_doctor_reads_the_machines_own_files(machine)
    (block,) = promises.bank_of(machine, "high").blocks
    promises.a_survey_counts_every_page(machine, [block])
    promises.a_block_goes_offline_and_comes_back(machine, block)
    promises.a_bank_leaves_and_comes_back(machine, "high")


def test_the_line_falls_after_the_last_block_and_rises_before_the_first(machine: QemuMachine) -> None:
    """The first bank leaves the supply on; with the last one it goes, and the content after it."""
    bring_in(machine)
    looks = list[Look]()
    first = done(machine, "remove", "top", looks)
    assert (first.code, first.power, is_high(machine)) == (Code.DOMAIN_IN_USE, Power.ON, True)
    with sampled(machine) as falling:
        last = done(machine, "remove", "high", looks)
    assert (last.code, last.power, looked(machine)) == (Code.OK, Power.OFF, Look(0, False, 0))
    assert blocks_in_the_dark(looks) == []
    assert emptied_too_early(falling) == []
    with sampled(machine) as rising:
        back = done(machine, "add", "high", looks)
    assert (back.code, back.power, looked(machine)) == (Code.OK, Power.ON, Look(1, True, 256 * MIB))
    assert done(machine, "add", "top", looks).exit == 0
    assert blocks_in_the_dark(looks) == []
    assert filled_too_early(rising) == []
    assert min(len(falling), len(rising)) > 20


def test_a_wrong_order_is_seen(machine: QemuMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchers themselves, on content that goes and comes before the supply, and on a block in the dark."""
    bring_in(machine)
    right = GpioSwitch.turn

    def hasty(switch: GpioSwitch, want: Power) -> None:
        switch._files.turn(want)
        right(switch, want)

    monkeypatch.setattr(GpioSwitch, "turn", hasty)
    assert done(machine, "remove", "top").exit == 0
    with sampled(machine) as falling:
        done(machine, "remove", "high")
    with sampled(machine) as rising:
        done(machine, "add", "high")
    assert emptied_too_early(falling)
    assert filled_too_early(rising)
    assert blocks_in_the_dark([Look(1, False, MIB)])
    assert blocks_in_the_dark([Look(1, True, 0)])


@contextmanager
def liar(machine: QemuMachine, says: str) -> Iterator[None]:
    """Files that take every word and say it, in place of those of the driver, which hears nothing."""
    for bank in BANKS:
        fake = f"/run/{bank}.supply"
        machine.runner.run(f"echo {says} > {fake}; mount --bind {fake} $(realpath {SUPPLY.format(bank)})")
    try:
        yield
    finally:
        for bank in BANKS:
            machine.runner.run(f"umount $(realpath {SUPPLY.format(bank)})")


def test_a_driver_that_says_off_and_leaves_the_line_high_is_not_believed(machine: QemuMachine) -> None:
    bring_in(machine)
    assert done(machine, "remove", "top").exit == 0
    with Holder(machine, anon=40) as holder, liar(machine, "on"):
        outcome = done(machine, "remove", "high")
        assert (outcome.code, outcome.exit) == (Code.SWITCH_FAILED, 1), outcome
        assert "line 0 is high" in outcome.fact
        assert (outcome.kernel, outcome.power) == (KernelState.ONLINE, Power.ON)
        assert looked(machine).content > 0
        assert intact(holder.damage())


def test_a_driver_that_says_on_and_leaves_the_line_low_is_not_believed(machine: QemuMachine) -> None:
    bring_in(machine)
    take_out(machine)
    with liar(machine, "on"):
        assert machine.snapshot().domains[0].power is Power.UNKNOWN
        outcome = done(machine, "add", "high")
        assert (outcome.code, outcome.exit, outcome.kernel) == (Code.SWITCH_FAILED, 1, KernelState.ABSENT), outcome
        assert "line 0 is low" in outcome.fact
        assert looked(machine) == Look(0, False, 0)
    assert machine.power("ddr-high") is Power.OFF


def test_a_supply_that_somebody_else_holds_is_released_and_not_off(machine: QemuMachine) -> None:
    bring_in(machine)
    assert done(machine, "remove", "top").exit == 0
    machine.runner.run(f"echo off > {SUPPLY.format('top')}")  # high still needs the rail
    assert machine.runner.run(f"cat {SUPPLY.format('top')}") == "released\n"
    assert machine.power("ddr-high") is Power.UNKNOWN
    with pytest.raises(KernelError, match="ENXIO"):
        machine.add("top")
    assert done(machine, "add", "top").exit == 0  # unknown power: on, and asked again
    assert machine.power("ddr-high") is Power.ON


def test_content_is_lost_with_the_line_whoever_lets_it_fall(machine: QemuMachine) -> None:
    bring_in(machine)
    take_out(machine)
    machine.set_power("ddr-high", Power.ON)
    old = machine.files["high"].path.read_bytes()[:MIB]
    for bank in BANKS:
        machine.runner.run(f"echo off > {SUPPLY.format(bank)}")
    assert (machine.power("ddr-high"), is_high(machine)) == (Power.UNKNOWN, False)
    machine.set_power("ddr-high", Power.ON)
    assert machine.power("ddr-high") is Power.ON
    assert machine.files["high"].path.read_bytes()[:MIB] != old


def test_a_board_without_an_emulator_switches_its_supply(machine: QemuMachine) -> None:
    """The guest's own kernel as `-m host` sees it there: nothing beside the driver says what the power is."""
    bring_in(machine)
    board = machine._changes.machine()
    codes = [operate.remove(board, bank, limits=LIMITS).code for bank in BANKS]
    assert (codes, board.power("ddr-high"), is_high(machine)) == ([Code.DOMAIN_IN_USE, Code.OK], Power.OFF, False)
    back = operate.add(board, "high", limits=LIMITS)
    assert (back.code, back.power, is_high(machine)) == (Code.OK, Power.ON, True)


@contextmanager
def intruder(machine: QemuMachine, folder: Path, bank: str) -> Iterator[str]:
    """The state file of a block of memory that came into the bank's range by nobody whom its driver knows."""
    work = Path(shutil.copytree(INTRUDER, folder / "work"))
    subprocess.run(bank_module.building(work, headers_of(machine), arm64.NAMES), check=True, capture_output=True)
    subprocess.run([f"{arm64.NAMES.prefix}strip", "-g", str(work / "intruder.ko")], check=True)
    module = base64.encodebytes((work / "intruder.ko").read_bytes()).decode()
    machine.runner.run(f"base64 -d > /run/intruder.ko <<'E'\n{module}E")
    start = next(b.range.start for b in machine.board.banks if b.name == bank)
    machine.runner.run(f"insmod /run/intruder.ko start={start}")
    try:
        yield f"/sys/devices/system/memory/memory{start // machine.snapshot().block_size}/state"
    finally:
        machine.runner.run("rmmod intruder")


def test_no_memory_is_online_without_a_supply_whoever_brought_it(machine: QemuMachine, tmp_path: Path) -> None:
    """The policy puts each block online as it comes; nobody asks hotbank."""
    bring_in(machine)
    take_out(machine)
    supply = SUPPLY.format("high")
    with intruder(machine, tmp_path, "high") as state:
        assert machine.runner.run(f"cat {state}; cat {supply}") == "offline\noff\n"
        with pytest.raises(MachineError, match="not permitted"):
            machine.runner.run(f"echo online_movable > {state}")
        assert not is_high(machine)
        machine.runner.run(f"echo on > {supply}; echo online_movable > {state}")
        with pytest.raises(MachineError, match="busy"):
            machine.runner.run(f"echo off > {supply}")
        machine.runner.run(f"echo offline > {state}")
        with pytest.raises(MachineError, match="busy"):  # it may come back at any time
            machine.runner.run(f"echo off > {supply}")
    machine.runner.run(f"echo off > {supply}")
    assert not is_high(machine)
