# SPDX-License-Identifier: Apache-2.0
"""Few threads for much work: calls that may take a while are carried out here, and the loop goes on meanwhile.

A side is all who may change, or all who may only read. Neither waits for the other; on each, users take turns, and so
do the lines of a user. While something changes the machine, a side's reads take a fifth of one processor at most, so
that whoever changes it is not kept from its deadline.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from contextlib import suppress

from hotbank.errors import HotbankError

Task = Callable[[], None]
_INTERRUPTIONS = 3  # of one machine, which takes one offline at a time: two that hang keep no third from its end
_REST = 4  # times what a read took: for which none is begun after it, while something changes


class Crew:
    """At most ``size`` threads, each started when it is first needed. Tasks are begun in order; none may raise."""

    def __init__(self, size: int) -> None:
        self._size, self._threads, self._idle = size, 0, 0
        self._tasks: deque[Task] = deque()
        self._work = threading.Condition()

    def hand(self, task: Task) -> None:
        """Have it done. Where no thread can be started it waits for one that is there, or for the next try."""
        with self._work:
            self._tasks.append(task)
            if self._idle < len(self._tasks) and self._threads < self._size:
                with suppress(RuntimeError):
                    threading.Thread(target=self._run, daemon=True).start()
                    self._threads += 1
            self._work.notify()

    def _run(self) -> None:
        while True:
            with self._work:
                self._idle += 1
                self._work.wait_for(lambda: self._tasks)
                self._idle -= 1
                task = self._tasks.popleft()
            task()
            del task  # what it was about is not kept until the next


class Interruptions:
    """Ends offlines from threads of its own, for who must not wait: the machine may take its time, or hang.

    ``interrupt``: ends the one with that block and deadline; what became of it is told by the offline.
    """

    def __init__(self, interrupt: Callable[[int, float], None]) -> None:
        self._interrupt, self._crew = interrupt, Crew(_INTERRUPTIONS)
        self._lock = threading.Lock()
        self._wanted: set[tuple[int, float]] = set()

    def want(self, block: int, deadline: float) -> None:
        """Have it done; from any thread. One that is on its way already is not asked for again."""
        with self._lock:
            if (block, deadline) in self._wanted:
                return
            self._wanted.add((block, deadline))
        self._crew.hand(lambda: self._carry_out(block, deadline))

    def _carry_out(self, block: int, deadline: float) -> None:
        try:
            with suppress(HotbankError):  # the machine may be gone
                self._interrupt(block, deadline)
        finally:
            with self._lock:
                self._wanted.discard((block, deadline))


class Side:
    """Reads that wait for their turn: ``at_once`` under way together, ``per_user`` of one user. Used by one thread.

    ``busy``: whether something changes the machine, so that reads are paced. ``full``: whether a user has left so many
    answers unread that he gets no more.
    """

    def __init__(
        self, at_once: int, per_user: int, busy: Callable[[], bool], full: Callable[[int], bool] = lambda _: False
    ) -> None:
        self._at_once, self._per_user, self._busy, self._full = at_once, per_user, busy, full
        self._crew = Crew(at_once)
        self._waiting: dict[int, dict[Hashable, Task]] = {}  # by user, the next one first
        self._running: Counter[int] = Counter()
        self._free_at = 0.0

    def put(self, user: int, what: Hashable, task: Task) -> None:
        """Wait for a turn. Whoever is through says so by ``over``."""
        self._waiting.setdefault(user, {})[what] = task

    def withdraw(self, user: int, what: Hashable) -> None:
        """Nobody waits for it any more: if it has not begun, it never does."""
        tasks = self._waiting.get(user, {})
        tasks.pop(what, None)
        if not tasks:
            self._waiting.pop(user, None)

    def begin(self) -> None:
        """Begin what may be begun now."""
        while self.rest() == 0.0 and (user := self._next()) is not None:
            tasks = self._waiting.pop(user)
            task = tasks.pop(next(iter(tasks)))
            if tasks:
                self._waiting[user] = tasks  # behind the others
            self._running[user] += 1
            self._crew.hand(task)

    def over(self, user: int, took: float) -> None:
        """A read is through, which took so many seconds of processor time."""
        self._running[user] -= 1
        self._running += Counter()  # without those that have none
        self.charge(took)

    def charge(self, took: float) -> None:
        """So many seconds of processor time were spent for this side."""
        self._free_at = max(self._free_at, time.monotonic()) + _REST * took

    def pause(self) -> float:
        """Seconds until anything may be begun."""
        return max(0.0, self._free_at - time.monotonic()) if self._busy() else 0.0

    def rest(self) -> float:
        """Seconds until the next that waits may be begun; infinity while none can be."""
        return math.inf if self._next() is None else self.pause()

    def _next(self) -> int | None:
        if self._running.total() >= self._at_once:
            return None
        return next(
            (user for user in self._waiting if self._running[user] < self._per_user and not self._full(user)), None
        )
