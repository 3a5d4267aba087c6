# SPDX-License-Identifier: Apache-2.0
"""A line to a machine that is dialed again when it was lost; a question that is asked again when it is due."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from hotbank.errors import HotbankError, MachineError, ProtocolError
from hotbank.session import Session

SHARE = 4  # a question that took a second is not asked again for so many
_T = TypeVar("_T")


class Line:
    """A session of one's own, so that nobody waits for somebody else's answer. For one thread, which others may end."""

    def __init__(self, dial: Callable[[], Session]) -> None:
        self._dial, self._closed, self._old = dial, False, False
        self._session: Session | None = None
        self._lock = threading.Lock()

    def ask(self, question: Callable[[Session], _T]) -> _T:
        """What it answers. Raises what it raises; after a MachineError or nonsense the next one dials again."""
        session = self._dialed()
        try:
            return question(session)
        except (MachineError, ProtocolError):
            self._drop()
            raise
        except (OSError, ValueError) as e:
            if not self._closed:
                raise
            raise MachineError("the connection is closed") from e  # under the one who read from it

    def close(self) -> None:
        """For good, also under a question that waits."""
        self._closed = True
        self._drop()

    def renew(self) -> None:
        """Have the next question dial again: somebody else may answer now. From any thread."""
        self._old = True

    def _dialed(self) -> Session:
        if self._old:
            self._old = False
            self._drop()
        session = self._session or self._dial()
        with self._lock:
            self._session = session
        if self._closed:
            self._drop()
            raise MachineError("the connection is closed")
        return session

    def _drop(self) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            with suppress(HotbankError, OSError):
                session.close()


class Question(Generic[_T]):
    """Asked again ``every`` seconds at most, and less often where the answer takes long: a viewer takes a small share
    of a machine's time, however large it is. ``now``: seconds on any clock."""

    def __init__(self, every: float, now: Callable[[], float]) -> None:
        self._every, self._now, self.is_stale = every, now, False
        self._due, self._paid = -math.inf, -math.inf
        self._answer: _T

    def stale(self, *, at_once: bool = False) -> None:
        """Something has changed: it is due as soon as the last answer has been paid for, or ``at_once``. From any
        thread."""
        self.is_stale = True
        if at_once:
            self._paid = -math.inf

    def get(self, ask: Callable[[], _T]) -> _T:
        """The last answer, asked for anew if it is due."""
        began = self._now()
        if began < self.due:
            return self._answer
        self.is_stale = False
        self._answer = ask()
        ended = self._now()
        self._paid = ended + (ended - began) * SHARE
        self._due = max(self._paid, began + self._every)
        return self._answer

    @property
    def due(self) -> float:
        """When it is to be asked again."""
        return self._paid if self.is_stale else self._due
