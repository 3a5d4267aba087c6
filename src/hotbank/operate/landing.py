# SPDX-License-Identifier: Apache-2.0
"""Where pages land that leave blocks one after the other: those that land in a block which leaves later move twice.

A kernel puts them into the highest zone that may hold them, down to its low watermark (mm/migrate.c,
``alloc_migration_target``; mm/page_alloc.c, ``get_page_from_freelist``), and there into the smallest free blocks that
there are (``__rmqueue_smallest``): the holes of full memory come before empty memory. Which of several of one order it
takes depends on what was freed last; here each is as likely.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from hotbank.machine import ZoneInfo
from hotbank.memory import Zone
from hotbank.room import Bound, Leaving, several

_ORDERS = 32  # more than any kernel has
_RANK = {zone.value: rank for rank, zone in enumerate(Zone)}


def landing(
    zones: Sequence[ZoneInfo], blocks: Mapping[int, Leaving], fences: Mapping[int, Collection[int]]
) -> dict[int, int]:
    """How many pages of blocks before it are expected in each of the blocks, which leave in this order, when its turn
    comes. 0 where it is not known in what pieces the free pages are. ``fences``: blocks that take nothing any more once
    it is the turn of that one."""
    leaving, place = list(blocks.values()), {number: at for at, number in enumerate(blocks)}
    landed = [0.0] * len(leaving)
    there = {id(zone): _Free(zone, leaving) for zone in zones}
    away = several(zones)
    for number, one in blocks.items():
        for free in there.values():
            for shut in (number, *fences.get(number, ())):
                free.isolate(place[shut])
        pages = one.to_move + landed[place[number]]
        for zone in _targets(zones, Bound.of((one,), one.node if away else None)):
            pages -= there[id(zone)].take(pages, landed)
    return {number: round(landed[at]) for number, at in place.items()}


def _targets(zones: Sequence[ZoneInfo], bound: Bound) -> Iterator[ZoneInfo]:
    """The zones that the pages may go to, in the order in which they are asked."""
    takes = (zone for zone in zones if bound.takes(zone))
    return iter(sorted(takes, key=lambda zone: (zone.node, -_RANK.get(zone.zone, -1))))


class _Free:
    """The free pages of one zone: by order, and by the block that leaves; the last entry is all that stays."""

    def __init__(self, zone: ZoneInfo, leaving: Sequence[Leaving]) -> None:
        own = [one.buddies if one.lies_in(zone) else None for one in leaving]
        whole = next((buddies.zone for buddies in own if buddies is not None), ())
        self._orders: list[list[float]] = [
            [_pages(buddies.here, order) if buddies is not None else 0 for buddies in own]
            for order in range(min(len(whole), _ORDERS))
        ]
        for order, parts in enumerate(self._orders):
            parts.append(max(0, _pages(whole, order) - sum(parts)))
        self._spare: float = 0 if self._orders else zone.free
        self._keeps = zone.low

    def isolate(self, number: int) -> None:
        """That block takes no pages any more, and its free ones are out of the count."""
        for parts in self._orders:
            parts[number] = 0.0

    def take(self, pages: float, landed: list[float]) -> float:
        """Put so many pages into the zone, as far as it takes them. How many it took."""
        there = sum(map(sum, self._orders)) + self._spare
        taken = left = min(pages, max(0.0, there - self._keeps))
        for parts in self._orders:
            left -= _put(left, parts, landed)
        self._spare -= left if not self._orders else 0.0
        return taken


def _pages(blocks: Sequence[int], order: int) -> int:
    """How many there are in the free blocks of that order."""
    return blocks[order] << order if order < len(blocks) else 0


def _put(pages: float, parts: list[float], landed: list[float]) -> float:
    """Put pages into the free blocks of one order, each as likely. How many there was room for."""
    there = sum(parts)
    share = min(1.0, pages / there) if there else 0.0
    for number, part in enumerate(parts):
        parts[number] -= part * share
        if number < len(landed):
            landed[number] += part * share
    return there * share
