# SPDX-License-Identifier: Apache-2.0
"""What real kernels answered, row by row, and what the model answers: errno, state and ``valid_zones`` of the block.

Rows are facts noted down from Debian's arm64 kernels 6.1, 6.12 and 7.3 in QEMU, under the name they have there. Where a
note gives an errno and no more, the zones afterwards follow from the measured rule for memory beyond the end. Three
rows are not measured there: what a second operation gets from the same thread (a kernel would let it wait), and the two
of our 32-bit port.
Breaches are planted in the model, and each must change the answer of a row.
Every block of 26 captured boots is compared in test_boot.py, the auto-movable sequences in test_zoning.py.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from hotbank import board
from hotbank.errors import EHWPOISON, KernelError
from hotbank.memory import BlockState, Kind, Online
from hotbank.model import Model
from hotbank.model.hotplug import GOING_ONLINE, MemoryHotplug
from hotbank.model.migrate import Migration
from hotbank.model.zoning import MemoryBlock, Zoning
from model.small_boards import FOREVER, HIGH, LOW, small_model

BOARD = """
name = "virt"
arch = "arm64"
block_size = "128M"
[bank.low]
start = 0x40000000
size = "512M"
[bank.hole]
start = 0x60000000
size = "128M"
at_boot = false
route = "kmem"
[bank.upper]
start = 0x68000000
size = "128M"
[bank.end]
start = 0x70000000
size = "256M"
at_boot = false
movable = true
route = "ROUTE"
"""
HOLE, END = 12, (14, 15)
ONLINE, OFFLINE, GOING = BlockState.ONLINE, BlockState.OFFLINE, BlockState.GOING_OFFLINE
MOVABLE, NORMAL, DMA, EITHER = ("Movable",), ("Normal",), ("DMA",), ("Normal", "Movable")


@dataclass(frozen=True)
class Answer:
    """``errno`` 0 for success; the block's state and zones afterwards; ``more``: what else the fact says."""

    errno: int
    state: BlockState | None
    zones: tuple[str, ...]
    more: object = None


def arm64(cmdline: str = "cma=0", kernel: str = "6.12", route: str = "kmem") -> Model:
    return Model.boot(board.loads(BOARD.replace("ROUTE", route)), cmdline=cmdline, kernel=kernel)


def with_bank(how: Online = Online.MOVABLE, route: str = "kmem") -> Model:
    model = arm64(route=route)
    model.add("end")
    for number in END:
        model.online(number, how)
    return model


def answer(model: Model, number: int, call: Callable[[], object], more: Callable[[], object] = lambda: None) -> Answer:
    try:
        call()
        error = 0
    except KernelError as e:
        error = e.errno
    block = model.snapshot().block(number)
    if block is None:
        return Answer(error, None, (), more())
    return Answer(error, block.state, block.valid_zones, more())


def offline(model: Model, number: int, seconds: float = FOREVER, more: Callable[[], object] = lambda: None) -> Answer:
    return answer(model, number, lambda: model.offline(number, model.clock.now() + seconds), more)


def online(model: Model, number: int, how: Online) -> Answer:
    return answer(model, number, lambda: model.online(number, how))


# The rows


def offline_twice() -> Answer:
    model = with_bank()
    model.offline(END[0], FOREVER)
    return offline(model, END[0])


def online_twice() -> Answer:
    return online(with_bank(), END[0], Online.MOVABLE)


def online_kernel_over_movable() -> Answer:
    return online(with_bank(), END[0], Online.KERNEL)


def spanning_zones() -> Answer:
    """movablecore= starts Movable at the buddy's largest block, inside a memory block."""
    model = Model.boot(board.loads(BOARD.replace("ROUTE", "driver")), cmdline="cma=0 movablecore=200M")
    number = next(b.number for b in model.snapshot().blocks if b.valid_zones == ("none",))
    return offline(model, number)


def unmovable_page() -> Answer:
    model = with_bank(Online.KERNEL)
    model.kernel_alloc("driver", model.free() - 40_000)
    number = next(n for n in END if model.survey(n).kinds.get(Kind.KERNEL))
    return offline(model, number)


