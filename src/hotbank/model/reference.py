# SPDX-License-Identifier: Apache-2.0
"""The plain Python backend: free lists are ordered dictionaries, per-frame facts are arrays.

Written to be obviously right: each method names the kernel function (mm/page_alloc.c, mm/page_isolation.c, 6.12) whose
steps it takes. The one shortcut, serving a batch from one free block, is explained where it is taken.
"""

from __future__ import annotations

import re
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import cast

from hotbank.memory import CODE, Kind
from hotbank.model.frames import (
    FALLBACKS,
    FREE,
    LEFT_BEHIND,
    MOVABLE_CODES,
    NO_FRAME,
    OFFLINE,
    POISON,
    Buffer,
    Frame,
    FreeBlock,
    MigrateType,
    Shape,
)

_TYPES = len(MigrateType)
_MOVABLE, _CMA, _ISOLATE = int(MigrateType.MOVABLE), int(MigrateType.CMA), int(MigrateType.ISOLATE)
_MERGEABLE = (MigrateType.UNMOVABLE, MigrateType.MOVABLE, MigrateType.RECLAIMABLE)
_NO_ZONE = 0xFF
_NOT_IN_USE = "no such order, or the block is not in use, of slot:"
_MOVED_FREE = "moved while it or its target is free"
_HEAD = re.compile(rb"[^\0]")
_FreeList = OrderedDict[int, None]


