# SPDX-License-Identifier: Apache-2.0
"""The compiled backend: ``Frames`` over numpy arrays, its loops compiled by numba (``hotbank[fast]``).

Models mm/page_alloc.c and mm/page_isolation.c like the reference, with which it shares no allocator code. This module
turns Python values into arrays and checks what callers hand in; buddy.py has the allocator and its layout.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from hotbank.memory import CODE, KINDS, Kind
from hotbank.model.compiled import buddy
from hotbank.model.compiled.buddy import GROUP_BITS, NONE, Arrays, U
from hotbank.model.frames import FREE, LEFT_BEHIND, OFFLINE, POISON, Buffer, Frame, FreeBlock, MigrateType, Shape

_TYPES = len(MigrateType)
_RESERVED = CODE[Kind.RESERVED]
_ZONES = 63
_NO_ZONE = _ZONES << GROUP_BITS  # the zone of frames that are in none; its lists stay empty
_GROUPS = (_ZONES + 1) << GROUP_BITS
_ORDERS = 16
_HEAD, _MIXED = int(buddy.HEAD), int(buddy.MIXED)
_LARGEST_FRAMES = 1 << 30
_PLAIN_CONTENT = 1 << 31  # contents from here on, 64 bits wide, are kept as numbers in a table

_BREACHES = {
    buddy.BROKEN: "a list of group {} (zone {zone}) does not lead back to its head",
    buddy.MISPLACED: "free block {:#x} is not aligned to the order of its list",
    buddy.UNMARKED: "free block {:#x} is not marked",
    buddy.USED: "free block {:#x} is in use",
    buddy.FOREIGN: "free block {:#x} is in the lists of another zone or type",
    buddy.UNMERGED: "free block {:#x} has a free buddy",
    buddy.MISCOUNTED: "group {} (zone {zone}) counts other free pages than its lists have",
    buddy.UNFILLED: "group {} (zone {zone}) marks the wrong orders as filled",
    buddy.STRAY: "{} blocks are marked as free, not as many are in lists",
    buddy.UNSPOKEN: "frame {:#x} says nothing, or what its whole top says already",
}

_Words = npt.NDArray[np.uint32]


class CompiledFrames:
    """``Frames`` as a structure of arrays, nine bytes a frame; see frames.py for the contract of every public method.

    Owners are below 2**32. Contents below 2**31 cost nothing beyond that; each distinct one above takes an entry of a
    table that only grows (dark and poisoned frames take one each).
    """

    def __init__(self, shape: Shape) -> None:
        if shape.frames > _LARGEST_FRAMES or shape.max_order >= _ORDERS:
            raise ValueError(f"{shape.frames} frames, orders up to {shape.max_order}: at most 2**30 and {_ORDERS - 1}")
        self.shape = shape
        tops = shape.frames >> shape.max_order
        self._a = Arrays(
            links=np.zeros(2 * (shape.frames + tops + _GROUPS * _ORDERS), np.uint32),
            state=np.zeros(shape.frames + tops, np.uint8),
            group=np.full(shape.frames >> shape.pageblock_order, _NO_ZONE | MigrateType.MOVABLE, np.uint16),
            orders=np.zeros(_GROUPS, np.uint32),
            pages=np.zeros(_GROUPS, np.uint64),
            tops=U(shape.frames),
            lists=U(shape.frames + tops),
            top=U(shape.max_order),
            pageblock=U(shape.pageblock_order),
            smallest=U(shape.steals_smallest),
        )
        self._a.state[shape.frames :] = OFFLINE
        heads = np.arange(shape.frames + tops, shape.frames + tops + _GROUPS * _ORDERS, dtype=np.uint32)
        self._a.links[2 * (shape.frames + tops) :] = heads.repeat(2)
        # A look at one item of a memoryview takes a tenth of the time of a call into compiled code.
        self._state, self._links = self._a.state.data, self._a.links.data
        self._pages, self._group_of = self._a.pages.data, self._a.group.data
        self._zones = 0
        self._wide: list[int] = []
        self._wide_code: dict[int, int] = {}

    # Zones and pageblocks

    def add_zone(self) -> int:
        if self._zones == _ZONES:
            raise ValueError(f"at most {_ZONES} zones")
        self._zones += 1
        return self._zones - 1

    def attach(self, zone: int, start: int, end: int, migratetype: int = MigrateType.MOVABLE) -> None:
        groups = self._groups(start, end)
        assert zone < self._zones, f"no zone {zone}"
        assert (groups >> GROUP_BITS == _ZONES).all(), "frames are in a zone already"
        groups[:] = self._group(zone, migratetype)
        self.set_kind(start, end, Kind.RESERVED)

    def detach(self, start: int, end: int) -> None:
        groups = self._groups(start, end)
        assert (groups & 7 == MigrateType.ISOLATE).all(), "frames are not isolated"
        counts = self._count(start, end)
        assert sum(counts[code] for code in LEFT_BEHIND) == end - start, "frames are in use"
        buddy.unlist(self._a, U(start), U(end))
        buddy.paint(self._a, U(start), U(end), np.uint8(OFFLINE))
        groups[:] = _NO_ZONE | MigrateType.MOVABLE

    def set_type(self, start: int, end: int, migratetype: int) -> None:
        groups = self._groups(start, end)
        assert not self._count(start, end)[FREE], "free pages must move lists with their pageblock"
        groups[:] = groups >> GROUP_BITS << GROUP_BITS | migratetype

    def set_kind(self, start: int, end: int, kind: Kind) -> None:
        assert kind is not Kind.FREE, "frames become free through release and free"
        self._check_range(start, end)
        buddy.paint(self._a, U(start), U(end), np.uint8(CODE[kind]))

    # Allocating and freeing

    def release(self, start: int, end: int) -> None:
        reserved = self._count(start, end)[_RESERVED]
        assert reserved == end - start, f"[{start:#x}, {end:#x}) is not reserved"
        buddy.release(self._a, U(start), U(end))

    def alloc(self, zone: int, order: int, migratetype: int, count: int, kind: Kind, floor: int = 0) -> list[Frame]:
        usable = self.free_pages(zone) - (0 if migratetype == MigrateType.MOVABLE else self.free_cma(zone))
        most = min(count, (usable - floor) >> order)
        if most <= 0:
            return []  # a call into compiled code costs as much as a hundred pages
        frames = np.empty(most, np.uint32)
        code = np.uint8(CODE[kind])
        got = buddy.alloc(self._a, U(zone << GROUP_BITS), U(order), U(migratetype), code, frames)
        return cast("list[Frame]", frames[:got].tolist())

    def free(self, frames: Sequence[int], order: int = 0) -> None:
        blocks = _words(frames)
        assert 0 <= order <= self.shape.max_order, f"no blocks of order {order}"
        assert not blocks.size or not np.bitwise_or.reduce(blocks) & ((1 << order) - 1), "blocks are not aligned"
        self._all_in_use(buddy.free(self._a, blocks, U(order)), blocks, "freed twice")

    def churn(
        self,
        zone: int,
        migratetype: int,
        kind: Kind,
        slots: array[int] | memoryview,
        orders: Buffer,
        picks: Buffer,
    ) -> int:
        blocks, sizes, chosen = _view(slots), np.frombuffer(orders, np.uint8), _view(picks)
        sizes.flags.writeable = chosen.flags.writeable = False  # else each mixture would be compiled by itself
        assert zone < self._zones, f"no zone {zone}"
        assert sizes.size == blocks.size, "each slot has an order"
        assert not chosen.size or chosen.max() < blocks.size, "no such slot"
        group, code = U(zone << GROUP_BITS), np.uint8(CODE[kind])
        done, failed = buddy.churn(self._a, group, U(migratetype), code, blocks, sizes, chosen)
        self._all_in_use(done, chosen, "no such order, or the block is not in use, of slot")
        return int(failed)

    # Isolation

    def isolate(self, start: int, end: int) -> None:
        self._move_free(start, end, MigrateType.ISOLATE)

    def unisolate(self, start: int, end: int, migratetype: int = MigrateType.MOVABLE) -> None:
        self._move_free(start, end, migratetype)

    def _move_free(self, start: int, end: int, migratetype: int) -> None:
        self._groups(start, end)
        buddy.move_free(self._a, U(start), U(end), U(migratetype))

    # What frames hold

    def free_pages(self, zone: int) -> int:
        first = zone << GROUP_BITS
        return sum(self._pages[first : first + _TYPES]) - self._pages[first + MigrateType.ISOLATE]

    def free_cma(self, zone: int) -> int:
        return self._pages[self._group(zone, MigrateType.CMA)]

    def free_in(self, size: int) -> array[int]:
        assert size % (1 << self.shape.max_order) == 0 == self.shape.frames % size, f"no blocks of {size} frames"
        counts = np.empty(self.shape.frames // size, np.uint32)
        buddy.free_in(self._a, U(size), counts)
        return array("I", counts.tobytes())

    def free_by_order(self, start: int, end: int) -> tuple[int, ...]:
        counts = self._codes(start, end)
        return tuple(int(counts[_HEAD + order]) >> order for order in range(self.shape.max_order + 1))

    def count(self, start: int, end: int) -> dict[int, int]:
        counts = self._count(start, end)
        return {int(code): int(counts[code]) for code in counts.nonzero()[0]}

    def find(self, start: int, end: int, codes: bytes, limit: int | None = None) -> list[Frame]:
        counts = self._count(start, end)
        wanted = np.zeros(256, np.uint8)
        wanted[list(codes)] = 1
        wanted[_HEAD:] = FREE in codes
        there = int(counts[wanted[: len(counts)].nonzero()[0]].sum())
        found = np.empty(there if limit is None else min(there, limit), np.uint32)
        buddy.find(self._a, U(start), U(end), wanted, found)
        return cast("list[Frame]", found.tolist())

    def kind(self, frame: int) -> int:
        self._check_range(frame, frame + 1)
        code = self._state[self._speaker(frame)]
        return FREE if code >= _HEAD else code

    def migratetype(self, frame: int) -> int:
        return self._group_of[frame >> self.shape.pageblock_order] & 7

    def zone(self, frame: int) -> int:
        zone = self._group_of[frame >> self.shape.pageblock_order] >> GROUP_BITS
        return -1 if zone == _ZONES else zone

    def own(self, frames: Sequence[int], owners: Sequence[int], contents: Sequence[int]) -> None:
        pages, who, what = _words(frames), _words(owners), self._encode(contents)
        assert pages.size == who.size == what.size, "an owner and a content for each frame"
        self._all_in_use(buddy.own(self._a, pages, who, what), pages, "owned while free")

    def disown(self, frames: Sequence[int]) -> None:
        pages = _words(frames)
        self._all_in_use(buddy.disown(self._a, pages), pages, "disowned while free")

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        left, entered = _words(sources), _words(targets)
        assert left.size == entered.size, "a target for each source"
        done = buddy.move(self._a, left, entered, U(self._encode_one(POISON)))
        self._all_in_use(done, left, "moved while it or its target is free")

    def holds(self, frames: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        pages = _words(frames)
        assert not pages.size or pages.max() < self.shape.frames, "not within the frames"
        codes, owners, contents = (np.empty(pages.size, np.uint32) for _ in range(3))
        buddy.holds_each(self._a, pages, codes, owners, contents)
        return codes.tolist(), owners.tolist(), self._decode(contents)

    def owner(self, frame: int) -> int:
        return self._word(frame, 0)

    def content(self, frame: int) -> int:
        return self._decode_one(self._word(frame, 1))

    def fill(self, start: int, end: int, content: int) -> None:
        self._check_range(start, end)
        buddy.fill(self._a, U(start), U(end), U(self._encode_one(content)))

    def owned(self) -> int:
        return int(buddy.owned(self._a))

    # Checks

    def free_blocks(self, zone: int) -> list[FreeBlock]:
        lists = [self._lists(self._group(zone, migratetype)) for migratetype in range(_TYPES)]
        return [
            FreeBlock(order, migratetype, frame)
            for order in range(self.shape.max_order + 1)
            for migratetype in range(_TYPES)
            for frame in lists[migratetype][order]
        ]

    def validate(self) -> None:
        groups = self._zones << GROUP_BITS
        wrong, where = buddy.check(self._a, U(groups))
        assert wrong == buddy.OK, _BREACHES[wrong].format(int(where), zone=int(where) >> GROUP_BITS)
        assert not self._a.orders[groups:].any(), "a list of no zone has blocks"

    def _lists(self, group: int) -> list[list[int]]:
        """The first frames of a group's free blocks, head first, for each order."""
        sizes = np.empty(_ORDERS, np.uint64)
        buddy.list_sizes(self._a, U(group), sizes)
        assert NONE not in sizes, f"a list of group {group} is broken"
        return [self._walk(group, order, int(size)) if size else [] for order, size in enumerate(sizes)]

    def _walk(self, group: int, order: int, size: int) -> list[int]:
        frames = np.empty(size, np.uint32)
        buddy.walk(self._a, U(group), U(order), frames)
        heads: list[int] = frames.tolist()
        return heads

    # Between Python's values and the arrays

    def _groups(self, start: int, end: int) -> npt.NDArray[np.uint16]:
        shift = self.shape.pageblock_order
        self._check_range(start, end)
        assert (start | end) & ((1 << shift) - 1) == 0, f"[{start:#x}, {end:#x}) is not pageblock-aligned"
        return self._a.group[start >> shift : end >> shift]

    def _group(self, zone: int, migratetype: int) -> int:
        return zone << GROUP_BITS | migratetype

    def _check_range(self, start: int, end: int) -> None:
        assert 0 <= start <= end <= self.shape.frames, f"[{start:#x}, {end:#x}) is not within the frames"

    def _codes(self, start: int, end: int) -> npt.NDArray[np.uint64]:
        """Frames of each kind code, and of each order's free blocks."""
        self._check_range(start, end)
        counts = np.zeros(256, np.uint64)
        buddy.count(self._a, U(start), U(end), counts)
        return counts

    def _count(self, start: int, end: int) -> npt.NDArray[np.uint64]:
        counts = self._codes(start, end)
        counts[FREE] += counts[_HEAD:].sum()
        return counts[: len(KINDS) + 1]

    def _speaker(self, frame: int) -> int:
        """Where it says what a frame holds: the byte before it that is not 0, if its top does not speak for it."""
        top = self.shape.frames + (frame >> self.shape.max_order)
        if self._state[top] != _MIXED:
            return top
        order = 0
        while not self._state[frame >> order << order]:
            order += 1
        return frame >> order << order

    def _word(self, frame: int, word: int) -> int:
        """One of the words of a frame that is not free: 0 its owner, 1 its content. 0 for a free frame."""
        self._check_range(frame, frame + 1)
        speaker = self._speaker(frame)
        if self._state[speaker] >= _HEAD:
            return 0
        return self._links[2 * (speaker if speaker >= self.shape.frames else frame) + word]

    def _encode(self, contents: Sequence[int]) -> _Words:
        if isinstance(contents, range) and max(contents.start, contents.stop) < _PLAIN_CONTENT:
            return _words(contents)
        wide = np.asarray(contents, np.uint64)
        if not wide.size or wide.max() < _PLAIN_CONTENT:
            return wide.astype(np.uint32)
        return np.array([self._encode_one(int(content)) for content in wide], np.uint32)

    def _decode(self, codes: _Words) -> list[int]:
        plain: list[int] = codes.tolist()
        if not codes.size or codes.max() < _PLAIN_CONTENT:
            return plain
        return [self._decode_one(code) for code in plain]

    def _decode_one(self, code: int) -> int:
        return code if code < _PLAIN_CONTENT else self._wide[code - _PLAIN_CONTENT]

    def _encode_one(self, content: int) -> int:
        if content < _PLAIN_CONTENT:
            return content
        if content not in self._wide_code:
            self._wide_code[content] = _PLAIN_CONTENT + len(self._wide)
            self._wide.append(content)
        return self._wide_code[content]

    def _all_in_use(self, done: int, asked: _Words, breach: str) -> None:
        assert done == asked.size, f"{breach}: {int(asked[done]):#x}"


def _words(values: Sequence[int]) -> _Words:
    """A batch as 32-bit words; arrays of such words are not copied."""
    if isinstance(values, array) and values.itemsize == 4:
        return _view(values)
    if isinstance(values, range):
        return np.arange(values.start, values.stop, values.step, dtype=np.uint32)
    return _view(array("I", values))  # a fifth of what numpy takes to look at each number


def _view(buffer: Buffer) -> _Words:
    """A caller's 32-bit words, not copied."""
    return np.frombuffer(buffer, np.uint32)