def boot_memory() -> Answer:
    model = arm64()
    number = next(n for n in (8, 9, 10, 11, 13) if not model.survey(n).blocked)
    return offline(model, number)


def boot_memory_with_an_unmovable_page() -> Answer:
    return offline(arm64(), 8)


def notifier() -> Answer:
    model = with_bank()
    model.hotplug.notifiers.append(lambda _action, _number: errno.ENOMEM)
    return offline(model, END[0])


def pinned() -> Answer:
    model = with_bank()
    pid = model.spawn("vmsplicer", anon_pages=1000)
    number = next(n for n in END if model.place(pid, n))
    model.pin(pid, model.place(pid, number)[0])
    fails = model.hotplug.migration.fail
    return offline(model, number, 60.0, lambda: model.hotplug.migration.fail - fails > 1000)


def no_room() -> Answer:
    model = with_bank()
    model.fill_until(sum(zone.low for zone in model.allocator.zones) + 500)
    before = model.clock.now()
    return offline(model, END[0], 60.0, lambda: model.clock.now() - before >= 60)


def signal() -> Answer:
    model = with_bank()
    model.spawn("app", anon_pages=20_000)
    number = max(END, key=lambda n: model.survey(n).to_move)
    model.clock.call_later(0.02, lambda: model.interrupt(number, FOREVER))
    return answer(model, number, lambda: model.offline(number, FOREVER), lambda: model.clock.now() < 5)


def stalled_writeback() -> Answer:
    model = with_bank()
    model.write_file("log", 100)
    model.stall_writeback("log")
    frame = model.contents.frame(next(iter(model.contents.writeback)))
    number = model.geometry.block(frame)
    return offline(model, number, 40.0, lambda: model.snapshot().pending == number)


def online_veto() -> Answer:
    model = with_bank()
    model.offline(END[0], FOREVER)
    model.hotplug.notifiers.append(lambda action, _number: errno.EAGAIN if action == GOING_ONLINE else 0)
    return online(model, END[0], Online.MOVABLE)


def poisoned_model() -> tuple[Model, int]:
    model = with_bank()
    pid = model.spawn("victim", anon_pages=100)
    number = next(n for n in END if model.place(pid, n))
    model.poison(pid, model.place(pid, number)[0])
    model.offline(number, FOREVER)
    return model, number


def poisoned() -> Answer:
    model, number = poisoned_model()
    return online(model, number, Online.MOVABLE)


def poison_is_forgotten() -> Answer:
    model, number = poisoned_model()
    for other in set(END) - {number}:
        model.offline(other, FOREVER)
    model.remove("end")
    model.add("end")
    return online(model, number, Online.MOVABLE)


def page_cache() -> Answer:
    model = with_bank()
    model.read_file("clean", 3000)
    return offline(model, END[0], more=lambda: model.tasks.cached("clean"))


def registered() -> Answer:
    model = with_bank()
    pid = model.spawn("io_uring", anon_pages=100)
    for page in range(100):
        model.register(pid, page)
    return offline(model, END[0], more=lambda: [len(model.place(pid, number)) for number in END[1:]])


def beyond_the_end() -> Answer:
    model = arm64()
    return answer(model, END[0], lambda: model.add("end"))


def inside_dma() -> Answer:
    model = arm64()
    return answer(model, HOLE, lambda: model.add("hole"))


def inside_dma_online() -> Answer:
    model = arm64()
    model.add("hole")
    return online(model, HOLE, Online.ONLINE)


def next_to_nothing_movable() -> Answer:
    model = arm64()
    model.add("end")
    return online(model, END[0], Online.ONLINE)


def kernel_pages_follow() -> Answer:
    model = arm64()
    model.add("end")
    model.online(END[0], Online.ONLINE)
    model.kernel_alloc("driver", 2000)
    return offline(model, END[0])


def kmem_is_stuck() -> Answer:
    model = with_bank(route="kmem")
    first = answer(model, END[0], lambda: model.remove("end"))
    again = answer(model, END[0], lambda: model.add("end"))
    return Answer(first.errno, again.state, again.zones, again.errno)


def memmap_cost() -> Answer:
    """Adding 1 GiB costs 16 MiB: 64 bytes a page."""
    model = arm64()
    free = model.free()
    return answer(model, END[0], lambda: model.add("end"), lambda: (free - model.free()) * 4096 * 4 >> 20)


