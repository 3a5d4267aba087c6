# SPDX-License-Identifier: Apache-2.0
"""Writes to sysfs that may never return, each made by a process of its own that can be ended.

Truth: drivers/base/memory.c (``state_store``), mm/memory_hotplug.c (``offline_pages``: it retries until a
signal is pending, and looks for one only between migration passes). A thread of this process could not be
ended: SIGKILL for the process cancels the write. Writing processes are forked by a small helper, because starting
an interpreter for each write takes most of a second on a small board. The helper ends when the connection to it
closes, that is at the latest when this process ends, and whoever still writes dies with it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import atexit
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading

from hotbank.machine import Clock

_POLL = 0.005
_HELPER = """
import ctypes, os, signal, socket
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
requests, libc, helper = socket.socket(fileno=0), ctypes.CDLL(None), os.getpid()
while True:
    request, files, _, _ = socket.recv_fds(requests, 65536, 1)
    if not request:
        break
    path, word = request.split(b"\\0")
    child = os.fork()
    if child == 0:
        libc.prctl(1, 9, 0, 0, 0)
        if os.getppid() != helper:
            os._exit(1)
        try:
            os.write(os.open(path, os.O_WRONLY | os.O_TRUNC), word)
            result = 0
        except OSError as e:
            result = e.errno
        os.write(files[0], bytes([result]))
        os._exit(0)
    os.close(files[0])
    requests.send(child.to_bytes(4, "little"))
"""


class Writer:
    """One write of a word to a file, under way from construction on."""

    def __init__(self, path: str, word: str) -> None:
        self.pid, self._result = _helper.fork(path, word)
        self._errno: int | None = None
        try:
            self._process: int | None = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._process = None  # over already

    def __del__(self) -> None:
        for file in (getattr(self, "_result", None), getattr(self, "_process", None)):
            if file is not None:
                os.close(file)

    @property
    def pending(self) -> bool:
        """True while the write has neither returned nor been ended."""
        if self._errno is None and select.select([self._result], [], [], 0)[0]:
            said = os.read(self._result, 1)
            self._errno = said[0] if said else errno.EINTR
        return self._errno is None

    def wait(self, clock: Clock, deadline: float) -> bool:
        """Wait for the end of the write, at most until ``deadline`` on ``clock``; False when it is still pending."""
        while self.pending:
            if clock.now() >= deadline:
                return False
            clock.sleep(_POLL)
        return True

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
            select.select([self._result], [], [])
        assert self._errno is not None
        return self._errno


class _Helper:
    """The process that forks the writers; started when first needed, and again when it was ended."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self.keep: set[int] = set()

    def fork(self, path: str, word: str) -> tuple[int, int]:
        """A new writer: its process id, and the pipe on which it says one byte, its errno."""
        request = os.fsencode(os.path.abspath(path)) + b"\0" + word.encode()
        result, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            with self._turn:
                try:
                    pid = self._ask(request, theirs)
                except (BrokenPipeError, ConnectionResetError):
                    self._end()
                    pid = self._ask(request, theirs)
        except BaseException:
            os.close(result)
            raise
        finally:
            os.close(theirs)
        return pid, result

    def close(self) -> None:
        """End the helper, and with it every write."""
        with self._turn:
            self._end()

    def _ask(self, request: bytes, result: int) -> int:
        if self._requests is None:
            self._requests = self._start()
        socket.send_fds(self._requests, [request], [result])
        answer = self._requests.recv(4)
        if not answer:
            raise BrokenPipeError
        return int.from_bytes(answer, "little")

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-I", "-S", "-c", _HELPER]
            self._process = subprocess.Popen(
                argv, stdin=theirs.fileno(), start_new_session=True, pass_fds=tuple(self.keep)
            )
        return ours

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            self._process.wait()
            self._process = None


def writers_keep(file: int) -> None:
    """Have every process that changes something for us hold that descriptor open: a lock on it outlives us as long as
    they do."""
    _helper.close()
    _helper.keep.add(file)


def kept() -> tuple[int, ...]:
    """The descriptors that such a process must inherit."""
    return tuple(_helper.keep)


_helper = _Helper()
atexit.register(_helper.close)
