# SPDX-License-Identifier: Apache-2.0
"""What asks a machine before there is a plan: a snapshot, the surveys of its blocks, then the pure functions.

Looking at a block means looking at each of its pages, which takes time on a large machine: a removal under a deadline
stops looking when the time is over (``plan_in_time``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from hotbank.errors import HotbankError, brief
from hotbank.machine import Machine, Snapshot, Survey
from hotbank.memory import BlockState
from hotbank.numbers import is_whole
from hotbank.operate.choice import Choice, choose
from hotbank.operate.plan import Plan, addition, removal, too_late
from hotbank.operate.targets import Names, Target, resolve, resolve_all
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


def plan_remove(machine: Machine, names: Names, *, look: Look = surveys_of) -> Plan:
    """The plan that takes these banks out and these blocks offline, together. ``look``: surveys the blocks.

    Raises Refusal(NO_SUCH_BANK).
    """
    snapshot = machine.snapshot()
    targets = resolve_all(snapshot, names)
    return removal(snapshot, look(machine, snapshot, _blocks(targets)), targets)


def plan_free(machine: Machine, size: int, *, look: Look = surveys_of) -> Choice:
    """The banks, or blocks where no board names banks, that free ``size`` bytes by moving the fewest pages.

    ``look``: surveys the blocks, one by one; every block of the machine is looked at. Raises ValueError for what is no
    number of bytes, 1 or more.
    """
    if not is_whole(size) or size < 1:
        raise ValueError(f"size = {brief(size)}: must be bytes, 1 or more")
    snapshot = machine.snapshot()
    return choose(snapshot, look(machine, snapshot, [b.number for b in snapshot.blocks]), size)


def plan_add(machine: Machine, names: Names) -> Plan:
    """The plan that brings these banks in and these blocks online, together. Raises Refusal(NO_SUCH_BANK)."""
    snapshot = machine.snapshot()
    return addition(snapshot, resolve_all(snapshot, names))


def plan_in_time(machine: Machine, names: Names, deadline: float) -> Plan:
    """The plan that takes them out, or one that says DEADLINE when looking at the blocks takes all the time there is.

    No look is begun that, as long as the longest so far, would last beyond.
    """
    snapshot, clock, longest = machine.snapshot(), machine.clock, 0.0
    targets, surveys = resolve_all(snapshot, names), dict[int, Survey]()
    blocks = _blocks(targets)
    for block in blocks:
        began = clock.now()
        if began + longest >= deadline:
            fact = f"looking at {len(surveys)} of {len(blocks)} blocks took all the time"
            return too_late(snapshot, targets, fact)
        surveys |= surveys_of(machine, snapshot, (block,))
        longest = max(longest, clock.now() - began)
    return removal(snapshot, surveys, targets)


def _blocks(targets: Sequence[Target]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(number for target in targets for number in target.blocks))


def migrated(machine: Machine) -> int | None:
    """Pages that the machine has migrated since it booted; None where it does not count, or does not answer."""
    try:
        counted = machine.reading().migrated
    except HotbankError:
        return None
    return None if counted is None else counted.success
