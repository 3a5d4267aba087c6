# SPDX-License-Identifier: Apache-2.0
"""From a firmware description to a running allocator.

Models arch/arm64/mm/init.c, arch/arm/mm/init.c and mm/memblock.c after the zones are known (hotbank.zones): the kernel
image, initrd, memmap, hash tables and CMA areas are taken from memblock, top-down and out of movable banks when the
kernel honours them; the rest is released to the buddy allocator; then the kernel makes its first caches. Sizes are
those of Debian's arm64 kernels and of the small arm kernel of our port (docs/model.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

from hotbank import kernels, zones
from hotbank.board import Board
from hotbank.errors import Code, Refusal
from hotbank.firmware.bootwords import cma_place
from hotbank.firmware.cmdline import memparse
from hotbank.kernels import Footprint
from hotbank.machine import OnlinePolicy
from hotbank.memory import CODE, MIB, BlockState, Kind, MemoryMap, MemoryRegion, Online, Pfn, Range, Zone, merge
from hotbank.model.alloc import GFP_KERNEL, GFP_RECLAIMABLE, PageAllocator, WatermarkRules, ZoneState
from hotbank.model.frames import OFFLINE, Frames, MigrateType
from hotbank.model.geometry import Geometry
from hotbank.model.tasks import Tasks
from hotbank.model.zoning import USUAL, MemoryBlock, Rules
from hotbank.numbers import kstrtobool, kstrtouint
from hotbank.sysfs.parameters import MemmapOnMemory, OnlinePolicyName
from hotbank.zones import Prediction
from hotbank.zones.memblock import Memblock


class BootSource(Protocol):
    """What a model starts from: a boot, or a captured machine (resume.py)."""

    @property
    def arch(self) -> str:
        """``arm``, ``arm64``, or what a captured machine says."""
        ...

    @property
    def geometry(self) -> Geometry:
        """The memory blocks there are and may be."""
        ...

    @property
    def rules(self) -> Rules:
        """How the kernel behaves."""
        ...

    @property
    def auto_online(self) -> str:
        """The content of ``auto_online_blocks``."""
        ...

    def fill(self, allocator: PageAllocator, tasks: Tasks) -> dict[int, MemoryBlock]:
        """Fill an empty allocator; the memory blocks that are there."""
        ...


@dataclass(frozen=True, slots=True)
class BootMemory:
    """A boot before there is an allocator: what the kernel knows of memory, and where its frames will be."""

    known: Prediction
    geometry: Geometry

    @property
    def arch(self) -> str:
        """The architecture's name."""
        return self.known.arch.name

    @property
    def footprint(self) -> Footprint:
        """What this kernel takes for itself."""
        assert self.known.arch.footprint is not None  # arch_to_boot gives no other
        return self.known.arch.footprint

    @property
    def rules(self) -> Rules:
        """How this kernel chooses zones, and what it vetoes."""
        known, leaves = self.known, self.known.arch.boot_memory_leaves is not False
        high_pfn = known.limits[Zone.NORMAL] if known.arch.lowmem is not None else None
        return Rules(leaves, _policy(known), high_pfn, page_struct=known.arch.struct_page, kernel=known.kernel)

    @property
    def auto_online(self) -> str:
        """What ``auto_online_blocks`` reads after the boot: ``memhp_default_state=``, else the kernel's default."""
        asked = self.known.options.memhp_default_state
        allowed = ("offline", *(how.value for how in Online))
        return asked if asked in allowed else self.known.kernel.auto_online

    @property
    def ram(self) -> tuple[MemoryRegion, ...]:
        """System RAM, ascending."""
        return self.known.layout.ram

    @property
    def nodes(self) -> list[int]:
        """Nodes with memory, ascending."""
        return sorted({region.node or 0 for region in self.ram})

    def fill(self, allocator: PageAllocator, tasks: Tasks) -> dict[int, MemoryBlock]:
        """Make the zones, take what the boot takes, release the rest, start the kernel's caches. The memory blocks."""
        states = [_attach(self, allocator, span) for span in self.known.layout.zones]
        memblock = self.known.memory.copy()
        _release(self, memblock, _take_boot_memory(self, memblock), allocator.frames)
        for state in states:
            state.managed = allocator.frames.free_pages(state.number)
            state.early, state.cma = state.present_pages, allocator.frames.free_cma(state.number)
        allocator.watermark_rules = _watermark_rules(self, sum(state.managed for state in states))
        allocator.set_watermarks()
        _start_caches(self, tasks)
        return _blocks(self, states, allocator)


_NO_MEMORY = "a board needs a bank with at_boot = true, and mem= must leave one"


