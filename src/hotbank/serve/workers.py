# SPDX-License-Identifier: Apache-2.0
"""The processes that carry out orders: one is started for each, or, while somebody governs, one stands ready.

To start an interpreter takes memory and time, and a bank comes back when there is little of either. So who governs has
a worker that waits, its memory locked, for one order after the other. One that has died is replaced as soon as there
is room; until then an order starts its own.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hotbank.memory import MIB
from hotbank.serve.children import FIRM, start_module
from hotbank.sysfs import meminfo

ROOM = 64 * MIB  # available where a worker is started before it is needed: it takes a third of that
_WORDS = 4096  # bytes of what a worker may not
_ENDS = 10.0  # seconds of wall time for one to end that nobody gives orders any more; one that takes longer is stopped
_DEAD = (BrokenPipeError, ConnectionResetError)


class Worker:
    """One of them. ``stays``: for more than one order."""

    def __init__(self, *, stays: bool) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = _started(theirs.fileno(), stays=stays)
        except BaseException:
            self._orders.close()
            raise
        self.pid, self.stays = self._process.pid, stays
        self._last_words: list[str] | None = None

    def line(self) -> socket.socket:
        """Our end of a line on which it asks what to do next, and hangs up when that is done. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._orders, [b"\n"], [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        return ours

    @property
    def lives(self) -> bool:
        """Whether it can be given an order."""
        return self._process.poll() is None

    def may_not(self) -> list[str]:
        """What it could not do to hold out, in words, each once."""
        try:
            return self._orders.recv(_WORDS, socket.MSG_DONTWAIT).decode().splitlines()
        except OSError:  # it has said nothing more
            return []

    def end(self) -> tuple[int, list[str]]:
        """Have it end, and wait for that: its exit status, and the last line that it wrote to standard error."""
        self._orders.close()
        if self._last_words is None:
            with self._process:
                self._last_words = self._said().decode(errors="replace").strip().splitlines()[-1:]
        return self._process.returncode, self._last_words

    def _said(self) -> bytes:
        """All that it wrote to standard error, until its end."""
        try:
            return self._process.communicate(timeout=_ENDS)[1]
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.communicate()[1]

    def forget(self) -> None:
        """Have it end, and wait for nothing."""
        self._orders.close()
        if self._process.stderr is not None:
            self._process.stderr.close()


def _started(orders: int, *, stays: bool) -> subprocess.Popen[bytes]:
    """It dies with the thread that starts it: the one that carries out the order, or one that lives as long."""

    def start() -> subprocess.Popen[bytes]:
        more = (FIRM,) if stays else ()
        return start_module("hotbank.serve.worker", str(orders), *more, pass_fds=(orders,))

    if not stays:
        return start()
    from hotbank.host.parent import Parent  # an owner that nobody governs stays small without it

    return Parent(start).started()


class Workers:
    """An owner's. It has one order carried out at a time. ``trouble``: told once what a worker that stands ready may
    not."""

    def __init__(self) -> None:
        self.trouble: Callable[[str], None] = lambda _: None
        self._lock = threading.Lock()
        self._stand = self._at_work = False
        self._ready: list[Worker] = []
        self._told = set[str]()
        weakref.finalize(self, _dismiss, self._ready)

    @contextmanager
    def at_work(self) -> Iterator[tuple[Worker, socket.socket]]:
        """With a worker for one order, and our end of the line to it. Raises OSError where none can be started."""
        with self._lock:
            self._at_work = True
        worker = None
        try:
            worker, line = self._sent_for()
            with line:
                yield worker, line
        finally:
            self._give_back(worker)

    def stand_ready(self) -> None:
        """From now on one stands ready, as soon as there is room for it. To be said again now and then."""
        with self._lock:
            self._stand = True
            lost = [worker for worker in self._ready if not worker.lives]
            self._ready[:] = [worker for worker in self._ready if worker.lives]
            if not (self._ready or self._at_work) and has_room():
                with suppress(OSError):
                    self._ready.append(Worker(stays=True))
            said = {what for worker in self._ready for what in worker.may_not()} - self._told
            self._told |= said
        for worker in lost:
            worker.end()
        for what in sorted(said):
            self.trouble(what)

    def stand_down(self) -> None:
        """Nobody governs any more: each order has a worker of its own again."""
        with self._lock:
            self._stand = False
            idle = tuple(self._ready)
            self._ready.clear()
        for worker in idle:
            worker.end()

    def _sent_for(self) -> tuple[Worker, socket.socket]:
        """The one that stands ready, unless it has died; else a fresh one."""
        with self._lock:
            ready, stays = tuple(self._ready), self._stand
            self._ready.clear()
        for worker in ready:
            with suppress(*_DEAD):
                return worker, worker.line()
            worker.end()
        return _fresh(stays=stays)

    def _give_back(self, worker: Worker | None) -> None:
        with self._lock:
            self._at_work = False
            stays = worker is not None and worker.stays and worker.lives and self._stand
            if worker is not None and stays:
                self._ready.append(worker)
        if worker is not None and not stays:
            worker.end()


def _fresh(*, stays: bool) -> tuple[Worker, socket.socket]:
    """One that is started now. The line to one that has died at once is at its end."""
    worker = Worker(stays=stays)
    try:
        with suppress(*_DEAD):
            return worker, worker.line()
        ours, theirs = socket.socketpair()
    except OSError:
        worker.end()
        raise
    theirs.close()
    return worker, ours


def has_room() -> bool:
    """Whether a worker may be started although nobody needs it yet; also where the kernel does not say what it has."""
    try:
        there = meminfo.available(Path("/proc/meminfo").read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return True
    return there is None or there >= ROOM


def _dismiss(ready: list[Worker]) -> None:
    for worker in ready:
        worker.forget()
