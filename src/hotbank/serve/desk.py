# SPDX-License-Identifier: Apache-2.0
"""Where a machine's governor tells of its looks and hears what it was told; kept in files, so that both outlive it.

Two files beside the journal, which they never touch: NAME.auto has the last status and what was said, NAME.wishes a
line for each look that did something or wished for something else.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hotbank.errors import Code, HotbankError, MachineError, Refusal
from hotbank.govern.guard import State
from hotbank.govern.status import Governed, Orders, Status
from hotbank.regular import read_regular
from hotbank.wire import decode, encode

_LARGEST, _LONG = 4 << 20, 8 << 20  # bytes of the two files; the older half of a longer one goes
_SILENT, _DELAYED = 3.0, 6.0  # periods and seconds without a word: after both a governor is gone
_WORDS = 200  # characters of a reason


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is in the file. ``owner``: the process that wrote it."""

    status: Status | None = None
    orders: Orders = field(default_factory=Orders)
    owner: int = 0


class Desk:
    """One machine's. ``folder``: of its files; None: in memory, as long as the owner lives. ``closed``: why no governor
    may change the machine; empty where one may. ``at_work``: whether an order of a governor is being carried out, which
    tells nothing meanwhile.
    """

    def __init__(self, name: str = "", folder: Path | None = None, *, closed: str = "") -> None:
        self.at_work: Callable[[], bool] = lambda: False
        self._closed = closed
        self._lock = threading.Lock()
        self._file = None if folder is None else folder / f"{name}.auto"
        self._wishes = None if folder is None else folder / f"{name}.wishes"
        self._kept = _Kept() if self._file is None else _read(self._file)

    def governed(self) -> Governed:
        """What was told last, what was said, and whether whoever told it is there."""
        kept = self._kept
        return Governed(kept.status, kept.orders, kept.status is not None and self._is_there(kept.status))

    def admit(self) -> None:
        """Raise Refusal(NOT_PERMITTED) where nobody may govern."""
        if self._closed:
            what = f"nobody may govern this machine: {self._closed}"
            raise Refusal(Code.NOT_PERMITTED, what, remedy="write it above the first [table], or use --dry-run")

    def govern(self, status: Status) -> Orders:
        """A look. Raises Refusal(BUSY_TRANSACTION) while another one governs, Refusal(NOT_PERMITTED)."""
        self.admit()
        with self._lock:
            before = self._kept.status
            if before is not None and before.who != status.who and self._is_there(before):
                what = f"pid {before.pid} governs this machine by {before.policy}"
                remedy = f"end that one first; if it is gone, try again in {_patience(before):g} s"
                raise Refusal(Code.BUSY_TRANSACTION, what, remedy=remedy)
            now = replace(status, at=time.time())  # by one clock, whoever tells it
            self._keep(replace(self._kept, status=now), lasting=before is None or lasts_of(before) != lasts_of(now))
            if before is None or now.deeds or (before.wish, before.blind) != (now.wish, now.blind):
                self._write_down(now)
            return self._kept.orders

    def pause(self, why: str) -> None:
        """Nothing is taken from the next look on."""
        with self._lock:
            self._keep(replace(self._kept, orders=replace(self._kept.orders, paused=why[:_WORDS] or "asked for")))

    def resume(self) -> None:
        """It goes on."""
        with self._lock:
            status = self._kept.status
            if status is not None:
                status = replace(status, state=replace(status.state, paused="", expected=None))
            self._keep(replace(self._kept, status=status, orders=Orders("", self._kept.orders.resumes + 1)))

    def _is_there(self, status: Status) -> bool:
        """Whether who told it so lately may tell more, or has an order carried out."""
        return self.at_work() or 0 <= time.time() - status.at < _patience(status)

    def _keep(self, kept: _Kept, *, lasting: bool = True) -> None:
        self._kept = kept
        if self._file is None or not lasting:
            return
        beside = self._file.with_suffix(".auto.new")
        try:
            with beside.open("w", encoding="ascii") as file:
                json.dump(encode(replace(kept, owner=os.getpid())), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._file)
        except OSError as e:
            raise MachineError(
                f"{self._file}: {e.strerror}",
                code=Code.SYSTEM_ERROR,
                remedy="what was said would not survive a restart",
            ) from e

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


def _patience(status: Status) -> float:
    """Seconds in which who told it tells more, however busy the machine is; none of who said that it has ended."""
    return max(_SILENT * status.period, _DELAYED) if status.period else 0.0


def lasts_of(status: Status) -> Any:
    """What has to survive a restart."""
    return status.policy, status.who, status.period, replace(status.state, at=None, used=0)


def _filled(found: Any) -> Any:
    """With what a state of a version before lacks as it is before the first look."""
    status = found.get("status") if isinstance(found, dict) else None
    state = status.get("state") if isinstance(status, dict) else None
    if not isinstance(status, dict) or not isinstance(state, dict):
        return found
    return found | {"status": status | {"state": encode(State()) | state}}


def _read(file: Path) -> _Kept:
    """What was kept. Of a file that can't be read nobody knows whether it said to pause: then it does. A governor that
    lived in the owner before this one has ended with it."""
    try:
        found: _Kept = decode(_Kept, _filled(json.loads(read_regular(file, _LARGEST))))
    except FileNotFoundError:
        return _Kept()
    except (OSError, ValueError, RecursionError, HotbankError):
        return _Kept(None, Orders(f"{file.name} can't be read, so what it said is not known"))
    if found.status is not None and found.status.pid == found.owner:
        return replace(found, status=replace(found.status, period=0.0))
    return found