def auto_online(kernel: str) -> Callable[[], Answer]:
    def run() -> Answer:
        model = arm64(kernel=kernel)
        return answer(model, END[0], lambda: model.add("end"))

    return run


def one_at_a_time() -> Answer:
    model = with_bank()
    model.fill_until(sum(zone.low for zone in model.allocator.zones) + 500)
    other: list[int] = []
    model.clock.call_later(1.0, lambda: other.append(online(model, END[1], Online.MOVABLE).errno))
    return offline(model, END[0], 5.0, lambda: other)


def boot_memory_leaves_on_the_port() -> Answer:
    model = small_model()
    model.spawn("app", anon_pages=500)
    return offline(model, HIGH[0])


def kernel_zone_of_the_port() -> Answer:
    return offline(small_model(), LOW[0])


ROWS: dict[str, tuple[Callable[[], Answer], Answer]] = {
    "`state` gets the state it is in: offline": (offline_twice, Answer(errno.EINVAL, OFFLINE, EITHER)),
    "`state` gets the state it is in: online": (online_twice, Answer(errno.EINVAL, ONLINE, MOVABLE)),
    "`online_kernel` on a block that is online movable": (
        online_kernel_over_movable,
        Answer(errno.EINVAL, ONLINE, MOVABLE),
    ),
    "offline, block spans zones": (spanning_zones, Answer(errno.EINVAL, ONLINE, ("none",))),
    "offline, an unmovable page is in it": (unmovable_page, Answer(errno.EBUSY, ONLINE, NORMAL)),
    "offline, arm64 boot memory": (boot_memory, Answer(errno.EPERM, ONLINE, DMA)),
    "isolation comes first: EBUSY before EPERM": (
        boot_memory_with_an_unmovable_page,
        Answer(errno.EBUSY, ONLINE, DMA),
    ),
    "offline, notifier returns -E": (notifier, Answer(errno.ENOMEM, ONLINE, MOVABLE)),
    "offline, page pinned for long: never; pgmigrate_fail climbs": (pinned, Answer(errno.EINTR, ONLINE, MOVABLE, True)),
    "offline, destination has no room: never": (no_room, Answer(errno.EINTR, ONLINE, MOVABLE, True)),
    "offline, any signal pending": (signal, Answer(errno.EINTR, ONLINE, MOVABLE, True)),
    "cancelled under throttled writeback: going-offline": (
        stalled_writeback,
        Answer(errno.EINTR, GOING, MOVABLE, True),
    ),
    "online, notifier veto": (online_veto, Answer(errno.EAGAIN, OFFLINE, EITHER)),
    "online, block holds poisoned pages": (poisoned, Answer(EHWPOISON, OFFLINE, EITHER)),
    "after remove and add the bad page is back": (poison_is_forgotten, Answer(0, ONLINE, MOVABLE)),
    "clean page cache is migrated, not dropped": (page_cache, Answer(0, OFFLINE, EITHER, 3000)),
    "io_uring registered buffers are out of Movable": (registered, Answer(0, OFFLINE, EITHER, [0])),
    "valid_zones beyond the end": (beyond_the_end, Answer(0, OFFLINE, EITHER)),
    "valid_zones in a hole of zone DMA": (inside_dma, Answer(0, OFFLINE, ("DMA", "Movable"))),
    "plain `online` in a hole of zone DMA": (inside_dma_online, Answer(0, ONLINE, DMA)),
    "plain `online` next to nothing movable": (next_to_nothing_movable, Answer(0, ONLINE, NORMAL)),
    "and is EBUSY once kernel pages are in it": (kernel_pages_follow, Answer(errno.EBUSY, ONLINE, NORMAL)),
    "kmem unbinds over an online block; a later bind is EBUSY": (
        kmem_is_stuck,
        Answer(errno.EBUSY, ONLINE, MOVABLE, errno.EBUSY),
    ),
    "adding 1 GiB costs 16 MiB": (memmap_cost, Answer(0, OFFLINE, EITHER, 16)),
    "auto_online_blocks of 6.1": (auto_online("6.1"), Answer(0, OFFLINE, EITHER)),
    "auto_online_blocks of 6.12": (auto_online("6.12"), Answer(0, OFFLINE, EITHER)),
    "auto_online_blocks of 7.3": (auto_online("7.3"), Answer(0, ONLINE, NORMAL)),
    "one hotplug operation at a time": (one_at_a_time, Answer(errno.EINTR, ONLINE, MOVABLE, [errno.EBUSY])),
    "our port: boot memory leaves": (boot_memory_leaves_on_the_port, Answer(0, OFFLINE, MOVABLE + NORMAL)),
    "our port: the kernel's own block": (kernel_zone_of_the_port, Answer(errno.EBUSY, ONLINE, NORMAL)),
}


