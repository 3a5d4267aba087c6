# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at every crash point of a removal and of an addition: of the worker, and of the owner.

The worker's owner is a thread here, on a model. The owner that dies is a process with a Host on the mounted model, so
that the machine outlives it, as a kernel does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract import deadly
from contract.deadly import BOARD, Deadly, points
from hotbank import board, operate, serve
from hotbank.errors import Code, MachineError, Refusal
from hotbank.load import Workload
from hotbank.memory import BlockState, KernelState, Kind, Power
from hotbank.model import Model, WallClock
from hotbank.operate import MemoryJournal, Outcome
from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.serve import local
from hotbank.serve.owner import Owner
from hotbank.serve.state import journal_in
from hotbank.testing import Places, Watched, places
from mount.mounts import MEMORY, mounted, needs_fuse

WRITES = ["begin", *["intend", "result"] * 4, "close"]  # four acts each: two blocks, the bank, the power
POINTS = points(WRITES)
TESTS = Path(__file__).parents[1]
QUICK = ((3, "before"), (6, "before"), (5, "after"))  # after an act, before an intent, between an intent and its act


def every_point() -> list[object]:
    """All crash points; those outside of QUICK are marked long."""
    return [p if p in QUICK else pytest.param(*p, marks=pytest.mark.long) for p in POINTS]


def _model() -> Model:
    model = Model.boot(board.load(str(BOARD)), backend="reference", seed=1, clock=WallClock())
    Workload(model, 1, pages=300).fill()
    return model


@dataclass(frozen=True)
class Stage:
    """A model just before ``verb``, somebody who watches what is done to it, and what a test compares with."""

    verb: str
    model: Model
    watched: Watched
    before: Places
    power: Power

    def check(self, outcome: Outcome | None) -> None:
        """Invariants 1, 2 and 5 after a crash and a recovery, and the model's own."""
        assert not self.watched.breaches
        bank = self.model.snapshot().bank("high")
        assert bank is not None
        if self.verb == "remove" and bank.kernel is KernelState.ABSENT:
            assert self.model.power("ddr") is Power.OFF
        else:
            assert places(self.model) == self.before
            assert self.model.power("ddr") is self.power
        assert outcome is None or (not outcome.open and not outcome.unrestored)
        self.model.validate()
        assert not self.model.check_contents()


@contextmanager
def stage(verb: str, model: Model) -> Iterator[Stage]:
    """Before: the bank in for a removal, out and dark for an addition. Afterwards: in."""
    if verb == "add":
        assert operate.remove(model, "high").exit == 0
    yield Stage(verb, model, Watched(model), places(model), model.power("ddr"))
    bank = model.snapshot().bank("high")
    assert bank is not None
    if bank.kernel is not KernelState.ONLINE:
        assert operate.add(model, "high").exit == 0


@pytest.fixture(scope="module")
def model() -> Model:
    return _model()


@pytest.mark.parametrize("verb", ["remove", "add"])
def test_the_points_are_all_of_them(model: Model, verb: str) -> None:
    with stage(verb, model) as at:
        journal = Deadly(MemoryJournal(), -1, "", lambda: None)
        with local.attached(Owner(model, journal=journal)) as client:
            order = serve.remove if verb == "remove" else serve.add
            assert order(client, "high").exit == 0
        assert journal.names == WRITES
        assert at.verb == verb
    assert len(POINTS) == 14


# The worker dies; its owner cleans up.


@pytest.mark.parametrize("verb", ["remove", "add"])
def test_a_worker_that_dies_when_all_is_done(model: Model, verb: str) -> None:
    """What the journal says of it is told."""
    with stage(verb, model) as here:
        journal = Deadly(MemoryJournal(), len(WRITES) - 1, "after", lambda: _end(_worker(owner)))
        owner = Owner(here.watched, journal=journal)
        order = serve.remove if verb == "remove" else serve.add
        with local.attached(owner) as client:
            outcome = order(client, "high")
        assert outcome.exit == 0
        assert outcome.kernel is (KernelState.ABSENT if verb == "remove" else KernelState.ONLINE)
        assert outcome.moved == journal.entries()[-1].moved
        assert not here.watched.breaches


