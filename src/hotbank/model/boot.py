# SPDX-License-Identifier: Apache-2.0
"""From a firmware description to a running allocator.

Models arch/arm64/mm/init.c, arch/arm/mm/init.c and mm/memblock.c after the zones are known (hotbank.zones): the kernel
image, initrd, memmap, hash tables and CMA areas are taken from memblock, top-down and out of movable banks when the
kernel honours them; the rest is released to the buddy allocator; then the kernel makes its first caches. Sizes are
those of Debian's arm64 kernels and of the small arm kernel of our port (docs/model.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

from hotbank import kernels, zones
from hotbank.board import Board
from hotbank.errors import Code, Refusal
from hotbank.firmware.cmdline import decode, memparse
from hotbank.kernels import Arch, Footprint, Kernel
from hotbank.machine import OnlinePolicy
from hotbank.memory import MIB, BlockState, Kind, MemoryMap, Online, Range, Reservation, Zone, merge
from hotbank.model.alloc import GFP_KERNEL, GFP_RECLAIMABLE, PageAllocator, WatermarkRules, ZoneState
from hotbank.model.backend import check_room
from hotbank.model.frames import CODE, OFFLINE, Frames, MigrateType
from hotbank.model.geometry import Geometry
from hotbank.model.tasks import Tasks
from hotbank.model.zoning import USUAL, MemoryBlock, Rules
from hotbank.zones.layout import Layout


class Start(Protocol):
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

    def populate(self, allocator: PageAllocator, tasks: Tasks) -> dict[int, MemoryBlock]:
        """Fill an empty allocator; the memory blocks that are there."""
        ...


@dataclass(frozen=True, slots=True)
class BootMemory:
    """What boot code knows before there is an allocator: the zones to be, and how this kernel behaves."""

    its: Arch
    layout: Layout
    firmware: MemoryMap
    geometry: Geometry
    rules: Rules
    cmdline: str
    kernel: Kernel

    @property
    def arch(self) -> str:
        """The architecture's name."""
        return self.its.name

    @property
    def footprint(self) -> Footprint:
        """What this kernel takes for itself."""
        assert self.its.footprint is not None  # arch_to_boot gives no other
        return self.its.footprint

    @property
    def auto_online(self) -> str:
        """What ``auto_online_blocks`` reads after the boot: ``memhp_default_state=``, else the kernel's default."""
        asked = decode(self.cmdline).last("memhp_default_state")
        allowed = ("offline", *(how.value for how in Online))
        return asked if asked in allowed else self.kernel.auto_online

    @property
    def nodes(self) -> list[int]:
        """Nodes with memory, ascending."""
        return sorted({region.node or 0 for region in self.layout.ram})

    def populate(self, allocator: PageAllocator, tasks: Tasks) -> dict[int, MemoryBlock]:
        """Boot."""
        return populate(self, allocator, tasks)


