# SPDX-License-Identifier: Apache-2.0
"""Per-CPU lists, huge pages, compaction, balloons, memmap_on_memory, and a driver's own removal with its rollback."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from hotbank import board
from hotbank.errors import KernelError
from hotbank.load import Workload
from hotbank.memory import BlockState, KernelState, Kind, Online
from hotbank.model import Model
from hotbank.model.alloc import GFP_HIGHUSER_MOVABLE, OutOfMemoryError
from model.small_boards import FOREVER, HIGH, errno_of, small_model

ARM64 = """
name = "huge"
arch = "arm64"
block_size = "32M"
[bank.low]
start = 0x40000000
size = "256M"
[bank.high]
start = 0x50000000
size = "128M"
at_boot = false
movable = true
route = "ROUTE"
"""
ADDED = (40, 41, 42, 43)
HUGE = 512


def arm64(route: str = "driver", cmdline: str = "") -> Model:
    """A model with 256 MiB and a bank of four 32 MiB blocks that was added and is Movable."""
    model = Model.boot(board.loads(ARM64.replace("ROUTE", route)), cmdline=f"cma=0 {cmdline}")
    model.add("high")
    for number in ADDED:
        model.online(number, Online.MOVABLE)
    return model


def huge_in(model: Model, number: int) -> int:
    return model.survey(number).kinds.get(Kind.HUGETLB, 0) // HUGE


# Huge pages


def test_free_huge_pages_are_dissolved_and_the_pool_shrinks() -> None:
    """hazards.md, hugetlb: free huge pages inside the block are dissolved; the pool does not come back by itself."""
    model = arm64()
    assert model.set_huge_pages(40) == 40
    number = next(number for number in ADDED if huge_in(model, number))
    inside = huge_in(model, number)
    assert errno_of(model, number) == 0
    assert len(model.tasks.huge.pages) == 40 - inside
    model.validate()
    model.online(number, Online.MOVABLE)
    assert len(model.tasks.huge.pages) == 40 - inside
    model.validate()


def test_huge_pages_in_use_move_as_a_whole() -> None:
    model = arm64()
    model.set_huge_pages(40)
    model.use_huge_pages(40)
    number = next(number for number in ADDED if huge_in(model, number))
    inside = huge_in(model, number)
    before = [model.contents.token(handle) for page in model.tasks.huge.pages for handle in page.handles]
    moved = model.hotplug.migration.success
    assert errno_of(model, number) == 0
    assert model.hotplug.migration.success - moved == inside * HUGE > 0
    assert len(model.tasks.huge.pages) == 40
    assert [model.contents.token(handle) for page in model.tasks.huge.pages for handle in page.handles] == before
    assert model.check_contents() == ()
    model.validate()


def test_a_huge_page_prefers_a_free_one_of_the_pool() -> None:
    model = arm64()
    model.set_huge_pages(20)
    model.use_huge_pages(1)
    number = next(n for n in ADDED if any(_lies_in(model, page, n) for page in model.tasks.huge.pages if page.used))
    free_inside = sum(_lies_in(model, page, number) for page in model.tasks.huge.pages if not page.used)
    if free_inside == 19:
        pytest.fail("all of the pool is in one block: nothing to prefer")
    assert errno_of(model, number) == 0
    assert len(model.tasks.huge.pages) == 20 - free_inside - 1, "the one left behind is free, and dissolved"
    model.validate()


def _lies_in(model: Model, page: object, number: int) -> bool:
    start, end = model.geometry.frames(number)
    return start <= model.contents.frame(page.handles[0]) < end  # type: ignore[attr-defined]


def test_huge_pages_need_whole_pageblocks() -> None:
    model = arm64()
    assert model.set_huge_pages(10_000) < 384 // 2
    with pytest.raises(KernelError, match="ENOMEM"):
        model.use_huge_pages(10_000)
    model.set_huge_pages(0)
    assert model.tasks.huge.pages == []
    model.validate()
    with pytest.raises(KernelError, match="not supported"):
        small_model().set_huge_pages(1)


# Compaction


def scattered(model: Model) -> None:
    """Fill memory, then free three pages in four, so that whole pageblocks are free nowhere in Movable."""
    model.fill_until(model.snapshot().zones[0].min + 2000)
    (pid,) = model.tasks.processes
    model.tasks.shrink(pid, 2000)
    process = model.tasks.process(pid)
    gone = [handle for n, handle in enumerate(process.pages) if n % 4]
    process.pages = process.pages[::4]
    model.tasks._release(gone)
    model.tasks._unmap_tables(process)
    model.validate()


def largest(model: Model) -> Iterator[int]:
    for zone in model.allocator.zones:
        yield from (block.order for block in model.frames.free_blocks(zone.number) if zone.movable_only)


def test_scattered_pages_are_compacted_for_a_huge_page() -> None:
    model = arm64()
    scattered(model)
    assert max(largest(model)) < 9
    free, moved = model.free(), model.hotplug.migration.success
    assert model.set_huge_pages(8) == 8
    assert model.hotplug.migration.success > moved
    assert model.free() == free - 8 * HUGE
    model.validate()
    assert model.check_contents() == ()


def test_nothing_is_compacted_where_a_page_is_pinned() -> None:
    model = arm64()
    scattered(model)
    (pid,) = model.tasks.processes
    for vpage in range(model.tasks.process(pid).rss):
        model.pin(pid, vpage)
    fails = model.hotplug.migration.fail
    free_blocks = [b for zone in model.allocator.zones for b in model.frames.free_blocks(zone.number) if b.order >= 9]
    assert model.set_huge_pages(200) <= sum(1 << (block.order - 9) for block in free_blocks)
    assert model.hotplug.migration.fail > fails
    model.validate()


# Per-CPU lists


def test_per_cpu_lists_can_be_switched_on_and_off() -> None:
    model = small_model()
    off = model.free()
    model.set_per_cpu_lists(64)
    pid = model.spawn("app", anon_pages=1000)
    model.shrink(pid, 500)
    assert 0 < len(model.allocator.pcp) <= 64 * 3 * 2
    model.validate()
    assert model.free() + len(model.allocator.pcp) == off - 500 - len(model.tasks.process(pid).tables)
    model.set_per_cpu_lists(0)
    assert len(model.allocator.pcp) == 0
    model.exit(pid)
    assert model.free() == off
    model.validate()


def test_listed_pages_are_free_to_whom_sees_that_nobody_refers_to_them() -> None:
    model = small_model()
    model.set_per_cpu_lists(64)
    model.exit(model.spawn("app", anon_pages=100))
    seen = [model.survey(number) for number in HIGH]
    assert all(survey.blocked == 0 and not survey.kinds.get(Kind.UNKNOWN) for survey in seen)
    model.view.kcore = False
    assert sum(model.survey(number).kinds.get(Kind.UNKNOWN, 0) for number in HIGH) > 0


def test_lists_are_drained_before_a_block_leaves() -> None:
    model = small_model()
    model.set_per_cpu_lists(64)
    workload = Workload(model, 1, pages=3000).fill().start(0.005)
    for number in HIGH:
        assert errno_of(model, number) == 0
        model.validate()
    workload.stop()
    assert model.check_contents() == ()


def test_lists_are_drained_before_memory_is_said_to_be_out() -> None:
    model = small_model()
    model.set_per_cpu_lists(512)
    model.exit(model.spawn("app", anon_pages=900))
    listed = len(model.allocator.pcp)
    assert listed > 0
    gfp, room = GFP_HIGHUSER_MOVABLE, model.free() + listed
    with pytest.raises(OutOfMemoryError) as caught:
        model.allocator.alloc(gfp, Kind.ANON, room)
    assert len(caught.value.got) >= room - sum(zone.min for zone in model.allocator.zones)


# Balloons, memmap_on_memory, offline_and_remove


def test_a_balloon_moves_out_of_the_way() -> None:
    model = small_model()
    model.balloon(1500)
    assert sum(model.survey(number).kinds.get(Kind.BALLOON, 0) for number in HIGH) == 1500
    assert [errno_of(model, number) for number in HIGH] == [0, 0, 0, 0]
    assert sum(b.used or 0 for b in model.snapshot().blocks) > 1500
    free = model.free()
    model.balloon(0)
    assert model.free() == free + 1500
    model.validate()
    with pytest.raises(KernelError, match="ENOMEM"):
        model.balloon(1_000_000)
    assert model.tasks.oom_killed == []


@pytest.mark.parametrize("route", ["kmem", "driver"])
def test_a_block_can_hold_its_own_memmap(route: str) -> None:
    """Only where the driver asks for it, and where whole pageblocks are filled: 128 MiB of 4 KiB pages."""
    text = ARM64.replace("ROUTE", route).replace("32M", "128M")
    costs, own = [], []
    for cmdline in ("cma=0", "cma=0 memory_hotplug.memmap_on_memory=1"):
        model = Model.boot(board.loads(text), cmdline=cmdline)
        free = model.free()
        model.add("high")
        costs.append(free - model.free())
        model.online(10, Online.MOVABLE)
        own.append(model.survey(10).kinds.get(Kind.RESERVED, 0))
        assert model.survey(10).blocked == 0
        managed = sum(zone.managed for zone in model.snapshot().zones if zone.zone == "Movable")
        assert managed == 32768 - own[-1]
        model.spawn("app", anon_pages=3000)
        model.validate()
        assert errno_of(model, 10) == 0
        model.remove("high")
        model.validate()
    assert costs == ([512, 0] if route == "kmem" else [512, 512])
    assert own == ([0, 512] if route == "kmem" else [0, 0])


def test_a_memmap_that_fills_no_pageblock_comes_from_elsewhere() -> None:
    model = arm64("kmem", "memory_hotplug.memmap_on_memory=1")
    assert Kind.RESERVED not in model.survey(ADDED[0]).kinds


def test_a_drivers_removal_takes_all_blocks_or_none() -> None:
    model = small_model()
    model.spawn("app", anon_pages=2000)
    model.offline(HIGH[3], FOREVER)
    model.online(HIGH[3], Online.KERNEL)
    model.hotplug.notifiers.append(lambda action, block: errno.EACCES if block == HIGH[2] and "off" in action else 0)
    before = [(b.number, b.state, b.valid_zones) for b in model.snapshot().blocks]
    with pytest.raises(KernelError) as caught:
        model.hotplug.offline_and_remove(HIGH, FOREVER)
    assert caught.value.errno == errno.EACCES
    assert [(b.number, b.state, b.valid_zones) for b in model.snapshot().blocks] == before
    model.validate()
    model.hotplug.notifiers.clear()
    model.hotplug.offline_and_remove(HIGH, model.clock.now() + FOREVER)
    bank = model.snapshot().bank("high")
    assert bank is not None
    assert bank.kernel is KernelState.ABSENT
    assert all(b.state is BlockState.ONLINE for b in model.snapshot().blocks)
    model.validate()
