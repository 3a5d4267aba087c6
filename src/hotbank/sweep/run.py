# SPDX-License-Identifier: Apache-2.0
"""One run: what it is made of, which is its name, and the row that comes of it.

A run carries values and the digests of its files; their bytes travel beside it, so that whoever carries it out needs
none of the files. What makes a run is what it is called by: the same version, files, parts, settings and seed are the
same run wherever and whenever it is carried out, and come to the same row.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

from hotbank import __version__, kernels, simulate
from hotbank.documents import SCHEMA
from hotbank.energy import Bounds
from hotbank.errors import Code, HotbankError
from hotbank.govern.replay import Result, Series, replay
from hotbank.govern.settings import Settings
from hotbank.load import script, trace
from hotbank.load.script import Script
from hotbank.load.trace import Trace
from hotbank.memspec import Part
from hotbank.model import clock, named
from hotbank.model.backend import resources
from hotbank.sweep import paper

Contents = Mapping[str, bytes]
"""Bytes of files by their digest."""
Row = dict[str, Any]
RETURNING = 0.5  # seconds until a bank that was ordered is there: those of policy.Balance


@dataclass(frozen=True, slots=True)
class File:
    """An input: what it is called, and the SHA-256 of its bytes."""

    name: str
    digest: str

    @classmethod
    def of(cls, name: str, data: bytes) -> File:
        """Of these bytes."""
        return cls(name, hashlib.sha256(data).hexdigest())


class Subject(Protocol):
    """What a policy is tried on."""

    @property
    def label(self) -> Mapping[str, Any]:
        """How a table calls it: ``subject``, ``member`` and ``load``."""

    @property
    def files(self) -> Sequence[File]:
        """What it needs the bytes of."""

    def document(self) -> dict[str, Any]:
        """All that it is made of."""

    def tried(self, settings: Settings, seed: int, contents: Contents) -> tuple[Row, Row | None]:
        """Figures, and what else there is to tell. Raises HotbankError."""


@dataclass(frozen=True, slots=True)
class Booted:
    """A board's model, or that of a captured machine, under a workload or a recorded demand; page by page.

    ``parts``: the devices that each name of the board may mean.
    """

    board: File
    workload: File | None = None
    trace: File | None = None
    costs: File | None = None
    allow_gaps: bool = False
    seconds: float | None = None
    parts: tuple[tuple[str | None, tuple[Part, ...]], ...] = ()

    @property
    def label(self) -> Mapping[str, Any]:
        """See Subject."""
        load = self.workload or self.trace
        return {"subject": self.board.name, "member": None, "load": load.name if load else ""}

    @property
    def files(self) -> Sequence[File]:
        """See Subject."""
        return [file for file in (self.board, self.workload, self.trace, self.costs) if file]

    def document(self) -> dict[str, Any]:
        """See Subject."""
        names = ("board", "workload", "trace", "costs")
        digests = {name: file.digest if (file := getattr(self, name)) else None for name in names}
        parts = {name or "": [_digest(asdict(part)) for part in some] for name, some in self.parts}
        return {**digests, "allow_gaps": self.allow_gaps, "seconds": self.seconds, "parts": parts}

    def tried(self, settings: Settings, seed: int, contents: Contents) -> tuple[Row, Row | None]:
        """See Subject; the rest is what ``hotbank simulate --json`` prints."""
        source = named.decode(contents[self.board.digest], self.board.name)
        costs = clock.loads_costs(contents[self.costs.digest].decode(), self.costs.name) if self.costs else None
        given = resources(os.environ)
        report = simulate.simulate(
            lambda: named.start(source, costs=costs, seed=seed, **given),
            self._load(seed, contents),
            settings,
            seconds=self.seconds,
            parts=dict(self.parts).__getitem__,
        )
        ours, best = report.saved()
        harm = {
            "oom_kills": report.harm.oom_kills,
            "oom_kills_without": report.baseline.oom_kills,
            "refused_acts": report.harm.refused_acts,
            "refused_acts_without": report.baseline.refused_acts,
        }
        return figures(report.result, ours, best) | harm, report.document()

    def _load(self, seed: int, contents: Contents) -> simulate.Load:
        return simulate.Load(
            _script(contents[self.workload.digest], self.workload.name) if self.workload else None,
            _trace(contents[self.trace.digest], self.trace.name, self.allow_gaps) if self.trace else None,
            seed,
        )


@dataclass(frozen=True, slots=True)
class Member:
    """One machine on paper of its kind."""

    kind: paper.Kind
    number: int
    trace: File
    allow_gaps: bool = False

    @property
    def label(self) -> Mapping[str, Any]:
        """See Subject."""
        return {"subject": self.kind.name, "member": self.number, "load": self.trace.name}

    @property
    def files(self) -> Sequence[File]:
        """See Subject."""
        return [self.trace]

    def document(self) -> dict[str, Any]:
        """See Subject."""
        kind = {**asdict(self.kind), "part": _digest(asdict(self.kind.part))}
        return {"machine": kind, "number": self.number, "trace": self.trace.digest, "allow_gaps": self.allow_gaps}

    def tried(self, settings: Settings, seed: int, contents: Contents) -> tuple[Row, Row | None]:
        """See Subject; there is nothing else to tell."""
        total, demand = _demand(contents[self.trace.digest], self.trace.name, self.allow_gaps)
        size = self.kind.size or total
        begun = paper.begun(self.kind, self.number, seed, demand[-1][0])
        own = paper.shifted(paper.scaled(demand, size / total), begun)
        park = paper.park(size, self.kind.banks, self.kind.part)
        there = paper.looked_at(park, self.kind.period, RETURNING)
        result = replay(own, there, settings.policy, settings.guarded())
        saved, best = (result.always_on - bill.total for bill in (result.bill, result.optimum))
        part = self.kind.part
        return figures(result, paper.joules(part, saved), paper.joules(part, best)), None


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy as the sweep's file names it, what was set of it (``key=value``), and all of that as settings."""

    policy: str
    pairs: tuple[str, ...]
    settings: Settings

    @property
    def name(self) -> str:
        """For people."""
        return " ".join((self.policy, *self.pairs))


