# SPDX-License-Identifier: Apache-2.0
"""What a client orders of an owner: the owner's worker carries it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from hotbank.calls import asked
from hotbank.operate import Entry, Event, Limits, Outcome
from hotbank.operate.outcome import no_events
from hotbank.remote import AtOwner, Remote
from hotbank.serve.protocol import OWNER, Order, OwnerCalls
from hotbank.wire import decode


def remove(
    machine: Remote,
    target: str | int,
    *,
    limits: Limits | None = None,
    force: bool = False,
    keep_partial: bool = False,
    on_event: Callable[[Event], None] = no_events,
) -> Outcome:
    """Have the owner take a bank out, see ``operate.remove``. ``machine.interrupt()`` interrupts it."""
    order = Order("remove", str(target), limits or Limits(), force, keep_partial)
    outcome = _order(machine, order, on_event)
    assert outcome is not None
    return outcome


def add(
    machine: Remote,
    target: str | int,
    *,
    limits: Limits | None = None,
    keep_partial: bool = False,
    on_event: Callable[[Event], None] = no_events,
) -> Outcome:
    """Have the owner bring a bank in, see ``operate.add``. ``machine.interrupt()`` interrupts it."""
    order = Order("add", str(target), limits or Limits(), False, keep_partial)
    outcome = _order(machine, order, on_event)
    assert outcome is not None
    return outcome


def recover(machine: Remote, *, limits: Limits | None = None) -> Outcome | None:
    """Have the owner settle an open transaction; None when there is none."""
    return _order(machine, Order("recover", "", limits or Limits()), no_events)


def history(machine: Remote) -> tuple[Entry, ...]:
    """The owner's journal, oldest transaction first."""
    return RemoteOwner(machine).history()


class RemoteOwner(AtOwner):
    """What an owner answers beyond its machine."""

    history = asked(OWNER, OwnerCalls.history)
    stop = asked(OWNER, OwnerCalls.stop)

    def order(self, order: Order, on_event: Callable[[Event], None]) -> Outcome | None:
        """Have it carried out, however long that takes; None: there was nothing to recover."""

        def tell(event: dict[str, Any]) -> None:
            on_event(decode(Event, event, "event"))

        outcome = self._remote.ask(OWNER["order"], {"order": order}, extra_time=None, on_event=tell)
        return cast("Outcome | None", outcome)


def _order(machine: Remote, order: Order, on_event: Callable[[Event], None]) -> Outcome | None:
    return RemoteOwner(machine).order(order, on_event)
