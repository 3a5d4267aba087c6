# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of memory: ranges, sizes, zones, kinds of pages, states, and what firmware describes.

Names are the kernel's wherever it has one (include/linux/mmzone.h, include/linux/memory.h,
include/uapi/linux/kernel-page-flags.h). Addresses and sizes are in bytes; pfns and pages say so.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, TypeVar

from hotbank.numbers import U64, digits, literal

T = TypeVar("T")
Pfn = NewType("Pfn", int)  # page frame number: physical address / page size
BlockNumber = NewType("BlockNumber", int)  # N of memoryN: physical address / block size

SECONDS_PER_PAGE = 35e-6  # to migrate one; measured on emulated arm64 boards: 30,000 pages in 1.1 s
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
_SUFFIX = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)\s*([KMGTPE]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str | int) -> int:
    """Bytes from an integer or a string such as ``"64M"``, ``"0x40000000"`` or ``"1.5"`` (refused).

    Raises ValueError when it is not a whole, non-negative number below 2**64, as text with one suffix of K M G T P E.
    """
    if isinstance(text, bool) or not isinstance(text, int | str):
        raise ValueError(f"{text!r} is not a size")
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if isinstance(text, str) and match is None:
        raise ValueError(f"{text[:40]!r} is not a size such as 4K, 256M or 0x40000000")
    size = _sized(match) if match is not None else text
    if not isinstance(size, int) or size >= U64:
        raise ValueError("must be less than 2**64")
    if size < 0:
        raise ValueError("must not be negative")
    return size


def _sized(match: re.Match[str]) -> int | None:
    number = literal(match[1], limit=U64)
    return None if number is None else number << _SUFFIX[match[2].upper()]


def block_named(name: str) -> BlockNumber | None:
    """The block that ``17`` or ``memory17`` names; None for any other name."""
    number = digits(name.removeprefix("memory"))
    return None if number is None else BlockNumber(number)


def address(text: str) -> int | None:
    """The physical address that ``0x50000000`` is; None for what is not written so, or is too large for one."""
    return literal(text, limit=U64) if text[:2] in ("0x", "0X") else None


