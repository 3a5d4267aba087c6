# SPDX-License-Identifier: Apache-2.0
"""Migration: pages move to other frames, one pass at a time.

Models mm/migrate.c (``migrate_pages_batch``, ``folio_ref_freeze`` failing on extra references),
``alloc_migration_target``, and mm/compaction.c (``compact_zone``). A pass never waits: what can't move now is
reported, and whoever asked tries again.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hotbank.errors import KernelError
from hotbank.memory import CODE, Kind
from hotbank.model.alloc import (
    GFP_LONGTERM,
    GFP_MIGRATE_HIGH,
    GFP_MIGRATE_LOW,
    Gfp,
    OutOfMemoryError,
    PageAllocator,
    ZoneState,
)
from hotbank.model.contents import PageContents
from hotbank.model.frames import FREE, MOVABLE_CODES, MigrateType
from hotbank.model.hugepages import HugePages
from hotbank.model.lru import Handle

MAX_BATCHED_MIGRATION = 512  # mm/migrate.c, NR_MAX_BATCHED_MIGRATION
_COMPACT_TRIES = 8
_COMPACTED = frozenset(MOVABLE_CODES) - {CODE[Kind.HUGETLB]}


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass did: pages moved, pages that failed by cause, pages under writeback that it must wait for."""

    moved: int
    pinned: int = 0
    no_room: int = 0
    stalled: tuple[Handle, ...] = ()

    @property
    def failed(self) -> int:
        """Pages that are still where they were and will be tried again."""
        return self.pinned + self.no_room


def target_class(source: ZoneState, *, away: bool = False) -> Gfp:
    """``alloc_migration_target``: only what comes from HighMem or Movable may go there. ``away``: to other nodes."""
    gfp = GFP_MIGRATE_LOW if source.lowmem else GFP_MIGRATE_HIGH
    return replace(gfp, node=source.node, besides=source.node) if away else gfp


class Migration:
    """Moves pages; ``success`` and ``fail`` are ``pgmigrate_success`` and ``pgmigrate_fail`` of /proc/vmstat."""

    def __init__(self, allocator: PageAllocator, contents: PageContents, huge: HugePages) -> None:
        self._allocator, self._frames, self._contents, self._huge = allocator, allocator.frames, contents, huge
        self.success = 0
        self.fail = 0

    def migrate(self, sources: Sequence[int], gfp: Gfp) -> Pass:
        """Try to move the pages in these frames once."""
        contents = self._contents
        handles = contents.at(sources)
        if self._huge.pages:
            handles, huge = self._without_huge(handles, gfp)
        else:
            huge = Pass(0)
        stalled = tuple(handle for handle in handles if handle in contents.writeback) if contents.writeback else ()
        held = contents.pins.keys() | contents.writeback
        ready = [handle for handle in handles if handle not in held] if held else handles
        moved = self._move(ready, gfp)
        pinned, no_room = len(handles) - len(ready) - len(stalled), len(ready) - moved
        outcome = Pass(huge.moved + moved, huge.pinned + pinned, huge.no_room + no_room, stalled)
        self.success += outcome.moved
        self.fail += outcome.failed
        return outcome

    def leave_movable(self, handle: Handle) -> None:
        """``check_and_migrate_movable_pages``: out of Movable and CMA. Raises KernelError(ENOMEM, EAGAIN)."""
        frame = self._contents.frame(handle)
        movable = self._allocator.zone_of(frame).movable_only
        if not movable and self._frames.migratetype(frame) != MigrateType.CMA:
            return
        outcome = self.migrate([frame], GFP_LONGTERM)
        if not outcome.moved:
            error = errno.ENOMEM if outcome.no_room else errno.EAGAIN
            raise KernelError(error, "pin for long", detail="the page can't leave Movable")

    def compact(self, zone: ZoneState, order: int) -> bool:
        """``compact_zone``, as much of it as one block of ``order`` needs: empty the pageblocks that hold least.

        Only where everything can move, and only blocks up to the largest buddy. False when that is nowhere.
        """
        size = 1 << max(order, self._frames.shape.pageblock_order)
        wanted = [
            (used, start)
            for start in range(0, self._frames.shape.frames, size)
            if self._frames.zone(start) == zone.number
            for used in [self._movable_in(start, start + size)]
            if used
        ]
        for _, start in sorted(wanted)[:_COMPACT_TRIES]:
            self._frames.isolate(start, start + size)
            outcome = self.migrate(self._frames.find(start, start + size, MOVABLE_CODES), target_class(zone))
            self._frames.unisolate(start, start + size)
            if not outcome.failed and not outcome.stalled:
                return True
        return False

    def _movable_in(self, start: int, end: int) -> int:
        """How many pages would have to move; 0 if one can't, or nothing is there to be moved."""
        counts = self._frames.count(start, end)
        types = range(start, end, 1 << self._frames.shape.pageblock_order)
        if any(self._frames.migratetype(frame) != MigrateType.MOVABLE for frame in types):
            return 0
        used = {code: pages for code, pages in counts.items() if code != FREE}
        return sum(used.values()) if used.keys() <= _COMPACTED else 0

    def _without_huge(self, handles: list[Handle], gfp: Gfp) -> tuple[list[Handle], Pass]:
        """Move huge pages, each as a whole; the other pages, and what became of the huge ones."""
        pages = [page for page in self._huge.holding(handles) if page.used]
        held = self._contents.pins.keys()
        pinned = [page for page in pages if not held.isdisjoint(page.handles)]
        moved = sum(self._huge.migrate(page, gfp) for page in pages if page not in pinned)
        size, aside = self._huge.size, {handle for page in self._huge.pages for handle in page.handles}
        outcome = Pass(moved * size, len(pinned) * size, (len(pages) - len(pinned) - moved) * size)
        return [handle for handle in handles if handle not in aside], outcome

    def _move(self, handles: list[Handle], gfp: Gfp) -> int:
        try:
            targets = self._allocator.alloc(gfp, Kind.ANON, len(handles))  # the kind moves along with the page
        except OutOfMemoryError as e:
            targets = e.got
        # Reclaim on behalf of the targets never takes pages from isolated memory, so every handle is still there.
        left = self._contents.move(handles[: len(targets)], targets)
        self._allocator.free(left)
        return len(targets)
