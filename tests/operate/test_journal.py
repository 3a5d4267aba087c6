# SPDX-License-Identifier: Apache-2.0
"""Both journals under one suite; the one in a file also across processes, deaths and full disks."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import operate
from hotbank.errors import Code, MachineError, Refusal
from hotbank.memory import BlockState, KernelState, Power
from hotbank.operate import BankBefore, Before, BlockBefore, DomainBefore, Entry, Journal, MemoryJournal, Row
from hotbank.operate.recovery import closed
from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.testing import ScriptedMachine, Watched, places
from patience import HANG

JOURNALS = Path(__file__).parents[1] / "data" / "journals"
BEFORE = Before(
    "remove",
    ("high",),
    "boot-1",
    "scripted",
    (BankBefore("high", KernelState.ONLINE, "ddr"),),
    (DomainBefore("ddr", Power.ON),),
    (BlockBefore(20, BlockState.ONLINE, "Movable"), BlockBefore(21, BlockState.OFFLINE)),
)


def in_memory(folder: Path, now: Callable[[], float]) -> Iterator[Journal]:
    yield MemoryJournal(now=now)


def in_file(folder: Path, now: Callable[[], float]) -> Iterator[Journal]:
    journal = SqliteJournal(folder / "journal", now=now)
    yield journal
    journal.close_file()


@pytest.fixture(params=[in_memory, in_file], ids=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    ticks = itertools.count(100)
    yield from request.param(tmp_path, lambda: float(next(ticks)))


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        (Code.OK, 0, "was done"),
        (Code.DOMAIN_IN_USE, 0, "was done"),
        (Code.DEADLINE, 1, "failed"),
        (Code.INTERRUPTED, 130, "failed"),
    ],
)
def test_the_end_of_a_transaction_whose_process_died(journal: Journal, code: Code, status: int, said: str) -> None:
    machine, number = ScriptedMachine(), journal.begin(BEFORE)
    with pytest.raises(ValueError, match="remove high is open"):
        closed(journal.entries()[-1], machine.snapshot())
    journal.close(number, code, 77)
    outcome = closed(journal.entries()[-1], machine.snapshot())
    assert (outcome.code, outcome.exit, outcome.moved, outcome.kernel) == (code, status, 77, KernelState.ONLINE)
    assert outcome.fact == f"remove high {said}"


def test_a_transaction_is_written_down(journal: Journal) -> None:
    entry = journal.begin(BEFORE)
    first = journal.intend(entry, "offline", "memory20")
    journal.result(entry, first, Code.OK, None)
    second = journal.intend(entry, "offline", "memory21")
    journal.result(entry, second, Code.UNMOVABLE, 16)
    journal.intend(entry, "online", "memory20")
    rows = (
        Row("offline", "memory20", Code.OK, None, 101, 102),
        Row("offline", "memory21", Code.UNMOVABLE, 16, 103, 104),
        Row("online", "memory20", None, None, 105, None),
    )
    assert journal.unfinished() == Entry(entry, os.getpid(), BEFORE, 100, rows)
    journal.close(entry, Code.UNMOVABLE, 7)
    assert journal.unfinished() is None
    assert journal.entries() == (Entry(entry, os.getpid(), BEFORE, 100, rows, Code.UNMOVABLE, 7, 106),)


def test_only_one_is_open(journal: Journal) -> None:
    first = journal.begin(BEFORE)
    with pytest.raises(Refusal, match=f"remove high of pid {os.getpid()}") as caught:
        journal.begin(BEFORE)
    assert caught.value.code is Code.BUSY_TRANSACTION
    journal.close(first, Code.OK, 0)
    second = journal.begin(BEFORE)
    assert [e.id for e in journal.entries()] == [first, second]


def test_a_part_is_the_newest_before_one(journal: Journal) -> None:
    for _ in range(5):
        journal.close(journal.begin(BEFORE), Code.OK, 0)
    all_ = journal.entries()
    for before in (None, *(entry.id for entry in all_), all_[-1].id + 1):
        older = [entry for entry in all_ if before is None or entry.id < before]
        assert journal.entries(before) == tuple(older)
        for most in range(7):
            assert journal.entries(before, most) == tuple(older[max(0, len(older) - most) :])


def test_a_whole_transaction(journal: Journal) -> None:
    machine = ScriptedMachine()
    assert operate.remove(machine, "high", journal=journal).exit == 0
    assert operate.add(machine, "high", journal=journal).exit == 0
    entries = journal.entries()
    assert [(e.before.verb, e.code, e.before.planned, e.moved) for e in entries] == [
        ("remove", Code.OK, 400, 400),
        ("add", Code.OK, 0, 0),
    ]
    assert all(row.code is Code.OK for e in entries for row in e.rows)
    assert [row.step for row in entries[0].rows] == [*["offline"] * 4, "remove", "power-off"]


DIES = """
import os, sys
from hotbank.testing import ScriptedMachine
from hotbank import operate
from hotbank.operate.recovery import closed
from hotbank.operate.sqlite_journal import SqliteJournal

