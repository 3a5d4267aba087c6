# SPDX-License-Identifier: Apache-2.0
"""What tests of a feed share: frames one after the other, and frames of made-up machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from hotbank.errors import Code
from hotbank.operate import Event
from hotbank.report.cells import Map
from hotbank.serve.protocol import Happening
from hotbank.watch import Feed, Frame, Look
from hotbank.watch.running import after
from patience import HANG
from verdicts.made_boards import Made, made


def frames(feed: Feed, seq: int = 0) -> Iterator[Frame]:
    """Those after that number, as somebody gets them who waits for each."""
    while True:
        frame = feed.wait(seq, HANG)
        assert frame is not None, "no frame"
        seq = frame.seq
        yield frame


def first(feed: Feed, true: Callable[[Frame], Any]) -> Frame:
    """The first frame of which it is true."""
    return next(frame for frame in frames(feed) if true(frame))


def told(*events: Event, order: str = "remove high", at: float = 1000.0) -> list[Happening]:
    """As an owner tells them."""
    return [Happening(seq, at + event.t, order, 7, event) for seq, event in enumerate(events)]


def frame_of(case: Made, seq: int, *, seen: bool, events: int) -> Frame:
    """A frame of a made-up machine, of which somebody has seen the pages, and on which something happened."""
    drawn = Map.of(case.snapshot, case.surveys if seen else {})
    steps = [Event(float(n), n, "step", "offline", n, target=f"memory{n}") for n in range(events)]
    end = [Event(9.0, 9, "done", code=Code.OK, exit=0)] if events > 2 else []
    running = after(None, told(*steps, *end))
    looks = {"low": Look(1.0, error="gone")} if seen else {}
    return Frame(seq, 1000.0 + seq, case.snapshot, drawn, trouble="" if seen else "gone", running=running, looks=looks)


@st.composite
def made_frames(draw: st.DrawFn) -> list[Frame]:
    """Of one board and of another, in any order."""
    cases = draw(st.lists(made(4), min_size=1, max_size=2))
    picks = draw(st.lists(st.tuples(st.sampled_from(cases), st.booleans(), st.integers(0, 4)), min_size=2, max_size=5))
    return [frame_of(case, seq, seen=seen, events=events) for seq, (case, seen, events) in enumerate(picks, 1)]
