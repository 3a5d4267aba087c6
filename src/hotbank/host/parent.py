# SPDX-License-Identifier: Apache-2.0
"""A thread that a process dies with: prctl(2), PR_SET_PDEATHSIG, means the thread that started it, not its process.

So who starts a process that is to live on, from a thread that is not, has it started by one that does nothing else.
"""

from __future__ import annotations

import errno
import os
import select
import subprocess
import threading
from collections.abc import Callable


def readable(file: int, seconds: float | None) -> bool:
    """Whether the descriptor has something to be read, or its end, within so many seconds; None: for ever. Of any
    number: select(2) knows none from 1024 on."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


class Parent(threading.Thread):
    """Starts a process that dies with the thread that started it, and lives as long as that process does."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        super().__init__(daemon=True)
        self._begin = start
        self._begun = threading.Event()
        self._result: subprocess.Popen[bytes] | OSError | None = None

    def started(self) -> subprocess.Popen[bytes]:
        """The process. Raises OSError."""
        try:
            self.start()
        except RuntimeError as e:  # all that threading says of an error
            raise OSError(errno.EAGAIN, str(e)) from e
        self._begun.wait()
        if isinstance(self._result, OSError):
            raise self._result
        assert self._result is not None
        return self._result

    def run(self) -> None:
        """Start it, and lay it to rest; who asks for its end is told all the same."""
        try:
            self._result = process = self._begin()
            file = os.pidfd_open(process.pid)
        except OSError as e:
            self._result = e
            return
        finally:
            self._begun.set()
        readable(file, None)
        os.close(file)
        process.poll()
