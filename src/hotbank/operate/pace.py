# SPDX-License-Identifier: Apache-2.0
"""How fast a machine is, by what it did before: the seconds of a plan as its journal knows them.

A plan without a journal goes by what was measured on emulated boards (plan.py). What a machine really took for an
offline, over what those figures say of the pages that it moved, is its pace; of every other step its own mean counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from hotbank.errors import Code
from hotbank.operate.journal import Entry, Row
from hotbank.operate.plan import Action, Plan, Step, offline_seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """``offline``: how many times longer than reckoned an offline takes; ``means``: seconds of other steps.

    ``entries``: transactions that this was learnt from.
    """

    offline: float = 1.0
    means: dict[str, float] = field(default_factory=dict)
    entries: int = 0

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Pace:
        """By all steps that were done and timed."""
        timed = [(entry, rows) for entry in entries if not entry.damage and (rows := _done(entry.rows))]
        offlines = [(entry, own) for entry, rows in timed if (own := _only(rows, Action.OFFLINE))]
        took = sum(_seconds(row) for _, rows in offlines for row in rows)
        reckoned = sum(offline_seconds(len(rows), _pages(entry)) for entry, rows in offlines)
        steps = {row.step for _, rows in timed for row in rows} - {Action.OFFLINE}
        means = {step: fmean(_seconds(row) for _, rows in timed for row in _only(rows, step)) for step in steps}
        return cls(took / reckoned if reckoned else 1.0, means, len(timed))

    def applied(self, plan: Plan) -> Plan:
        """The plan with the seconds that this machine is expected to take."""
        return replace(plan, steps=tuple(map(self._step, plan.steps)), paced_by=self.entries)

    def _step(self, step: Step) -> Step:
        if step.action is Action.OFFLINE:
            return replace(step, seconds=step.seconds * self.offline)
        return replace(step, seconds=self.means.get(step.action, step.seconds))


def _done(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.code is Code.OK and row.ended is not None and row.ended >= row.began > 0]


def _only(rows: Sequence[Row], step: str) -> list[Row]:
    return [row for row in rows if row.step == step]


def _seconds(row: Row) -> float:
    return (row.ended or 0.0) - row.began


def _pages(entry: Entry) -> int:
    return entry.before.planned if entry.moved is None else entry.moved
