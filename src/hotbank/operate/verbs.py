# SPDX-License-Identifier: Apache-2.0
"""Bank out and bank in: the plan of the machine as it is now, carried out as one transaction."""

from __future__ import annotations

from collections.abc import Callable

from hotbank.machine import Machine
from hotbank.operate.journal import PERSON, Journal, MemoryJournal
from hotbank.operate.look import plan_add, plan_in_time
from hotbank.operate.outcome import Event, Outcome, no_events, not_interrupted
from hotbank.operate.targets import Names
from hotbank.operate.transaction import Limits, Transaction


def remove(
    machine: Machine,
    names: Names,
    *,
    journal: Journal | None = None,
    limits: Limits | None = None,
    force: bool = False,
    keep_partial: bool = False,
    interrupted: Callable[[], bool] = not_interrupted,
    on_event: Callable[[Event], None] = no_events,
    began: float | None = None,
    cause: str = PERSON,
) -> Outcome:
    """Take banks out of the kernel and their domains as dark as the board allows, or put everything back.

    ``names``: a bank or a block, or several, which leave together or not at all.

    ``force``: try although the verdict says no, under the same deadlines. ``keep_partial``: on failure leave
    out what is out (exit status 64). ``began``: when it was ordered, on the machine's clock, if that was
    earlier: limits count from there. ``cause``: who ordered it, for the journal. Raises Refusal(NO_SUCH_BANK) and
    Refusal(BUSY_TRANSACTION).
    """
    limits, began = limits or Limits(), machine.clock.now() if began is None else began
    return Transaction(
        machine,
        plan_in_time(machine, names, began + limits.total),
        journal=journal or MemoryJournal(),
        limits=limits,
        force=force,
        keep_partial=keep_partial,
        interrupted=interrupted,
        on_event=on_event,
        began=began,
        cause=cause,
    ).run()


def add(
    machine: Machine,
    names: Names,
    *,
    journal: Journal | None = None,
    limits: Limits | None = None,
    keep_partial: bool = False,
    interrupted: Callable[[], bool] = not_interrupted,
    on_event: Callable[[Event], None] = no_events,
    began: float | None = None,
    cause: str = PERSON,
) -> Outcome:
    """Bring banks back: power on, into the kernel, every block Movable; or put everything back, as ``remove`` does.

    Raises Refusal(NO_SUCH_BANK) and Refusal(BUSY_TRANSACTION).
    """
    return Transaction(
        machine,
        plan_add(machine, names),
        journal=journal or MemoryJournal(),
        limits=limits,
        keep_partial=keep_partial,
        interrupted=interrupted,
        on_event=on_event,
        began=began,
        cause=cause,
    ).run()
