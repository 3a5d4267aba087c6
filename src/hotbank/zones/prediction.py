# SPDX-License-Identifier: Apache-2.0
"""Which zones a kernel will make of what firmware says: a pure function from a memory map to a prediction.

The command line's ``mem=`` and ``movablemem=`` are applied on the way, because what they do depends on the
architecture.
"""

from __future__ import annotations

from dataclasses import replace

from hotbank import kernels
from hotbank.errors import Code, Finding, Refusal, Severity
from hotbank.firmware import bootwords
from hotbank.firmware import cmdline as _cmdline
from hotbank.firmware.ground import Ground
from hotbank.kernels import Kernel
from hotbank.memory import (
    MemoryMap,
    MemoryRegion,
    Range,
    Reservation,
    Unplaced,
    Zone,
    among,
    format_size,
    merge,
    place,
)
from hotbank.zones import mainline, proposal_2009
from hotbank.zones.boot import Boot, early_boot
from hotbank.zones.findings import findings
from hotbank.zones.layout import BlockZones, Hidden, Layout, Prediction, ZoneSpan

_U32 = 1 << 32
_TOPMOST = "let the movable banks be the topmost of their node"
STRATEGIES = ("mainline", "adjust", "banks")


def predict(
    memory: MemoryMap,
    *,
    arch: str,
    page_size: int,
    block_size: int,
    cmdline: str | None = None,
    kernel: str = kernels.DEFAULT,
    strategy: str = "mainline",
    dma_size: int | None = None,
    numa_emu: bool = False,
    lpae: bool = False,
) -> Prediction:
    """The layout that ``kernel`` (a release, see kernels.py) makes of ``memory`` on ``arch``, where ``any`` is arm64.

    ``cmdline`` replaces the description's own line. ``strategy``: ``mainline``, or ``adjust`` and ``banks`` of the
    2009 proposal, which honour every movable bank. ``dma_size``: on arm, bytes of the machine's DMA zone, None for a
    kernel without ZONE_DMA. ``numa_emu``: the kernel has CONFIG_NUMA_EMU; ``lpae``: 32-bit arm with
    CONFIG_ARM_LPAE. Sizes in bytes. Raises FormatError (command line) and Refusal.
    """
    _check(arch, page_size, block_size, strategy)
    if lpae and strategy != "mainline":
        raise Refusal(Code.UNSUPPORTED, f"strategy {strategy} knows no LPAE", remedy="leave out one of both")
    line = cmdline if cmdline is not None else memory.cmdline or ""
    its = kernels.with_lpae(kernels.arch_to_boot(arch)) if lpae else kernels.arch_to_boot(arch)
    words = _cmdline.decode(its.kept(line))
    options = _cmdline.memory_options(words)
    traits = _traits(kernel, strategy)
    memory = _heeded(memory, words, traits)
    obeyed = options if numa_emu and traits.emulates_nodes else replace(options, numa_fake=None)
    boot = early_boot(memory, obeyed, its, traits, page_size, dma_size)
    taken = bootwords.taken(words, _ground(boot, traits, page_size))
    memory = _with_words(memory, boot, taken)
    zones, blocks = _zones(boot, options, traits, page_size, block_size, strategy)
    if boot.panics and strategy == "mainline":
        zones, blocks = (), ()
    ram, hidden, reserved = _system_ram(boot, strategy), _hidden(memory, boot), _reserved(memory, boot)
    made = Prediction(
        Layout(zones, blocks, (), ram, hidden, reserved),
        memory,
        its,
        traits,
        options,
        boot.memory,
        boot.limits,
        boot.movable_node,
        page_size,
        block_size,
        line,
        boot.no_numa,
        boot.panics,
        taken.refused,
        numa_emu,
        boot.fakes,
    )
    differ = () if boot.panics else _strategies_differ(boot, options, traits, page_size, zones, strategy)
    found = (*findings(made), *differ)
    return replace(made, layout=replace(made.layout, findings=found))


