# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM as a wish that is heard, where what runs has an end of its own to come to."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heard(wish: Callable[[], object]) -> Iterator[None]:
    """While this runs, Ctrl-C and SIGTERM call ``wish`` instead of ending the process."""

    def handle(_signal: int, _frame: FrameType | None) -> None:
        wish()

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
