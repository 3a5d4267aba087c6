# SPDX-License-Identifier: Apache-2.0
"""Migration: folios move to other frames, one pass at a time.

Models mm/migrate.c (``migrate_pages_batch``, ``folio_ref_freeze`` failing on extra references) and
``alloc_migration_target``. A pass never waits: what can't move now is reported, and whoever asked tries again.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from hotbank.errors import KernelError
from hotbank.memory import Kind
from hotbank.model.alloc import (
    GFP_LONGTERM,
    GFP_MIGRATE_HIGH,
    GFP_MIGRATE_LOW,
    Gfp,
    OutOfMemoryError,
    PageAllocator,
    ZoneState,
)
from hotbank.model.folios import Folios
from hotbank.model.frames import MigrateType

MAX_BATCHED_MIGRATION = 512  # mm/migrate.c, NR_MAX_BATCHED_MIGRATION


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass did: folios moved, folios that failed by cause, folios under writeback that it must wait for."""

    moved: int
    pinned: int = 0
    no_room: int = 0
    stalled: tuple[int, ...] = ()

    @property
    def failed(self) -> int:
        """Folios that are still where they were and will be tried again."""
        return self.pinned + self.no_room


def target_class(source: ZoneState) -> Gfp:
    """``alloc_migration_target``: only what comes from HighMem or Movable may go there."""
    return GFP_MIGRATE_LOW if source.lowmem else GFP_MIGRATE_HIGH


class Migration:
    """Moves folios; ``success`` and ``fail`` are ``pgmigrate_success`` and ``pgmigrate_fail`` of /proc/vmstat."""

    def __init__(self, allocator: PageAllocator, folios: Folios) -> None:
        self._allocator, self._frames, self._folios = allocator, allocator.frames, folios
        self.success = 0
        self.fail = 0

    def migrate(self, sources: Sequence[int], gfp: Gfp) -> Pass:
        """Try to move the folios in these frames once."""
        folios = self._folios
        handles = [handle for handle in self._frames.holds(sources)[1] if handle]
        stalled = tuple(handle for handle in handles if handle in folios.writeback) if folios.writeback else ()
        held = folios.pins.keys() | folios.writeback
        ready = [handle for handle in handles if handle not in held] if held else handles
        moved = self._move(ready, gfp)
        outcome = Pass(moved, len(handles) - len(ready) - len(stalled), len(ready) - moved, stalled)
        self.success += moved
        self.fail += outcome.failed
        return outcome

    def leave_movable(self, handle: int) -> None:
        """``check_and_migrate_movable_pages``: out of Movable and CMA. Raises KernelError(ENOMEM, EAGAIN)."""
        frame = self._folios.frame(handle)
        movable = self._allocator.zone_of(frame).movable_only
        if not movable and self._frames.migratetype(frame) != MigrateType.CMA:
            return
        outcome = self.migrate([frame], GFP_LONGTERM)
        if not outcome.moved:
            error = errno.ENOMEM if outcome.no_room else errno.EAGAIN
            raise KernelError(error, "pin for long", detail="the page can't leave Movable")

    def _move(self, handles: list[int], gfp: Gfp) -> int:
        try:
            targets = self._allocator.alloc(gfp, Kind.ANON, len(handles))  # the kind moves along with the folio
        except OutOfMemoryError as e:
            targets = e.got
        # Reclaim on behalf of the targets never takes folios from isolated memory, so every handle is still there.
        left = self._folios.move(handles[: len(targets)], targets)
        self._frames.free(left)
        return len(targets)