@dataclass(frozen=True)
class Run:
    """A policy tried on something; ``seed``: of everything random in it."""

    subject: Subject
    choice: Choice
    seed: int

    def document(self) -> dict[str, Any]:
        """All that it is made of."""
        chosen = self.choice.settings
        return {
            "version": __version__,
            "kernel": kernels.DEFAULT,
            **self.subject.document(),
            "policy": chosen.name,
            "settings": chosen.given(),
            "seed": self.seed,
        }

    @cached_property
    def name(self) -> str:
        """The digest of all that."""
        return _digest(self.document())[:24]

    def carried_out(self, contents: Contents) -> Row:
        """Its row. Raises HotbankError."""
        found, more = self.subject.tried(self.choice.settings, self.seed, contents)
        row = {"schema": SCHEMA["run"], "run": self.name, **self.subject.label, "policy": self.choice.policy}
        row |= {"settings": list(self.choice.pairs), "seed": self.seed, "made_of": self.document()}
        return row | {"figures": found, "simulation": more}


def figures(result: Result, saved: Bounds, best: Bounds) -> Row:
    """What every kind of run has. ``share_saved``, ``share_possible``: of what banks take that are always on, net of
    what coming back costs."""
    share, always = result.share, result.always_on
    return {
        "seconds": round(result.seconds, 6),
        "looks": result.samples,
        "short": result.short,
        "shortage_permille": round(result.shortage_permille, 6),
        "share_saved": _share(always - result.bill.total, always),
        "share_possible": _share(always - result.optimum.total, always),
        "share_of_optimum": None if share is None else round(share, 6),
        "switches_per_hour": round(result.switches_per_hour, 6),
        "saved_j_low": round(saved.low, 6),
        "saved_j": round(saved.typical, 6),
        "saved_j_high": round(saved.high, 6),
        "optimum_j": round(best.typical, 6),
    }


def _share(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """A run that came to no row, and why."""

    run: str
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a group of runs. ``version``: of who carried them out; ``seconds``: that it took."""

    version: str
    rows: tuple[Row, ...]
    failed: tuple[Failed, ...]
    seconds: float


def work(runs: Sequence[Run], contents: Contents) -> Answer:
    """Carry runs out, one after the other. What is refused is told and ends nothing."""
    began, rows, failed = time.perf_counter(), list[Row](), list[Failed]()
    for run in runs:
        try:
            rows.append(run.carried_out(contents))
        except HotbankError as e:
            failed.append(Failed(run.name, e.code, str(e)))
    return Answer(__version__, tuple(rows), tuple(failed), time.perf_counter() - began)


@lru_cache(16)
def _script(data: bytes, name: str) -> Script:
    return script.loads(data.decode(), name)


@lru_cache(16)
def _trace(data: bytes, name: str, allow_gaps: bool) -> Trace:
    return trace.decode(data, name=name, allow_gaps=allow_gaps)


@lru_cache(16)
def _demand(data: bytes, name: str, allow_gaps: bool) -> tuple[int, Series]:
    """Bytes of the machine, and what could not be dropped."""
    found = _trace(data, name, allow_gaps)
    return found.total, [(sample.seconds, sample.used) for sample in found.samples]


def _digest(document: Any) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
