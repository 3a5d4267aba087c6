# SPDX-License-Identifier: Apache-2.0
"""What of a prediction will surprise someone who reads only the firmware's description, and what helps."""

from __future__ import annotations

from collections.abc import Iterator

from hotbank import kernels
from hotbank.errors import Finding, Severity
from hotbank.firmware import bootwords
from hotbank.firmware.cmdline import MemoryOptions, decode
from hotbank.machine import OnlinePolicy
from hotbank.memory import Range, Zone, among, format_size, merge
from hotbank.numbers import kstrtouint
from hotbank.routes import removing
from hotbank.zones.layout import BlockZones, Prediction

_HIDE = (
    "keep the bank out of the kernel at boot (device tree, or mem=) and add it by a route that can take it out again "
    f"({', '.join(removing())})"
)
_SCARCE = "the kernel may run out of memory while much is free"
_LESS = "make less memory Movable: fewer movable banks, or a smaller movablecore="
_WHOLE_BLOCKS = "let banks and movablecore= begin and end where memory blocks do"
_DROP = "leave the word out"
_COMPARE = "hold it against the machine with --iomem"
_OTHER_SOURCE = "give a description that names the memory, or --iomem of the machine"


def findings(made: Prediction) -> tuple[Finding, ...]:
    """Every finding, in a fixed order of kinds."""
    finders = _OF_A_PANIC if made.panics else _FINDERS
    return tuple(finding for finder in finders for finding in finder(made))


def _judged(made: Prediction) -> Iterator[Finding]:
    if made.kernel.newer:
        yield Finding("KERNEL_NEWER", Severity.INFO, made.kernel.caveat, _COMPARE)


def _no_memory(made: Prediction) -> Iterator[Finding]:
    if made.layout.ram:
        return
    if not made.firmware.regions and not made.options.ranges:
        why = made.firmware.no_memory or "no region is named"
        yield Finding("NO_MEMORY", Severity.BLOCKS, f"no memory is described: {why}", _OTHER_SOURCE)
    else:
        message = "the command line leaves no memory at all: such a kernel does not boot"
        yield Finding("NO_MEMORY", Severity.BLOCKS, message, "correct mem= on the command line")


def _panics(made: Prediction) -> Iterator[Finding]:
    if made.panics:
        message = f"{made.panics}, and panics at boot"
        yield Finding("PANICS", Severity.BLOCKS, message, "leave some memory unmarked, or movable_node out")


def _uefi(made: Prediction) -> Iterator[Finding]:
    if made.firmware.uefi is not None:
        message = (
            "UEFI booted this machine (linux,uefi-mmap-start): the kernel throws away the tree's memory nodes and "
        )
        message += "their marks, and takes UEFI's own map; what is said here is a guess"
        yield Finding("UEFI_MAP", Severity.HURTS, message, "give --iomem of that machine, or --efi-memmap with its log")


def _unplaced(made: Prediction) -> Iterator[Finding]:
    for r in made.firmware.unplaced:
        kind = "no-map" if r.no_map else "CMA pool" if r.reusable else "reserved"
        within = f" within {', '.join(map(str, r.within))}" if r.within else ""
        message = f"{r.name} ({kind}) takes {format_size(r.size)}{within} where the kernel finds room at boot: "
        message += "its place is not predicted" + (", and it is no System RAM" if r.no_map else "")
        yield Finding("RESERVED_SOMEWHERE", Severity.INFO, message, _COMPARE)


def _dropped(made: Prediction) -> Iterator[Finding]:
    for why in made.firmware.dropped:
        yield Finding("NOT_RESERVED", Severity.HURTS, why, "correct the node, if the memory must be kept")


def _other_arch(made: Prediction) -> Iterator[Finding]:
    said = made.firmware.arch
    if said is not None and said not in kernels.ARCHES:
        message = f"nobody here knows processors that are {said}: these are the rules of {made.arch.name}"
        yield Finding("ARCH_DIFFERS", Severity.INFO, message, "nothing, if they are its processors")
    elif said is not None and said != made.arch.name:
        message = f"the description is for {said}, and these are the rules of {made.arch.name}"
        yield Finding("ARCH_DIFFERS", Severity.HURTS, message, "leave out --arch")


