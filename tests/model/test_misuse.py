# SPDX-License-Identifier: Apache-2.0
"""What callers of page frames may not ask: both backends refuse it, in the same words, and are whole afterwards."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable

import pytest

from hotbank.memory import Kind
from hotbank.model.compiled import CompiledFrames
from hotbank.model.frames import NO_FRAME, Frames, MigrateType, Shape
from hotbank.model.reference import ReferenceFrames

SHAPE = Shape(512, max_order=5, pageblock_order=4)
CHUNK = 1 << SHAPE.max_order
END = SHAPE.frames
USED, FREE, RESERVED, ABSENT = 0, 2 * CHUNK, 4 * CHUNK, 8 * CHUNK
MOVABLE = MigrateType.MOVABLE


def worn(backend: type[Frames]) -> Frames:
    """One zone: a chunk in use, free ones, a reserved one; from ABSENT on there is none."""
    frames = backend(SHAPE)  # type: ignore[call-arg]  # a protocol has no constructor
    zone = frames.add_zone()
    frames.attach(zone, USED, ABSENT)
    frames.release(USED, RESERVED)
    frames.release(RESERVED + CHUNK, ABSENT)
    assert frames.alloc(zone, 0, MOVABLE, CHUNK, Kind.ANON)[0] == USED
    return frames


def churn(
    frames: Frames, *, zone: int = 0, held: int = NO_FRAME, orders: bytes = b"\0", picks: tuple[int, ...] = (0,)
) -> None:
    frames.churn(zone, MOVABLE, Kind.ANON, array("I", [held]), orders, array("I", picks))


def detach_used(frames: Frames) -> None:
    frames.isolate(USED, CHUNK)
    frames.detach(USED, CHUNK)


MISUSES: dict[str, tuple[Callable[[Frames], object], str]] = {
    "attach twice": (lambda f: f.attach(0, FREE, FREE + CHUNK), "in a zone already"),
    "attach to no zone": (lambda f: f.attach(1, ABSENT, END), "no zone 1"),
    "attach half a pageblock": (lambda f: f.attach(0, ABSENT, ABSENT + 8), "not pageblock-aligned"),
    "attach what is beyond": (lambda f: f.attach(0, ABSENT, END + CHUNK), "not within the frames"),
    "detach what is not isolated": (lambda f: f.detach(FREE, FREE + CHUNK), "not isolated"),
    "detach what is in use": (detach_used, "in use"),
    "retype what is free": (lambda f: f.set_type(FREE, FREE + CHUNK, MigrateType.CMA), "free pages must move"),
    "call frames free": (lambda f: f.set_kind(USED, USED + 1, Kind.FREE), "release and free"),
    "paint what is beyond": (lambda f: f.set_kind(END - 1, END + 1, Kind.ANON), "not within the frames"),
    "release what is free": (lambda f: f.release(FREE, FREE + CHUNK), "not reserved"),
    "release what is in use": (lambda f: f.release(USED, USED + 1), "not reserved"),
    "release what is absent": (lambda f: f.release(ABSENT, ABSENT + CHUNK), "not reserved"),
    "release more than is reserved": (lambda f: f.release(RESERVED, RESERVED + 2 * CHUNK), "not reserved"),
    "release what is beyond": (lambda f: f.release(END, END + 1), "not within the frames"),
    "free twice": (lambda f: f.free([USED, USED]), "freed twice: 0x0"),
    "free what is free": (lambda f: f.free([FREE]), "freed twice: 0x40"),
    "free what is absent": (lambda f: f.free([ABSENT]), "freed twice: 0x100"),
    "free what is beyond": (lambda f: f.free([END]), "freed twice: 0x200"),
    "free what is not aligned": (lambda f: f.free([1], order=1), "not aligned"),
    "free an order too large": (lambda f: f.free([0], order=6), "no blocks of order 6"),
    "own what is free": (lambda f: f.own([FREE], [1], [1]), "owned while free: 0x40"),
    "own what is absent": (lambda f: f.own([ABSENT], [1], [1]), "owned while free: 0x100"),
    "own what is beyond": (lambda f: f.own([END], [1], [1]), "owned while free: 0x200"),
    "own without a content": (lambda f: f.own([USED], [1], []), "an owner and a content for each"),
    "disown what is free": (lambda f: f.disown([FREE]), "disowned while free: 0x40"),
    "disown what is absent": (lambda f: f.disown([ABSENT]), "disowned while free: 0x100"),
    "move what is free": (lambda f: f.move([FREE], [USED]), "moved while it or its target is free"),
    "move onto what is free": (lambda f: f.move([USED], [FREE]), "moved while it or its target is free"),
    "move onto what is absent": (lambda f: f.move([USED], [ABSENT]), "moved while it or its target is free"),
    "move without a target": (lambda f: f.move([USED, USED + 1], [USED + 2]), "a target for each source"),
    "churn no slot": (lambda f: churn(f, picks=(1,)), "no such slot"),
    "churn in no zone": (lambda f: churn(f, zone=1), "no zone 1"),
    "churn without orders": (lambda f: churn(f, orders=b""), "each slot has an order"),
    "churn what is free": (lambda f: churn(f, held=FREE), "not in use, of slot: 0x0"),
    "churn what is beyond": (lambda f: churn(f, held=END), "not in use, of slot: 0x0"),
    "churn an order too large": (lambda f: churn(f, orders=b"\6"), "no such order"),
    "isolate half a pageblock": (lambda f: f.isolate(USED, USED + 8), "not pageblock-aligned"),
    "isolate what is beyond": (lambda f: f.isolate(END, END + CHUNK), "not within the frames"),
    "unisolate half a pageblock": (lambda f: f.unisolate(USED, USED + 8), "not pageblock-aligned"),
    "count what is beyond": (lambda f: f.count(0, END + 1), "not within the frames"),
    "find what is beyond": (lambda f: f.find(END, END + 1, b"\1"), "not within the frames"),
    "look at what is beyond": (lambda f: f.kind(END), "not within the frames"),
    "ask what is beyond": (lambda f: f.owner(END), "not within the frames"),
    "read what is beyond": (lambda f: f.content(END), "not within the frames"),
    "look at all that is beyond": (lambda f: f.holds([0, END]), "not within the frames"),
    "fill what is beyond": (lambda f: f.fill(0, END + 1, 0), "not within the frames"),
    "count by less than a buddy": (lambda f: f.free_in(CHUNK // 2), "no blocks of 16 frames"),
}


@pytest.mark.parametrize("backend", [ReferenceFrames, CompiledFrames])
@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_is_refused(misuse: str, backend: type[Frames]) -> None:
    call, words = MISUSES[misuse]
    frames = worn(backend)
    with pytest.raises(AssertionError, match=re.escape(words)):
        call(frames)
    frames.validate()
