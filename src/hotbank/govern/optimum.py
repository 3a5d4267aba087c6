# SPDX-License-Identifier: Apache-2.0
"""The least that covering a demand can cost, had all of it been known: hard coverage, power linear in what is on.

Banks fill from below, so each is on its own: on while the demand reaches above what lies below it, and through an idle
stretch if that costs less than leaving and coming back. So the whole separates into one ski rental per bank, with the
answers in hindsight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby


@dataclass(frozen=True, slots=True)
class Level:
    """A bank, in the order in which they fill. ``size`` in bytes, ``cost`` in seconds of darkness per return."""

    size: int
    cost: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """A demand of ``needed`` bytes for ``seconds``."""

    seconds: float
    needed: int


@dataclass(frozen=True, slots=True)
class Bill:
    """Byte-seconds of being on, and byte-seconds that the returns are worth."""

    on: float = 0.0
    returns: float = 0.0

    @property
    def total(self) -> float:
        """Both."""
        return self.on + self.returns

    def __add__(self, other: Bill) -> Bill:
        return Bill(self.on + other.on, self.returns + other.returns)


def optimum(demand: Sequence[Stretch], fixed: int, levels: Sequence[Level]) -> Bill:
    """What the clairvoyant pays for all levels, which begin and end on. ``fixed``: bytes that are always there."""
    starts = accumulate((level.size for level in levels), initial=fixed)
    bills = (_alone(demand, start, level) for start, level in zip(starts, levels, strict=False))
    return sum(bills, Bill())


def _alone(demand: Iterable[Stretch], start: int, level: Level) -> Bill:
    on, returns = 0.0, 0
    for busy, seconds in _phases(demand, start):
        if busy or seconds < level.cost:
            on += seconds
        else:
            returns += 1
    return Bill(on * level.size, returns * level.cost * level.size)


def _phases(demand: Iterable[Stretch], start: int) -> Iterator[tuple[bool, float]]:
    """Busy or idle, and for how long."""
    for busy, stretches in groupby(demand, key=lambda stretch: stretch.needed > start):
        yield busy, sum(stretch.seconds for stretch in stretches)