def _no_blocks(made: Prediction) -> Iterator[Finding]:
    if made.arch.lpae:
        message = f"kernels of {made.arch.name} with LPAE have no memory hotplug: no memory of theirs is a block"
        yield Finding("NO_BLOCKS", Severity.BLOCKS, message, "a kernel of our port, without LPAE (docs/arm32.md)")


def _movable(made: Prediction) -> tuple[Range, ...]:
    """Where ZONE_MOVABLE spans."""
    spans = (z for z in made.layout.zones if z.zone == Zone.MOVABLE)
    return merge(Range(z.start_pfn * made.page_size, z.end_pfn * made.page_size) for z in spans)


def _marked(made: Prediction) -> list[Range]:
    """Ranges that firmware or the command line says may leave, as far as they are memory here."""
    marked = [r.range for r in made.firmware.regions if r.hotpluggable]
    if made.arch.mem_has_start:
        marked += [Range.sized(r.start, r.size) for r in made.options.ranges if r.key == "movablemem" and r.start]
    ram = merge(r.range for r in made.memory)
    return list(merge(part for m in marked for r in among(ram, m) if (part := m.intersection(r))))


def _ignored(made: Prediction) -> Iterator[Finding]:
    movable = _movable(made)
    why, remedy = _why_ignored(made)
    for range_ in _marked(made):
        if not among(movable, range_):
            message = f"{range_} is described as hot-pluggable, and {why}"
            yield Finding("HOTPLUGGABLE_IGNORED", Severity.BLOCKS, message, remedy)


def _why_ignored(made: Prediction) -> tuple[str, str]:
    """Why, and what helps."""
    tree = not any(r.source.startswith("SRAT") for r in made.firmware.regions)
    kernel = made.kernel
    if made.arch.lpae:
        return "a kernel without memory hotplug reads no such mark", "a kernel of our port, without LPAE"
    if made.arch.lowmem is None and tree and kernel.forgets_tree_marks:
        return f"kernel {kernel.release} clears that mark of the device tree: it becomes kernel memory", _HIDE
    if made.firmware.uefi is not None:
        return "UEFI's own memory map, which takes the tree's place, has no such mark", _HIDE
    if not made.movable_node:
        return "without movable_node on the command line it becomes kernel memory", "boot with movable_node"
    if not tree and kernel.forgets_tree_marks:
        return f"kernel {kernel.release} clears the mark of a node that holds kernel memory", _HIDE
    return "no largest buddy block of it is left for Movable", "make the bank larger"


def _boot_memory(made: Prediction) -> Iterator[Finding]:
    leaves = [*_movable(made), *_marked(made)]
    if made.arch.boot_memory_leaves is False and leaves:
        where, arch = ", ".join(map(str, merge(leaves))), made.arch.name
        message = f"{where} is there at boot: {arch} never lets boot memory go, in whatever zone it is"
        yield Finding("BOOT_MEMORY", Severity.BLOCKS, message, _HIDE)


def _straddling(made: Prediction) -> Iterator[Finding]:
    for block in made.layout.blocks:
        if block.valid_zones == ("none",):
            range_ = _block_range(made, block)
            pages = range_.start // made.page_size, range_.end // made.page_size
            across = [
                f"{z.node}:{z.zone}" for z in made.layout.zones if z.start_pfn < pages[1] and pages[0] < z.end_pfn
            ]
            message = f"block {block.block} ({range_}) lies in {', '.join(across)}: it can't be taken offline"
            yield Finding("MULTI_ZONE", Severity.HURTS, message, _WHOLE_BLOCKS)


