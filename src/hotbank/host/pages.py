# SPDX-License-Identifier: Apache-2.0
"""What /proc/kpageflags says of a page, and which references would explain its reference count.

Truth: fs/proc/page.c (``stable_page_flags``), include/uapi/linux/kernel-page-flags.h,
include/linux/kernel-page-flags.h (bits from 32), mm/page_isolation.c (``has_unmovable_pages``).

One byte per page frame carries the kind through all passes: tables by distinct flag words, translated in C,
keep a block of 32,768 pages at milliseconds without numpy.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from hotbank.memory import CODE, KINDS, Kind

LRU, SLAB, BUDDY, MMAP, ANON, SWAPCACHE, SWAPBACKED = (1 << n for n in (5, 7, 10, 11, 12, 13, 14))
UPTODATE, COMPOUND_HEAD, COMPOUND_TAIL, HUGE, HWPOISON = (1 << n for n in (3, 15, 16, 17, 19))
NOPAGE, THP, OFFLINE, ZERO_PAGE, PGTABLE, RESERVED, PRIVATE = (1 << n for n in (20, 22, 23, 24, 26, 32, 35))
OWNER_PRIVATE = 1 << 37  # PG_owner_priv_1, PG_vmemmap_self_hosted

_MEMMAP = frozenset({OWNER_PRIVATE, OWNER_PRIVATE | RESERVED})  # from 6.11 on, and before
_LEAST_STRUCT_PAGE = 32  # bytes

COUNTED = frozenset({Kind.ANON, Kind.SHMEM, Kind.FILE})  # kinds whose references are understood
_AS_HEAD = len(KINDS)  # a tail of a large folio, whose flags are in its head alone before Linux 6.9
_SURE = (
    (NOPAGE, Kind.HOLE),
    (HWPOISON, Kind.POISONED),
    (BUDDY, Kind.FREE),
    (OFFLINE, Kind.BALLOON),
    (PGTABLE, Kind.PAGE_TABLE),
    (SLAB, Kind.SLAB),
    (HUGE, Kind.HUGETLB),
    (RESERVED, Kind.RESERVED),
    (ZERO_PAGE, Kind.KERNEL),
    (ANON, Kind.ANON),
    (SWAPBACKED, Kind.SHMEM),
)
_TAILS = re.compile(bytes([_AS_HEAD]) + b"+", re.DOTALL)
_FOLIO = re.compile(b"HT+")


def kind_of(flags: int) -> Kind:
    """The kind of one page by its own flags. A mapped page on no LRU list is a driver's, hence the kernel's."""
    for bit, kind in _SURE:
        if flags & bit:
            return kind
    if flags & LRU or (flags & UPTODATE and not flags & COMPOUND_TAIL):
        return Kind.FILE
    return Kind.KERNEL if flags else Kind.UNKNOWN


class _Kinds(dict[int, int]):
    def __missing__(self, flags: int) -> int:
        kind = kind_of(flags)
        inherits = kind in (Kind.FILE, Kind.KERNEL) and flags & COMPOUND_TAIL and flags & THP
        self[flags] = code = _AS_HEAD if inherits else CODE[kind]
        return code


class _Extra(dict[int, int]):
    """References that a page of these flags has beyond those of its mappings: page or swap cache, buffers, batches."""

    def __missing__(self, flags: int) -> int:
        cached = not flags & ANON or bool(flags & SWAPCACHE)
        batched = not flags & LRU  # on its way to an LRU list: a per-CPU batch holds it
        self[flags] = extra = cached + bool(flags & PRIVATE) + batched
        return extra


class _Shape(dict[int, int]):
    def __missing__(self, flags: int) -> int:
        shape = "T" if flags & COMPOUND_TAIL else "H" if flags & COMPOUND_HEAD else "."
        self[flags] = code = ord(shape)
        return code


_KIND_TABLE, _EXTRA_TABLE, _SHAPE_TABLE = _Kinds(), _Extra(), _Shape()


def kinds_of(flags: array[int]) -> bytearray:
    """One kind code per page. ``flags`` must start on a boundary that no large folio crosses."""
    kinds = bytearray(map(_KIND_TABLE.__getitem__, flags))
    for run in _TAILS.finditer(bytes(kinds)):
        head = kinds[run.start() - 1] if run.start() else CODE[Kind.UNKNOWN]
        kinds[run.start() : run.end()] = bytes([head]) * (run.end() - run.start())
    return kinds


def own_memmap(flags: Iterable[int], pages: int, page_size: int) -> int:
    """How many of a block's first pages hold its own ``struct page``s (mm/memory_hotplug.c,
    ``mhp_init_memmap_on_memory``): a run of pages marked so, and enough of them for all ``pages`` of the block."""
    run = sum(1 for _ in takewhile(_MEMMAP.__contains__, flags))
    return run if pages * _LEAST_STRUCT_PAGE <= run * page_size < pages * page_size else 0


def resolve_unflagged(kinds: bytearray, refs: Sequence[int]) -> None:
    """Settle pages without flags by their reference counts, in place.

    The kernel itself passes over pages that nobody refers to (``has_unmovable_pages``): they are free, in a
    per-CPU list. With a reference and no flag it is the kernel's.
    """
    unknown, free, kernel = CODE[Kind.UNKNOWN], CODE[Kind.FREE], CODE[Kind.KERNEL]
    at = kinds.find(unknown)
    while at >= 0:
        kinds[at] = kernel if refs[at] > 0 else free
        at = kinds.find(unknown, at + 1)


def pinned(kinds: bytearray, flags: array[int], counts: Sequence[int], refs: Sequence[int]) -> Iterator[range]:
    """Index ranges of the pages that have more references than their mappings and caches explain."""
    counted = bytes(code < len(KINDS) and KINDS[code] in COUNTED for code in range(256))
    candidates = kinds.translate(counted)
    shapes = bytes(map(_SHAPE_TABLE.__getitem__, flags))
    extra = bytes(map(_EXTRA_TABLE.__getitem__, flags))
    single = shapes.translate(bytes(code == ord(".") for code in range(256)))
    simple = zip(candidates, single, refs, counts, extra, strict=True)
    yield from (range(i, i + 1) for i, (c, s, r, m, x) in enumerate(simple) if c and s and r > m + x)
    for folio in _FOLIO.finditer(shapes):
        head, end = folio.span()
        if candidates[head] and not _explained(refs[head], counts[head:end], extra[head], flags[head]):
            yield range(head, end)


def _explained(refs: int, counts: Sequence[int], extra: int, flags: int) -> bool:
    """True if mappings and caches can account for a large folio's references.

    kpagecount adds the mappings of the whole folio (PMDs) to every page's own. A PMD holds one reference, so
    ``a`` of them turn the sum of counts S into ``S - a * (pages - 1)`` references; any a up to the smallest
    count is possible. Caches hold one reference per page.
    """
    pages = len(counts)
    cached = not flags & ANON or bool(flags & SWAPCACHE)
    by_mappings = refs - extra - cached * (pages - 1)
    surplus = sum(counts) - by_mappings
    if surplus > min(counts) * (pages - 1):
        return True  # fewer references than mappings: it was changing while it was read
    return surplus >= 0 and surplus % (pages - 1) <= (not flags & LRU)
