# SPDX-License-Identifier: Apache-2.0
"""What asks a machine before there is a plan: a snapshot, the surveys of its blocks, then the pure functions.

Looking at a block means looking at each of its pages, which takes time on a large machine: a removal under a deadline
stops looking when the time is over (``plan_in_time``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from hotbank.machine import Machine, Snapshot, Survey
from hotbank.memory import BlockState
from hotbank.operate.choice import Choice, choose
from hotbank.operate.plan import Plan, addition, joined, removal, together, too_late
from hotbank.operate.targets import resolve
from hotbank.operate.verdict import Verdict, verdict

Look = Callable[[Machine, Snapshot, Iterable[int]], Mapping[int, Survey]]


def surveys_of(machine: Machine, snapshot: Snapshot, blocks: Iterable[int]) -> dict[int, Survey]:
    """Surveys of those of the blocks that are online; the others hold nothing that would have to move."""
    return {n: machine.survey(n) for n in blocks if (b := snapshot.block(n)) and b.state is not BlockState.OFFLINE}


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


def plan_in_time(machine: Machine, target: str | int, deadline: float) -> Plan:
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
