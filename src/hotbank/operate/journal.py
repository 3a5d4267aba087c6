# SPDX-License-Identifier: Apache-2.0
"""The journal: what a transaction found, what it intended before each act, and what came of it.

One transaction is open at a time. An open one whose process is gone is what ``recover`` settles. Times are
seconds since 1970, because rows outlive a boot; each carries the boot id it was written under. An owner's signs of life
stand between the transactions.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from hotbank.errors import Code, HotbankError, Refusal
from hotbank.machine import Machine, Snapshot
from hotbank.memory import BlockState, KernelState, Power
from hotbank.operate.reasons import code_of, errno_of, remedy

PERSON, GOVERNOR = "person", "governor"  # who orders a transaction
START, STOP = "start", "stop"  # verbs of the entries that an owner makes when it begins and before it ends


@dataclass(frozen=True, slots=True)
class BlockBefore:
    """A block as the transaction found it; ``zone`` None when it was offline."""

    number: int
    state: BlockState
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class BankBefore:
    """A bank as the transaction found it, and the power domain that it is in."""

    name: str
    kernel: KernelState
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class DomainBefore:
    """A power domain as the transaction found it; ``unknown`` when its switch could not say."""

    name: str
    power: Power


@dataclass(frozen=True, slots=True)
class Before:
    """What a transaction is to do, and what it found: enough to put it back.

    ``targets``: banks and blocks by name. ``machine``: None where an old journal does not say. ``banks``: those that it
    takes or brings, and those that its blocks are in. ``planned``: pages expected to move. ``cause``: who ordered it,
    ``person`` or ``governor``.
    """

    verb: str
    targets: tuple[str, ...]
    boot_id: str
    machine: str | None = None
    banks: tuple[BankBefore, ...] = ()
    domains: tuple[DomainBefore, ...] = ()
    blocks: tuple[BlockBefore, ...] = ()
    planned: int = 0
    cause: str = PERSON
    keep_partial: bool = False

    @property
    def target(self) -> str:
        """All targets in words."""
        return ", ".join(self.targets)


@dataclass(frozen=True, slots=True)
class Row:
    """One act: its intent, and its result once there is one. ``code`` None: not known to have been done."""

    step: str
    target: str
    code: Code | None = None
    errno: int | None = None
    began: float = 0.0
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction. ``code`` None while it is open; ``pid``: of the process that does it.

    ``moved``: pages that the machine migrated during its offlines, None when the machine does not count them.
    ``damage``: why the rest of it says little: what is written down can't be read. Then a closed one is ``DAMAGED``.
    """

    id: int
    pid: int
    before: Before
    began: float
    rows: tuple[Row, ...] = ()
    code: Code | None = None
    moved: int | None = None
    ended: float | None = None
    damage: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it is open, and where nobody knows when it began."""
        return self.ended - self.began if self.ended is not None and self.began else None

    @property
    def is_sign(self) -> bool:
        """True for a sign of life: no transaction, only what an owner found."""
        return self.before.verb in (START, STOP)


class Journal(Protocol):
    """Where transactions are written down. Thread-safe."""

    def begin(self, before: Before) -> int:
        """Open a transaction; its id. Raises Refusal(BUSY_TRANSACTION) while another one is open."""
        ...

    def intend(self, entry: int, step: str, target: str) -> int:
        """Write down an act before it is done; the row's number."""
        ...

    def result(self, entry: int, row: int, code: Code, errno: int | None) -> None:
        """Write down what came of an act."""
        ...

    def close(self, entry: int, code: Code, moved: int | None) -> None:
        """End the transaction. ``moved``: pages, None when unknown."""
        ...

    def unfinished(self) -> Entry | None:
        """The open transaction, or None."""
        ...

    def claim(self) -> bool:
        """Take over the open transaction; False while its own process, or one that writes for it, lives."""
        ...

    def entries(self, before: int | None = None, most: int | None = None) -> tuple[Entry, ...]:
        """Transactions, oldest first: the last so many of those that came before the one of that id; None: of all."""
        ...


class OwnersJournal(Journal, Protocol):
    """What an owner keeps, and who else may come to own the machine."""

    def alone(self) -> AbstractContextManager[None]:
        """While something is done that is not written down; where that ends with CancelPending, until ``let_go``.

        Raises Refusal(BUSY_TRANSACTION) while another process changes the machine, or one that an owner before this one
        left behind still may.
        """
        ...

    def let_go(self) -> None:
        """What was pending has ended, and no transaction is open."""
        ...


