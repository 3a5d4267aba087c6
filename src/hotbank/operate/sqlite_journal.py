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
from pathlib import Path
from typing import Any

from hotbank.errors import Code, MachineError
from hotbank.operate.journal import Before, Entry, Row, busy
from hotbank.wire import decode, encode

_TABLES = """
PRAGMA synchronous = FULL;
BEGIN;
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, boot_id TEXT NOT NULL, before TEXT NOT NULL,
    began REAL NOT NULL, code TEXT, pages INTEGER NOT NULL DEFAULT 0, ended REAL
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open ON entry (code IS NULL) WHERE code IS NULL;
CREATE TABLE IF NOT EXISTS act (
    entry INTEGER NOT NULL REFERENCES entry, number INTEGER NOT NULL, step TEXT NOT NULL, target TEXT NOT NULL,
    code TEXT, errno INTEGER, began REAL NOT NULL, ended REAL, PRIMARY KEY (entry, number)
);
COMMIT;
"""
_PATIENCE, _ASK_EVERY = 5.0, 0.01  # seconds of wall time: for another process's write, and for its last breath


class SqliteJournal:
    """A journal in a file that only its user can read. ``now``: seconds since 1970.

    Every call raises MachineError when the file can't be read or written.
    """

    def __init__(self, path: str | os.PathLike[str], *, now: Callable[[], float] = time.time) -> None:
        self._path, self._now, self._lock = Path(path), now, threading.Lock()
        with self._file():
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            self._db.executescript(_TABLES)
            self._held = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    @property
    def writers_keep(self) -> int:
        """The descriptor that every process which writes to the machine must hold open."""
        return self._held

    def close_file(self) -> None:
        """Let go of the files."""
        self._db.close()
        os.close(self._held)

    def begin(self, before: Before) -> int:
        """Open a transaction; its id. Raises Refusal(BUSY_TRANSACTION) while another one is open."""
        values = (os.getpid(), before.boot_id, json.dumps(encode(before)), self._now())
        while not self._lock_file():
            self._refuse_if_open()
            time.sleep(_ASK_EVERY)  # it has just ended: its process is about to let go
        try:
            return self._write("INSERT INTO entry (pid, boot_id, before, began) VALUES (?, ?, ?, ?)", *values)
        except sqlite3.IntegrityError:
            self._refuse_if_open()
            raise

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

    def _lock_file(self) -> bool:
        with self._file(), suppress(BlockingIOError):
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _unlock_file(self) -> None:
        with self._file():
            fcntl.flock(self._held, fcntl.LOCK_UN)

    def intend(self, entry: int, step: str, target: str) -> int:
        """Write down an act before it is done; the row's number."""
        number = int(self._rows("SELECT count(*) FROM act WHERE entry = ?", entry)[0][0])
        values = (entry, number, step, target, self._now())
        self._write("INSERT INTO act (entry, number, step, target, began) VALUES (?, ?, ?, ?, ?)", *values)
        return number

    def result(self, entry: int, row: int, code: Code, errno: int | None) -> None:
        """Write down what came of an act."""
        values = (code.value, errno, self._now(), entry, row)
        self._write("UPDATE act SET code = ?, errno = ?, ended = ? WHERE entry = ? AND number = ?", *values)

    def close(self, entry: int, code: Code, pages: int) -> None:
        """End the transaction."""
        values = (code.value, pages, self._now(), entry)
        self._write("UPDATE entry SET code = ?, pages = ?, ended = ? WHERE id = ?", *values)
        self._unlock_file()

    def unfinished(self) -> Entry | None:
        """The open transaction, or None."""
        return next(iter(self._entries("WHERE code IS NULL")), None)

    def entries(self) -> tuple[Entry, ...]:
        """All transactions, oldest first."""
        return tuple(self._entries("ORDER BY id"))

    def _entries(self, which: str) -> Iterator[Entry]:
        columns = "SELECT id, pid, before, began, code, pages, ended FROM entry "
        for number, pid, before, began, code, pages, ended in self._rows(columns + which):
            found = decode(Before, json.loads(before), "before")
            yield Entry(number, pid, found, began, self._acts(number), Code(code) if code else None, pages, ended)

    def _acts(self, entry: int) -> tuple[Row, ...]:
        columns = "SELECT step, target, code, errno, began, ended FROM act WHERE entry = ? ORDER BY number"
        rows = self._rows(columns, entry)
        return tuple(Row(s, t, Code(c) if c else None, errno, began, ended) for s, t, c, errno, began, ended in rows)

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
                raise MachineError(f"journal {self._path}: {e}", remedy="see to the disk, then hotbank recover") from e