class ReferenceFrames:
    """``Frames`` in plain Python; see frames.py for the contract of every public method."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        pageblocks = shape.frames >> shape.pageblock_order
        self._kind = bytearray([OFFLINE]) * shape.frames
        self._head = bytearray(shape.frames)  # order + 1 on the first frame of a free block, else 0
        self._owner = array("q", [0]) * shape.frames
        self._content = array("Q", [0]) * shape.frames
        self._type = bytearray([MigrateType.MOVABLE]) * pageblocks
        self._zone = bytearray([_NO_ZONE]) * pageblocks
        self._areas: list[list[list[_FreeList]]] = []  # [zone][order][migratetype]
        self._free: list[int] = []
        self._free_cma: list[int] = []

    # Zones and pageblocks

    def add_zone(self) -> int:
        self._areas.append([[OrderedDict() for _ in range(_TYPES)] for _ in range(self.shape.max_order + 1)])
        self._free.append(0)
        self._free_cma.append(0)
        return len(self._areas) - 1

    def attach(self, zone: int, start: int, end: int, migratetype: int = MigrateType.MOVABLE) -> None:
        first, last = self._pageblocks(start, end)
        self._check_zone(zone)
        assert self._zone[first:last].count(_NO_ZONE) == last - first, "frames are in a zone already"
        self._zone[first:last] = bytes([zone]) * (last - first)
        self._type[first:last] = bytes([migratetype]) * (last - first)
        self.set_kind(start, end, Kind.RESERVED)

    def detach(self, start: int, end: int) -> None:
        first, last = self._pageblocks(start, end)
        assert self._type[first:last].count(_ISOLATE) == last - first, "frames are not isolated"
        idle = sum(self._kind.count(code, start, end) for code in LEFT_BEHIND)
        assert idle == end - start, "frames are in use"
        for frame in self._heads(start, end):
            order = self._head[frame] - 1
            del self._areas[self._zone[first]][order][_ISOLATE][frame]
            self._head[frame] = 0
        self._zone[first:last] = bytes([_NO_ZONE]) * (last - first)
        self._type[first:last] = bytes([_MOVABLE]) * (last - first)
        self._kind[start:end] = bytes([OFFLINE]) * (end - start)

    def set_type(self, start: int, end: int, migratetype: int) -> None:
        first, last = self._pageblocks(start, end)
        assert FREE not in self._kind[start:end], "free pages must move lists with their pageblock"
        self._type[first:last] = bytes([migratetype]) * (last - first)

    def set_kind(self, start: int, end: int, kind: Kind) -> None:
        assert kind is not Kind.FREE, "frames become free through release and free"
        self._check_range(start, end)
        self._kind[start:end] = bytes([CODE[kind]]) * (end - start)

    # Freeing

    def release(self, start: int, end: int) -> None:
        """``__free_pages_memory``: the largest aligned pieces in ascending order, each merged and put at the tail."""
        self._check_range(start, end)
        reserved = self._kind.count(CODE[Kind.RESERVED], start, end)
        assert reserved == end - start, f"[{start:#x}, {end:#x}) is not reserved"
        self._kind[start:end] = bytes([FREE]) * (end - start)
        while start < end:
            order = min(self.shape.max_order, (start & -start).bit_length() - 1 if start else self.shape.max_order)
            while start + (1 << order) > end:
                order -= 1
            self._count(start, 1 << order)
            self._free_one(start, order, tail=True)
            start += 1 << order

    def free(self, frames: Sequence[int], order: int = 0) -> None:
        assert 0 <= order <= self.shape.max_order, f"no blocks of order {order}"
        size, kind, free_one = 1 << order, self._kind, self._free_one
        shift, zones, types, counts = self.shape.pageblock_order, self._zone, self._type, self._free
        assert size == 1 or not any(frame & (size - 1) for frame in frames), "blocks are not aligned"
        for frame in frames:
            self._check_used(frame, "freed twice")
            if size == 1:
                kind[frame] = FREE
            else:
                kind[frame : frame + size] = bytes(size)
            migratetype = types[frame >> shift]
            if migratetype != _ISOLATE:
                counts[zones[frame >> shift]] += size
                if migratetype == _CMA:
                    self._free_cma[zones[frame >> shift]] += size
            free_one(frame, order)

    def _free_one(self, frame: int, order: int, tail: bool = False) -> None:
        """``__free_one_page``: merge with the buddy while it is free, then enter the list of the pageblock's type."""
        head, shift, top = self._head, self.shape.pageblock_order, self.shape.max_order
        migratetype = self._type[frame >> shift]
        area = self._areas[self._zone[frame >> shift]]
        while order < top:
            buddy = frame ^ (1 << order)
            if head[buddy] != order + 1:
                break
            buddy_type = migratetype
            if order >= shift:
                if not self._merge_across(frame, buddy, migratetype):
                    break
                buddy_type = self._type[buddy >> shift]
            del area[order][buddy_type][buddy]
            head[buddy] = 0
            if buddy_type != migratetype:
                self._retype(buddy, order, migratetype)
            frame &= buddy
            order += 1
        free_list = area[order][migratetype]
        free_list[frame] = None
        if tail:
            free_list.move_to_end(frame, last=False)
        head[frame] = order + 1

    def _merge_across(self, frame: int, buddy: int, migratetype: int) -> bool:
        """From pageblock order up, only pages of one zone and of types that have fallbacks merge."""
        shift = self.shape.pageblock_order
        if self._zone[buddy >> shift] != self._zone[frame >> shift]:
            return False
        buddy_type = self._type[buddy >> shift]
        return buddy_type == migratetype or (migratetype in _MERGEABLE and buddy_type in _MERGEABLE)

    # Allocating

    def alloc(self, zone: int, order: int, migratetype: int, count: int, kind: Kind, floor: int = 0) -> list[Frame]:
        usable = self._free[zone] - (0 if migratetype == _MOVABLE else self._free_cma[zone])
        count = min(count, (usable - floor) >> order)
        got: list[int] = []
        while len(got) < count:
            taken = self._take(zone, order, migratetype, count - len(got))
            if not taken:
                break
            got += taken
            self.set_kind(taken[0], taken[-1] + (1 << order), kind)
        return cast("list[Frame]", got)

    def _take(self, zone: int, order: int, migratetype: int, count: int) -> range:
        """``__rmqueue``: up to ``count`` adjacent blocks, or none."""
        uses_cma = migratetype == _MOVABLE and self._free_cma[zone] > 0
        if uses_cma:
            count = 1  # the balance between CMA and the rest is looked at before every page
            if self._free_cma[zone] > self._free[zone] // 2:
                taken = self._take_smallest(zone, order, _CMA, count)
                if taken:
                    return taken
        taken = self._take_smallest(zone, order, migratetype, count)
        if not taken and uses_cma:
            taken = self._take_smallest(zone, order, _CMA, count)
        return taken or self._take_fallback(zone, order, migratetype)

    def _take_smallest(self, zone: int, order: int, migratetype: int, count: int) -> range:
        """``__rmqueue_smallest``: the head of the smallest list that serves.

        All lists between ``order`` and the one found are empty, so one-by-one requests would walk through this
        very block in ascending order before they touched another: serving several at once changes nothing.
        """
        areas = self._areas[zone]
        for current in range(order, self.shape.max_order + 1):
            if areas[current][migratetype]:
                frame, _ = areas[current][migratetype].popitem()
                return self._split(frame, current, order, migratetype, migratetype, count)
        return range(0)

    def _split(self, frame: int, current: int, order: int, listed: int, rest: int, count: int) -> range:
        """``expand``: hand out up to ``count`` blocks from the front of a free block that just left its list.

        ``listed``: the type whose list it left; ``rest``: the type whose lists take what is left over.
        """
        self._head[frame] = 0
        taken = min(count, 1 << (current - order))
        end, cut = frame + (1 << current), frame + (taken << order)
        self._count_as(frame, -(1 << current), listed)
        self._count_as(frame, end - cut, rest)
        area = self._areas[self._zone[frame >> self.shape.pageblock_order]]
        while cut < end:
            piece = (cut & -cut).bit_length() - 1
            area[piece][rest][cut] = None
            self._head[cut] = piece + 1
            cut += 1 << piece
        return range(frame, frame + (taken << order), 1 << order)

    def _take_fallback(self, zone: int, order: int, migratetype: int) -> range:
        """From another type: ``__rmqueue_claim``, then ``__rmqueue_steal``; before, ``__rmqueue_fallback``."""
        if self.shape.steals_smallest:
            return self._claim_largest(zone, order, migratetype) or self._steal_smallest(zone, order, migratetype)
        return self._fall_back(zone, order, migratetype)

    def _claim_largest(self, zone: int, order: int, migratetype: int) -> range:
        """``__rmqueue_claim``: from the pageblock of the largest block whose pageblock may change hands."""
        for current in range(self.shape.max_order, order - 1, -1):
            found = self._suitable_fallback(zone, current, migratetype)
            if found < 0:
                continue
            if not self._can_steal(current, migratetype):
                break
            if taken := self._take_over(zone, current, order, found, migratetype):
                return taken
        return range(0)

    def _steal_smallest(self, zone: int, order: int, migratetype: int) -> range:
        """``__rmqueue_steal``: from the smallest block, whose pageblock stays what it is."""
        current, found = self._smallest_fallback(zone, order, migratetype)
        return self._take_one(zone, current, order, found) if found >= 0 else range(0)

    def _fall_back(self, zone: int, order: int, migratetype: int) -> range:
        """``__rmqueue_fallback``: from the largest block of another type; for movable, sometimes the smallest."""
        orders = range(self.shape.max_order, order - 1, -1)
        for current in orders:
            found = self._suitable_fallback(zone, current, migratetype)
            if found < 0:
                continue
            stealable = self._can_steal(current, migratetype)
            if not stealable and migratetype == _MOVABLE and current > order:
                current, found = self._smallest_fallback(zone, order, migratetype)
            return self._steal(zone, current, order, found, migratetype)
        return range(0)

    def _smallest_fallback(self, zone: int, order: int, migratetype: int) -> tuple[int, int]:
        for current in range(order, self.shape.max_order + 1):
            found = self._suitable_fallback(zone, current, migratetype)
            if found >= 0:
                return current, found
        return order, -1

    def _suitable_fallback(self, zone: int, order: int, migratetype: int) -> int:
        """``find_suitable_fallback``: the first fallback type with a free block of ``order``, or -1."""
        area = self._areas[zone][order]
        return next((int(t) for t in FALLBACKS[migratetype] if area[t]), -1)

    def _can_steal(self, order: int, migratetype: int) -> bool:
        """``can_steal_fallback``: may the whole pageblock change hands?"""
        return order >= self.shape.pageblock_order // 2 or migratetype != _MOVABLE

    def _steal(self, zone: int, current: int, order: int, found: int, wanted: int) -> range:
        """``steal_suitable_fallback``: take over the pageblock if it suits, else just one block from it."""
        taken = self._take_over(zone, current, order, found, wanted)
        return taken or self._take_one(zone, current, order, found)

    def _take_over(self, zone: int, current: int, order: int, found: int, wanted: int) -> range:
        """``try_to_claim_block``: a block of a pageblock that changes hands, or none."""
        frame = next(reversed(self._areas[zone][current][found]))
        if current >= self.shape.pageblock_order:
            del self._areas[zone][current][found][frame]
            self._retype(frame, current, wanted)
            return self._split(frame, current, order, found, wanted, 1)
        if self._can_steal(current, wanted) and self._claim(frame, found, wanted):
            return self._take_smallest(zone, order, wanted, 1)
        return range(0)

    def _take_one(self, zone: int, current: int, order: int, found: int) -> range:
        frame = next(reversed(self._areas[zone][current][found]))
        del self._areas[zone][current][found][frame]
        return self._split(frame, current, order, found, found, 1)

    def _claim(self, frame: int, found: int, wanted: int) -> bool:
        """Turn the whole pageblock over if at least half of it is free or of a compatible kind."""
        size = 1 << self.shape.pageblock_order
        start = frame & -size
        free = self._kind.count(FREE, start, start + size)
        movable = sum(self._kind.count(code, start, start + size) for code in MOVABLE_CODES)
        alike = movable if wanted == _MOVABLE else size - free - movable if found == _MOVABLE else 0
        if free + alike < size // 2:
            return False
        self._move_free(start, start + size, wanted)
        return True

    def churn(
        self,
        zone: int,
        migratetype: int,
        kind: Kind,
        slots: array[int] | memoryview,
        orders: Buffer,
        picks: Buffer,
    ) -> int:
        self._check_zone(zone)
        assert len(orders) == len(slots), "each slot has an order"
        assert max(picks, default=-1) < len(slots), "no such slot"
        failed = 0
        for slot in picks:
            frame, order = slots[slot], orders[slot]
            assert order <= self.shape.max_order, f"{_NOT_IN_USE} {slot:#x}"
            if frame == NO_FRAME:
                got = self.alloc(zone, order, migratetype, 1, kind)
                failed += not got
                if got:
                    slots[slot] = got[0]
            else:
                self._check_used(frame, f"{_NOT_IN_USE} {slot:#x}")
                self.free([frame], order)
                slots[slot] = NO_FRAME
        return failed

    # Isolation

    def isolate(self, start: int, end: int) -> None:
        self._move_free(start, end, _ISOLATE)

    def unisolate(self, start: int, end: int, migratetype: int = _MOVABLE) -> None:
        self._move_free(start, end, migratetype)

    def _move_free(self, start: int, end: int, migratetype: int) -> None:
        """``__move_freepages_block`` for each pageblock: free blocks go to the new type's tail; the type changes."""
        first, last = self._pageblocks(start, end)
        shift = self.shape.pageblock_order
        for frame in self._heads(start, end):
            order, old = self._head[frame] - 1, self._type[frame >> shift]
            area = self._areas[self._zone[frame >> shift]][order]
            del area[old][frame]
            area[migratetype][frame] = None
            area[migratetype].move_to_end(frame, last=False)
            self._count_as(frame, -(1 << order), old)
            self._count_as(frame, 1 << order, migratetype)
        self._type[first:last] = bytes([migratetype]) * (last - first)

    # What frames hold

    def free_pages(self, zone: int) -> int:
        return self._free[zone]

    def free_cma(self, zone: int) -> int:
        return self._free_cma[zone]

    def free_in(self, size: int) -> list[int]:
        assert size % (1 << self.shape.max_order) == 0 == self.shape.frames % size, f"no blocks of {size} frames"
        return [self._kind.count(FREE, start, start + size) for start in range(0, self.shape.frames, size)]

    def free_by_order(self, start: int, end: int) -> tuple[int, ...]:
        self._check_range(start, end)
        return tuple(self._head.count(order + 1, start, end) for order in range(self.shape.max_order + 1))

    def count(self, start: int, end: int) -> dict[int, int]:
        self._check_range(start, end)
        counts: dict[int, int] = {}
        left = end - start
        for code in range(OFFLINE + 1):
            if not left:  # a count of all bytes is cheaper than a set of them, and few kinds share a block
                break
            if found := self._kind.count(code, start, end):
                counts[code], left = found, left - found
        return counts

    def find(self, start: int, end: int, codes: bytes, limit: int | None = None) -> list[Frame]:
        self._check_range(start, end)
        pattern = re.compile(b"[" + re.escape(codes) + b"]+")
        found: list[int] = []
        for match in pattern.finditer(self._kind, start, end):
            found += range(match.start(), match.end())
            if limit is not None and len(found) >= limit:
                break
        return cast("list[Frame]", found[:limit])

    def kind(self, frame: int) -> int:
        self._check_range(frame, frame + 1)
        return self._kind[frame]

    def migratetype(self, frame: int) -> int:
        return self._type[frame >> self.shape.pageblock_order]

    def zone(self, frame: int) -> int:
        zone = self._zone[frame >> self.shape.pageblock_order]
        return -1 if zone == _NO_ZONE else zone

    def own(self, frames: Sequence[int], owners: Sequence[int], contents: Sequence[int]) -> None:
        owner, content = self._owner, self._content
        assert len(frames) == len(owners) == len(contents), "an owner and a content for each frame"
        for frame, who, what in zip(frames, owners, contents, strict=True):
            self._check_used(frame, "owned while free")
            owner[frame] = who
            content[frame] = what

    def disown(self, frames: Sequence[int]) -> None:
        for frame in frames:
            self._check_used(frame, "disowned while free")
            self._owner[frame] = 0

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        kind, owner, content = self._kind, self._owner, self._content
        assert len(sources) == len(targets), "a target for each source"
        for source, target in zip(sources, targets, strict=True):
            self._check_used(source, _MOVED_FREE)
            self._check_used(target, _MOVED_FREE)
            kind[target] = kind[source]
            owner[target], owner[source] = owner[source], 0
            content[target], content[source] = content[source], POISON

    def holds(self, frames: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        assert max(frames, default=-1) < self.shape.frames, "not within the frames"
        kind, owner, content = self._kind, self._owner, self._content
        return [kind[f] for f in frames], [owner[f] for f in frames], [content[f] for f in frames]

    def owner(self, frame: int) -> int:
        self._check_range(frame, frame + 1)
        return self._owner[frame]

    def content(self, frame: int) -> int:
        self._check_range(frame, frame + 1)
        return self._content[frame]

    def fill(self, start: int, end: int, content: int) -> None:
        self._check_range(start, end)
        self._content[start:end] = array("Q", [content]) * (end - start)

    def owned(self) -> int:
        return self.shape.frames - self._owner.count(0)

    # Checks

    def free_blocks(self, zone: int) -> list[FreeBlock]:
        return [
            FreeBlock(order, migratetype, frame)
            for order, area in enumerate(self._areas[zone])
            for migratetype, free_list in enumerate(area)
            for frame in reversed(free_list)
        ]

    def validate(self) -> None:
        listed = bytearray(self.shape.frames)
        for zone in range(len(self._areas)):
            self._validate_zone(zone, listed)
        free = self._kind.count(FREE)
        assert listed.count(1) == free, f"{free} frames are free, {listed.count(1)} are in free lists"
        heads = self.shape.frames - self._head.count(0)
        blocks = sum(len(self.free_blocks(zone)) for zone in range(len(self._areas)))
        assert heads == blocks, f"{heads} frames are marked as free blocks, {blocks} are in lists"

    def _validate_zone(self, zone: int, listed: bytearray) -> None:
        pages = {"all": 0, "cma": 0}
        for block in self.free_blocks(zone):
            end = block.frame + (1 << block.order)
            where = f"free block {block.frame:#x} of order {block.order}"
            assert block.frame % (1 << block.order) == 0, f"{where} is not aligned"
            assert self._head[block.frame] == block.order + 1, f"{where} is not marked"
            assert self._kind.count(FREE, block.frame, end) == end - block.frame, f"{where} is in use"
            assert not any(listed[block.frame : end]), f"{where} is listed twice"
            assert self.zone(block.frame) == zone, f"{where} is in the lists of another zone"
            assert self.migratetype(block.frame) == block.migratetype, f"{where} is in the list of another type"
            assert not self._unmerged(block), f"{where} has a free buddy"
            listed[block.frame : end] = b"\1" * (end - block.frame)
            pages["all"] += 0 if block.migratetype == _ISOLATE else 1 << block.order
            pages["cma"] += 1 << block.order if block.migratetype == _CMA else 0
        assert pages["all"] == self._free[zone], f"zone {zone} counts {self._free[zone]} free, lists {pages['all']}"
        assert pages["cma"] == self._free_cma[zone], f"zone {zone} counts wrong free CMA pages"

    def _unmerged(self, block: FreeBlock) -> bool:
        buddy = block.frame ^ (1 << block.order)
        if block.order == self.shape.max_order or self._head[buddy] != block.order + 1:
            return False
        return block.order < self.shape.pageblock_order or self._merge_across(block.frame, buddy, block.migratetype)

    # Counting

    def _count(self, frame: int, pages: int) -> None:
        self._count_as(frame, pages, self._type[frame >> self.shape.pageblock_order])

    def _count_as(self, frame: int, pages: int, migratetype: int) -> None:
        """``account_freepages``: isolated pages do not count as free, CMA pages count twice."""
        zone = self._zone[frame >> self.shape.pageblock_order]
        if migratetype != _ISOLATE:
            self._free[zone] += pages
        if migratetype == _CMA:
            self._free_cma[zone] += pages

    def _retype(self, frame: int, order: int, migratetype: int) -> None:
        first = frame >> self.shape.pageblock_order
        last = first + (1 << (order - self.shape.pageblock_order))
        self._type[first:last] = bytes([migratetype]) * (last - first)

    def _pageblocks(self, start: int, end: int) -> tuple[int, int]:
        shift = self.shape.pageblock_order
        self._check_range(start, end)
        assert (start | end) & ((1 << shift) - 1) == 0, f"[{start:#x}, {end:#x}) is not pageblock-aligned"
        return start >> shift, end >> shift

    # What callers hand in

    def _check_zone(self, zone: int) -> None:
        assert zone < len(self._areas), f"no zone {zone}"

    def _check_range(self, start: int, end: int) -> None:
        assert 0 <= start <= end <= self.shape.frames, f"[{start:#x}, {end:#x}) is not within the frames"

    def _check_used(self, frame: int, breach: str) -> None:
        used = 0 <= frame < self.shape.frames and self._kind[frame] not in (FREE, OFFLINE)
        assert used, f"{breach}: {frame:#x}"

    def _heads(self, start: int, end: int) -> Iterator[int]:
        return iter([match.start() for match in _HEAD.finditer(self._head, start, end)])
