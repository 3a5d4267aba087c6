# SPDX-License-Identifier: Apache-2.0
"""The switch of one domain turned by an order of its own: journaled and told as any transaction is, through the same
gate. No bank enters or leaves; what a crash leaves half-way is for ``recover``, which puts the power back as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hotbank.documents import EXIT_DONE
from hotbank.errors import Code, HotbankError
from hotbank.gate import refuse_unlisted
from hotbank.machine import DomainStatus, Machine, Snapshot, no_such
from hotbank.memory import Power
from hotbank.operate.journal import PERSON, Before, DomainBefore, Journal, Journaled, MemoryJournal
from hotbank.operate.outcome import Event, Outcome, is_in, no_events, standing
from hotbank.operate.plan import SWITCHING
from hotbank.operate.power import ask, confirm_out, darken, switch_on
from hotbank.operate.reasons import code_of

VERB = "power"


def switch(
    machine: Machine,
    domain: str,
    want: Power,
    *,
    journal: Journal | None = None,
    on_event: Callable[[Event], None] = no_events,
    began: float | None = None,
    cause: str = PERSON,
) -> Outcome:
    """Switch a domain to ``want``, or as near as its switch goes; the outcome's ``power`` is what was reached.

    ``began``, ``cause``: as for ``remove``. Raises Refusal(NO_SUCH_BANK), Refusal(DOMAIN_IN_USE) for less than ``on``
    while anything of it is in the kernel, Refusal(POWER_UNKNOWN), Refusal(BUSY_TRANSACTION), SwitchError.
    """
    began = machine.clock.now() if began is None else began
    snapshot = machine.snapshot()
    status, found = _allowed(machine, snapshot, domain, want), ask(machine, domain)
    if found is want:
        return _outcome(machine, status, want, began, f"{is_in(domain, want)} already")
    on_event(Event(machine.clock.now() - began, 0, "step", SWITCHING[want], target=domain))
    before = Before(
        VERB, (domain,), snapshot.boot_id, snapshot.machine, (), (DomainBefore(domain, found),), cause=cause
    )
    reached = _turned(machine, journal or MemoryJournal(), before, want)
    fact = is_in(domain, reached) + ("" if reached is want else f"; it would not go {want}")
    end = Event(machine.clock.now() - began, 1, "done", SWITCHING[want], target=domain, code=Code.OK, exit=EXIT_DONE)
    on_event(replace(end, fact=fact))
    return _outcome(machine, status, reached, began, fact)


def _allowed(machine: Machine, snapshot: Snapshot, domain: str, want: Power) -> DomainStatus:
    """The domain, once nothing speaks against that state. Raises what does."""
    status = snapshot.domain(domain)
    if status is None:
        raise no_such(snapshot.machine, "domain", domain, [d.name for d in snapshot.domains])
    refuse_unlisted(status, want)
    return confirm_out(machine, domain) if want.dark else status


def _turned(machine: Machine, journal: Journal, before: Before, want: Power) -> Power:
    """The state that was reached, written down. The transaction stays open when the process dies in its middle."""
    journaled, (domain,) = Journaled(machine, journal, journal.begin(before)), before.targets
    try:
        with journaled(SWITCHING[want], domain):
            reached = _turn(machine, domain, want)
        journaled.settled_for(reached, want, domain)
    except HotbankError as e:
        journal.close(journaled.entry, code_of(e), 0)
        raise
    journal.close(journaled.entry, Code.OK, 0)
    return reached


def _turn(machine: Machine, domain: str, want: Power) -> Power:
    if want.dark:
        return darken(machine, domain, want)
    switch_on(machine, domain)
    return want


def _outcome(machine: Machine, status: DomainStatus, reached: Power, began: float, fact: str) -> Outcome:
    kernel, _ = standing(machine.snapshot(), status.banks)
    seconds = machine.clock.now() - began
    return Outcome(VERB, (status.name,), Code.OK, EXIT_DONE, fact, seconds=seconds, kernel=kernel, power=reached)
