# SPDX-License-Identifier: Apache-2.0
"""The folder of results: what is in it is not run again.

``kept.jsonl`` has each row as it came, a line each, and is only ever appended to; a line that was cut is dropped.
``runs.jsonl`` and ``runs.csv`` have those of the sweep in its own order, so that the same sweep comes to the same bytes
however it was carried out. One sweep at a time works on a folder.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hotbank.appended import Appended, as_line
from hotbank.sweep.run import Row

COLUMNS = ("run", "subject", "member", "load", "policy", "settings", "seed")
_LARGEST = 8 << 30  # bytes


class Store:
    """Open on a folder until closed. ``rows``: all that are kept, by run."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Makes the folder. Raises Refusal(BUSY_TRANSACTION), FormatError, OSError."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows = dict[str, Row]()
        kept = self.folder / "kept.jsonl"
        self._file = Appended(kept, "sweep", "schema", _LARGEST, self._take, mode=0o666)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._file.__exit__(kind, e, tb)

    def keep(self, rows: Iterable[Row]) -> None:
        """Write rows down; they are on the disk when this returns."""
        fresh = {row["run"]: row for row in rows if row["run"] not in self.rows}
        if fresh:
            self._file.append(b"".join(map(as_line, fresh.values())))
            self.rows |= fresh

    def write(self, runs: Iterable[str]) -> list[Row]:
        """Those of these runs that are there, in their order, as ``runs.jsonl`` and ``runs.csv``."""
        found = [self.rows[run] for run in runs if run in self.rows]
        replace_file(self.folder / "runs.jsonl", b"".join(map(as_line, found)))
        replace_file(self.folder / "runs.csv", table(found).encode())
        return found

    def _take(self, row: Row) -> None:
        _flat(row)
        self.rows[row["run"]] = row


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
