# SPDX-License-Identifier: Apache-2.0
"""The kernel's rules beyond the captured boots, worked out by hand from its source; sizes in MiB."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.errors import Refusal
from hotbank.memory import KIB, MIB, Range, Reservation
from hotbank.zones import Layout, predict
from zones.maps import arm, arm64, codes, memory, region, spans


def test_a_board_with_30_bit_masters() -> None:
    """Raspberry Pi 4: DMA to 1 GiB, DMA32 to 4 GiB, Normal above."""
    pi = memory(region(0, 948), region(1024, 3072), region(4096, 4096), dma_limit=1 << 30)
    wanted = [(0, "DMA", 0, 1024, 948), (0, "DMA32", 1024, 3072, 3072), (0, "Normal", 4096, 4096, 4096)]
    assert spans(arm64(pi)) == wanted
    assert spans(arm64(pi, kernel="6.1")) == wanted


def test_a_limit_that_is_no_power_of_two() -> None:
    """6.1 rounds the limit up to bits; 6.12 takes it as it is."""
    board = memory(region(0, 2048), dma_limit=768 * MIB)
    assert spans(arm64(board, kernel="6.1"))[0] == (0, "DMA", 0, 1024, 1024)
    assert spans(arm64(board))[0] == (0, "DMA", 0, 768, 768)


def test_ram_above_4_gib_only() -> None:
    board = memory(region(32768, 4096))
    for kernel in ("6.1", "6.12", "7.3"):
        assert spans(arm64(board, kernel=kernel)) == [(0, "DMA", 32768, 4096, 4096)]
    limited = replace(board, dma_limit=34816 * MIB)
    assert spans(arm64(limited)) == [(0, "DMA", 32768, 2048, 2048), (0, "Normal", 34816, 2048, 2048)]
    assert spans(arm64(limited, kernel="6.1")) == [(0, "DMA", 32768, 4096, 4096)]


def test_dma_limit_below_all_ram() -> None:
    """6.1 falls back to 32 bits; since 6.12 the DMA zone is empty."""
    board = memory(region(2048, 1024), dma_limit=1 << 30)
    assert spans(arm64(board, kernel="6.1")) == [(0, "DMA", 2048, 1024, 1024)]
    assert spans(arm64(board)) == [(0, "DMA32", 2048, 1024, 1024)]


@pytest.mark.parametrize(("page_size", "unit"), [(4 * KIB, 4), (16 * KIB, 32), (64 * KIB, 512)])
def test_movable_begins_at_the_largest_buddy_block(page_size: int, unit: int) -> None:
    layout = arm64(memory(region(1024, 4096)), "movablecore=1000M", page_size=page_size)
    movable = next(z for z in layout.zones if z.zone == "Movable")
    rounded = -(-1000 // unit) * unit
    pages = rounded * MIB // page_size
    assert movable.start_pfn * page_size // MIB == -(-(5120 - rounded) // unit) * unit
    assert movable.spanned <= pages


def test_mem_caps_the_total_and_drops_what_is_above() -> None:
    board = memory(region(1024, 1024), region(4096, 1024))
    layout = arm64(board, "mem=1536M")
    assert spans(layout) == [(0, "DMA", 1024, 3072, 1024), (0, "Normal", 4096, 512, 512)]
    assert [h.range for h in layout.hidden] == [Range(4608 * MIB, 5120 * MIB)]
    assert spans(arm64(board, "mem=1G mem=4G")) == spans(arm64(board))
    assert spans(arm64(board, "mem=0")) == spans(arm64(board))
    assert "OPTION_IGNORED" in codes(arm64(board, "mem=1G@0x80000000"))


def test_an_initrd_beyond_mem_comes_back() -> None:
    initrd = Range.sized(1900 * MIB, MIB)
    layout = arm64(memory(region(1024, 1024), initrd=initrd), "mem=512M")
    assert [r.range for r in layout.ram] == [Range(1024 * MIB, 1536 * MIB), initrd]
    assert [b.block for b in layout.blocks] == [8, 9, 10, 11, 14]


def test_no_map_splits_ram_and_stays_present() -> None:
    hole = Reservation(Range(1536 * MIB, 1600 * MIB), "fw", no_map=True)
    layout = arm64(memory(region(1024, 1024), reserved=(hole,)))
    assert spans(layout) == [(0, "DMA", 1024, 1024, 1024)]
    assert [r.range for r in layout.ram] == [Range(1024 * MIB, 1536 * MIB), Range(1600 * MIB, 2048 * MIB)]
    assert {"HOLES", "NOT_USED"} <= set(codes(layout))
    # Where the initrd lies the kernel refuses to unmap.
    busy = arm64(memory(region(1024, 1024), reserved=(hole,), initrd=Range.sized(1536 * MIB, MIB)))
    assert [r.range for r in busy.ram] == [Range(1024 * MIB, 2048 * MIB)]


def test_blocks_of_two_nodes_and_of_two_zones_are_none() -> None:
    board = memory(region(1024, 1088, node=0), region(2112, 960, node=1))
    layout = arm64(board, "movablecore=200M")
    none = [b.block for b in layout.blocks if b.valid_zones == ("none",)]
    assert none == [15, 16, 23]
    assert codes(layout).count("MULTI_ZONE") == 3


def test_numa_needs_a_node_everywhere() -> None:
    layout = arm64(memory(region(1024, 1024, node=0), region(2048, 1024)))
    assert {z.node for z in layout.zones} == {0}
    assert "NUMA_IGNORED" in codes(layout)
    # Between memory of one node, kernels since 6.12 count it to that node; unless the last has none.
    gap = (region(1024, 512, node=1), region(1536, 512), region(2048, 512, node=1), region(2560, 512, node=0))
    assert {z.node for z in arm64(memory(*gap), kernel="6.1").zones} == {0}
    assert [s[:4] for s in spans(arm64(memory(*gap)))] == [(0, "DMA", 2560, 512), (1, "DMA", 1024, 1536)]
    assert {z.node for z in arm64(memory(*gap, region(4096, 512))).zones} == {0}
    off = arm64(memory(region(1024, 1024, node=0), region(2048, 1024, node=1)), "numa=off")
    assert {z.node for z in off.zones} == {0}


def test_srat_domains_become_nodes_in_order_of_appearance() -> None:
    board = memory(
        region(1024, 1024, node=7, source="SRAT[2]"), region(2048, 1024, node=3, source="SRAT[3]"), cpu_nodes=(3,)
    )
    assert [(node, start) for node, _, start, _, _ in spans(arm64(board))] == [(0, 2048), (1, 1024)]


def test_srat_domains_of_what_is_no_ram_take_node_numbers_too() -> None:
    board = memory(region(1024, 1024, node=7, source="SRAT[2]"), cpu_nodes=(3,), domains=(3, 9, 5, 7))
    assert [node for node, *_ in spans(arm64(board))] == [3]


def test_nodes_that_overlap_are_refused_since_6_12() -> None:
    for source in ("/memory", "SRAT[0]"):
        board = memory(region(1024, 1024, node=0, source=source), region(1536, 1024, node=1, source=source))
        assert spans(arm64(board)) == [(0, "DMA", 1024, 1536, 1536)]
        assert "overlaps that of node 1" in next(w.message for w in arm64(board).findings if w.code == "NUMA_IGNORED")
        assert [s[:4] for s in spans(arm64(board, kernel="6.1"))] == [(0, "DMA", 1024, 512), (1, "DMA", 1536, 1024)]
    same = memory(region(1024, 1024, node=1), region(1536, 1024, node=1), region(2560, 64, node=0))
    assert {z.node for z in arm64(same).zones} == {0, 1}


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.3"])
def test_more_nodes_than_the_kernel_knows_are_refused(kernel: str) -> None:
    far = arm64(memory(region(1024, 1024, node=0), region(2048, 1024, node=16)), kernel=kernel)
    assert {z.node for z in far.zones} == {0}
    assert "NUMA_IGNORED" in codes(far)
    domains = (region(1024 + 64 * n, 64, node=n, source=f"SRAT[{n}]") for n in range(17))
    assert {z.node for z in arm64(memory(*domains), kernel=kernel).zones} == {0}
    far = arm64(memory(region(1024, 64, node=1000, source="SRAT[0]")), kernel=kernel)
    assert "NUMA_IGNORED" in codes(far)


def test_marks_of_a_srat_that_misses_memory_stay_on_6_1_only() -> None:
    board = memory(region(1024, 1024), region(2048, 1024, node=1, hot=True, source="SRAT[1]"))
    assert spans(arm64(board, "movable_node", "6.1"))[-1] == (0, "Movable", 2048, 1024, 1024)
    for line, kernel in (("movable_node", "6.12"), ("movable_node numa=off", "6.1")):
        assert spans(arm64(board, line, kernel)) == [(0, "DMA", 1024, 2048, 2048)]


def test_mirror_beside_movable_node_leaves_the_kernels_zones_as_long_as_they_were() -> None:
    board = memory(region(1024, 1024), region(2048, 1024, hot=True))
    layout = arm64(board, "movable_node kernelcore=mirror", "6.1")
    assert spans(layout) == [(0, "DMA", 1024, 2048, 2048), (0, "Movable", 2048, 1024, 1024)]
    assert {b.valid_zones for b in layout.blocks if b.block >= 16} == {("none",)}
    assert "OPTION_IGNORED" in codes(layout)


def test_srats_hot_pluggable_survives_except_in_a_node_with_kernel_memory() -> None:
    """The kernel's image is in the lowest node, its first page tables are in the topmost."""
    hot = region(2048, 1024, node=1, hot=True, source="SRAT[1]")
    two = memory(region(1024, 1024, node=0, source="SRAT[0]"), hot)
    three = memory(*two.regions, region(3072, 1024, node=2, source="SRAT[2]"))
    one = memory(region(1024, 1024, node=0, source="SRAT[0]"), region(2048, 1024, node=0, hot=True, source="SRAT[1]"))
    for kernel in ("6.1", "6.12", "7.3"):
        assert (1, "Movable", 2048, 1024, 1024) in spans(arm64(three, "movable_node", kernel))
        assert "Movable" not in [s[1] for s in spans(arm64(three, "", kernel))]
        movable = "Movable" in [s[1] for s in spans(arm64(two, "movable_node", kernel))]
        assert movable is (kernel == "6.1")
    assert (0, "Movable", 2048, 1024, 1024) in spans(arm64(one, "movable_node", "6.1"))
    kept = arm64(one, "movable_node")
    assert "Movable" not in [s[1] for s in spans(kept)]
    assert "HOTPLUGGABLE_IGNORED" in codes(kept)


