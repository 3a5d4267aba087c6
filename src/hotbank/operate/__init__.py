# SPDX-License-Identifier: Apache-2.0
"""Bank out, bank in, on any machine: survey → verdict → plan → transaction → journal.

    explain(machine, "high")            why it can or can't leave; changes nothing
    plan_remove(machine, "high")        the steps and their cost; changes nothing
    plan_free(machine, 256 << 20)       the banks that free so much by moving the fewest pages; changes nothing
    remove(machine, ["high", "mate"])   carry it out, all or nothing; an Outcome with the exit status
    switch(machine, "ddr", Power.OFF)   turn a domain's switch alone
    recover(machine, journal)           settle what a crash or a stubborn kernel left open

A target is a bank's name or a block (``memory4``); one of them or several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hotbank.faces import handing_on

if TYPE_CHECKING:
    from hotbank.operate.choice import Choice, GivenUp
    from hotbank.operate.journal import (
        BankBefore,
        Before,
        BlockBefore,
        DomainBefore,
        Entry,
        Journal,
        MemoryJournal,
        Row,
    )
    from hotbank.operate.look import explain
    from hotbank.operate.outcome import Event, Outcome
    from hotbank.operate.plan import Action, Plan, Step
    from hotbank.operate.planning import plan_add, plan_free, plan_remove
    from hotbank.operate.reasons import remedy
    from hotbank.operate.recovery import recover
    from hotbank.operate.switching import switch
    from hotbank.operate.targets import Target, everything, of_domain, resolve
    from hotbank.operate.transaction import Limits, Transaction
    from hotbank.operate.verbs import add, plan_again, remove
    from hotbank.operate.verdict import Verdict

__all__ = [
    "Action",
    "BankBefore",
    "Before",
    "BlockBefore",
    "Choice",
    "DomainBefore",
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
    "everything",
    "explain",
    "of_domain",
    "plan_add",
    "plan_again",
    "plan_free",
    "plan_remove",
    "recover",
    "remedy",
    "remove",
    "resolve",
    "switch",
]

_HOMES = {
    "choice": {"Choice", "GivenUp"},
    "journal": {"BankBefore", "Before", "BlockBefore", "DomainBefore", "Entry", "Journal", "MemoryJournal", "Row"},
    "look": {"explain"},
    "outcome": {"Event", "Outcome"},
    "plan": {"Action", "Plan", "Step"},
    "planning": {"plan_add", "plan_free", "plan_remove"},
    "reasons": {"remedy"},
    "recovery": {"recover"},
    "switching": {"switch"},
    "targets": {"Target", "everything", "of_domain", "resolve"},
    "transaction": {"Limits", "Transaction"},
    "verbs": {"add", "plan_again", "remove"},
    "verdict": {"Verdict"},
}


if not TYPE_CHECKING:
    __getattr__ = handing_on(__name__, _HOMES)  # a listing needs no transaction