def _holes(made: Prediction) -> Iterator[Finding]:
    ram = made.memory.mapped
    for block in made.layout.blocks:
        range_ = _block_range(made, block)
        filled = sum(part.size for r in among(ram, range_) if (part := r.intersection(range_)))
        if filled < range_.size:
            message = f"block {block.block} ({range_}) has {format_size(range_.size - filled)} that is no RAM"
            yield Finding("HOLES", Severity.HURTS, f"{message}: it can't be taken offline", _WHOLE_BLOCKS)


def _block_range(made: Prediction, block: BlockZones) -> Range:
    return Range.sized(block.block * made.block_size, made.block_size)


def _ratio(made: Prediction) -> Iterator[Finding]:
    movable, kernel = _present(made)
    given = kstrtouint(made.options.hotplug_parameter("auto_movable_ratio") or "")
    ratio = OnlinePolicy().ratio if given is None else given
    if movable * 100 > kernel * ratio:
        message = f"Movable has {format_size(movable)}, the kernel's zones {format_size(kernel)}: more than {ratio} %"
        yield Finding("MOVABLE_RATIO", Severity.HURTS, f"{message}; {_SCARCE}", _LESS)


def _memmap(made: Prediction) -> Iterator[Finding]:
    movable, kernel = _present(made)
    cost = (movable + kernel) // made.page_size * made.arch.struct_page
    if movable and cost * 10 > kernel:
        message = f"the memmap takes {format_size(cost)} of the kernel's {format_size(kernel)}"
        yield Finding(
            "MEMMAP_COST",
            Severity.HURTS,
            f"{message}: each page of Movable costs {made.arch.struct_page} bytes there",
            _LESS,
        )


def _present(made: Prediction) -> tuple[int, int]:
    """Bytes in Movable, bytes in the kernel's zones."""
    movable = sum(z.present for z in made.layout.zones if z.zone == Zone.MOVABLE)
    return movable * made.page_size, (sum(z.present for z in made.layout.zones) - movable) * made.page_size


def _options(made: Prediction) -> Iterator[Finding]:
    yield from (Finding("OPTION_IGNORED", Severity.INFO, message, _DROP) for message in _without_effect(made))


def _without_effect(made: Prediction) -> Iterator[str]:
    options, sized = made.options, [n for n in ("kernelcore", "movablecore") if _asked(made.options, n)]
    if made.movable_node and sized:
        yield f"movable_node is on, so {', '.join(f'{n}=' for n in sized)} has no effect"
    if made.movable_node and options.kernelcore_mirror:
        effect = "the kernel's zones keep their spans across Movable" if _movable(made) else "it has no effect"
        yield f"movable_node is on, so kernelcore=mirror moves nothing; {effect}"
    elif options.kernelcore_mirror and not made.firmware.mirrored:
        yield "kernelcore=mirror without mirrored memory" + _mirror_effect(made)
    for word in options.ranges if made.arch.lpae or not made.arch.mem_has_start else ():
        if word.key == "movablemem":
            yield "movablemem= is read by the 32-bit arm port only"
        elif word.start is not None and not made.arch.mem_has_start:
            yield f"mem=...@{word.start:#x}: {made.arch.name} takes the size and ignores the start"


def _words(made: Prediction) -> Iterator[Finding]:
    line = decode(made.arch.kept(made.line))
    for word, what in bootwords.unfollowed(line, made.kernel):
        message = f"{word}= decides {what}: the kernel obeys this, the prediction does not"
        yield Finding("OPTION_NOT_FOLLOWED", Severity.INFO, message, _COMPARE)
    for word, arch in bootwords.elsewhere(line):
        yield Finding("OPTION_IGNORED", Severity.INFO, f"{word}= is read by {arch} only", _DROP)
    yield from (Finding("OPTION_IGNORED", Severity.INFO, why, _DROP) for why in made.refused)
    yield from _fake_nodes(made)
    if made.options.kernelcore_mirror and made.firmware.mirrored and not made.movable_node:
        message = "kernelcore=mirror makes Movable of what UEFI does not mirror: the prediction does not follow it"
        yield Finding("OPTION_NOT_FOLLOWED", Severity.HURTS, message, _COMPARE)


