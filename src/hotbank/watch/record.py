# SPDX-License-Identifier: Apache-2.0
"""The last frames of a machine, and which of them was current at a moment. Bounded; any thread may ask."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from itertools import islice

from hotbank.watch.frame import Frame


class Record:
    """The last ``kept`` frames. They share what did not change between them, so that many of them are small."""

    def __init__(self, kept: int) -> None:
        self._frames: deque[Frame] = deque(maxlen=kept)
        self._lock = threading.Lock()

    def add(self, frame: Frame) -> None:
        """The newest one; its number and its time are not below those of the last."""
        with self._lock:
            self._frames.append(frame)

    def at(self, seconds: float) -> Frame | None:
        """The frame that was current at that time, in seconds since 1970; None before the first that is kept."""
        with self._lock:
            place = bisect_right(self._frames, seconds, key=lambda frame: frame.at)
            return self._frames[place - 1] if place else None

    def since(self, seq: int) -> tuple[Frame, ...]:
        """Those after that number that are kept, the oldest first."""
        with self._lock:
            return tuple(islice(self._frames, bisect_right(self._frames, seq, key=lambda frame: frame.seq), None))

    @property
    def span(self) -> tuple[float, float] | None:
        """Times of the first and the last that are kept, in seconds since 1970."""
        with self._lock:
            return (self._frames[0].at, self._frames[-1].at) if self._frames else None
