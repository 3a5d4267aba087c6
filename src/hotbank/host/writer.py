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
from hotbank.host.parent import Parent, readable
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

    def stand_ready(self) -> None:
        """Start the helper before it is needed, if it is not there. Raises OSError."""
        with self._turn:
            self._helper.begin(self.kept)

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
        requests = self.begin(kept)
        socket.send_fds(requests, [request], [result])
        answer = requests.recv(4)
        if not answer:
            raise BrokenPipeError
        return int.from_bytes(answer, "little")

    def begin(self, kept: tuple[int, ...]) -> socket.socket:
        """The connection to it, started if it is not there. Raises OSError."""
        if self._requests is None:
            self._requests = self._start(kept)
        return self._requests

    def _start(self, kept: tuple[int, ...]) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-I", "-S", forking.__file__]
            options: dict[str, Any] = {"stdin": theirs.fileno(), "start_new_session": True, "pass_fds": kept}
            self._process = Parent(lambda: subprocess.Popen(argv, **options)).started()
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
