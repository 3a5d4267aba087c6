# SPDX-License-Identifier: Apache-2.0
"""One order being carried out: a worker in a process of its own, watched, followed, and cleaned up after."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from hotbank.calls import BY_BLOCK, CLOCK, COUNTING, MACHINE, VACATE
from hotbank.documents import EXIT_FAILED
from hotbank.errors import Code, HotbankError, KernelError, MachineError, ProtocolError
from hotbank.machine import Machine, Survey, Vacated, can_count, can_vacate, tells_blocks
from hotbank.operate import Before, Event, Journal, Outcome, recover, remedy
from hotbank.operate.look import migrated
from hotbank.operate.plan import EMPTYING
from hotbank.operate.reasons import code_of
from hotbank.operate.recovery import closed
from hotbank.remote import Hello, SocketStream
from hotbank.serve.answers import Answers, answer_in_turn, answers
from hotbank.serve.news import Ring
from hotbank.serve.protocol import JOB, JOURNAL, Order
from hotbank.serve.watchdog import Watchdog
from hotbank.serve.workers import Worker, Workers

_LETS_GO = 0.5  # seconds on the machine's clock for the kernel to let go of a block, when a worker has died
_LOOK_EVERY = 0.5  # seconds of wall time between two looks at a block that goes offline
_REST, _MARGIN = 3, 2  # times what a look takes: for which none is taken after it, and before a deadline


class Job:
    """One order being carried out by a worker. Its events and its end can be followed by any number of readers.

    ``interrupt``: has the offline with that block and deadline ended, and does not wait for it.
    """

    def __init__(
        self,
        order: Order,
        machine: Machine,
        journal: Journal,
        ring: Ring,
        workers: Workers,
        interrupt: Callable[[int, float], None],
    ) -> None:
        self.order, self._machine, self._journal, self._ring = order, machine, journal, ring
        self._workers, self._interrupt = workers, interrupt
        self._began = machine.clock.now()
        self._to_move: dict[int, int] = {}
        self._look_takes = 0.0
        self.pid = os.getpid()
        self._state = threading.Lock()
        self._events: list[Event] = []
        self._entry: int | None = None  # of the journal, once the worker has begun
        self._report: Outcome | HotbankError | None = None
        self._end: Outcome | HotbankError | None = None
        self._cancelled = self._worker_knows = False
        self._offlining: tuple[int, float] | None = None  # under way: block, deadline

    def events_after(self, seen: int) -> list[Event]:
        """Those that come after the first so many."""
        with self._state:
            return self._events[seen:]

    @property
    def ended(self) -> bool:
        """True once its end is known; no event comes after that."""
        return self._end is not None

    def end(self) -> Outcome | None:
        """How it ended, once it has; None if there was nothing to recover. Raises what the verb raised."""
        if isinstance(self._end, HotbankError):
            raise self._end
        return self._end if self._end != _NOTHING else None

    def cancel(self) -> None:
        """Interrupt it: the worker is told at its next step, and an offline that runs is ended; none on the way back:
        what is cut short of that stays half-way. Waits for nothing."""
        with self._state:
            self._cancelled = True
            if self._offlining is not None and self._is_step(self._offlining[0]):
                self._end_offline()

    def _is_step(self, block: int) -> bool:
        """Whether the block's offline is a step forward. The worker tells of each before it takes it; what it does
        beside them, or once it knows that it is to stop, is on the way back."""
        told = next((event for event in reversed(self._events) if event.event != "progress"), None)
        forward = told is not None and (told.event, told.block) == ("step", block) and told.step in EMPTYING
        return forward and not self._worker_knows

    def _end_offline(self) -> None:
        if self._offlining is not None:
            self._interrupt(*self._offlining)

    def run(self, hello: Hello) -> None:
        """Give a worker the order and answer it until it is through; clean up after one that died.

        The calling thread has to live as long as a worker that does not stay, which dies with it (PR_SET_PDEATHSIG).
        """
        with ExitStack() as stack:
            try:
                worker, line = stack.enter_context(self._workers.at_work())
            except OSError as e:
                self._report = MachineError(f"no worker could be started: {e.strerror}", code=Code.SYSTEM_ERROR)
                return
            self.pid = worker.pid
            self._look_after(worker, line, hello)
            left = worker.end() if self._report is None else None
        if left is not None:
            self._clean_up(*left)

    def _look_after(self, worker: Worker, line: socket.socket, hello: Hello) -> None:
        """Answer it until it hangs up."""
        try:
            watchdog = Watchdog(worker.pid, self._worker_died)
        except ProcessLookupError:  # it stood ready, and has died just now
            return
        except (OSError, RuntimeError) as e:
            line.close()  # it is given nothing to do
            worker.end()
            self._report = MachineError(f"no worker could be watched: {e}", code=Code.SYSTEM_ERROR)
            return
        try:
            with suppress(OSError, ProtocolError):
                answer_in_turn(SocketStream(line), hello, self._answers(), watchdog.heard)
        finally:
            line.close()  # it must not wait for us while we wait for its end
        if self._report is not None and worker.stays:
            watchdog.over()

    def _worker_died(self) -> None:
        with self._state:
            self._end_offline()

    def publish(self) -> None:
        """Let the followers know the end."""
        end = self._report or MachineError("the worker could not be run", code=Code.SYSTEM_ERROR)
        if self._end is None and (not self._events or self._events[-1].event != "done"):
            self._ring.add(str(self.order), self.pid, self._last_event(end))
        self._end = end
        self._ring.stir()

    def _last_event(self, end: Outcome | HotbankError) -> Event:
        """The end of an order that told none itself, for those who follow the machine."""
        t, seq = self._machine.clock.now() - self._began, len(self._events)
        if isinstance(end, HotbankError):
            return Event(t, seq, "done", code=code_of(end), exit=EXIT_FAILED, fact=str(end), remedy=end.remedy)
        return Event(t, seq, "done", code=end.code, exit=end.exit, fact=end.fact, remedy=end.remedy)

    def _answers(self) -> Answers:
        """What the worker may call: the machine and its clock, the journal, and this job."""
        machine = answers(MACHINE, self._machine, survey=self._survey, offline=self._offline)
        vacate = answers(VACATE, self._machine, vacate=self._vacate) if can_vacate(self._machine) else {}
        count = answers(COUNTING, self._machine, count=self._count) if can_count(self._machine) else {}
        block = answers(BY_BLOCK, self._machine) if tells_blocks(self._machine) else {}
        job = answers(
            JOB,
            order=lambda: self.order,
            began=lambda: self._began,
            interrupted=self._interrupted,
            event=self._event,
            done=self._done,
            failed=self._failed,
        )
        journal = answers(JOURNAL, self._journal, begin=self._begin)
        return {**machine, **vacate, **count, **block, **answers(CLOCK, self._machine.clock), **journal, **job}

    def _begin(self, before: Before) -> int:
        self._entry = self._journal.begin(before)
        return self._entry

    def _event(self, event: Event) -> None:
        """Publish an event, numbered anew: some are not the worker's."""
        with self._state:
            event = replace(event, seq=len(self._events))
            self._events.append(event)
        self._ring.add(str(self.order), self.pid, event)

    def _interrupted(self) -> bool:
        self._worker_knows = self._worker_knows or self._cancelled
        return self._cancelled

    def _survey(self, block: int) -> Survey:
        survey = self._look(block)
        self._to_move[block] = survey.to_move
        return survey

    def _count(self, blocks: tuple[int, ...]) -> tuple[Survey, ...]:
        assert can_count(self._machine), "nobody calls what is not in the answers"
        found = self._machine.count(blocks)
        self._to_move |= {survey.block: survey.to_move for survey in found}
        return found

    def _look(self, block: int) -> Survey:
        """A survey whose time is taken: the next one will take about as long."""
        began = self._machine.clock.now()
        survey = self._machine.survey(block)
        self._look_takes = max(self._look_takes, self._machine.clock.now() - began)
        return survey

    def _offline(self, block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        """An offline, which as a step does not even begin when the order to stop has overtaken it."""
        with self._ending_on_order(f"offline memory{block}", block, deadline):
            self._machine.offline(block, deadline, spare=spare, fence=fence)

    def _vacate(self, block: int, deadline: float, *, drop: int = 0, spare: int = 0) -> Vacated:
        assert can_vacate(self._machine), "nobody calls what is not in the answers"
        with self._ending_on_order(f"vacate the node of memory{block}", block, deadline):
            return self._machine.vacate(block, deadline, drop=drop, spare=spare)

    @contextmanager
    def _ending_on_order(self, what: str, block: int, deadline: float) -> Iterator[None]:
        with self._state:
            if self._cancelled and self._is_step(block):
                raise KernelError(errno.EINTR, what)
            self._offlining = (block, deadline)
        try:
            with self._watching(block, deadline):
                yield
        finally:
            self._offlining = None

    @contextmanager
    def _watching(self, block: int, deadline: float) -> Iterator[None]:
        """Tell now and then how much has moved while a block goes offline."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(block, deadline, over), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _watch(self, block: int, deadline: float, over: threading.Event) -> None:
        """A look keeps the machine busy, and whoever waits for the answer: none may still be under way at the
        deadline."""
        clock, before = self._machine.clock, migrated(self._machine)
        began = clock.now()
        while not over.wait(max(_LOOK_EVERY, _REST * self._look_takes)):
            if clock.now() + _MARGIN * self._look_takes >= deadline:
                return
            with suppress(HotbankError):  # it may be gone by now
                moved = self._moved_since(before, block)
                if not over.is_set():
                    self._tell_progress(block, moved, clock.now() - began)

    def _moved_since(self, before: int | None, block: int) -> int:
        """Pages, by the machine's own count; where it has none, by what is left of the block."""
        now = migrated(self._machine) if before is not None else None
        if before is not None and now is not None:
            return now - before
        left = self._look(block).to_move
        return max(0, self._to_move.get(block, left) - left)

    def _tell_progress(self, block: int, moved: int, seconds: float) -> None:
        last = next((e for e in reversed(self._events) if e.event == "step" and e.block == block), None)
        if last is not None:
            self._event(replace(last, event="progress", t=last.t + seconds, moved=(last.moved or 0) + moved))

    def _done(self, outcome: Outcome | None) -> None:
        self._report = outcome if outcome is not None else _NOTHING
        if self._report.open:
            self.publish()  # the worker stays until it is settled, which may take long

    def _failed(self, error: HotbankError) -> None:
        self._report = error

    def _clean_up(self, status: int, last_words: list[str]) -> None:
        """Settle what a worker left that died in its middle. What the kernel still holds is told, and waited for."""
        why = ": ".join([f"the worker ended with status {status}", *last_words])
        try:
            outcome = recover(self._machine, self._journal, patience=_LETS_GO) or self._closed()
            self._report = outcome or MachineError(why, code=Code.SYSTEM_ERROR)
            if outcome is not None and outcome.open and outcome.code is Code.CANCEL_PENDING:
                self.publish()
                recover(self._machine, self._journal)
        except Exception as e:  # whatever went wrong, who follows the order has to hear of its end
            said, code = (str(e), code_of(e)) if isinstance(e, HotbankError) else (repr(e), Code.SYSTEM_ERROR)
            left = f"{why}; nor could it be cleaned up after: {said}"
            self._report = MachineError(left, code=code, remedy=remedy(Code.NO_MACHINE))

    def _closed(self) -> Outcome | None:
        """The end of a transaction that the worker closed and did not live to report."""
        if self._entry is None:
            return None
        (entry,) = self._journal.entries(self._entry + 1, 1)
        return closed(entry, self._machine.snapshot())


_NOTHING = Outcome("recover", (), Code.OK, 0)