def test_mirror_on_6_1_takes_regions_above_4_gib() -> None:
    board = memory(region(1024, 1024), region(4096, 1024))
    assert spans(arm64(board, "kernelcore=mirror", "6.1"))[-1] == (0, "Movable", 4096, 1024, 1024)
    assert spans(arm64(board, "kernelcore=mirror"))[-1] == (0, "Normal", 4096, 1024, 1024)


def test_the_2009_board_and_its_command_line() -> None:
    tags = memory(region(1024, 256), region(1280, 256, hot=True, source="ATAG_MEM_MOVABLE"))
    wanted = [(0, "Normal", 1024, 256, 256), (0, "Movable", 1280, 256, 256)]
    assert spans(arm(tags)) == wanted
    words = "mem=256M@0x40000000 movablemem=256M@0x50000000"
    assert spans(arm(memory(region(1024, 512)), words)) == wanted
    # The first mem= drops what came before it, a movable bank too.
    wrong = "movablemem=256M@0x50000000 mem=256M@0x40000000"
    assert spans(arm(memory(region(1024, 512)), wrong)) == [(0, "Normal", 1024, 256, 256)]


def test_arm_lowmem_highmem_and_dma() -> None:
    big = memory(region(1024, 1536))
    assert spans(arm(big)) == [(0, "Normal", 1024, 768, 768), (0, "HighMem", 1792, 768, 768)]
    assert spans(arm(big, "vmalloc=496M"))[0] == (0, "Normal", 1024, 512, 512)
    assert spans(arm(big, "vmalloc=1M"))[0] == (0, "Normal", 1024, 992, 992)
    # setup_dma_zone's limit is the last page itself, so the zone is one page short.
    dma = arm(big, dma_size=16 * MIB).zones
    assert [(z.zone, z.start_pfn, z.spanned) for z in dma[:2]] == [("DMA", 0x40000, 4095), ("Normal", 0x40FFF, 192513)]


