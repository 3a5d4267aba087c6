# SPDX-License-Identifier: Apache-2.0
"""What an owner answers beyond its machine: to clients, and to the worker that carries an order out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hotbank.calls import table
from hotbank.errors import HotbankError
from hotbank.operate import Entry, Event, Journal, Limits, Outcome


@dataclass(frozen=True, slots=True)
class Order:
    """What a client wants done: ``verb`` is ``remove``, ``add`` or ``recover``.

    ``targets``: banks and blocks, together one transaction. ``blocks``: the numbers of those that a plan was made of,
    None when none was: with others now it is refused (CHANGED).
    """

    verb: str
    targets: tuple[str, ...]
    limits: Limits
    force: bool = False
    keep_partial: bool = False
    blocks: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return " ".join((self.verb, ", ".join(self.targets))).rstrip()


class OwnerCalls(Protocol):
    """What clients may ask of an owner."""

    def order(self, order: Order) -> Outcome | None:
        """Have it carried out; its events come before the answer. None: there was nothing to recover."""
        ...

    def history(self) -> tuple[Entry, ...]:
        """The journal, oldest transaction first."""
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


OWNER = table("owner", OwnerCalls, reads={"history"})
JOURNAL = table("journal", Journal)
JOB = table("job", JobCalls)
