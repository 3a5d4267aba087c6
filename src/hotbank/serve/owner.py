# SPDX-License-Identifier: Apache-2.0
"""The process that owns a machine: it answers many clients, keeps the journal, and runs one transaction at a time.

Each client has a thread of its own that sleeps in ``recv``, so reads stay instant during a transaction and an
idle owner never wakes up. A verb is carried out by a worker, a child process that speaks Machine to the owner
over a socket pair; a client that hangs up does not stop it, and a worker that dies is cleaned up after.
"""

from __future__ import annotations

import errno
import inspect
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hotbank.errors import Code, HotbankError, KernelError, MachineError, ProtocolError, Refusal
from hotbank.machine import Interruptible, Machine, PageByPage, Survey
from hotbank.operate import Before, Entry, Event, Journal, Limits, MemoryJournal, Outcome, recover, remedy
from hotbank.operate.recovery import closed
from hotbank.remote import Hello, SocketStream
from hotbank.wire import MAX_REQUEST, VERSION, Lines, Stream, decode, encode, encode_error

_READS = ("snapshot", "survey", "power", "reading")
_CHANGES = ("online", "offline", "add", "remove", "set_power")
_JOURNAL = ("begin", "intend", "result", "close", "unfinished", "claim", "entries")
_MAX_CLIENTS = 64
_CANCEL_EVERY, _CANCEL_TRIES = 0.05, 20
_LOOK_EVERY = 0.5  # seconds of wall time between two looks at a block that goes offline
_REST, _MARGIN = 3, 2  # times what a look takes: for which none is taken after it, and before a deadline
_SO_PEERGROUPS, _MOST_GROUPS = 59, 256

Calls = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Order:
    """What a client wants done: ``verb`` is ``remove``, ``add`` or ``recover``."""

    verb: str
    target: str
    limits: Limits
    force: bool = False
    keep_partial: bool = False


