# SPDX-License-Identifier: Apache-2.0
"""Writes to sysfs that may never return, made by a child process that can be ended.

Truth: drivers/base/memory.c (``state_store``), mm/memory_hotplug.c (``offline_pages``: it retries until a
signal is pending, and looks for one only between migration passes). A thread of this process could not be
ended, so the write is made by a child: SIGKILL cancels it, and it dies with its parent (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

from hotbank.machine import Clock

_ORPHANED = 255  # exit status of a child whose parent was gone before it could tie itself to it
_POLL = 0.005
_CHILD = """
import ctypes, os, sys
path, word, parent = sys.argv[1:]
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(parent):
    os._exit(255)
try:
    file = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(file, word.encode())
except OSError as e:
    os._exit(e.errno)
os._exit(0)
"""


class Writer:
    """One write of a word to a file, under way from construction on."""

    def __init__(self, path: str, word: str) -> None:
        argv = [sys.executable, "-I", "-S", "-c", _CHILD, path, word, str(os.getpid())]
        self._child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, close_fds=True)

    @property
    def pending(self) -> bool:
        """True while the write has neither returned nor been ended."""
        return self._child.poll() is None

    def wait(self, clock: Clock, deadline: float) -> bool:
        """Wait for the end of the write, at most until ``deadline`` on ``clock``; False when it is still pending."""
        while self.pending:
            if clock.now() >= deadline:
                return False
            clock.sleep(_POLL)
        return True

    def cancel(self) -> None:
        """Send SIGKILL. The kernel acts on it when it looks: ``pending`` tells."""
        self._child.kill()

    @property
    def errno(self) -> int:
        """What the finished write returned: 0, its errno, or EINTR when it was ended from outside."""
        status = self._child.wait()
        if status in (-signal.SIGKILL, _ORPHANED):
            return errno.EINTR
        return status if status >= 0 else errno.EIO
