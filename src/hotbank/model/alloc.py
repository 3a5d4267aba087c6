# SPDX-License-Identifier: Apache-2.0
"""Zones, and which of them serves a request: GFP classes, zonelists, watermarks, reclaim, OOM.

Models mm/page_alloc.c: ``gfp_zone``, ``build_zonelists``, ``get_page_from_freelist``, ``__alloc_pages_slowpath``,
``__setup_per_zone_wmarks``, ``calculate_min_free_kbytes``, and mm/khugepaged.c: ``set_recommended_min_free_kbytes``.
Left out: ``lowmem_reserve``, watermark boosting and atomic reserves; docs/model.md gives the resulting arithmetic of
room in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import isqrt
from typing import Protocol

from hotbank.memory import Kind, Pfn, Zone
from hotbank.model.frames import Frame, Frames, MigrateType
from hotbank.room import KERNEL_ZONES

_RANK = {zone: rank for rank, zone in enumerate(Zone)}
_PCPTYPES = 3  # include/linux/mmzone.h, MIGRATE_PCPTYPES
SWAP_CLUSTER_MAX = 32  # include/linux/swap.h: pages that reclaim looks for at a time


@dataclass(frozen=True, slots=True)
class Gfp:
    """A class of allocation: the pageblock type it asks for and the highest zone it may use.

    ``patient``: kill a process rather than fail (``__GFP_RETRY_MAYFAIL`` and hot-add don't). ``node``: where to look
    first. ``besides``: the node that it may not use (a nodemask without it); None: it may use all.
    """

    migratetype: MigrateType
    highest: Zone
    patient: bool = True
    node: int = 0
    besides: int | None = None


GFP_KERNEL = Gfp(MigrateType.UNMOVABLE, Zone.NORMAL)
GFP_RECLAIMABLE = Gfp(MigrateType.RECLAIMABLE, Zone.NORMAL)
GFP_HIGHUSER_MOVABLE = Gfp(MigrateType.MOVABLE, Zone.MOVABLE)
GFP_MEMMAP = Gfp(MigrateType.UNMOVABLE, Zone.NORMAL, patient=False)
# mm/balloon_compaction.c, balloon_page_alloc: with __GFP_NORETRY, since a balloon is no reason to kill.
GFP_BALLOON = Gfp(MigrateType.MOVABLE, Zone.MOVABLE, patient=False)
# check_and_migrate_movable_pages: where a page goes before it is pinned for long.
GFP_LONGTERM = Gfp(MigrateType.UNMOVABLE, Zone.NORMAL, patient=False)
# alloc_migration_target: pages of a kernel zone may not climb into HighMem or Movable.
GFP_MIGRATE_HIGH = Gfp(MigrateType.MOVABLE, Zone.MOVABLE, patient=False)
GFP_MIGRATE_LOW = Gfp(MigrateType.MOVABLE, Zone.NORMAL, patient=False)


@dataclass(slots=True, eq=False)
class ZoneState:
    """One zone of one node. Everything in pages; ``present`` holds its memory as sorted, disjoint pfn ranges.

    ``early``: present since boot; ``cma``: in CMA areas.
    """

    number: int
    node: int
    name: Zone
    start_pfn: int = 0
    spanned: int = 0
    managed: int = 0
    early: int = 0
    cma: int = 0
    present: list[tuple[Pfn, Pfn]] = field(default_factory=list)
    min: int = 0
    low: int = 0
    high: int = 0

    @property
    def end_pfn(self) -> int:
        """First pfn after the span."""
        return self.start_pfn + self.spanned

    @property
    def present_pages(self) -> int:
        """Pages of the span that exist."""
        return sum(end - start for start, end in self.present)

    @property
    def movable_only(self) -> bool:
        """True if only movable pages may enter."""
        return self.name is Zone.MOVABLE

    @property
    def lowmem(self) -> bool:
        """True if the kernel itself can use the zone."""
        return self.name in KERNEL_ZONES

    def intersects(self, start: Pfn, end: Pfn) -> bool:
        """``zone_intersects``: does the span touch the pfns?"""
        return bool(self.spanned) and self.start_pfn < end and start < self.end_pfn

    def grow(self, start: Pfn, end: Pfn) -> None:
        """``move_pfn_range_to_zone``, ``resize_zone_range``."""
        first, last = (min(self.start_pfn, start), max(self.end_pfn, end)) if self.spanned else (start, end)
        self.start_pfn, self.spanned = first, last - first
        self.grow_present(start, end)

    def grow_present(self, start: Pfn, end: Pfn) -> None:
        """Memory appears inside the span."""
        self.present = _joined([*self.present, (start, end)])

    def shrink(self, start: Pfn, end: Pfn) -> None:
        """``remove_pfn_range_from_zone``, ``shrink_zone_span``: the span moves only at an edge that was left."""
        self.present = [piece for part in self.present for piece in _without(part, start, end)]
        if not self.present:
            self.start_pfn = self.spanned = 0
        elif start == self.start_pfn:
            self.start_pfn, self.spanned = self.present[0][0], self.end_pfn - self.present[0][0]
        elif end == self.end_pfn:
            self.spanned = self.present[-1][1] - self.start_pfn


@dataclass(frozen=True, slots=True)
class WatermarkRules:
    """What the watermarks of a kernel depend on besides the zones.

    ``huge_pages``: khugepaged runs (transparent huge pages, 512 MiB or more at boot) and wants a reserve of whole
    pageblocks; ``movable_shares``: Movable takes part in the distribution (before 6.12), else it keeps little.
    """

    page_size: int = 4096
    huge_pages: bool = False
    movable_shares: bool = False


class Pcp:
    """Pages between their users and the buddy lists: mm/page_alloc.c, ``rmqueue_pcplist``, ``free_unref_page_commit``.

    One list for each zone and type (the model has one CPU), taken from where it was put last. Pages in them count as
    not free, as in ``NR_FREE_PAGES``, and their flags say nothing: ``Kind.UNKNOWN``. ``length``: ``pcp->high``, 0 while
    they are off; beyond it a list gives its oldest half back.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._lists: dict[tuple[int, int], list[Frame]] = {}
        self.length = 0

    def __len__(self) -> int:
        return sum(map(len, self._lists.values()))

    def take(self, zone: int, migratetype: int, count: int, kind: Kind, floor: int) -> list[Frame]:
        """Up to ``count`` pages for a request that leaves the zone's free pages above ``floor``."""
        held = self._lists.get((zone, migratetype), [])
        if not held and self._frames.free_pages(zone) > floor + self.length:
            held = self._frames.alloc(zone, 0, migratetype, self.length // 2, Kind.UNKNOWN, floor)  # rmqueue_bulk
            self._lists[zone, migratetype] = held
        if self._frames.free_pages(zone) <= floor:
            return []
        keep = max(0, len(held) - count)
        got = held[keep:]
        del held[keep:]
        for frame in got:
            self._frames.set_kind(frame, frame + 1, kind)
        return got[::-1]

    def put(self, frames: Sequence[Frame]) -> list[Frame]:
        """Take freed pages in; returns those that go on to the buddy lists."""
        beyond = []
        for frame in frames:
            migratetype = self._frames.migratetype(frame)
            if migratetype >= _PCPTYPES:
                beyond.append(frame)
                continue
            self._frames.set_kind(frame, frame + 1, Kind.UNKNOWN)
            held = self._lists.setdefault((self._frames.zone(frame), migratetype), [])
            held.append(frame)
            if len(held) > self.length:
                beyond += held[: self.length // 2]
                del held[: self.length // 2]
        return beyond

    def drain(self) -> None:
        """``drain_all_pages``."""
        for held in self._lists.values():
            self._frames.free(held)
        self._lists.clear()

    def within(self, start: int, end: int) -> set[Frame]:
        """Those of the frames that are in lists."""
        return {frame for held in self._lists.values() for frame in held if start <= frame < end}


class OutOfMemoryError(Exception):
    """A request could not be met; ``got`` holds the frames that were there, allocated."""

    def __init__(self, got: list[Frame], wanted: int) -> None:
        super().__init__(f"{len(got)} of {wanted} pages")
        self.got = got


class Relief(Protocol):
    """Where memory comes from when a request finds too little."""

    def reclaim(self, zones: frozenset[int], pages: int) -> int:
        """Free clean page cache that lies in those zones, outside isolated memory. Returns how many pages."""
        ...

    def kill(self) -> bool:
        """End a process. False when there is none left that owns memory."""
        ...

    def compact(self, zone: ZoneState, order: int) -> bool:
        """Make room for a block of that order by moving pages. False when that is nowhere."""
        ...


class NoRelief:
    """As long as nobody uses the memory."""

    def reclaim(self, zones: frozenset[int], pages: int) -> int:  # noqa: ARG002
        """Nothing to free."""
        return 0

    def kill(self) -> bool:
        """Nobody to end."""
        return False

    def compact(self, zone: ZoneState, order: int) -> bool:  # noqa: ARG002
        """Nothing to move."""
        return False


class PageAllocator:
    """All zones over one ``Frames``. ``relief``: who is asked when memory is short; parts.py puts page cache, processes
    and migration there. ``pcp``: per-CPU lists, off until somebody gives them a length."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.zones: list[ZoneState] = []
        self.watermark_rules = WatermarkRules()
        self.relief: Relief = NoRelief()
        self.pcp = Pcp(frames)
        self._zonelists: dict[tuple[Zone, int, int | None], list[ZoneState]] = {}

    def zone(self, node: int, name: Zone) -> ZoneState:
        """The zone, made empty if the node had none of that name."""
        for zone in self.zones:
            if (zone.node, zone.name) == (node, name):
                return zone
        zone = ZoneState(self.frames.add_zone(), node, name)
        self.zones.append(zone)
        self._zonelists.clear()
        return zone

    def zone_of(self, frame: int) -> ZoneState:
        """The zone that the frame is in."""
        return self.zones[self.frames.zone(frame)]

    def zonelist(self, gfp: Gfp) -> list[ZoneState]:
        """Where a request looks: its node, then the others in order; in each from the highest allowed zone down."""
        key = gfp.highest, gfp.node, gfp.besides
        if key not in self._zonelists:
            low = [zone for zone in self.zones if _RANK[zone.name] <= _RANK[gfp.highest]]
            allowed = [zone for zone in low if zone.node != gfp.besides]
            by_distance = sorted(allowed, key=lambda z: (z.node != gfp.node, z.node, -_RANK[z.name]))
            self._zonelists[key] = by_distance
        return self._zonelists[key]

    def alloc(self, gfp: Gfp, kind: Kind, count: int, order: int = 0) -> list[Frame]:
        """First frames of ``count`` blocks of ``order``. Raises OutOfMemoryError."""
        got = self._above(gfp, kind, count, order, _low)
        if len(got) < count:
            got += self._slowpath(gfp, kind, count - len(got), order)
        if len(got) < count:
            raise OutOfMemoryError(got, count)
        return got

    def free(self, frames: Sequence[Frame]) -> None:
        """Give single pages back: to the per-CPU lists where they are on, else to the buddy lists."""
        self.frames.free(self.pcp.put(frames) if self.pcp.length else frames)

    def _slowpath(self, gfp: Gfp, kind: Kind, count: int, order: int) -> list[Frame]:
        """``__alloc_pages_slowpath``: down to min, wake kswapd, reclaim directly, at last kill."""
        self.pcp.drain()
        got = self._above(gfp, kind, count, order, _min)
        while len(got) < count:
            missing = (count - len(got)) << order
            if not (self._help(gfp, missing, order) or (gfp.patient and self.relief.kill())):
                break
            got += self._above(gfp, kind, count - len(got), order, _min)
        self._kswapd(gfp)
        return got

    def _above(
        self, gfp: Gfp, kind: Kind, count: int, order: int, watermark: Callable[[ZoneState], int]
    ) -> list[Frame]:
        """``get_page_from_freelist``: down to the watermark, zone by zone."""
        got: list[Frame] = []
        for zone in self.zonelist(gfp):
            if len(got) < count:
                floor = watermark(zone)
                if self.pcp.length and not order:
                    got += self.pcp.take(zone.number, gfp.migratetype, count - len(got), kind, floor)
                got += self.frames.alloc(zone.number, order, gfp.migratetype, count - len(got), kind, floor)
        return got

    def _help(self, gfp: Gfp, pages: int, order: int) -> bool:
        """Direct compaction, for blocks of several pages that are free but scattered; else direct reclaim."""
        compacted = order and any(self.relief.compact(zone, order) for zone in self.zonelist(gfp) if zone.managed)
        return bool(compacted) or self._direct_reclaim(gfp, pages) > 0

    def _direct_reclaim(self, gfp: Gfp, pages: int) -> int:
        zones = frozenset(zone.number for zone in self.zonelist(gfp))
        deficit = sum(max(0, zone.min - self._usable(zone, gfp)) for zone in self.zonelist(gfp))
        return self.relief.reclaim(zones, max(pages + deficit, SWAP_CLUSTER_MAX))

    def _kswapd(self, gfp: Gfp) -> None:
        """``balance_pgdat``: a zone below low is brought up to high, while clean cache lasts."""
        for zone in self.zonelist(gfp):
            free = self.frames.free_pages(zone.number)
            if zone.managed and free < zone.low:
                self.relief.reclaim(frozenset({zone.number}), zone.high - free)

    def _usable(self, zone: ZoneState, gfp: Gfp) -> int:
        free = self.frames.free_pages(zone.number)
        return free if gfp.migratetype is MigrateType.MOVABLE else free - self.frames.free_cma(zone.number)

    def set_watermarks(self) -> None:
        """``init_per_zone_wmark_min`` and ``khugepaged_min_free_kbytes_update`` after the managed pages changed."""
        rules = self.watermark_rules
        lowmem = [zone for zone in self.zones if zone.lowmem]
        kib = rules.page_size >> 10
        buffers = sum(zone.managed for zone in lowmem)
        min_pages = max(128, min(262144, isqrt(buffers * kib * 16))) // kib
        if rules.huge_pages:
            populated = sum(1 for zone in lowmem if zone.managed)
            recommended = self._pageblock * populated * (2 + _PCPTYPES * _PCPTYPES)
            min_pages = max(min_pages, min(recommended, buffers // 20))
        sharing = [zone for zone in self.zones if zone.lowmem or (zone.movable_only and rules.movable_shares)]
        total = sum(zone.managed for zone in sharing)
        for zone in self.zones:
            share = min_pages * zone.managed // total if total else 0
            small = min(128, max(SWAP_CLUSTER_MAX, zone.managed // 1024)) if zone.managed else 0
            zone.min = share if zone in sharing else small
            step = max(share >> 2, zone.managed * 10 // 10000)
            zone.low, zone.high = zone.min + step, zone.min + 2 * step

    @property
    def _pageblock(self) -> int:
        return 1 << self.frames.shape.pageblock_order


def _low(zone: ZoneState) -> int:
    return zone.low


def _min(zone: ZoneState) -> int:
    return zone.min


def _joined(parts: Iterable[tuple[Pfn, Pfn]]) -> list[tuple[Pfn, Pfn]]:
    joined: list[tuple[Pfn, Pfn]] = []
    for start, end in sorted(parts):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _without(part: tuple[Pfn, Pfn], start: Pfn, end: Pfn) -> list[tuple[Pfn, Pfn]]:
    pieces = (part[0], min(part[1], start)), (max(part[0], end), part[1])
    return [(low, high) for low, high in pieces if low < high]
