# SPDX-License-Identifier: Apache-2.0
"""Looks after a worker: says when it has died, and ends one that does not move any more.

A worker that is stopped, or hangs, would keep its transaction open for ever. Its owner settles it then.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

_LOOK_EVERY = 1.0  # seconds of wall time
LOOKS = 60  # without a word in between: a slow board takes most of them to start an interpreter


class Watchdog:
    """Watches the process from a thread of its own, which ends with it. ``died``: called when it has, unless it was
    through before. Raises ProcessLookupError where there is none, OSError and RuntimeError where there is no room.

    Looks are counted, not seconds, so that an owner that was itself stopped meanwhile blames nobody.
    """

    def __init__(self, pid: int, died: Callable[[], None]) -> None:
        self._process, self._died = os.pidfd_open(pid), died
        self._words = 0
        try:
            self._leash, held = socket.socketpair()
            threading.Thread(target=self._watch, args=(held,), daemon=True).start()
        except BaseException:
            os.close(self._process)
            raise

    def heard(self) -> None:
        """The worker asked for something, or is about to be answered: at odd times it is the owner's turn."""
        self._words += 1

    def over(self) -> None:
        """The worker is through with what it was watched for: the thread ends at once, whoever comes next has another.
        Once more does nothing."""
        self._leash.close()

    def _watch(self, held: socket.socket) -> None:
        poll, looks, words = select.poll(), 0, self._words
        for file in (self._process, held):
            poll.register(file, select.POLLIN)
        while not (ended := dict(poll.poll(_LOOK_EVERY * 1000))):
            waits_for_us = self._words % 2 == 1
            looks = 0 if waits_for_us or self._words != words else looks + 1
            words = self._words
            if looks >= LOOKS:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._process, signal.SIGKILL)
        if held.fileno() not in ended:
            self._died()
        self.over()
        held.close()
        os.close(self._process)