def test_a_lowmem_movable_bank_swallows_highmem() -> None:
    board = memory(region(1024, 512), region(1536, 256, hot=True, source="ATAG_MEM_MOVABLE"), region(1792, 512))
    layout = arm(board)
    assert spans(layout) == [(0, "Normal", 1024, 512, 512), (0, "Movable", 1536, 768, 768)]
    assert "KERNEL_ABOVE_MOVABLE" in codes(layout)


def test_a_device_tree_on_arm_needs_movable_node() -> None:
    board = memory(region(1024, 256), region(1280, 256, hot=True))
    assert [s[1] for s in spans(arm(board))] == ["Normal"]
    assert [s[1] for s in spans(arm(board, "movable_node"))] == ["Normal", "Movable"]


def test_arm_takes_no_memory_beyond_32_bits() -> None:
    layout = arm(memory(region(2048, 1024), region(4096, 1024)))
    assert [r.range for r in layout.ram] == [Range(2048 * MIB, 3072 * MIB)]
    (hidden,) = layout.hidden
    assert hidden.why == "outside the 32-bit address space, where a kernel with LPAE would use it (--lpae)"
    for word in ("mem=1M@0x200000000", "mem=1M@0xffffffffffffffff", "movablemem=16E@0x100000000"):
        assert arm(memory(region(2048, 1024)), f"mem=1G {word}").zones == arm(memory(region(2048, 1024))).zones


