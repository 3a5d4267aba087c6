# SPDX-License-Identifier: Apache-2.0
"""What will surprise someone who reads only the firmware's description: each finding a code and one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hotbank.firmware.cmdline import MemoryOptions
from hotbank.kernels import Arch, Kernel
from hotbank.machine import OnlinePolicy
from hotbank.memory import MemoryMap, Range, Zone, format_size, merge
from hotbank.zones.boot import Boot
from hotbank.zones.layout import BlockZones, Hidden, Warning, ZoneSpan


@dataclass(frozen=True, slots=True)
class Case:
    """All that the findings look at. Sizes in bytes."""

    memory: MemoryMap
    options: MemoryOptions
    line: str
    arch: Arch
    kernel: Kernel
    page_size: int
    block_size: int
    boot: Boot
    zones: tuple[ZoneSpan, ...]
    blocks: tuple[BlockZones, ...]
    hidden: tuple[Hidden, ...]


def warnings(case: Case) -> tuple[Warning, ...]:
    """Every finding, in a fixed order of kinds."""
    finders = (_ignored, _boot_memory, _straddling, _holes, _ratio, _memmap, _options, _short, _numa, _line, _not_used)
    return tuple(w for finder in finders for w in finder(case))


def _movable(case: Case) -> tuple[Range, ...]:
    """Where ZONE_MOVABLE spans."""
    spans = (z for z in case.zones if z.zone == Zone.MOVABLE)
    return merge(Range(z.start_pfn * case.page_size, z.end_pfn * case.page_size) for z in spans)


def _marked(case: Case) -> list[Range]:
    """Ranges that firmware or the command line says may leave, as far as they are memory here."""
    marked = [r.range for r in case.memory.regions if r.hotpluggable]
    if case.arch.mem_has_start:
        marked += [Range.sized(r.start, r.size) for r in case.options.ranges if r.key == "movablemem" and r.start]
    ram = merge(r.range for r in case.boot.memory)
    return list(merge(part for m in marked for r in ram if (part := m.intersection(r))))


def _ignored(case: Case) -> Iterator[Warning]:
    movable = _movable(case)
    for range_ in _marked(case):
        if not any(m.overlaps(range_) for m in movable):
            yield Warning("HOTPLUGGABLE_IGNORED", f"{range_} is described as hot-pluggable, and {_why_ignored(case)}")


def _why_ignored(case: Case) -> str:
    tree = not any(r.source.startswith("SRAT") for r in case.memory.regions)
    if case.arch.lowmem is None and tree and case.kernel.forgets_tree_marks:
        return f"kernel {case.kernel.release} clears that mark of the device tree: it becomes kernel memory"
    if not case.boot.movable_node:
        return "without movable_node on the command line it becomes kernel memory"
    if not tree and case.kernel.forgets_tree_marks:
        return f"kernel {case.kernel.release} clears the mark of a node that holds kernel memory"
    return "no largest buddy block of it is left for Movable"


def _boot_memory(case: Case) -> Iterator[Warning]:
    leaves = [*_movable(case), *_marked(case)]
    if case.arch.boot_memory_leaves is False and leaves:
        where, arch = ", ".join(map(str, merge(leaves))), case.arch.name
        yield Warning(
            "BOOT_MEMORY", f"{where} is there at boot: {arch} never lets boot memory go, in whatever zone it is"
        )


def _straddling(case: Case) -> Iterator[Warning]:
    for block in case.blocks:
        if block.valid_zones == ("none",):
            range_ = _block_range(case, block)
            pages = range_.start // case.page_size, range_.end // case.page_size
            across = [f"{z.node}:{z.zone}" for z in case.zones if z.start_pfn < pages[1] and pages[0] < z.end_pfn]
            message = f"block {block.block} ({range_}) lies in {', '.join(across)}: it can't be taken offline"
            yield Warning("MULTI_ZONE", message)


def _holes(case: Case) -> Iterator[Warning]:
    ram = merge(r.range for r in case.boot.memory if not r.nomap)
    for block in case.blocks:
        range_ = _block_range(case, block)
        filled = sum(part.size for r in ram if (part := r.intersection(range_)))
        if filled < range_.size:
            message = f"block {block.block} ({range_}) has {format_size(range_.size - filled)} that is no RAM"
            yield Warning("HOLES", f"{message}: it can't be taken offline")


def _block_range(case: Case, block: BlockZones) -> Range:
    return Range.sized(block.block * case.block_size, case.block_size)


def _ratio(case: Case) -> Iterator[Warning]:
    movable, kernel = _present(case)
    given = case.options.hotplug_parameter("auto_movable_ratio") or ""
    ratio = int(given) if given.isdecimal() and len(given) <= 10 else OnlinePolicy().ratio  # the kernel keeps a uint
    if movable * 100 > kernel * ratio:
        message = f"Movable has {format_size(movable)}, the kernel's zones {format_size(kernel)}: more than {ratio} %"
        yield Warning("MOVABLE_RATIO", f"{message}; the kernel may run out of memory while much is free")


def _memmap(case: Case) -> Iterator[Warning]:
    movable, kernel = _present(case)
    cost = (movable + kernel) // case.page_size * case.arch.struct_page
    if movable and cost * 10 > kernel:
        message = f"the memmap takes {format_size(cost)} of the kernel's {format_size(kernel)}"
        yield Warning("MEMMAP_COST", f"{message}: each page of Movable costs {case.arch.struct_page} bytes there")


def _present(case: Case) -> tuple[int, int]:
    """Bytes in Movable, bytes in the kernel's zones."""
    movable = sum(z.present for z in case.zones if z.zone == Zone.MOVABLE)
    return movable * case.page_size, (sum(z.present for z in case.zones) - movable) * case.page_size


