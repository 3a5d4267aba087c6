# SPDX-License-Identifier: Apache-2.0
"""The kernel's word that tasks wait for memory: kernel/sched/psi.c, ``psi_trigger_create``, ``psi_trigger_poll``.

A line ``some STALL WINDOW`` in microseconds, written to /proc/pressure/memory, makes the descriptor ready (POLLPRI)
whenever tasks waited that much of a window, once a window at most; while there is memory, nobody wakes. A window lasts
from half a second to ten. Who has no CAP_SYS_RESOURCE is only given multiples of 2 s, and by older kernels nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress

from hotbank.machine import PRESSED
from hotbank.sysfs import names

WINDOWS = (1.0, 2.0)  # seconds; the first that the kernel takes


class Trigger:
    """A descriptor that is ready (POLLPRI) after tasks waited; POLLERR: pressure is not counted any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def of(cls, path: str = f"/{names.PRESSURE}") -> Trigger | None:
        """One for the share that counts as pressure; None where the kernel gives this process none."""
        for window in WINDOWS:
            with suppress(OSError):
                return cls(_open(path, window))
        return None

    def fileno(self) -> int:
        """What to poll."""
        return self._descriptor

    def close(self) -> None:
        """The kernel forgets it."""
        os.close(self._descriptor)


def _open(path: str, window: float) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        stall = window * PRESSED / 100
        os.write(descriptor, b"some %d %d\0" % (round(stall * 1e6), round(window * 1e6)))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