def test_what_cannot_be_predicted_is_refused() -> None:
    board = memory(region(1024, 1024))
    with pytest.raises(Refusal, match=r"no rules for kernel '5\.10'"):
        arm64(board, kernel="5.10")
    with pytest.raises(Refusal, match="no zone rules for 'x86'"):
        predict(board, arch="x86", page_size=4096, block_size=128 * MIB)
    for block_size in (0, 2 * MIB, 3 * MIB, 12 * MIB):
        with pytest.raises(Refusal, match="no power of two, or less than a largest buddy block"):
            predict(board, arch="arm64", page_size=4096, block_size=block_size)
    with pytest.raises(Refusal, match="memory blocks"):
        arm64(memory(region(1024, 1 << 27)))
    assert replace(arm64(memory()), findings=()) == Layout()


_sizes = st.integers(1, 40).map(lambda n: n * 61)
_lines = st.sampled_from(
    ("", "movablecore=1G", "movablecore=37%", "kernelcore=700M", "kernelcore=20%", "movable_node", "mem=1500M")
)


@given(
    st.lists(st.tuples(_sizes, _sizes, st.booleans(), st.integers(0, 2)), min_size=1, max_size=5),
    _lines,
    st.sampled_from(("6.1", "6.12", "7.3")),
    st.booleans(),
)
def test_every_page_is_in_one_zone(
    parts: list[tuple[int, int, bool, int]], line: str, kernel: str, nodes: bool
) -> None:
    """Zones of a node never overlap, and together they have exactly the memory that there is."""
    regions, at = [], 1024
    for gap, size, hot, node in parts:
        at += gap
        regions.append(region(at, size, hot=hot, node=node if nodes else None))
        at += size
    layout = arm64(memory(*regions), line, kernel)
    if codes(layout) == ["PANICS"]:
        assert line == "movable_node"
        assert all(hot for *_, hot, _ in parts)
        return
    assert sum(z.present for z in layout.zones) * 4096 == sum(r.range.size for r in layout.ram)
    for node in {z.node for z in layout.zones}:
        mine = [z for z in layout.zones if z.node == node]
        assert all(a.end_pfn <= b.start_pfn for a, b in pairwise(mine))
        assert all(0 < z.present <= z.spanned for z in mine)
