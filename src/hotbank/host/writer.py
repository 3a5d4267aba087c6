# SPDX-License-Identifier: Apache-2.0
"""Writes to sysfs that may never return, each made by a process of its own that can be ended.

Truth: drivers/base/memory.c (``state_store``), mm/memory_hotplug.c (``offline_pages``: it retries until a
signal is pending, and looks for one only between migration passes). A thread of this process could not be
ended: SIGKILL for the process cancels the write. Writing processes are forked by a small helper (forking.py), because
starting an interpreter for each write takes most of a second on a small board. The helper ends when the connection to
it closes, that is at the latest when this process ends, and whoever still writes dies with it. One that is stopped does
not see that: the kernel kills it with the thread that started it, which therefore does nothing but live as long.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Set
from contextlib import suppress
from typing import Any

from hotbank.host import forking
from hotbank.machine import Clock

_ANSWERS = 10.0  # seconds of wall time for the helper to fork a writer; one that takes longer is stopped, or hangs
_ENDS = 1.0  # seconds of wall time for the helper to end when it is hung up on


class Waited(ABC):
    """What another process does in the kernel, and may never end by itself. ``blocks``: numbers of those that the
    kernel works on meanwhile without their state saying so."""

    blocks: Set[int] = frozenset()

    @property
    @abstractmethod
    def pending(self) -> bool:
        """True while it goes on."""

    @property
    @abstractmethod
    def errno(self) -> int:
        """What it ended with: 0, its errno, or EINTR when it was ended from outside."""

    @abstractmethod
    def cancel(self) -> None:
        """Send SIGKILL. The kernel acts on it when it looks: ``pending`` tells."""

    @abstractmethod
    def listen(self, seconds: float | None) -> None:
        """Return when it may have ended, at most after so many seconds if they are given. Who looked at it every now
        and then would take the only CPU from the write, or see late that an empty block has gone."""

    def wait(self, clock: Clock, deadline: float) -> bool:
        """Wait for its end, at most until ``deadline`` on ``clock``; False when it is still pending."""
        while self.pending:
            left = deadline - clock.now()
            if left <= 0:
                return False
            self.listen(left)
        return True


def readable(file: int, seconds: float | None) -> bool:
    """Whether the descriptor has something to be read, or its end, within so many seconds; None: for ever. Of any
    number: select(2) knows none from 1024 on."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


class Writer(Waited):
    """One write of a word to a file, under way. Made by ``Writers.write``. ``result``: the pipe that tells its end;
    ``pid``: None of one that was ended already."""

    def __init__(self, writers: Writers, pid: int | None, result: int) -> None:
        self._writers = writers  # whose end would be this one's
        self.pid, self._result = pid, result
        self._errno: int | None = None
        self._process: int | None = None
        if pid is not None:
            with suppress(ProcessLookupError):  # over already
                self._process = os.pidfd_open(pid)

    def __del__(self) -> None:
        for file in (getattr(self, "_result", None), getattr(self, "_process", None)):
            if file is not None:
                os.close(file)

    @property
    def pending(self) -> bool:
        """True while the write has neither returned nor been ended."""
        if self._errno is None and readable(self._result, 0.0):
            said = os.read(self._result, 1)
            self._errno = said[0] if said else errno.EINTR
        return self._errno is None

    def listen(self, seconds: float | None) -> None:
        """Its result is there when the write has returned, and the pipe is closed when it was ended."""
        readable(self._result, seconds)

    def cancel(self) -> None:
        """Send SIGKILL. The kernel acts on it when it looks: ``pending`` tells."""
        if self._process is not None:
            try:
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            except ProcessLookupError:
                return

    @property
    def errno(self) -> int:
        """What the finished write returned: 0, its errno, or EINTR when it was ended from outside."""
        while self.pending:
            self.listen(None)
        assert self._errno is not None
        return self._errno


class Writers:
    """The processes that write for one host, and the helper that forks them, started when first needed, and again when
    it was ended. They end with this object, or with this process."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._helper = _Helper()
        self._kept: set[int] = set()
        weakref.finalize(self, self._helper.end)

    def write(self, path: str, word: str) -> Writer:
        """Begin to write the word to the file."""
        request = os.fsencode(os.path.abspath(path)) + b"\0" + word.encode()
        result, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            with self._turn:
                return Writer(self, self._forked(request, theirs), result)
        except BaseException:
            os.close(result)
            raise
        finally:
            os.close(theirs)

    def keep(self, file: int) -> None:
        """Have every process that changes something for this host hold that descriptor open: a lock on it outlives us
        as long as they do."""
        with self._turn:
            self._helper.end()
            self._kept.add(file)

    @property
    def kept(self) -> tuple[int, ...]:
        """The descriptors that such a process must inherit."""
        return tuple(self._kept)

    def close(self) -> None:
        """End the helper, and with it every write."""
        with self._turn:
            self._helper.end()

    def _forked(self, request: bytes, result: int) -> int | None:
        """The process that writes; None where a helper that does not answer was ended, and with it whoever wrote."""
        try:
            try:
                return self._helper.ask(request, result, self.kept)
            except (BrokenPipeError, ConnectionResetError):
                self._helper.end()
                return self._helper.ask(request, result, self.kept)
        except TimeoutError:
            self._helper.end()
            return None


class _Helper:
    """The helper's process and the connection to it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def ask(self, request: bytes, result: int, kept: tuple[int, ...]) -> int:
        """Have a writer forked; its process id. Raises BrokenPipeError, ConnectionResetError when nobody is there, and
        TimeoutError."""
        if self._requests is None:
            self._requests = self._start(kept)
        socket.send_fds(self._requests, [request], [result])
        answer = self._requests.recv(4)
        if not answer:
            raise BrokenPipeError
        return int.from_bytes(answer, "little")

    def _start(self, kept: tuple[int, ...]) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-I", "-S", forking.__file__]
            parent = _Parent(argv, stdin=theirs.fileno(), start_new_session=True, pass_fds=kept)
            self._process = parent.started()
        ours.settimeout(_ANSWERS)
        return ours

    def end(self) -> None:
        """Hang up, and see that it ends."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS)
            self._process.kill()
            self._process.wait()
            self._process = None


class _Parent(threading.Thread):
    """Starts a process that dies with the thread that started it, and lives as long as that process does."""

    def __init__(self, argv: list[str], **options: Any) -> None:
        super().__init__(daemon=True)
        self._argv, self._options = argv, options
        self._begun = threading.Event()
        self._result: subprocess.Popen[bytes] | OSError | None = None

    def started(self) -> subprocess.Popen[bytes]:
        """The process. Raises OSError."""
        self.start()
        self._begun.wait()
        if isinstance(self._result, OSError):
            raise self._result
        assert self._result is not None
        return self._result

    def run(self) -> None:
        """Start it, and wait for its end without taking that from who asks for it."""
        try:
            self._result = process = subprocess.Popen(self._argv, **self._options)
            file = os.pidfd_open(process.pid)
        except OSError as e:
            self._result = e
            return
        finally:
            self._begun.set()
        readable(file, None)
        os.close(file)
