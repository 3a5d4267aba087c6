# SPDX-License-Identifier: Apache-2.0
"""Zones as mainline makes them: free_area_init.

Truth: mm/mm_init.c, before 6.3 mm/page_alloc.c: find_zone_movable_pfns_for_nodes, zone_spanned_pages_in_node,
adjust_zone_range_for_zone_movable, zone_absent_pages_in_node; drivers/base/memory.c:
early_node_zone_for_memory_block, memory_block_add_nid.
"""

from __future__ import annotations

from collections.abc import Callable

from hotbank.errors import Code, Refusal
from hotbank.firmware.cmdline import MemoryOptions, Share
from hotbank.kernels import Kernel
from hotbank.memory import Zone
from hotbank.zones.boot import Boot
from hotbank.zones.layout import BlockZones, ZoneSpan
from hotbank.zones.memblock import Region

_ORDER = (Zone.DMA, Zone.DMA32, Zone.NORMAL, Zone.HIGHMEM, Zone.MOVABLE)
_FOUR_GIB = 1 << 32
MAX_BLOCKS = 1 << 18  # 32 TiB in blocks of 128 MiB


def zones(boot: Boot, options: MemoryOptions, kernel: Kernel, page_size: int) -> tuple[ZoneSpan, ...]:
    """The populated zones, in node and address order."""
    pfns = list(boot.memory.pfns(page_size))
    if not pfns:
        return ()
    possible = possible_zones(boot, page_size)
    movable_zone = [zone for zone, (low, high) in possible.items() if high > low][-1]
    movable = _movable_starts(boot, options, kernel, page_size, possible[movable_zone])
    # movable_node decides where Movable begins, but the mirror's rules for the kernel's zones stay on.
    mirror = options.kernelcore_mirror
    found = []
    for node in sorted({n for _, _, n in pfns if n is not None}):
        mine = [(start, end) for start, end, n in pfns if n == node]
        for zone in _ORDER:
            if zone is Zone.MOVABLE:
                limits = (movable.get(node, 0), possible[movable_zone][1])
            else:
                limits = possible.get(zone, (0, 0))
            span = _span(zone, mine, limits, movable.get(node, 0), mirror)
            present = sum(_overlap(part, span) for part in mine)
            if mirror and zone is Zone.NORMAL and movable.get(node):
                present -= sum(_overlap(part[:2], span) for part in pfns)
            if present > 0:
                found.append(ZoneSpan(node, zone.value, span[0], span[1] - span[0], present))
    return tuple(found)


