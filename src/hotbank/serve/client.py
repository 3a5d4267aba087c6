# SPDX-License-Identifier: Apache-2.0
"""What a client orders of an owner: the owner's worker carries it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hotbank.operate import Entry, Event, Limits, Outcome
from hotbank.operate.outcome import no_events
from hotbank.remote import Remote
from hotbank.serve.order import Order
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
    return machine.call(tuple[Entry, ...], "owner.history")  # type: ignore[no-any-return]


def _order(machine: Remote, order: Order, on_event: Callable[[Event], None]) -> Outcome | None:
    def tell(event: dict[str, Any]) -> None:
        on_event(decode(Event, event, "event"))

    return machine.call(Outcome | None, "owner.order", None, tell, order=order)  # type: ignore[no-any-return]
