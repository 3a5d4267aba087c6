# SPDX-License-Identifier: Apache-2.0
"""Page frames behind one interface: the buddy allocator and what each frame holds.

Models mm/page_alloc.c: ``__free_one_page``, ``__rmqueue``, ``__rmqueue_claim``, ``__rmqueue_steal``, before these two
``__rmqueue_fallback``, and mm/page_isolation.c: ``set_migratetype_isolate``. Two backends implement
``Frames``; they must agree in every answer and in the order of every list, so the order is part of the interface:

* A free list is the kernel's ``list_head``: taken from the head; freed pages enter at the head; pages that
  ``release``, ``isolate`` or ``unisolate`` bring in enter at the tail, in ascending order of frames.
* A batch means exactly what its elements would mean one by one, in the order given.

A *frame* here is an index from 0, not a pfn: the model packs the memory blocks that a machine has, or may get,
next to each other. Memory blocks are multiples of the largest buddy, so buddies never cross them and holes between
banks cost nothing. Zones are small integers given out by ``add_zone``; what they are called is the caller's business.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType, Protocol, TypeAlias

from hotbank.memory import CODE, IMMOVABLE_KINDS, KINDS, Kind, codes

Frame = NewType("Frame", int)


class MigrateType(IntEnum):
    """Page mobility, in the kernel's order (include/linux/mmzone.h, ``enum migratetype``)."""

    UNMOVABLE = 0
    MOVABLE = 1
    RECLAIMABLE = 2
    HIGHATOMIC = 3
    CMA = 4
    ISOLATE = 5


# mm/page_alloc.c, fallbacks[]: where a type looks when its own lists are empty.
FALLBACKS: dict[int, tuple[int, int]] = {
    MigrateType.UNMOVABLE: (MigrateType.RECLAIMABLE, MigrateType.MOVABLE),
    MigrateType.MOVABLE: (MigrateType.RECLAIMABLE, MigrateType.UNMOVABLE),
    MigrateType.RECLAIMABLE: (MigrateType.UNMOVABLE, MigrateType.MOVABLE),
}

# One byte per frame says what it holds: the code of its kind. FREE must be 0. OFFLINE is ours: a frame whose block is
# not online, where the kernel has no valid ``struct page`` to look at.
FREE = CODE[Kind.FREE]
OFFLINE = len(KINDS)

MOVABLE_CODES = codes(kind for kind in KINDS if kind.movable)
# What stands in an offline's way. A page without flags that is on no per-CPU list is somebody's.
UNMOVABLE_CODES = codes(IMMOVABLE_KINDS | {Kind.UNKNOWN})
# What may be in a block that goes offline: pages that the kernel passes over (mm/page_isolation.c,
# ``test_pages_isolated``).
LEFT_BEHIND = codes([Kind.FREE, Kind.POISONED, Kind.UNPLUGGED])

# What a frame's content reads as once its DRAM lost power, and once its page moved elsewhere.
DARK = 0x2727272727272727
POISON = 0xAAAAAAAAAAAAAAAA

# Batches of operations come as memory that both backends read and write in place: array("I"), bytes, memoryview.
Buffer: TypeAlias = "array[int] | bytes | bytearray | memoryview"
NO_FRAME = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Shape:
    """How many frames there are, the orders of the largest buddy and of a pageblock, and whether a page that has to
    come from another type's pageblock comes from the smallest free piece there (kernels.py, ``steals_smallest``)."""

    frames: int
    max_order: int = 10
    pageblock_order: int = 9
    steals_smallest: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.pageblock_order <= self.max_order:
            raise ValueError(f"pageblock order {self.pageblock_order} is not in 1..{self.max_order}")
        if self.frames % (1 << self.max_order):
            raise ValueError(f"{self.frames} frames are not a multiple of the largest buddy, {1 << self.max_order}")

    @property
    def pageblock(self) -> int:
        """Frames in a pageblock."""
        return 1 << self.pageblock_order


@dataclass(frozen=True, slots=True)
class FreeBlock:
    """One entry of a free list."""

    order: int
    migratetype: int
    frame: int