@pytest.mark.parametrize("fact", ROWS)
def test_the_model_answers_as_kernels_did(fact: str) -> None:
    run, expected = ROWS[fact]
    assert run() == expected


# Planted breaches

Patch = pytest.MonkeyPatch


def wrong_errno(patch: Patch) -> None:
    patch.setattr(MemoryHotplug, "_veto_boot_memory", lambda self, action, number: errno.EBUSY)


def swapped_zone(patch: Patch) -> None:
    right = Zoning.zone

    def wrong(self: Zoning, block: MemoryBlock, how: Online) -> Any:
        other = {Online.MOVABLE: Online.KERNEL, Online.KERNEL: Online.MOVABLE}
        return right(self, block, other.get(how, how))

    patch.setattr(Zoning, "zone", wrong)


def isolation_after_notifiers(patch: Patch) -> None:
    isolate = MemoryHotplug._isolate

    def late(self: MemoryHotplug, block: MemoryBlock, start: int, end: int, what: str) -> None:
        self._notify("going-offline", block.number, what)
        isolate(self, block, start, end, what)

    patch.setattr(MemoryHotplug, "_isolate", late)


def unmovable_pages_overlooked(patch: Patch) -> None:
    def none(self: MemoryHotplug, block: MemoryBlock, start: int, end: int) -> None:
        return None

    patch.setattr(MemoryHotplug, "_first_unmovable", none)


def cache_dropped(patch: Patch) -> None:
    migrate = Migration.migrate

    def drop(self: Migration, sources: Any, gfp: Any) -> Any:
        self._allocator.relief.reclaim(frozenset(zone.number for zone in self._allocator.zones), 500)
        return migrate(self, sources, gfp)

    patch.setattr(Migration, "migrate", drop)


def pins_ignored(patch: Patch) -> None:
    migrate = Migration.migrate

    def blind(self: Migration, sources: Any, gfp: Any) -> Any:
        pins, self._contents.pins = self._contents.pins, {}
        try:
            return migrate(self, sources, gfp)
        finally:
            self._contents.pins = pins

    patch.setattr(Migration, "migrate", blind)


def poison_forgotten_at_once(patch: Patch) -> None:
    notify = MemoryHotplug._complete_offline

    def clean(self: MemoryHotplug, block: MemoryBlock) -> None:
        notify(self, block)
        block.poisoned.clear()

    patch.setattr(MemoryHotplug, "_complete_offline", clean)


def free_memmap(patch: Patch) -> None:
    patch.setattr(MemoryHotplug, "memmap_pages", 0)


BREACHES: dict[Callable[[Patch], None], str] = {
    wrong_errno: "offline, arm64 boot memory",
    swapped_zone: "`online_kernel` on a block that is online movable",
    isolation_after_notifiers: "isolation comes first: EBUSY before EPERM",
    unmovable_pages_overlooked: "isolation comes first: EBUSY before EPERM",
    cache_dropped: "clean page cache is migrated, not dropped",
    pins_ignored: "offline, page pinned for long: never; pgmigrate_fail climbs",
    poison_forgotten_at_once: "online, block holds poisoned pages",
    free_memmap: "adding 1 GiB costs 16 MiB",
}


@pytest.mark.parametrize("breach", BREACHES)
def test_the_table_catches(breach: Callable[[Patch], None], monkeypatch: Patch) -> None:
    run, expected = ROWS[BREACHES[breach]]
    breach(monkeypatch)
    assert run() != expected
