# SPDX-License-Identifier: Apache-2.0
"""Many regions, banks, zones and lines: the work for twice as many is hardly more than twice as much, counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counted import lines
from hotbank import board, firmware, zones
from hotbank.firmware import efi
from hotbank.firmware.nodes import Nodes
from hotbank.memory import MIB, MemoryMap, MemoryRegion, Range, Reservation, among, merge, without
from hotbank.zones import iomem
from hotbank.zones.memblock import Memblock

BLOCK, FEW = 128 * MIB, 60
SLACK = 2.6  # 2 for what grows in proportion, and its logarithm


def board_of(banks: int) -> str:
    """Every other block is a bank, and may leave."""
    rows = (f'[bank.b{n}]\nstart = {(1 << 30) + n * 2 * BLOCK}\nsize = "128M"\nmovable = true\n' for n in range(banks))
    return 'name = "b"\narch = "arm64"\nblock_size = "128M"\n' + "".join(rows)


def domains_of(banks: int) -> str:
    return board_of(banks) + "".join(f'[domain.d{n}]\nstates = ["on"]\n' for n in range(banks))


def described(banks: int, form: str = "dtb") -> bytes:
    return firmware.describe(board.loads(board_of(banks)), form).data


def no_map_of(reservations: int) -> MemoryMap:
    """Every other block is memory, a part of which must not be mapped."""
    spans = [Range.sized((1 << 30) + n * 2 * BLOCK, BLOCK) for n in range(reservations)]
    kept = (Reservation(Range.sized(s.start, MIB), f"r{n}", no_map=True) for n, s in enumerate(spans))
    return MemoryMap(tuple(MemoryRegion(s, 0) for s in spans), tuple(kept))


def iomem_of(entries: int) -> str:
    rows = ((1 << 30) + n * BLOCK for n in range(entries))
    return "".join(f"{at:08x}-{at + BLOCK // 2 - 1:08x} : System RAM\n" for at in rows)


def efi_of(entries: int) -> str:
    rows = ((1 << 30) + n * BLOCK for n in range(entries))
    spans = (f"[0x{at:016x}-0x{at + BLOCK // 2 - 1:016x}]" for at in rows)
    return "".join(f"efi: mem{n:02}: [Conventional|WB] range={span}\n" for n, span in enumerate(spans))


def predict(data: bytes) -> object:
    return predicted(firmware.memory_map(data))


def predicted(memory: MemoryMap) -> object:
    return zones.predict(memory, arch="arm64", page_size=4096, block_size=BLOCK, cmdline="movable_node")


Make = Callable[[int], Any]
Act = Callable[[Any], object]
WORK: dict[str, tuple[Make, Act]] = {
    "a board": (board_of, board.loads),
    "domains": (domains_of, board.loads),
    "a board as a device tree": (lambda n: board.loads(board_of(n)), lambda b: firmware.describe(b, "dtb")),
    "a board as a table": (lambda n: board.loads(board_of(n)), lambda b: firmware.describe(b, "srat")),
    "a device tree": (described, firmware.memory_map),
    "a table": (lambda n: described(n, "srat"), firmware.memory_map),
    "zones of a device tree": (described, predict),
    "zones of a table": (lambda n: described(n, "srat"), predict),
    "memory that is not mapped": (lambda n: no_map_of(8 * n), predicted),
    "lines of iomem": (iomem_of, iomem.decode),
    "a table and iomem": (
        lambda n: (firmware.memory_map(described(n, "srat")), iomem_of(2 * n)),
        lambda given: iomem.restrict(*given),
    ),
    "a tree and iomem": (
        lambda n: (firmware.memory_map(described(n)), iomem_of(2 * n)),
        lambda given: iomem.as_found(*given),
    ),
    "a tree and UEFI's map": (
        lambda n: (firmware.memory_map(described(n)), efi_of(2 * n)),
        lambda given: efi.apply(given[0], efi.decode(given[1])),
    ),
}


@pytest.mark.parametrize("what", WORK)
def test_twice_as_many_cost_twice_as_much(what: str) -> None:
    make, act = WORK[what]
    few, many = (make(count) for count in (FEW, 2 * FEW))
    assert lines(lambda: act(many)) < SLACK * lines(lambda: act(few))


def test_a_pass_over_all_for_each_is_noticed() -> None:
    def act(things: range) -> list[int]:
        found = []
        for thing in things:
            for other in things:
                found += [other] if other == thing else []
        return found

    assert lines(lambda: act(range(120))) > SLACK * lines(lambda: act(range(60)))


# What makes it so, against passes over everything

spans = st.tuples(st.integers(0, 40), st.integers(1, 15)).map(lambda t: Range.sized(*t))
many = st.lists(spans, max_size=8)


@given(many, many)
def test_what_is_left_without_others(ranges: list[Range], cuts: list[Range]) -> None:
    left = ranges
    for cut in cuts:
        left = [part for range_ in left for part in range_.minus(cut)]
    assert without(ranges, cuts) == tuple(left)


@given(many, spans)
def test_which_of_them_overlap(ranges: list[Range], span: Range) -> None:
    apart = merge(ranges)
    assert list(among(apart, span)) == [range_ for range_ in apart if range_.overlaps(span)]


@given(many, spans)
def test_the_node_is_that_of_the_first_region_there(ranges: list[Range], span: Range) -> None:
    regions = [MemoryRegion(range_, number) for number, range_ in enumerate(ranges)]
    first = next((region.node for region in regions if region.range.overlaps(span)), None)
    assert Nodes(regions).at(span) == first


@given(many, many, spans)
def test_what_is_free_is_what_nobody_reserved(ranges: list[Range], reserved: list[Range], span: Range) -> None:
    memory = Memblock()
    for range_ in ranges:
        memory.add(range_)
    for range_ in reserved:
        memory.reserve(range_)
    assert memory.is_reserved(span) == any(range_.overlaps(span) for range_ in reserved)
    assert memory.overlaps(span) == any(range_.overlaps(span) for range_ in ranges)
    left = list(merge(ranges))
    for taken in reserved:
        left = [part for range_ in left for part in range_.minus(taken)]
    assert memory.free() == tuple(left)
    assert memory.copy().free() == memory.free()
