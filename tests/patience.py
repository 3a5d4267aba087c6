# SPDX-License-Identifier: Apache-2.0
"""Waiting in tests: as long as only a hang takes; and what is promised in seconds, where others use the machine too."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

HANG = 1200.0  # seconds: less than what pytest gives a test, so that what was waited for is named


def until(true: Callable[[], object], what: str = "what is waited for", pause: float = 0.02) -> None:
    """Return as soon as it is true; AssertionError after ``HANG`` seconds."""
    end = time.monotonic() + HANG
    while not true():
        assert time.monotonic() < end, what
        time.sleep(pause)


def ended(thread: threading.Thread) -> None:
    """Return when the thread has come to its end."""
    thread.join(HANG)
    assert not thread.is_alive()


def promised(seconds: float) -> float:
    """The tool's own promise of so many seconds, on a machine where each processor has several to serve."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
