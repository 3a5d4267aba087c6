# SPDX-License-Identifier: Apache-2.0
"""The 2009 proposal for 32-bit ARM as code: banks with a zone, and two ways to make zones of them.

Then: ``struct meminfo`` held NR_BANKS = 8 banks, ``arm_add_memory`` registered them, ``bootmem_free_node`` put a whole
node into its first zone (``zone_size[]``, ``zhole_size[]``) and let a platform's ``arch_adjust_zones`` redistribute it.
The proposal gave each bank a zone and built the zones from the bank list (``adjust``). Its alternative walks each
node's banks zone by zone (``walk``). Both here keep a kernel bank above a movable one in its kernel zone, whose span
then reaches across the movable bank as a hole; mainline makes everything above the lowest movable bank Movable.

A zone's span follows mainline's rules where both agree: kernel zones meet at the architecture's limits, a hole
belongs to the zone below it, Movable starts on a boundary of the largest buddy block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from hotbank.errors import Code, Refusal
from hotbank.memory import Zone
from hotbank.zones.boot import Boot
from hotbank.zones.layout import BlockZones, ZoneSpan
from hotbank.zones.mainline import check_count, possible_zones

NR_BANKS = 8


@dataclass(frozen=True, slots=True)
class MemBank:
    """``struct membank`` with the proposal's zone: kernel memory, or movable. Page frame numbers."""

    start: int
    end: int
    node: int = 0
    movable: bool = False

    @property
    def pages(self) -> int:
        """Size in pages."""
        return self.end - self.start


class MemInfo:
    """``struct meminfo``: at most NR_BANKS banks, none empty, none overlapping."""

    def __init__(self, banks: Iterable[MemBank] = ()) -> None:
        self._banks: list[MemBank] = []
        for bank in banks:
            self.add(bank)

    def __iter__(self) -> Iterator[MemBank]:
        return iter(sorted(self._banks, key=lambda b: b.start))

    def add(self, bank: MemBank) -> None:
        """``arm_add_memory`` with a zone. Raises Refusal."""
        name = f"bank of pfns {bank.start:#x} to {bank.end:#x}"
        if len(self._banks) >= NR_BANKS:
            remedy = "join neighbouring banks, or use the mainline strategy"
            raise Refusal(Code.UNSUPPORTED, f"{name} is one more than the {NR_BANKS} that meminfo holds", remedy=remedy)
        if bank.pages <= 0:
            raise Refusal(Code.NOT_ALIGNED, f"{name} has no whole page")
        if any(b.start < bank.end and bank.start < b.end for b in self._banks):
            raise Refusal(Code.OVERLAP, f"{name} overlaps another bank")
        self._banks.append(bank)


