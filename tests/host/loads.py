# SPDX-License-Identifier: Apache-2.0
"""One memory block of 128 MiB as a machine's files show it, holding what machines hold: made from a seed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from host.captured_trees import Made, MadeBlock, kcore, words
from hotbank.host import Host, pages
from hotbank.memory import MIB

BLOCK, SIZE = 1, 128 * MIB
PAGES = SIZE // 4096
_FILE = pages.LRU | pages.UPTODATE
_ANON = _FILE | pages.ANON | pages.SWAPBACKED | pages.MMAP
Page = tuple[int, int, int]  # flags, mappings, references
_FREE: Page = (pages.BUDDY, 0, 0)


def _third_in_use(random: Random) -> list[Page]:
    """Single pages of processes, scattered among free ones."""
    return [(_ANON, 1, 1) if random.random() < 1 / 3 else _FREE for _ in range(PAGES)]


def _cache(random: Random) -> list[Page]:
    """Page cache in large folios of all sizes."""
    found = list[Page]()
    while len(found) < PAGES:
        size = min(1 << random.randrange(2, 10), PAGES - len(found))
        flags, tail = _FILE | pages.THP, pages.THP | pages.COMPOUND_TAIL
        found += [(flags | pages.COMPOUND_HEAD, 0, size), *[(tail, 0, 0)] * (size - 1)]
    return found


def _kernel_zone(random: Random) -> list[Page]:
    """A bit of everything, where slabs and the kernel's own pages are, too."""
    sorts = [_FREE, (_ANON, 1, 1), (_FILE, 0, 1), (_FILE | pages.SWAPBACKED, 1, 2), (pages.SLAB, 0, 1), (0, 0, 1)]
    return [(pages.PGTABLE, 0, 1), *random.choices(sorts, [30, 30, 30, 5, 4, 1], k=PAGES - 1)]


def _pinned(random: Random) -> list[Page]:
    """Processes of which one has pinned a few pages side by side."""
    found = _third_in_use(random)
    found[20_000:20_016] = [(_ANON, 1, 2)] * 16
    return found


LOADS: Mapping[str, Callable[[Random], list[Page]]] = {
    "a third in use, single pages": _third_in_use,
    "page cache in large folios": _cache,
    "a kernel zone": _kernel_zone,
    "sixteen pages pinned": _pinned,
}


def with_driver(root: Path, load: str, seed: int = 1) -> Path:
    """Our driver's files for a bank that is that block, added to the machine's; the file with its pages."""
    folder = root / "sys/class/hotbank/high"
    folder.mkdir(parents=True)
    (folder / "range").write_text(f"{BLOCK * SIZE:#x}-{(BLOCK + 1) * SIZE - 1:#x}\n")
    records = (struct.pack("=Qii", flags, refs, maps) for flags, maps, refs in LOADS[load](Random(seed)))
    (folder / "pages").write_bytes(b"".join(records))
    return folder / "pages"


_COUNTED = (
    (pages.BUDDY, 1),
    (pages.PGTABLE, 8),
    (pages.SLAB, 7),
    (pages.ANON, 2),
    (pages.SWAPBACKED, 3),
    (pages.LRU, 4),
)
"""By which flag a page is counted, the first that it has, and as the how manieth kind (kernel/bank/counts.c)."""


def with_counts(root: Path, load: str, seed: int = 1, **words: int) -> Path:
    """Our driver's ``counts`` of that block, as its C makes them of the pages: the file. ``words``: what it says
    instead of ``form``, ``held``, ``movable``, ``node``."""
    kinds, held, flags = [0] * 16, 0, 0
    for own, maps, refs in LOADS[load](Random(seed)):
        flags = flags if own & pages.COMPOUND_TAIL else own
        kind = next((kind for flag, kind in _COUNTED if flags & flag), 10 if refs else 1)
        kinds[kind] += 1
        held += kind == 2 and refs > maps
    folder = root / "sys/class/hotbank/high"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "range").write_text(f"{BLOCK * SIZE:#x}-{(BLOCK + 1) * SIZE - 1:#x}\n")
    first = {"form": 1, "held": held, "movable": PAGES, "node": 0} | words
    (folder / "counts").write_bytes(struct.pack("=3Ii60I", *first.values(), *kinds, *[5] * 11, *[0] * 33))
    return folder / "counts"


def host_with(root: Path, load: str, seed: int = 1, *, zones: str = "Movable") -> Host:
    """A machine with that block, in which nothing waits."""
    made = LOADS[load](Random(seed))
    before = PAGES * BLOCK
    files: dict[str, str | bytes] = {
        "proc/kpageflags": words([pages.NOPAGE] * before + [page[0] for page in made]),
        "proc/kpagecount": words([0] * before + [page[1] for page in made]),
        "proc/kcore": kcore({before + at: page[2] for at, page in enumerate(made)}, pages=before + PAGES),
        "proc/iomem": "00000000-1fffffff : System RAM\n",
        "proc/sys/kernel/arch": "x86_64\n",
    }
    return Host(Made((MadeBlock(BLOCK, zones=zones),), SIZE, files).at(root), clock=_Still())


class _Still:
    """A clock on which waiting takes no time."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
