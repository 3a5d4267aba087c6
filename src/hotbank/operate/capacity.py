# SPDX-License-Identifier: Apache-2.0
"""Whether an offline may be begun, and what it must leave free: the last look, right before each.

One pass of the kernel moves a whole block before it looks at a signal (mm/memory_hotplug.c, ``do_migrate_range``), and
without room its OOM killer may strike first. So what has no room must not be begun; and what is begun is told what to
keep, for others use memory up meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

from hotbank import room
from hotbank.errors import Code, HotbankError, Refusal
from hotbank.machine import Machine, ZoneInfo, no_such
from hotbank.operate.look import Felt, survey_now
from hotbank.operate.reasons import no_room, remedy
from hotbank.room import Leaving


def spare_for(machine: Machine, number: int, planned: Leaving | None = None, felt: Felt | None = None) -> int:
    """Pages that ``Machine.offline`` is to keep free. Raises Refusal(NO_CAPACITY) where there is no room now.

    ``planned``: what the plan found in the block. Others may have filled it since, so it is taken to be full; only
    where a full block has no room is it counted again, or looked at. ``felt``: who is asked for a reading in the
    machine's place.
    """
    zones = (felt or machine).reading().zones
    leaving = planned.whole if planned is not None and planned.pages else None
    if leaving is None or not _fits(zones, leaving):
        leaving = _now(machine, number)
    if not _fits(zones, leaving):
        code, words = Code.NO_CAPACITY, no_room(room.must_fit(zones, (leaving,)), room.room(zones, (leaving,)))
        raise Refusal(code, f"memory{number} was not begun: {words}", remedy=remedy(code))
    return room.spare(zones, (leaving,))


def _fits(zones: Sequence[ZoneInfo], leaving: Leaving) -> bool:
    return room.must_fit(zones, (leaving,)) <= room.room(zones, (leaving,))


def _now(machine: Machine, number: int) -> Leaving:
    """What the block takes along, by a look at it now. One whose pages can't be seen may be full."""
    snapshot = machine.snapshot()
    block = snapshot.block(number)
    if block is None:
        raise no_such(snapshot.machine, "block", f"memory{number}")
    full = Leaving(block.zone, block.node, snapshot.pages_per_block).whole
    try:
        survey = survey_now(machine, number)
    except HotbankError:
        return full
    return full if "kinds" in survey.unknown else Leaving.of(block, survey)
