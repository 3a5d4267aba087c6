# SPDX-License-Identifier: Apache-2.0
"""Answers that are not due yet: somebody sleeps, waits for news, or follows an order. None of them costs a thread.

The loop asks each again whenever something happened, and when its time has come.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from hotbank.machine import Clock
from hotbank.operate import Event, Outcome
from hotbank.serve.job import Job
from hotbank.serve.news import LONGEST_WAIT, Ring
from hotbank.serve.protocol import News


@runtime_checkable
class Later(Protocol):
    """``due``: on time.monotonic(), when it is to be asked even if nothing happened. ``holds_up``: whether its line
    reads no other request until then."""

    due: float
    holds_up: bool

    def events(self) -> Sequence[Event]:
        """What happened on the way, each told once."""
        ...

    def over(self) -> bool:
        """Whether the answer is due; asked before ``events`` are told for the last time."""
        ...

    def result(self) -> Any:
        """The answer. Raises what the call raises."""
        ...


class Sleep:
    """``clock.sleep`` on the wall clock: it ends with its client."""

    holds_up = True

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._until = clock, clock.now() + seconds
        self.due = time.monotonic() + seconds

    def events(self) -> Sequence[Event]:
        """None."""
        return ()

    def over(self) -> bool:
        """Once the time has passed."""
        return self._clock.now() >= self._until

    def result(self) -> None:
        """Nothing."""


class Newsreader:
    """``owner.events``: all from a number on, None for what happens from now on, as soon as there is something."""

    holds_up = True

    def __init__(self, ring: Ring, since: int | None, wait: float) -> None:
        self._ring, self._since = ring, ring.next if since is None else since
        self.due = time.monotonic() + min(wait, LONGEST_WAIT)

    def events(self) -> Sequence[Event]:
        """None: news are the answer itself."""
        return ()

    def over(self) -> bool:
        """Once there is something, or the wait is over."""
        return self._ring.has_news(self._since) or time.monotonic() >= self.due

    def result(self) -> News:
        """What happened."""
        return self._ring.after(self._since)


class Following:
    """``owner.order``: the events of an order, then its end. Its line hears what interrupts it."""

    holds_up = False

    def __init__(self, job: Job) -> None:
        self._job, self._told = job, 0
        self.due = math.inf

    def events(self) -> Sequence[Event]:
        """Those since the last time."""
        fresh = self._job.events_after(self._told)
        self._told += len(fresh)
        return fresh

    def over(self) -> bool:
        """Once it has ended; its last events may be yet to be told."""
        return self._job.ended

    def result(self) -> Outcome | None:
        """How it ended."""
        return self._job.end()
