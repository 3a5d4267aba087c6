# SPDX-License-Identifier: Apache-2.0
"""DESIGN's invariants 1 to 3 as a checker of what a transaction did to a machine."""

from __future__ import annotations

from hotbank.machine import Machine
from hotbank.memory import KernelState, Power
from hotbank.operate import Outcome
from operate.scripted import Watched, places

Places = dict[int, tuple[str, tuple[str, ...]]]
CHANGES = {"online", "offline", "add", "remove", "set_power"}


def breaches(before: Places, machine: Machine, watched: Watched, outcome: Outcome | None) -> list[str]:
    """What the transaction did that it must never do. ``machine``: the one below all wrappers."""
    return watched.breaches + _in_the_dark(machine) + _not_restored(before, machine, outcome)


def acted(watched: Watched) -> bool:
    """True if anything was asked for that changes the machine (invariant 3 is about that)."""
    return any(call in CHANGES for call in watched.calls)


def _in_the_dark(machine: Machine) -> list[str]:
    """Banks in the kernel whose domain is not on."""
    snapshot = machine.snapshot()
    return [
        f"{bank.name} is {bank.kernel} while {domain.name} is {domain.power}"
        for domain in snapshot.domains
        if domain.power is not Power.ON
        for bank in snapshot.banks
        if bank.domain == domain.name and bank.kernel is not KernelState.ABSENT
    ]


def _not_restored(before: Places, machine: Machine, outcome: Outcome | None) -> list[str]:
    """After a failure: blocks that are not as they were and that the outcome does not name."""
    if outcome is None or outcome.exit == 0 or outcome.open:
        return []
    now = places(machine)
    wrong = {n for n in before.keys() | now.keys() if before.get(n) != now.get(n)}
    named = set(outcome.unrestored)
    missed = [f"memory{n} was {before.get(n)}, is {now.get(n)}, and is not named" for n in sorted(wrong - named)]
    return missed + [f"memory{n} is named and was restored" for n in sorted(named - wrong)]
