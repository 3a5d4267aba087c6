# SPDX-License-Identifier: Apache-2.0
"""The folder of results: what is in it is not run again.

``kept.jsonl`` has each row as it came, a line each, and is only ever appended to; a line that was cut is dropped.
``runs.jsonl`` and ``runs.csv`` have those of the sweep in its own order, so that the same sweep comes to the same bytes
however it was carried out. One sweep at a time works on a folder.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hotbank.errors import Code, FormatError, Refusal
from hotbank.regular import open_regular, read_open
from hotbank.sweep.run import Row

COLUMNS = ("run", "subject", "member", "load", "policy", "settings", "seed")
_FORM, _LARGEST = "kept rows", 8 << 30


class Store:
    """Open on a folder until closed. ``rows``: all that are kept, by run."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Makes the folder. Raises Refusal(BUSY_TRANSACTION), FormatError, OSError."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = open_regular(self.folder / "kept.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, mode=0o666)
        try:
            self._lock()
            self.rows: dict[str, Row] = {row["run"]: row for row in self._read()}
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._file)

    def keep(self, rows: Iterable[Row]) -> None:
        """Write rows down; they are on the disk when this returns."""
        fresh = {row["run"]: row for row in rows if row["run"] not in self.rows}
        if fresh:
            _write_all(self._file, b"".join(map(_line, fresh.values())))
            os.fsync(self._file)
            self.rows |= fresh

    def write(self, runs: Iterable[str]) -> list[Row]:
        """Those of these runs that are there, in their order, as ``runs.jsonl`` and ``runs.csv``."""
        found = [self.rows[run] for run in runs if run in self.rows]
        replace_file(self.folder / "runs.jsonl", b"".join(map(_line, found)))
        replace_file(self.folder / "runs.csv", table(found).encode())
        return found

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            what = f"{self.folder}: another sweep is at work in it"
            raise Refusal(Code.BUSY_TRANSACTION, what, remedy="wait for it, or name another folder") from e

    def _read(self) -> Iterator[Row]:
        """All whole lines; what follows the last of them is cut off."""
        data = read_open(self._file, _LARGEST) or b""
        whole = data.rfind(b"\n") + 1
        os.ftruncate(self._file, whole)
        for number, line in enumerate(data[:whole].splitlines(), 1):
            yield _row(line, f"{self.folder / 'kept.jsonl'}, line {number}")


def _row(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise FormatError(_FORM, 0, where, "no JSON") from e
    if not isinstance(row, dict) or not isinstance(row.get("run"), str):
        raise FormatError(_FORM, 0, where, "no row of a sweep")
    return row


def _line(row: Row) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def table(rows: Iterable[Row]) -> str:
    """The rows as CSV, a figure a column."""
    flat = [_flat(row) for row in rows]
    columns = dict.fromkeys((*COLUMNS, *(name for row in flat for name in row)))
    out = io.StringIO()
    writer = csv.DictWriter(out, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: row[name] for name in COLUMNS}, "settings": " ".join(row["settings"]), **row["figures"]}


def replace_file(path: Path, data: bytes) -> None:
    """The file is there whole or as it was. Raises OSError."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
