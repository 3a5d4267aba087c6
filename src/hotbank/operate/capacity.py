# SPDX-License-Identifier: Apache-2.0
"""Whether an offline may be begun, and what it must leave free: the last look, right before each.

One pass of the kernel moves a whole block before it looks at a signal (mm/memory_hotplug.c, ``do_migrate_range``), and
without room its OOM killer may strike first. So what has no room must not be begun; and what is begun is told what to
keep, for others use memory up meanwhile.
"""

from __future__ import annotations

from hotbank import room
from hotbank.errors import Code, HotbankError, Refusal
from hotbank.machine import Machine, no_such
from hotbank.operate.reasons import no_room, remedy
from hotbank.room import Leaving, must_fit


def leaving_now(machine: Machine, number: int) -> Leaving:
    """What a block takes along, where no plan has said so. A block that can't be looked at may be full."""
    snapshot = machine.snapshot()
    block = snapshot.block(number)
    if block is None:
        raise no_such(snapshot.machine, "block", f"memory{number}")
    try:
        return Leaving.of(block, machine.survey(number))
    except HotbankError:
        return Leaving.whole(block, snapshot.pages_per_block)


def spare_for(machine: Machine, target: str, leaving: Leaving) -> int:
    """Pages that ``Machine.offline`` is to keep free. Raises Refusal(NO_CAPACITY) where there is no room now."""
    zones = machine.reading().zones
    needs, there = must_fit((leaving,)), room.room(zones, (leaving,))
    if needs > there:
        code = Code.NO_CAPACITY
        raise Refusal(code, f"{target} was not begun: {no_room(needs, there)}", remedy=remedy(code))
    return room.spare(zones, (leaving,))
