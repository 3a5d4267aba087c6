# SPDX-License-Identifier: Apache-2.0
"""The node that a description names for an address, where another map says what memory there is."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import pairwise

from hotbank.memory import MemoryRegion, Range, place


class Nodes:
    """Nodes of described regions by address. Where regions overlap, the one that was described first counts."""

    def __init__(self, regions: Sequence[MemoryRegion]) -> None:
        self._regions = regions
        self._pieces = list(_pieces([region.range for region in regions]))

    def at(self, range_: Range) -> int | None:
        """The node of the first region that has a byte of the range; None where none has."""
        touched = self._pieces[place(self._pieces, range_, lambda piece: piece[0])]
        return self._regions[min(number for _, number in touched)].node if touched else None


def _pieces(ranges: Sequence[Range]) -> Iterator[tuple[Range, int]]:
    """Which of the ranges is the first at each address: pieces that ascend, with the number of the range."""
    edges = sorted({edge for r in ranges for edge in (r.start, r.end)})
    coming = sorted(range(len(ranges)), key=lambda number: ranges[number].start, reverse=True)
    here = list[int]()
    for start, end in pairwise(edges):
        while coming and ranges[coming[-1]].start <= start:
            heapq.heappush(here, coming.pop())
        while here and ranges[here[0]].end <= start:
            heapq.heappop(here)
        if here:
            yield Range(start, end), here[0]
