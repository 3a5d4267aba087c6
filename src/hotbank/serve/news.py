# SPDX-License-Identifier: Apache-2.0
"""What happens on a machine, whoever ordered it: a bounded ring, numbered, that any number of readers ask.

A reader asks from a number on and is told the number to ask from next. One that comes late is told how many it missed;
one that never asks costs nothing, since nothing is kept for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice

from hotbank.operate import Event
from hotbank.serve.protocol import Happening, News

KEPT = 4096  # events: those of a removal of a thousand blocks
MOST = 256  # of one answer: what it takes to tell them is the owner's memory
LONGEST_WAIT = 30.0  # seconds that a reader may wait for the next one; then it asks again


class Ring:
    """The last ``kept`` events. ``now``: seconds since 1970. ``stir``: called whenever there is news."""

    def __init__(
        self, kept: int = KEPT, now: Callable[[], float] = time.time, stir: Callable[[], None] = lambda: None
    ) -> None:
        self._now, self._next, self.stir = now, 0, stir
        self._kept: deque[Happening] = deque(maxlen=kept)
        self._lock = threading.Lock()

    def add(self, order: str, pid: int, event: Event) -> None:
        """Something happened: part of which order, carried out by which process."""
        with self._lock:
            self._kept.append(Happening(self._next, self._now(), order, pid, event))
            self._next += 1
        self.stir()

    @property
    def next(self) -> int:
        """The number of the next event."""
        return self._next

    def has_news(self, since: int) -> bool:
        """Whether there is something to tell who asks from that number on: events, or that some are missing."""
        return self._next != since

    def after(self, since: int) -> News:
        """What is kept from number ``since`` on, at most MOST; ``next`` says where the rest begins."""
        with self._lock:
            missed = self._missed(since)
            found = self._from(since if missed == 0 else 0)
            return News(found, found[-1].seq + 1 if found else self._next, missed)

    def _missed(self, since: int) -> int | None:
        """Events from there on that are kept no more; None where there can't have been such a number: the owner that
        counted so far is gone."""
        return max(0, self._next - len(self._kept) - since) if since <= self._next else None

    def _from(self, since: int) -> tuple[Happening, ...]:
        first = max(0, since - (self._next - len(self._kept)))
        return tuple(islice(self._kept, first, first + MOST))
