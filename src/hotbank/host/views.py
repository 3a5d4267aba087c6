# SPDX-License-Identifier: Apache-2.0
"""What the kernel shows of a block's page frames, one number each, and one look at some of them.

Truth: fs/proc/page.c (kpageflags, kpagecount, kpagecgroup), fs/proc/kcore.c, kernel/bank/pages.c.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

from hotbank.host import pages, planes
from hotbank.host.bankpages import BankCounts, BankPages, BankRefs, Count
from hotbank.host.kcore import RefCounts
from hotbank.host.offlined import kind_of_offlined
from hotbank.host.planes import Planes
from hotbank.host.ram import Ram
from hotbank.host.tree import Tree, buddies, cma_pages, kernel_of
from hotbank.kernels import Kernel
from hotbank.machine import Block
from hotbank.memory import CODE, Kind, Range
from hotbank.sysfs import meminfo, names

_PROBE = 64  # pages that tell most blocks without a memmap of their own
_BALLOON, _RESERVED, _SLAB = CODE[Kind.BALLOON], CODE[Kind.RESERVED], CODE[Kind.SLAB]
_UNKNOWN, _HOLE = CODE[Kind.UNKNOWN], CODE[Kind.HOLE]


@dataclass(slots=True)
class Sample:
    """One look at the frames of ``span``. ``kinds``: a code each. ``pins``: 1 for each with references that nothing
    explains, and 0 for all others; None where those are unseen."""

    span: range
    kinds: bytearray
    pins: bytearray | None

    def correct(self, doubts: int, again: Sample) -> None:
        """Believe another look at a part of the frames about which of them are pinned, and about the kind of those
        that ``doubts`` has in its mask. One that saw no references leaves all pins unseen."""
        part = slice(again.span.start - self.span.start, again.span.stop - self.span.start)
        if self.pins is not None and again.pins is not None:
            both = planes.number(self.pins[part]) & planes.number(again.pins)
            self.pins[part] = planes.plane(both, len(again.span))
        else:
            self.pins = None
        anew = (doubts >> 8 * part.start & planes.every(len(again.span))) * 0xFF
        kinds = planes.number(self.kinds[part]) & ~anew | planes.number(again.kinds) & anew
        self.kinds[part] = planes.plane(kinds, len(again.span))


class Source(Protocol):
    """One number of each sort for each page frame, from wherever they are shown."""

    def flags(self, span: range) -> Planes:
        """As /proc/kpageflags has them."""
        ...

    def counts(self, span: range) -> Planes | None:
        """How often each is mapped; None where that is not shown."""
        ...

    def refs(self, span: range) -> Planes | None:
        """How often each is referred to; None where that is not shown."""
        ...


class Look:
    """What a look at memory opens and reads once, when it is first needed, for as many blocks as it takes. Use as a
    context manager.

    Without ``pins`` it is a glance, at flags alone.
    """

    def __init__(self, tree: Tree, page_size: int, ram: Ram, *, pins: bool = True) -> None:
        self.tree, self.page_size, self.ram, self.pins = tree, page_size, ram, pins
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def source(self, span: range) -> Source | None:
        """What shows these frames best: the driver of their bank, which shows all of one moment, else the kernel; the
        kernel where it has all of it, for its files give much at once, and the driver 256 pages."""
        for bank in self._banks:
            if bank.frames.start <= span.start and span.stop <= bank.frames.stop:
                return bank
        return self.by_kernel

    def count(self, span: range) -> Count | None:
        """What the driver of their bank counts of a block's frames; None where nobody does."""
        return self._counts.of(span)

    @cached_property
    def by_kernel(self) -> OfKernel | None:
        """What /proc shows of any page frames, None where /proc/kpageflags is not shown to us."""
        flags, counts = self._open("kpageflags"), self._open("kpagecount") if self.pins else None
        return None if flags is None else OfKernel(flags, counts, self._refs)

    @cached_property
    def _banks(self) -> list[BankPages]:
        return list(self._drivers()) if self.pins and not isinstance(self._refs, RefCounts) else []

    @cached_property
    def _counts(self) -> BankCounts:
        counts = BankCounts.open(self.tree, self.page_size)
        self._stack.callback(counts.close)
        return counts

    @cached_property
    def bad(self) -> bool:
        """Whether the kernel knows of a bad page anywhere: one inside of a free block is not counted."""
        return bool((self.tree.value(names.MEMINFO, meminfo.LINES) or {}).get("HardwareCorrupted"))

    @cached_property
    def cgroups(self) -> int | None:
        """Whose cgroup pays; few pages are ever asked about."""
        return self._open("kpagecgroup")

    @cached_property
    def lent(self) -> tuple[tuple[int, str, int], ...]:
        """Node, zone and number of pages of each zone that lends some to CMA."""
        return tuple(cma_pages(self.tree))

    @cached_property
    def kernel(self) -> Kernel | None:
        """What the table knows of the kernel."""
        return kernel_of(self.tree)

    def buddies(self, node: int | None, zone: str | None) -> tuple[int, ...]:
        """Free blocks of the zone by order, as they were when first asked about."""
        place = node, zone
        if place not in self._buddies:
            self._buddies[place] = buddies(self.tree, node, zone)
        return self._buddies[place]

    @cached_property
    def _buddies(self) -> dict[tuple[int | None, str | None], tuple[int, ...]]:
        return {}

    def _drivers(self) -> Iterator[BankPages]:
        for bank in BankPages.all(self.tree, self.page_size):
            self._stack.callback(bank.close)
            yield bank

    def _open(self, name: str) -> int | None:
        file = self.tree.open(f"proc/{name}")
        if file is not None:
            self._stack.callback(os.close, file)
        return file

    @cached_property
    def _refs(self) -> RefCounts | BankRefs | None:
        if not self.pins:
            return None
        refs = RefCounts.open(self.tree) or BankRefs.open(self.tree, self.page_size)
        if refs is not None:
            self._stack.callback(refs.close)
        return refs