def _options(case: Case) -> Iterator[Warning]:
    options, sized = case.options, [n for n in ("kernelcore", "movablecore") if _asked(case.options, n)]
    if case.boot.movable_node and sized:
        names = ", ".join(f"{n}=" for n in sized)
        yield Warning("OPTION_IGNORED", f"movable_node is on, so {names} has no effect")
    if case.boot.movable_node and options.kernelcore_mirror:
        effect = "the kernel's zones keep their spans across Movable" if _movable(case) else "it has no effect"
        yield Warning("OPTION_IGNORED", f"movable_node is on, so kernelcore=mirror moves nothing; {effect}")
    elif options.kernelcore_mirror:
        yield Warning("OPTION_IGNORED", "kernelcore=mirror without mirrored memory" + _mirror_effect(case))
    if not case.arch.mem_has_start:
        for word in options.ranges:
            if word.key == "movablemem":
                yield Warning("OPTION_IGNORED", "movablemem= is read by the 32-bit arm port only")
            elif word.start is not None:
                yield Warning(
                    "OPTION_IGNORED", f"mem=...@{word.start:#x}: {case.arch.name} takes the size and ignores the start"
                )


def _mirror_effect(case: Case) -> str:
    if case.kernel.checks_mirror:
        return " is ignored"
    return ": all memory in regions that begin above 4 GiB becomes Movable"


def _asked(options: MemoryOptions, name: str) -> bool:
    share = options.kernelcore if name == "kernelcore" else options.movablecore
    return bool(share.size or share.percent)


def _short(case: Case) -> Iterator[Warning]:
    """movablecore= takes from the highest zone of each node only."""
    movable, kernel = _present(case)
    share = case.options.movablecore
    asked = (movable + kernel) * share.percent // 100 if share.percent else share.size
    mirror = case.boot.movable_node or case.options.kernelcore_mirror
    if not mirror and not _asked(case.options, "kernelcore") and asked > movable:
        message = f"movablecore= asks for {format_size(asked)} and gets {format_size(movable)}"
        yield Warning("MOVABLE_SHORT", f"{message}: it takes from the highest zone only, and never everything")


def _numa(case: Case) -> Iterator[Warning]:
    named = {r.node is not None for r in case.memory.regions}
    if case.boot.no_numa:
        yield Warning(
            "NUMA_IGNORED", f"{case.boot.no_numa}: the kernel refuses all node numbers and makes node 0 of it"
        )
    elif named == {True, False} and case.arch.lowmem is None:
        nodes = ", ".join(str(n) for n in sorted({z.node for z in case.zones}))
        yield Warning(
            "NUMA_IGNORED", f"some memory has a NUMA node and some has none: the kernel makes node {nodes} of it"
        )


def _line(case: Case) -> Iterator[Warning]:
    size = case.arch.command_line
    if len(case.line) >= size:
        yield Warning("LINE_TOO_LONG", f"the command line has {len(case.line)} bytes, the kernel keeps {size - 1}")


def _not_used(case: Case) -> Iterator[Warning]:
    for hidden in case.hidden:
        yield Warning("NOT_USED", f"{hidden.range} ({format_size(hidden.range.size)}): {hidden.why}")
