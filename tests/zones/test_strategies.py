# SPDX-License-Identifier: Apache-2.0
"""The two strategies of 2009: equal to each other always, to mainline where the movable banks are topmost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.errors import Code, Refusal
from hotbank.memory import MIB, MemoryMap, MemoryRegion, Range
from hotbank.zones import proposal_2009
from hotbank.zones.proposal_2009 import NR_BANKS, MemBank, MemInfo
from zones.maps import arm, codes, memory, region, spans

_parts = st.tuples(st.integers(0, 40).map(lambda n: n * 7), st.integers(1, 60).map(lambda n: n * 13), st.booleans())
_dma = st.sampled_from((None, 16 * MIB, 64 * MIB, 1024 * MIB))


def _board(parts: list[tuple[int, int, bool]]) -> MemoryMap:
    regions, at = list[MemoryRegion](), 1024
    for gap, size, hot in parts:
        at += gap if regions else 0
        if at + size > 4095:
            break
        regions.append(region(at, size, hot=hot, source="ATAG_MEM_MOVABLE" if hot else "ATAG_MEM"))
        at += size
    return memory(*regions)


@given(st.lists(_parts, min_size=1, max_size=NR_BANKS), _dma)
def test_adjusting_equals_walking(parts: list[tuple[int, int, bool]], dma_size: int | None) -> None:
    adjusted, walked = (arm(_board(parts), strategy=s, dma_size=dma_size) for s in ("adjust", "banks"))
    assert adjusted == walked


@given(st.lists(_parts, min_size=1, max_size=NR_BANKS - 1), st.integers(0, 7), _dma)
def test_all_equal_where_the_movable_banks_are_topmost(
    parts: list[tuple[int, int, bool]], movable: int, dma_size: int | None
) -> None:
    kernel_banks = max(1, len(parts) - movable)
    board = _board([(gap, size, n >= kernel_banks) for n, (gap, size, _) in enumerate(parts)])
    mainline, walked = (arm(board, strategy=s, dma_size=dma_size) for s in ("mainline", "banks"))
    assert walked.zones == mainline.zones
    assert walked.blocks == mainline.blocks
    assert "STRATEGY_DIFFERS" not in codes(walked)
    assert "KERNEL_ABOVE_MOVABLE" not in codes(mainline)


@given(st.lists(_parts, min_size=1, max_size=NR_BANKS), _dma)
def test_a_page_is_in_the_zone_of_its_bank(parts: list[tuple[int, int, bool]], dma_size: int | None) -> None:
    board = _board(parts)
    layout = arm(board, strategy="banks", dma_size=dma_size)
    movable = sum(z.present for z in layout.zones if z.zone == "Movable") * 4096
    wanted = sum(r.range.size for r in board.regions if r.hotpluggable)
    heads = sum(1 for a, b in pairwise([None, *board.regions]) if b and b.hotpluggable)
    assert wanted - 4 * MIB * heads < movable <= wanted or wanted == movable == 0
    assert sum(z.present for z in layout.zones) * 4096 == sum(r.range.size for r in layout.ram)


def test_kernel_movable_kernel() -> None:
    """The difference that the proposal is about, and the warning on both sides."""
    board = memory(
        region(1024, 256), region(1280, 256, hot=True, source="ATAG_MEM_MOVABLE"), region(1536, 256), region(2048, 256)
    )
    mainline = arm(board)
    assert spans(mainline) == [(0, "Normal", 1024, 256, 256), (0, "Movable", 1280, 1024, 768)]
    assert codes(mainline).count("KERNEL_ABOVE_MOVABLE") == 2
    for strategy in ("adjust", "banks"):
        layout = arm(board, strategy=strategy)
        assert spans(layout) == [
            (0, "Normal", 1024, 768, 512),
            (0, "Movable", 1280, 256, 256),
            (0, "HighMem", 1792, 512, 256),
        ]
        warning = next(w for w in layout.findings if w.code == "STRATEGY_DIFFERS")
        assert "0:Movable 0x50000+0x40000 (0x30000 present)" in warning.message
        assert {b.valid_zones for b in layout.blocks if 20 <= b.block < 24} == {("Movable",)}


def test_an_unaligned_movable_head_is_kernel_memory() -> None:
    board = memory(region(1024, 257), region(1281, 255, hot=True, source="ATAG_MEM_MOVABLE"))
    wanted = [(0, "Normal", 1024, 260, 260), (0, "Movable", 1284, 252, 252)]
    assert spans(arm(board)) == spans(arm(board, strategy="adjust")) == spans(arm(board, strategy="banks")) == wanted


def test_registration_has_the_limits_of_then() -> None:
    eight = [MemBank(n * 10, n * 10 + 5) for n in range(NR_BANKS)]
    assert len(list(MemInfo(eight))) == 8
    with pytest.raises(Refusal, match="one more than the 8") as caught:
        MemInfo([*eight, MemBank(1000, 1001)])
    assert caught.value.code is Code.UNSUPPORTED
    with pytest.raises(Refusal, match="no whole page"):
        MemInfo([MemBank(5, 5)])
    with pytest.raises(Refusal) as caught:
        MemInfo([MemBank(0, 10), MemBank(9, 20)])
    assert caught.value.code is Code.OVERLAP
    nine = memory(*(region(1024 + 20 * n, 8) for n in range(9)))
    assert arm(nine).zones
    with pytest.raises(Refusal, match="one more than the 8"):
        arm(nine, strategy="adjust")


def test_the_property_notices_a_lost_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the holes that movable banks leave, adjusting differs from walking."""
    monkeypatch.setattr(proposal_2009, "_carve", lambda *_: None)
    board = memory(region(1024, 256), region(1280, 256, hot=True, source="ATAG_MEM_MOVABLE"), region(1536, 256))
    adjusted, walked = (arm(board, strategy=s) for s in ("adjust", "banks"))
    assert adjusted.zones != walked.zones
    assert Range(1280 * MIB, 1536 * MIB) in [r.range for r in adjusted.ram]
