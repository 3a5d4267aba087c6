# SPDX-License-Identifier: Apache-2.0
"""The journal in a SQLite file: it outlives its process, and the boot.

Each write is on the disk before the call returns (``synchronous`` is FULL), and a unique index lets only one
transaction be open, whatever processes share the file. While one is open, a file beside it is locked (flock(2)). The
lock belongs to the open file, which processes that write to sysfs for us inherit (``writers_keep``): so nobody can take
over a transaction before the last process is gone that can still do something to the machine. A process id would not
tell that, nor would it survive being given to another. A module of its own, so that reading needs no sqlite3.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hotbank.errors import CancelPending, Code, MachineError, ProtocolError
from hotbank.memory import KernelState, Power
from hotbank.numbers import finite, is_whole
from hotbank.operate.journal import BankBefore, Before, BlockBefore, DomainBefore, Entry, busy, left_behind
from hotbank.operate.reasons import remedy
from hotbank.regular import open_regular
from hotbank.wire import decode, encode

VERSION = 2  # PRAGMA user_version of what is written here; schema 1 had none, as a new file has
_ENTRY = """
CREATE TABLE {name} (
    id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, verb TEXT NOT NULL, targets TEXT NOT NULL, boot_id TEXT NOT NULL,
    machine TEXT, cause TEXT NOT NULL, keep_partial INTEGER NOT NULL, planned INTEGER NOT NULL, found TEXT NOT NULL,
    began REAL NOT NULL, ended REAL, code TEXT, moved INTEGER
)
"""
_ACT = """
CREATE TABLE act (
    entry INTEGER NOT NULL REFERENCES entry, number INTEGER NOT NULL, step TEXT NOT NULL, target TEXT NOT NULL,
    code TEXT, errno INTEGER, began REAL NOT NULL, ended REAL, PRIMARY KEY (entry, number)
)
"""
_ONE_OPEN = "CREATE UNIQUE INDEX one_open ON entry (code IS NULL) WHERE code IS NULL"
_HEAD = ("pid", "verb", "targets", "boot_id", "machine", "cause", "keep_partial", "planned", "found", "began")
_TAIL = ("ended", "code", "moved")
_ROW = ("step", "target", "code", "errno", "began", "ended")
_ALL = -1  # LIMIT: none
_LAST = (1 << 63) - 1  # the largest number that SQLite has
_OURS = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW
_PATIENCE, _ASK_EVERY = 5.0, 0.01  # seconds of wall time: for another process's write, and for its last breath


class SqliteJournal:
    """A journal in a file that only its user can read. ``now``: seconds since 1970.

    Every call raises MachineError when the file can't be read or written.
    """

    def __init__(self, path: str | os.PathLike[str], *, now: Callable[[], float] = time.time) -> None:
        self._path, self._now, self._lock = Path(path), now, threading.Lock()
        self._goes_on = False  # something that is not written down: nobody else may begin before its end
        with self._file():
            self._held = open_regular(f"{self._path}.lock", _OURS)
            self._db = self._opened()
            aside = None if _is_whole(self._db) else self._set_aside()
            self._make_ready()
        if aside is not None:
            self._say_set_aside(aside)

    def _opened(self) -> sqlite3.Connection:
        os.close(open_regular(self._path, _OURS))
        db = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        return db

    def _set_aside(self) -> Path:
        """A file that is no journal any more is kept under a dated name, with what SQLite left beside it, and a new one
        is begun. Not while another process may still write to the machine by it."""
        if not self._flocked():
            what = f"journal {self._path} is damaged, and a transaction of another process is open"
            raise MachineError(what, code=Code.DAMAGED, remedy="wait until it has ended")
        try:
            self._db.close()
            date = datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%dT%H%M%SZ")
            aside = self._path.with_name(f"{self._path.name}.damaged-{date}")
            self._path.rename(aside)
            with suppress(FileNotFoundError):
                os.rename(f"{self._path}-journal", f"{aside}-journal")
            self._db = self._opened()
        finally:
            fcntl.flock(self._held, fcntl.LOCK_UN)
        return aside

    def _say_set_aside(self, aside: Path) -> None:
        entry = self.begin(Before("set aside", (aside.name,), ""))
        self.close(entry, Code.DAMAGED, None)

    def _make_ready(self) -> None:
        """Tables of this schema, made or taken over from an older one at one stroke."""
        self._db.execute("PRAGMA synchronous = FULL")
        if self._version() == VERSION:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._upgrade(self._version())
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _version(self) -> int:
        """Raises MachineError when the file was written by a later version of this program."""
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version > VERSION:
            what = f"journal {self._path} has schema {version}, this version knows {VERSION}"
            help_ = "use the hotbank that wrote it, or move the file away"
            raise MachineError(what, code=Code.UNSUPPORTED, remedy=help_)
        return version

    def _upgrade(self, version: int) -> None:
        if version == VERSION:  # another process was faster
            return
        if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'entry'").fetchone():
            self._take_over()
        else:
            self._db.execute(_ACT)
            self._db.execute(_ENTRY.format(name="entry"))
        self._db.execute(_ONE_OPEN)
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _take_over(self) -> None:
        """Not from under an earlier version of this program, in the middle of its transaction."""
        if not self._flocked():
            what = f"journal {self._path}: an earlier version of hotbank has a transaction open"
            raise MachineError(what, code=Code.BUSY_TRANSACTION, remedy="wait until it has ended")
        try:
            take_over_schema_1(self._db)
        finally:
            fcntl.flock(self._held, fcntl.LOCK_UN)

    @property
    def writers_keep(self) -> int:
        """The descriptor that every process which writes to the machine must hold open."""
        return self._held

    def close_file(self) -> None:
        """Let go of the files, once nobody reads or writes them."""
        with self._lock:
            self._db.close()
            os.close(self._held)

    def begin(self, before: Before) -> int:
        """Open a transaction; its id. Raises Refusal(BUSY_TRANSACTION) while another one is open."""
        values, until = (os.getpid(), *_columns(before), self._now()), time.monotonic() + _PATIENCE
        while not self._lock_file():
            self._refuse_if_open()
            if time.monotonic() >= until:
                raise left_behind()
            time.sleep(_ASK_EVERY)  # it has just ended: its process is about to let go
        try:
            return self._write(_insert("entry", _HEAD), *values)
        except sqlite3.IntegrityError as e:
            self._refuse_if_open()
            raise self._at_odds(e) from e

    def _refuse_if_open(self) -> None:
        open_one = self.unfinished()
        if open_one is not None:
            if open_one.pid != os.getpid():
                self._unlock_file()
            raise busy(open_one)

    def claim(self) -> bool:
        """Take over the open transaction; False while its own process, or one that writes for it, lives."""
        if not self._lock_file():
            return False
        if self.unfinished() is None:
            self._unlock_file()
        return True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See OwnersJournal: should this process die meanwhile, those that it has started keep the lock."""
        if not self._lock_file():
            raise left_behind()
        try:
            yield
        except CancelPending:
            self._goes_on = True
            raise
        finally:
            self._unlock_file()

    def let_go(self) -> None:
        """See OwnersJournal."""
        self._goes_on = False
        self._unlock_file()

    def _lock_file(self) -> bool:
        with self._file():
            return self._flocked()

    def _flocked(self) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _unlock_file(self) -> None:
        if self._goes_on:
            return
        with self._file():
            fcntl.flock(self._held, fcntl.LOCK_UN)

    def intend(self, entry: int, step: str, target: str) -> int:
        """Write down an act before it is done; the row's number."""
        number = int(self._rows("SELECT count(*) FROM act WHERE entry = ?", entry)[0][0])
        values = (entry, number, step, target, self._now())
        try:
            self._write("INSERT INTO act (entry, number, step, target, began) VALUES (?, ?, ?, ?, ?)", *values)
        except sqlite3.IntegrityError as e:
            raise self._at_odds(e) from e
        return number

    def _at_odds(self, error: sqlite3.IntegrityError) -> MachineError:
        return MachineError(f"journal {self._path}: {error}", code=Code.DAMAGED, remedy=remedy(Code.DAMAGED))

    def result(self, entry: int, row: int, code: Code, errno: int | None) -> None:
        """Write down what came of an act."""
        values = (code.value, errno, self._now(), entry, row)
        self._write("UPDATE act SET code = ?, errno = ?, ended = ? WHERE entry = ? AND number = ?", *values)

    def close(self, entry: int, code: Code, moved: int | None) -> None:
        """End the transaction. ``moved``: pages, None when unknown."""
        values = (code.value, moved, self._now(), entry)
        self._write("UPDATE entry SET code = ?, moved = ?, ended = ? WHERE id = ?", *values)
        self._unlock_file()

    def unfinished(self) -> Entry | None:
        """The open transaction, or None."""
        return next(iter(self._entries("WHERE code IS NULL")), None)

    def entries(self, before: int | None = None, most: int | None = None) -> tuple[Entry, ...]:
        """See Journal."""
        where, values = ("", ()) if before is None else ("WHERE id < ? ", (max(0, min(before, _LAST)),))
        newest_first = self._entries(f"{where}ORDER BY id DESC LIMIT ?", *values, _ALL if most is None else most)
        return tuple(reversed(list(newest_first)))

    def _entries(self, which: str, *values: int) -> Iterator[Entry]:
        columns = f"SELECT id, {', '.join((*_HEAD, *_TAIL))} FROM entry "
        for row in self._rows(columns + which, *values):
            yield _entry(dict(zip(("id", *_HEAD, *_TAIL), row, strict=True)), self._acts(row[0]))

    def _acts(self, entry: int) -> list[dict[str, Any]]:
        rows = self._rows(f"SELECT {', '.join(_ROW)} FROM act WHERE entry = ? ORDER BY number", entry)
        return [dict(zip(_ROW, row, strict=True)) for row in rows]

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._file():
            return self._db.execute(statement, values).fetchall()

    def _write(self, statement: str, *values: Any) -> int:
        with self._file():
            return self._db.execute(statement, values).lastrowid or 0

    @contextmanager
    def _file(self) -> Iterator[None]:
        """One thread at a time; errors of the file with its name."""
        with self._lock:
            try:
                yield
            except sqlite3.IntegrityError:
                raise
            except (sqlite3.Error, OSError) as e:
                what, help_ = f"journal {self._path}: {e}", "see to the disk, then hotbank recover"
                raise MachineError(what, code=Code.SYSTEM_ERROR, remedy=help_) from e


