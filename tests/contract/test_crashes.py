# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at every crash point of a removal and of an addition: of the worker, and of the owner.

The worker's owner is a thread here, on a model. The owner that dies is a process with a Host on the mounted model, so
that the machine outlives it, as a kernel does.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from contract import deadly
from contract.crashing import (
    ASIDE,
    BOARDS,
    VERBS,
    Outside,
    end,
    journal_of,
    model_of,
    outside_of,
    powers,
    stage,
    worker_of,
    writes,
)
from contract.deadly import BOTH, Deadly, points
from hotbank import operate, serve
from hotbank.errors import Code, MachineError, Refusal
from hotbank.memory import BlockState, KernelState, Kind, Power
from hotbank.model import Model
from hotbank.operate import MemoryJournal
from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.serve import local
from hotbank.serve.owner import Owner
from mount.mounts import MEMORY, needs_fuse
from patience import HANG, until

QUICK = {  # after an act, before an intent, between an intent and its act
    (ASIDE, "add", 4, "before"),  # the policy is set aside, and nobody wrote it down
    (ASIDE, "add", 5, "before"),  # and nothing was added yet
    ("pair", "remove", 3, "before"),
    ("pair", "add", 6, "before"),
    ("apart", "remove", 7, "after"),
    ("apart", "add", 5, "after"),
}


def every_point(*boards: str) -> list[object]:
    """All crash points as board, verb, write and when; those outside of QUICK are marked long."""
    every = [(board, verb, *point) for board in boards for verb in VERBS for point in points(writes(board))]
    return [p if p in QUICK else pytest.param(*p, marks=pytest.mark.long) for p in every]


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {board: model_of(board) for board in (*BOARDS, ASIDE)}


@pytest.mark.parametrize("board", [*BOARDS, ASIDE])
@pytest.mark.parametrize("verb", VERBS)
def test_the_points_are_all_of_them(models: dict[str, Model], board: str, verb: str) -> None:
    with stage(verb, models[board]) as at:
        journal = Deadly(MemoryJournal(), -1, "", lambda: None)
        with local.attached(Owner(models[board], journal=journal)) as client:
            order = serve.remove if verb == "remove" else serve.add
            assert order(client, *BOTH).exit == 0
        assert journal.names == writes(board)
        assert at.verb == verb
    assert [len(points(writes(board))) for board in (*BOARDS, ASIDE)] == [17, 20, 23]


# The worker dies; its owner cleans up.


@pytest.mark.parametrize("verb", VERBS)
def test_a_worker_that_dies_when_all_is_done(models: dict[str, Model], verb: str) -> None:
    """What the journal says of it is told."""
    with stage(verb, models["pair"]) as here:
        journal = Deadly(MemoryJournal(), len(writes("pair")) - 1, "after", lambda: end(worker_of(owner)))
        owner = Owner(here.watched, journal=journal)
        order = serve.remove if verb == "remove" else serve.add
        with local.attached(owner) as client:
            outcome = order(client, *BOTH)
        assert outcome.exit == 0
        assert outcome.kernel is (KernelState.ABSENT if verb == "remove" else KernelState.ONLINE)
        assert outcome.moved == journal.entries()[-1].moved
        assert not here.watched.breaches


@pytest.mark.parametrize(("board", "verb", "at", "when"), every_point(*BOARDS, ASIDE))
def test_a_worker_that_dies_anywhere(models: dict[str, Model], board: str, verb: str, at: int, when: str) -> None:
    with stage(verb, models[board]) as here:
        journal = Deadly(MemoryJournal(), at, when, lambda: end(worker_of(owner)))
        owner = Owner(here.watched, journal=journal)
        order = serve.remove if verb == "remove" else serve.add
        with local.attached(owner) as client:
            outcome = None
            with suppress(MachineError):  # it died before it had begun, so there was nothing to clean up
                outcome = order(client, *BOTH)
            assert (outcome is None) == (at == 0)
            assert journal.unfinished() is None
            here.check(outcome)
            assert serve.recover(client) is None
            assert (order(client, *BOTH).exit) == 0, "and the next goes through"


SWITCHES = ["begin", "intend", "result", "close"]  # the writes of an order to switch one domain


def every_switch() -> list[object]:
    """All crash points of a domain that is switched off, or on; those but one of each are marked long."""
    every = [(want, *point) for want in (Power.OFF, Power.ON) for point in points(SWITCHES)]
    return [p if p[1:] == (2, "before") else pytest.param(*p, marks=pytest.mark.long) for p in every]


@pytest.mark.parametrize(("want", "at", "when"), every_switch())
def test_a_worker_that_dies_while_it_switches(models: dict[str, Model], want: Power, at: int, when: str) -> None:
    """The power is put back as it was, and the next order has it switched. Both banks are out."""
    model, was = models["pair"], Power.ON if want is Power.OFF else Power.OFF
    with stage("add", model) as here:
        model.set_power("ddr", was)
        journal = Deadly(MemoryJournal(), at, when, lambda: end(worker_of(owner)))
        owner = Owner(here.watched, journal=journal)
        with local.attached(owner) as client:
            outcome = None
            with suppress(MachineError):  # it died before it had begun, so there was nothing to clean up
                outcome = serve.power(client, "ddr", want)
            assert (outcome is None) == (at == 0)
            assert outcome is None or (outcome.code, outcome.exit, outcome.power) == (Code.INTERRUPTED, 1, was)
            assert (journal.unfinished(), powers(model)) == (None, {"ddr": was})
            assert serve.recover(client) is None
            assert serve.power(client, "ddr", want).power is want, "and the next goes through"
        assert journal.names[-len(SWITCHES) :] == SWITCHES
        assert not here.watched.breaches