def _heeded(memory: MemoryMap, words: _cmdline.CommandLine, kernel: Kernel) -> MemoryMap:
    """The map without reservations that this kernel with this line does not make, which are told instead."""
    bypassed = any(value is not None for value in words.all("cma"))
    further = [r for r in memory.reserved if r.further and kernel.reserves_first_range]
    every: tuple[Reservation | Unplaced, ...] = (*memory.reserved, *memory.unplaced)
    default = [r for r in every if r.default_cma and bypassed]
    told = [f"{r.name}: kernel {kernel.release} reserves a node's first range only, not {r.range}" for r in further]
    told += [f"{r.name}: cma= on the command line takes the place of this default area of CMA" for r in default]
    gone = {*further, *default}
    return replace(
        memory,
        reserved=tuple(r for r in memory.reserved if r not in gone),
        unplaced=tuple(u for u in memory.unplaced if u not in gone),
        dropped=(*memory.dropped, *told),
    )


def _ground(boot: Boot, kernel: Kernel, page_size: int) -> Ground:
    """What there is for words that take memory. memblock gives nothing out of marked banks under movable_node."""
    marked = tuple(r.range for r in boot.memory if r.hotplug) if boot.movable_node else ()
    low_end = boot.limits.get(Zone.NORMAL, 0) * page_size
    total = boot.memory.total if boot.arch.lowmem is None else max(0, low_end - boot.memory.start)
    return Ground(
        total=total,
        mapped=boot.memory.mapped,
        taken=merge(boot.memory.reserved),
        marked=marked,
        dma_end=boot.limits[Zone.DMA] * page_size if Zone.DMA in boot.limits else _U32,
        low_end=low_end,
        end=boot.memory.end,
        arch=boot.arch,
        kernel=kernel,
        page_size=page_size,
    )


def _with_words(memory: MemoryMap, boot: Boot, own: bootwords.Taken) -> MemoryMap:
    """The map with what the command line takes at boot."""
    for reservation in own.reserved:
        boot.memory.reserve(reservation.range)
    return replace(memory, reserved=(*memory.reserved, *own.reserved), unplaced=(*memory.unplaced, *own.unplaced))


def _traits(kernel: str, strategy: str) -> Kernel:
    """The 2009 proposal honours every mark."""
    judged = kernels.kernel(kernel)
    return judged if strategy == "mainline" else replace(judged, forgets_tree_marks=False)


def _zones(
    boot: Boot, options: _cmdline.MemoryOptions, kernel: Kernel, page_size: int, block_size: int, strategy: str
) -> tuple[tuple[ZoneSpan, ...], tuple[BlockZones, ...]]:
    if strategy == "mainline":
        zones = mainline.zones(boot, options, kernel, page_size)
        return zones, () if boot.arch.lpae else mainline.blocks(boot, zones, page_size, block_size)
    info = proposal_2009.register(boot, page_size)
    zones = (proposal_2009.adjust if strategy == "adjust" else proposal_2009.walk)(boot, info, page_size)
    return zones, proposal_2009.blocks(boot, info, zones, page_size, block_size)


def _other_ways(arch: str) -> str:
    """What helps where there are no rules for it: ``arch`` may be a processor that no row of the table knows."""
    if arch not in kernels.ARCHES:
        return f"if you know what it is: --arch {' or '.join(kernels.bootable())}"
    return f"known: {', '.join(kernels.bootable())}; hotbank list has the zones that a running kernel has made"


def _check(arch: str, page_size: int, block_size: int, strategy: str) -> None:
    if arch not in (*kernels.bootable(), kernels.ANY):
        raise Refusal(Code.UNSUPPORTED, f"no zone rules for {arch!r}", remedy=_other_ways(arch))
    if strategy not in STRATEGIES:
        raise Refusal(Code.UNSUPPORTED, f"no strategy {strategy!r}", remedy="known: " + ", ".join(STRATEGIES))
    largest = kernels.arch_to_boot(arch).largest_buddy(page_size) * page_size
    if block_size < largest or block_size & (block_size - 1):
        message = f"a memory block of {format_size(block_size)} is no power of two, or less than a largest buddy block"
        raise Refusal(Code.NOT_ALIGNED, message, remedy=f"{format_size(largest)} or a larger power of two")


