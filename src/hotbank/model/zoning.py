# SPDX-License-Identifier: Apache-2.0
"""Memory blocks, and the zone that each way of onlining gives them.

Models mm/memory_hotplug.c (6.12): ``zone_for_pfn_range``, ``default_zone_for_pfn`` (contig-zones),
``auto_movable_zone_for_pfn`` and ``auto_movable_can_online_movable`` (auto-movable), with the memory groups of
drivers/base/memory.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from hotbank import kernels
from hotbank.board import Bank
from hotbank.kernels import Kernel
from hotbank.machine import BankStatus, OnlinePolicy
from hotbank.memory import BlockState, Online, Pfn, Zone
from hotbank.model.alloc import PageAllocator, ZoneState
from hotbank.routes import route

USUAL = OnlinePolicy()
_USUAL_KERNEL = kernels.kernel(kernels.DEFAULT)
POLICIES = ("contig-zones", "auto-movable")  # what ``online_policy`` takes


@dataclass(frozen=True, slots=True)
class Group:
    """A memory group: what one device added. ``blocks``: how many there are to be; ``dynamic``: virtio-mem's kind."""

    name: str
    blocks: int
    dynamic: bool = False


def group_of(bank: Bank | BankStatus, block_size: int) -> Group | None:
    """The group that a bank's blocks are added in, None where its route registers none."""
    way = route(bank.route)
    return Group(bank.name, bank.range.size // block_size, way.dynamic) if way.group else None


@dataclass(slots=True, eq=False)
class MemoryBlock:
    """One memory block. ``zone``: None while not online, and where it spans zones or has holes.

    ``early``: its memory is there since boot; ``group``: what it was added with; ``memmap``: the kernel cache that
    holds its ``struct page``s, None for those made at boot, which a removal does not give back, and for a block
    that holds them itself, in its first ``own_memmap`` pages (memmap_on_memory). ``leaf``: the kernel's map
    with a leaf across its edge (see Survey).
    """

    number: int
    state: BlockState
    node: int = 0
    zone: ZoneState | None = None
    early: bool = False
    group: Group | None = None
    holes: bool = False
    memmap: str | None = None
    own_memmap: int = 0
    leaf: str = ""
    poisoned: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between kernels and boots.

    ``boot_memory_leaves``: False on arm64, whose notifier vetoes it; ``policy``: the zone that a plain ``online``
    gives; ``high_pfn``: where HighMem starts, or None; ``page_struct``: bytes of one ``struct page``; ``kernel``: the
    row of its release.
    """

    boot_memory_leaves: bool
    policy: OnlinePolicy = USUAL
    high_pfn: int | None = None
    page_struct: int = kernels.arch(None).struct_page
    kernel: Kernel = _USUAL_KERNEL


class Zoning:
    """Chooses zones for the memory blocks of one machine. ``rules`` may be replaced (sysfs allows it)."""

    def __init__(
        self, allocator: PageAllocator, blocks: Mapping[int, MemoryBlock], rules: Rules, pages_per_block: int
    ) -> None:
        self.rules = rules
        self._allocator, self._blocks, self._pages = allocator, blocks, pages_per_block
        self._tally: dict[Group, tuple[int, int]] | None = None

    def zone(self, block: MemoryBlock, how: Online) -> Zone:
        """``zone_for_pfn_range``."""
        if how is Online.KERNEL:
            return self._kernel_zone(block)
        if how is Online.MOVABLE:
            return Zone.MOVABLE
        auto = self.rules.policy.online == "auto-movable"
        return self._auto_movable(block) if auto else self._contiguous(block)

    def _contiguous(self, block: MemoryBlock) -> Zone:
        """``default_zone_for_pfn``: the zone that the block touches, if it is one."""
        kernel = self._kernel_zone(block)
        in_kernel, in_movable = self._touches(block, kernel), self._touches(block, Zone.MOVABLE)
        if in_kernel != in_movable:
            return kernel if in_kernel else Zone.MOVABLE
        return Zone.MOVABLE if self.rules.policy.movable_node else kernel

    def _auto_movable(self, block: MemoryBlock) -> Zone:
        """``auto_movable_zone_for_pfn``: a static group counts as a whole and stays in one kind of zone."""
        group, wanted = block.group, self._pages
        if group is not None and not group.dynamic:
            movable, kernel = self._present(group)
            if kernel:
                return self._kernel_zone(block)
            wanted = group.blocks * self._pages - movable
        nodes = (None, block.node)
        fits = self.rules.policy.ratio and all(self._in_ratio(group, wanted, node) for node in nodes)
        return Zone.MOVABLE if fits else self._kernel_zone(block)

    def _in_ratio(self, group: Group | None, wanted: int, node: int | None) -> bool:
        """``auto_movable_can_online_movable``, for one node or (None) for all. CMA inside Movable is not looked at."""
        zones = [zone for zone in self._allocator.zones if node is None or zone.node == node]
        kernel = sum(zone.early - zone.cma for zone in zones if not zone.movable_only)
        movable = sum(zone.present_pages if zone.movable_only else zone.cma for zone in zones)
        for other in self._dynamic_groups():
            if other != group:
                present, own = self._present(other)
                kernel -= max(0, present * 100 // self.rules.policy.ratio - own)
                movable -= present
        if kernel <= 0:
            return False
        if group is not None and group.dynamic:
            kernel += self._present(group)[1]
        return movable + wanted <= self.rules.policy.ratio * kernel // 100

    @contextmanager
    def counted(self) -> Iterator[None]:
        """While it is entered no block changes, and groups are counted once for all questions."""
        self._tally = self._count()
        try:
            yield
        finally:
            self._tally = None

    def _dynamic_groups(self) -> list[Group]:
        return [group for group in self._counts() if group.dynamic]

    def _present(self, group: Group) -> tuple[int, int]:
        """Online pages of a group in Movable and in kernel zones."""
        movable, kernel = self._counts().get(group, (0, 0))
        return movable * self._pages, kernel * self._pages

    def _counts(self) -> Mapping[Group, tuple[int, int]]:
        return self._count() if self._tally is None else self._tally

    def _count(self) -> dict[Group, tuple[int, int]]:
        """Group → its blocks in Movable and in kernel zones, also of a group that has none online."""
        counts: dict[Group, tuple[int, int]] = {}
        for block in self._blocks.values():
            if block.group is not None:
                movable, kernel = counts.get(block.group, (0, 0))
                movable_only = None if block.zone is None else block.zone.movable_only
                counts[block.group] = movable + (movable_only is True), kernel + (movable_only is False)
        return counts

    def _kernel_zone(self, block: MemoryBlock) -> Zone:
        """``default_kernel_zone_for_pfn``; above lowmem it is HighMem (our 32-bit port)."""
        if self.rules.high_pfn is not None and block.number * self._pages >= self.rules.high_pfn:
            return Zone.HIGHMEM
        return next((z for z in (Zone.DMA, Zone.DMA32) if self._touches(block, z)), Zone.NORMAL)

    def _touches(self, block: MemoryBlock, name: Zone) -> bool:
        start, end = Pfn(block.number * self._pages), Pfn((block.number + 1) * self._pages)
        return any(z.intersects(start, end) for z in self._allocator.zones if (z.node, z.name) == (block.node, name))