class Owner:
    """Owns a machine. ``serve`` a listening socket, or ``attend`` single streams; both from any thread.

    ``readers``: the id of a group whose members may read, beside this user and root, who may do everything.
    """

    def __init__(self, machine: Machine, *, journal: Journal | None = None, readers: int | None = None) -> None:
        self._machine, self._readers = machine, readers
        self._journal = journal or MemoryJournal()
        self._name = machine.snapshot().machine
        self._changing = threading.Lock()
        self._stopped = False  # from then on no change begins
        self._job: Job | None = None
        self._slots = threading.BoundedSemaphore(_MAX_CLIENTS)
        self._listener: socket.socket | None = None

    def serve(self, listener: socket.socket) -> None:
        """Answer clients that may until ``stop``."""
        self._listener = listener
        while not self._stopped:
            try:
                connection, _ = listener.accept()
            except OSError as e:
                if e.errno in (errno.EINVAL, errno.EBADF):
                    return
                if e.errno in (errno.ECONNABORTED, errno.EINTR):
                    continue
                raise
            threading.Thread(target=self._admit, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        """Make ``serve`` return, at once if it is yet to be called, and let no change begin any more. Safe in a signal
        handler."""
        self._stopped = True
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)

    def attend(self, stream: Stream) -> None:
        """Answer one client, who may do everything, until it hangs up."""
        _Client(stream, self._hello(), self._client_calls(), self._cancel).run()

    def settle(self) -> None:
        """Begin to settle what an owner before this one left open; clients can follow it as any transaction."""
        if self._journal.unfinished() is not None and not self._stopped:
            self._order(Order("recover", "", Limits()))

    def finish(self, patience: float) -> None:
        """Interrupt a transaction that runs, and return when it is over, or ``patience`` seconds of wall time are."""
        until = time.monotonic() + patience
        while not self._changing.acquire(timeout=_CANCEL_EVERY):
            if time.monotonic() >= until:
                return
            self._cancel()
        self._changing.release()

    def wait(self) -> None:
        """Return when no transaction runs."""
        with self._changing:
            return

    def _admit(self, connection: socket.socket) -> None:
        stream, uid = SocketStream(connection), peer_uid(connection)
        may_change = uid in (os.getuid(), 0)
        if not may_change and self._readers not in peer_groups(connection):
            _turn_away(stream, MachineError("this machine belongs to another user", remedy="ask its owner"))
        elif not self._slots.acquire(blocking=False):
            _turn_away(stream, MachineError(f"{_MAX_CLIENTS} clients are connected", remedy="close some of them"))
        else:
            try:
                self.attend(stream) if may_change else self._let_read(stream)
            finally:
                self._slots.release()

    def _let_read(self, stream: Stream) -> None:
        refused = {name: _only_for_the_owner(call) for name, call in self._client_calls().items()}
        _Client(stream, self._hello(), refused | self._reading_calls(), _nothing).run()

    def _hello(self) -> Hello:
        return Hello(VERSION, os.getpid(), self._name)

    # What a client may call.

    def _client_calls(self) -> Calls:
        calls: dict[str, Callable[..., Any]] = {
            f"machine.{n}": self._alone(getattr(self._machine, n)) for n in _CHANGES
        }
        calls |= {"owner.order": self._order, "owner.stop": self._stop_if_idle}
        return self._reading_calls() | calls

    def _reading_calls(self) -> dict[str, Callable[..., Any]]:
        calls: dict[str, Callable[..., Any]] = {f"machine.{n}": getattr(self._machine, n) for n in _READS}
        if isinstance(self._machine, PageByPage):
            calls["machine.pages"] = self._machine.pages
        clock = self._machine.clock
        return calls | {"clock.now": clock.now, "clock.sleep": clock.sleep, "owner.history": self._history}

    def _alone(self, change: Callable[..., None]) -> Callable[..., None]:
        """A changing primitive, refused while a transaction or another one runs."""

        def guarded(**arguments: Any) -> None:
            with self._changes():
                change(**arguments)

        guarded.__wrapped__ = change  # type: ignore[attr-defined]  # so that its hints are found
        return guarded

    @contextmanager
    def _changes(self) -> Iterator[None]:
        self._take_turn()
        try:
            yield
        finally:
            self._changing.release()

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
        what, pid = (f"{job.order.verb} {job.order.target}", job.pid) if job is not None else ("a change", os.getpid())
        if job is None and entry is not None:
            what, pid = f"{entry.before.verb} {entry.before.target}", entry.pid
        code = Code.BUSY_TRANSACTION
        return Refusal(code, f"{what} of pid {pid} is not finished", remedy=remedy(code))

    def _history(self) -> tuple[Entry, ...]:
        return self._journal.entries()

    def _order(self, order: Order) -> Job:
        """Start the transaction; the client's thread follows its events."""
        if order.verb not in ("remove", "add", "recover"):
            raise ProtocolError(f"order: no verb {order.verb!r}")
        self._take_turn(settles=order.verb == "recover")
        self._job = Job(order, self._machine, self._journal)
        threading.Thread(target=self._carry_out, args=(self._job,), daemon=True).start()
        return self._job

    def _carry_out(self, job: Job) -> None:
        try:
            job.run(self._hello())
        finally:
            self._job = None
            self._changing.release()
            job.publish()  # only now: who hears of the end may send the next order at once

    def _cancel(self) -> None:
        """Interrupt the transaction; without one, the primitive that runs, where the machine can."""
        job = self._job
        if job is not None:
            job.cancel()
        elif isinstance(self._machine, Interruptible):
            self._machine.interrupt()

    def _stop_if_idle(self) -> None:
        if not self._changing.acquire(blocking=False):
            raise self._busy()
        self.stop()
        self._changing.release()