class Mortal(SqliteJournal):
    writes = 0
    def _write(self, statement, *values):
        if Mortal.writes == int(sys.argv[2]) and sys.argv[3] == "before":
            os.kill(os.getpid(), 9)
        done = super()._write(statement, *values)
        if Mortal.writes == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        Mortal.writes += 1
        return done

operate.remove(ScriptedMachine(), "high", journal=Mortal(sys.argv[1]))
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [1, 6, pytest.param(12, marks=pytest.mark.long)])
def test_what_a_killed_process_wrote_is_there(tmp_path: Path, at: int, when: str) -> None:
    path = tmp_path / "journal"
    done = subprocess.run([sys.executable, "-c", DIES, str(path), str(at), when], check=False)
    assert done.returncode == -9
    journal = SqliteJournal(path)
    entry = journal.unfinished()
    assert entry is not None
    assert entry.pid != os.getpid()
    written = at + (when == "after")  # the first write began the entry, then intents and results take turns
    assert len(entry.rows) == written // 2
    assert sum(row.code is not None for row in entry.rows) == (written - 1) // 2
    with pytest.raises(Refusal, match=f"pid {entry.pid}"):
        operate.remove(ScriptedMachine(), "high", journal=journal)
    machine = ScriptedMachine()  # it was the dead process's own: this one was never touched
    outcome = operate.recover(machine, journal)
    assert outcome is not None
    assert places(machine) == places(ScriptedMachine())
    assert journal.unfinished() is None
    journal.close_file()


@pytest.mark.parametrize("verb", ["remove", "add"])
def test_a_full_disk_stops_forward_and_not_back(tmp_path: Path, verb: str) -> None:
    """From the nth write on nothing can be written; the blocks come back all the same."""

    class Full(SqliteJournal):
        left = 10**6

        def _write(self, statement: str, *values: object) -> int:
            self.left -= 1
            if self.left < 0:
                raise MachineError("journal: database or disk is full")
            return super()._write(statement, *values)

    for left in (1, 2, 7, 12):  # begun; first intent; midway; only the last result is missing
        machine, journal = ScriptedMachine(), Full(tmp_path / f"journal{left}")
        if verb == "add":
            operate.remove(machine, "high")
        before, watched = places(machine), Watched(machine)
        journal.left = left
        with pytest.raises(MachineError, match="full"):
            (operate.remove if verb == "remove" else operate.add)(watched, "high", journal=journal)
        assert not watched.breaches
        assert not machine.lost
        assert places(machine) == before
        journal.left = 10**6
        assert operate.recover(machine, journal) is not None
        assert journal.unfinished() is None
        journal.close_file()


