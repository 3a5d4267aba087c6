# SPDX-License-Identifier: Apache-2.0
"""ACPI SRAT: which memory and which processors are in which proximity domain, and what may be unplugged.

Truth: ACPI specification 6.5, 5.2.16; drivers/acpi/numa/srat.c for what Linux makes of it. A structure's bytes are
kept whole, so reserved fields and unknown types survive; ``memory`` and ``processor`` are views on them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hotbank import kernels
from hotbank.errors import FormatError
from hotbank.firmware import acpi
from hotbank.memory import MemoryMap, MemoryRegion, Range

FORM = "SRAT"
MEMORY, APIC, X2APIC, GICC, INITIATOR = 1, 0, 2, 3, 5
ENABLED, HOT_PLUGGABLE, NON_VOLATILE = 1, 2, 4
# Size in bytes of the structures that the specification fixes, by type.
_SIZES = {APIC: 16, MEMORY: 40, X2APIC: 24, GICC: 18, 4: 12, INITIATOR: 32, 6: 32}
_TABLE = struct.Struct("<4sIBB6s8sI4sI")
_PREFIX = 48  # table header, table revision (1), 8 reserved bytes


@dataclass(frozen=True, slots=True)
class MemoryAffinity:
    """Type 1: a range and its domain. ``flags``: ENABLED, HOT_PLUGGABLE, NON_VOLATILE."""

    domain: int
    range: Range
    flags: int = ENABLED


@dataclass(frozen=True, slots=True)
class ProcessorAffinity:
    """Types 0, 2 and 3: a processor (APIC id or ACPI UID) and its domain."""

    kind: int
    domain: int
    processor: int
    flags: int = ENABLED


@dataclass(frozen=True, slots=True)
class Structure:
    """One structure: its type, and all bytes behind type and length."""

    kind: int
    body: bytes

    def memory(self) -> MemoryAffinity | None:
        """The memory affinity that this is, or None."""
        if self.kind != MEMORY:
            return None
        domain, base, length, flags = struct.unpack_from("<I2xQQ4xI", self.body)
        return MemoryAffinity(domain, Range.sized(base, length), flags)

    def processor(self) -> ProcessorAffinity | None:
        """The processor affinity that this is, or None."""
        if self.kind == APIC:
            low, apic, flags, _, h1, h2, h3 = struct.unpack_from("<BBIB3B", self.body)
            return ProcessorAffinity(APIC, low | h1 << 8 | h2 << 16 | h3 << 24, apic, flags)
        if self.kind == X2APIC:
            domain, apic, flags = struct.unpack_from("<2xIII", self.body)
            return ProcessorAffinity(X2APIC, domain, apic, flags)
        if self.kind == GICC:
            domain, uid, flags = struct.unpack_from("<III", self.body)
            return ProcessorAffinity(GICC, domain, uid, flags)
        return None

    def initiator(self) -> int | None:
        """The domain of an enabled generic initiator (an accelerator, say), or None."""
        if self.kind != INITIATOR:
            return None
        domain, flags = struct.unpack_from("<2xI16xI", self.body)
        return domain if flags & ENABLED else None


@dataclass(frozen=True, slots=True)
class Table:
    """A whole SRAT. The identifiers are bytes of fixed width, as in the header."""

    structures: tuple[Structure, ...] = ()
    revision: int = 3
    oem_id: bytes = b"HOTBNK"
    oem_table_id: bytes = b"HOTBANK "
    oem_revision: int = 1
    creator_id: bytes = b"HBNK"
    creator_revision: int = 1
    reserved: bytes = b"\1\0\0\0" + bytes(8)


def memory(domain: int, range_: Range, *, hot_pluggable: bool = False) -> Structure:
    """An enabled memory affinity structure."""
    flags = ENABLED | (HOT_PLUGGABLE if hot_pluggable else 0)
    return Structure(MEMORY, struct.pack("<I2xQQ4xI8x", domain, range_.start, range_.size, flags))


def gicc(domain: int, uid: int) -> Structure:
    """An enabled GICC affinity structure: an Arm processor, by its ACPI UID."""
    return Structure(GICC, struct.pack("<IIII", domain, uid, ENABLED, 0))


def decode(data: bytes) -> Table:
    """A table; bytes behind its length are not part of it. Raises FormatError, also for a wrong checksum."""
    whole = acpi.whole(data, b"SRAT", _PREFIX)
    _, _, revision, _, oem, table, oem_revision, creator, creator_revision = _TABLE.unpack_from(whole)
    structures = _structures(whole)
    return Table(
        structures, revision, oem, table, oem_revision, creator, creator_revision, whole[acpi.HEADER : _PREFIX]
    )


def encode(table: Table) -> bytes:
    """The table with its length and checksum. Raises FormatError for a structure that is too long or too short."""
    body = bytearray()
    for structure in table.structures:
        _check(structure.kind, len(structure.body) + 2, _PREFIX + len(body))
        body += bytes((structure.kind, len(structure.body) + 2)) + structure.body
    identity = (table.oem_id, table.oem_table_id, table.oem_revision, table.creator_id, table.creator_revision)
    raw = bytearray(_TABLE.pack(b"SRAT", _PREFIX + len(body), table.revision, 0, *identity))
    raw += table.reserved + body
    raw[9] = -sum(raw) & 0xFF
    return bytes(raw)


def memory_map(table: Table) -> MemoryMap:
    """Enabled memory with its proximity domains, in the table's order; non-volatile memory is no RAM."""
    regions, pmem = list[MemoryRegion](), list[MemoryRegion]()
    processors, initiators, memories = dict[int, None](), dict[int, None](), dict[int, None]()
    mask = 0xFF if table.revision <= 1 else 0xFFFFFFFF  # acpi_numa_memory_affinity_init
    for at, structure in enumerate(table.structures):
        affinity, processor = structure.memory(), structure.processor()
        if affinity and affinity.flags & ENABLED:
            memories[affinity.domain & mask] = None
        if affinity and affinity.flags & ENABLED and affinity.range.size:
            hot = bool(affinity.flags & HOT_PLUGGABLE)
            region = MemoryRegion(affinity.range, affinity.domain & mask, hot, f"SRAT[{at}]")
            (pmem if affinity.flags & NON_VOLATILE else regions).append(region)
        if processor and processor.flags & ENABLED:
            processors[processor.domain] = initiators[processor.domain] = None
        if (domain := structure.initiator()) is not None:
            initiators[domain] = None
    order = tuple({**initiators, **memories})
    return MemoryMap(
        regions=tuple(regions),
        pmem=tuple(pmem),
        cpu_nodes=tuple(processors),
        domains=order,
        arch=next(filter(None, (kernels.arch_of_affinity(s.kind) for s in table.structures)), None),
        no_memory="" if regions else "the table has no enabled memory affinity structure of any size",
    )


