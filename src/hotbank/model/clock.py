# SPDX-License-Identifier: Apache-2.0
"""Clocks a model can run on, and what the simulated kernel's work costs on them.

Simulated time moves only when someone sleeps on it, and runs what is due on the way; wall time is the host's.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol

from hotbank import keys as toml
from hotbank import machine
from hotbank.errors import Code
from hotbank.machine import Clock
from hotbank.memory import SECONDS_PER_PAGE


class Alarm(Protocol):
    """A call that was put off."""

    def cancel(self) -> None:
        """Don't make the call; no effect if it was made."""
        ...


class ModelClock(Clock, Protocol):
    """A Clock that can also call back."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """Make the call in ``seconds`` of this clock's time."""
        ...


class _SimAlarm:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class SimClock:
    """Simulated seconds. ``sleep`` jumps from one due call to the next, each made at its own time.

    ``called``: how many were made so far.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now, self.called = start, 0
        self._due: list[tuple[float, int, _SimAlarm]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Simulated seconds since the start."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass; calls that fall due are made in order, those they put off included."""
        until = self._now + max(0.0, seconds)
        while self._due and self._due[0][0] <= until:
            when, _, alarm = heapq.heappop(self._due)
            self._now = max(self._now, when)
            if alarm.call is not None:
                self.called += 1
                alarm.call()
        self._now = max(self._now, until)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """Make the call once ``seconds`` have passed."""
        alarm = _SimAlarm(call)
        heapq.heappush(self._due, (self._now + max(0.0, seconds), next(self._order), alarm))
        return alarm


class WallClock(machine.WallClock):
    """Real time; calls are made from timer threads."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """Make the call from another thread once ``seconds`` have passed."""
        timer = threading.Timer(max(0.0, seconds), call)
        timer.daemon = True
        timer.start()
        return timer


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that work takes. First values: a 128 MiB block on an emulated arm64 (docs/model.md)."""

    isolate_block: float = 0.010
    migrate_page: float = SECONDS_PER_PAGE
    failed_pass: float = 0.010
    online_block: float = 0.010
    add_bank: float = 0.020
    remove_bank: float = 0.040
    switch_power: float = 0.001


def load_costs(path: str | os.PathLike[str]) -> Costs:
    """A table of costs from a TOML file: the fields of Costs, seconds each; those left out keep their values.

    Raises BoardError for an unknown key or anything but seconds, 0 or more.
    """
    return loads_costs(toml.read("costs", path, code=Code.BAD_FORMAT), str(path))


def loads_costs(text: str, file: str = "") -> Costs:
    """The same from TOML text. ``file``: where it stands. Raises BoardError."""
    keys = toml.table("costs", text, code=Code.BAD_FORMAT, file=file)
    given = keys.read(toml.Key(f.name, toml.moment) for f in fields(Costs))
    keys.check()
    return replace(Costs(), **{name: cost for name, cost in given.items() if cost is not None})
