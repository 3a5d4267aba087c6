# SPDX-License-Identifier: Apache-2.0
"""A long journal: it costs an owner no more than a short one, and whoever asks gets all of it."""

from __future__ import annotations

import sqlite3
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counted import calls
from hotbank.errors import Code, ProtocolError
from hotbank.memory import MIB, BlockState, KernelState
from hotbank.operate import Before, Entry, MemoryJournal
from hotbank.operate.journal import GOVERNOR, PERSON, BankBefore, BlockBefore
from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.serve import local, past
from hotbank.serve.client import RemoteOwner
from hotbank.serve.governing import still_taken
from hotbank.serve.owner import Owner
from hotbank.serve.protocol import History
from hotbank.testing import ScriptedMachine

LONG = 100_000
BEFORE = Before("remove", ("high",), "boot", "scripted")
_COPIES = """
INSERT INTO {table} SELECT {columns} FROM {table} JOIN
(WITH RECURSIVE counted(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM counted WHERE n < ?) SELECT n FROM counted)
"""


def long_journal(path: Path, entries: int) -> SqliteJournal:
    """A journal with so many transactions of one act more than one."""
    journal = SqliteJournal(path)
    entry = journal.begin(BEFORE)
    journal.result(entry, journal.intend(entry, "offline", "memory20"), Code.OK, None)
    journal.close(entry, Code.OK, 0)
    with closing(sqlite3.connect(path)) as db, db:
        for table, own in (("entry", "id"), ("act", "entry")):
            rest = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] != own]
            db.execute(_COPIES.format(table=table, columns=", ".join([f"{own} + n", *rest])), (entries,))
    return journal


@pytest.mark.parametrize("kind", [MemoryJournal, SqliteJournal])
def test_any_number_may_be_asked_about(kind: type, tmp_path: Path) -> None:
    """It comes from outside, and a table has room for 63 bits."""
    journal = kind() if kind is MemoryJournal else kind(tmp_path / "journal")
    for _ in range(3):
        journal.close(journal.begin(BEFORE), Code.OK, 0)
    for above in (1 << 63, 1 << 200):
        assert past.part(journal, above).entries == past.part(journal, None).entries
    for below in (0, -1, -(1 << 70)):
        assert past.part(journal, below).entries == ()


def work(journal: SqliteJournal) -> int:
    """Of a second look, when everything that is kept is there."""
    past.part(journal, None)
    return calls(lambda: past.part(journal, None))


def written(journal: MemoryJournal, count: int, before: Before = BEFORE) -> MemoryJournal:
    for _ in range(count):
        journal.close(journal.begin(before), Code.OK, 0)
    return journal


def test_a_long_journal_costs_an_owner_no_memory_and_no_work(tmp_path: Path) -> None:
    short, long = long_journal(tmp_path / "short", 1000), long_journal(tmp_path / "long", LONG)
    with closing(sqlite3.connect(tmp_path / "long")) as db:
        assert db.execute("SELECT count(*) FROM act").fetchone() == (LONG + 1,)
    assert work(long) == work(short)
    tracemalloc.start()
    for before in (None, LONG // 2):
        told = past.part(long, before)
        assert (len(told.entries), told.more) == (past.MOST, True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MIB


def test_machines_with_many_blocks_are_told_in_smaller_parts() -> None:
    blocks = tuple(BlockBefore(n, BlockState.ONLINE, "Movable") for n in range(past.HEAVY // 3 + 1))
    told = past.part(written(MemoryJournal(), 10, replace(BEFORE, blocks=blocks)), None)
    assert (len(told.entries), told.more) == (3, True)


@pytest.mark.parametrize("count", [0, 1, past.MOST, past.MOST + 1, 3 * past.MOST - 1])
def test_a_client_gets_all_of_it_in_its_order(count: int) -> None:
    journal = written(MemoryJournal(), count)
    with local.attached(Owner(ScriptedMachine(), journal=journal)) as client:
        assert RemoteOwner(client).history() == journal.entries()
        newest = next(RemoteOwner(client).newest(), None)
        assert newest == (journal.entries()[-1] if count else None)


class Counting(RemoteOwner):
    """How many parts are asked for."""

    asked = 0

    def _past(self, before: int | None) -> History:
        self.asked += 1
        return super()._past(before)


@pytest.mark.parametrize("fresh", [0, 1, past.MOST - 1, past.MOST, 2 * past.MOST])
@pytest.mark.parametrize("left_open", [False, True])
def test_who_asks_again_is_told_what_is_new(fresh: int, left_open: bool) -> None:
    """Also how the one ended that was open; a journal that another has taken the place of is told as a whole."""
    journal = written(MemoryJournal(), 5 * past.MOST)
    entry = journal.begin(BEFORE) if left_open else None
    with local.attached(Owner(ScriptedMachine(), journal=journal)) as client:
        owner = Counting(client)
        known = owner.history()
        owner.asked = 0
        if entry is not None:
            journal.close(entry, Code.DEADLINE, 7)
        written(journal, fresh)
        assert owner.history(known) == journal.entries()
        assert owner.asked == (fresh + left_open) // past.MOST + 1
        another = tuple(replace(each, began=each.began + 1.0) for each in known)
        assert owner.history(another) == journal.entries()


class Telling(RemoteOwner):
    """An owner that tells these parts, one after the other."""

    def __init__(self, *parts: History) -> None:
        self._parts = iter(parts)

    def _past(self, before: int | None) -> History:
        return next(self._parts)


@pytest.mark.parametrize("ids", [(), (7,), (8, 9), (3, 9)])
def test_an_owner_that_never_comes_to_the_end_is_found_out(ids: tuple[int, ...]) -> None:
    first, *rest = (tuple(Entry(n, 1, BEFORE, 0.0) for n in part) for part in ((7, 8), ids))
    with pytest.raises(ProtocolError, match="does not go on"):
        Telling(*(History(entries, True) for entries in (first, *rest))).history()


# What of it is the governor's


banks = st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=2)
entry = st.builds(
    lambda verb, cause, boot, code, names: Entry(
        1,
        1,
        Before(verb, (), boot, banks=tuple(BankBefore(n, KernelState.ONLINE) for n in names), cause=cause),
        0.0,
        (),
        code,
    ),
    st.sampled_from(["remove", "add", "start"]),
    st.sampled_from([PERSON, GOVERNOR]),
    st.sampled_from(["earlier", "now"]),
    st.sampled_from([Code.OK, Code.UNMOVABLE, None]),
    banks,
)


@given(st.lists(entry, max_size=8))
def test_what_a_governor_took_is_what_a_replay_of_this_boot_leaves_taken(entries: list[Entry]) -> None:
    entries.sort(key=lambda entry: entry.before.boot_id == "now")  # a boot that is over does not come back
    taken = set[str]()
    for one in entries:
        if one.before.boot_id == "now" and one.code is Code.OK and not one.is_sign:
            names = {bank.name for bank in one.before.banks}
            ours = (one.before.verb, one.before.cause) == ("remove", GOVERNOR)
            taken = taken | names if ours else taken - names
    assert {bank for bank, out in still_taken(reversed(entries), "now").items() if out} == taken
