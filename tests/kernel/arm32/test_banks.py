# SPDX-License-Identifier: Apache-2.0
"""A bank of a 32-bit ARM board leaves, goes dark and returns: in lowmem, where the kernel maps it, and in highmem."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotbank import operate
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code
from hotbank.machine import ZoneInfo
from hotbank.memory import KIB, MIB, KernelState, Power, Zone
from hotbank.model import Model
from hotbank.operate import Action, MemoryJournal
from kernel.arm32_guests import TAKEN, booted, complaints
from kernel.kernel_kit import HOLDER, Holder, add, guest_memory, intact, remove, span_of
from patience import promised

pytestmark = pytest.mark.kernel

READER = Path(__file__).with_name("guest_reader.py")
CYCLES = 20
# The lowmem bank is the upper half of the board of 2009; the highmem bank the last quarter of 1 GiB.
BOARDS = {"lowmem": "arm-2009", "highmem": "virt-arm32"}


@pytest.fixture(scope="module", params=BOARDS)
def machine(request: pytest.FixtureRequest) -> Iterator[QemuMachine]:
    """The board with 2 CPUs, its bank online and Movable since boot; in the end the kernel has nothing to say."""
    files = {"opt/holder.py": HOLDER.read_text(encoding="utf-8"), "opt/reader.py": READER.read_text(encoding="utf-8")}
    with booted(BOARDS[request.param], files=files, cpus=2) as guest:
        assert guest.runner.run("nproc").strip() == "2"
        yield guest
        assert complaints(guest) == []


def test_the_model_of_the_board_is_the_board(machine: QemuMachine) -> None:
    """Zones, blocks and what each may become, banks, power: as the kernel has them after boot."""
    real, model = machine.snapshot(), Model.boot(machine.board).snapshot()
    assert model.boot_memory_leaves is real.boot_memory_leaves is True
    assert (model.arch, model.page_size, model.block_size) == (real.arch, real.page_size, real.block_size)
    assert [zone_span(zone) for zone in model.zones] == [zone_span(zone) for zone in real.zones]
    assert [(b.number, b.range, b.state, b.valid_zones) for b in model.blocks] == [
        (b.number, b.range, b.state, b.valid_zones) for b in real.blocks
    ]
    assert [(b.name, b.kernel, b.power, b.movable) for b in model.banks] == [
        (b.name, b.kernel, b.power, b.movable) for b in real.banks
    ]


def test_data_survives_a_bank_that_leaves_and_returns(machine: QemuMachine) -> None:
    """160 MiB are carried out of the bank; it is dark, untouched, and takes data again."""
    span = span_of(machine)
    held = 160 - TAKEN
    with Holder(machine, anon=60, shared=50, tmpfs=held - 110) as holder:
        assert sum(holder.where(span).values()) > 0.9 * held * MIB / 4096
        outcome = remove(machine)
        assert (outcome.code, outcome.kernel, outcome.power) == (Code.OK, KernelState.ABSENT, Power.OFF), outcome
        assert is_gone(machine)
        assert sum(holder.where(span).values()) == 0
        assert intact(holder.damage())
        assert machine.files["high"].resident == 0
        assert add(machine).exit == 0
        status = machine.snapshot().bank("high")
        assert status is not None
        assert (status.kernel, status.zone, status.power) == (KernelState.ONLINE, Zone.MOVABLE, Power.ON)
        assert intact(holder.damage())
    with Holder(machine, anon=100, shared=60) as holder:
        assert sum(holder.where(span).values()) > 100 * 256
        assert intact(holder.rewrite())


def test_twenty_cycles_lose_nothing(machine: QemuMachine) -> None:
    """While processes come and go on both CPUs, each looking at the bank through the linear mapping."""
    page = span_of(machine).start // 4096 + 5
    look = f"dd if=/dev/mem of=/dev/null bs=4096 skip={page} count=1 2>/dev/null; usleep 200000"
    free = []
    with Holder(machine, anon=8, shared=8, tmpfs=8) as holder:
        loop = f"nice -n 10 sh -c 'while :; do {look}; done'"
        looking = [machine.runner.start(f"taskset {1 << cpu:x} {loop}") for cpu in (0, 1)]
        for _ in range(CYCLES):
            assert remove(machine).exit == 0
            assert add(machine).exit == 0
            free.append(settled_free(machine))
        for job in looking:
            job.kill()
        assert intact(holder.damage())
    assert max(free) - min(free) <= 0.01 * max(free), free


def test_the_linear_mapping_of_a_dark_bank_is_gone_in_every_process(machine: QemuMachine) -> None:
    """Also in those forked before, on each CPU; and it is there again when the bank is."""
    span = span_of(machine)
    early = {"0", "1", "fresh"}
    with reading(machine) as see:
        if machine.board.name == "arm-2009":
            assert set(see(span.start + 8 * MIB)) == early
            assert not any(word.startswith("E") for word in see(span.start + 8 * MIB).values())
        assert remove(machine).exit == 0
        for address in (span.start, span.start + 8 * MIB, span.end - 4):
            assert see(address) == dict.fromkeys(early, "EFAULT")
        assert machine.power("ddr-high") is Power.OFF  # untouched
        below = see(span.start - 4)
        assert not any(word.startswith("E") for word in below.values()), below
        assert add(machine).exit == 0
        if machine.board.name == "arm-2009":
            assert not any(word.startswith("E") for word in see(span.end - 4).values())


def test_the_memory_map_of_a_bank_is_given_back(machine: QemuMachine) -> None:
    """32 bytes of struct page for each page that left, also for those that memblock allocated at boot."""
    add(machine)
    there = guest_memory(machine)
    assert remove(machine).exit == 0
    gone = guest_memory(machine)
    size = span_of(machine).size
    assert there["MemTotal"] - gone["MemTotal"] == size
    if machine.board.name == "virt-arm32":
        assert (there["HighTotal"], gone["HighTotal"]) == (size, 0)
    assert add(machine).exit == 0
    back = guest_memory(machine)
    assert back["MemTotal"] == there["MemTotal"]
    assert back["HighTotal"] == there["HighTotal"]


def test_a_pinned_page_is_named_and_holds_the_bank(machine: QemuMachine) -> None:
    """Its reference count comes from the bank driver: 32-bit ARM has no /proc/kcore."""
    with Holder(machine, pinned=2) as holder:
        assert holder.where(span_of(machine))["pinned"] == 2 * MIB / 4096
        verdict = operate.explain(machine, "high")
        assert verdict.code is Code.PINNED
        assert verdict.unknown == ()
        refused(machine, remove(machine), Code.PINNED)
        journal = MemoryJournal()
        begun = journal.now()
        limits = operate.Limits(total=12.0, block=6.0)
        refused(machine, operate.remove(machine, "high", force=True, journal=journal, limits=limits), Code.DEADLINE)
        offlines = [row for row in journal.entries()[-1].rows if row.step == Action.OFFLINE]
        assert offlines
        late = 12.0 + promised(1)  # not what is put back
        assert all(row.ended is not None and row.ended - begun < late for row in offlines)
    assert operate.explain(machine, "high").code is Code.OK
    assert remove(machine).exit == 0
    assert add(machine).exit == 0


def test_without_room_nothing_is_tried(machine: QemuMachine) -> None:
    """And nobody is killed for it."""
    size = guest_memory(machine)["MemAvailable"] // MIB - 100
    with Holder(machine, anon=size) as holder:
        assert intact(holder.damage())
        assert operate.explain(machine, "high").code is Code.NO_CAPACITY
        refused(machine, remove(machine), Code.NO_CAPACITY)
        assert intact(holder.damage())


def refused(machine: QemuMachine, outcome: operate.Outcome, code: Code) -> None:
    """The bank is as it was: every block online and Movable, power on."""
    assert (outcome.code, outcome.exit) == (code, 1), outcome
    status = machine.snapshot().bank("high")
    assert status is not None
    assert (status.kernel, status.zone, status.power) == (KernelState.ONLINE, Zone.MOVABLE, Power.ON)


def zone_span(zone: ZoneInfo) -> tuple[int, str, int, int, int]:
    """Where a zone lies, and how much of it is there."""
    return zone.node, zone.zone, zone.start_pfn, zone.spanned, zone.present


@contextmanager
def reading(machine: QemuMachine) -> Iterator[Callable[[int], dict[str, str]]]:
    """guest_reader.py in the guest: asked for an address, it says what each of its processes sees there."""
    machine.runner.run("mkdir -p /run/reader; mkfifo /run/reader/in /run/reader/out")
    job = machine.runner.start("exec python3 -S /opt/reader.py /run/reader")

    def see(address: int) -> dict[str, str]:
        talk = f"echo {address:x} > /run/reader/in; cat /run/reader/out"
        seen: dict[str, str] = json.loads(machine.runner.run(talk))
        return seen

    yield see
    job.kill()
    machine.runner.run("rm -r /run/reader")


def settled_free(machine: QemuMachine) -> int:
    """MemFree in bytes without caches, the most of a few looks: short-lived processes hold some."""
    machine.runner.run("echo 3 > /proc/sys/vm/drop_caches")
    looks = machine.runner.run("for i in 1 2 3 4; do grep MemFree /proc/meminfo; sleep 0.1; done")
    return max(int(line.split()[1]) for line in looks.splitlines()) * KIB


def is_gone(machine: QemuMachine) -> bool:
    """True if sysfs has no block of the bank, and /proc/iomem ends below it."""
    span, size = span_of(machine), machine.snapshot().block_size
    blocks = {f"memory{number}" for number in range(span.start // size, span.end // size)}
    there = set(machine.runner.run("ls /sys/devices/system/memory").split())
    return not blocks & there and f"-{span.start - 1:08x} : System RAM" in machine.runner.run("cat /proc/iomem")