def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _columns(before: Before) -> tuple[Any, ...]:
    """The columns of the table from ``verb`` to ``found``."""
    found = {"banks": before.banks, "domains": before.domains, "blocks": before.blocks}
    targets = json.dumps(before.targets)
    head = (before.verb, targets, before.boot_id, before.machine, before.cause, int(before.keep_partial))
    return (*head, before.planned, json.dumps(encode(found)))


def _is_whole(db: sqlite3.Connection) -> bool:
    """Whether SQLite can read all of the file. Raises sqlite3.Error when that can't be known."""
    try:
        return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.DatabaseError as e:
        if e.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return False
        raise


def _entry(row: dict[str, Any], acts: list[dict[str, Any]]) -> Entry:
    """What a row of the table says: it comes from outside, and is damaged if it is not what is written here."""
    try:
        for text in (value for values in (row, *acts) for value in values.values() if isinstance(value, str)):
            text.encode()
        before = {name: row[name] for name in ("verb", "boot_id", "machine", "cause", "planned")}
        before |= {"targets": json.loads(row["targets"]), "keep_partial": bool(row["keep_partial"])}
        rest = {name: row[name] for name in ("id", "pid", "began", *_TAIL)}
        document = {**rest, "before": before | json.loads(row["found"]), "rows": acts, "damage": ""}
        entry = decode(Entry, document, "entry")
        if min(entry.before.planned, entry.moved or 0) < 0:
            raise ValueError("fewer pages than none")
        return entry
    except (TypeError, ValueError, RecursionError, ProtocolError) as e:
        return _damaged(row, str(e))