@dataclass
class MemoryJournal:
    """A journal that lives as long as its process. ``now``: seconds since 1970; ``pid``: whose acts these are."""

    now: Callable[[], float] = time.time
    pid: int = field(default_factory=os.getpid)
    _entries: list[Entry] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, before: Before) -> int:
        """Open a transaction; its id. Raises Refusal(BUSY_TRANSACTION) while another one is open."""
        with self._lock:
            if self._entries and self._entries[-1].code is None:
                raise busy(self._entries[-1])
            number = len(self._entries)
            self._entries.append(Entry(number, self.pid, before, self.now()))
            return number

    def intend(self, entry: int, step: str, target: str) -> int:
        """Write down an act before it is done; the row's number."""
        with self._lock:
            old = self._entries[entry]
            self._entries[entry] = replace(old, rows=(*old.rows, Row(step, target, began=self.now())))
            return len(old.rows)

    def result(self, entry: int, row: int, code: Code, errno: int | None) -> None:
        """Write down what came of an act."""
        with self._lock:
            rows = list(self._entries[entry].rows)
            rows[row] = replace(rows[row], code=code, errno=errno, ended=self.now())
            self._entries[entry] = replace(self._entries[entry], rows=tuple(rows))

    def close(self, entry: int, code: Code, moved: int | None) -> None:
        """End the transaction. ``moved``: pages, None when unknown."""
        with self._lock:
            self._entries[entry] = replace(self._entries[entry], code=code, moved=moved, ended=self.now())

    def unfinished(self) -> Entry | None:
        """The open transaction, or None."""
        with self._lock:
            return self._entries[-1] if self._entries and self._entries[-1].code is None else None

    def claim(self) -> bool:
        """Its process is this one."""
        return True

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else has it."""
        return nullcontext()

    def let_go(self) -> None:
        """Nobody else waits for it."""

    def entries(self, before: int | None = None, most: int | None = None) -> tuple[Entry, ...]:
        """See Journal."""
        with self._lock:
            end = len(self._entries) if before is None else max(0, min(before, len(self._entries)))
            return tuple(self._entries[0 if most is None else max(0, end - most) : end])


def busy(entry: Entry) -> Refusal:
    """The refusal that names the transaction in the way."""
    code = Code.BUSY_TRANSACTION
    what = f"{entry.before.verb} {entry.before.target} of pid {entry.pid} is not finished"
    return Refusal(code, what, remedy=remedy(code))


def left_behind() -> Refusal:
    """The refusal that names nobody: an owner is at work without a transaction, or has left somebody who may be."""
    code = Code.BUSY_TRANSACTION
    return Refusal(code, "another process may still change the machine", remedy=remedy(code))


def sign_of_life(journal: Journal, verb: str, now: Snapshot) -> None:
    """Write down that the machine is up, and how its domains are: what is known of the time between transactions.

    Raises Refusal(BUSY_TRANSACTION), MachineError.
    """
    domains = tuple(DomainBefore(domain.name, domain.power) for domain in now.domains)
    journal.close(journal.begin(Before(verb, (), now.boot_id, now.machine, domains=domains)), Code.OK, None)


@dataclass(frozen=True, slots=True)
class Journaled:
    """A machine to which one thing at a time is done: intent into the journal, the act, its result into the journal.

    ``regardless``: act although the journal can't be written. For putting things back that is right: the entry stays
    open, and whoever finds it trusts the machine. ``reason``: the code of an act that failed.
    """

    machine: Machine
    journal: Journal
    entry: int
    regardless: bool = False
    reason: Callable[[HotbankError], Code] = code_of

    @contextmanager
    def __call__(self, step: str, target: str) -> Iterator[Machine]:
        """The machine, between the written intent and the written result."""
        row = self._intend(step, target)
        try:
            yield self.machine
        except HotbankError as e:
            self._result(row, self.reason(e), errno_of(e))
            raise
        self._result(row, Code.OK, None)

    def settled_for(self, reached: Power, want: Power, domain: str) -> None:
        """Write down the state that a domain went to where it would not go to the one that was meant."""
        if reached is not want:
            self._result(self._intend(reached, domain), Code.OK, None)

    def _intend(self, step: str, target: str) -> int | None:
        try:
            return self.journal.intend(self.entry, step, target)
        except HotbankError:
            if not self.regardless:
                raise
            return None

    def _result(self, row: int | None, code: Code, errno: int | None) -> None:
        if row is None:
            return
        try:
            self.journal.result(self.entry, row, code, errno)
        except HotbankError:
            if not self.regardless:
                raise
