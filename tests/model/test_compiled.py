# SPDX-License-Identifier: Apache-2.0
"""The compiled backend beside the reference: the same random calls, and everything that can be seen is equal.

The walk below is seeded; a failure names the seed and the call, and a run with that seed repeats it.
"""

from __future__ import annotations

import os
import random
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from hotbank.errors import BoardError, MachineError
from hotbank.memory import CODE, Kind
from hotbank.model.backend import new_frames, resources
from hotbank.model.compiled import CompiledFrames, buddy
from hotbank.model.compiled.__main__ import compile_all
from hotbank.model.frames import DARK, FREE, NO_FRAME, OFFLINE, Frame, Frames, MigrateType, Shape
from hotbank.model.reference import ReferenceFrames

SHAPES = (
    Shape(256, 5, 4),
    Shape(256, 5, 5, steals_smallest=False),
    Shape(512, 6, 3),
    Shape(512, 6, 3, steals_smallest=False),
)
TYPES = (MigrateType.UNMOVABLE, MigrateType.MOVABLE, MigrateType.RECLAIMABLE)
KINDS = (Kind.ANON, Kind.FILE, Kind.SLAB, Kind.KERNEL, Kind.BALLOON)
ZONES = 2
SLOTS = 24


class Walk:
    """Random calls to two backends, which must give the same answers and look the same afterwards."""

    def __init__(self, shape: Shape, seed: int, one: Frames, other: Frames) -> None:
        self.random = random.Random(seed)
        self.shape, self.chunk = shape, 1 << shape.max_order
        self.one, self.other = one, other
        self.chunks = range(shape.frames // self.chunk)
        self.absent, self.isolated = set(self.chunks), set[int]()
        self.used: dict[int, int] = {}
        self.owned: dict[int, tuple[int, int]] = {}
        self.orders = bytes(self.random.choice((0, 0, 0, 1, 2, shape.max_order)) for _ in range(SLOTS))
        self.held = [array("I", [NO_FRAME]) * SLOTS for _ in range(2)]
        self.last = "start"
        self.calls: tuple[Callable[[], None], ...] = (
            *[self.alloc] * 6,
            *[self.free] * 5,
            *[self.churn] * 5,
            *[self.own, self.disown, self.move, self.set_kind, self.free_part] * 2,
            *[self.isolate, self.unisolate, self.leave, self.come, self.fill, self.poison, self.look] * 2,
        )
        for _ in range(ZONES):
            self.both(lambda frames: frames.add_zone())
        for _ in self.chunks[:-1]:
            self.come()

    def step(self) -> None:
        """One random call."""
        call = self.random.choice(self.calls)
        self.last = call.__name__
        call()

    def both(self, call: Callable[[Frames], object]) -> object:
        """Make the call on both and compare the answers."""
        mine, yours = call(self.one), call(self.other)
        assert mine == yours
        return mine

    def compare(self) -> None:
        """Everything that the interface shows of every frame, and both validate."""
        assert self.sight(self.one) == self.sight(self.other)
        assert self.held[0] == self.held[1]
        for frame, (owner, content) in self.owned.items():
            assert (self.other.owner(frame), self.other.content(frame)) == (owner, content)
        self.one.validate()
        self.other.validate()

    def sight(self, frames: Frames) -> object:
        end = self.shape.frames
        blocks = range(0, end, 1 << self.shape.pageblock_order)
        return (
            [(frames.free_blocks(zone), frames.free_pages(zone), frames.free_cma(zone)) for zone in range(ZONES)],
            [frames.find(0, end, bytes([code])) for code in range(OFFLINE + 1)],
            [(frames.zone(frame), frames.migratetype(frame)) for frame in blocks],
            (frames.count(0, end), list(frames.free_in(self.chunk)), frames.owned()),
            [(frames.owner(frame), frames.content(frame)) for frame in self.owned],
            frames.holds(list(self.owned)),
        )

    # Calls

    def alloc(self) -> None:
        pick, order = self.random, self.random.choice((0, 0, 0, 1, 2, 3, self.shape.max_order))
        zone, wanted, count = pick.randrange(ZONES), pick.choice(TYPES), pick.randint(1, 24)
        kind, floor = pick.choice(KINDS), pick.choice((0, 0, 20))
        got = self.both(lambda frames: frames.alloc(zone, order, wanted, count, kind, floor))
        assert isinstance(got, list)
        self.used.update(dict.fromkeys(got, order))

    def free(self) -> None:
        if not self.used:
            return
        order = self.random.choice(list(self.used.values()))
        mine = [first for first, each in self.used.items() if each == order]
        self.give(self.random.sample(mine, self.random.randint(1, len(mine))), order)

    def give(self, firsts: Sequence[int], order: int) -> None:
        for first in firsts:
            self.forget(range(first, first + (1 << order)))
            del self.used[first]
        self.both(lambda frames: frames.free(firsts, order))

    def forget(self, frames: Sequence[int]) -> None:
        gone = [frame for frame in frames if self.owned.pop(frame, None)]
        self.both(lambda frames: frames.disown(gone))

    def free_part(self) -> None:
        """Free the second half of a block; the first stays in use."""
        large = [first for first, order in self.used.items() if order]
        if large:
            first = self.random.choice(large)
            half = self.used[first] - 1
            self.used[first] = self.used[first + (1 << half)] = half
            self.give([first + (1 << half)], half)

    def churn(self) -> None:
        zone, wanted, kind = self.random.randrange(ZONES), self.random.choice(TYPES), self.random.choice(KINDS)
        slots = self.random.choices(range(SLOTS), k=self.random.choice((1, 5, 120)))
        picks = array("I", [slot for slot in slots for _ in range(self.random.choice((1, 2)))])
        self._churn(zone, wanted, kind, picks)

    def _churn(self, zone: int, wanted: MigrateType, kind: Kind, picks: array[int]) -> None:
        mine, yours = (
            frames.churn(zone, wanted, kind, held, self.orders, picks)
            for frames, held in zip((self.one, self.other), self.held, strict=True)
        )
        assert mine == yours

    def own(self) -> None:
        if self.used:
            first = self.random.choice(list(self.used))
            mine = range(first, first + (1 << self.used[first]))
            owners = [self.random.randint(1, 2**32 - 1) for _ in mine]
            contents = [self.random.choice((self.random.randrange(2**31), self.random.randrange(2**64))) for _ in mine]
            self.both(lambda frames: frames.own(mine, owners, contents))
            self.owned.update(zip(mine, zip(owners, contents, strict=True), strict=True))

    def disown(self) -> None:
        self.forget(self.random.sample(list(self.owned), min(len(self.owned), 3)))

    def move(self) -> None:
        if self.used:
            self.evacuate(self.random.choice(list(self.used)))

    def evacuate(self, first: int) -> None:
        order, zone = self.used[first], self.random.randrange(ZONES)
        got = self.both(lambda frames: frames.alloc(zone, order, MigrateType.MOVABLE, 1, Kind.FILE))
        assert isinstance(got, list)
        for target in got:
            self.used[target] = order
            sources, targets = range(first, first + (1 << order)), range(target, target + (1 << order))
            for frames in (self.one, self.other):
                frames.move(sources, targets)
            for source in sources:
                if source in self.owned:
                    self.owned[source - first + target] = self.owned.pop(source)
            self.give([first], order)

    def set_kind(self) -> None:
        if self.used:
            first = self.random.choice(list(self.used))
            cut = sorted(self.random.choices(range((1 << self.used[first]) + 1), k=2))
            kind = self.random.choice(KINDS)
            self.both(lambda frames: frames.set_kind(first + cut[0], first + cut[1], kind))

    def poison(self) -> None:
        """A page that is lost for good: nobody's, and never freed."""
        single = [first for first, order in self.used.items() if not order]
        if single and self.random.random() < 0.2:
            frame = self.random.choice(single)
            self.forget([frame])
            del self.used[frame]
            self.both(lambda frames: frames.set_kind(frame, frame + 1, Kind.POISONED))

    def isolate(self) -> None:
        chunk = self.random.choice(self.chunks)
        types = {self.one.migratetype(frame) for frame in range(chunk * self.chunk, (chunk + 1) * self.chunk)}
        apart = MigrateType.CMA in types and len(types) > 1  # free buddies that isolation would put side by side
        if chunk not in self.absent | self.isolated and not apart:
            self.both(lambda frames: frames.isolate(chunk * self.chunk, (chunk + 1) * self.chunk))
            self.isolated.add(chunk)

    def unisolate(self) -> None:
        if self.isolated:
            chunk = self.isolated.pop()
            self.both(lambda frames: frames.unisolate(chunk * self.chunk, (chunk + 1) * self.chunk))

    def leave(self) -> None:
        """Evacuate an isolated chunk as far as there is room, and detach it if that emptied it."""
        if not self.isolated:
            return
        chunk = self.random.choice(sorted(self.isolated))
        start, end = chunk * self.chunk, (chunk + 1) * self.chunk
        for first in [first for first in self.used if start <= first < end]:
            self.evacuate(first)
        picks = array("I", [slot for slot, first in enumerate(self.held[0]) if start <= first < end])
        self._churn(0, MigrateType.MOVABLE, Kind.ANON, picks)
        if set(self.one.count(start, end)) <= {FREE, CODE[Kind.POISONED]}:
            self.both(lambda frames: frames.detach(start, end))
            self.isolated.discard(chunk)
            self.absent.add(chunk)

    def come(self) -> None:
        """Attach an absent chunk; a few of its frames may stay reserved, a pageblock may be CMA."""
        if not self.absent:
            return
        chunk, zone = self.random.choice(sorted(self.absent)), self.random.randrange(ZONES)
        start, end = chunk * self.chunk, (chunk + 1) * self.chunk
        wanted = self.random.choice(TYPES)
        self.both(lambda frames: frames.attach(zone, start, end, wanted))
        if self.random.random() < 0.3:
            block = start + (1 << self.shape.pageblock_order)
            self.both(lambda frames: frames.set_type(start, block, MigrateType.CMA))
            self.both(lambda frames: frames.release(start, block))
            start = block
        kept = self.random.choice((0, 0, 3))
        if start < end:
            self.both(lambda frames: frames.release(start + kept, end))
            self.used.update(dict.fromkeys(range(start, start + kept), 0))
        self.absent.discard(chunk)

    def fill(self) -> None:
        """Power goes: whole chunks, or any frames, read as DARK, whoever owns them."""
        start, end = sorted(self.random.choices(range(self.shape.frames + 1), k=2))
        if self.random.random() < 0.5:
            start, end = start & -self.chunk, end & -self.chunk
        self.both(lambda frames: frames.fill(start, end, DARK))
        self.owned.update({f: (owner, DARK) for f, (owner, _) in self.owned.items() if start <= f < end})
        dark = [chunk * self.chunk for chunk in self.absent if start <= chunk * self.chunk < end]
        assert self.both(lambda frames: [frames.content(frame) for frame in dark]) == [DARK] * len(dark)

    def look(self) -> None:
        """Questions about any range."""
        start, end = sorted(self.random.choices(range(self.shape.frames + 1), k=2))
        codes = bytes(self.random.sample(range(OFFLINE + 1), 4))
        limit = self.random.choice((None, 0, 5))
        self.both(lambda frames: frames.count(start, end))
        self.both(lambda frames: frames.find(start, end, codes, limit))
        self.both(lambda frames: [frames.kind(frame) for frame in range(start, min(end, start + 40))])


def walk(shape: Shape, seed: int, steps: int, compiled: type[CompiledFrames] = CompiledFrames) -> None:
    pair = Walk(shape, seed, ReferenceFrames(shape), compiled(shape))
    for step in range(steps):
        try:
            pair.step()
            pair.compare()
        except AssertionError as e:
            raise AssertionError(f"{shape}, seed {seed}, step {step}, {pair.last}: {e}") from e


def walks(shape: Shape, seeds: range, steps: int, compiled: type[CompiledFrames] = CompiledFrames) -> None:
    for seed in seeds:
        walk(shape, seed, steps, compiled)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_backends_agree_over_ten_thousand_calls(shape: Shape, seed: int) -> None:
    walk(shape, seed, steps=700)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_backends_agree(shape: Shape) -> None:
    walk(shape, seed=99, steps=100)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_backends_agree_over_a_million_calls(shape: Shape) -> None:
    walks(shape, range(1000, 1167), steps=2000)


# The oracle, tried: backends that are wrong in one small thing


class FreesBackwards(CompiledFrames):
    """Frees a batch from its end."""

    def free(self, frames: Sequence[int], order: int = 0) -> None:
        super().free(list(reversed(frames)), order)


class ForgetsFloor(CompiledFrames):
    """Hands out the reserve."""

    def alloc(self, zone: int, order: int, migratetype: int, count: int, kind: Kind, floor: int = 0) -> list[Frame]:
        return super().alloc(zone, order, migratetype, count, kind)


class LosesContent(CompiledFrames):
    """Power goes, and one frame keeps what it had."""

    def fill(self, start: int, end: int, content: int) -> None:
        super().fill(start + 1 if start < end else start, end, content)


class UnisolatesBackwards(CompiledFrames):
    """Gives the upper pageblocks back first, so that their free blocks come first in the lists."""

    def unisolate(self, start: int, end: int, migratetype: int = MigrateType.MOVABLE) -> None:
        for block in reversed(range(start, end, 1 << self.shape.pageblock_order)):
            super().unisolate(block, block + (1 << self.shape.pageblock_order), migratetype)


@pytest.mark.parametrize("wrong", [FreesBackwards, ForgetsFloor, LosesContent, UnisolatesBackwards])
def test_the_walk_catches(wrong: type[CompiledFrames]) -> None:
    with pytest.raises(AssertionError, match="seed"):
        walks(SHAPES[0], range(6), 500, wrong)


def worn() -> CompiledFrames:
    """Frames of one zone, some of them in use."""
    frames = CompiledFrames(SHAPES[0])
    frames.add_zone()
    frames.attach(0, 0, 256)
    frames.release(0, 256)
    got = frames.alloc(0, 0, MigrateType.MOVABLE, 100, Kind.ANON)
    frames.free(got[::2])
    frames.validate()
    return frames


def lose_a_block(frames: CompiledFrames) -> None:
    head = int(frames._a.lists) + (MigrateType.MOVABLE << 4)
    after = frames._a.links[2 * head]
    frames._a.links[2 * head] = frames._a.links[2 * after]
    frames._a.links[2 * frames._a.links[2 * after] + 1] = head
    frames._a.pages[MigrateType.MOVABLE] -= 1


def use_a_free_block(frames: CompiledFrames) -> None:
    frames._a.state[frames.free_blocks(0)[0].frame] = CODE[Kind.ANON]


def use_the_inside_of_a_free_block(frames: CompiledFrames) -> None:
    block = next(block for block in frames.free_blocks(0) if 1 < block.order < SHAPES[0].max_order)
    frames._a.state[block.frame + 1] = CODE[Kind.ANON]


def break_a_link(frames: CompiledFrames) -> None:
    frames._a.links[2 * frames.free_blocks(0)[3].frame + 1] = 0


def retype_a_pageblock(frames: CompiledFrames) -> None:
    frames._a.group[0] = MigrateType.UNMOVABLE


def miscount(frames: CompiledFrames) -> None:
    frames._a.pages[MigrateType.MOVABLE] += 1


def forget_that_an_order_is_filled(frames: CompiledFrames) -> None:
    frames._a.orders[MigrateType.MOVABLE] &= ~np.uint32(1)


def say_nothing(frames: CompiledFrames) -> None:
    frames._a.state[int(frames._a.tops)] = 0x7F
    frames._a.state[0] = 0


def leave_buddies_apart(frames: CompiledFrames) -> None:
    """Two single frames that were freed while something was between them and their merging."""
    frames.alloc(0, 0, MigrateType.MOVABLE, 60, Kind.ANON)
    first, second = 10, 11
    frames.free([first])
    frames._a.state[first] = CODE[Kind.ANON]
    frames.free([second])
    frames._a.state[first] = 0x80


@pytest.mark.parametrize(
    "breach",
    [
        lose_a_block,
        use_a_free_block,
        use_the_inside_of_a_free_block,
        break_a_link,
        retype_a_pageblock,
        miscount,
        forget_that_an_order_is_filled,
        say_nothing,
        leave_buddies_apart,
    ],
)
def test_validate_catches(breach: Callable[[CompiledFrames], None]) -> None:
    frames = worn()
    breach(frames)
    with pytest.raises(AssertionError):
        frames.validate()


def test_misuse_is_caught() -> None:
    frames = worn()
    got = frames.alloc(0, 0, MigrateType.MOVABLE, 1, Kind.ANON)
    frames.free(got)
    with pytest.raises(AssertionError, match="freed twice"):
        frames.free(got)
    with pytest.raises(AssertionError, match="owned while free"):
        frames.own(got, [1], [1])
    with pytest.raises(AssertionError, match="no such slot"):
        frames.churn(0, MigrateType.MOVABLE, Kind.ANON, array("I", [NO_FRAME]), b"\0", array("I", [1]))
    with pytest.raises(AssertionError, match="not in use"):
        frames.churn(0, MigrateType.MOVABLE, Kind.ANON, array("I", [1 << 20]), b"\0", array("I", [0]))
    frames.validate()


def test_a_tebibyte_of_free_memory_costs_next_to_nothing() -> None:
    before = resident()
    frames = CompiledFrames(Shape((1 << 40) // 4096))
    zone = frames.add_zone()
    frames.attach(zone, 0, frames.shape.frames)
    frames.release(0, frames.shape.frames)
    held = frames.alloc(zone, 0, MigrateType.MOVABLE, 100_000, Kind.ANON)
    frames.own(held, range(1, len(held) + 1), range(len(held)))
    assert frames.free_pages(zone) == frames.shape.frames - len(held)
    assert frames.owner(held[-1]) == len(held)
    assert resident() - before < 64 << 20
    assert 9 * frames.shape.frames < frames._a.links.nbytes + frames._a.state.nbytes < 9.1 * frames.shape.frames


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_fast_backend_is_chosen_by_itself() -> None:
    assert isinstance(new_frames(SHAPES[0]), CompiledFrames)
    assert isinstance(new_frames(SHAPES[0], "reference"), ReferenceFrames)
    assert isinstance(new_frames(SHAPES[0], "compiled"), CompiledFrames)
    with pytest.raises(BoardError, match="must be one of reference, compiled"):
        new_frames(SHAPES[0], "quick")


def test_a_model_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a host has to say is asked by who starts a model for somebody."""
    monkeypatch.setenv("HOTBANK_BACKEND", "reference")
    assert isinstance(new_frames(SHAPES[0]), CompiledFrames)
    assert resources({})["backend"] is resources({"HOTBANK_BACKEND": ""})["backend"] is None
    assert resources({"HOTBANK_BACKEND": "reference"})["backend"] == "reference"
    with pytest.raises(BoardError, match="HOTBANK_BACKEND"):
        resources({"HOTBANK_BACKEND": "quick"})


def test_without_the_extra_the_reference_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotbank.model.backend.find_spec", lambda package: None if package == "numba" else object())
    assert isinstance(new_frames(SHAPES[0]), ReferenceFrames)
    with pytest.raises(MachineError) as caught:
        new_frames(SHAPES[0], "compiled")
    assert caught.value.remedy == "pip install 'hotbank[fast]'"


def test_what_is_compiled_in_advance_is_all_there_is() -> None:
    compile_all()
    before = compiled_versions()
    assert all(before.values()), "something is not compiled in advance"
    walk(SHAPES[0], seed=5, steps=300)
    frames = worn()
    held, orders, picks = (memoryview(a) for a in (array("I", [NO_FRAME]), bytearray(1), array("I", [0])))
    frames.churn(0, MigrateType.MOVABLE, Kind.ANON, held, orders, picks)
    frames.free(array("I", held))
    assert compiled_versions() == before


def compiled_versions() -> dict[str, int]:
    """How often numba compiled each kernel that Python calls."""
    names = (name for name in vars(buddy) if not name.startswith("_"))
    return {name: len(vars(buddy)[name].signatures) for name in names if hasattr(vars(buddy)[name], "signatures")}
