# SPDX-License-Identifier: Apache-2.0
"""A twin of the buddy allocator that is too simple to be wrong: a set of free frames.

Which frame an allocation gets is the allocator's choice; that it was free, in the right zone and aligned, and what the
free lists must then look like, follows from the set alone: buddies are always merged as far as they go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hotbank.model.frames import Frames, FreeBlock, MigrateType


class Twin:
    """What must be true of ``frames`` after the calls that were reported here."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.free: set[int] = set()

    def took(self, zone: int, order: int, firsts: Sequence[int]) -> None:
        """An allocation answered with these blocks."""
        for first in firsts:
            block = set(range(first, first + (1 << order)))
            assert first % (1 << order) == 0, "not aligned"
            assert block <= self.free, "not free"
            assert {self.frames.zone(frame) for frame in block} == {zone}, "from another zone"
            assert self.frames.migratetype(first) != MigrateType.ISOLATE, "from isolated memory"
            self.free -= block

    def gave(self, order: int, firsts: Sequence[int]) -> None:
        """These blocks were freed."""
        for first in firsts:
            self.free |= set(range(first, first + (1 << order)))

    def check(self, zones: int) -> None:
        """Lists, counts and kinds are what the set says."""
        self.frames.validate()
        shape = self.frames.shape
        assert set(self.frames.find(0, shape.frames, b"\0")) == self.free
        orders = [block.order for zone in range(zones) for block in self._blocks(zone)]
        assert self.frames.free_by_order(0, shape.frames) == tuple(map(orders.count, range(shape.max_order + 1)))
        for zone in range(zones):
            mine = [frame for frame in self.free if self.frames.zone(frame) == zone]
            listed = self.frames.free_blocks(zone)
            assert sorted(listed, key=lambda b: b.frame) == list(self._blocks(zone))
            usable = [f for f in mine if self.frames.migratetype(f) != MigrateType.ISOLATE]
            assert self.frames.free_pages(zone) == len(usable)
            cma = [f for f in mine if self.frames.migratetype(f) == MigrateType.CMA]
            assert self.frames.free_cma(zone) == len(cma)

    def _blocks(self, zone: int) -> Iterator[FreeBlock]:
        for first in range(0, self.frames.shape.frames, 1 << self.frames.shape.max_order):
            yield from self._merged(zone, first, self.frames.shape.max_order)

    def _merged(self, zone: int, first: int, order: int) -> Iterator[FreeBlock]:
        block = range(first, first + (1 << order))
        types = {self.frames.migratetype(frame) for frame in block}
        whole = self.free.issuperset(block) and {self.frames.zone(frame) for frame in block} == {zone}
        if whole and len(types) == 1:
            yield FreeBlock(order, types.pop(), first)
        elif order:
            half = 1 << (order - 1)
            yield from self._merged(zone, first, order - 1)
            yield from self._merged(zone, first + half, order - 1)