def boot_memory(board: Board, firmware: MemoryMap, cmdline: str, kernel: str) -> BootMemory:
    """Predict the zones and lay the frames out. Raises BoardError for an architecture
    whose boot nobody knows, Refusal when there is no memory to boot from."""
    arch, page_size, block_size = kernels.board_arch(board.arch).name, board.page_size, board.block_size
    known = zones.predict(
        firmware, arch=arch, page_size=page_size, block_size=block_size, cmdline=cmdline, kernel=kernel
    )
    if not known.layout.ram:
        raise Refusal(Code.UNSUPPORTED, "the description has no memory that this kernel can use", remedy=_NO_MEMORY)
    if known.panics:
        raise Refusal(Code.UNSUPPORTED, f"{known.panics}, and panics at boot")
    numbers = {entry.block for entry in known.layout.blocks}.union(*map(board.blocks, board.banks))
    geometry = Geometry(
        tuple(sorted(numbers)), arch=arch, page_size=page_size, block_size=block_size, kernel=known.kernel
    )
    return BootMemory(known, geometry)


def _policy(known: Prediction) -> OnlinePolicy:
    """/sys/module/memory_hotplug/parameters, as the command line sets them; what the kernel refuses changes nothing."""
    parameter = known.options.hotplug_parameter
    memmap, online = parameter("memmap_on_memory") or "", parameter("online_policy")
    wanted = memmap == MemmapOnMemory.FORCE or kstrtobool(memmap) is True
    ratio = kstrtouint(parameter("auto_movable_ratio") or "")
    return OnlinePolicy(
        online=online if online in tuple(OnlinePolicyName) else USUAL.online,
        ratio=USUAL.ratio if ratio is None else ratio,
        movable_node=known.movable_node,
        memmap_on_memory=wanted and known.arch.memmap_on_memory,
    )


def _release(boot: BootMemory, memblock: Memblock, cma: list[Range], frames: Frames) -> None:
    """``memblock_free_all``, and CMA areas, whose pageblocks are CMA before their pages are free."""
    for area in cma:
        for start, end in boot.geometry.runs(area):
            frames.set_type(start, end, MigrateType.CMA)
    for part in sorted([*memblock.free(), *cma]):
        for start, end in boot.geometry.runs(part):
            frames.release(start, end)


