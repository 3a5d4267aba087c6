# SPDX-License-Identifier: Apache-2.0
"""The process that owns a machine: it answers many clients, keeps the journal, and runs one transaction at a time.

One thread waits for all clients (loop.py) and a few carry out what they ask (crew.py), so reads stay instant during a
transaction, an idle owner never wakes up, and no client can make it grow. A verb is carried out by a worker, a child
process that speaks Machine to the owner over a socket pair; a client that hangs up does not stop it, and a worker that
dies, or does not move any more, is cleaned up after. While somebody governs, one stands ready (workers.py).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from hotbank.calls import BY_BLOCK, CLOCK, COUNTING, DOCTOR, GLANCE, MACHINE, PAGES, VACATE
from hotbank.documents import EXIT_DONE, EXIT_FAILED
from hotbank.errors import CancelPending, Code, HotbankError, MachineError, ProtocolError, Refusal
from hotbank.govern.status import Orders, Status
from hotbank.machine import (
    Machine,
    WallClock,
    can_count,
    can_glance,
    can_vacate,
    is_examinable,
    is_interruptible,
    tells_blocks,
    tells_pages,
)
from hotbank.operate import Entry, Event, Limits, MemoryJournal, remedy
from hotbank.operate.journal import GOVERNOR, START, STOP, OwnersJournal, sign_of_life
from hotbank.operate.reasons import code_of, errno_of
from hotbank.remote import Hello
from hotbank.serve import past
from hotbank.serve.answers import Answers, answers
from hotbank.serve.crew import Interruptions
from hotbank.serve.desk import Desk
from hotbank.serve.door import Door
from hotbank.serve.job import Job
from hotbank.serve.later import Following, Newsreader, Sleep
from hotbank.serve.line import ENDLESS, Line
from hotbank.serve.loop import Loop, Service
from hotbank.serve.news import Ring
from hotbank.serve.protocol import OWNER, Look, Order
from hotbank.serve.workers import Workers
from hotbank.wire import VERSION, Stream

_RECOVER = "recover"
_SETTLING = Limits()
_CANCEL_EVERY = 0.05  # seconds of wall time
_LOOK_EVERY = 1.0  # seconds of wall time between two looks whether what was left open can be settled
_LOOK_AT_LEAST = 60.0  # the same when it could not be, again and again


class Owner:
    """Owns a machine. ``serve`` a listening socket, or ``attend`` single streams; both from any thread.

    ``readers``: the id of a group whose members may read, beside this user and root, who may do everything. ``desk``:
    where its governor tells and is told. ``answers``: what a client may call. ``workers``: who carries out orders.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        journal: OwnersJournal | None = None,
        readers: int | None = None,
        desk: Desk | None = None,
    ) -> None:
        self.desk = desk or Desk()
        self.desk.at_work = lambda: (job := self._job) is not None and job.order.cause == GOVERNOR
        self._machine, self._readers = machine, readers
        self._journal, self._ring = journal or MemoryJournal(), Ring(stir=lambda: self._loop.wake())
        self._name = machine.snapshot().machine
        self._changing, self._settling = threading.Lock(), threading.Lock()
        self._stopped = False  # from then on no change begins
        self._goes_on = False  # a primitive that was given up
        self._job: Job | None = None
        self._interruptions = Interruptions(self._interrupt)
        self.workers = Workers()
        self.answers = self._answers()
        again = OWNER["look"].name
        interrupt, busy = self._interruptions.want, self._changing.locked
        self._loop = Loop(Service(self.answers, again, self._cancel, interrupt, busy, self.workers.stand_down))

    def serve(self, listener: socket.socket) -> None:
        """Answer clients that may until ``stop``."""
        door = Door(listener, self._hello, self._readers, lambda: self._stopped)
        self._loop.open(door)
        door.shuts.wait()
        if self._loop.error is not None:
            raise self._loop.error

    def stop(self) -> None:
        """Make ``serve`` return, at once if it is yet to be called, and let no change begin any more. Who is connected
        is still answered. Safe in a signal handler."""
        self._stopped = True
        self._loop.wake()

    def take(self, stream: Stream, *, may_change: bool = True) -> threading.Event:
        """Answer one client until it hangs up; set when nothing of it is left."""
        line = Line(stream, self._hello(), os.getuid(), may_change=may_change, patience=ENDLESS)
        self._loop.add(line)
        return line.over

    def attend(self, stream: Stream, *, may_change: bool = True) -> None:
        """Answer one client, and return when it has hung up."""
        self.take(stream, may_change=may_change).wait()

    def settle(self) -> None:
        """Begin to settle what an owner before this one left open; clients can follow it as any transaction. Then, or
        at once, write down that the machine is up. Where a process that can still write was left behind and outlasts
        that, it is settled once the last of them is gone."""
        with suppress(HotbankError):  # an order that is under way settles its own; who is about to end begins nothing
            with self._changes(settles=True):
                left = self._journal.unfinished() is not None
                if not left:
                    self._sign(START)
            if left:
                self._begin(Order(_RECOVER, (), _SETTLING))

    def finish(self, patience: float) -> None:
        """Interrupt a transaction that runs, and return when it is over, or ``patience`` seconds of wall time are.

        What the machine was like until then is in the journal.
        """
        until = time.monotonic() + patience
        while not self._changing.acquire(timeout=_CANCEL_EVERY):
            if time.monotonic() >= until:
                return
            self._cancel()
        self._sign(STOP)
        self._changing.release()

    def wait(self) -> None:
        """Return when no transaction runs."""
        with self._changing:
            return

    def _sign(self, verb: str) -> None:
        """A sign of life. Without one nothing is wrong: that time is unknown."""
        with suppress(HotbankError):
            sign_of_life(self._journal, verb, self._machine.snapshot())

    def _hello(self) -> Hello:
        can = tuple(sorted(self._machine.can))
        return Hello(VERSION, os.getpid(), self._name, can)

    # What a client may call.

    def _answers(self) -> Answers:
        alone = {name: self._alone(name) for name, call in MACHINE.items() if call.changes}
        machine = answers(MACHINE, self._machine, **alone)
        pages = answers(PAGES, self._machine) if tells_pages(self._machine) else {}
        glance = answers(GLANCE, self._machine) if can_glance(self._machine) else {}
        count = answers(COUNTING, self._machine) if can_count(self._machine) else {}
        block = answers(BY_BLOCK, self._machine) if tells_blocks(self._machine) else {}
        vacate = answers(VACATE, self._machine, vacate=self._alone("vacate")) if can_vacate(self._machine) else {}
        doctor = answers(DOCTOR, self._machine) if is_examinable(self._machine) else {}
        journal, ring = self._journal, self._ring
        events = partial(Newsreader, ring)
        own: dict[str, Callable[..., Any]] = {"order": self._order, "stop": self._stop_if_idle}
        own |= {"govern": self._govern, "look": self._look}
        owner = answers(OWNER, self.desk, history=partial(past.part, journal), events=events, **own)
        return {
            **machine,
            **pages,
            **glance,
            **count,
            **block,
            **vacate,
            **doctor,
            **answers(CLOCK, self._machine.clock, **self._sleeping()),
            **owner,
        }

    def _govern(self, status: Status) -> Orders:
        """While somebody governs, a worker stands ready; the first look is told before it is taken."""
        orders = self.desk.govern(status)
        if status.period:
            self.workers.stand_ready()
        else:
            self.workers.stand_down()
        return orders

    def _look(self, status: Status) -> Look:
        orders = self._govern(status)
        return Look(self._machine.reading(), orders)

    def _sleeping(self) -> Mapping[str, Callable[..., Any]]:
        """Nobody need wait where time is real; simulated time passes when somebody sleeps."""
        clock = self._machine.clock
        return {"sleep": partial(Sleep, clock)} if isinstance(clock, WallClock) else {}

    def _alone(self, name: str) -> Callable[..., Any]:
        """A changing primitive, refused while a transaction or another one runs."""
        change = getattr(self._machine, name)

        def guarded(**arguments: Any) -> Any:
            with self._changes(), self._told(name, arguments):
                try:
                    with self._journal.alone():
                        return change(**arguments)
                except CancelPending:
                    self._keep_until_over()
                    raise

        return guarded

    def _keep_until_over(self) -> None:
        """The journal stays ours, until the kernel has let go of what no transaction tells of."""
        if not self._goes_on:
            self._goes_on = True
            threading.Thread(target=self._see_it_end, daemon=True).start()

    def _see_it_end(self) -> None:
        while self._goes_on and not self._stopped:
            time.sleep(_LOOK_EVERY)
            with suppress(HotbankError):
                if self._machine.snapshot().pending is None:
                    self._let_go()

    def _let_go(self) -> None:
        with self._changes():
            if self._machine.snapshot().pending is None:
                self._journal.let_go()
                self._goes_on = False

    @contextmanager
    def _changes(self, *, settles: bool = False) -> Iterator[None]:
        self._take_turn(settles=settles)
        try:
            yield
        finally:
            self._changing.release()

    @contextmanager
    def _told(self, name: str, arguments: Mapping[str, Any]) -> Iterator[None]:
        """Let those who follow what happens know how a primitive ended."""
        began, code, number, fact = self._machine.clock.now(), Code.OK, None, ""
        try:
            yield
        except Exception as e:
            fact = str(e)
            code, number = (code_of(e), errno_of(e)) if isinstance(e, HotbankError) else (Code.SYSTEM_ERROR, None)
            raise
        finally:
            t, block = self._machine.clock.now() - began, arguments.get("block")
            status = EXIT_DONE if code is Code.OK else EXIT_FAILED
            done = Event(t, 0, "done", name, block, code=code, errno=number, exit=status, fact=fact)
            given = [str(value) for value in arguments.values() if value != ()]
            self._ring.add(" ".join((name, *given)), os.getpid(), done)

    def _take_turn(self, *, settles: bool = False) -> None:
        """The right to change the machine, until ``_changing`` is released; ``settles``: also what is left open. Raises
        Refusal(BUSY_TRANSACTION), and MachineError once the owner was told to end."""
        if not self._changing.acquire(blocking=False):
            raise self._busy()
        refusal: HotbankError | None = None
        if self._stopped:
            refusal = MachineError(f"the owner of {self._name} is about to end", remedy="ask again when it is back")
        elif not settles and self._journal.unfinished() is not None:
            refusal = self._busy()
        if refusal is not None:
            self._changing.release()
            raise refusal

    def _busy(self) -> Refusal:
        job, entry = self._job, self._journal.unfinished()
        what, pid = (str(job.order), job.pid) if job is not None else ("a change", os.getpid())
        if job is None and entry is not None:
            what, pid = f"{entry.before.verb} {entry.before.target}", entry.pid
        code = Code.BUSY_TRANSACTION
        return Refusal(code, f"{what} of pid {pid} is not finished", remedy=remedy(code))

    def _order(self, order: Order) -> Following:
        """Start the transaction, and have the client follow it."""
        if order.verb not in ("remove", "add", "power", _RECOVER):
            raise ProtocolError(f"order: no verb {order.verb!r}")
        return Following(self._begin(order))

    def _begin(self, order: Order) -> Job:
        job = self._take_job(order)
        try:
            threading.Thread(target=self._see_through, args=(job,), daemon=True).start()
        except BaseException:
            self._give_turn_back()
            raise
        return job

    def _take_job(self, order: Order) -> Job:
        """An order's job, which has the turn."""
        self._take_turn(settles=order.verb == _RECOVER)
        try:
            interrupt = self._interruptions.want
            self._job = Job(order, self._machine, self._journal, self._ring, self.workers, interrupt)
        except BaseException:
            self._give_turn_back()
            raise
        return self._job

    def _give_turn_back(self) -> None:
        self._job = None
        self._changing.release()

    def _carry_out(self, job: Job) -> None:
        try:
            job.run(self._hello())
            if job.order.verb == _RECOVER:
                self._sign(START)
        finally:
            self._give_turn_back()
            job.publish()  # only now: who hears of the end may send the next order at once

    def _see_through(self, job: Job) -> None:
        """Carry out an order, or a recovery that nobody ordered, and settle what is still open afterwards, so that
        nobody need order that."""
        self._carry_out(job)
        if self._settling.acquire(blocking=False):
            try:
                self._settle_left()
            finally:
                self._settling.release()

    def _settle_left(self) -> None:
        """Try again, ever more rarely, once nobody that was left behind can write to the machine. What can't be read is
        for somebody who looks at it."""
        pause = _LOOK_EVERY
        while not self._stopped and (left := self._left_open()) is not None and not left.damage:
            time.sleep(pause)
            if self._is_left_alone():
                pause = min(2 * pause, _LOOK_AT_LEAST)
                with suppress(HotbankError):  # somebody else was faster
                    self._carry_out(self._take_job(Order(_RECOVER, (), _SETTLING)))

    def _left_open(self) -> Entry | None:
        with suppress(HotbankError):
            return self._journal.unfinished()
        return None

    def _is_left_alone(self) -> bool:
        """Whether nobody writes for what is open. False while something changes, and when nothing is open any more."""
        with suppress(HotbankError), self._changes(settles=True):
            return self._journal.unfinished() is not None and self._journal.claim()
        return False

    def _cancel(self) -> None:
        """Interrupt the transaction that runs."""
        job = self._job
        if job is not None:
            job.cancel()

    def _interrupt(self, block: int, deadline: float) -> None:
        if is_interruptible(self._machine):
            self._machine.interrupt(block, deadline)

    def _stop_if_idle(self) -> None:
        if not self._changing.acquire(blocking=False):
            raise self._busy()
        self.stop()
        self._changing.release()
