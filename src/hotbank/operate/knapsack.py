# SPDX-License-Identifier: Apache-2.0
"""The covering knapsack with one limit: take items of ``need`` units or more, at the least cost, within ``room``.

Branch and bound, depth first. The bound is Lagrange's: a price p is put on each page of room, and the limit is dropped.

    L(p) = min { sum of (cost + p * takes) : any items, the last one cut, of need units }  -  p * room

No set within the limit costs less than L(p), for any p >= 0 (what such a set saves of the room makes it cheaper than
the first term, never dearer), and the minimum is found greedily, by weight per unit. ``_price`` finds the p with the
highest L(p). Items of one size, as memory blocks are, need no cutting: then L(0) is what the greedy choice costs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import lcm

NEVER = 1 << 62  # more than anything costs or takes
Fits = Callable[[Iterable[int]], bool]
_SCALE = 1 << 10  # prices of room are fractions of this denominator


@dataclass(frozen=True, slots=True)
class Item:
    """What can be taken. ``number``: its name; ``size`` in units, more than 0; ``cost`` and ``takes`` (of the room) in
    pages."""

    number: int
    size: int
    cost: int
    takes: int


@dataclass(frozen=True, slots=True)
class Found:
    """``taken``: the numbers of the cheapest items that were found, None where there are none below the cost asked for.

    ``cost``: theirs, or what was asked for. ``at_least``: no set of items costs less.
    """

    taken: tuple[int, ...] | None
    cost: int
    at_least: int


@dataclass(slots=True)
class Effort:
    """Steps that are left to several searches."""

    left: int

    def share(self, items: int) -> int:
        """Steps for one search. A quarter stays for those that follow, since one that can't even begin proves nothing;
        and some for each item, so that it comes down to a first set, if not to the best."""
        return max(self.left * 3 // 4, 4 * items)


def anything(_taken: Iterable[int]) -> bool:
    """Whatever is within the limit fits."""
    return True


def cheapest(items: Sequence[Item], need: int, room: int, below: int, effort: Effort, fits: Fits = anything) -> Found:
    """The items of ``need`` units or more that cost the least, if less than ``below``, and take ``room`` at most.

    ``fits``: what else must hold for the numbers that are taken; asked of each set that is better than the last.
    """
    without_regard = _search(items, need, NEVER, 0, below, effort)
    taken = without_regard.taken
    if taken is None or (_takes(items, taken) <= room and fits(taken)):
        return without_regard
    least = least_room(items, need, room, effort, fits)
    if least.taken is None:
        return Found(None, below, NEVER if least.at_least > room else without_regard.at_least)
    cost = sum(item.cost for item in _those(items, least.taken))  # a set to beat, before the search begins
    found = _search(items, need, room, _price(items, need, room, effort), min(below, cost), effort, fits)
    at_least = max(found.at_least, without_regard.at_least)
    if found.taken is None and cost < below:
        return Found(least.taken, cost, at_least)
    return Found(found.taken, found.cost, at_least)


def least_room(items: Sequence[Item], need: int, room: int, effort: Effort, fits: Fits = anything) -> Found:
    """The items of ``need`` units that take the least room, if that is ``room`` or less, and fit."""
    return _search([Item(i.number, i.size, i.takes, 0) for i in items], need, NEVER, 0, room + 1, effort, fits)


def _those(items: Iterable[Item], taken: Iterable[int]) -> list[Item]:
    numbers = set(taken)
    return [item for item in items if item.number in numbers]


def _takes(items: Iterable[Item], taken: Iterable[int]) -> int:
    return sum(item.takes for item in _those(items, taken))


class _Priced:
    """Items by what a unit of them weighs when a page of room costs ``price / _SCALE`` pages of moving.

    Weights are pages times ``_SCALE``, so that all of this is integers and no bound is rounded up.
    """

    def __init__(self, items: Sequence[Item], price: int) -> None:
        def weight(item: Item) -> int:
            return item.cost * _SCALE + item.takes * price

        whole = lcm(*(item.size for item in items))  # weight per unit, without fractions
        self.items = sorted(items, key=lambda item: weight(item) * (whole // item.size))
        self.weights = [weight(item) for item in self.items]
        self._sizes = [0, *accumulate(item.size for item in self.items)]
        self._sums = [0, *accumulate(self.weights)]

    def least(self, at: int, need: int) -> int | None:
        """The least weight of ``need`` units from the items at ``at`` and on, the last one cut; None: too few."""
        end = self._sizes[at] + need
        if end > self._sizes[-1]:
            return None
        last = bisect_left(self._sizes, end)
        whole = self._sums[last - 1] - self._sums[at]
        return whole + self.weights[last - 1] * (end - self._sizes[last - 1]) // self.items[last - 1].size

    def taken(self, need: int) -> int:
        """Room that the cheapest ``need`` units take, the last item whole."""
        last = bisect_left(self._sizes, need)
        return sum(item.takes for item in self.items[:last])


def _price(items: Sequence[Item], need: int, room: int, effort: Effort) -> int:
    """The price of room with the highest bound: where the greedy choice begins to fit, since L is concave and its
    slope is what that choice takes beyond the room. By bisection."""
    low, high = 0, _SCALE
    while high < NEVER and _Priced(items, high).taken(need) > room:
        low, high = high, high * 4
    while high - low > 1:
        effort.left -= len(items)
        middle = (low + high) // 2
        low, high = (middle, high) if _Priced(items, middle).taken(need) > room else (low, middle)
    return high


_Taken = tuple[int, "_Taken"] | None  # a list that branches share, the last first
# A branch of the search: the item that is next, units still needed, cost, room and weight so far, and what was taken.
_Branch = tuple[int, int, int, int, int, _Taken]


def _search(
    items: Sequence[Item], need: int, room: int, price: int, below: int, effort: Effort, fits: Fits = anything
) -> Found:
    """Depth first, the cheapest item first; a branch ends where its bound is not below the best that is known."""
    priced = _Priced(items, price)
    best: _Taken = None
    floor: int | None = None
    open_: list[_Branch] = [(0, need, 0, 0, 0, None)]
    steps = share = effort.share(len(items))
    while open_ and steps:
        steps -= 1
        at, left, cost, takes, weight, taken = open_.pop()
        if left <= 0:
            if cost < below and fits(_numbers(taken)):
                best, below = taken, cost
            continue
        least = priced.least(at, left)
        if least is None:
            continue
        bound = -((room * price - weight - least) // _SCALE)  # costs are whole, so it may be rounded up
        floor = bound if floor is None else floor  # the root's holds for every set
        if bound >= below:
            continue
        item = priced.items[at]
        open_.append((at + 1, left, cost, takes, weight, taken))
        if takes + item.takes <= room:
            # On top of the stack: what is cheap is tried first, so that a good set is known early.
            entry, added = (item.number, taken), weight + priced.weights[at]
            open_.append((at + 1, left - item.size, cost + item.cost, takes + item.takes, added, entry))
    effort.left -= share - steps + len(items)
    at_least = min(below, floor or 0) if open_ else below  # an unfinished search has proven its first bound only
    return Found(tuple(_numbers(best)) if best is not None else None, below, at_least)


def _numbers(taken: _Taken) -> Iterator[int]:
    while taken is not None:
        number, taken = taken
        yield number
