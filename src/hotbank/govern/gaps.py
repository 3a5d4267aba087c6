# SPDX-License-Identifier: Apache-2.0
"""How long a level of demand lies idle, and how long it is worth to wait before its bank leaves.

Each level is a ski rental of its own: an idle second costs one, leaving and coming back cost ``cost`` seconds. Who
leaves after exactly ``cost`` idle seconds pays at most twice what the clairvoyant pays (Karlin, Manasse, Rudolph,
Sleator 1988). Gaps that were seen say more: of their lengths the best moment follows, and whoever still waits at least
a share ``trust`` of ``cost`` pays at most ``1 + 1 / trust`` times the clairvoyant's, whatever comes (Purohit, Svitkina,
Kumar 2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

_BINS = 24  # of lengths from 1 s to 97 days, each twice the one before


@dataclass(frozen=True, slots=True)
class Gaps:
    """Weights of past gaps by length; each new one takes ``fade`` from those before it."""

    weights: tuple[float, ...] = (0.0,) * _BINS
    fade: float = 0.9

    def seen(self, seconds: float) -> Gaps:
        """With one more gap of that length."""
        place = min(_BINS - 1, max(0, math.ceil(math.log2(max(1.0, seconds)))))
        faded = [weight * self.fade for weight in self.weights]
        faded[place] += 1.0
        return Gaps(tuple(faded), self.fade)

    def lasts(self, seconds: float, cost: float, trust: float) -> bool:
        """Whether it is too early to leave after so many idle seconds. The past is asked only where it can matter."""
        if seconds >= cost:
            return False
        return seconds < min(trust, 1.0) * cost or seconds < self.patience(cost, trust)

    def patience(self, cost: float, trust: float) -> float:
        """Seconds after which to leave: the cheapest by what was seen, from ``trust x cost`` to ``cost``.

        Without any gap seen it is ``cost``; ``trust`` 1 always waits that long.
        """
        if trust >= 1 or not any(self.weights):
            return cost
        moments = {trust * cost, cost, *(e for e in map(_length, range(_BINS)) if trust * cost < e < cost)}
        return min(sorted(moments), key=lambda moment: sum(self._price(moment, cost)))

    def _price(self, moment: float, cost: float) -> Iterator[float]:
        for place, weight in enumerate(self.weights):
            length = _length(place)
            yield weight * (length if length <= moment else moment + cost)


def _length(place: int) -> float:
    return float(1 << place)
