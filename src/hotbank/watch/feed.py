# SPDX-License-Identifier: Apache-2.0
"""The live feed: threads that ask a machine what has changed and make frames of it, and those who wait for frames.

Three lines to the machine, none of which waits for another: one hears what happens, one asks how the machine stands,
one looks at pages that a viewer selected. Each order has a fourth. An owner that goes is dialed again until it is back.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

from hotbank import memspec
from hotbank.energy import Bounds
from hotbank.errors import Code, HotbankError, Refusal
from hotbank.govern.status import Governed
from hotbank.machine import Reading, Snapshot
from hotbank.measure import watts
from hotbank.operate import Before, Entry, Event, Plan
from hotbank.report.cells import Map
from hotbank.report.ledger import of_journal
from hotbank.serve.protocol import Happening, News
from hotbank.session import Session
from hotbank.watch.asking import Line, Question
from hotbank.watch.frame import Frame
from hotbank.watch.looker import Looker
from hotbank.watch.record import Record
from hotbank.watch.running import Running, after, counted

Verb = Literal["remove", "add"]
_T = TypeVar("_T")

_LEAST = 0.1  # seconds from frame to frame, however much happens
_POLL = 5.0  # seconds that a question for news waits
_AGAIN = 1.0  # seconds until a machine that did not answer is dialed again
_JOINED = 2.0  # seconds for the threads to end
_SHOWN = 20  # transactions of a frame
_EARLY = 0.9  # of the time from frame to frame: a question is due again a little before the next frame
_UNTOLD, _SELDOM, _GOVERNED = 5.0, 30.0, 2.0  # seconds between questions that nothing makes due sooner


class Feed:
    """Frames of the machine of ``session``, which stays the caller's to close. Any thread may ask it anything.

    ``every``: seconds between two frames of a machine on which nothing happens; ``kept``: frames of the record;
    ``now``: seconds since 1970.
    """

    def __init__(
        self, session: Session, *, every: float = 1.0, kept: int = 3600, now: Callable[[], float] = time.time
    ) -> None:
        self._session, self._every, self._now = session, every, now
        self.record = Record(kept)
        self._standing = _Standing(every)
        self._looker = Looker(Line(session.again), self._stir, now)
        self._asking, self._hearing = Line(session.again), Line(session.again)
        self._frame: Frame | None = None
        self._heard: list[Happening] = []
        self._running: Running | None = None
        self._before: Reading | None = None  # the last one before it
        self._orders: list[Session] = []
        self._stirred, self._ended = threading.Event(), threading.Event()
        self._changed = threading.Condition()
        tasks = (self._make_frames, self._hear, self._looker.run)
        self._threads = [threading.Thread(target=task, daemon=True) for task in tasks]

    def __enter__(self) -> Feed:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and hang up. What an owner elsewhere carries out goes on."""
        self._ended.set()
        self._looker.end()
        self._stir()
        for line in (self._hearing, self._asking, self._looker.line):
            line.close()
        for thread in self._threads:
            thread.join(_JOINED)
        with self._changed:
            self._changed.notify_all()

    # Looking.

    @property
    def frame(self) -> Frame | None:
        """The newest one; None before the first."""
        return self._frame

    def wait(self, after: int = 0, timeout: float | None = None) -> Frame | None:
        """The newest frame, once there is one beyond that number; None when there is none within so many seconds, or
        when it was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended.is_set() or self._seq > after, timeout)
            return self._frame if self._seq > after else None

    def look(self, name: str | int) -> None:
        """Have the pages of a bank or a block looked at, in the background; see ``Frame.looks``."""
        self._looker.want(str(name))

    def plan(self, verb: Verb, *names: str | int) -> Plan:
        """The plan of an order; looks at pages. Raises Refusal(NO_SUCH_BANK)."""
        with self._session.again() as session:
            return session.plan(*names, add=verb == "add")

    # Changing.

    def change(self, verb: Verb, *names: str | int, found: Before | None = None) -> None:
        """Order it; what comes of it is ``Frame.running``. ``found``: of its plan.

        Raises at once what forbids it: Refusal(NOT_PERMITTED), Refusal(NO_MACHINE).
        """
        session = self._session.again(change=True)
        self._orders.append(session)
        order = _Order(session, verb, tuple(map(str, names)), found)
        threading.Thread(target=self._carry_out, args=(order,), daemon=True).start()

    def interrupt(self) -> None:
        """Ask for a rollback of the transaction that runs. Raises as ``change`` does."""
        with self._session.again(change=True) as session:
            session.interrupt()

    @property
    def ordering(self) -> bool:
        """Whether something that was ordered here is under way."""
        return bool(self._orders)

    @property
    def carries(self) -> bool:
        """Whether any of it would end with this process, half-way: nobody else owns the machine."""
        return any(session.is_ours for session in self._orders)

    def _carry_out(self, order: _Order) -> None:
        with order.session as session:
            try:
                order.run(self._note_of(order, session))
            except HotbankError as e:
                self._refused(order, e)
            finally:
                self._orders.remove(session)
                self._stir()

    def _note_of(self, order: _Order, session: Session) -> Callable[[Event], None]:
        """What to do with its events: the owner tells them anyway, where the machine has one that is listened to."""

        def note(event: Event) -> None:
            if not self._standing.told:
                self._note((Happening(0, self._now(), str(order), session.pid, event),))

        return note

    def _refused(self, order: _Order, error: HotbankError) -> None:
        """An order of which the owner says nothing: it was refused before it was one, or the line was lost."""
        running = self._running
        if running is None or running.order != str(order) or running.ended is not None:
            now = self._now()
            end = Event(0.0, 0, "done", code=error.code, exit=1, fact=str(error), remedy=error.remedy)
            self._note((Happening(0, now, str(order), order.session.pid, end),))

    # What the threads do.

    def _hear(self) -> None:
        """Ask for news again and again. A machine without an owner has none, and is listed more often until it has."""
        since: int | None = None
        while not self._ended.is_set():
            try:
                news = self._hearing.ask(partial(_news, since))
            except HotbankError as e:
                self._standing.told = False
                self._hearing.renew()
                self._ended.wait(_UNTOLD if e.code is Code.UNSUPPORTED else _AGAIN)
            else:
                since = news.next
                self._learn(news)

    def _learn(self, news: News) -> None:
        if not self._standing.told:
            self._standing.told = True
            self._asking.renew()
        if news.happenings or news.missed != 0:
            self._note(news.happenings)

    def _note(self, happenings: tuple[Happening, ...]) -> None:
        with self._changed:
            self._running = after(self._running, happenings)
        self._standing.stale(ended=any(h.event.event == "done" for h in happenings))
        self._stir()

    def _stir(self) -> None:
        self._stirred.set()

    def _make_frames(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            self._stirred.clear()
            try:
                self._publish(self._asking.ask(self._look))
                then = min(began + self._every, self._standing.due)
            except Exception as e:  # whatever it is, who watches must hear of it and not look at a picture
                self._lost(e)
                then = began + _AGAIN
            self._ended.wait(max(0.0, began + _LEAST - time.monotonic()))
            self._stirred.wait(max(0.0, then - time.monotonic()))

    def _look(self, session: Session) -> Frame:
        """A frame of the machine as it stands."""
        running = self._running
        seen = self._standing.ask(session, self._now())
        surveys, last = self._looker.surveys(seen.snapshot), self._frame
        drawn = Map.of(seen.snapshot, surveys)
        if last is not None and last.map == drawn:
            drawn = last.map
        return Frame(
            self._seq + 1,
            self._time(),
            seen.snapshot,
            drawn,
            seen.reading,
            watts=seen.watts,
            saved=seen.saved,
            running=running and self._counted(running, seen.reading),
            governed=seen.governed,
            journal=seen.journal,
            looks=self._looker.looks,
        )

    def _counted(self, running: Running, reading: Reading) -> Running:
        """With the pages that moved since the last reading before it."""
        last = self._frame
        if last is not None and (last.running is None or last.running.began != running.began):
            self._before = last.reading
        return running if self._before is None else counted(running, self._before, reading)

    def _lost(self, error: Exception) -> None:
        """The machine does not answer, or nothing can be made of its answer: what it said last, and why."""
        self._standing.stale(ended=True)
        last = self._frame
        if last is not None and not self._ended.is_set():
            why = str(error) if isinstance(error, HotbankError) else repr(error)
            self._publish(replace(last, seq=self._seq + 1, at=self._time(), trouble=why))

    def _publish(self, frame: Frame) -> None:
        self.record.add(frame)
        with self._changed:
            self._frame = frame
            self._changed.notify_all()

    @property
    def _seq(self) -> int:
        return 0 if self._frame is None else self._frame.seq

    def _time(self) -> float:
        """Now, or the time of the last frame where the clock was set back."""
        return self._now() if self._frame is None else max(self._now(), self._frame.at)


@dataclass(frozen=True, slots=True)
class _Order:
    """Something to be carried out over a line of its own."""

    session: Session
    verb: Verb
    names: tuple[str, ...]
    found: Before | None

    def __str__(self) -> str:
        return f"{self.verb} {', '.join(self.names)}"

    def run(self, told: Callable[[Event], None]) -> None:
        """Until it has ended. Raises what refuses it."""
        act = self.session.remove if self.verb == "remove" else self.session.add
        act(*self.names, found=self.found, on_event=told)
        self.session.settle()


@dataclass(frozen=True, slots=True)
class _Seen:
    """Answers of a machine, each as old as it may be."""

    snapshot: Snapshot
    reading: Reading
    watts: Mapping[str, float]
    saved: Bounds | None
    governed: Governed | None
    journal: tuple[Entry, ...]


class _Standing:
    """How a machine stands: each question asked again when something happened that may have changed its answer, and
    now and then, for another hand does not say what it does. ``told``: whether somebody tells what happens."""

    def __init__(self, every: float) -> None:
        self.told = False
        every *= _EARLY
        self._reading = Question[Reading](every, time.monotonic)
        self._often, self._rarely = (Question[Snapshot](t, time.monotonic) for t in (every, max(every, _UNTOLD)))
        self._governed = Question[Governed | None](_GOVERNED, time.monotonic)
        self._history = Question[tuple[Entry, ...]](_SELDOM, time.monotonic)
        self._saved = Question[Bounds | None](_SELDOM, time.monotonic)
        self._stood: Snapshot | None = None
        self._last: Reading | None = None
        self._drawn: Mapping[str, float] = {}

    def stale(self, *, ended: bool) -> None:
        """Something happened; ``ended``: a transaction did, perhaps."""
        happened: tuple[Question[Any], ...] = (self._reading, self._often, self._rarely, self._governed)
        for question in (*happened, self._history, self._saved) if ended else happened:
            question.stale(at_once=ended)

    @property
    def due(self) -> float:
        """When the next of the questions that something made due is to be asked, on the monotonic clock."""
        asked = (self._snapshot, self._reading, self._governed, self._history, self._saved)
        return min((question.due for question in asked if question.is_stale), default=math.inf)

    @property
    def _snapshot(self) -> Question[Snapshot]:
        return self._rarely if self.told else self._often

    def ask(self, session: Session, at: float) -> _Seen:
        """What is due; the other answers as they were."""
        snapshot, reading = self._snapshot.get(partial(self._listed, session)), self._reading.get(session.reading)
        entries = self._history.get(session.history)
        if reading is not self._last:
            self._drawn, self._last = watts((self._last or reading, reading)), reading
        return _Seen(
            snapshot,
            reading,
            self._drawn,
            self._saved.get(lambda: _saved(snapshot, entries, at)),
            self._governed.get(lambda: _if_any(session.auto)),
            tuple(entry for entry in entries if not entry.is_sign)[-_SHOWN:],
        )

    def _listed(self, session: Session) -> Snapshot:
        """With the blocks that are as they were the same ones as then: a record keeps thousands of snapshots."""
        now, before = session.list(), self._stood
        if before is not None:
            blocks = (was if (was := before.block(block.number)) == block else block for block in now.blocks)
            now = replace(now, blocks=tuple(blocks))
        self._stood = now
        return now


def _news(since: int | None, session: Session) -> News:
    """At first at once: then it is known that somebody tells."""
    return session.events(since, 0.0 if since is None else _POLL)


def _saved(snapshot: Snapshot, entries: tuple[Entry, ...], at: float) -> Bounds | None:
    """Joules less their cost; None where nothing can go dark, or the board's DRAM is not known."""
    ledger = None
    with suppress(HotbankError):
        ledger = of_journal(snapshot, entries, at, memspec.named)
    return ledger.net() if ledger is not None and ledger.accounts else None


def _if_any(ask: Callable[[], _T]) -> _T | None:
    """None where the machine has nobody to ask."""
    try:
        return ask()
    except Refusal as e:
        if e.code is Code.UNSUPPORTED:
            return None
        raise
