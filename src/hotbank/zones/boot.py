# SPDX-License-Identifier: Apache-2.0
"""From a firmware description to memblock, as each kernel's early boot does it.

Truth: arch/arm64/mm/init.c (early_mem, arm64_memblock_init, zone_sizes_init), drivers/of/fdt.c
(early_init_dt_scan_memory, early_init_dt_reserve_memory), drivers/base/arch_numa.c, mm/numa_memblks.c,
drivers/acpi/numa/srat.c; arch/arm/kernel/setup.c (arm_add_memory, early_mem), arch/arm/mm/mmu.c
(adjust_lowmem_bounds), arch/arm/mm/init.c (zone_sizes_init). ``arm`` is the hotplug port under ``kernel/arm``,
which also reads ATAG_MEM_MOVABLE and ``movablemem=``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hotbank import kernels
from hotbank.firmware.cmdline import MemoryOptions
from hotbank.firmware.srat import domains_in_order
from hotbank.kernels import Arch, Kernel
from hotbank.memory import MIB, MemoryMap, MemoryRegion, Range, Zone, merge, without
from hotbank.zones.emulation import MOST, emulated
from hotbank.zones.layout import Hidden
from hotbank.zones.memblock import Memblock

_U32_MAX = (1 << 32) - 1
_PHYS_END = 1 << 48  # PHYS_MASK_SHIFT of Debian's arm64 kernels
_LINEAR_MAP, _LINEAR_UNIT = 1 << 47, 1 << 30  # PAGE_END - PAGE_OFFSET without LVA, and ARM64_MEMSTART_ALIGN
_ARM_PMD = 2 * MIB
_MAX_DOMAINS = 256  # MAX_PXM_DOMAINS
_EVERYTHING = Range(0, 1 << 64)


@dataclass(slots=True)
class Boot:
    """Where early boot stands: memory, zone limits (exclusive pfns, the architecture's zones in order), decisions.

    ``no_numa``: why the kernel finds firmware's node numbers wrong and puts everything into node 0, or empty.
    ``panics``: why it gets no further, or empty. ``fakes``: nodes were made by ``numa=fake=``.
    """

    arch: Arch
    memory: Memblock
    limits: dict[Zone, int] = field(default_factory=dict)
    movable_node: bool = False
    hidden: list[Hidden] = field(default_factory=list)
    no_numa: str = ""
    panics: str = ""
    fakes: bool = False


def early_boot(
    memory: MemoryMap, options: MemoryOptions, arch: Arch, kernel: Kernel, page_size: int, dma_size: int | None
) -> Boot:
    """Memory and zone limits as the architecture sets them up. ``dma_size``: of 32-bit arm's machine, else without
    effect."""
    if arch.lowmem is not None:
        return boot_arm(memory, options, arch, kernel, page_size, dma_size)
    return boot_arm64(memory, options, arch, kernel, page_size)


def boot_arm64(memory: MemoryMap, options: MemoryOptions, arch: Arch, kernel: Kernel, page_size: int) -> Boot:
    """Memory and zone limits as arm64 sets them up."""
    boot = Boot(arch, Memblock(), movable_node=_movable_node(memory, options, arch))
    acpi = any(_from_srat(r) for r in memory.regions)
    _add_regions(boot, memory, page_size)
    if boot.memory.end > _PHYS_END:
        _remove(boot, Range(_PHYS_END, 1 << 65), "beyond 48 physical address bits")
    mapped_to = boot.memory.start // _LINEAR_UNIT * _LINEAR_UNIT + _LINEAR_MAP
    if boot.memory.end > mapped_to:
        _remove(boot, Range(mapped_to, 1 << 65), "beyond the linear map of 48 virtual address bits")
    _apply_cap(boot, memory, options, page_size)
    _reserve(boot, memory, kernel)
    _look_for_room(boot, "page tables")
    if acpi:
        _numa_acpi(boot, memory, options, kernel, page_size)
        _look_for_room(boot, "itself")
    else:
        _numa_tree(boot, memory, options, kernel, page_size)
    _arm64_limits(boot, memory, kernel, page_size)
    return boot


def boot_arm(
    memory: MemoryMap, options: MemoryOptions, arch: Arch, kernel: Kernel, page_size: int, dma_size: int | None
) -> Boot:
    """Memory and zone limits as 32-bit arm sets them up. ``dma_size``: the machine's dma_zone_size, None without."""
    boot = Boot(arch, Memblock(), movable_node=_movable_node(memory, options, arch))
    _add_regions(boot, memory, page_size)
    if not arch.lpae:  # the last page is lost too: arm_add_memory computes with ULONG_MAX
        beyond = Range(_U32_MAX // page_size * page_size, 1 << 65)
        _remove(boot, beyond, "outside the 32-bit address space, where a kernel with LPAE would use it (--lpae)")
    phys_offset = boot.memory.start
    _apply_arm_words(boot, options, phys_offset, page_size)
    _reserve(boot, memory, kernel)
    boot.memory.set_node(_EVERYTHING, 0)
    _arm_limits(boot, options, phys_offset, page_size, dma_size)
    return boot


def _movable_node(memory: MemoryMap, options: MemoryOptions, arch: Arch) -> bool:
    tagged = any(r.hotpluggable and r.source == "ATAG_MEM_MOVABLE" for r in memory.regions)
    return kernels.movable_node(arch, word=options.movable_node, marked=tagged or options.movablemem)


def _from_srat(region: MemoryRegion) -> bool:
    return region.source.startswith("SRAT")


def _add_regions(boot: Boot, memory: MemoryMap, page_size: int) -> None:
    for region in memory.regions:
        whole = _whole_pages(region.range, page_size)
        if whole is None:
            boot.hidden.append(Hidden(region.range, "less than a page"))
            continue
        boot.memory.add(whole)
        if region.hotpluggable and not _from_srat(region) and memory.uefi is None:
            boot.memory.mark_hotplug(whole)
    if memory.usable:
        known = merge(r.range for r in boot.memory)
        first, *others = memory.usable
        boot.memory.remove(Range(0, first.start))
        boot.memory.remove(Range(first.end, 1 << 65))
        for other in others:
            boot.memory.add(other)
        gone = without(known, merge(r.range for r in boot.memory))
        boot.hidden += [Hidden(part, "outside linux,usable-memory-range") for part in gone]


def _whole_pages(range_: Range, page_size: int) -> Range | None:
    start, end = -(-range_.start // page_size) * page_size, range_.end // page_size * page_size
    return Range(start, end) if start < end else None


def _remove(boot: Boot, range_: Range, why: str) -> None:
    """Take memory out and remember what went and why."""
    gone = [part for r in boot.memory if (part := r.range.intersection(range_))]
    boot.memory.remove(range_)
    boot.hidden += [Hidden(part, why) for part in merge(gone)]


def _apply_cap(boot: Boot, memory: MemoryMap, options: MemoryOptions, page_size: int) -> None:
    """``mem=size`` of arm64: the last one counts and caps the total; an initrd beyond the cap is added back."""
    caps = [r for r in options.ranges if r.key == "mem"]
    before = merge(r.range for r in boot.memory)
    if caps:
        boot.memory.cap(caps[-1].size // page_size * page_size)
    if memory.initrd and memory.initrd.start >= boot.memory.start:
        start = memory.initrd.start // page_size * page_size
        whole = Range(start, -(-memory.initrd.end // page_size) * page_size)
        boot.memory.add(whole)
    after = merge(r.range for r in boot.memory)
    boot.hidden += [Hidden(part, f"mem={caps[-1].size:#x} on the command line") for part in without(before, after)]


def _reserve(boot: Boot, memory: MemoryMap, kernel: Kernel) -> None:
    """/reserved-memory: no-map ranges stay memory for the zones, but are no System RAM.

    A no-map range of which a part is taken already is refused (-EBUSY), and the rest of it stays ordinary memory.
    """
    if memory.initrd:
        boot.memory.reserve(memory.initrd)
    for reservation in sorted(memory.reserved, key=lambda r: r.listed is kernel.nodes_before_list):
        if not reservation.no_map:
            boot.memory.reserve(reservation.range)
        elif not boot.memory.is_reserved(reservation.range):
            boot.memory.mark_nomap(reservation.range)


def _look_for_room(boot: Boot, what: str) -> None:
    """With movable_node memblock gives nothing out of marked memory (should_skip_region), and where that is all there
    is the kernel panics: early_pgtable_alloc, "Failed to allocate page table page"."""
    marked = merge(r.range for r in boot.memory if r.hotplug)
    room = sum(part.size for part in without(boot.memory.free(), marked))
    least = boot.arch.footprint.early if boot.arch.footprint else 0
    if boot.movable_node and marked and room < least:
        boot.panics = (
            boot.panics or f"all memory is hot-pluggable and movable_node is on: the kernel has none for {what}"
        )


def _numa_tree(boot: Boot, memory: MemoryMap, options: MemoryOptions, kernel: Kernel, page_size: int) -> None:
    if kernel.forgets_tree_marks:
        boot.memory.clear_hotplug(_EVERYTHING)
    named = [(r.range, r.node) for r in memory.regions if r.node is not None]
    if kernel.wants_last_node and memory.regions and memory.regions[-1].node is None:
        named = []  # of_numa_parse_memory_nodes gives up when the last memory node has no number
    wrong = next((f"node {node} is above {MOST - 1}" for _, node in named if node >= MOST), "")
    _set_nodes(boot, options, kernel, named, wrong, page_size)


def _set_nodes(
    boot: Boot,
    options: MemoryOptions,
    kernel: Kernel,
    named: list[tuple[Range, int]],
    wrong: str,
    page_size: int,
) -> bool:
    """Memory gets its nodes, or, where the kernel finds them ``wrong`` or incomplete, node 0; True for the former.

    What ``numa=fake=`` says is read once: nodes of firmware that turn out incomplete take it with them.
    """
    if kernel.joins_nodes and not wrong:
        present = [(range_, node) for range_, node in named if boot.memory.overlaps(range_)]
        wrong, named = _overlapping(present), _joined_nodes(present)
    fake = options.numa_fake
    if named and not wrong and not options.numa_off:
        _give(boot, named, fake, page_size)
        if all(r.node is not None for r in boot.memory):
            return True
        fake = None
    _give(boot, [(_EVERYTHING, 0)], fake, page_size)
    boot.no_numa = wrong
    return False


def _give(boot: Boot, named: list[tuple[Range, int]], fake: str | None, page_size: int) -> None:
    """numa_register_meminfo, behind numa_emulation."""
    inside = ((part, node) for range_, node in named if (part := range_.intersection(boot.memory.extent)))
    made = emulated(sorted(inside), boot.memory, fake, page_size) if fake is not None else ()
    boot.fakes = bool(made)
    for range_, node in _joined_nodes([*made]) if made else named:
        boot.memory.set_node(range_, node)


def _overlapping(named: list[tuple[Range, int]]) -> str:
    """numa_cleanup_meminfo refuses memory of two nodes that overlaps; of one node it may."""
    last, owner = Range(0, 0), 0
    for range_, node in sorted(named):
        if range_.overlaps(last) and node != owner:
            return f"memory of node {owner} ({last}) overlaps that of node {node} ({range_})"
        if range_.end > last.end:
            last, owner = range_, node
    return ""


def _joined_nodes(named: list[tuple[Range, int]]) -> list[tuple[Range, int]]:
    """numa_cleanup_meminfo: ranges of one node become one where no other node lies between them."""
    joined: list[tuple[Range, int]] = []
    for range_, node in sorted(named):
        if joined and joined[-1][1] == node:
            joined[-1] = (Range(joined[-1][0].start, max(joined[-1][0].end, range_.end)), node)
        else:
            joined.append((range_, node))
    return joined


def _numa_acpi(boot: Boot, memory: MemoryMap, options: MemoryOptions, kernel: Kernel, page_size: int) -> None:
    """Nodes from SRAT domains, and its hot-pluggable flag; since 6.12 a node with kernel memory loses the flag."""
    nodes = domains_in_order(memory)
    named = [(r.range, nodes[r.node]) for r in memory.regions if r.node is not None]
    wrong = next((f"domain {d} is above {_MAX_DOMAINS - 1}" for d in nodes if d >= _MAX_DOMAINS), "")
    if len(nodes) > MOST:
        wrong = wrong or f"{len(nodes)} domains, more than {MOST} nodes"
    accepted = _set_nodes(boot, options, kernel, named, wrong, page_size)
    # Before numa_memblks the marks stay although the nodes are refused; numa=off never looks at SRAT.
    if accepted or (not kernel.forgets_tree_marks and not options.numa_off and not wrong):
        for region in memory.regions:
            if region.hotpluggable:
                boot.memory.mark_hotplug(region.range)
    if not kernel.forgets_tree_marks:
        return
    taken = _kernel_nodes(boot)
    for r in boot.memory:
        if r.node in taken:
            boot.memory.clear_hotplug(r.range)


def _kernel_nodes(boot: Boot) -> set[int | None]:
    """Nodes with memory that is reserved before SRAT is read.

    The kernel itself is taken to be in the lowest node. Page tables of the linear mapping are allocated from the top of
    all memory (early_pgtable_alloc; arm64 has no bottom-up allocation for movable_node, as x86 has).
    """
    nodes = {r.node for r in boot.memory if boot.memory.is_reserved(r.range)}
    mapped = [r.node for r in boot.memory if not r.nomap]
    return nodes | set(mapped[:1]) | set(mapped[-1:])


def _arm64_limits(boot: Boot, memory: MemoryMap, kernel: Kernel, page_size: int) -> None:
    start, last = boot.memory.start, boot.memory.end - 1
    dma = (memory.dma_limit - 1) if memory.dma_limit is not None else (1 << 64) - 1
    if not kernel.exact_dma_limit:
        dma_end = _zone_end_by_bits(min(32, dma.bit_length()), start, last)
        dma32_end = _zone_end_by_bits(32, start, last)
    else:
        dma = min(dma, _U32_MAX) if start < _U32_MAX else dma
        dma_end, dma32_end = min(dma, last) + 1, min(_U32_MAX, last) + 1
    boot.limits = {
        Zone.DMA: dma_end // page_size,
        Zone.DMA32: dma32_end // page_size,
        Zone.NORMAL: boot.memory.end // page_size,
    }


def _zone_end_by_bits(bits: int, start: int, last: int) -> int:
    """max_zone_phys before 6.12."""
    mask = (1 << bits) - 1
    if start > _U32_MAX:
        mask = (1 << 64) - 1
    elif start > mask:
        mask = _U32_MAX
    return min(mask, last) + 1


def _apply_arm_words(boot: Boot, options: MemoryOptions, phys_offset: int, page_size: int) -> None:
    """``mem=`` and ``movablemem=`` in the order given; the first mem= drops all memory known by then."""
    known = merge(r.range for r in boot.memory)
    first = True
    for word in options.ranges:
        if word.key == "movablemem" and boot.arch.lpae:
            continue
        if word.key == "mem" and first:
            boot.memory.remove(_EVERYTHING)
            first = False
        start = phys_offset if word.start is None else word.start
        most = _EVERYTHING.end if boot.arch.lpae else _U32_MAX
        whole = _whole_pages(Range(start, max(start, min(start + word.size, most))), page_size)
        if whole is None or whole.end <= phys_offset:
            continue
        whole = Range(max(whole.start, phys_offset), whole.end)
        boot.memory.add(whole)
        if word.key == "movablemem":
            boot.memory.mark_hotplug(whole)
    gone = without(known, merge(r.range for r in boot.memory))
    boot.hidden += [Hidden(part, "mem= on the command line") for part in gone]


def _arm_limits(boot: Boot, options: MemoryOptions, phys_offset: int, page_size: int, dma_size: int | None) -> None:
    first = next((r.range.start for r in boot.memory if not r.nomap), 0)
    boot.memory.mark_nomap(Range(first, -(-first // _ARM_PMD) * _ARM_PMD))
    assert boot.arch.lowmem is not None
    limit = boot.arch.lowmem.size(options.vmalloc) + phys_offset
    lowmem = max((min(r.range.end, limit) for r in boot.memory if r.range.start < limit and not r.nomap), default=0)
    max_low, max_high = lowmem // page_size, boot.memory.end // page_size
    if dma_size is not None or boot.arch.lpae:  # with LPAE nearly every platform selects ZONE_DMA
        # The limit is the last byte's page, so the zone ends one page early: setup_dma_zone.
        last = _U32_MAX if dma_size is None else phys_offset + dma_size - 1
        boot.limits[Zone.DMA] = min(last // page_size, max_low)
    boot.limits |= {Zone.NORMAL: max_low, Zone.HIGHMEM: max_high}
