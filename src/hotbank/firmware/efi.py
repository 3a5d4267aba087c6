# SPDX-License-Identifier: Apache-2.0
"""UEFI's memory map, as a kernel booted with ``efi=debug`` prints it, and what Linux takes as memory from it.

Truth: drivers/firmware/efi/efi.c (efi_md_typeattr_format), drivers/firmware/efi/efi-init.c (is_memory,
is_usable_memory, reserve_regions). A machine that UEFI booted takes this map and throws away all memory that its device
tree names, marks included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from hotbank.errors import FormatError
from hotbank.firmware.nodes import Nodes
from hotbank.memory import MemoryMap, MemoryRegion, Range, Reservation, merge
from hotbank.numbers import digits

FORM = "EFI memory map"
_WHAT = r"\[(?P<type>[^|\]\n]+)\|(?P<attributes>[^\]\n]*)\]"
_NUMBERED = re.compile(  # arch/x86/platform/efi/efi.c, efi_print_memmap
    rf"efi:\s+mem(?P<number>\d{{1,6}}):\s+{_WHAT}\s+range=\[0x(?P<start>[0-9a-fA-F]{{1,16}})-0x(?P<last>[0-9a-fA-F]{{1,16}})\]"
)
_PLAIN = re.compile(  # drivers/firmware/efi/efi-init.c, reserve_regions
    rf"(?:efi:|^|\])\s+0x(?P<start>[0-9a-fA-F]{{1,16}})-0x(?P<last>[0-9a-fA-F]{{1,16}}) {_WHAT}", re.MULTILINE
)
_HEADING = "Processing EFI memory map"
_BITS = {"UC": 1, "WC": 2, "WT": 4, "WB": 8, "MR": 0x10000, "SP": 0x40000}
_CACHED = frozenset({"WB", "WT", "WC"})
_USABLE = frozenset(
    {
        *("Loader Code", "Loader Data", "Boot Code", "Boot Data"),
        *("Conventional Memory", "Conventional", "ACPI Reclaim Memory", "ACPI Reclaim", "Persistent"),
        *("Boot Services Code", "Boot Services Data", "Persistent Memory"),
    }
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One entry: its type in the kernel's words, and its attributes (``WB``, ``RUN``, ``SP`` …)."""

    range: Range
    type: str
    attributes: frozenset[str] = frozenset()

    @property
    def is_memory(self) -> bool:
        """is_memory: it can be mapped cached."""
        return bool(self.attributes & _CACHED) and not self.is_soft_reserved

    @property
    def is_soft_reserved(self) -> bool:
        """reserve_regions: it is no memory before a driver adds it (CONFIG_EFI_SOFT_RESERVE)."""
        return bool(self.attributes & _CACHED) and "SP" in self.attributes

    @property
    def is_usable(self) -> bool:
        """is_usable_memory: the kernel may map and use it."""
        return self.type in _USABLE and "WB" in self.attributes and not self.is_soft_reserved


def decode(text: str) -> tuple[Descriptor, ...]:
    """The map from a kernel log; other lines of it are not looked at.

    Raises FormatError where the log has no map, or only a part of it: a ring buffer that was too small loses its
    beginning, a console its lines.
    """
    found = list(_NUMBERED.finditer(text))
    for number, match in enumerate(found):
        if int(match["number"]) != number:
            problem = f"mem{match['number']} where mem{number:02} should be: the log is not whole"
            raise FormatError(FORM, match.start(), f"mem{number:02}", problem)
    return tuple(map(_descriptor, found or _behind_heading(text)))