def test_the_file_is_its_users_alone(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal")
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o600
    journal.close_file()


@pytest.mark.parametrize("damage", ["no database", "torn", "hot journal beside it"])
def test_a_file_that_is_no_journal_is_kept_under_another_name(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = SqliteJournal(path)
    for _ in range(40):
        whole.close(whole.begin(BEFORE), Code.OK, None)
    whole.close_file()
    content = path.read_bytes()
    torn = content[:4096] + b"\xff" * 8192 + content[12288:]
    path.write_bytes(torn if damage == "torn" else b"this is no database, and long enough to be none" * 99)
    if damage == "hot journal beside it":
        (tmp_path / "journal-journal").write_bytes(b"whatever")
    kept = path.read_bytes()
    journal = SqliteJournal(path, now=lambda: 0.0)
    (told,) = journal.entries()
    assert (told.code, told.before.targets) == (Code.DAMAGED, ("journal.damaged-19700101T000000Z",))
    assert (tmp_path / told.before.target).read_bytes() == kept
    journal.close(journal.begin(BEFORE), Code.OK, None)
    journal.close_file()


def test_a_damaged_file_is_not_taken_from_a_transaction_that_runs(tmp_path: Path) -> None:
    holder = SqliteJournal(tmp_path / "journal")
    holder.begin(BEFORE)
    (tmp_path / "journal").write_bytes(b"no database" * 999)
    with pytest.raises(MachineError, match="another process is open"):
        SqliteJournal(tmp_path / "journal")
    holder.close_file()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["journal", "journal.lock"]


def test_a_journal_is_opened_as_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "linked").symlink_to(tmp_path / "there")
    (tmp_path / "locked.lock").symlink_to(tmp_path / "there")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("linked", "locked", "fifo", "folder", "nowhere/journal"):
        with pytest.raises(MachineError, match=name):
            SqliteJournal(tmp_path / name)
    assert (tmp_path / "there").read_bytes() == b""


DAMAGE = {
    "no JSON": "UPDATE entry SET found = '{'",
    "JSON without end": "UPDATE entry SET found = '" + "[" * 100_000 + "'",
    "another JSON": "UPDATE entry SET found = '[]'",
    "no text": "UPDATE entry SET targets = 7",
    "nothing": "UPDATE entry SET targets = x''",
    "no UTF-8": "UPDATE entry SET verb = CAST(x'ff' AS TEXT)",
    "a bank of no known state": "UPDATE entry SET found = replace(found, 'online', 'ONLINE')",
    "a time that is none": "UPDATE entry SET began = 1e308",
    "a process that is none": "UPDATE entry SET pid = 'x'",
    "an act of no known code": "UPDATE act SET code = 'FROM_THE_FUTURE'",
    "an act without a time": "UPDATE act SET began = 'x'",
    "a boot that is none": "UPDATE entry SET boot_id = x'00'",
    "fewer pages than none": "UPDATE entry SET planned = -1",
}


@pytest.mark.parametrize("damage", [*DAMAGE, "a code of a later release"])
def test_a_damaged_row_that_is_closed_is_listed_and_the_others_with_it(damage: str, tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal")
    for _ in range(2):
        entry = journal.begin(BEFORE)
        journal.result(entry, journal.intend(entry, "offline", "memory20"), Code.OK, None)
        journal.close(entry, Code.OK, 7)
    statement = DAMAGE.get(damage, "UPDATE entry SET code = 'FROM_THE_FUTURE'")
    hurt(tmp_path / "journal", f"{statement} WHERE {'entry' if ' act ' in statement else 'id'} = 1")
    first, second = journal.entries()
    assert (first.code, second.code) == (Code.DAMAGED, Code.OK)
    assert first.damage
    assert first.seconds is None or first.seconds < HANG, "not since 1970"
    assert second.before == BEFORE
    journal.close_file()


def hurt(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_that_is_open_is_settled_by_what_the_machine_is(damage: str, tmp_path: Path) -> None:
    machine = ScriptedMachine()
    journal = opened_and_hurt(tmp_path, machine, damage)
    outcome = operate.recover(machine, journal)
    assert outcome is not None
    assert (outcome.code, outcome.exit, outcome.open) == (Code.DAMAGED, 0, False)
    assert "nothing is half-way" in outcome.fact
    assert journal.unfinished() is None
    assert operate.recover(machine, journal) is None
    journal.close_file()


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_half_way_is_left_open_until_it_is_to_be_forgotten(damage: str, tmp_path: Path) -> None:
    machine = ScriptedMachine()
    block = machine.snapshot().banks[-1].blocks[0]
    machine.offline(block, machine.clock.now() + 9)
    journal, there = opened_and_hurt(tmp_path, machine, damage), places(machine)
    with pytest.raises(Refusal, match="no transaction 99 is open"):
        operate.recover(machine, journal, forget=99)
    left = operate.recover(machine, journal)
    assert left is not None
    assert (left.code, left.exit, left.open) == (Code.DAMAGED, 1, True)
    assert "recover --forget 1" in left.remedy
    assert journal.unfinished() is not None
    forgotten = operate.recover(machine, journal, forget=1)
    assert forgotten is not None
    assert (forgotten.code, forgotten.exit, forgotten.open) == (Code.DAMAGED, 0, False)
    assert places(machine) == there
    assert [entry.code for entry in journal.entries()] == [Code.DAMAGED]
    journal.close_file()


def test_a_damaged_row_of_an_earlier_boot_is_superseded(tmp_path: Path) -> None:
    machine = ScriptedMachine()
    journal = SqliteJournal(tmp_path / "journal")
    journal.begin(replace(BEFORE, boot_id="earlier"))
    hurt(tmp_path / "journal", DAMAGE["no JSON"])
    outcome = operate.recover(machine, journal)
    assert outcome is not None
    assert outcome.code is Code.SUPERSEDED
    journal.close_file()


def opened_and_hurt(folder: Path, machine: ScriptedMachine, damage: str) -> SqliteJournal:
    journal = SqliteJournal(folder / "journal")
    entry = journal.begin(replace(BEFORE, boot_id=machine.snapshot().boot_id))
    journal.intend(entry, "offline", "memory20")
    hurt(folder / "journal", DAMAGE[damage])
    return journal


# What an earlier release wrote.


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copy(JOURNALS / name, folder / "journal"))


def old_acts(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT * FROM act ORDER BY entry, number").fetchall()


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_a_journal_of_schema_1_is_taken_over(tmp_path: Path) -> None:
    path = copied("closed.journal", tmp_path)
    acts = old_acts(path)
    for _ in range(2):  # made new, and read again as it is now
        journal = SqliteJournal(path)
        entries = journal.entries()
        journal.close_file()
        ended = [(e.before.verb, e.before.targets, e.code, e.before.planned, e.moved) for e in entries]
        assert ended == [
            ("remove", ("high",), Code.DOMAIN_IN_USE, 400, None),
            ("remove", ("mate",), Code.OK, 100, None),
            ("add", ("high",), Code.OK, 0, None),
            ("add", ("mate",), Code.OK, 0, None),
            ("remove", ("high",), Code.DEADLINE, 300, None),
            ("remove", ("memory21",), Code.OK, 100, None),
            ("add", ("memory21",), Code.OK, 0, None),
        ]
        assert entries[0].before.banks == (BankBefore("high", KernelState.ONLINE, "ddr"),)
        assert entries[2].before.domains == (DomainBefore("ddr", Power.OFF),)
        assert [block.number for block in entries[0].before.blocks] == [20, 21, 22, 23]
        assert (entries[0].began, entries[0].ended) == (1_790_000_000, 1_790_000_011)
        assert sum(len(e.rows) for e in entries) == len(acts)
        assert (old_acts(path), version(path)) == (acts, 2)


def test_an_open_transaction_of_schema_1_is_settled(tmp_path: Path) -> None:
    journal = SqliteJournal(copied("open.journal", tmp_path))
    machine = ScriptedMachine()
    for number in (20, 21, 22):
        machine.offline(number, 1.0)
    outcome = operate.recover(machine, journal)
    assert outcome is not None
    assert (outcome.code, outcome.unrestored) == (Code.INTERRUPTED, ())
    assert places(machine) == places(ScriptedMachine())
    assert operate.remove(machine, "high", journal=journal).exit == 0
    journal.close_file()


def test_a_journal_of_schema_1_is_not_taken_from_under_its_writer(tmp_path: Path) -> None:
    path = copied("open.journal", tmp_path)
    before = path.read_bytes()
    with open(f"{path}.lock", "w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(MachineError, match="earlier version"):
            SqliteJournal(path)
    assert path.read_bytes() == before
    journal = SqliteJournal(path)
    assert journal.unfinished() is not None
    journal.close_file()


@pytest.mark.parametrize("text", ["{", '{"verb": "remove"}', "[" * 30_000])
def test_a_damaged_journal_of_schema_1_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = copied("closed.journal", tmp_path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE entry SET before = ? WHERE id = 3", (text,))
    before = path.read_bytes()
    with pytest.raises(MachineError, match="transaction 3") as caught:
        SqliteJournal(path)
    assert caught.value.code is Code.DAMAGED
    assert path.read_bytes() == before


def test_a_journal_of_a_later_release_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    SqliteJournal(path).close_file()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 3")
    before = path.read_bytes()
    with pytest.raises(MachineError, match="schema 3"):
        SqliteJournal(path)
    assert path.read_bytes() == before


@given(st.builds(Before, planned=st.integers(0, 1 << 50)))
def test_what_was_found_is_read_as_it_was_written(before: Before) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = SqliteJournal(Path(folder) / "journal")
        journal.begin(before)
        assert journal.entries()[0].before == before
        journal.close_file()