def folded(blocks: Iterable[int]) -> tuple[str, ...]:
    """Names of blocks, ascending, those without a gap as one: ``memory0–31``, ``memory40``."""
    runs: list[list[int]] = []
    for number in sorted(set(blocks)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return tuple("memory" + "–".join(map(str, run)) for run in runs)


def format_size(size: int) -> str:
    """The shortest exact form: ``268435456`` gives ``"256M"``, ``4097`` gives ``"4097"``."""
    for suffix in "TGMK":
        unit = 1 << _SUFFIX[suffix]
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Physical addresses ``[start, end)`` in bytes. Printed with the last byte included, as the kernel does."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"not a range: [{self.start:#x}, {self.end:#x})")

    @classmethod
    def sized(cls, start: int, size: int) -> Range:
        """The range of ``size`` bytes at ``start``."""
        return cls(start, start + size)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    def overlaps(self, other: Range) -> bool:
        """True if at least one byte is in both."""
        return self.start < other.end and other.start < self.end

    def contains(self, other: Range) -> bool:
        """True if every byte of ``other`` is in this range."""
        return self.start <= other.start and other.end <= self.end

    def intersection(self, other: Range) -> Range | None:
        """The bytes in both, or None when there are none."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Range(start, end) if start < end else None

    def minus(self, other: Range) -> tuple[Range, ...]:
        """What is left of this range when ``other`` is taken out of it: none, one or two ranges."""
        if not self.overlaps(other):
            return (self,) if self.size else ()
        parts = (self.start, max(self.start, other.start)), (min(self.end, other.end), self.end)
        return tuple(Range(start, end) for start, end in parts if start < end)

    def blocks(self, block_size: int) -> range:
        """Numbers of all memory blocks of that many bytes that the range touches."""
        return range(self.start // block_size, -(-self.end // block_size))

    def aligned(self, unit: int) -> bool:
        """True if start and end are multiples of ``unit`` bytes."""
        return self.start % unit == 0 and self.end % unit == 0

    def __str__(self) -> str:
        return f"{self.start:#x}-{max(self.start, self.end - 1):#x}"


def merge(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Sorted, with touching and overlapping ranges made one."""
    merged: list[Range] = []
    for part in sorted(r for r in ranges if r.size):
        if merged and part.start <= merged[-1].end:
            merged[-1] = Range(merged[-1].start, max(merged[-1].end, part.end))
        else:
            merged.append(part)
    return tuple(merged)


def place(things: Sequence[T], span: Range, where: Callable[[T], Range]) -> slice:
    """Of things that ascend and don't overlap, the part that overlaps ``span``. ``where``: the range of one."""
    first = bisect_right(things, span.start, key=lambda thing: where(thing).end)
    return slice(first, bisect_left(things, span.end, first, key=lambda thing: where(thing).start))


def among(ranges: Sequence[Range], span: Range) -> Sequence[Range]:
    """The same of ranges: those that overlap ``span``."""
    return ranges[place(ranges, span, lambda range_: range_)]


def without(ranges: Iterable[Range], cuts: Iterable[Range]) -> tuple[Range, ...]:
    """What is left of each range when all of ``cuts`` are taken out."""
    apart = merge(cuts)
    return tuple(part for range_ in ranges for part in _left_of(range_, among(apart, range_)))


def _left_of(range_: Range, cuts: Iterable[Range]) -> Iterator[Range]:
    start = range_.start
    for cut in cuts:
        if start < cut.start:
            yield Range(start, cut.start)
        start = cut.end
    if start < range_.end:
        yield Range(start, range_.end)


class Zone(StrEnum):
    """Zones by the names that /proc/zoneinfo prints, in the kernel's order (include/linux/mmzone.h)."""

    DMA = "DMA"
    DMA32 = "DMA32"
    NORMAL = "Normal"
    HIGHMEM = "HighMem"
    MOVABLE = "Movable"
    DEVICE = "Device"


class BlockState(StrEnum):
    """What ``memoryN/state`` reads."""

    ONLINE = "online"
    OFFLINE = "offline"
    GOING_OFFLINE = "going-offline"


class Online(StrEnum):
    """The words that put a block online through ``memoryN/state``."""

    ONLINE = "online"
    KERNEL = "online_kernel"
    MOVABLE = "online_movable"


INTO_KERNEL_ZONE: frozenset[str] = frozenset({Online.ONLINE, Online.KERNEL})  # words by which a block may get one


class KernelState(StrEnum):
    """A bank as the kernel sees it."""

    ABSENT = "absent"
    OFFLINE = "offline"
    PARTIAL = "partial"
    ONLINE = "online"
    STUCK = "stuck"


class Power(StrEnum):
    """A domain's power. ``off`` is allowed only when no bank of it is in the kernel."""

    ON = "on"
    SELF_REFRESH = "self-refresh"
    OFF = "off"
    UNKNOWN = "unknown"

    @property
    def dark(self) -> bool:
        """True where memory can't be read or written."""
        return self in (Power.OFF, Power.SELF_REFRESH)


class Kind(StrEnum):
    """What a page frame holds, as far as one can tell (fs/proc/page.c, stable_page_flags)."""

    FREE = "free"
    ANON = "anon"
    SHMEM = "shmem"
    FILE = "file"
    SLAB = "slab"
    PAGE_TABLE = "page-table"
    KERNEL = "kernel"  # in use, and no flag says by whom
    RESERVED = "reserved"  # taken at boot, before the buddy allocator: PG_reserved
    HUGETLB = "hugetlb"
    BALLOON = "balloon"  # PG_offline: given to the hypervisor by a driver that can move it
    UNPLUGGED = "unplugged"  # PG_offline, and whoever holds it lets go: no memory is behind it
    UNBACKED = "unbacked"  # PG_offline, and whoever holds it does not let go
    POISONED = "poisoned"
    HOLE = "hole"  # no page: KPF_NOPAGE
    UNKNOWN = "unknown"  # flags 0: a per-CPU list or an unmarked kernel page

    @property
    def movable(self) -> bool:
        """True if migration can carry such a page elsewhere (pins apart)."""
        return self in _MOVABLE_KINDS


_MOVABLE_KINDS = frozenset({Kind.ANON, Kind.SHMEM, Kind.FILE, Kind.HUGETLB, Kind.BALLOON})
KERNEL_KINDS = frozenset({Kind.SLAB, Kind.PAGE_TABLE, Kind.KERNEL})
"""What the kernel allocates for itself: never in ZONE_MOVABLE."""
NAMED_KERNEL_KINDS = frozenset({Kind.SLAB, Kind.PAGE_TABLE})
"""Those of them that /proc/vmstat counts in pages."""
IMMOVABLE_KINDS = KERNEL_KINDS | {Kind.RESERVED, Kind.UNBACKED}
"""What migration can't carry elsewhere (mm/page_isolation.c, ``has_unmovable_pages``; mm/memory_hotplug.c,
``scan_movable_pages``)."""
OWNERLESS_KINDS = frozenset({Kind.HOLE, Kind.RESERVED, Kind.POISONED, Kind.UNPLUGGED, Kind.UNBACKED})
"""What nobody has allocated from the buddy allocator."""

KINDS: tuple[Kind, ...] = tuple(Kind)
"""Arrays with one byte for each page hold indices into this; FREE is 0."""
CODE: dict[Kind, int] = {kind: code for code, kind in enumerate(KINDS)}


def codes(kinds: Iterable[Kind]) -> bytes:
    """The bytes of those kinds, to look for in such an array."""
    return bytes(sorted(CODE[kind] for kind in kinds))


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """One range that firmware calls memory.

    ``hotpluggable``: it may leave (ATAG_MEM_MOVABLE, the device tree's ``hotpluggable``, SRAT flag bit 1,
    ``movablemem=``). ``node``: firmware's proximity domain or None. ``source``: where it was said.
    """

    range: Range
    node: int | None = None
    hotpluggable: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A range that firmware keeps from the kernel's allocator.

    ``no_map``: the kernel must not even map it, so it is no System RAM. ``reusable``: lent to CMA. ``listed``: by the
    memory reservation block of a device tree and not by a node. ``further``: not the first range of its node.
    ``default_cma``: of CMA, the area for all who ask for none (``linux,cma-default``).
    """

    range: Range
    name: str = ""
    no_map: bool = False
    reusable: bool = False
    listed: bool = False
    further: bool = False
    default_cma: bool = False


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A reservation of ``size`` bytes whose place the kernel chooses at boot; the rest as in ``Reservation``.

    ``alignment`` in bytes, 0 where firmware does not say; ``within``: the ranges that it must lie in, if any are given.
    """

    name: str
    size: int
    alignment: int = 0
    within: tuple[Range, ...] = ()
    no_map: bool = False
    reusable: bool = False
    default_cma: bool = False


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """All that one firmware description says about memory; what was not said is empty or None.

    ``dma_limit``: exclusive upper physical address that every DMA master reaches (``dma-ranges``), or None
    when nothing limits it. ``pmem``: ranges behind a ``pmem-region`` node, which the kernel does not take as RAM.
    ``usable``: the only memory that a crash kernel may take (``linux,usable-memory-range``), empty without that word.
    ``domains``: proximity domains (SRAT) in the order in which Linux gives them node numbers. ``unplaced``:
    reservations whose place is not said. ``uefi``: UEFI booted the machine, and its memory map is what counts, of that
    many descriptors; None where it did not.
    ``arch``: for which architecture the description says it is, by the kernel's name. ``no_memory``: why no region is
    named, empty where some are. ``dropped``: what is written so that the kernel passes over it, a line each.
    ``mirrored``: UEFI says of some of it that another copy is kept.
    """

    regions: tuple[MemoryRegion, ...] = ()
    reserved: tuple[Reservation, ...] = ()
    pmem: tuple[MemoryRegion, ...] = ()
    dma_limit: int | None = None
    cmdline: str | None = None
    initrd: Range | None = None
    usable: tuple[Range, ...] = ()
    cpu_nodes: tuple[int, ...] = ()
    domains: tuple[int, ...] = ()
    unplaced: tuple[Unplaced, ...] = ()
    uefi: int | None = None
    arch: str | None = None
    no_memory: str = ""
    dropped: tuple[str, ...] = ()
    mirrored: bool = False
