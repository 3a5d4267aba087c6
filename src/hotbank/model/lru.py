# SPDX-License-Identifier: Apache-2.0
"""Clean page cache as reclaim looks at it: zone by zone, the oldest page first.

Follows mm/vmscan.c, ``isolate_lru_folios``: pages of zones that are not asked for keep their place, and none of them is
looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from itertools import count, groupby, islice
from operator import itemgetter
from typing import NewType

Handle = NewType("Handle", int)  # of a page, wherever it lies; a frame is where


class Lru:
    """Pages by zone number, each with an age that grows from the oldest to the newest."""

    def __init__(self) -> None:
        self._zone: dict[Handle, int] = {}
        self._ages: defaultdict[int, dict[Handle, int]] = defaultdict(dict)
        self._next = count()

    def __contains__(self, handle: object) -> bool:
        return handle in self._zone

    def __len__(self) -> int:
        return len(self._zone)

    def __iter__(self) -> Iterator[Handle]:
        """All pages, the oldest first."""
        return (handle for handle, _ in merge(*(ages.items() for ages in self._ages.values()), key=itemgetter(1)))

    def zones(self) -> Mapping[Handle, int]:
        """Page → the zone that it is listed in."""
        return self._zone

    def zone(self, handle: Handle) -> int:
        """The zone that a page is listed in."""
        return self._zone[handle]

    def pages(self, zones: Iterable[int]) -> int:
        """How many pages these zones have."""
        return sum(len(self._ages[zone]) for zone in zones)

    def add(self, zone: int, handles: Iterable[Handle]) -> None:
        """As the newest of the zone, in their order; none of them is listed yet."""
        zones, ages = self._zone, self._ages[zone]
        for handle, age in zip(handles, self._next, strict=False):
            zones[handle], ages[handle] = zone, age

    def discard(self, handles: Iterable[Handle]) -> Iterator[tuple[int, list[Handle]]]:
        """Take off the list those of the pages that are on it; which ones, zone by zone."""
        zones = self._zone
        known = [handle for handle in handles if handle in zones]
        for zone, run in groupby(known, zones.__getitem__):
            gone, ages = list(run), self._ages[zone]
            for handle in gone:
                del ages[handle], zones[handle]
            yield zone, gone

    def oldest(self, zones: Iterable[int], pages: int) -> list[Handle]:
        """The oldest pages of these zones, at most so many."""
        lists = [ages for zone in zones if (ages := self._ages[zone])]
        if len(lists) == 1:
            return list(islice(lists[0], pages))
        first = [item for ages in lists for item in islice(ages.items(), pages)]
        return [handle for handle, _ in sorted(first, key=itemgetter(1))[:pages]]

    def put_behind(self, handles: Iterable[Handle]) -> None:
        """The next look starts behind these: they are the newest of their zones now."""
        for handle in handles:
            ages = self._ages[self._zone[handle]]
            del ages[handle]
            ages[handle] = next(self._next)
