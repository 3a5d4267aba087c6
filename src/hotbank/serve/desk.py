# SPDX-License-Identifier: Apache-2.0
"""Where a machine's governor tells of its looks and hears what it was told; kept in files, so that both outlive it.

Two files beside the journal, which they never touch: NAME.auto has the last status and what was said, NAME.wishes a
line for each look that did something or wished for something else.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hotbank.errors import Code, HotbankError, MachineError, Refusal
from hotbank.govern.status import Orders, Status
from hotbank.regular import read_regular
from hotbank.wire import decode, encode

_LARGEST, _LONG = 4 << 20, 8 << 20  # bytes of the two files; the older half of a longer one goes
_SILENT = 3.0  # periods without a word: then a governor is gone


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is in the file."""

    status: Status | None = None
    orders: Orders = field(default_factory=Orders)


class Desk:
    """One machine's. ``folder``: of its files; None: in memory, as long as the owner lives. ``closed``: why no governor
    may change the machine; empty where one may."""

    def __init__(self, name: str = "", folder: Path | None = None, *, closed: str = "") -> None:
        self._closed = closed
        self._lock = threading.Lock()
        self._file = None if folder is None else folder / f"{name}.auto"
        self._wishes = None if folder is None else folder / f"{name}.wishes"
        self._kept = _Kept() if self._file is None else _read(self._file)

    def governed(self) -> tuple[Status | None, Orders]:
        """What was told last, and what was said."""
        return self._kept.status, self._kept.orders

    def govern(self, status: Status) -> Orders:
        """A look. Raises Refusal(BUSY_TRANSACTION) while another process governs, Refusal(NOT_PERMITTED) where none
        may."""
        if self._closed and not status.dry:
            what = f"{status.policy} may not govern this machine: {self._closed}"
            raise Refusal(Code.NOT_PERMITTED, what, remedy="write it above the first [table], or use --dry-run")
        with self._lock:
            before = self._kept.status
            if before is not None and _governs(before, status):
                what = f"pid {before.pid} governs this machine by {before.policy}"
                raise Refusal(Code.BUSY_TRANSACTION, what, remedy="end that one first; `hotbank auto status` shows it")
            self._keep(replace(self._kept, status=status), lasting=before is None or _told(before) != _told(status))
            if before is None or status.deeds or (before.wish, before.blind) != (status.wish, status.blind):
                self._write_down(status)
            return self._kept.orders

    def pause(self, why: str) -> None:
        """Nothing is taken from the next look on."""
        with self._lock:
            self._keep(replace(self._kept, orders=replace(self._kept.orders, paused=why or "asked for")))

    def resume(self) -> None:
        """It goes on."""
        with self._lock:
            status = self._kept.status
            if status is not None:
                status = replace(status, state=replace(status.state, paused="", expected=None))
            self._keep(_Kept(status, Orders("", self._kept.orders.resumes + 1)))

    def _keep(self, kept: _Kept, *, lasting: bool = True) -> None:
        self._kept = kept
        if self._file is None or not lasting:
            return
        beside = self._file.with_suffix(".auto.new")
        try:
            beside.write_text(json.dumps(encode(kept)), "ascii")
            os.replace(beside, self._file)
        except OSError as e:
            raise MachineError(f"{self._file}: {e.strerror}", remedy="what was said would not survive a restart") from e

    def _write_down(self, status: Status) -> None:
        """A line more. A disk that is full costs the line and nothing else."""
        if self._wishes is None:
            return
        line = {name: value for name, value in encode(status).items() if name not in ("state", "groups", "boot_id")}
        with suppress(OSError):
            if self._wishes.exists() and self._wishes.stat().st_size > _LONG:
                lines = read_regular(self._wishes, 2 * _LONG).splitlines(keepends=True)
                self._wishes.write_bytes(b"".join(lines[len(lines) // 2 :]))
            with self._wishes.open("a", encoding="ascii") as file:
                file.write(json.dumps(line) + "\n")


def desk_in(folder: Path, machine: str) -> Desk:
    """The desk of the machine of that name, beside its journal."""
    return Desk(quote(machine, safe=""), folder)


def _governs(before: Status, status: Status) -> bool:
    """Whether another process told something so lately that it still does."""
    recent = 0 <= status.at - before.at < _SILENT * max(before.period, status.period)
    return before.pid != status.pid and recent and os.path.exists(f"/proc/{before.pid}")


def _told(status: Status) -> Any:
    """What has to survive a restart."""
    return status.policy, replace(status.state, at=None, used=0)


def _read(file: Path) -> _Kept:
    """What was kept; nothing where there is nothing, or nothing that can be read: then everything is looked at anew."""
    try:
        found: _Kept = decode(_Kept, json.loads(read_regular(file, _LARGEST)))
    except (OSError, ValueError, RecursionError, HotbankError):
        return _Kept()
    return found