class Job:
    """One order being carried out by a worker. Its events and its end can be followed by any number of threads."""

    def __init__(self, order: Order, machine: Machine, journal: Journal) -> None:
        self.order, self._machine, self._journal = order, machine, journal
        self._began = machine.clock.now()
        self._to_move: dict[int, int] = {}
        self._look_takes = 0.0
        self.pid = os.getpid()
        self._news = threading.Condition()
        self._events: list[Event] = []
        self._entry: int | None = None  # of the journal, once the worker has begun
        self._report: Outcome | HotbankError | None = None
        self._end: Outcome | HotbankError | None = None
        self._cancelled = self._worker_knows = self._offlining = False

    def follow(self) -> Iterator[Event]:
        """Events from the first to the last, as they come."""
        seen = 0
        while fresh := self._events_after(seen):
            yield from fresh
            seen += len(fresh)

    def _events_after(self, seen: int) -> list[Event]:
        with self._news:
            self._news.wait_for(lambda: len(self._events) > seen or self._end is not None)
            return self._events[seen:]

    def end(self) -> Outcome | None:
        """How it ended, once ``follow`` is through; None if there was nothing to recover.

        Raises what the verb raised.
        """
        if isinstance(self._end, HotbankError):
            raise self._end
        return self._end if self._end != _NOTHING else None

    def cancel(self) -> None:
        """Interrupt it: the worker is told at its next step, and an offline that runs is ended."""
        self._cancelled = True
        with self._news:
            for _ in range(_CANCEL_TRIES):  # an offline that is only about to begin does not hear the first one
                if self._worker_knows or not self._offlining or not isinstance(self._machine, Interruptible):
                    return
                self._machine.interrupt()
                self._news.wait(_CANCEL_EVERY)

    def _interrupt(self) -> None:
        """End the offline of a worker that is gone."""
        if isinstance(self._machine, Interruptible):
            self._machine.interrupt()

    def run(self, hello: Hello) -> None:
        """Start the worker and answer it until it is gone; clean up after one that died.

        The calling thread has to live as long as the worker, which dies with it (PR_SET_PDEATHSIG).
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                worker = start_module("hotbank.serve.worker", str(theirs.fileno()), pass_fds=(theirs.fileno(),))
        except OSError as e:
            ours.close()
            self._report = MachineError(f"no worker could be started: {e.strerror}")
            return
        with worker:
            self.pid = worker.pid
            _Client(SocketStream(ours), hello, self._worker_calls(), self._interrupt).run()
            assert worker.stderr is not None
            last_words = worker.stderr.read().decode(errors="replace").strip().splitlines()
        if self._report is None:
            self._clean_up(worker.returncode, last_words[-1:])

    def publish(self) -> None:
        """Let the followers know the end."""
        with self._news:
            self._end = self._report or MachineError("the worker could not be run")
            self._news.notify_all()

    def _worker_calls(self) -> Calls:
        machine, journal = self._machine, self._journal
        calls = {f"machine.{n}": getattr(machine, n) for n in (*_READS, *_CHANGES)}
        calls |= {f"journal.{n}": getattr(journal, n) for n in _JOURNAL}
        calls |= {"clock.now": machine.clock.now, "clock.sleep": machine.clock.sleep}
        calls |= {"journal.begin": self._begin}
        calls |= {"job.order": self._tell_order, "job.began": self._tell_began, "job.event": self._event}
        calls |= {"job.interrupted": self._interrupted}
        calls |= {"machine.survey": self._survey, "machine.offline": self._offline}
        return calls | {"job.done": self._done, "job.failed": self._failed}

    def _begin(self, before: Before) -> int:
        self._entry = self._journal.begin(before)
        return self._entry

    def _tell_order(self) -> Order:
        return self.order

    def _tell_began(self) -> float:
        return self._began

    def _event(self, event: Event) -> None:
        """Publish an event, numbered anew: some are not the worker's."""
        with self._news:
            self._events.append(replace(event, seq=len(self._events)))
            self._news.notify_all()

    def _interrupted(self) -> bool:
        self._worker_knows = self._worker_knows or self._cancelled
        return self._cancelled

    def _survey(self, block: int) -> Survey:
        survey = self._look(block)
        self._to_move[block] = survey.to_move
        return survey

    def _look(self, block: int) -> Survey:
        """A survey whose time is taken: the next one will take about as long."""
        began = self._machine.clock.now()
        survey = self._machine.survey(block)
        self._look_takes = max(self._look_takes, self._machine.clock.now() - began)
        return survey

    def _offline(self, block: int, deadline: float) -> None:
        """An offline that does not even begin when the order to stop has overtaken it.

        A worker that knows of the order is rolling back: its offlines are done.
        """
        self._offlining = True
        try:
            if self._cancelled and not self._worker_knows:
                raise KernelError(errno.EINTR, f"offline memory{block}")
            with self._watching(block, deadline):
                self._machine.offline(block, deadline)
        finally:
            self._offlining = False

    @contextmanager
    def _watching(self, block: int, deadline: float) -> Iterator[None]:
        """Tell now and then how much of the block is left while it goes offline; the kernel itself tells nothing."""
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
        clock = self._machine.clock
        began = clock.now()
        while not over.wait(max(_LOOK_EVERY, _REST * self._look_takes)):
            if clock.now() + _MARGIN * self._look_takes >= deadline:
                return
            with suppress(HotbankError):  # it may be gone by now
                left = self._look(block).to_move
                if not over.is_set():
                    self._tell_progress(block, left, clock.now() - began)

    def _tell_progress(self, block: int, left: int, seconds: float) -> None:
        last = next((e for e in reversed(self._events) if e.event == "step" and e.block == block), None)
        if last is not None:
            moved = last.moved + max(0, self._to_move.get(block, left) - left)
            self._event(replace(last, event="progress", t=last.t + seconds, moved=moved))

    def _done(self, outcome: Outcome | None) -> None:
        self._report = outcome if outcome is not None else _NOTHING
        if self._report.open:
            self.publish()  # the worker stays until it is settled, which may take long

    def _failed(self, code: Code, message: str, remedy: str) -> None:
        self._report = Refusal(code, message, remedy=remedy)

    def _clean_up(self, status: int, last_words: list[str]) -> None:
        """Settle what a worker left that died in its middle."""
        why = ": ".join([f"the worker ended with status {status}", *last_words])
        try:
            outcome = recover(self._machine, self._journal) or self._closed()
        except HotbankError as e:
            left = f"{why}; nor could it be cleaned up after: {e}"
            self._report = MachineError(left, remedy=remedy(Code.NO_MACHINE))
            return
        self._report = outcome or MachineError(why)

    def _closed(self) -> Outcome | None:
        """The end of a transaction that the worker closed and did not live to report."""
        entry = next((e for e in self._journal.entries() if e.id == self._entry), None)
        return None if entry is None else closed(entry, self._machine.snapshot())


