# SPDX-License-Identifier: Apache-2.0
"""The reference backend: a state machine against a twin, the order of lists, and planted breaches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from effort import examples
from hotbank.memory import CODE, Kind
from hotbank.model.frames import FREE, POISON, MigrateType, Shape
from hotbank.model.reference import ReferenceFrames
from model.frames_twin import Twin

SMALL = Shape(256, max_order=5, pageblock_order=4)
CHUNK = 1 << SMALL.max_order
TYPES = (MigrateType.UNMOVABLE, MigrateType.MOVABLE, MigrateType.RECLAIMABLE)
ZONE_CHUNKS = {0: range(3), 1: range(3, 7)}  # chunk 7 belongs to nobody
CMA_CHUNK = 2


def small_frames() -> ReferenceFrames:
    """Two zones, the last chunk of the first half CMA; everything free."""
    frames = ReferenceFrames(SMALL)
    for zone, chunks in ZONE_CHUNKS.items():
        assert frames.add_zone() == zone
        frames.attach(zone, chunks.start * CHUNK, chunks.stop * CHUNK)
    frames.set_type(CMA_CHUNK * CHUNK, CMA_CHUNK * CHUNK + CHUNK // 2, MigrateType.CMA)
    pieces = [0, CMA_CHUNK * CHUNK, CMA_CHUNK * CHUNK + CHUNK // 2, 3 * CHUNK, 7 * CHUNK]
    for start, end in pairwise(pieces):  # a CMA area is released by itself, as the kernel does
        frames.release(start, end)
    return frames


class FramesMachine(RuleBasedStateMachine):
    """Random calls; after each, every list must be what the set of free frames says."""

    blocks = Bundle("blocks")

    @initialize()
    def start(self) -> None:
        self.frames = small_frames()
        self.twin = Twin(self.frames)
        self.twin.free = set(range(7 * CHUNK))
        self.used: dict[int, int] = {}
        self.isolated: set[int] = set()
        self.absent: set[int] = set()
        self.tokens: dict[int, tuple[int, int]] = {}
        self.next_owner = 1

    @rule(
        target=blocks,
        zone=st.integers(0, 1),
        order=st.integers(0, SMALL.max_order),
        wanted=st.sampled_from(TYPES),
        count=st.integers(1, 40),
        floor=st.integers(0, 60),
    )
    def alloc(self, zone: int, order: int, wanted: MigrateType, count: int, floor: int) -> object:
        before = self.frames.free_pages(zone)
        got = self.frames.alloc(zone, order, wanted, count, Kind.ANON, floor)
        assert len(got) <= count
        assert not got or before - (len(got) << order) >= floor
        self.twin.took(zone, order, got)
        self.used.update(dict.fromkeys(got, order))
        for first in got:
            self._own(range(first, first + (1 << order)))
        return multiple(*got)

    @rule(first=blocks)
    def free(self, first: int) -> None:
        order = self.used.pop(first, None)
        if order is None:
            return
        frames = list(range(first, first + (1 << order)))
        self.frames.disown(frames)
        for frame in frames:
            del self.tokens[frame]
        self.frames.free([first], order)
        self.twin.gave(order, [first])

    @rule(chunk=st.sampled_from([0, 1, 3, 4, 5, 6]))
    def isolate(self, chunk: int) -> None:
        if chunk not in self.isolated | self.absent:
            self.frames.isolate(chunk * CHUNK, chunk * CHUNK + CHUNK)
            self.isolated.add(chunk)

    @rule(chunk=st.sampled_from([0, 1, 3, 4, 5, 6]))
    def unisolate(self, chunk: int) -> None:
        if chunk in self.isolated:
            self.frames.unisolate(chunk * CHUNK, chunk * CHUNK + CHUNK)
            self.isolated.discard(chunk)

    @rule(chunk=st.sampled_from([0, 1, 3, 4, 5, 6]))
    def leave(self, chunk: int) -> None:
        """Evacuate an isolated chunk as far as there is room, and detach it if that emptied it."""
        if chunk not in self.isolated:
            return
        inside = [first for first in self.used if first // CHUNK == chunk]
        for first in inside:
            self._migrate(first)
        if set(range(chunk * CHUNK, (chunk + 1) * CHUNK)) <= self.twin.free:
            self.frames.detach(chunk * CHUNK, chunk * CHUNK + CHUNK)
            self.twin.free -= set(range(chunk * CHUNK, (chunk + 1) * CHUNK))
            self.isolated.discard(chunk)
            self.absent.add(chunk)

    @rule(chunk=st.sampled_from([0, 1, 3, 4, 5, 6]), zone=st.integers(0, 1))
    def come_back(self, chunk: int, zone: int) -> None:
        if chunk in self.absent:
            self.frames.attach(zone, chunk * CHUNK, chunk * CHUNK + CHUNK)
            self.frames.release(chunk * CHUNK, chunk * CHUNK + CHUNK)
            self.twin.free |= set(range(chunk * CHUNK, (chunk + 1) * CHUNK))
            self.absent.discard(chunk)

    def _migrate(self, first: int) -> None:
        order = self.used[first]
        zone = self.frames.zone(first)
        got = self.frames.alloc(zone, order, MigrateType.MOVABLE, 1, Kind.ANON)
        if not got:
            return
        self.twin.took(zone, order, got)
        sources, targets = range(first, first + (1 << order)), range(got[0], got[0] + (1 << order))
        self.frames.move(sources, targets)
        for source, target in zip(sources, targets, strict=True):
            self.tokens[target] = self.tokens.pop(source)
            assert self.frames.content(source) == POISON
        del self.used[first]
        self.used[got[0]] = order
        self.frames.free([first], order)
        self.twin.gave(order, [first])

    def _own(self, frames: range) -> None:
        owners = range(self.next_owner, self.next_owner + len(frames))
        contents = [owner * 7919 for owner in owners]
        self.next_owner += len(frames)
        self.frames.own(frames, owners, contents)
        self.tokens.update(zip(frames, zip(owners, contents, strict=True), strict=True))

    @invariant()
    def agrees(self) -> None:
        self.twin.check(zones=2)
        assert self.frames.owned() == len(self.tokens)
        for frame, (owner, content) in self.tokens.items():
            assert (self.frames.owner(frame), self.frames.content(frame)) == (owner, content)


FramesMachine.TestCase.settings = examples(60, steps=40)
TestFrames = FramesMachine.TestCase


def contents_of(frames: ReferenceFrames) -> object:
    return [frames.free_blocks(zone) for zone in (0, 1)], [frames.kind(f) for f in range(SMALL.frames)]


@st.composite
def worn_frames(draw: st.DrawFn) -> ReferenceFrames:
    """Frames after some allocating and freeing."""
    frames = small_frames()
    for _ in range(draw(st.integers(0, 6))):
        zone, order = draw(st.integers(0, 1)), draw(st.integers(0, 3))
        got = frames.alloc(zone, order, draw(st.sampled_from(TYPES)), draw(st.integers(1, 30)), Kind.ANON)
        back = [first for first in got if draw(st.booleans())]
        frames.free(back, order)
    return frames


@examples(150)
@given(
    worn_frames(),
    st.integers(0, 1),
    st.integers(0, 3),
    st.sampled_from(TYPES),
    st.integers(1, 60),
    st.integers(0, 30),
)
def test_a_batch_is_its_elements_one_by_one(
    frames: ReferenceFrames, zone: int, order: int, wanted: MigrateType, count: int, floor: int
) -> None:
    twin = copy.deepcopy(frames)
    batch = frames.alloc(zone, order, wanted, count, Kind.ANON, floor)
    single = [frame for _ in range(count) for frame in twin.alloc(zone, order, wanted, 1, Kind.ANON, floor)]
    assert batch == single
    assert contents_of(frames) == contents_of(twin)
    frames.free(batch, order)
    for frame in single:
        twin.free([frame], order)
    assert contents_of(frames) == contents_of(twin)


def test_lists_are_taken_from_the_head() -> None:
    frames = small_frames()
    got = frames.alloc(1, 0, MigrateType.MOVABLE, 64, Kind.ANON)
    assert got == list(range(3 * CHUNK, 5 * CHUNK)), "released memory is handed out in ascending order"
    frames.free([got[8], got[30]])
    assert frames.alloc(1, 0, MigrateType.MOVABLE, 2, Kind.ANON) == [got[30], got[8]], "last freed, first taken"


def test_unmovable_pages_take_whole_pageblocks_over() -> None:
    frames = small_frames()
    first = frames.alloc(1, 0, MigrateType.UNMOVABLE, 1, Kind.SLAB)[0]
    chunk = range(first // CHUNK * CHUNK, first // CHUNK * CHUNK + CHUNK)
    assert {frames.migratetype(frame) for frame in chunk} == {MigrateType.UNMOVABLE}
    assert frames.alloc(1, 0, MigrateType.UNMOVABLE, CHUNK - 1, Kind.SLAB) == list(chunk)[1:]


def test_movable_pages_take_the_smallest_foreign_block() -> None:
    frames = small_frames()
    frames.alloc(1, 0, MigrateType.MOVABLE, 3 * CHUNK, Kind.ANON)
    slab = frames.alloc(1, 0, MigrateType.UNMOVABLE, CHUNK, Kind.SLAB)
    frames.free([slab[1]])
    frames.free([slab[4], slab[5]])
    assert frames.alloc(1, 0, MigrateType.MOVABLE, 1, Kind.ANON) == [slab[1]]
    assert frames.migratetype(slab[1]) == MigrateType.UNMOVABLE, "one page is too little to claim a pageblock"


def test_cma_is_for_movable_pages_only() -> None:
    frames = small_frames()
    assert frames.free_cma(0) == CHUNK // 2
    kernel = frames.alloc(0, 0, MigrateType.UNMOVABLE, 1000, Kind.SLAB)
    assert len(kernel) == 3 * CHUNK - CHUNK // 2
    assert len(frames.alloc(0, 0, MigrateType.MOVABLE, 1000, Kind.ANON)) == CHUNK // 2


Breach = Callable[[ReferenceFrames], None]


def lose_a_page(frames: ReferenceFrames) -> None:
    frames._areas[1][SMALL.max_order][MigrateType.MOVABLE].popitem()


def double_a_page(frames: ReferenceFrames) -> None:
    frames._kind[frames.free_blocks(1)[0].frame] = CODE[Kind.ANON]


def leave_buddies_apart(frames: ReferenceFrames) -> None:
    area, block = frames._areas[1], frames.free_blocks(1)[-1]
    del area[block.order][block.migratetype][block.frame]
    for half in (block.frame, block.frame + (1 << (block.order - 1))):
        area[block.order - 1][block.migratetype][half] = None
        frames._head[half] = block.order


def list_under_the_wrong_type(frames: ReferenceFrames) -> None:
    area = frames._areas[1][SMALL.max_order]
    area[MigrateType.UNMOVABLE][area[MigrateType.MOVABLE].popitem()[0]] = None


def list_in_the_wrong_zone(frames: ReferenceFrames) -> None:
    frame, _ = frames._areas[1][SMALL.max_order][MigrateType.MOVABLE].popitem()
    frames._areas[0][SMALL.max_order][MigrateType.MOVABLE][frame] = None


def miscount(frames: ReferenceFrames) -> None:
    frames._free[0] += 1


def forget_cma(frames: ReferenceFrames) -> None:
    frames._free_cma[0] -= 1


@pytest.mark.parametrize(
    "breach",
    [
        lose_a_page,
        double_a_page,
        leave_buddies_apart,
        list_under_the_wrong_type,
        list_in_the_wrong_zone,
        miscount,
        forget_cma,
    ],
)
def test_validate_catches(breach: Breach) -> None:
    frames = small_frames()
    frames.validate()
    breach(frames)
    with pytest.raises(AssertionError):
        frames.validate()


def test_a_page_freed_twice_is_caught() -> None:
    frames = small_frames()
    got = frames.alloc(0, 0, MigrateType.MOVABLE, 1, Kind.ANON)
    frames.free(got)
    with pytest.raises(AssertionError, match="freed twice"):
        frames.free(got)
    assert frames.kind(got[0]) == FREE