@pytest.mark.parametrize(("at", "when"), every_point())
@pytest.mark.parametrize("verb", ["remove", "add"])
def test_a_worker_that_dies_anywhere(model: Model, verb: str, at: int, when: str) -> None:
    with stage(verb, model) as here:
        journal = Deadly(MemoryJournal(), at, when, lambda: _end(_worker(owner)))
        owner = Owner(here.watched, journal=journal)
        order = serve.remove if verb == "remove" else serve.add
        with local.attached(owner) as client:
            outcome = None
            with suppress(MachineError):  # it died before it had begun, so there was nothing to clean up
                outcome = order(client, "high")
            assert (outcome is None) == (at == 0)
            assert journal.unfinished() is None
            here.check(outcome)
            assert serve.recover(client) is None
            assert (order(client, "high").exit) == 0, "and the next goes through"


def _worker(owner: Owner) -> int:
    assert owner._job is not None
    assert owner._job.pid != os.getpid()
    return owner._job.pid


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 5
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until


# The owner dies; the next one recovers.


@dataclass(frozen=True)
class Outside:
    """A mounted model, and the folder of its owners' journal."""

    model: Model
    watched: Watched
    root: Path
    folder: Path

    def start(self, verb: str, at: int, when: str) -> subprocess.Popen[bytes]:
        """An owner of the host below the mount, that carries out the verb and dies at the write."""
        argv = [sys.executable, deadly.__file__, str(self.root), str(self.folder), verb, str(at), when]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
        with open(self.folder / "errors", "wb") as errors:  # no pipe: a writer that it leaves behind would keep it open
            return subprocess.Popen(argv, stdout=errors, stderr=errors, env=env)

    def run(self, verb: str, at: int, when: str) -> None:
        """Start it, and see it die."""
        status = self.start(verb, at, when).wait(60)
        assert status == -signal.SIGKILL, (self.folder / "errors").read_text()


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    model = _model()
    watched = Watched(model)
    with tempfile.TemporaryDirectory() as folder, mounted(watched) as root:
        yield Outside(model, watched, root, Path(folder))


@contextmanager
def journal_of(outside: Outside) -> Iterator[SqliteJournal]:
    journal = journal_in(outside.folder, "host")
    yield journal
    journal.close_file()


@needs_fuse
@pytest.mark.referee
@pytest.mark.parametrize(("at", "when"), every_point())
@pytest.mark.parametrize("verb", ["remove", "add"])
def test_an_owner_that_dies_anywhere(outside: Outside, verb: str, at: int, when: str) -> None:
    with stage(verb, outside.model) as here:
        outside.watched.breaches.clear()
        outside.run(verb, at, when)
        with journal_of(outside) as journal:
            left = journal.unfinished()
            assert (left is None) == (at == 0)
            if left is not None:
                with pytest.raises(Refusal, match=f"{verb} high of pid {left.pid}"):
                    journal.begin(left.before)
            outcome = operate.recover(deadly.host(outside.root), journal, patience=10)
            assert journal.unfinished() is None
        assert not outside.watched.breaches
        here.check(outcome)


@needs_fuse
@pytest.mark.referee
def test_an_owner_that_dies_in_the_middle_of_an_offline(outside: Outside) -> None:
    """Its writer is ended with it, the block comes back, and only then the transaction can be taken over."""
    model = outside.model
    pid = model.spawn("pinner", anon_pages=64)
    block = next(n for n in _high(model) if model.place(pid, n))
    pin = model.pin(pid, model.place(pid, block)[0])
    with stage("remove", model) as here:
        running = outside.start("remove", -1, "")
        _wait_for_state(outside, block, BlockState.GOING_OFFLINE)
        with journal_of(outside) as journal:
            assert not journal.claim(), "its owner lives"
            with pytest.raises(Refusal) as caught:
                operate.recover(deadly.host(outside.root), journal, patience=0.3)
            assert caught.value.code is Code.BUSY_TRANSACTION
            running.kill()
            running.wait()
            owner = Owner(deadly.host(outside.root), journal=journal)
            with local.attached(owner) as client:
                outcome = serve.recover(client)
            assert outcome is not None
            assert (outcome.code, outcome.exit) == (Code.INTERRUPTED, 1)
            here.check(outcome)
    model.unpin(pin)
    model.exit(pid)