_NOTHING = Outcome("recover", "", Code.OK, 0)


def _nothing() -> None:
    """A reader cancels nothing."""


def _only_for_the_owner(call: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(**_: Any) -> None:
        raise MachineError("only root and the machine's owner may change it", remedy="become one of them")

    refuse.__wrapped__ = inspect.unwrap(call)  # type: ignore[attr-defined]  # so that its hints are found
    return refuse


class _Client:
    """One stream, answered request by request; the events of an order are sent from a thread of their own."""

    def __init__(self, stream: Stream, hello: Hello, calls: Calls, cancel: Callable[[], None]) -> None:
        self._lines, self._hello, self._calls, self._cancel = Lines(stream, MAX_REQUEST), hello, calls, cancel
        self._writing = threading.Lock()
        self._offline: threading.Thread | None = None

    def run(self) -> None:
        """Until the client hangs up, or sends something that is no request. An offline of its own ends with it."""
        with suppress(OSError):
            self._send(encode(self._hello))
            try:
                while (request := self._lines.receive()) is not None:
                    self._answer(request)
            except ProtocolError as e:
                self._send({"id": None, "error": encode_error(e)})
        self._lines.close()
        while self._offline is not None and self._offline.is_alive():
            self._cancel()
            self._offline.join(_CANCEL_EVERY)

    def _answer(self, request: dict[str, Any]) -> None:
        if request == {"cancel": True}:
            self._cancel()
            return
        number, function, arguments = self._understood(request)
        if request["call"] == "machine.offline":  # it may take long, and only who goes on listening hears a cancel
            self._offline = threading.Thread(target=self._carry_out, args=(number, function, arguments), daemon=True)
            self._offline.start()
        else:
            self._carry_out(number, function, arguments)

    def _carry_out(self, number: int, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        with suppress(OSError):  # the client hung up
            self._reply(number, function, arguments)

    def _reply(self, number: int, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        try:
            result = function(**arguments)
        except Exception as e:  # whatever went wrong is the client's to know
            self._send({"id": number, "error": encode_error(e)})
            return
        if isinstance(result, Job):
            threading.Thread(target=self._follow, args=(number, result), daemon=True).start()
        else:
            self._send({"id": number, "result": encode(result)})

    def _understood(self, request: dict[str, Any]) -> tuple[int, Callable[..., Any], dict[str, Any]]:
        if request.keys() != {"id", "call", "args"}:
            raise ProtocolError(f"a request has id, call and args, not {sorted(request)}")
        function = self._calls.get(str(request["call"]))
        if function is None:
            raise ProtocolError(f"no call {request['call']!r}")
        return decode(int, request["id"], "id"), function, _arguments(function, request["args"])

    def _follow(self, number: int, job: Job) -> None:
        with suppress(OSError):  # the client hung up; the job goes on
            for event in job.follow():
                self._send({"id": number, "event": encode(event)})
            try:
                answer = {"id": number, "result": encode(job.end())}
            except HotbankError as e:
                answer = {"id": number, "error": encode_error(e)}
            self._send(answer)

    def _send(self, document: dict[str, Any]) -> None:
        with self._writing:
            self._lines.send(document)


def _arguments(function: Callable[..., Any], data: Any) -> dict[str, Any]:
    """The arguments of a call, by the hints of the function behind it. Raises ProtocolError."""
    behind = inspect.unwrap(function)
    hints = {k: v for k, v in typing.get_type_hints(behind).items() if k != "return"}
    if not isinstance(data, dict) or data.keys() != hints.keys():
        raise ProtocolError(f"args: expected {sorted(hints)}, got {data!r:.60}")
    return {name: decode(hint, data[name], name) for name, hint in hints.items()}


def _turn_away(stream: SocketStream, error: HotbankError) -> None:
    with suppress(OSError):
        Lines(stream, MAX_REQUEST).send({"id": None, "error": encode_error(error)})
    stream.close()


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket, when it was made."""
    return _peer(connection)[1]


def peer_groups(connection: socket.socket) -> tuple[int, ...]:
    """The ids of the groups that the process at the other end was in (unix(7), SO_PEERCRED, SO_PEERGROUPS).

    Of one that is in too many for getsockopt, only its own.
    """
    size, more = struct.calcsize("i"), b""
    with suppress(OSError):
        more = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * size)
    return (_peer(connection)[2], *struct.unpack(f"{len(more) // size}i", more))


def peer_pid(connection: socket.socket) -> int:
    """The process at the other end of a Unix socket, when it was made."""
    return _peer(connection)[0]


def _peer(connection: socket.socket) -> tuple[int, int, int]:
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, uid, gid


def start_module(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Run a module of this package in a child process with this interpreter, from ``/``."""
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd="/",
        env={**os.environ, "PYTHONPATH": path},
        **{**settings, **options},
    )