def register(boot: Boot, page_size: int) -> MemInfo:
    """The banks of a booted machine: what firmware marked may leave is movable, whatever the kernel would honour."""
    regions = (
        MemBank(-(-region.range.start // page_size), region.range.end // page_size, region.node or 0, region.hotplug)
        for region in boot.memory
    )
    return MemInfo(_joined(regions))


def adjust(boot: Boot, info: MemInfo, page_size: int) -> tuple[ZoneSpan, ...]:
    """Zones by ``arch_adjust_zones``: begin with one zone for all of a node, then redistribute spans and holes."""
    limits = possible_zones(boot, page_size)
    return _each_node(_split(info, boot.arch.largest_buddy(page_size)), lambda banks: _adjusted_node(banks, limits))


def walk(boot: Boot, info: MemInfo, page_size: int) -> tuple[ZoneSpan, ...]:
    """Zones by walking the node's banks once for each zone."""
    limits = possible_zones(boot, page_size)
    return _each_node(_split(info, boot.arch.largest_buddy(page_size)), lambda banks: _walked_node(banks, limits))


def blocks(
    boot: Boot, info: MemInfo, spans: Sequence[ZoneSpan], page_size: int, block_size: int
) -> tuple[BlockZones, ...]:
    """Each block with its zone, or ``none``.

    As in mainline a block is in every zone whose span touches it; but where spans overlap, only in those that own
    one of its pages.
    """
    check_count(boot, block_size)
    pages = block_size // page_size
    owners = _owners(boot, info, spans, page_size, pages)
    found = []
    for number in sorted(owners):
        first, behind = number * pages, (number + 1) * pages
        touching = [s for s in spans if s.start_pfn < behind and first < s.end_pfn]
        zones = [s for s in touching if s in owners[number] or not any(_overlap(s, o) for o in touching if o is not s)]
        found.append(BlockZones(number, (zones[0].zone,) if len(zones) == 1 else ("none",)))
    return tuple(found)


def _owners(
    boot: Boot, info: MemInfo, spans: Sequence[ZoneSpan], page_size: int, pages_per_block: int
) -> dict[int, set[ZoneSpan]]:
    """The zones that pages of each block belong to, by block number."""
    limits = possible_zones(boot, page_size)
    owners: dict[int, set[ZoneSpan]] = {}
    for bank in _split(info, boot.arch.largest_buddy(page_size)):
        for span in spans:
            if span.node != bank.node or (span.zone == Zone.MOVABLE) != bank.movable:
                continue
            low, high = (0, bank.end) if bank.movable else limits[Zone(span.zone)]
            start, end = max(bank.start, low), min(bank.end, high)
            for number in range(start // pages_per_block, -(-end // pages_per_block)) if start < end else ():
                owners.setdefault(number, set()).add(span)
    return owners


def _overlap(one: ZoneSpan, other: ZoneSpan) -> bool:
    return one.start_pfn < other.end_pfn and other.start_pfn < one.end_pfn


def _split(info: MemInfo, unit: int) -> list[MemBank]:
    """The banks with mainline's rounding: pages below the first boundary of the largest buddy block at or above a
    node's lowest movable bank are kernel memory."""
    first = dict[int, int]()
    for bank in info:
        if bank.movable:
            first.setdefault(bank.node, -(-bank.start // unit) * unit)
    pieces = []
    for bank in info:
        border = min(max(first[bank.node], bank.start), bank.end) if bank.movable else bank.end
        pieces += [replace(bank, end=border, movable=False), replace(bank, start=border)]
    return _joined(p for p in pieces if p.pages > 0)


def _each_node(banks: list[MemBank], make: Callable[[list[MemBank]], list[ZoneSpan]]) -> tuple[ZoneSpan, ...]:
    return tuple(
        span
        for node in sorted({bank.node for bank in banks})
        for span in sorted(make([bank for bank in banks if bank.node == node]), key=lambda z: z.start_pfn)
        if span.present
    )


def _joined(banks: Iterable[MemBank]) -> list[MemBank]:
    joined: list[MemBank] = []
    for bank in sorted(banks, key=lambda b: b.start):
        last = joined[-1] if joined else None
        if last and (last.end, last.node, last.movable) == (bank.start, bank.node, bank.movable):
            joined[-1] = MemBank(last.start, bank.end, bank.node, bank.movable)
        else:
            joined.append(bank)
    return joined


def _kernel_end(banks: list[MemBank]) -> int:
    """Where kernel zones end: at the run of movable banks that is topmost, else at the node's end."""
    last_kernel = max((i for i, b in enumerate(banks) if not b.movable), default=-1)
    return banks[last_kernel + 1].start if last_kernel + 1 < len(banks) else banks[-1].end


def _walked_node(banks: list[MemBank], limits: dict[Zone, tuple[int, int]]) -> list[ZoneSpan]:
    node, node_start, kernel_end = banks[0].node, banks[0].start, _kernel_end(banks)
    spans = []
    for zone, (low, high) in limits.items():
        start, end = max(low, node_start), min(high, kernel_end)
        present = sum(max(0, min(b.end, end) - max(b.start, start)) for b in banks if not b.movable)
        spans.append(ZoneSpan(node, zone.value, start, max(0, end - start), present))
    movable = [b for b in banks if b.movable]
    if movable:
        start, end = movable[0].start, movable[-1].end
        spans.append(ZoneSpan(node, Zone.MOVABLE.value, start, end - start, sum(b.pages for b in movable)))
    return spans


def _adjusted_node(banks: list[MemBank], limits: dict[Zone, tuple[int, int]]) -> list[ZoneSpan]:
    """bootmem_free_node's arrays, then the platform's arch_adjust_zones, then placement zone behind zone."""
    order = list(limits)
    zone_size, zhole_size = dict.fromkeys(order, 0), dict.fromkeys(order, 0)
    zone_size[order[0]] = banks[-1].end - banks[0].start
    zhole_size[order[0]] = zone_size[order[0]] - sum(b.pages for b in banks)
    movable = _arch_adjust_zones(banks, limits, zone_size, zhole_size)
    at, spans = banks[0].start, list[ZoneSpan]()
    for zone in order:
        size = zone_size[zone]
        spans.append(ZoneSpan(banks[0].node, zone.value, at, size, size - zhole_size[zone]))
        at += size
    return [*spans, *([movable] if movable else [])]


def _arch_adjust_zones(
    banks: list[MemBank], limits: dict[Zone, tuple[int, int]], zone_size: dict[Zone, int], zhole_size: dict[Zone, int]
) -> ZoneSpan | None:
    """Move what lies beyond each limit to the next zone, then movable banks out of the kernel zones."""
    start = banks[0].start
    for zone, above in zip(limits, list(limits)[1:], strict=False):
        end = start + zone_size[zone]
        limit = min(max(limits[zone][1], start), end)
        holes = (end - limit) - _pages(banks, limit, end)
        zone_size[zone], zone_size[above] = limit - start, end - limit
        zhole_size[zone], zhole_size[above] = zhole_size[zone] - holes, holes
        start = limit
    movable = [b for b in banks if b.movable]
    if not movable:
        return None
    for bank in movable:  # holes to the kernel zones they lie in
        _carve(bank.start, bank.end, banks[0].start, zone_size, zhole_size)
    _trim(banks[-1].end - _kernel_end(banks), zone_size, zhole_size)
    size = movable[-1].end - movable[0].start
    return ZoneSpan(banks[0].node, Zone.MOVABLE.value, movable[0].start, size, sum(b.pages for b in movable))


def _pages(banks: list[MemBank], start: int, end: int) -> int:
    return sum(max(0, min(b.end, end) - max(b.start, start)) for b in banks)


def _carve(start: int, end: int, at: int, zone_size: dict[Zone, int], zhole_size: dict[Zone, int]) -> None:
    for zone, size in zone_size.items():
        zhole_size[zone] += max(0, min(end, at + size) - max(start, at))
        at += size


def _trim(pages: int, zone_size: dict[Zone, int], zhole_size: dict[Zone, int]) -> None:
    """Take ``pages`` of nothing but holes off the top of the kernel zones."""
    for zone in reversed(list(zone_size)):
        cut = min(pages, zone_size[zone])
        zone_size[zone] -= cut
        zhole_size[zone] -= cut
        pages -= cut
