# SPDX-License-Identifier: Apache-2.0
"""/proc/iomem: what a running kernel took as System RAM.

Truth: request_standard_resources of arch/arm64/kernel/setup.c: top-level ``System RAM`` for mapped memory, top-level
``reserved`` for memory that is not mapped (no-map), which its zones count all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hotbank import kernels
from hotbank.errors import Finding, FormatError, Severity
from hotbank.firmware import console
from hotbank.firmware.nodes import Nodes
from hotbank.memory import MemoryMap, MemoryRegion, Range, Reservation, among, format_size, merge, without
from hotbank.zones.layout import Layout

FORM = "iomem"
_SAME = "give the description and the command line that this machine was booted with"
_LINE = re.compile(r"( *)([0-9a-fA-F]{1,16})-([0-9a-fA-F]{1,16}) : (.*?) *")


def decode(text: str) -> tuple[tuple[Range, str], ...]:
    """The top-level entries with their names. Raises FormatError, also when the addresses are hidden."""
    found = list[tuple[Range, str]]()
    for line in console.lines(text):
        match = _LINE.fullmatch(line)
        if match is None:
            raise FormatError(FORM, text.find(line), "line", f"{line.strip()[:40]!r} is not start-end : name")
        start, last = int(match[2], 16), int(match[3], 16)
        if last < start:
            raise FormatError(FORM, text.find(line), "end", f"{last:#x} is below {start:#x}")
        if not match[1]:
            found.append((Range(start, last + 1), match[4]))
    if not found:
        raise FormatError(FORM, 0, "line", "there is no line start-end : name")
    if all(r.end == 1 for r, _ in found):
        raise FormatError(FORM, 0, "addresses", "all 0: the kernel hides them from other users than root")
    return tuple(found)


def system_ram(text: str) -> tuple[Range, ...]:
    """System RAM, joined; what drivers added later is called otherwise and not in it."""
    return merge(r for r, name in decode(text) if name == "System RAM")


def restrict(memory: MemoryMap, text: str) -> MemoryMap:
    """``memory`` with only those parts that the kernel found: for SRAT, which says where memory may be, not what is.

    Memory that no region names gets none of their nodes. Raises FormatError.
    """
    entries = decode(text)
    mapped = [r for r, name in entries if name == "System RAM"]
    return within(memory, mapped, [r for r, name in entries if name == "reserved"])


def within(memory: MemoryMap, mapped: Sequence[Range], unmapped: Sequence[Range]) -> MemoryMap:
    """The same, where the kernel found ``mapped`` memory, and memory that it does not map."""
    rams = merge([*mapped, *unmapped])
    regions = [
        replace(region, range=part)
        for region in memory.regions
        for ram in among(rams, region.range)
        if (part := region.range.intersection(ram))
    ]
    nobodys = without(rams, (region.range for region in memory.regions))
    regions += [MemoryRegion(part, None, False, "SRAT names no domain") for part in nobodys]
    no_map = tuple(Reservation(r, "reserved", no_map=True) for r in unmapped)
    return replace(memory, regions=tuple(regions), reserved=(*memory.reserved, *no_map))


def as_found(memory: MemoryMap, text: str) -> MemoryMap:
    """``memory`` with what the kernel found in place of what was described: for a tree that UEFI overrides.

    Memory keeps the node that the tree names for its address; what only one architecture's kernel lists tells that one,
    where nothing else does. Raises FormatError.
    """
    entries, nodes = decode(text), Nodes(memory.regions)
    regions = tuple(
        MemoryRegion(part, nodes.at(part), source="iomem")
        for part in merge(r for r, name in entries if name in ("System RAM", "reserved"))
    )
    no_map = tuple(Reservation(r, "reserved", no_map=True) for r, name in entries if name == "reserved")
    arch = memory.arch or kernels.arch_of_resource(name for _, name in entries)
    kept = tuple(r for r in memory.reserved if not r.listed and not r.no_map)
    return replace(memory, regions=regions, reserved=(*kept, *no_map), uefi=None, no_memory="", arch=arch)


def added_later(memory: MemoryMap, boot: Sequence[Range], ram: Sequence[Range]) -> Iterator[Finding]:
    """Of System RAM now, ``ram``, what was not there at boot. Without ``boot``, which UEFI's map tells, what may have
    been added: memory from a hot-pluggable range of an SRAT has no other name."""
    for part in without(ram, boot) if boot else ():
        message = f"{part} ({format_size(part.size)}) came after boot: UEFI did not report it"
        yield Finding("NOT_AT_BOOT", Severity.INFO, message, "nothing: what is added later goes where onlining puts it")
    hot = merge(r.range for r in memory.regions if r.hotpluggable and r.source.startswith("SRAT"))
    for part in (p for r in ram for h in among(hot, r) if (p := r.intersection(h)) and not boot):
        message = f"{part} ({format_size(part.size)}) is hot-pluggable, and counted as boot memory"
        help_ = "--efi-memmap with the machine's log, if it may have been added after boot"
        yield Finding("MAYBE_ADDED", Severity.INFO, message, help_)


def differences(layout: Layout, ram: tuple[Range, ...]) -> Iterator[Finding]:
    """Where the machine's System RAM is not what was predicted: the rules here, or their input, miss something."""
    predicted = merge(r.range for r in layout.ram)
    for one, other, what in (
        (predicted, ram, "predicted to be System RAM, but the machine does not use it"),
        (ram, predicted, "System RAM on the machine, but no part of the description as this kernel takes it"),
    ):
        for part in without(one, other):
            message = f"{part} ({format_size(part.size)}): {what}"
            yield Finding("IOMEM_DIFFERS", Severity.HURTS, message, _SAME)
