# SPDX-License-Identifier: Apache-2.0
"""What crashes are tried on: a model before an order, an owner in a process of its own, and who looks at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contract import deadly
from contract.deadly import BOTH
from hotbank import operate
from hotbank.load import Workload
from hotbank.memory import KernelState, Power
from hotbank.model import Model, WallClock
from hotbank.operate import Outcome
from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.serve.owner import Owner
from hotbank.serve.state import journal_in
from hotbank.testing import Places, Watched, places
from kernel.kernel_kit import alive
from mount.mounts import mounted
from patience import until

BOARDS, VERBS = ("pair", "apart"), ("remove", "add")
ASIDE = "aside"  # a kernel that puts added memory anywhere, so that its policy has to be set aside
_TESTS = Path(__file__).parents[1]


def writes(board: str) -> list[str]:
    """Two blocks, two banks, and the power of each domain: an act each, either way; and a policy that is set aside and
    put back."""
    acts = 4 + len(deadly.board_of(board).domains) + 2 * (board == ASIDE)
    return ["begin", *["intend", "result"] * acts, "close"]


def model_of(board: str) -> Model:
    """A small model with that board, on the wall clock, in use."""
    model = Model.boot(deadly.board_of(board), backend="reference", seed=1, clock=WallClock())
    model.set_auto_online("online" if board == ASIDE else "offline")
    Workload(model, 1, pages=300).fill()
    return model


def powers(model: Model) -> dict[str, Power]:
    """Of each domain."""
    return {domain.name: domain.power for domain in model.snapshot().domains}


def kernels(model: Model) -> set[KernelState]:
    """Of both banks."""
    return {bank.kernel for bank in model.snapshot().banks if bank.name in BOTH}


@dataclass(frozen=True)
class Stage:
    """A model just before ``verb``, somebody who watches what is done to it, and what a test compares with."""

    verb: str
    model: Model
    watched: Watched
    before: Places
    powers: dict[str, Power]
    policy: str

    def check(self, outcome: Outcome | None) -> None:
        """Invariants 1, 2 and 5 after a crash and a recovery, and the model's own: both banks, or none."""
        assert not self.watched.breaches
        assert self.model.auto_online == self.policy
        if self.verb == "remove" and kernels(self.model) == {KernelState.ABSENT}:
            assert set(powers(self.model).values()) == {Power.OFF}
        else:
            assert places(self.model) == self.before
            assert powers(self.model) == self.powers
        assert outcome is None or (not outcome.open and not outcome.unrestored)
        self.model.validate()
        assert not self.model.check_contents()


@contextmanager
def stage(verb: str, model: Model) -> Iterator[Stage]:
    """Before: the banks in for a removal, out and dark for an addition. Afterwards: in."""
    if verb == "add":
        assert operate.remove(model, BOTH).exit == 0
    yield Stage(verb, model, Watched(model), places(model), powers(model), model.auto_online)
    if kernels(model) != {KernelState.ONLINE}:
        assert operate.add(model, BOTH).exit == 0


def worker_of(owner: Owner) -> int:
    """The process that carries an order out."""
    assert owner._job is not None
    assert owner._job.pid != os.getpid()
    return owner._job.pid


def end(pid: int) -> None:
    """Kill it, and see it dead, whoever has laid it to rest."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))


@dataclass(frozen=True)
class Outside:
    """A mounted model, and the folder of its owners' journal."""

    board: str
    model: Model
    watched: Watched
    root: Path
    folder: Path

    def start(self, verb: str, at: int, when: str) -> subprocess.Popen[bytes]:
        """An owner of the host below the mount, that carries out the verb and dies at the write."""
        argv = [sys.executable, deadly.__file__, self.board, str(self.root), str(self.folder), verb, str(at), when]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")])}
        with open(self.folder / "errors", "wb") as errors:  # no pipe: a writer that it leaves behind would keep it open
            return subprocess.Popen(argv, stdout=errors, stderr=errors, env=env)

    def run(self, verb: str, at: int, when: str) -> None:
        """Start it, and see it die."""
        status = self.start(verb, at, when).wait()
        assert status == -signal.SIGKILL, (self.folder / "errors").read_text()


@contextmanager
def outside_of(board: str) -> Iterator[Outside]:
    """A model with that board, mounted."""
    model = model_of(board)
    watched = Watched(model)
    with tempfile.TemporaryDirectory() as folder, mounted(watched) as root:
        yield Outside(board, model, watched, root, Path(folder))


@contextmanager
def journal_of(outside: Outside) -> Iterator[SqliteJournal]:
    """The journal of its owners."""
    journal = journal_in(outside.folder, "host")
    yield journal
    journal.close_file()