def _structures(data: bytes) -> tuple[Structure, ...]:
    found: list[Structure] = []
    at = _PREFIX
    while at < len(data):
        if at + 2 > len(data):
            raise FormatError(FORM, at, "type", "a structure is cut short")
        kind, length = data[at], data[at + 1]
        if length < 2 or at + length > len(data):
            raise FormatError(FORM, at + 1, "length", f"{length} bytes, but {len(data) - at} are there")
        _check(kind, length, at)
        found.append(_checked(Structure(kind, data[at + 2 : at + length]), at))
        at += length
    return tuple(found)


def _check(kind: int, length: int, at: int) -> None:
    if length != _SIZES.get(kind, length) or not 2 <= length <= 255:
        wanted = _SIZES.get(kind, "2 to 255")
        raise FormatError(FORM, at + 1, "length", f"{length} bytes for type {kind}, must be {wanted}")


def _checked(structure: Structure, at: int) -> Structure:
    if structure.kind == MEMORY:
        base, length = struct.unpack_from("<QQ", structure.body, 6)
        if base + length > 1 << 64:
            raise FormatError(FORM, at + 8, "base address", f"{base:#x} + {length:#x} is beyond 64 bits")
    return structure


def domains_in_order(memory: MemoryMap) -> dict[int, int]:
    """Linux's node number of each proximity domain: by first appearance (acpi_map_pxm_to_node), processors and generic
    initiators before memory; memory that is no RAM, or of no size, takes a number too (acpi_numa_init)."""
    order: dict[int, int] = {}
    for domain in (*memory.domains, *memory.cpu_nodes, *(r.node for r in memory.regions if r.node is not None)):
        order.setdefault(domain, len(order))
    return order
