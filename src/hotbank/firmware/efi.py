# SPDX-License-Identifier: Apache-2.0
"""UEFI's memory map, as a kernel booted with ``efi=debug`` prints it, and what Linux takes as memory from it.

Truth: drivers/firmware/efi/memmap.c (efi_md_typeattr_format), drivers/firmware/efi/efi-init.c (is_memory,
is_usable_memory, reserve_regions). A machine that UEFI booted takes this map and throws away all memory that its device
tree names, marks included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hotbank.errors import FormatError
from hotbank.firmware.nodes import Nodes
from hotbank.memory import MemoryMap, MemoryRegion, Range, Reservation, merge

FORM = "EFI memory map"
_LINE = re.compile(
    r"efi:\s+mem(?P<number>\d{1,6}):\s+\[(?P<type>[^|\]]+)\|(?P<attributes>[^\]]*)\]\s+"
    r"range=\[0x(?P<start>[0-9a-fA-F]{1,16})-0x(?P<last>[0-9a-fA-F]{1,16})\]"
)
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
        return bool(self.attributes & _CACHED)

    @property
    def is_usable(self) -> bool:
        """is_usable_memory: the kernel may map and use it; soft-reserved memory waits for a driver."""
        return self.type in _USABLE and "WB" in self.attributes and "SP" not in self.attributes


def decode(text: str) -> tuple[Descriptor, ...]:
    """The map from a kernel log; other lines of it are not looked at.

    Raises FormatError where the log has no map, or only a part of it: a ring buffer that was too small loses its
    beginning, a console its lines.
    """
    found = list(_LINE.finditer(text))
    if not found:
        raise FormatError(FORM, 0, "efi: mem00", "no such line; boot with efi=debug and take the whole kernel log")
    for number, match in enumerate(found):
        if int(match["number"]) != number:
            problem = f"mem{match['number']} where mem{number:02} should be: the log is not whole"
            raise FormatError(FORM, match.start(), f"mem{number:02}", problem)
    return tuple(map(_descriptor, found))


def _descriptor(match: re.Match[str]) -> Descriptor:
    start, last = int(match["start"], 16), int(match["last"], 16)
    if last < start:
        raise FormatError(FORM, match.start(), "range", f"{last:#x} is below {start:#x}")
    attributes = frozenset(word for word in match["attributes"].replace("|", " ").split() if word)
    return Descriptor(Range(start, last + 1), match["type"].strip(), attributes)


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
        uefi=None,
        no_memory="",
        mirrored=mirrors(descriptors),
    )


def _regions(memory: MemoryMap, descriptors: tuple[Descriptor, ...]) -> Iterator[MemoryRegion]:
    """of_numa still gives memory the node that the tree names for its address."""
    nodes = Nodes(memory.regions)
    for part in (d.range for d in descriptors if d.is_memory):
        yield MemoryRegion(part, nodes.at(part), source="UEFI memory map")
