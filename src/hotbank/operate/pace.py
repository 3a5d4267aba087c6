# SPDX-License-Identifier: Apache-2.0
"""How fast a machine is, by what it did before: the seconds of a plan as its journal knows them.

A plan without a journal goes by what was measured on emulated boards (plan.py). What a machine really took for an
offline, over what those figures say of the pages that it moved, is its pace; of every other step its own mean counts.
How far off that was before is read from the same journal: each transaction against what those before it had taught.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hotbank.errors import Code
from hotbank.operate.journal import Entry, Row
from hotbank.operate.plan import EMPTYING, Action, Plan, Step, offline_seconds, step_seconds

_RECENT = 20  # transactions that say how far off an expectation may be


@dataclass(frozen=True, slots=True)
class Foretold:
    """What the steps of a transaction were expected to take, by the transactions before it, and took. In seconds."""

    expected: float
    took: float

    @property
    def ratio(self) -> float:
        """How many times longer than expected it took."""
        return self.took / self.expected if self.expected else 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """``offline``: how many times longer than reckoned an offline takes; ``means``: seconds of other steps.

    ``entries``: transactions that this was learnt from. ``spread``: how many times longer than expected the quickest
    and the slowest of the last ones took; None before there are two.
    """

    offline: float = 1.0
    means: Mapping[str, float] = field(default_factory=dict)
    entries: int = 0
    spread: tuple[float, float] | None = None

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Pace:
        """By all steps that were done and timed."""
        learnt = _Learnt()
        for entry in entries:
            learnt.add(entry)
        return learnt.pace

    def applied(self, plan: Plan) -> Plan:
        """The plan with the seconds that this machine is expected to take."""
        paced = replace(plan, steps=tuple(map(self._step, plan.steps)), paced_by=self.entries)
        if self.spread is None:
            return paced
        low, high = self.spread
        return replace(paced, between=(paced.seconds * low, paced.seconds * high))

    def expected(self, entry: Entry) -> float:
        """Seconds for the steps of a transaction that were done, as its plan would have them."""
        rows = _done(entry.rows)
        offlines = len(_only(rows, {Action.OFFLINE}))
        others = [row for row in rows if row.step not in EMPTYING]
        reckoned = offline_seconds(offlines, entry.before.planned) if offlines else 0.0
        return self.offline * reckoned + sum(self.means.get(row.step, step_seconds(row.step)) for row in others)

    def _step(self, step: Step) -> Step:
        if step.action in EMPTYING:
            return replace(step, seconds=step.seconds * self.offline)
        return replace(step, seconds=self.means.get(step.action, step.seconds))


def foretold(entries: Iterable[Entry]) -> dict[int, Foretold]:
    """By id, each transaction that came to its end after others had taught something. ``entries``: the oldest first."""
    learnt = _Learnt()
    return {entry.id: told for entry in entries if (told := learnt.add(entry)) is not None}


class _Learnt:
    """What one transaction after the other has taught."""

    def __init__(self) -> None:
        self._took = self._reckoned = 0.0
        self._steps: dict[str, list[float]] = {}
        self._entries = 0
        self._ratios = deque[float](maxlen=_RECENT)

    @property
    def pace(self) -> Pace:
        offline = self._took / self._reckoned if self._reckoned else 1.0
        means = {step: sum(seconds) / len(seconds) for step, seconds in self._steps.items()}
        spread = (min(self._ratios), max(self._ratios)) if len(self._ratios) > 1 else None
        return Pace(offline, means, self._entries, spread)

    def add(self, entry: Entry) -> Foretold | None:
        """Learn from it. What was expected of it before, where anything was."""
        rows = _done(entry.rows) if not entry.damage else []
        if not rows:
            return None
        told = self._foretell(entry, rows) if self._entries and entry.code is Code.OK else None
        self._learn(entry, rows)
        return told

    def _foretell(self, entry: Entry, rows: Sequence[Row]) -> Foretold:
        told = Foretold(self.pace.expected(entry), sum(map(_seconds, rows)))
        self._ratios.append(told.ratio)
        return told

    def _learn(self, entry: Entry, rows: Sequence[Row]) -> None:
        offlines = _only(rows, {Action.OFFLINE})
        if offlines:
            self._took += sum(map(_seconds, _only(rows, EMPTYING)))
            self._reckoned += offline_seconds(len(offlines), _pages(entry))
        for row in rows:
            if row.step not in EMPTYING:
                self._steps.setdefault(row.step, []).append(_seconds(row))
        self._entries += 1


def _done(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.code is Code.OK and row.ended is not None and row.ended >= row.began > 0]


def _only(rows: Sequence[Row], steps: Collection[str]) -> list[Row]:
    return [row for row in rows if row.step in steps]


def _seconds(row: Row) -> float:
    return (row.ended or 0.0) - row.began


def _pages(entry: Entry) -> int:
    return entry.before.planned if entry.moved is None else entry.moved
