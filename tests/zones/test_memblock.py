# SPDX-License-Identifier: Apache-2.0
"""memblock against the plainest twin: a dictionary with one entry for each page."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hotbank.memory import Range
from hotbank.zones.memblock import Memblock, Region

Pages = dict[int, tuple[int | None, bool, bool]]

_ranges = st.tuples(st.integers(0, 30), st.integers(1, 12)).map(lambda t: Range.sized(t[0], t[1]))
_steps = st.tuples(st.sampled_from(("add", "remove", "hotplug", "unplug", "nomap", "node", "cap")), _ranges)


def _twin(pages: Pages, step: str, range_: Range) -> None:
    if step == "cap":
        for n in sorted(pages)[range_.size :]:
            if not pages[n][2]:
                del pages[n]
        return
    inside = [n for n in range(range_.start, range_.end) if n in pages]
    if step == "add":
        for n in range(range_.start, range_.end):
            pages.setdefault(n, (None, False, False))
    for n in inside:
        node, hot, nomap = pages[n]
        if step == "remove":
            del pages[n]
        elif step in ("hotplug", "unplug"):
            pages[n] = (node, step == "hotplug", nomap)
        elif step == "nomap":
            pages[n] = (node, hot, True)
        elif step == "node":
            pages[n] = (range_.size % 3, hot, nomap)


def _apply(memory: Memblock, step: str, range_: Range) -> None:
    if step == "cap":
        memory.cap(range_.size)
    elif step == "node":
        memory.set_node(range_, range_.size % 3)
    else:
        calls = {
            "add": memory.add,
            "remove": memory.remove,
            "hotplug": memory.mark_hotplug,
            "unplug": memory.clear_hotplug,
            "nomap": memory.mark_nomap,
        }
        calls[step](range_)


@given(st.lists(_steps, max_size=14))
def test_memblock_is_its_pages(steps: list[tuple[str, Range]]) -> None:
    memory, pages = Memblock(), Pages()
    for step, range_ in steps:
        _apply(memory, step, range_)
        _twin(pages, step, range_)
    found = {n: (r.node, r.hotplug, r.nomap) for r in memory for n in range(r.range.start, r.range.end)}
    assert found == pages
    regions = list(memory)
    assert regions == sorted(regions, key=lambda r: r.range)
    for lower, upper in pairwise(regions):
        touching = lower.range.end == upper.range.start
        assert lower.range.end < upper.range.start or (touching and replace(lower, range=upper.range) != upper)
    assert (memory.start, memory.end) == ((min(pages), max(pages) + 1) if pages else (0, 0))


def test_whole_pages_only() -> None:
    memory = Memblock([Region(Range(4095, 12289)), Region(Range(20000, 20100))])
    assert list(memory.pfns(4096)) == [(1, 3, None)]


@given(st.lists(_steps, max_size=10), st.lists(_ranges, max_size=6), st.integers(1, 6), st.sampled_from((1, 2, 4)))
def test_the_topmost_free_place_is_taken(
    steps: list[tuple[str, Range]], taken: list[Range], size: int, align: int
) -> None:
    memory = Memblock()
    for step, range_ in steps:
        _apply(memory, step, range_)
    for range_ in taken:
        memory.reserve(range_)
    gone = {n for range_ in taken for n in range(range_.start, range_.end)}
    mapped = [set(range(r.range.start, r.range.end)) - gone for r in memory if not r.nomap]
    assert {n for part in memory.free() for n in range(part.start, part.end)} == set().union(*mapped)
    starts = [n for part in mapped for n in part if n % align == 0 and set(range(n, n + size)) <= part]
    before = memory.copy()
    found = memory.take(size, align, [Range(0, 100)])
    assert found == (Range.sized(max(starts), size) if starts else None)
    assert before.reserved == taken
    assert memory.is_reserved(found) if found else memory.reserved == taken
