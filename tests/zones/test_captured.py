# SPDX-License-Identifier: Apache-2.0
"""Predictions against 111 real boots: /proc/zoneinfo, the blocks' valid_zones and /proc/iomem, equal to the page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotbank.firmware import memory_map
from hotbank.memory import merge
from hotbank.zones import BlockZones, Layout, predict
from zones import captured_boots
from zones.captured_boots import Captured


def _predicted(boot: Captured) -> Layout:
    memory = memory_map(boot.dtb)
    return predict(
        memory, arch="arm64", page_size=4096, block_size=boot.block_size, cmdline=boot.cmdline, kernel=boot.kernel
    ).layout


def _differences(boot: Captured, layout: Layout) -> list[str]:
    """What of a layout is not as captured; empty when nothing differs."""
    ram = merge(region.range for region in layout.ram)
    found = {
        "zones": layout.zones == boot.zones,
        "blocks": layout.blocks == boot.blocks,
        "ram": tuple((r.start, r.end) for r in ram) == _joined(boot.ram),
    }
    return [what for what, equal in found.items() if not equal]


def _joined(ram: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for start, end in ram:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)


@pytest.mark.parametrize("name", captured_boots.cases())
def test_prediction_equals_the_captured_boot(name: str) -> None:
    boot = captured_boots.load(name)
    assert _differences(boot, _predicted(boot)) == []


@pytest.mark.parametrize("name", captured_boots.own())
def test_prediction_equals_further_boots(name: str) -> None:
    boot = captured_boots.own()[name]
    assert _differences(boot, _predicted(boot)) == []


def test_all_captured_boots_are_here() -> None:
    assert len(captured_boots.cases()) == 26
    assert len(captured_boots.own()) == 85


@pytest.mark.parametrize("name", captured_boots.cases())
def test_the_comparison_notices_a_wrong_layout(name: str) -> None:
    boot = captured_boots.load(name)
    layout = _predicted(boot)
    last = layout.zones[-1]
    moved = replace(last, start_pfn=last.start_pfn + 1024, spanned=last.spanned - 1024)
    swapped = replace(last, node=last.node ^ 1)
    wrong = [
        replace(layout, zones=(*layout.zones[:-1], moved)),
        replace(layout, zones=(*layout.zones[:-1], swapped)),
        replace(layout, zones=(*layout.zones[:-1], replace(last, present=last.present - 1))),
        replace(layout, zones=layout.zones[:-1]),
        replace(layout, blocks=layout.blocks[1:]),
        replace(layout, blocks=(BlockZones(layout.blocks[0].block, ("none",)), *layout.blocks[1:])),
        replace(layout, ram=layout.ram[:-1]),
    ]
    assert [_differences(boot, breach) for breach in wrong].count([]) == 0
