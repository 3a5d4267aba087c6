# SPDX-License-Identifier: Apache-2.0
"""Bank out and bank in: the plan of the machine as it is now, carried out as one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hotbank.errors import Code, Refusal
from hotbank.machine import Machine
from hotbank.operate.found import since
from hotbank.operate.journal import PERSON, Before, Journal, MemoryJournal
from hotbank.operate.look import Between
from hotbank.operate.outcome import Event, Outcome, no_events, not_interrupted
from hotbank.operate.plan import Plan
from hotbank.operate.planning import plan_add, plan_in_time, plan_remove
from hotbank.operate.reasons import remedy
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
    found: Before | None = None,
) -> Outcome:
    """Take banks out of the kernel and their domains as dark as the board allows, or put everything back.

    ``names``: a bank or a block, or several, which leave together or not at all. ``force``: try although the verdict
    says no, under the same deadlines. ``keep_partial``: on failure leave out what is out (exit status 64). ``began``:
    when it was ordered, on the machine's clock, if that was earlier: limits count from there. ``cause``: who ordered
    it, for the journal. ``found``: of an earlier plan; when the machine is not that any more, nothing is done
    (CHANGED). Raises Refusal(NO_SUCH_BANK) and Refusal(BUSY_TRANSACTION).
    """
    limits, began = limits or Limits(), machine.clock.now() if began is None else began
    felt = Between(machine)
    return Transaction(
        machine,
        _still_there(lambda: plan_in_time(machine, names, began + limits.total, felt), found),
        journal=journal or MemoryJournal(),
        limits=limits,
        force=force,
        keep_partial=keep_partial,
        interrupted=interrupted,
        on_event=on_event,
        began=began,
        cause=cause,
        found=found,
        felt=felt,
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
    found: Before | None = None,
) -> Outcome:
    """Bring banks back: power on, into the kernel, every block Movable; or put everything back, as ``remove`` does.

    Raises Refusal(NO_SUCH_BANK) and Refusal(BUSY_TRANSACTION).
    """
    return Transaction(
        machine,
        _still_there(lambda: plan_add(machine, names), found),
        journal=journal or MemoryJournal(),
        limits=limits,
        keep_partial=keep_partial,
        interrupted=interrupted,
        on_event=on_event,
        began=began,
        cause=cause,
        found=found,
    ).run()


def plan_again(machine: Machine, verb: str, names: Names, found: Before | None = None) -> Plan:
    """What ``remove`` or ``add`` would do now; CHANGED, and no steps, when the machine is not what ``found`` says.

    Raises Refusal(NO_SUCH_BANK), and Refusal(CHANGED) for what an earlier plan has found and is not there any more.
    """
    make = plan_add if verb == "add" else plan_remove
    plan = _still_there(lambda: make(machine, names), found)
    changes = since(found, plan.found)
    if not changes:
        return plan
    return replace(plan, steps=(), code=Code.CHANGED, fact=changes, remedy=remedy(Code.CHANGED))


def _still_there(plan: Callable[[], Plan], found: Before | None) -> Plan:
    """The plan; what an earlier one has found and is not there any more has changed."""
    try:
        return plan()
    except Refusal as e:
        if found is None or e.code is not Code.NO_SUCH_BANK:
            raise
        raise Refusal(Code.CHANGED, f"since the plan was made: {e}", remedy=remedy(Code.CHANGED)) from e
