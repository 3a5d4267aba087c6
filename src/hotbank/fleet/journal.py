# SPDX-License-Identifier: Apache-2.0
"""The fleet's own journal: who was asked what, and what came of it; a JSON document a line, only ever appended to.

A line is on the disk before a machine is asked and after it has answered, so that whoever goes on after a crash knows
whom to ask what became of it. One operator at a time has it open.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from hotbank.appended import Appended, as_line
from hotbank.errors import Code
from hotbank.fleet.asking import Reply
from hotbank.wire import decode

_LARGEST = 1 << 30  # bytes
_HEAD: Mapping[str, Any] = {"verb": str, "words": tuple[str, ...], "machines": tuple[str, ...], "dark": int | None}
_CAME: Mapping[str, Any] = {"code": Code, "exit": int, "message": str, "certain": bool}


@dataclass(slots=True)
class Begun:
    """An order as far as it went. ``asked``: by machine, the number of its own last transaction before, None where it
    had none; ``came``: by machine, what came of it."""

    order: str
    verb: str
    words: tuple[str, ...]
    machines: tuple[str, ...]
    dark: int | None
    asked: dict[str, int | None] = field(default_factory=dict)
    came: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def knows(self, name: str) -> bool:
        """Whether a machine has its outcome, and it is certain."""
        return name in self.came and bool(self.came[name]["certain"])

    @property
    def unsure(self) -> set[str]:
        """Who was asked, and may have done it or not."""
        return {name for name in self.asked if not self.knows(name)}

    @property
    def done(self) -> bool:
        """Every machine has its outcome, and it is certain."""
        return all(map(self.knows, self.machines))


class Journal:
    """Open until closed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Makes the file. Raises Refusal(BUSY_TRANSACTION), FormatError, OSError."""
        self.orders = dict[str, Begun]()
        self._file = Appended(Path(path), "fleet journal", "at", _LARGEST, partial(_take, self.orders))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._file.__exit__(kind, e, tb)

    @property
    def open(self) -> Begun | None:
        """The last order, if it is not done."""
        last = next(reversed(self.orders.values()), None)
        return None if last is None or last.done else last

    def begin(self, verb: str, words: Sequence[str], machines: Sequence[str], dark: int | None) -> Begun:
        """A new order."""
        begun = Begun(uuid.uuid4().hex[:12], verb, tuple(words), tuple(machines), dark)
        head = {"verb": verb, "words": list(words), "machines": list(machines), "dark": dark}
        self._write(begun, "begun", head)
        self.orders[begun.order] = begun
        return begun

    def asking(self, begun: Begun, machine: str, last: int | None) -> None:
        """A machine is about to be asked; ``last``: number of its last transaction."""
        self._write(begun, "asked", {"machine": machine, "last": last})
        begun.asked[machine] = last

    def told(self, begun: Begun, reply: Reply) -> None:
        """What came of it."""
        row = {"machine": reply.member.name, "code": reply.code.value, "exit": reply.exit}
        row |= {"message": reply.message, "certain": reply.certain}
        self._write(begun, "came", row)
        begun.came[reply.member.name] = row

    def _write(self, begun: Begun, event: str, more: Mapping[str, Any]) -> None:
        row = {"at": round(time.time(), 6), "order": begun.order, "event": event, **more}
        self._file.append(as_line(row))


def _take(found: dict[str, Begun], row: Mapping[str, Any]) -> None:
    order = row["order"]
    if row["event"] == "begun":
        head = (decode(hint, row[name]) for name, hint in _HEAD.items())
        found[order] = Begun(order, *head)
    elif row["event"] == "asked":
        found[order].asked[row["machine"]] = decode(int | None, row["last"])
    else:
        found[order].came[row["machine"]] = {name: decode(hint, row[name]) for name, hint in _CAME.items()}