def soft_reservations_ignored(descriptors: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    """The map as a kernel with ``efi=nosoftreserve`` takes it."""
    return tuple(replace(d, attributes=d.attributes - {"SP"}) for d in descriptors)


def in_pages(descriptors: tuple[Descriptor, ...], page_size: int) -> tuple[Descriptor, ...]:
    """memrange_efi_to_native: outward to pages of that many bytes, UEFI's have 4096. Of a page where two meet, all
    is what the kernel does not map, if a part is."""
    mask = page_size - 1
    return tuple(replace(d, range=Range(d.range.start & ~mask, (d.range.end + mask) & ~mask)) for d in descriptors)


def _behind_heading(text: str) -> list[re.Match[str]]:
    """Lines without numbers: none is missing if the heading is there, and, by ``apply``, if their count is right."""
    found = list(_PLAIN.finditer(text))
    if not found:
        raise FormatError(FORM, 0, "efi: 0x…", "no such line; boot with efi=debug and take the whole kernel log")
    if text.find(_HEADING, 0, found[0].start()) < 0:
        raise FormatError(FORM, found[0].start(), _HEADING, "does not stand before it: the log is not whole")
    return found


def _descriptor(match: re.Match[str]) -> Descriptor:
    start, last = int(match["start"], 16), int(match["last"], 16)
    if last < start:
        raise FormatError(FORM, match.start(), "range", f"{last:#x} is below {start:#x}")
    attributes = _attributes(match["attributes"])
    return Descriptor(Range(start, last + 1), match["type"].strip(), attributes)


def _attributes(text: str) -> frozenset[str]:
    """By their names, also where one that has none makes a number of all (efi_md_typeattr_format)."""
    number = digits(text[7:], 16, limit=1 << 64) if text.startswith("attr=0x") else None
    if number is not None:
        return frozenset(name for name, bit in _BITS.items() if number & bit)
    return frozenset(text.replace("|", " ").split())


def ram(descriptors: tuple[Descriptor, ...]) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
    """What the kernel maps at boot, and what is memory and is not mapped; joined."""
    memory = [d for d in descriptors if d.is_memory]
    mapped = merge(d.range for d in memory if d.is_usable)
    return mapped, merge(d.range for d in memory if not d.is_usable)


def mirrors(descriptors: tuple[Descriptor, ...]) -> bool:
    """efi_find_mirror: whether there is memory of which another copy is kept."""
    return any("MR" in d.attributes for d in descriptors)


def apply(memory: MemoryMap, descriptors: tuple[Descriptor, ...]) -> MemoryMap:
    """``memory`` as a kernel that UEFI booted finds it: the map's memory and none of the tree's, nodes aside.

    Raises FormatError when the tree says that UEFI handed over more of them.
    """
    if memory.uefi and len(descriptors) < memory.uefi:
        raise FormatError(FORM, 0, "descriptors", f"{len(descriptors)} of {memory.uefi}: the log is not whole")
    unmapped = (d.range for d in descriptors if d.is_memory and not d.is_usable)
    return replace(
        memory,
        regions=tuple(_regions(memory, descriptors)),
        reserved=(
            *(r for r in memory.reserved if not r.listed),
            *(Reservation(r, "UEFI", no_map=True) for r in unmapped),
        ),
        pmem=(*memory.pmem, *_soft_reserved(descriptors)),
        uefi=None,
        no_memory="",
        mirrored=mirrors(descriptors),
    )


def _regions(memory: MemoryMap, descriptors: tuple[Descriptor, ...]) -> Iterator[MemoryRegion]:
    """of_numa still gives memory the node that the tree names for its address. Entries of one node are joined, for they
    need not begin where pages do."""
    nodes = Nodes(memory.regions)
    ranges = sorted(d.range for d in descriptors if d.is_memory)
    for node, run in groupby(ranges, nodes.at):
        for range_ in merge(run):
            yield MemoryRegion(range_, node, source="UEFI memory map")


def _soft_reserved(descriptors: tuple[Descriptor, ...]) -> Iterator[MemoryRegion]:
    for range_ in merge(d.range for d in descriptors if d.is_soft_reserved):
        yield MemoryRegion(range_, source="UEFI, soft-reserved")
