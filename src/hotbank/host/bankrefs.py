# SPDX-License-Identifier: Apache-2.0
"""Reference counts of a bank's page frames, as our bank driver shows them where there is no /proc/kcore.

Truth: kernel/bank/pages.c (``refcounts``), driver.c (``range``). 32-bit ARM has no kcore at all (fs/proc/Kconfig), and
elsewhere lockdown takes it away.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from hotbank.host.planes import Planes
from hotbank.host.tree import Tree, open_file
from hotbank.sysfs.bank import RANGE
from hotbank.sysfs.names import BANKS, bank


@dataclass(frozen=True, slots=True)
class BankRefs:
    """``_refcount`` of the frames of every bank that the driver attends to. ``banks``: frames, and the file."""

    banks: tuple[tuple[range, str], ...]

    @classmethod
    def open(cls, tree: Tree, page_size: int) -> BankRefs | None:
        """The reference counts of that machine's banks, or None where there is no such driver."""
        banks = []
        for name in tree.names(BANKS):
            span = tree.value(bank(name, "range"), RANGE)
            if span is not None:
                frames = range(span.start // page_size, span.end // page_size)
                banks.append((frames, tree.path(bank(name, "refcounts"))))
        return cls(tuple(banks)) if banks else None

    def close(self) -> None:
        """Nothing stays open between two looks."""

    def read(self, pfn: int, pages: int) -> Planes | None:
        """Reference counts of ``pages`` frames from ``pfn`` on; None where they are not all in one bank."""
        for frames, path in self.banks:
            if frames.start <= pfn and pfn + pages <= frames.stop:
                return _read(path, (pfn - frames.start) * 4, pages)
        return None


def _read(path: str, offset: int, pages: int) -> Planes | None:
    """The driver answers no more than a page of its own at once."""
    file = open_file(path)
    if file is None:
        return None
    parts, size = [], pages * 4
    try:
        while size:
            part = os.pread(file, size, offset)
            if not part or len(part) % 4:
                return None
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
    except OSError:
        return None
    finally:
        os.close(file)
    return Planes(b"".join(parts), 4)
