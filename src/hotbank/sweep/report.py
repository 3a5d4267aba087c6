# SPDX-License-Identifier: Apache-2.0
"""What the rows of a sweep come to: for each policy as it was set, mean, spread and tail of saving and shortage.

A setting is beaten where another one saved no less and was short no more, and either is better; the rest are the Pareto
front. The optimum knows each demand beforehand: it is never short, and nothing saves more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from statistics import fmean, stdev
from typing import Any

from hotbank.documents import SCHEMA
from hotbank.sweep.run import Failed, Row

HOURS = 8766.0  # of a year


@dataclass(frozen=True, slots=True)
class Spread:
    """Of a figure over runs; ``deviation`` of the sample, ``p50`` and so on by nearest rank."""

    mean: float
    deviation: float
    least: float
    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises ValueError without a value."""
        found = sorted(values)
        if not found:
            raise ValueError("no values")
        ranks = (found[ceil(share * len(found)) - 1] for share in (0.5, 0.95, 0.99))
        deviation = stdev(found) if len(found) > 1 else 0.0
        p50, p95, p99 = ranks
        return cls(fmean(found), deviation, found[0], p50, p95, p99, found[-1])

    def document(self) -> dict[str, float]:
        """The JSON."""
        return {name: round(value, 6) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Line:
    """One policy as it was set, over all its runs.

    ``saved``: share of what banks take that are always on; ``possible``: the optimum's, on average. ``of_optimum``:
    None where nothing could be saved. ``short``: looks that were, of a thousand; ``short_runs``: runs with any.
    ``watts``: typical, of a machine on average, and the optimum's. ``worse``: processes killed and requests refused
    that were not so without the policy. ``best``: no other setting beats it.
    """

    policy: str
    settings: tuple[str, ...]
    runs: int
    saved: Spread
    possible: float
    of_optimum: Spread | None
    short: Spread
    short_runs: int
    watts: float
    optimum_watts: float
    worse: int
    best: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return " ".join((self.policy, *self.settings))

    def beats(self, other: Line) -> bool:
        """Saves no less and is short no more, and is better in one of them."""
        ours, theirs = (self.watts, -self.short.mean), (other.watts, -other.short.mean)
        return ours != theirs and all(a >= b for a, b in zip(ours, theirs, strict=True))

    def document(self) -> dict[str, Any]:
        """The JSON."""
        return {
            "policy": self.policy,
            "settings": list(self.settings),
            "runs": self.runs,
            "saved": self.saved.document(),
            "possible": round(self.possible, 6),
            "of_optimum": self.of_optimum.document() if self.of_optimum else None,
            "short_permille": self.short.document(),
            "short_runs": self.short_runs,
            "watts": round(self.watts, 6),
            "optimum_watts": round(self.optimum_watts, 6),
            "worse": self.worse,
            "pareto": self.best,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A sweep as far as it went. ``wanted``: runs that it has. ``machines``: on paper, 0 where boards were booted."""

    name: str
    wanted: int
    there: int
    machines: int
    lines: tuple[Line, ...]
    failed: tuple[Failed, ...] = ()

    def fleet(self, line: Line) -> Mapping[str, float]:
        """Of all machines on paper under one policy: watts saved and the optimum's; kWh a year; how many are short at
        any moment, on average; how many ever were."""
        return {
            "watts": round(line.watts * self.machines, 6),
            "optimum_watts": round(line.optimum_watts * self.machines, 6),
            "kwh_a_year": round(line.watts * self.machines * HOURS / 1000, 6),
            "short_at_once": round(line.short.mean / 1000 * self.machines, 6),
            "ever_short": round(line.short_runs / line.runs * self.machines, 6),
        }

    def document(self) -> dict[str, Any]:
        """The JSON of ``hotbank sweep``."""
        lines = [{**line.document(), "fleet": self.fleet(line) if self.machines else None} for line in self.lines]
        failed = [{"run": each.run, "code": each.code.value, "message": each.message} for each in self.failed]
        head = {"schema": SCHEMA["sweep"], "sweep": self.name, "wanted": self.wanted, "there": self.there}
        return {**head, "machines": self.machines, "lines": lines, "failed": failed}


def report(name: str, wanted: int, rows: Sequence[Row], failed: Iterable[Failed] = ()) -> Report:
    """Of the rows that are there."""
    groups = defaultdict[tuple[str, tuple[str, ...]], list[Row]](list)
    for row in rows:
        groups[row["policy"], tuple(row["settings"])].append(row)
    lines = [_line(policy, settings, some) for (policy, settings), some in groups.items()]
    marked = (replace(line, best=not any(other.beats(line) for other in lines)) for line in lines)
    machines = {(row["subject"], row["member"]) for row in rows if row["member"] is not None}
    return Report(name, wanted, len(rows), len(machines), tuple(marked), tuple(failed))


def _line(policy: str, settings: tuple[str, ...], rows: Sequence[Row]) -> Line:
    figures = [row["figures"] for row in rows]
    shares = [share for each in figures if (share := each["share_of_optimum"]) is not None]
    seconds = sum(each["seconds"] for each in figures)
    return Line(
        policy=policy,
        settings=settings,
        runs=len(rows),
        saved=Spread.of(each["share_saved"] for each in figures),
        possible=fmean(each["share_possible"] for each in figures),
        of_optimum=Spread.of(shares) if shares else None,
        short=Spread.of(each["shortage_permille"] for each in figures),
        short_runs=sum(each["short"] > 0 for each in figures),
        watts=sum(each["saved_j"] for each in figures) / seconds,
        optimum_watts=sum(each["optimum_j"] for each in figures) / seconds,
        worse=sum(_worse(each) for each in figures),
    )


def _worse(figures: Mapping[str, Any]) -> int:
    harm = ("oom_kills", "refused_acts")
    return sum(max(0, figures.get(name, 0) - figures.get(f"{name}_without", 0)) for name in harm)