def prepare(board: Board, firmware: MemoryMap, cmdline: str, kernel: str, backend: str | None = None) -> BootMemory:
    """Predict the zones and lay the frames out.

    Raises Refusal when there is no memory to boot from, or more than a model could have here.
    """
    described = [region.range for region in firmware.regions] + [bank.range for bank in board.banks]
    check_room(sum(part.size for part in merge(described)) // board.page_size, backend)
    arch = kernels.arch_to_boot(board.arch)
    layout = zones.predict(
        firmware,
        arch=arch.name,
        page_size=board.page_size,
        block_size=board.block_size,
        cmdline=cmdline,
        kernel=kernel,
    )
    if not layout.ram:
        raise Refusal(Code.UNSUPPORTED, "the description has no memory that this kernel can use")
    numbers = {entry.block for entry in layout.blocks}
    for bank in board.banks:
        numbers.update(board.blocks(bank))
    geometry = Geometry(tuple(sorted(numbers)), arch=arch.name, page_size=board.page_size, block_size=board.block_size)
    rules = _rules(arch, layout, cmdline, board.page_size)
    return BootMemory(arch, layout, firmware, geometry, rules, cmdline, kernels.kernel(kernel))


def _rules(arch: Arch, layout: Layout, cmdline: str, page_size: int) -> Rules:
    words = decode(cmdline)
    policy = OnlinePolicy(
        online=words.last("memory_hotplug.online_policy") or USUAL.online,
        ratio=memparse(words.last("memory_hotplug.auto_movable_ratio") or str(USUAL.ratio))[0],
        movable_node=bool(words.all("movable_node")),
        memmap_on_memory=words.last("memory_hotplug.memmap_on_memory") in ("1", "y", "Y", "on", "force"),
    )
    if arch.lowmem is None:
        return Rules(arch.boot_memory_leaves is not False, policy, page_struct=arch.struct_page)
    high = next((z.start_pfn for z in layout.zones if z.zone == Zone.HIGHMEM), None)
    start, end = min(r.range.start for r in layout.ram), max(r.range.end for r in layout.ram)
    high_pfn = high if high is not None else min(end, start + arch.lowmem.size()) // page_size
    tagged = any(region.hotpluggable for region in layout.ram)
    policy = replace(
        policy,
        movable_node=kernels.movable_node(arch, word=policy.movable_node, marked=tagged),
        memmap_on_memory=False,
    )
    return Rules(arch.boot_memory_leaves is not False, policy, high_pfn, page_struct=arch.struct_page)


class Memblock:
    """Physical memory before the buddy allocator: what exists, what is taken. Bytes."""

    def __init__(self, memory: Iterable[Range]) -> None:
        self.memory = merge(memory)
        self.taken: list[Range] = []

    def reserve(self, wanted: Range) -> None:
        """``memblock_reserve``."""
        self.taken.append(wanted)

    def free(self) -> tuple[Range, ...]:
        """What exists and is not taken, ascending."""
        left = list(self.memory)
        for taken in self.taken:
            left = [piece for part in left for piece in part.minus(taken)]
        return tuple(sorted(left))

    def take(self, size: int, align: int, within: Iterable[Range]) -> Range | None:
        """The topmost free range inside ``within``, now taken, or None."""
        free = [part for space in self.free() for limit in within if (part := space.intersection(limit))]
        for space in sorted(free, reverse=True):
            start = (space.end - size) // align * align
            if start >= space.start:
                self.reserve(Range.sized(start, size))
                return self.taken[-1]
        return None

    def alloc(self, size: int, align: int, *places: Iterable[Range]) -> Range:
        """``memblock_alloc`` top-down, in the first of ``places`` that has room. Raises Refusal: a kernel panics."""
        for within in places:
            found = self.take(size, align, within)
            if found:
                return found
        raise Refusal(Code.NO_CAPACITY, f"the kernel does not fit: {size} bytes of boot memory are not to be had")


def populate(boot: BootMemory, allocator: PageAllocator, tasks: Tasks) -> dict[int, MemoryBlock]:
    """Make the zones, take what the boot takes, release the rest, start the kernel's caches. The memory blocks."""
    states = [_attach(boot, allocator, span) for span in boot.layout.zones]
    memblock = Memblock(region.range for region in boot.layout.ram)
    cma = _take_boot_memory(boot, memblock)
    for area in cma:
        for start, end in boot.geometry.runs(area):
            allocator.frames.set_type(start, end, MigrateType.CMA)
    for part in sorted([*memblock.free(), *cma]):
        for start, end in boot.geometry.runs(part):
            allocator.frames.release(start, end)
    for state in states:
        state.managed = allocator.frames.free_pages(state.number)
        state.early, state.cma = state.present_pages, allocator.frames.free_cma(state.number)
    allocator.watermark_rules = _watermark_rules(boot, sum(state.managed for state in states))
    allocator.set_watermarks()
    _start_caches(boot, tasks)
    return _blocks(boot, states, allocator)


def _attach(boot: BootMemory, allocator: PageAllocator, span: zones.ZoneSpan) -> ZoneState:
    """A zone with its span; its memory RESERVED, the rest of its pageblocks HOLE."""
    geometry, frames = boot.geometry, allocator.frames
    state = allocator.zone(span.node, Zone(span.zone))
    state.start_pfn, state.spanned = span.start_pfn, span.spanned
    page, size = geometry.page_size, 1 << frames.shape.pageblock_order
    whole = Range(span.start_pfn * page, span.end_pfn * page)
    for part in _memory_of(boot, span.node, whole):
        for start, end in geometry.runs(part):
            for first, last in _outside(frames, start & -size, end):
                frames.attach(state.number, first, last)
                frames.set_kind(first, last, Kind.HOLE)
            frames.set_kind(start, end, Kind.RESERVED)
        state.grow_present(part.start // page, part.end // page)
    return state


def _outside(frames: Frames, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Stretches of pageblocks from ``start`` up to ``end`` that are in no zone yet."""
    size = 1 << frames.shape.pageblock_order
    for outside, run in groupby(range(start, end, size), lambda frame: frames.zone(frame) < 0):
        if outside:
            pageblocks = list(run)
            yield pageblocks[0], pageblocks[-1] + size


def _memory_of(boot: BootMemory, node: int, span: Range) -> tuple[Range, ...]:
    """System RAM of the node inside the span, and no-map memory, which is present all the same (``mem=`` spares it)."""
    ram = [region.range for region in boot.layout.ram if (region.node or 0) == node]
    nomap = [r.range for r in boot.firmware.reserved if r.no_map]
    ram += [part for r in nomap for m in boot.firmware.regions if (part := r.intersection(m.range))]
    return merge(part for r in ram if (part := r.intersection(span)))


def _take_boot_memory(boot: BootMemory, memblock: Memblock) -> list[Range]:
    """Everything that memblock gives away before the buddy allocator starts. Returns the CMA areas."""
    kernel, page = boot.footprint, boot.geometry.page_size
    memblock.reserve(Range.sized(memblock.memory[0].start + kernel.image_offset, kernel.image))
    if boot.firmware.initrd:
        memblock.reserve(_outward(boot.firmware.initrd, page))
    cma = [area for reservation in boot.firmware.reserved if (area := _reserve(boot, memblock, reservation))]
    memblock.alloc(kernel.early, page, _early_places(boot), _boot_places(boot))
    for node in boot.nodes:
        pages = sum(region.range.size // page for region in boot.layout.ram if (region.node or 0) == node)
        memmap = _up(pages * boot.rules.page_struct, page)
        memblock.alloc(memmap, min(2 * MIB, memmap), _boot_places(boot, node), _boot_places(boot))
    total = sum(part.size for part in memblock.memory)
    memblock.alloc(_up(total // 1024 + total // 2048, page), page, _boot_places(boot))  # dentry and inode hashes
    cma += _cma_areas(boot, memblock)
    if kernel.bounce:
        reached = memblock.memory[-1].end <= _dma_end(boot)
        memblock.alloc(MIB if reached else kernel.bounce, page, _dma_places(boot))
    return cma


def _reserve(boot: BootMemory, memblock: Memblock, reservation: Reservation) -> Range | None:
    """/reserved-memory. Returns the range if CMA lends it out."""
    memblock.reserve(_outward(reservation.range, boot.geometry.page_size))
    unit = boot.geometry.page_size << boot.geometry.shape.pageblock_order
    lent = reservation.reusable and reservation.range.aligned(unit) and _in_ram(boot, reservation.range)
    return reservation.range if lent else None


def _cma_areas(boot: BootMemory, memblock: Memblock) -> list[Range]:
    """``cma=`` or the default, within reach of all DMA masters; some kernels have one more in each of several nodes.

    A kernel that finds no place for an area boots without it.
    """
    asked = decode(boot.cmdline).last("cma")
    size = boot.footprint.cma if asked is None else memparse(asked)[0]
    unit = boot.geometry.page_size << boot.geometry.shape.max_order
    if not size:
        return []
    places = [_dma_places(boot)]
    if boot.kernel.cma_in_each_node and len(boot.nodes) > 1:
        places += [_boot_places(boot, node) for node in boot.nodes]
    found = [memblock.take(_up(size, unit), unit, within) for within in places]
    return [area for area in found if area]


def _dma_end(boot: BootMemory) -> int:
    """Where the zones for DMA end, or the end of memory if there are none."""
    dma = [z.end_pfn for z in boot.layout.zones if z.zone in (Zone.DMA, Zone.DMA32)]
    movable = [z.start_pfn for z in boot.layout.zones if z.zone == Zone.NORMAL]
    end = max(region.range.end for region in boot.layout.ram)
    return max(dma) * boot.geometry.page_size if dma and movable else end


def _dma_places(boot: BootMemory) -> list[Range]:
    reach = Range(0, _dma_end(boot))
    return [part for place in _boot_places(boot) if (part := place.intersection(reach))]


def _early_places(boot: BootMemory) -> list[Range]:
    """With movable_node, paging_init keeps out of what the tree calls hotpluggable, even where NUMA code forgets it."""
    places = _boot_places(boot)
    for avoided in (r.range for r in boot.firmware.regions if r.hotpluggable and boot.rules.policy.movable_node):
        places = [part for place in places for part in place.minus(avoided)]
    return places


def _boot_places(boot: BootMemory, node: int | None = None) -> list[Range]:
    """Where boot allocations may go: not into banks that may leave, and on arm not above lowmem."""
    ram = [r for r in boot.layout.ram if node is None or (r.node or 0) == node]
    places = [r.range for r in ram if not (boot.rules.policy.movable_node and r.hotpluggable)]
    if boot.rules.high_pfn is None:
        return places
    lowmem = Range(0, boot.rules.high_pfn * boot.geometry.page_size)
    return [part for place in places if (part := place.intersection(lowmem))]


def _in_ram(boot: BootMemory, wanted: Range) -> bool:
    return any(part.contains(wanted) for part in merge(region.range for region in boot.layout.ram))


def _watermark_rules(boot: BootMemory, managed: int) -> WatermarkRules:
    """``hugepage_init`` leaves transparent huge pages off below 512 MiB; the small arm kernel has none."""
    large = managed * boot.geometry.page_size >= 512 * MIB
    return WatermarkRules(
        page_size=boot.geometry.page_size,
        huge_pages=boot.its.huge_pages and large,
        movable_shares=not boot.kernel.movable_keeps_less,
    )


def _start_caches(boot: BootMemory, tasks: Tasks) -> None:
    kernel = boot.footprint
    tasks.kernel_alloc("kernel", kernel.other)
    tasks.kernel_alloc("kmalloc", kernel.slab, kind=Kind.SLAB)
    tasks.kernel_alloc("dentry", kernel.slab_reclaimable, kind=Kind.SLAB, gfp=GFP_RECLAIMABLE)
    for node in boot.nodes[1:]:
        tasks.kernel_alloc(
            f"kmalloc of node {node}", kernel.per_node, kind=Kind.SLAB, gfp=replace(GFP_KERNEL, node=node)
        )


def _blocks(boot: BootMemory, states: list[ZoneState], allocator: PageAllocator) -> dict[int, MemoryBlock]:
    """One block for each that has memory. A block whose ``valid_zones`` reads none has no zone."""
    blocks = {}
    for entry in boot.layout.blocks:
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


def _outward(wanted: Range, unit: int) -> Range:
    return Range(wanted.start // unit * unit, _up(wanted.end, unit))


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
