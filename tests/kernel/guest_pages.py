# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: what our driver's ``pages`` and ``counts`` say of a block against /proc/kpageflags, kpagecount and
``refcounts``.

``python3 guest_pages.py FOLDER PFN PAGES`` prints one JSON line: how many pages have another kind, count of mappings or
count of references, of how many, and how many are not free; and how many pages ``counts`` has as another kind, or too
many in free blocks, how many it calls held, and how many the files do.
"""

import json
import os
import sys
from collections import Counter
from operator import ne
from pathlib import Path

from hotbank.host import pages
from hotbank.host.bankpages import BankCounts, Count
from hotbank.host.planes import Planes
from hotbank.host.tree import Tree
from hotbank.memory import CODE, KINDS, Kind


def fill(buffer: memoryview, path: str, offset: int) -> None:
    """From there on in the file; sysfs gives no more than a page at once."""
    file, done = os.open(path, os.O_RDONLY), 0
    while done < len(buffer):
        done += os.preadv(file, [buffer[done:]], offset + done)
    os.close(file)


def unlike(a: memoryview, b: memoryview) -> int:
    """How many numbers differ."""
    return sum(map(ne, a, b))


def against(counted: Count, flags: Planes, maps: Planes, refs: Planes) -> dict[str, int]:
    """What the driver counted beside what all of it comes to page by page. A processor's own free pages are in no free
    block."""
    kinds = pages.kinds_of(flags)
    pages.resolve_unflagged(kinds, refs)
    there, said = Counter(KINDS[code] for code in kinds), Counter(counted.kinds)
    free = sum(blocks << order for order, blocks in enumerate(counted.free))
    return {
        "counts": (there - said).total() + max(0, free - said[Kind.FREE]),
        "held": counted.held,
        "pinned": pages.pinned(kinds, flags, maps, refs).count(1),
    }


def main(bank: str, pfn: int, count: int) -> dict[str, int]:
    """All of it, read in a row into memory that is there: what moves meanwhile differs."""
    first = int(Path(f"{bank}/range").read_text().split("-")[0], 16) // 4096
    raw, flags, maps, refs = (memoryview(bytearray(b"x" * size * count)) for size in (16, 8, 8, 4))
    counts = BankCounts.open(Tree(), 4096)
    fill(raw, f"{bank}/pages", 16 * (pfn - first))
    fill(flags, "/proc/kpageflags", 8 * pfn)
    fill(maps, "/proc/kpagecount", 8 * pfn)
    fill(refs, f"{bank}/refcounts", 4 * (pfn - first))
    counted = counts.of(range(pfn, pfn + count))  # before what is made of the rest takes pages
    words = raw.cast("i")
    own, theirs = pages.kinds_of(Planes(bytes(raw), 8, stride=16)), pages.kinds_of(Planes(bytes(flags), 8))
    assert counted is not None
    pairs = Counter((a, b) for a, b in zip(own, theirs, strict=True) if a != b)
    return {
        "kinds": pairs.total(),
        "refs": unlike(words[2::4], refs.cast("i")),
        "maps": unlike(words[3::4], maps.cast("q")),
        "pages": len(own),
        **against(counted, Planes(bytes(flags), 8), Planes(bytes(maps), 8), Planes(bytes(refs), 4)),
        "used": len(own) - own.count(CODE[Kind.FREE]),
        **{f"{list(Kind)[a]} not {list(Kind)[b]}": n for (a, b), n in pairs.items()},
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