def _attach(boot: BootMemory, allocator: PageAllocator, span: zones.ZoneSpan) -> ZoneState:
    """A zone with its span; its memory RESERVED, the rest of its pageblocks HOLE."""
    geometry, frames = boot.geometry, allocator.frames
    state = allocator.zone(span.node, Zone(span.zone))
    state.start_pfn, state.spanned = span.start_pfn, span.spanned
    page, size = geometry.page_size, 1 << frames.shape.pageblock_order
    whole = Range(span.start_pfn * page, span.end_pfn * page)
    memory = merge(r.range for r in boot.known.memory if (r.node or 0) == span.node)  # no-map memory is present too
    for part in (part for r in memory if (part := r.intersection(whole))):
        for start, end in geometry.runs(part):
            for first, last in _outside(frames, start & -size, end):
                frames.attach(state.number, first, last)
                frames.set_kind(first, last, Kind.HOLE)
            frames.set_kind(start, end, Kind.RESERVED)
        state.grow_present(Pfn(part.start // page), Pfn(part.end // page))
    return state


def _outside(frames: Frames, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Stretches of pageblocks from ``start`` up to ``end`` that are in no zone yet."""
    size = 1 << frames.shape.pageblock_order
    for outside, run in groupby(range(start, end, size), lambda frame: frames.zone(frame) < 0):
        if outside:
            pageblocks = list(run)
            yield pageblocks[0], pageblocks[-1] + size


def _take_boot_memory(boot: BootMemory, memblock: Memblock) -> list[Range]:
    """Everything that memblock gives away before the buddy allocator starts. Returns the CMA areas."""
    kernel, page = boot.footprint, boot.geometry.page_size
    memblock.reserve(Range.sized(boot.ram[0].range.start + kernel.image_offset, kernel.image))
    memblock.alloc(kernel.early, page, _early_places(boot), _boot_places(boot))
    for node in boot.nodes:
        pages = sum(region.range.size // page for region in boot.ram if (region.node or 0) == node)
        memmap = _up(pages * boot.rules.page_struct, page)
        memblock.alloc(memmap, min(2 * MIB, memmap), _boot_places(boot, node), _boot_places(boot))
    total = sum(region.range.size for region in boot.ram)
    memblock.alloc(_up(total // 1024 + total // 2048, page), page, _boot_places(boot))  # dentry and inode hashes
    cma = [*_lent(boot), *_cma_areas(boot, memblock)]
    if kernel.bounce:
        reached = memblock.end <= _dma_end(boot)
        memblock.alloc(MIB if reached else kernel.bounce, page, _dma_places(boot))
    return cma


def _lent(boot: BootMemory) -> list[Range]:
    """What of /reserved-memory CMA lends out (``rmem_cma_setup``)."""
    unit = boot.geometry.page_size << boot.geometry.shape.pageblock_order
    reusable = (r.range for r in boot.known.firmware.reserved if r.reusable and not r.no_map)
    return [area for area in reusable if area.aligned(unit) and _in_ram(boot, area)]


def _cma_areas(boot: BootMemory, memblock: Memblock) -> list[Range]:
    """``cma=`` or the default, within reach of all DMA masters; some kernels have one more in each of several nodes.

    A kernel that finds no place for an area boots without it.
    """
    asked = boot.known.options.cma
    size = boot.footprint.cma if asked is None else memparse(asked)[0]
    unit = boot.geometry.page_size << boot.geometry.shape.max_order
    if not size or (asked and cma_place(asked)):  # that one is lent already
        return []
    places = [_dma_places(boot)]
    if boot.known.kernel.cma_in_each_node and len(boot.nodes) > 1:
        places += [_boot_places(boot, node) for node in boot.nodes]
    found = [memblock.take(_up(size, unit), unit, within) for within in places]
    return [area for area in found if area]


def _dma_end(boot: BootMemory) -> int:
    """``arm64_dma_phys_limit``: how far every DMA master reaches. Without a zone for DMA: the end of memory."""
    limit = boot.known.limits.get(Zone.DMA)
    return limit * boot.geometry.page_size if limit is not None else boot.known.memory.end


def _dma_places(boot: BootMemory) -> list[Range]:
    reach = Range(0, _dma_end(boot))
    return [part for place in _boot_places(boot) if (part := place.intersection(reach))]


def _early_places(boot: BootMemory) -> list[Range]:
    """With movable_node, paging_init keeps out of what the tree calls hotpluggable, even where NUMA code forgets it."""
    places = _boot_places(boot)
    for avoided in (r.range for r in boot.known.firmware.regions if r.hotpluggable and boot.known.movable_node):
        places = [part for place in places for part in place.minus(avoided)]
    return places


def _boot_places(boot: BootMemory, node: int | None = None) -> list[Range]:
    """Where boot allocations may go: not into banks that may leave, and on arm not above lowmem."""
    ram = [r for r in boot.ram if node is None or (r.node or 0) == node]
    places = [r.range for r in ram if not (boot.known.movable_node and r.hotpluggable)]
    if boot.rules.high_pfn is None:
        return places
    lowmem = Range(0, boot.rules.high_pfn * boot.geometry.page_size)
    return [part for place in places if (part := place.intersection(lowmem))]


def _in_ram(boot: BootMemory, wanted: Range) -> bool:
    return any(part.contains(wanted) for part in merge(region.range for region in boot.ram))


def _watermark_rules(boot: BootMemory, managed: int) -> WatermarkRules:
    """``hugepage_init`` leaves transparent huge pages off below 512 MiB; the small arm kernel has none."""
    large = managed * boot.geometry.page_size >= 512 * MIB
    return WatermarkRules(
        page_size=boot.geometry.page_size,
        huge_pages=boot.known.arch.huge_pages and large,
        movable_shares=not boot.known.kernel.movable_keeps_less,
    )


def _start_caches(boot: BootMemory, tasks: Tasks) -> None:
    kernel = boot.footprint
    tasks.kernel_alloc("kernel", kernel.other)
    tasks.kernel_alloc("kmalloc", kernel.slab, kind=Kind.SLAB)
    tasks.kernel_alloc("dentry", kernel.slab_reclaimable, kind=Kind.SLAB, gfp=GFP_RECLAIMABLE, single=True)
    for node in boot.nodes[1:]:
        tasks.kernel_alloc(
            f"kmalloc of node {node}", kernel.per_node, kind=Kind.SLAB, gfp=replace(GFP_KERNEL, node=node)
        )


def _blocks(boot: BootMemory, states: list[ZoneState], allocator: PageAllocator) -> dict[int, MemoryBlock]:
    """One block for each that has memory. A block whose ``valid_zones`` reads none has no zone."""
    blocks = {}
    for entry in boot.known.layout.blocks:
        start, end = boot.geometry.frames(entry.block)
        pfn = boot.geometry.pfn(start)
        touching = [s for s in states if any(a < pfn + end - start and pfn < b for a, b in s.present)]
        zone = touching[0] if entry.valid_zones == (touching[0].name.value,) else None
        held = allocator.frames.count(start, end)
        holes = bool(held.keys() & {CODE[Kind.HOLE], OFFLINE}) or not _system_ram(boot, entry.block)
        block = MemoryBlock(entry.block, BlockState.ONLINE, touching[0].node, zone, early=True, holes=holes)
        blocks[entry.block] = block
    return blocks


def _system_ram(boot: BootMemory, block: int) -> bool:
    """``walk_system_ram_range`` finds the whole block: no-map memory is present, but no System RAM."""
    whole = Range.sized(block * boot.geometry.block_size, boot.geometry.block_size)
    return _in_ram(boot, whole)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