class Frames(Protocol):
    """Frames ``[0, shape.frames)``. All start OFFLINE and in no zone. Ranges are half-open.

    ``owner`` is a positive number that the caller chooses (0: none); ``content`` an unsigned 64-bit token.
    """

    shape: Shape

    def add_zone(self) -> int:
        """A new, empty zone's number."""
        ...

    def attach(self, zone: int, start: int, end: int, migratetype: int = MigrateType.MOVABLE) -> None:
        """Give the frames to a zone, RESERVED, their pageblocks of ``migratetype``. Both ends pageblock-aligned."""
        ...

    def detach(self, start: int, end: int) -> None:
        """Take isolated frames, all of them free or POISONED, out of the allocator and of their zone: OFFLINE."""
        ...

    def release(self, start: int, end: int) -> None:
        """RESERVED frames become free, in the largest aligned pieces (``memblock_free_all``, ``online_pages``)."""
        ...

    def set_type(self, start: int, end: int, migratetype: int) -> None:
        """Mark pageblocks of which no frame is free yet (CMA areas at boot)."""
        ...

    def set_kind(self, start: int, end: int, kind: Kind) -> None:
        """Say what allocated or reserved frames hold; never FREE."""
        ...

    def alloc(self, zone: int, order: int, migratetype: int, count: int, kind: Kind, floor: int = 0) -> list[Frame]:
        """First frames of up to ``count`` blocks of ``order``.

        Stops early when the zone has no such block, or when its free pages would fall below ``floor``. MOVABLE
        requests may use CMA pageblocks, others neither use nor count them.
        """
        ...

    def free(self, frames: Sequence[int], order: int = 0) -> None:
        """Give blocks of ``order`` back, whose frames were disowned; what free frames read as is not defined."""
        ...

    def churn(
        self,
        zone: int,
        migratetype: int,
        kind: Kind,
        slots: array[int] | memoryview,
        orders: Buffer,
        picks: Buffer,
    ) -> int:
        """A long batch of single allocations and frees in any mixture. Returns how many allocations failed.

        ``slots`` (32-bit words) has one for each block: its first frame, or NO_FRAME; ``orders`` (bytes) the slots'
        orders. For each slot named by ``picks`` (32-bit words), in turn: an empty slot gets a block, or stays empty;
        the block of a filled slot is freed.
        """
        ...

    def isolate(self, start: int, end: int) -> None:
        """Make the pageblocks ISOLATE: their free pages leave the zone's count and are not handed out."""
        ...

    def unisolate(self, start: int, end: int, migratetype: int = MigrateType.MOVABLE) -> None:
        """Make the pageblocks MOVABLE again, or whatever they were (``undo_isolate_page_range``)."""
        ...

    def free_pages(self, zone: int) -> int:
        """Free pages of the zone, isolated ones left out (``NR_FREE_PAGES``)."""
        ...

    def free_cma(self, zone: int) -> int:
        """Free pages of the zone in CMA pageblocks (``NR_FREE_CMA_PAGES``)."""
        ...

    def free_in(self, size: int) -> Sequence[int]:
        """Free frames, isolated ones too, of each ``size`` adjacent frames: a multiple of the largest buddy."""
        ...

    def free_by_order(self, start: int, end: int) -> tuple[int, ...]:
        """How many free blocks of each order begin there, isolated ones too. Bounds are multiples of the largest."""
        ...

    def count(self, start: int, end: int) -> dict[int, int]:
        """Kind code → number of frames; codes that do not occur are left out."""
        ...

    def find(self, start: int, end: int, codes: bytes, limit: int | None = None) -> list[Frame]:
        """Frames whose kind code is one of ``codes``, ascending, the first ``limit`` of them."""
        ...

    def kind(self, frame: int) -> int:
        """The kind code of one frame."""
        ...

    def migratetype(self, frame: int) -> int:
        """The type of the frame's pageblock."""
        ...

    def zone(self, frame: int) -> int:
        """The frame's zone, or -1."""
        ...

    def own(self, frames: Sequence[int], owners: Sequence[int], contents: Sequence[int]) -> None:
        """Write owner and content of allocated frames."""
        ...

    def disown(self, frames: Sequence[int]) -> None:
        """Set the owners to 0."""
        ...

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Carry kind, owner and content over; the sources keep their kind, lose the owner and read as POISON."""
        ...

    def holds(self, frames: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        """Kind codes, owners and contents of the frames; what free ones say of owner and content is not defined."""
        ...

    def owner(self, frame: int) -> int:
        """The frame's owner, 0 for none."""
        ...

    def content(self, frame: int) -> int:
        """The frame's content."""
        ...

    def fill(self, start: int, end: int, content: int) -> None:
        """Overwrite the content of every frame, whoever uses it (power does that)."""
        ...

    def owned(self) -> int:
        """How many frames have an owner."""
        ...

    def free_blocks(self, zone: int) -> list[FreeBlock]:
        """Every free list of the zone: by order, then type, head first."""
        ...

    def validate(self) -> None:
        """Check lists against frames, counts, pageblocks and maximal merging. Raises AssertionError."""
        ...


def cma_pageblocks(frames: Frames, start: int, end: int) -> list[Frame]:
    """First frames of the pageblocks that are lent to CMA; ``start`` is one."""
    size = frames.shape.pageblock
    return [Frame(at) for at in range(start, end, size) if frames.migratetype(at) == MigrateType.CMA]
