# SPDX-License-Identifier: Apache-2.0
"""What asks a machine before there is a plan: a snapshot, the surveys of its blocks, then the pure functions. A removal
under a deadline stops looking when the time is over (``plan_in_time``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hotbank.errors import brief
from hotbank.machine import Machine, Snapshot, Survey, can_glance
from hotbank.numbers import is_whole
from hotbank.operate.choice import Choice, choose, staying
from hotbank.operate.look import Between, Look, counted, glances_at, in_silence, surveys_of
from hotbank.operate.plan import Plan, addition, removal, too_late
from hotbank.operate.targets import Names, Target, resolve_all

_ROUNDS = 8  # of choosing by a glance; who is wrong so often is wrong more often


def plan_remove(machine: Machine, names: Names, *, look: Look = in_silence) -> Plan:
    """The plan that takes these banks out and these blocks offline, together. ``look``: surveys the blocks.

    Raises Refusal(NO_SUCH_BANK).
    """
    snapshot = machine.snapshot()
    targets = resolve_all(snapshot, names)
    return removal(snapshot, _surveyed(machine, snapshot, _blocks(targets), look), targets)


def plan_free(machine: Machine, size: int, *, look: Look = in_silence) -> Choice:
    """The banks, or blocks where no board names banks, that free ``size`` bytes by moving the fewest pages.

    ``look``: surveys the blocks, one by one. Every block of the machine is counted or looked at; where a glance tells
    less and is cheaper, only those that are about to be chosen are surveyed, and so are all where nothing can be
    chosen. Raises ValueError for what is no number of bytes, 1 or more.
    """
    if not is_whole(size) or size < 1:
        raise ValueError(f"size = {brief(size)}: must be bytes, 1 or more")
    snapshot = machine.snapshot()
    everything = [b.number for b in snapshot.blocks]
    known = counted(machine, snapshot, everything)
    rest = [number for number in everything if number not in known]
    if can_glance(machine):
        stays = staying(snapshot)
        glances = look(machine, snapshot, [number for number in rest if number not in stays], glances_at)
        seen = {**stays, **known, **glances}
        found = _by_glances(machine, snapshot, seen, set(known), size, look)
        if found is not None:
            return found
    return choose(snapshot, known | dict(look(machine, snapshot, rest, surveys_of)), size)


def _surveyed(machine: Machine, snapshot: Snapshot, blocks: Sequence[int], look: Look) -> Mapping[int, Survey]:
    """Of all of the blocks: by a count where that is enough."""
    known = counted(machine, snapshot, blocks)
    rest = [number for number in blocks if number not in known]
    return known | dict(look(machine, snapshot, rest, surveys_of))


def _by_glances(
    machine: Machine, snapshot: Snapshot, seen: dict[int, Survey], sure: set[int], size: int, look: Look
) -> Choice | None:
    """The choice, all of whose blocks were surveyed. A glance never says more than a survey against a block, so what
    was passed over is no better. ``sure``: those that were seen by more than a glance. None where there is no choice,
    or none was found in a few rounds."""
    for _ in range(_ROUNDS):
        found = choose(snapshot, seen, size)
        doubtful = [number for number in found.plan.blocks if number in seen and number not in sure]
        if not doubtful:
            return found if found.plan.steps else None
        seen |= look(machine, snapshot, doubtful, surveys_of)
        sure |= set(doubtful)
    return None


def plan_add(machine: Machine, names: Names) -> Plan:
    """The plan that brings these banks in and these blocks online, together. Raises Refusal(NO_SUCH_BANK)."""
    snapshot = machine.snapshot()
    return addition(snapshot, resolve_all(snapshot, names))


def plan_in_time(machine: Machine, names: Names, deadline: float, felt: Between) -> Plan:
    """The plan that takes them out, or one that says DEADLINE when looking at the blocks takes all the time there is.
    ``felt``: who lists the machine's blocks.

    No look is begun that, as long as the longest so far, would last beyond, and no count after it.
    """
    snapshot, clock, longest = felt.snapshot(), machine.clock, 0.0
    targets = resolve_all(snapshot, names)
    blocks = _blocks(targets)
    surveys = counted(machine, snapshot, blocks, deadline)
    for block in (number for number in blocks if number not in surveys):
        began = clock.now()
        if began + longest >= deadline:
            fact = f"looking at {len(surveys)} of {len(blocks)} blocks took all the time"
            return too_late(snapshot, targets, fact)
        surveys |= surveys_of(machine, snapshot, (block,))
        longest = max(longest, clock.now() - began)
    return removal(snapshot, surveys, targets)


def _blocks(targets: Sequence[Target]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(number for target in targets for number in target.blocks))
