# SPDX-License-Identifier: Apache-2.0
"""Orders of which somebody dies: the worker, or the owner; at a write to the journal, or at any moment.

Sampled in: a new boot before the recovery, a disk that is full from some write on, a journal that somebody else locks.
The oracle: afterwards everything is as before or done, no power went off under a block, and no page is lost
(contract/crashing.py); of a new boot nothing is touched.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from contract import deadly
from contract.crashing import (
    BOARDS,
    VERBS,
    Outside,
    Stage,
    end,
    journal_of,
    kernels,
    model_of,
    outside_of,
    powers,
    stage,
    worker_of,
)
from contract.crashing import writes as writes_of
from contract.deadly import BOTH, Deadly, points
from hotbank import operate, serve
from hotbank.errors import Code, HotbankError, MachineError
from hotbank.machine import Machine, Snapshot
from hotbank.memory import BlockState, KernelState, Online, Power
from hotbank.model import Model
from hotbank.operate import Journal, Outcome
from hotbank.operate.journal import OwnersJournal
from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.serve import local
from hotbank.serve.owner import Owner
from hotbank.testing import Faulty, places
from patience import HANG, until

_LONGEST = 1.2  # seconds of wall time that an order may have taken when somebody dies at random
_TROUBLE = ("none",) * 42 + ("boot id",) * 4 + ("full disk",) * 3 + ("locked journal",)


@dataclass(frozen=True, slots=True)
class Run:
    """What is to happen. ``at``: a write of the journal and when, or seconds."""

    who: str
    board: str
    verb: str
    at: tuple[int, str] | float
    trouble: str


@dataclass
class Report:
    """How it went."""

    runs: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds, ends = (", ".join(f"{n} {what}" for what, n in sorted(c.items())) for c in (self.runs, self.ends))
        return f"{self.runs.total()} runs ({kinds}); ends: {ends}; {len(self.wrong)} inconsistent"


def soak(runs: int, seed: int, say: Callable[[str], None], *, mounts: bool) -> Report:
    """So many runs. ``mounts``: owners may die, too, on a model that is mounted."""
    report, rng = Report(), Random(seed)
    with ExitStack() as stack:
        models = {board: model_of(board) for board in BOARDS}
        outsides = {board: stack.enter_context(outside_of(board)) for board in BOARDS} if mounts else {}
        for number in range(runs):
            run = draw(rng, mounts)
            try:
                ended = _owner_dies(outsides[run.board], run) if run.who == "owner" else _worker_dies(models, run)
            except AssertionError as e:
                where = traceback.extract_tb(e.__traceback__)[-1]
                report.wrong.append(f"{run}: {where.line}: {e}")
                return report
            report.runs[f"{run.who}, {run.trouble}"] += 1
            report.ends[ended.code if ended is not None else "not begun, or over"] += 1
            if number % 20 == 19:
                say(str(report))
    return report


def draw(rng: Random, mounts: bool) -> Run:
    """Any run: half of them at a point of the journal, where it is the trouble itself that strikes."""
    board, verb, trouble = rng.choice(BOARDS), rng.choice(VERBS), rng.choice(_TROUBLE)
    owner = trouble == "boot id" or (trouble == "none" and rng.random() < 0.4)
    at = rng.choice(points(writes_of(board))) if rng.random() < 0.5 else rng.uniform(0, _LONGEST)
    return Run("owner" if owner and mounts else "worker", board, verb, at, trouble if mounts or not owner else "none")


# The worker dies, or can't go on.


def _worker_dies(models: dict[str, Model], run: Run) -> Outcome | None:
    with tempfile.TemporaryDirectory() as folder, stage(run.verb, models[run.board]) as here:
        path = Path(folder, "journal")
        journal = SqliteJournal(path)
        try:
            owner = Owner(here.watched, journal=_journal(run, journal, path, lambda: _kill(owner)))
            with local.attached(owner) as client, _killing(run, lambda: _kill(owner)):
                outcome = _ordered(run, lambda: (serve.remove if run.verb == "remove" else serve.add)(client, *BOTH))
                owner.wait()
            owner.stop()  # what it left open it would settle by itself
            settled = operate.recover(here.watched, journal)
            _check(here, settled or (outcome if outcome is not None and not outcome.open else None))
            assert journal.unfinished() is None
            return settled or outcome
        finally:
            journal.close_file()


def _ordered(run: Run, order: Callable[[], Outcome]) -> Outcome | None:
    """Its end; None where it came to none: it died before it began, or the journal could not be written."""
    with suppress(MachineError):
        return order()
    return None


def _kill(owner: Owner) -> None:
    with suppress(AssertionError, ProcessLookupError, FileNotFoundError):  # not started yet, or over by now
        end(worker_of(owner))


def _journal(run: Run, journal: SqliteJournal, path: Path, kill: Callable[[], None]) -> OwnersJournal:
    at, when = run.at if isinstance(run.at, tuple) else (-1, "")
    if run.trouble == "full disk":
        return Full(journal, max(at, 0))
    if run.trouble == "locked journal":
        return Deadly(journal, max(at, 0), "before", lambda: _lock(path))
    return Deadly(journal, at, when, kill)


class Full(Deadly):
    """A journal on a disk that is full from the write number ``at`` on, until somebody else writes to it."""

    def __init__(self, journal: OwnersJournal, at: int) -> None:
        super().__init__(journal, at, "before", lambda: None)

    def _write(self, name: str, write: Callable[[], deadly.T]) -> deadly.T:
        if len(self.names) >= self.at:
            raise MachineError("journal: database or disk is full")
        return super()._write(name, write)


def _lock(path: Path) -> None:
    """For longer than a write waits."""
    with closing(sqlite3.connect(path, timeout=HANG)) as db:
        db.execute("BEGIN EXCLUSIVE")
        time.sleep(6)


@contextmanager
def _killing(run: Run, kill: Callable[[], None]) -> Iterator[None]:
    if isinstance(run.at, tuple) or run.trouble != "none":
        yield
        return
    timer = threading.Timer(run.at, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


# The owner dies.


def _owner_dies(outside: Outside, run: Run) -> Outcome | None:
    outside.watched.breaches.clear()
    with stage(run.verb, outside.model) as here:
        _die(outside, run)
        with journal_of(outside) as journal:
            host = deadly.host(outside.board, outside.root)
            if run.trouble == "boot id" and journal.unfinished() is not None:
                return _another_boot(host, journal, here)
            outcome = operate.recover(host, journal, patience=HANG)
            assert journal.unfinished() is None
        assert not outside.watched.breaches, outside.watched.breaches
        _check(here, outcome)
        return outcome


def _die(outside: Outside, run: Run) -> None:
    if isinstance(run.at, tuple):
        outside.run(run.verb, *run.at)
        return
    process = outside.start(run.verb, -1, "")
    time.sleep(run.at)
    process.kill()
    process.wait()


class Reborn(Faulty):
    """The same machine after another boot."""

    def snapshot(self) -> Snapshot:
        """As it is, under another id."""
        return replace(super().snapshot(), boot_id="another boot")


def _another_boot(host: Machine, journal: Journal, here: Stage) -> Outcome | None:
    until(journal.claim, "the last writer's end")
    until(lambda: _still(here.model), "the kernel's end of it")
    before = places(here.model)
    outcome = operate.recover(Reborn(host), journal, patience=HANG)
    assert outcome is not None
    assert outcome.code is Code.SUPERSEDED
    assert places(here.model) == before, "of another boot nothing is touched"
    _put_back(here.model)
    return outcome


def _still(model: Model) -> bool:
    return all(block.state is not BlockState.GOING_OFFLINE for block in model.snapshot().blocks)


def _put_back(model: Model) -> None:
    """All in, by hand."""
    for domain in model.snapshot().domains:
        model.set_power(domain.name, Power.ON)
    for bank in model.snapshot().banks:
        if bank.kernel is KernelState.ABSENT:
            model.add(bank.name)
    for block in model.snapshot().blocks:
        if block.state is BlockState.OFFLINE:
            with suppress(HotbankError):
                model.online(block.number, Online.MOVABLE)


def _check(here: Stage, outcome: Outcome | None) -> None:
    """As it was, or done: an addition may have been through before anybody died."""
    if here.verb == "remove" or kernels(here.model) != {KernelState.ONLINE}:
        here.check(outcome)
        return
    assert not here.watched.breaches, here.watched.breaches
    assert set(powers(here.model).values()) == {Power.ON}
    here.model.validate()
    assert not here.model.check_contents()