def _strategies_differ(
    boot: Boot,
    options: _cmdline.MemoryOptions,
    kernel: Kernel,
    page_size: int,
    zones: tuple[ZoneSpan, ...],
    strategy: str,
) -> tuple[Finding, ...]:
    """Where mainline and the 2009 strategies part: kernel memory above the lowest movable bank."""
    if strategy == "mainline":
        swallowed = _swallowed(boot, zones, page_size)
        return tuple(Finding("KERNEL_ABOVE_MOVABLE", Severity.HURTS, text, _TOPMOST) for text in swallowed)
    honoured = replace(boot, movable_node=any(r.hotplug for r in boot.memory))
    other = mainline.zones(honoured, options, kernel, page_size)
    if other == zones:
        return ()
    text = ", ".join(f"{z.node}:{z.zone} {z.start_pfn:#x}+{z.spanned:#x} ({z.present:#x} present)" for z in other)
    message = f"mainline would make other zones of these banks: {text}"
    return (Finding("STRATEGY_DIFFERS", Severity.INFO, message, _TOPMOST),)


def _swallowed(boot: Boot, zones: tuple[ZoneSpan, ...], page_size: int) -> list[str]:
    """Memory that is not marked and lies in a ZONE_MOVABLE all the same, because a marked bank is below it."""
    if not boot.movable_node:
        return []
    movable = [z for z in zones if z.zone == Zone.MOVABLE]
    inside = (
        r.range
        for r in boot.memory
        for z in movable
        if not r.hotplug
        and (r.node or 0) == z.node
        and z.start_pfn * page_size <= r.range.start < z.end_pfn * page_size
    )
    return [f"{r} is not marked, but above a movable bank it becomes Movable as well" for r in merge(inside)]


def _system_ram(boot: Boot, strategy: str) -> tuple[MemoryRegion, ...]:
    honoured = boot.movable_node or strategy != "mainline"
    return tuple(MemoryRegion(r.range, r.node, r.hotplug and honoured, "memblock") for r in boot.memory if not r.nomap)


def _hidden(memory: MemoryMap, boot: Boot) -> tuple[Hidden, ...]:
    """What firmware names and the kernel won't hand out: cut off, not mapped, reserved, or persistent."""
    hidden = list(boot.hidden)
    hidden += [Hidden(r, _no_map_reason(names)) for r, names in _not_mapped(memory, boot)]
    hidden += [Hidden(r, f"reserved: {name}") for r, name in _kept(memory, boot)]
    hidden += [Hidden(r.range, f"{r.source}: no RAM before a driver adds it") for r in memory.pmem]
    return tuple(sorted(hidden, key=lambda h: (h.range, h.why)))


def _not_mapped(memory: MemoryMap, boot: Boot) -> list[tuple[Range, list[str]]]:
    """Ranges that are not mapped, each with the names of the reservations that say so."""
    ranges = [r.range for r in boot.memory if r.nomap]
    names: list[list[str]] = [[] for _ in ranges]
    for reservation in memory.reserved:
        for found in names[place(ranges, reservation.range, lambda r: r)] if reservation.no_map else ():
            found.append(reservation.name)
    return list(zip(ranges, names, strict=True))


def _no_map_reason(names: list[str]) -> str:
    if names:
        return f"no-map: {', '.join(names)}"
    return "below the first 2 MiB boundary, which 32-bit arm needs to begin at"


def _kept(memory: MemoryMap, boot: Boot) -> list[tuple[Range, str]]:
    """Reserved ranges inside mapped memory; reusable ones (CMA) are lent out and not among them."""
    mapped = boot.memory.mapped
    return [
        (part, r.name or "reserved")
        for r in memory.reserved
        if not r.reusable
        for m in among(mapped, r.range)
        if (part := r.range.intersection(m))
    ]


def _reserved(memory: MemoryMap, boot: Boot) -> tuple[Range, ...]:
    return merge(range_ for range_, _ in _kept(memory, boot))
