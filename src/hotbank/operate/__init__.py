# SPDX-License-Identifier: Apache-2.0
"""Bank out, bank in, on any machine: survey → verdict → plan → transaction → journal.

    explain(machine, "high")            why it can or can't leave; changes nothing
    plan_remove(machine, "high")        the steps and their cost; changes nothing
    plan_free(machine, 256 << 20)       the banks that free so much by moving the fewest pages; changes nothing
    remove(machine, "high", ...)        carry it out; an Outcome with the exit status
    recover(machine, journal)           settle what a crash or a stubborn kernel left open

A target is a bank's name or a block (``memory4``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from hotbank.machine import Machine, Snapshot, Survey
from hotbank.operate.choice import Choice, GivenUp, choose, joined, together
from hotbank.operate.journal import Before, BlockBefore, Entry, Journal, MemoryJournal, Row
from hotbank.operate.plan import Action, Plan, Step, addition, removal, too_late
from hotbank.operate.reasons import remedy
from hotbank.operate.recovery import recover
from hotbank.operate.transaction import Event, Limits, Outcome, Transaction, never, unheard
from hotbank.operate.verdict import Target, Verdict, resolve, surveys_of, verdict

__all__ = [
    "Action",
    "Before",
    "BlockBefore",
    "Choice",
    "Entry",
    "Event",
    "GivenUp",
    "Journal",
    "Limits",
    "MemoryJournal",
    "Outcome",
    "Plan",
    "Row",
    "Step",
    "Target",
    "Transaction",
    "Verdict",
    "add",
    "explain",
    "plan_add",
    "plan_add_all",
    "plan_free",
    "plan_remove",
    "plan_remove_all",
    "recover",
    "remedy",
    "remove",
    "resolve",
]


def explain(machine: Machine, target: str | int) -> Verdict:
    """What would happen if the bank or block were taken away now. Raises Refusal(NO_SUCH_BANK)."""
    snapshot = machine.snapshot()
    what = resolve(snapshot, target)
    return verdict(snapshot, surveys_of(machine, snapshot, what.blocks), what)


def plan_remove(machine: Machine, target: str | int) -> Plan:
    """The plan that takes the bank out, or the block offline. Raises Refusal(NO_SUCH_BANK)."""
    snapshot = machine.snapshot()
    what = resolve(snapshot, target)
    return removal(snapshot, surveys_of(machine, snapshot, what.blocks), what)


Look = Callable[[Machine, Snapshot, Iterable[int]], Mapping[int, Survey]]


def plan_remove_all(machine: Machine, targets: Sequence[str | int], *, look: Look = surveys_of) -> Plan:
    """One plan that takes all of these banks and blocks out. Raises Refusal(NO_SUCH_BANK)."""
    snapshot = machine.snapshot()
    what = [resolve(snapshot, target) for target in targets]
    return together(snapshot, look(machine, snapshot, dict.fromkeys(n for t in what for n in t.blocks)), what)


def plan_free(machine: Machine, size: int, *, look: Look = surveys_of) -> Choice:
    """The banks, or blocks where no board names banks, that free ``size`` bytes by moving the fewest pages.

    ``look``: surveys the blocks, one by one; every block of the machine is looked at.
    """
    snapshot = machine.snapshot()
    return choose(snapshot, look(machine, snapshot, [b.number for b in snapshot.blocks]), size)


def plan_add_all(machine: Machine, targets: Sequence[str | int]) -> Plan:
    """One plan that brings all of these banks and blocks in. Raises Refusal(NO_SUCH_BANK)."""
    snapshot = machine.snapshot()
    return joined([addition(snapshot, resolve(snapshot, target)) for target in targets])


def plan_add(machine: Machine, target: str | int) -> Plan:
    """The plan that brings the bank in, or the block online. Raises Refusal(NO_SUCH_BANK)."""
    snapshot = machine.snapshot()
    return addition(snapshot, resolve(snapshot, target))


def remove(
    machine: Machine,
    target: str | int,
    *,
    journal: Journal | None = None,
    limits: Limits | None = None,
    force: bool = False,
    keep_partial: bool = False,
    interrupted: Callable[[], bool] = never,
    on_event: Callable[[Event], None] = unheard,
    began: float | None = None,
) -> Outcome:
    """Take the bank out of the kernel and its domain as dark as the board allows, or put everything back.

    ``force``: try although the verdict says no, under the same deadlines. ``keep_partial``: on failure leave
    out what is out (exit status 64). ``began``: when it was ordered, on the machine's clock, if that was
    earlier: limits count from there. Raises Refusal(NO_SUCH_BANK) and Refusal(BUSY_TRANSACTION).
    """
    limits, began = limits or Limits(), machine.clock.now() if began is None else began
    return Transaction(
        machine,
        _plan_in_time(machine, target, began + limits.total),
        journal=journal or MemoryJournal(),
        limits=limits,
        force=force,
        keep_partial=keep_partial,
        interrupted=interrupted,
        on_event=on_event,
        began=began,
    ).run()


def _plan_in_time(machine: Machine, target: str | int, deadline: float) -> Plan:
    """The plan that takes it out, or one that says DEADLINE when looking at the blocks takes all the time there is: no
    look is begun that, as long as the longest so far, would last beyond."""
    snapshot, clock, longest = machine.snapshot(), machine.clock, 0.0
    what, surveys = resolve(snapshot, target), dict[int, Survey]()
    for block in what.blocks:
        began = clock.now()
        if began + longest >= deadline:
            return too_late(snapshot, what, f"looking at {len(surveys)} of {len(what.blocks)} blocks took all the time")
        surveys |= surveys_of(machine, snapshot, (block,))
        longest = max(longest, clock.now() - began)
    return removal(snapshot, surveys, what)


def add(
    machine: Machine,
    target: str | int,
    *,
    journal: Journal | None = None,
    limits: Limits | None = None,
    keep_partial: bool = False,
    interrupted: Callable[[], bool] = never,
    on_event: Callable[[Event], None] = unheard,
    began: float | None = None,
) -> Outcome:
    """Bring the bank back: power on, into the kernel, every block Movable; or put everything back.

    Raises Refusal(NO_SUCH_BANK) and Refusal(BUSY_TRANSACTION).
    """
    return Transaction(
        machine,
        plan_add(machine, target),
        journal=journal or MemoryJournal(),
        limits=limits,
        keep_partial=keep_partial,
        interrupted=interrupted,
        on_event=on_event,
        began=began,
    ).run()