@needs_fuse
@pytest.mark.referee
def test_a_writer_that_outlives_its_owner_is_waited_for(outside: Outside) -> None:
    """Under stalled writeback not even SIGKILL ends the writer: recovery stays open until the kernel lets go."""
    model = outside.model
    model.write_file("disk", 3000)
    model.stall_writeback("disk", 3000)
    assert any(model.survey(n).kinds.get(Kind.FILE) for n in _high(model))
    with stage("remove", model) as here:
        running = outside.start("remove", -1, "")
        _wait_for_a_stuck_block(model)
        running.kill()
        running.wait()
        with journal_of(outside) as journal:
            host = deadly.host(outside.root)
            with pytest.raises(Refusal, match="is not finished"):
                operate.recover(host, journal, patience=0.5)
            assert journal.unfinished() is not None
            threading.Timer(0.5, lambda: model.end_writeback("disk")).start()
            outcome = operate.recover(host, journal, patience=10)
            assert outcome is not None
            here.check(outcome)
    model.remove_file("disk")


def _high(model: Model) -> tuple[int, ...]:
    bank = model.snapshot().bank("high")
    assert bank is not None
    return bank.blocks


def _wait_for_a_stuck_block(model: Model) -> None:
    until, looks = time.monotonic() + 10, 0
    while looks < 10:
        assert time.monotonic() < until
        stuck = any(b.state is BlockState.GOING_OFFLINE for b in model.snapshot().blocks)
        looks = looks + 1 if stuck else 0
        time.sleep(0.03)


def _wait_for_state(outside: Outside, block: int, state: BlockState) -> None:
    until = time.monotonic() + 10
    while (outside.root / MEMORY / f"memory{block}/state").read_text().strip() != state:
        assert time.monotonic() < until
        time.sleep(0.02)


_SWITCHING = """
import sys
from hotbank.board import Domain
from hotbank.host.switch import Command
from hotbank.host.writer import writers_keep
from hotbank.memory import Power
from hotbank.operate import Before
from hotbank.operate.sqlite_journal import SqliteJournal

journal = SqliteJournal(sys.argv[1])
writers_keep(journal.writers_keep)
journal.begin(Before("remove", ("high",), "boot"))
argv = ("sh", "-c", "touch " + sys.argv[1] + ".began; sleep 1.5; touch " + sys.argv[1] + ".off")
Command(Domain("ddr", (Power.ON, Power.OFF), "command", off=argv, status=("echo", "off"))).turn(Power.OFF)
"""


@pytest.mark.parametrize("kept", [True, False], ids=["lock-kept", "planted-breach"])
def test_a_switch_command_that_outlives_its_owner_is_waited_for(tmp_path: Path, kept: bool) -> None:
    """Else it could turn the power off after somebody has recovered and brought the bank back."""
    path = tmp_path / "journal"
    script = _SWITCHING if kept else _SWITCHING.replace("writers_keep(journal.writers_keep)\n", "")
    owner = subprocess.Popen([sys.executable, "-c", script, str(path)])
    until = time.monotonic() + 10
    while not Path(f"{path}.began").exists():
        assert time.monotonic() < until
    owner.kill()
    owner.wait()
    journal = SqliteJournal(path)
    while not journal.claim():
        assert time.monotonic() < until
    assert Path(f"{path}.off").exists() == kept
    journal.close_file()