def test_a_worker_that_dies_when_it_has_switched(models: dict[str, Model]) -> None:
    """What the journal says of it is told."""
    with stage("add", models["pair"]) as here:
        journal = Deadly(MemoryJournal(), len(SWITCHES) - 1, "after", lambda: end(worker_of(owner)))
        owner = Owner(here.watched, journal=journal)
        with local.attached(owner) as client:
            outcome = serve.power(client, "ddr", Power.ON)
        assert (outcome.code, outcome.exit, outcome.power) == (Code.OK, 0, Power.ON)
        assert powers(here.model) == {"ddr": Power.ON}


# The owner dies; the next one recovers.


@pytest.fixture(scope="module")
def outsides() -> Iterator[dict[str, Outside]]:
    with outside_of("pair") as pair, outside_of("apart") as apart:
        yield {"pair": pair, "apart": apart}


@pytest.fixture
def outside(outsides: dict[str, Outside]) -> Outside:
    return outsides["pair"]


@needs_fuse
@pytest.mark.referee
@pytest.mark.parametrize(("board", "verb", "at", "when"), every_point(*BOARDS))
def test_an_owner_that_dies_anywhere(outsides: dict[str, Outside], board: str, verb: str, at: int, when: str) -> None:
    outside = outsides[board]
    with stage(verb, outside.model) as here:
        outside.watched.breaches.clear()
        outside.run(verb, at, when)
        with journal_of(outside) as journal:
            left = journal.unfinished()
            assert (left is None) == (at == 0)
            if left is not None:
                with pytest.raises(Refusal, match=f"{verb} high, mate of pid {left.pid}"):
                    journal.begin(left.before)
            outcome = operate.recover(deadly.host(outside.board, outside.root), journal, patience=HANG)
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
                operate.recover(deadly.host(outside.board, outside.root), journal, patience=0.3)
            assert caught.value.code is Code.BUSY_TRANSACTION
            running.kill()
            running.wait()
            owner = Owner(deadly.host(outside.board, outside.root), journal=journal)
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
            host = deadly.host(outside.board, outside.root)
            with pytest.raises(Refusal, match="is not finished"):
                operate.recover(host, journal, patience=0.5)
            assert journal.unfinished() is not None
            threading.Timer(0.5, lambda: model.end_writeback("disk")).start()
            outcome = operate.recover(host, journal, patience=HANG)
            assert outcome is not None
            here.check(outcome)
    model.remove_file("disk")


def _high(model: Model) -> tuple[int, ...]:
    return tuple(n for bank in model.snapshot().banks if bank.name in BOTH for n in bank.blocks)


def _wait_for_a_stuck_block(model: Model) -> None:
    looks: list[bool] = []

    def stuck() -> bool:
        looks.append(any(b.state is BlockState.GOING_OFFLINE for b in model.snapshot().blocks))
        return len(looks) >= 10 and all(looks[-10:])

    until(stuck, "a stuck block", pause=0.03)


def _wait_for_state(outside: Outside, block: int, state: BlockState) -> None:
    until(lambda: (outside.root / MEMORY / f"memory{block}/state").read_text().strip() == state, state)


_SWITCHING = """
import sys
from hotbank.board import Domain
from hotbank.host.switch import Command
from hotbank.host.writer import Writers
from hotbank.memory import Power
from hotbank.operate import Before
from hotbank.operate.sqlite_journal import SqliteJournal

journal = SqliteJournal(sys.argv[1])
writers = Writers()
writers.keep(journal.writers_keep)
journal.begin(Before("remove", ("high",), "boot"))
argv = ("sh", "-c", "touch " + sys.argv[1] + ".began; sleep 4; touch " + sys.argv[1] + ".off")
domain = Domain("ddr", (Power.ON, Power.OFF), "command", off=argv, status=("echo", "off"))
Command(domain, lambda: writers.kept).turn(Power.OFF)
"""


@pytest.mark.parametrize("kept", [True, False], ids=["lock-kept", "planted-breach"])
def test_a_switch_command_that_outlives_its_owner_is_waited_for(tmp_path: Path, kept: bool) -> None:
    """Else it could turn the power off after somebody has recovered and brought the bank back."""
    path = tmp_path / "journal"
    script = _SWITCHING if kept else _SWITCHING.replace("writers.keep(journal.writers_keep)\n", "")
    owner = subprocess.Popen([sys.executable, "-c", script, str(path)])
    until(Path(f"{path}.began").exists)
    owner.kill()
    owner.wait()
    journal = SqliteJournal(path)
    until(journal.claim)
    assert Path(f"{path}.off").exists() == kept
    journal.close_file()