def blocks(boot: Boot, spans: tuple[ZoneSpan, ...], page_size: int, block_size: int) -> tuple[BlockZones, ...]:
    """Each memory block that has memory, with the one zone that it lies in, or ``none``."""
    pages = block_size // page_size
    check_count(boot, block_size)
    nodes: dict[int, set[int]] = {}
    for start, end, node in boot.memory.pfns(page_size):
        for number in range(start // pages, (end - 1) // pages + 1):
            nodes.setdefault(number, set()).add(node or 0)
    return tuple(BlockZones(n, _valid_zones(n * pages, pages, nodes[n], spans)) for n in sorted(nodes))


def check_count(boot: Boot, block_size: int) -> None:
    """Raises Refusal for more blocks than anybody wants to read."""
    count = boot.memory.total // block_size
    if count > MAX_BLOCKS:
        raise Refusal(Code.UNSUPPORTED, f"{count} memory blocks, more than {MAX_BLOCKS}", remedy="use larger blocks")


def _valid_zones(start: int, pages: int, nodes: set[int], spans: tuple[ZoneSpan, ...]) -> tuple[str, ...]:
    if len(nodes) > 1:
        return ("none",)
    touching = [s.zone for s in spans if s.node in nodes and s.start_pfn < start + pages and start < s.end_pfn]
    return (touching[0],) if len(touching) == 1 else ("none",)


def possible_zones(boot: Boot, page_size: int) -> dict[Zone, tuple[int, int]]:
    """arch_zone_lowest/highest_possible_pfn: each zone begins where the one below ends."""
    start, possible = boot.memory.start // page_size, {}
    for zone, limit in boot.limits.items():
        end = max(limit, start)
        possible[zone] = (start, end)
        start = end
    return possible


def _movable_starts(
    boot: Boot, options: MemoryOptions, kernel: Kernel, page_size: int, movable_zone: tuple[int, int]
) -> dict[int, int]:
    """find_zone_movable_pfns_for_nodes: the first pfn of ZONE_MOVABLE for each node that has one."""
    if boot.movable_node:
        starts = _lowest(boot, page_size, lambda r: r.hotplug)
    elif options.kernelcore_mirror:
        starts = _lowest(boot, page_size, lambda r: r.range.start >= _FOUR_GIB) if not kernel.checks_mirror else {}
    else:
        spread = _spread(boot, options, page_size, movable_zone[0])
        if spread is None:
            return {}
        starts = spread
    return _rounded(boot, starts, page_size)


def _span(
    zone: Zone, mine: list[tuple[int, int]], limits: tuple[int, int], movable: int, mirror: bool
) -> tuple[int, int]:
    """zone_spanned_pages_in_node with adjust_zone_range_for_zone_movable: (first pfn, pfn behind the last)."""
    node_start, node_end = mine[0][0], mine[-1][1]
    start, end = (min(max(edge, limits[0]), limits[1]) for edge in (node_start, node_end))
    if zone is Zone.MOVABLE:
        start, end = (limits[0], min(node_end, limits[1])) if movable else (0, 0)
    elif movable and not mirror and start < movable < end:
        end = movable
    elif movable and start >= movable:
        start = end
    if end < node_start or start > node_end:
        return (0, 0)
    start, end = max(start, node_start), min(end, node_end)
    return (start, max(start, end))


def _overlap(part: tuple[int, int], span: tuple[int, int]) -> int:
    return max(0, min(part[1], span[1]) - max(part[0], span[0]))


def _lowest(boot: Boot, page_size: int, wanted: Callable[[Region], bool]) -> dict[int, int]:
    """For each node the first pfn of its lowest region that is wanted."""
    starts: dict[int, int] = {}
    for region in boot.memory:
        if wanted(region):
            starts.setdefault(region.node or 0, region.range.start // page_size)
    return starts


def _spread(boot: Boot, options: MemoryOptions, page_size: int, usable_start: int) -> dict[int, int] | None:
    """kernelcore= and movablecore=: kernel memory spread as evenly as possible over the nodes.

    The kernel's loop with the kernel's names, kept in one piece so that it can be compared line by line. None when
    neither word asks for a ZONE_MOVABLE. ``usable_start``: the lowest pfn that ZONE_MOVABLE may have.
    """
    pfns = [(start, end, node or 0) for start, end, node in boot.memory.pfns(page_size)]
    nodes = sorted({node for _, _, node in pfns})
    total = sum(end - start for start, end, _ in pfns)
    required = _required_kernelcore(options, total, page_size, boot.arch.largest_buddy(page_size))
    if required is None:
        return None
    movable = dict.fromkeys(nodes, 0)
    usable_nodes = len(nodes)
    while True:
        kernelcore_node = required // usable_nodes
        for node in nodes:
            if required < kernelcore_node:
                kernelcore_node = required // usable_nodes
            remaining = kernelcore_node
            for start, end, _ in (part for part in pfns if part[2] == node):
                start = max(start, movable[node])
                if start >= end:
                    continue
                if start < usable_start:
                    kernel_pages = min(end, usable_start) - start
                    remaining -= min(kernel_pages, remaining)
                    required -= min(kernel_pages, required)
                    if end <= usable_start:
                        movable[node] = end
                        continue
                    start = usable_start
                size = min(end - start, remaining)
                movable[node] = start + size
                required -= min(required, size)
                remaining -= size
                if not remaining:
                    break
        usable_nodes -= 1
        if not (usable_nodes and required > usable_nodes):
            return movable


def _required_kernelcore(options: MemoryOptions, total: int, page_size: int, unit: int) -> int | None:
    """Pages that must stay out of ZONE_MOVABLE, or None when there is to be none. ``total`` and ``unit``, the largest
    buddy block, in pages."""
    kernelcore, movablecore = (_pages(s, total, page_size) for s in (options.kernelcore, options.movablecore))
    if movablecore:
        movablecore = min(total, -(-movablecore // unit) * unit)
        kernelcore = max(kernelcore, total - movablecore)
    return kernelcore if 0 < kernelcore < total else None


def _pages(share: Share, total: int, page_size: int) -> int:
    return total * 100 * share.percent // 10000 if share.percent else share.size // page_size


def _rounded(boot: Boot, starts: dict[int, int], page_size: int) -> dict[int, int]:
    """Rounded up to the buddy allocator's largest block; a start behind the node's end is none."""
    unit = boot.arch.largest_buddy(page_size)
    ends = {node or 0: end for _, end, node in boot.memory.pfns(page_size)}
    rounded = {node: -(-start // unit) * unit for node, start in starts.items()}
    return {node: start for node, start in rounded.items() if start and start < ends.get(node, 0)}
