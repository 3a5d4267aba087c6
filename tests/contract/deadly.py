# SPDX-License-Identifier: Apache-2.0
"""A journal at one of whose writes somebody dies, and a process that owns a host and dies there.

Run as ``deadly.py BOARD ROOT FOLDER VERB AT WHEN``: VERB on both banks of the host below ROOT, which has that BOARD,
with the journal in FOLDER; this process ends with SIGKILL at the write number AT. The host is a mounted model, which
outlives it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hotbank import board, serve
from hotbank.errors import Code, MachineError
from hotbank.host import Host
from hotbank.operate import Before, Entry
from hotbank.operate.journal import OwnersJournal
from hotbank.serve import local
from hotbank.serve.owner import Owner
from hotbank.serve.state import journal_in

BOTH = ("high", "mate")  # the banks of either board that may leave
T = TypeVar("T")


@dataclass
class Deadly:
    """``strike`` is called at the write number ``at``: ``before`` it is made, which then never is, or ``after``."""

    journal: OwnersJournal
    at: int
    when: str
    strike: Callable[[], None]
    names: list[str] = field(default_factory=list)

    def begin(self, before: Before) -> int:
        return self._write("begin", lambda: self.journal.begin(before))

    def intend(self, entry: int, step: str, target: str) -> int:
        return self._write("intend", lambda: self.journal.intend(entry, step, target))

    def result(self, entry: int, row: int, code: Code, errno: int | None) -> None:
        self._write("result", lambda: self.journal.result(entry, row, code, errno))

    def close(self, entry: int, code: Code, moved: int | None) -> None:
        self._write("close", lambda: self.journal.close(entry, code, moved))

    def unfinished(self) -> Entry | None:
        return self.journal.unfinished()

    def claim(self) -> bool:
        return self.journal.claim()

    def alone(self) -> AbstractContextManager[None]:
        return self.journal.alone()

    def let_go(self) -> None:
        self.journal.let_go()

    def entries(self, before: int | None = None, most: int | None = None) -> tuple[Entry, ...]:
        return self.journal.entries(before, most)

    def _write(self, name: str, write: Callable[[], T]) -> T:
        mine = len(self.names) == self.at
        self.names.append(name)
        if mine and self.when == "before":
            self.strike()
            raise MachineError("nobody is there to write")
        done = write()
        if mine:
            self.strike()
        return done


def points(names: list[str]) -> list[tuple[int, str]]:
    """Every point of a transaction that made these writes: before each write, and between each intent and its act."""
    return [(n, "before") for n in range(len(names))] + [
        (n, "after") for n, name in enumerate(names) if name == "intend"
    ]


def board_of(name: str) -> board.Board:
    """``pair``: both banks in one domain; ``apart``: in two; ``aside``: as ``pair``, by a route that vetoes no zone."""
    return board.load(str(Path(__file__).with_name(f"{name}.toml")))


def host(name: str, root: Path) -> Host:
    """The host with the board of that name, below the root."""
    return Host(root, board_of(name))


def main(name: str, root: Path, folder: Path, verb: str, at: int, when: str) -> None:
    """Own it, do it, die."""
    journal = journal_in(folder, "host")
    machine = host(name, root)
    machine.writers.keep(journal.writers_keep)
    deadly = Deadly(journal, at, when, lambda: os.kill(os.getpid(), signal.SIGKILL))
    client = local.attached(Owner(machine, journal=deadly))
    outcome = serve.remove(client, *BOTH, force=True) if verb == "remove" else serve.add(client, *BOTH)
    print(outcome)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]), sys.argv[6])