@dataclass(frozen=True, slots=True)
class OfKernel:
    """Numbers of any page frames by open files of /proc and the kernel's own ``struct page``s."""

    file: int
    maps: int | None
    references: RefCounts | BankRefs | None

    def flags(self, span: range) -> Planes:
        """See Source."""
        return words(self.file, span)

    def counts(self, span: range) -> Planes | None:
        """See Source."""
        return None if self.maps is None else words(self.maps, span)

    def refs(self, span: range) -> Planes | None:
        """See Source."""
        return None if self.references is None else self.references.read(span.start, len(span))


class Views:
    """The page frames of one block in a look.

    ``source``: what shows them, None where nothing does. ``own_memmap``: the frames that hold the block's own
    ``struct page``s.
    """

    def __init__(self, look: Look, block: Block) -> None:
        self.look, self._range = look, block.range
        self.span = range(block.range.start // look.page_size, block.range.end // look.page_size)
        self.source = look.source(self.span)
        self.own_memmap = self.span[: self._own_memmap()]

    @cached_property
    def offlined(self) -> Kind | None:
        """What the block's PG_offline pages are, None where nothing tells; most blocks have none."""
        return kind_of_offlined(self.look.tree, self.look.ram, self._range)

    def own(self, span: range) -> int:
        """How many of the first frames hold the block's own memmap."""
        return min(len(span), max(0, self.own_memmap.stop - span.start))

    def sample(self, span: range) -> Sample:
        """Look at these frames. They must start on a boundary that no large folio crosses."""
        assert self.source is not None
        flags = self.source.flags(span)
        kinds = self._kinds(flags, span)
        matter = pages.references_matter(kinds)
        concerned = span if matter else span[:1]
        refs = self.source.refs(concerned)
        if refs is not None and matter:
            pages.resolve_unflagged(kinds, refs)
        counts = None if refs is None else self.source.counts(concerned)
        if refs is None or counts is None:
            return Sample(span, kinds, None)
        return Sample(span, kinds, pages.pinned(kinds, flags, counts, refs) if matter else bytearray(len(span)))

    def flags(self, span: range) -> Planes:
        """What these frames are called, or ``unknown``; they need not be of the block."""
        source = self.look.source(span) or self.source
        return Planes(bytes(8 * len(span)), 8) if source is None else source.flags(span)

    def refs(self, span: range) -> Planes | None:
        """How often each frame is referred to; None where that is not shown."""
        return None if self.source is None else self.source.refs(span)

    def passes_slabs(self, span: range) -> bool:
        """True if isolation passes over every slab there is among the frames."""
        flags = self.flags(span)
        kinds = pages.kinds_of(flags)
        if _SLAB not in kinds:
            return True
        refs = self.refs(span)
        return refs is not None and pages.slabs_pass(kinds, flags, refs)

    def single_slabs(self, sample: Sample) -> Iterator[tuple[int, int]]:
        """First pfn and number of adjacent pages of slabs that are a page each."""
        if _SLAB in sample.kinds:
            alone = pages.single_slabs(sample.kinds, self.flags(sample.span))
            for run in planes.parts(alone, len(sample.span), 1):
                yield sample.span[run.start], len(run)

    def _kinds(self, flags: Planes, span: range) -> bytearray:
        """By the flags, and what they do not say: whose PG_offline pages these are, the block's own memmap, which
        is reserved by whatever flag says so, and frames where there is no RAM, of which 7.3 shows no flag at all."""
        kinds, own = pages.kinds_of(flags), self.own(span)
        for part in self._gaps(span) if _UNKNOWN in kinds else ():
            kinds[part] = kinds[part].replace(bytes([_UNKNOWN]), bytes([_HOLE]))
        if _BALLOON in kinds and self.offlined is not None:
            kinds[:] = kinds.replace(bytes([_BALLOON]), bytes([CODE[self.offlined]]))
        kinds[:own] = bytes([_RESERVED]) * own
        return kinds

    def _gaps(self, span: range) -> Iterator[slice]:
        """Where in the span there is no RAM."""
        size = self.look.page_size
        for gap in self.look.ram.gaps(Range(span.start * size, span.stop * size)):
            yield slice(-(-gap.start // size) - span.start, gap.end // size - span.start)

    def _own_memmap(self) -> int:
        source = self.look.by_kernel or self.source  # on 32-bit ARM each look of the driver at a block drains all CPUs
        if source is None or self.look.ram.at_boot(self._range):
            return 0
        return pages.own_memmap(self._each_flags(source), len(self.span), self.look.page_size)

    def _each_flags(self, source: Source) -> Iterator[int]:
        """The flags of all frames, read as somebody asks for them: at first of a few."""
        for part in (self.span[:_PROBE], self.span[_PROBE:]):
            yield from source.flags(part).all()


def words(file: int, span: range) -> Planes:
    """One u64 per frame. Frames beyond the file's end are beyond all memory: the kernel calls such NOPAGE."""
    raw = os.pread(file, len(span) * 8, span.start * 8)
    missing = len(span) - len(raw) // 8
    return Planes(raw[: len(raw) // 8 * 8] + pages.NOPAGE.to_bytes(8, sys.byteorder) * missing if missing else raw, 8)
