# SPDX-License-Identifier: Apache-2.0
"""A transaction whose process dies at any write to its journal, within the process of the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from hotbank.errors import Code
from hotbank.operate import MemoryJournal
from hotbank.operate.rollback import Rollback

T = TypeVar("T")


class CrashError(BaseException):
    """The process is gone; nothing of it runs any more."""


class Mortal(MemoryJournal):
    """A journal whose process dies at the nth write: before an intent, after it, or after the act."""

    def __init__(self, at: int, *, after_writing: bool) -> None:
        super().__init__()
        self.at, self.after_writing, self.writes = at, after_writing, 0

    def intend(self, entry: int, step: str, target: str) -> int:
        return self._dying(lambda: MemoryJournal.intend(self, entry, step, target))

    def result(self, entry: int, row: int, code: Code, errno: int | None) -> None:
        self._dying(lambda: MemoryJournal.result(self, entry, row, code, errno))

    def _dying(self, write: Callable[[], T]) -> T:
        mine, self.writes = self.writes, self.writes + 1
        if mine == self.at and not self.after_writing:
            raise CrashError
        done = write()
        if mine == self.at:
            raise CrashError
        return done


def crash(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do it, and see it die; the dead roll nothing back, and close nothing."""
    with monkeypatch.context() as dead:
        dead.setattr(Rollback, "run", lambda self, touched: ())
        dead.setattr(MemoryJournal, "close", lambda *args: None)
        with pytest.raises(CrashError):
            act()
