# SPDX-License-Identifier: Apache-2.0
"""What our bank driver shows of its banks' page frames: how many of each kind a block holds; all that a survey asks for
in one read, or reference counts alone, which an older driver shows, where there is no /proc/kcore.

Truth: kernel/bank/pages.c (``pages``, ``refcounts``), counts.c (``counts``), driver.c (``range``). 32-bit ARM has no
kcore at all (fs/proc/Kconfig), and elsewhere lockdown takes it away.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hotbank.host.planes import Planes
from hotbank.host.tree import Tree
from hotbank.memory import Kind
from hotbank.sysfs.bank import RANGE
from hotbank.sysfs.names import BANKS, bank

_RECORD, _REFS, _MAPS = 16, 8, 12  # bytes a page in ``pages``, and where its reference and map counts are
_COUNTS, _FORM = struct.Struct("=3Ii60I"), 1  # a block in ``counts``, and the form of it that is known here
_KINDS = (
    Kind.HOLE,
    Kind.FREE,
    Kind.ANON,
    Kind.SHMEM,
    Kind.FILE,
    Kind.HUGETLB,
    Kind.BALLOON,
    Kind.SLAB,
    Kind.PAGE_TABLE,
    Kind.RESERVED,
    Kind.KERNEL,
    Kind.POISONED,
)
_FIRST_KIND, _FIRST_ORDER, _PAST_ORDERS = 4, 20, 52


@dataclass(slots=True)
class BankPages:
    """Flags, references and mappings of a bank's frames. What is asked about frames whose flags were read last is of
    the same moment as those. Close it."""

    frames: range
    file: int
    _seen: range = range(0)
    _raw: bytes | None = None

    @classmethod
    def all(cls, tree: Tree, page_size: int) -> Iterator[BankPages]:
        """Those of a machine's banks; none where there is no such driver, or it does not show them to us."""
        for frames, name in _banks(tree, page_size):
            file = tree.open(bank(name, "pages"))
            if file is not None:
                yield cls(frames, file)

    def close(self) -> None:
        """Give the file back."""
        os.close(self.file)

    def flags(self, span: range) -> Planes:
        """What the kernel calls them in /proc/kpageflags. Nothing is said of pages that can't be read any more."""
        self._seen, self._raw = span, self._read(span)
        return Planes(self._raw or bytes(len(span) * _RECORD), 8, stride=_RECORD)

    def refs(self, span: range) -> Planes | None:
        """How often each is referred to; None where that can't be read."""
        return self._counted(span, _REFS)

    def counts(self, span: range) -> Planes | None:
        """How often each is mapped; None where that can't be read."""
        return self._counted(span, _MAPS)

    def _counted(self, span: range, offset: int) -> Planes | None:
        at = (span.start - self._seen.start) * _RECORD
        seen = span.start in self._seen and span.stop <= self._seen.stop
        raw = self._raw[at : at + len(span) * _RECORD] if seen and self._raw else self._read(span)
        return None if raw is None else Planes(raw, 4, stride=_RECORD, offset=offset)

    def _read(self, span: range) -> bytes | None:
        return _records(self.file, (span.start - self.frames.start) * _RECORD, len(span) * _RECORD)


@dataclass(frozen=True, slots=True)
class BankRefs:
    """``_refcount`` of the frames of every bank that the driver attends to. ``banks``: frames, and an open file."""

    banks: tuple[tuple[range, int], ...]

    @classmethod
    def open(cls, tree: Tree, page_size: int) -> BankRefs | None:
        """The reference counts of that machine's banks, or None where there is no such driver."""
        files = [(frames, tree.open(bank(name, "refcounts"))) for frames, name in _banks(tree, page_size)]
        found = tuple((frames, file) for frames, file in files if file is not None)
        return cls(found) if found else None

    def close(self) -> None:
        """Give the files back."""
        for _, file in self.banks:
            os.close(file)

    def read(self, pfn: int, pages: int) -> Planes | None:
        """Reference counts of ``pages`` frames from ``pfn`` on; None where they are not all in one bank."""
        for frames, file in self.banks:
            if frames.start <= pfn and pfn + pages <= frames.stop:
                raw = _records(file, (pfn - frames.start) * 4, pages * 4)
                return None if raw is None else Planes(raw, 4)
        return None


@dataclass(frozen=True, slots=True)
class Count:
    """What a block holds. ``kinds``: pages; ``held``: those of them that can move and have more references than are
    explained; ``free``: free blocks by order. ``movable``: all of it is in ZONE_MOVABLE of ``node``."""

    kinds: Mapping[Kind, int]
    held: int
    free: tuple[int, ...]
    movable: bool
    node: int


@dataclass(frozen=True, slots=True)
class BankCounts:
    """How many pages of each kind the blocks of every bank hold. ``banks``: frames, and an open file."""

    banks: tuple[tuple[range, int], ...]

    @classmethod
    def open(cls, tree: Tree, page_size: int) -> BankCounts:
        """Those of that machine's banks; none where there is no such driver, or an older one."""
        files = [(frames, tree.open(bank(name, "counts"))) for frames, name in _banks(tree, page_size)]
        return cls(tuple((frames, file) for frames, file in files if file is not None))

    def close(self) -> None:
        """Give the files back."""
        for _, file in self.banks:
            os.close(file)

    def of(self, span: range) -> Count | None:
        """What the block of these frames holds; None where no driver, or one with another form, counts it."""
        for frames, file in self.banks:
            if frames.start <= span.start and span.stop <= frames.stop:
                raw = _records(file, (span.start - frames.start) // len(span) * _COUNTS.size, _COUNTS.size)
                return None if raw is None else _count(_COUNTS.unpack(raw), len(span))
        return None


def _count(words: tuple[int, ...], pages: int) -> Count | None:
    """The record of a block of so many pages, None where it is of another form."""
    form, held, movable, node = words[:_FIRST_KIND]
    if form != _FORM:
        return None
    there = zip(_KINDS, words[_FIRST_KIND:], strict=False)
    kinds = {kind: count for kind, count in there if count}
    return Count(kinds, held, words[_FIRST_ORDER:_PAST_ORDERS], movable == pages == sum(kinds.values()), node)


def _banks(tree: Tree, page_size: int) -> Iterator[tuple[range, str]]:
    for name in tree.names(BANKS):
        span = tree.value(bank(name, "range"), RANGE)
        if span is not None:
            yield range(span.start // page_size, span.end // page_size), name


def _records(file: int, offset: int, size: int) -> bytes | None:
    """All of these bytes or None. The driver answers no more than a page of its own at once."""
    parts = []
    try:
        while size:
            part = os.pread(file, size, offset)
            if not part:
                return None
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
    except OSError:
        return None
    return b"".join(parts)
