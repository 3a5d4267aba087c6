# SPDX-License-Identifier: Apache-2.0
"""The model's invariants, checked across its parts: nothing lost, nothing doubled, every count right.

Each check stands alone and says what it found in kernel words; ``Model.validate`` runs them all.
"""

from __future__ import annotations

from collections import Counter

from hotbank.memory import CODE, KERNEL_KINDS, NAMED_KERNEL_KINDS, OWNERLESS_KINDS, BlockState, Zone, codes
from hotbank.model.alloc import PageAllocator
from hotbank.model.contents import PageContents
from hotbank.model.frames import FREE, OFFLINE, Frames
from hotbank.model.geometry import Geometry
from hotbank.model.hotplug import MemoryHotplug
from hotbank.model.parts import Parts
from hotbank.model.tasks import Tasks

_KERNEL_ONLY = codes(KERNEL_KINDS)
_OWNERLESS = (FREE, OFFLINE, *codes(OWNERLESS_KINDS))


def validate(parts: Parts) -> None:
    """Run every check. Raises AssertionError at the first breach."""
    frames, contents, tasks = parts.frames, parts.contents, parts.tasks
    frames.validate()
    _check_mappings(frames, contents, len(parts.allocator.pcp))
    _check_huge(contents, tasks)
    _check_holders(contents, tasks)
    _check_page_cache(tasks)
    _check_kernels_own(contents, tasks)
    _check_clean(frames, contents)
    _check_blocks(frames, parts.hotplug, parts.geometry)
    _check_zones(frames, parts.allocator, parts.hotplug, parts.geometry)


def _check_mappings(frames: Frames, contents: PageContents, listed: int) -> None:
    """Invariant 7: every page lies in exactly one frame, which knows it and holds what it should."""
    handles = list(contents.live())
    places = contents.frames(handles)
    assert len(set(places)) == len(places), "two pages lie in the same frame"
    found, owners, _ = frames.holds(places)
    strangers = [handle for handle, owner in zip(handles, owners, strict=True) if handle != owner]
    assert not strangers, f"{len(strangers)} pages lie in frames that don't know them, first {strangers[0]}"
    expected = [CODE[contents.holder(handle).kind] for handle in handles]
    assert not set(found) & set(_OWNERLESS), "a page lies in a frame that is not allocated"
    assert found == expected, "a frame forgot what it holds"
    assert frames.owned() == len(places), f"{frames.owned()} frames have an owner, {len(places)} pages live"
    counts = frames.count(0, frames.shape.frames)
    allocated = sum(pages for code, pages in counts.items() if code not in _OWNERLESS)
    known = len(places) + listed
    assert allocated == known, f"{allocated} frames are allocated, {known} are in per-CPU lists or have a live page"
    damaged = contents.damaged()
    assert not damaged, f"{len(damaged)} pages lost their content, first {damaged[0]}"


def _check_huge(contents: PageContents, tasks: Tasks) -> None:
    for page in tasks.huge.pages:
        first = contents.frame(page.handles[0])
        whole = contents.frames(page.handles) == list(range(first, first + tasks.huge.size))
        assert whole, "a huge page fell apart"
        assert first % tasks.huge.size == 0, "a huge page is not aligned"


def _check_holders(contents: PageContents, tasks: Tasks) -> None:
    held = tasks.holders_of_every_page()
    live = set(contents.live())
    assert held.keys() == live, f"{len(held.keys() ^ live)} pages are held and ended, or live and held by nobody"
    doubled = [handle for handle, times in held.items() if times != 1]
    assert not doubled, f"page {doubled[0]} is held {held[doubled[0]]} times"
    assert contents.pins.keys() <= live, "a page is pinned that has ended"
    assert contents.long_pins.keys() <= contents.pins.keys(), "a long pin that is no pin"
    assert contents.writeback <= live, "a page is under writeback that has ended"


def _check_page_cache(tasks: Tasks) -> None:
    for name, file in tasks.files.items():
        clean = {handle for handle in file.pages if tasks.is_clean(handle)}
        assert clean | file.dirty == file.pages.keys(), f"{name}: a page is neither clean nor dirty"
        assert not clean & file.dirty, f"{name}: a page is clean and dirty"
    cached = sum(len(file.pages) - len(file.dirty) for file in tasks.files.values())
    assert cached == sum(tasks.clean_pages().values()) + tasks.pinned_clean(), "the list of clean pages is wrong"


def _check_kernels_own(contents: PageContents, tasks: Tasks) -> None:
    """What was counted as it came and went is what there is of slab and page tables."""
    own = sum(contents.holder(handle).kind in NAMED_KERNEL_KINDS for handle in contents.live())
    assert own == tasks.kernels_own, f"{own} pages are slab or page tables, not {tasks.kernels_own}"


def _check_clean(frames: Frames, contents: PageContents) -> None:
    """What was counted as it came, moved and went is what is there."""
    droppable = contents.frames(handle for handle in contents.clean if handle not in contents.pins)
    counted = Counter(frames.zone(frame) for frame in droppable)
    assert contents.droppable() == counted, f"zones have {dict(counted)} clean pages, not {contents.droppable()}"
    listed = contents.clean.zones()
    astray = [handle for handle, zone in listed.items() if frames.zone(contents.frame(handle)) != zone]
    assert not astray, f"page {astray[0]} is listed in zone {listed[astray[0]]}, where it is not"
    assert sorted(contents.clean) == sorted(listed), "a clean page is in no list, or in two"


def _check_blocks(frames: Frames, hotplug: MemoryHotplug, geometry: Geometry) -> None:
    for number in geometry.numbers:
        block, (start, end) = hotplug.blocks.get(number), geometry.frames(number)
        if block is None or block.state is BlockState.OFFLINE:
            kinds = frames.count(start, end)
            assert kinds == {OFFLINE: end - start}, f"memory{number} is not online and has pages of kinds {kinds}"
        elif block.zone is not None:
            size = 1 << frames.shape.pageblock_order
            zones = {frames.zone(frame) for frame in range(start, end, size)} - ({-1} if block.holes else set())
            assert zones == {block.zone.number}, f"memory{number} is in {block.zone.name}, its pages in zones {zones}"


def _check_zones(frames: Frames, allocator: PageAllocator, hotplug: MemoryHotplug, geometry: Geometry) -> None:
    for zone in allocator.zones:
        assert zone.present_pages <= zone.spanned, f"{zone.name} has more pages than it spans"
        assert zone.managed <= zone.present_pages, f"{zone.name} manages pages that are not there"
        for first, last in zone.present:
            inside = zone.start_pfn <= first and last <= zone.end_pfn
            assert inside, f"{zone.name} does not span its pages [{first:#x}, {last:#x})"
        assert 0 <= frames.free_pages(zone.number) <= zone.managed, f"{zone.name} counts wrong free pages"
    for block in hotplug.blocks.values():
        if block.zone is not None and block.zone.name is Zone.MOVABLE:
            start, end = geometry.frames(block.number)
            bad = frames.find(start, end, _KERNEL_ONLY, limit=1)
            assert not bad, f"a kernel page is in Movable: pfn {geometry.pfn(bad[0]):#x}"
