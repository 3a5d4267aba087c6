# SPDX-License-Identifier: Apache-2.0
"""What our bank driver shows of its banks' page frames: all that a survey asks for in one read, or reference counts
alone, which an older driver shows, where there is no /proc/kcore.

Truth: kernel/bank/pages.c (``pages``, ``refcounts``), driver.c (``range``). 32-bit ARM has no kcore at all
(fs/proc/Kconfig), and elsewhere lockdown takes it away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from hotbank.host.planes import Planes
from hotbank.host.tree import Tree
from hotbank.sysfs.bank import RANGE
from hotbank.sysfs.names import BANKS, bank

_RECORD, _REFS, _MAPS = 16, 8, 12  # bytes a page in ``pages``, and where its reference and map counts are


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
