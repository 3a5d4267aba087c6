# SPDX-License-Identifier: Apache-2.0
"""What the kernel shows of a block's page frames, one number each, and one look at some of them.

Truth: fs/proc/page.c (kpageflags, kpagecount, kpagecgroup), fs/proc/kcore.c.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from hotbank.host import pages, planes
from hotbank.host.bankrefs import BankRefs
from hotbank.host.kcore import RefCounts
from hotbank.host.offlined import kind_of_offlined
from hotbank.host.planes import Planes
from hotbank.host.ram import Ram
from hotbank.host.tree import Tree
from hotbank.machine import Block
from hotbank.memory import CODE, Kind, Range

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


class Views:
    """Open files with one number per page frame of a block, None where the kernel does not show them to us.

    ``own_memmap``: the frames that hold the block's own ``struct page``s. Use as a context manager.
    """

    def __init__(self, tree: Tree, block: Block, page_size: int, ram: Ram, *, pins: bool = True) -> None:
        self._tree, self._ram, self._stack = tree, ram, ExitStack()
        self._range, self._page_size = block.range, page_size
        self.span = range(block.range.start // page_size, block.range.end // page_size)
        self.flags = self._open("kpageflags")
        self.counts = self._open("kpagecount") if pins else None
        self.refs = self._references() if pins else None
        self.own_memmap = self.span[: self._own_memmap()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def cgroups(self) -> int | None:
        """Whose cgroup pays; few pages are ever asked about."""
        return self._open("kpagecgroup")

    @cached_property
    def offlined(self) -> Kind | None:
        """What the block's PG_offline pages are, None where nothing tells; most blocks have none."""
        return kind_of_offlined(self._tree, self._ram, self._range)

    def own(self, span: range) -> int:
        """How many of the first frames hold the block's own memmap."""
        return min(len(span), max(0, self.own_memmap.stop - span.start))

    def sample(self, span: range) -> Sample:
        """Look at these frames. They must start on a boundary that no large folio crosses."""
        flags = words(self.flags, span)
        kinds = self._kinds(flags, span)
        matter = pages.references_matter(kinds)
        refs = None if self.refs is None else self.refs.read(span.start, len(span) if matter else 1)
        if refs is None:
            return Sample(span, kinds, None)
        if matter:
            pages.resolve_unflagged(kinds, refs)
        if self.counts is None:
            return Sample(span, kinds, None)
        counts = words(self.counts, span) if matter else None
        pins = bytearray(len(span)) if counts is None else pages.pinned(kinds, flags, counts, refs)
        return Sample(span, kinds, pins)

    def passes_slabs(self, span: range) -> bool:
        """True if isolation passes over every slab there is among the frames."""
        flags = words(self.flags, span)
        kinds = pages.kinds_of(flags)
        if _SLAB not in kinds:
            return True
        refs = None if self.refs is None else self.refs.read(span.start, len(span))
        return refs is not None and pages.slabs_pass(kinds, flags, refs)

    def single_slabs(self, sample: Sample) -> Iterator[tuple[int, int]]:
        """First pfn and number of adjacent pages of slabs that are a page each."""
        if _SLAB in sample.kinds:
            alone = pages.single_slabs(sample.kinds, words(self.flags, sample.span))
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
        size = self._page_size
        for gap in self._ram.gaps(Range(span.start * size, span.stop * size)):
            yield slice(-(-gap.start // size) - span.start, gap.end // size - span.start)

    def _open(self, name: str) -> int | None:
        file = self._tree.open(f"proc/{name}")
        if file is not None:
            self._stack.callback(os.close, file)
        return file

    def _references(self) -> RefCounts | BankRefs | None:
        refs = RefCounts.open(self._tree) or BankRefs.open(self._tree, self._page_size)
        if refs is not None:
            self._stack.callback(refs.close)
        return refs

    def _own_memmap(self) -> int:
        if self.flags is None or self._ram.at_boot(self._range):
            return 0
        return pages.own_memmap(self._each_flags(), len(self.span), self._page_size)

    def _each_flags(self) -> Iterator[int]:
        """The flags of all frames, read as somebody asks for them: at first of a few."""
        yield from memoryview(raw_words(self.flags, self.span[:_PROBE])).cast("Q")
        yield from memoryview(raw_words(self.flags, self.span[_PROBE:])).cast("Q")


def words(file: int | None, span: range) -> Planes:
    """One u64 per frame."""
    return Planes(raw_words(file, span), 8)


def raw_words(file: int | None, span: range) -> bytes:
    """Their bytes. Frames beyond the file's end are beyond all memory: the kernel calls such NOPAGE."""
    raw = b"" if file is None else os.pread(file, len(span) * 8, span.start * 8)
    missing = len(span) - len(raw) // 8
    return raw[: len(raw) // 8 * 8] + pages.NOPAGE.to_bytes(8, sys.byteorder) * missing if missing else raw