def _damaged(row: dict[str, Any], why: str) -> Entry:
    """What is left of a row: whether it is open, and of which boot."""
    texts = {name: row[name] if isinstance(row[name], str) else "" for name in ("verb", "boot_id")}
    before = Before(texts["verb"] or "?", (), texts["boot_id"])
    pid = row["pid"] if is_whole(row["pid"]) else 0
    code = None if row["code"] is None else Code.DAMAGED
    return Entry(row["id"], pid, before, finite(row["began"]) or 0.0, code=code, ended=finite(row["ended"]), damage=why)


# Schema 1: an entry was of one target, and ``pages`` were the planned ones of the steps that were done.


@dataclass(frozen=True, slots=True)
class _Before1:
    verb: str
    target: str
    boot_id: str
    bank: str | None
    domain: str | None
    kernel: KernelState | None
    power: Power | None
    blocks: tuple[BlockBefore, ...]

    def today(self, planned: int) -> Before:
        banks = (BankBefore(self.bank, self.kernel, self.domain),) if self.bank and self.kernel else ()
        domains = (DomainBefore(self.domain, self.power),) if self.domain and self.power else ()
        return Before(self.verb, (self.target,), self.boot_id, None, banks, domains, self.blocks, planned)


def take_over_schema_1(db: sqlite3.Connection) -> None:
    """Rewrite the entries of a file of schema 1, within the transaction that is open. The acts are the same."""
    db.execute("DROP INDEX one_open")
    db.execute(_ENTRY.format(name="entry_2"))
    insert = _insert("entry_2", ("id", *_HEAD, *_TAIL))
    columns = "SELECT id, pid, before, began, code, pages, ended FROM entry ORDER BY id"
    for number, pid, text, began, code, pages, ended in db.execute(columns).fetchall():
        before = _read_schema_1(number, text).today(pages)
        db.execute(insert, (number, pid, *_columns(before), began, ended, code, None))
    db.execute("DROP TABLE entry")
    db.execute("ALTER TABLE entry_2 RENAME TO entry")


def _read_schema_1(number: int, text: str) -> _Before1:
    try:
        return decode(_Before1, json.loads(text), "before")
    except (ValueError, RecursionError, ProtocolError) as e:
        what = f"transaction {number} of a journal of schema 1 can't be read: {e}"
        raise MachineError(what, code=Code.DAMAGED, remedy=remedy(Code.DAMAGED)) from e
