# SPDX-License-Identifier: Apache-2.0
"""Machines on paper: a recorded demand over equal banks of one DRAM part that may all leave, and joules for what stays.

Machines of one kind live the same day and begin it at different moments: a machine's demand is the record from its
shift on, and what was before the shift behind its end.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from hotbank.energy import Bounds, Dram, Work, break_even
from hotbank.govern.replay import Park, Series
from hotbank.govern.view import Group
from hotbank.memory import GIB, KIB, Power
from hotbank.memspec import Part


@dataclass(frozen=True, slots=True)
class Kind:
    """What machines of a kind have in common. ``size`` in bytes, None: what was recorded. ``shift``: seconds over which
    their beginnings are spread, None: all of the record. ``period``: seconds between looks, None: at samples only."""

    name: str
    banks: int
    part: Part
    size: int | None = None
    shift: float | None = None
    period: float | None = None


def park(total: int, banks: int, part: Part, *, lift: float = 0.0) -> Park:
    """``total`` bytes in equal banks, above ``lift`` of a bank of memory that never leaves."""
    size = total // banks
    cost = break_even(_dram(part, size), Work(pages=size // (4 * KIB), wakes=1), Power.OFF)
    assert cost is not None  # off saves something against any idle state
    return Park(round(lift * size), tuple(Group(f"bank{number}", size, cost=cost) for number in range(banks)))


def looked_at(park: Park, period: float | None, returning: float) -> Park:
    """The same, looked at every ``period`` seconds, where what is ordered is there ``returning`` later; at samples for
    None."""
    return park if period is None else replace(park, period=period, returning=returning)


def joules(part: Part, byte_seconds: float) -> Bounds:
    """What so many byte-seconds in the dark save."""
    return _dram(part, GIB).saved(Power.OFF) * (1e-3 * byte_seconds / GIB)


def _dram(part: Part, size: int) -> Dram:
    return Dram((part,), size / GIB)


def begun(kind: Kind, number: int, seed: int, length: float) -> float:
    """Seconds into a record of that length at which a machine's own begins. The same for the same arguments."""
    spread = length if kind.shift is None else min(kind.shift, length)
    return random.Random(f"{seed}:{kind.name}:{number}").uniform(0.0, spread)


def shifted(demand: Series, by: float) -> Series:
    """From the first sample at ``by`` seconds or later, and what was before behind it, a usual interval after the last.

    Lasts as long as before, to within an interval.
    """
    first = next((place for place, (at, _) in enumerate(demand) if at - demand[0][0] >= by), 0)
    usual = median(b - a for (a, _), (b, _) in pairwise(demand))
    around = demand[-1][0] + usual - demand[0][0]
    later = [(at + around, wanted) for at, wanted in demand[:first]]
    return _from_zero([*demand[first:], *later])


def scaled(demand: Series, factor: float) -> Series:
    """The same of a larger or smaller machine."""
    return [(at, round(wanted * factor)) for at, wanted in demand]


def _from_zero(demand: Sequence[tuple[float, int]]) -> Series:
    return [(at - demand[0][0], wanted) for at, wanted in demand]