def _fake_nodes(made: Prediction) -> Iterator[Finding]:
    words = made.options.numa_fake
    if words is None or made.fakes:
        return
    if made.arch.lowmem or not made.kernel.emulates_nodes:
        message = f"numa=fake= is not read by kernel {made.kernel.release} of {made.arch.name}"
    elif made.numa_emu:
        asks = "it asks for none, for too many, or for less than 32M each"
        lost = "the kernel drops it with firmware's nodes, which leave memory out"
        message = f"numa=fake={words} makes no nodes: {lost if _is_incomplete(made) else asks}"
    else:
        what = "numa=fake= makes other nodes where the kernel has CONFIG_NUMA_EMU, which Debian's for arm64 have not"
        message = f"{what}: the prediction does not follow it"
        yield Finding("OPTION_NOT_FOLLOWED", Severity.HURTS, message, "with --numa-emu it does")
        return
    yield Finding("OPTION_IGNORED", Severity.INFO, message, _DROP)


def _mirror_effect(made: Prediction) -> str:
    if made.kernel.checks_mirror:
        return " is ignored"
    return ": all memory in regions that begin above 4 GiB becomes Movable"


def _asked(options: MemoryOptions, name: str) -> bool:
    share = options.kernelcore if name == "kernelcore" else options.movablecore
    return bool(share.size or share.percent)


def _short(made: Prediction) -> Iterator[Finding]:
    """movablecore= takes from the highest zone of each node only."""
    movable, kernel = _present(made)
    share = made.options.movablecore
    asked = (movable + kernel) * share.percent // 100 if share.percent else share.size
    mirror = made.movable_node or made.options.kernelcore_mirror
    if not mirror and not _asked(made.options, "kernelcore") and asked > movable:
        message = f"movablecore= asks for {format_size(asked)} and gets {format_size(movable)}"
        why = "it takes from the highest zone only, and never everything"
        yield Finding("MOVABLE_SHORT", Severity.HURTS, f"{message}: {why}", "ask for less, or mark whole banks movable")


def _is_incomplete(made: Prediction) -> bool:
    """Whether firmware gives nodes to a part of memory only."""
    return {r.node is not None for r in made.firmware.regions} == {True, False} and made.arch.lowmem is None


def _numa(made: Prediction) -> Iterator[Finding]:
    if made.no_numa:
        message = f"{made.no_numa}: the kernel refuses all node numbers and makes node 0 of it"
        yield Finding("NUMA_IGNORED", Severity.HURTS, message, "correct the node numbers that firmware gives")
    elif _is_incomplete(made):
        nodes = ", ".join(str(n) for n in sorted({z.node for z in made.layout.zones}))
        message = f"some memory has a NUMA node and some has none: the kernel makes node {nodes} of it"
        yield Finding("NUMA_IGNORED", Severity.HURTS, message, "give all memory a node number")


def _line(made: Prediction) -> Iterator[Finding]:
    size = made.arch.command_line
    if len(made.line) >= size:
        message = f"the command line has {len(made.line)} bytes, the kernel keeps {size - 1}"
        yield Finding("LINE_TOO_LONG", Severity.HURTS, message, "shorten it: what comes last is lost")


def _not_used(made: Prediction) -> Iterator[Finding]:
    for hidden in made.layout.hidden:
        message = f"{hidden.range} ({format_size(hidden.range.size)}): {hidden.why}"
        yield Finding("NOT_USED", Severity.INFO, message, "nothing, if that is meant so")


_FINDERS = (
    _judged,
    _no_memory,
    _uefi,
    _other_arch,
    _no_blocks,
    _ignored,
    _boot_memory,
    _straddling,
    _holes,
    _ratio,
    _memmap,
    _options,
    _words,
    _short,
    _numa,
    _line,
    _unplaced,
    _dropped,
    _not_used,
)
_OF_A_PANIC = (_judged, _panics, _uefi, _other_arch, _words)
