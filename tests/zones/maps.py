# SPDX-License-Identifier: Apache-2.0
"""Short ways to write memory maps for the zone tests."""

from __future__ import annotations

from hotbank.memory import KIB, MIB, MemoryMap, MemoryRegion, Range
from hotbank.zones import Layout, predict


def region(
    start: int, size: int, *, hot: bool = False, node: int | None = None, source: str = "/memory"
) -> MemoryRegion:
    """A region; start and size in MiB."""
    return MemoryRegion(Range.sized(start * MIB, size * MIB), node, hot, source)


def memory(*regions: MemoryRegion, **more: object) -> MemoryMap:
    """A map of these regions."""
    return MemoryMap(regions=regions, **more)  # type: ignore[arg-type]


def arm64(map_: MemoryMap, cmdline: str = "", kernel: str = "6.12", page_size: int = 4 * KIB) -> Layout:
    """Prediction for arm64 with its usual block size."""
    block = 512 * MIB if page_size == 64 * KIB else 128 * MIB
    return predict(map_, arch="arm64", page_size=page_size, block_size=block, cmdline=cmdline, kernel=kernel).layout


def arm(map_: MemoryMap, cmdline: str = "", strategy: str = "mainline", dma_size: int | None = None) -> Layout:
    """Prediction for the 32-bit port."""
    return predict(
        map_,
        arch="arm",
        page_size=4 * KIB,
        block_size=64 * MIB,
        cmdline=cmdline,
        kernel="6.1",
        strategy=strategy,
        dma_size=dma_size,
    ).layout


def spans(layout: Layout, page_size: int = 4 * KIB) -> list[tuple[int, str, int, int, int]]:
    """(node, zone, start, spanned, present) of each zone, in MiB."""
    unit = MIB // page_size
    return [(z.node, z.zone, z.start_pfn // unit, z.spanned // unit, z.present // unit) for z in layout.zones]


def codes(layout: Layout) -> list[str]:
    """The codes of its warnings."""
    return [w.code for w in layout.findings]
