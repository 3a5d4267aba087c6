# SPDX-License-Identifier: Apache-2.0
"""The pool of huge pages: pageblocks that are taken from the allocator whole, in use or not.

Models mm/hugetlb.c: ``alloc_pool_huge_folio``, ``alloc_hugetlb_folio_nodemask`` (a page that migrates prefers one of
the pool) and ``dissolve_free_hugetlb_folios``: when a block leaves, the pool's free pages in it go back to the
allocator, the pool shrinks, and does not grow back by itself. A page in use that migrates to one of the pool leaves a
free one.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from hotbank.errors import KernelError
from hotbank.memory import Kind, Zone
from hotbank.model.alloc import Gfp, OutOfMemoryError, PageAllocator
from hotbank.model.contents import Holder, PageContents
from hotbank.model.frames import Frame, MigrateType
from hotbank.model.lru import Handle

GFP_HUGE = Gfp(MigrateType.MOVABLE, Zone.MOVABLE, patient=False)  # htlb_alloc_mask


@dataclass(slots=True, eq=False)
class HugePage:
    """The pages of one huge page, in adjacent frames."""

    handles: list[Handle]
    used: bool = False


class HugePages:
    """The pool of one machine."""

    def __init__(self, allocator: PageAllocator, contents: PageContents) -> None:
        self._allocator, self._frames, self._contents = allocator, allocator.frames, contents
        self._order = allocator.frames.shape.pageblock_order
        self._holder = Holder(Kind.HUGETLB, "hugetlb")
        self.pages: list[HugePage] = []

    @property
    def size(self) -> int:
        """Pages of ordinary size in a huge one."""
        return 1 << self._order

    def resize(self, pages: int) -> int:
        """``nr_hugepages``: have that many, as far as memory goes; pages in use stay. Returns how many there are."""
        while len(self.pages) < pages:
            try:
                first = self._allocator.alloc(GFP_HUGE, Kind.HUGETLB, 1, self._order)[0]
            except OutOfMemoryError:
                break
            self.pages.append(HugePage(self._contents.create(self._from(first), self._holder)))
        idle = [page for page in self.pages if not page.used]
        for page in idle[: max(0, len(self.pages) - pages)]:
            self._dissolve(page)
        return len(self.pages)

    def use(self, pages: int) -> None:
        """Have that many of them in use. Raises KernelError(ENOMEM) when the pool has not so many."""
        if pages > len(self.pages):
            raise KernelError(errno.ENOMEM, "hugetlb", detail=f"the pool has {len(self.pages)} huge pages")
        for number, page in enumerate(self.pages):
            page.used = number < pages

    def dissolve(self, start: int, end: int) -> None:
        """``dissolve_free_hugetlb_folios``: unused pages in the frames go back to the allocator."""
        for page in [page for page in self.pages if not page.used and self._inside(page, start, end)]:
            self._dissolve(page)

    def holding(self, handles: Iterable[Handle]) -> list[HugePage]:
        """The huge pages that any of the pages belongs to."""
        wanted = set(handles)
        return [page for page in self.pages if not wanted.isdisjoint(page.handles)]

    def migrate(self, page: HugePage, gfp: Gfp) -> bool:
        """Carry a page in use elsewhere: to a free one of the pool, else to a fresh one. False when there is none."""
        spare = next((other for other in self.pages if not other.used and self._takes(other, gfp)), None)
        if spare is not None:
            left = self._contents.move(page.handles, self._contents.end(spare.handles))
            spare.handles = self._contents.create(left, self._holder)
            return True
        try:
            first = self._allocator.alloc(gfp, Kind.HUGETLB, 1, self._order)[0]
        except OutOfMemoryError:
            return False
        self._allocator.free(self._contents.move(page.handles, self._from(first)))
        return True

    def _from(self, first: Frame) -> Sequence[Frame]:
        return cast("Sequence[Frame]", range(first, first + self.size))

    def _dissolve(self, page: HugePage) -> None:
        self.pages.remove(page)
        self._allocator.free(self._contents.end(page.handles))

    def _inside(self, page: HugePage, start: int, end: int) -> bool:
        return start <= self._contents.frame(page.handles[0]) < end

    def _takes(self, page: HugePage, gfp: Gfp) -> bool:
        """True if the page stays, on a node that may be used."""
        frame = self._contents.frame(page.handles[0])
        away = self._allocator.zone_of(frame).node != gfp.besides
        return away and self._frames.migratetype(frame) != MigrateType.ISOLATE
