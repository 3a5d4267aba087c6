# SPDX-License-Identifier: Apache-2.0
"""memblock: the lists of memory, and of what is taken of it, that a kernel keeps before it has an allocator.

Truth: mm/memblock.c (memblock_add_range, memblock_isolate_range, memblock_merge_regions, __find_max_addr,
memblock_cap_memory_range, __next_mem_range, memblock_find_in_range_node). Regions are sorted, never overlap, and
neighbours with the same node and flags are one: some decisions of the kernel look at where a *region* begins, so this
matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from hotbank.errors import Code, Refusal
from hotbank.memory import Range, among, merge, place, without


@dataclass(frozen=True, slots=True)
class Region:
    """One region: MEMBLOCK_HOTPLUG and MEMBLOCK_NOMAP as booleans; ``node`` None is NUMA_NO_NODE."""

    range: Range
    node: int | None = None
    hotplug: bool = False
    nomap: bool = False


class Memblock:
    """``memblock.memory`` and ``memblock.reserved`` with the calls that boot code makes on them. Ranges in bytes."""

    def __init__(self, regions: Iterable[Region] = (), reserved: Iterable[Range] = ()) -> None:
        self._regions = list(regions)
        self.reserved = list[Range]()
        self._taken = list[Range]()  # the same, ascending and joined
        for range_ in reserved:
            self.reserve(range_)

    def __iter__(self) -> Iterator[Region]:
        return iter(tuple(self._regions))

    @property
    def start(self) -> int:
        """memblock_start_of_DRAM: 0 without memory."""
        return self._regions[0].range.start if self._regions else 0

    @property
    def end(self) -> int:
        """memblock_end_of_DRAM: 0 without memory."""
        return self._regions[-1].range.end if self._regions else 0

    @property
    def extent(self) -> Range:
        """From the first byte of memory to behind the last."""
        return Range(self.start, self.end)

    @property
    def total(self) -> int:
        """Bytes of memory, mapped or not."""
        return sum(region.range.size for region in self._regions)

    @property
    def mapped(self) -> tuple[Range, ...]:
        """What of it the kernel maps, merged."""
        return merge(region.range for region in self._regions if not region.nomap)

    def add(self, range_: Range) -> None:
        """Bytes that are memory already keep their node and flags."""
        self._change(range_, lambda there: [*there, *map(Region, without([range_], (r.range for r in there)))])

    def remove(self, range_: Range) -> None:
        """Take out whatever of the range is memory."""
        self._change(range_, lambda there: [replace(r, range=part) for r in there for part in r.range.minus(range_)])

    def mark(self, range_: Range, change: Callable[[Region], Region]) -> None:
        """Apply ``change`` (node or flags) to the memory inside the range, splitting regions at its edges."""
        self._change(range_, lambda there: [part for region in there for part in _marked(region, range_, change)])

    def mark_hotplug(self, range_: Range) -> None:
        """memblock_mark_hotplug."""
        self.mark(range_, lambda r: replace(r, hotplug=True))

    def clear_hotplug(self, range_: Range) -> None:
        """memblock_clear_hotplug."""
        self.mark(range_, lambda r: replace(r, hotplug=False))

    def mark_nomap(self, range_: Range) -> None:
        """memblock_mark_nomap."""
        self.mark(range_, lambda r: replace(r, nomap=True))

    def set_node(self, range_: Range, node: int | None) -> None:
        """memblock_set_node."""
        self.mark(range_, lambda r: replace(r, node=node))

    def cap(self, limit: int) -> int | None:
        """memblock_mem_limit_remove_map: keep ``limit`` bytes from the bottom; no-map regions stay wherever they are.

        Returns the address where memory now ends, or None when nothing was to be removed.
        """
        left = limit
        for region in self._regions:
            if left <= region.range.size:
                top = region.range.start + left
                break
            left -= region.range.size
        else:
            return None
        if limit == 0:
            return None
        above = Range(top, max(top, self.end))
        kept = [replace(r, range=p) for r in self._regions for p in ((r.range,) if r.nomap else r.range.minus(above))]
        self._regions = _merged(kept)
        return top

    def overlaps(self, range_: Range) -> bool:
        """True if any byte of the range is memory."""
        return bool(self._regions[self._touched(range_)])

    def copy(self) -> Memblock:
        """The same lists, to go on with."""
        return Memblock(self._regions, self.reserved)

    def reserve(self, range_: Range) -> None:
        """memblock_reserve."""
        self.reserved.append(range_)
        beside = Range(max(0, range_.start - 1), range_.end + 1)
        near = place(self._taken, beside, lambda taken: taken)
        self._taken[near] = merge([*self._taken[near], range_])

    def is_reserved(self, range_: Range) -> bool:
        """memblock_is_region_reserved: is any byte of it taken?"""
        return bool(among(self._taken, range_))

    def free(self) -> tuple[Range, ...]:
        """for_each_free_mem_range: what is mapped and not taken, ascending; never across regions."""
        return without((r.range for r in self._regions if not r.nomap), self._taken)

    def take(self, size: int, align: int, within: Iterable[Range]) -> Range | None:
        """The topmost free ``size`` bytes inside ``within`` from a multiple of ``align`` on, now taken; or None."""
        places = tuple(within)
        free = [part for space in self.free() for limit in places if (part := space.intersection(limit))]
        for space in sorted(free, reverse=True):
            start = (space.end - size) // align * align
            if start >= space.start:
                self.reserve(Range.sized(start, size))
                return self.reserved[-1]
        return None

    def alloc(self, size: int, align: int, *places: Iterable[Range]) -> Range:
        """memblock_alloc, top-down, in the first of ``places`` that has room. Raises Refusal: a kernel panics."""
        for within in places:
            found = self.take(size, align, within)
            if found:
                return found
        raise Refusal(Code.NO_CAPACITY, f"the kernel does not fit: {size} bytes of boot memory are not to be had")

    def pfns(self, page_size: int) -> Iterator[tuple[int, int, int | None]]:
        """(first pfn, pfn behind the last, node) of each region that has a whole page: __next_mem_pfn_range."""
        for region in self._regions:
            start, end = -(-region.range.start // page_size), region.range.end // page_size
            if start < end:
                yield start, end, region.node

    def _touched(self, range_: Range) -> slice:
        """Where the regions are that overlap it."""
        return place(self._regions, range_, lambda region: region.range)

    def _change(self, range_: Range, change: Callable[[list[Region]], list[Region]]) -> None:
        """Put others in the place of the regions that overlap the range. Their neighbours may become one with them."""
        there = self._touched(range_)
        new = sorted(change(self._regions[there]), key=lambda r: r.range)
        near = slice(max(0, there.start - 1), there.stop + 1)
        before, behind = self._regions[near.start : there.start], self._regions[there.stop : near.stop]
        self._regions[near] = _merged([*before, *new, *behind])


def _marked(region: Region, range_: Range, change: Callable[[Region], Region]) -> list[Region]:
    inside = region.range.intersection(range_)
    if inside is None:
        return [region]
    return [
        *(replace(region, range=part) for part in region.range.minus(inside)),
        change(replace(region, range=inside)),
    ]


def _merged(regions: Iterable[Region]) -> list[Region]:
    """memblock_merge_regions."""
    merged: list[Region] = []
    for region in regions:
        last = merged[-1] if merged else None
        if last and last.range.end == region.range.start and replace(last, range=region.range) == region:
            merged[-1] = replace(last, range=Range(last.range.start, region.range.end))
        else:
            merged.append(region)
    return merged
