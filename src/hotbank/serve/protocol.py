# SPDX-License-Identifier: Apache-2.0
"""What an owner answers beyond its machine: to clients, and to the worker that carries an order out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hotbank.calls import table
from hotbank.errors import HotbankError
from hotbank.govern.status import Governed, Orders, Status
from hotbank.machine import Reading
from hotbank.memory import Power
from hotbank.operate import Before, Entry, Event, Journal, Limits, Outcome
from hotbank.operate.journal import PERSON


@dataclass(frozen=True, slots=True)
class Order:
    """What a client wants done: ``verb`` is ``remove``, ``add``, ``power`` or ``recover``.

    ``targets``: banks and blocks, together one transaction; of ``power`` one domain, which is to go to ``want``.
    ``found``: what a plan was made of, None when none was: when the machine is not that any more, it is refused
    (CHANGED). ``forget``: of ``recover``, the id of a transaction that can't be read. ``cause``: who ordered it.
    """

    verb: str
    targets: tuple[str, ...]
    limits: Limits
    force: bool = False
    keep_partial: bool = False
    found: Before | None = None
    forget: int | None = None
    want: Power | None = None
    cause: str = PERSON

    def __str__(self) -> str:
        return " ".join((self.verb, ", ".join(self.targets))).rstrip()


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened on the machine. ``seq`` counts them; ``at``: seconds since 1970.

    ``order``: what it is part of, such as ``remove high``, or the primitive that a client called; ``pid``: of the
    process that carried it out. ``event`` as the one who ordered it gets it.
    """

    seq: int
    at: float
    order: str
    pid: int
    event: Event


@dataclass(frozen=True, slots=True)
class News:
    """Happenings, the oldest first. ``next``: the number to ask from next.

    ``missed``: how many that were asked for are kept no more; None when that can't be known: the number comes from an
    owner before this one, and these are all that are kept.
    """

    happenings: tuple[Happening, ...]
    next: int
    missed: int | None = 0


@dataclass(frozen=True, slots=True)
class History:
    """A part of the journal, the oldest transaction first. ``more``: there are older ones."""

    entries: tuple[Entry, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What a governor sees, and what it was told meanwhile."""

    reading: Reading
    orders: Orders


class OwnerCalls(Protocol):
    """What clients may ask of an owner."""

    def order(self, order: Order) -> Outcome | None:
        """Have it carried out; its events come before the answer. None: there was nothing to recover."""
        ...

    def history(self, before: int | None) -> History:
        """The newest transactions of the journal, or the newest that are older than the one of that id: so many as
        cost an owner little."""
        ...

    def events(self, since: int | None, wait: float) -> News:
        """What happens, whoever ordered it, from that number on (None: from now on), as soon as there is something.
        Many are told in several answers: ``next`` goes on.

        ``wait``: seconds of wall time until the answer is that there is nothing, 30 at most.
        """
        ...

    def governed(self) -> Governed:
        """What the machine's governor told last, what it was told, and whether it is there."""
        ...

    def govern(self, status: Status) -> Orders:
        """A governor tells of its look, and hears what it was told. Refused while another one governs."""
        ...

    def look(self, status: Status) -> Look:
        """A governor tells of its look before, and looks again: all of a look that finds nothing to do, in one
        question."""
        ...

    def pause(self, why: str) -> None:
        """Have whoever governs take nothing, from now on and after a restart; what it took still comes back."""
        ...

    def resume(self) -> None:
        """Have it go on, whatever paused it."""
        ...

    def stop(self) -> None:
        """End the owner. Refused while something runs."""
        ...


class JobCalls(Protocol):
    """What a worker asks of the job that started it, and tells it."""

    def order(self) -> Order:
        """What is to be done."""
        ...

    def began(self) -> float:
        """When it was ordered, on the machine's clock."""
        ...

    def interrupted(self) -> bool:
        """True once it is to be given up."""
        ...

    def event(self, event: Event) -> None:
        """Tell the followers."""
        ...

    def done(self, outcome: Outcome | None) -> None:
        """It ended so."""
        ...

    def failed(self, error: HotbankError) -> None:
        """It raised that."""
        ...


OWNER = table("owner", OwnerCalls, reads={"history", "events", "governed"})
JOURNAL = table("journal", Journal)
JOB = table("job", JobCalls)
