# SPDX-License-Identifier: Apache-2.0
"""What /proc/kpageflags says of a page, and which references would explain its reference count.

Truth: fs/proc/page.c (``stable_page_flags``), include/uapi/linux/kernel-page-flags.h,
include/linux/kernel-page-flags.h (bits from 32), mm/page_isolation.c (``has_unmovable_pages``).

One byte per page frame carries the kind; what many pages have in common is found for all of them at once (planes.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import takewhile

from hotbank.host.planes import Planes, every, indices, number, plane
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
_FOLIO = re.compile(b"\1\2+")


def kind_of(flags: int) -> Kind:
    """The kind of one page by its own flags. A mapped page on no LRU list is a driver's, hence the kernel's."""
    for bit, kind in _SURE:
        if flags & bit:
            return kind
    if flags & LRU or (flags & UPTODATE and not flags & COMPOUND_TAIL):
        return Kind.FILE
    return Kind.KERNEL if flags else Kind.UNKNOWN


def kinds_of(flags: Planes) -> bytearray:
    """One kind code per page. ``flags`` must start on a boundary that no large folio crosses."""
    kinds = bytearray(plane(_own_kinds(flags), flags.count))
    if _AS_HEAD in kinds:
        for run in _TAILS.finditer(bytes(kinds)):
            head = kinds[run.start() - 1] if run.start() else CODE[Kind.UNKNOWN]
            kinds[run.start() : run.end()] = bytes([head]) * (run.end() - run.start())
    return kinds


def huge_shapes(flags: Planes) -> bytes:
    """One byte per page: 1 and 2 for head and tail of a page of hugetlb, 0 for all others."""
    huge, tails = flags.has(HUGE), flags.has(COMPOUND_TAIL)
    return plane(huge & flags.has(COMPOUND_HEAD) & ~tails | (huge & tails) * 2, flags.count)


def own_memmap(flags: Iterable[int], pages: int, page_size: int) -> int:
    """How many of a block's first pages hold its own ``struct page``s (mm/memory_hotplug.c,
    ``mhp_init_memmap_on_memory``): a run of pages marked so, and enough of them for all ``pages`` of the block."""
    run = sum(1 for _ in takewhile(_MEMMAP.__contains__, flags))
    return run if pages * _LEAST_STRUCT_PAGE <= run * page_size < pages * page_size else 0


def _own_kinds(flags: Planes) -> int:
    """The plane of kinds as ``kind_of`` has them, but for tails that say less than their head."""
    found = _found(flags)
    kinds = sum(mask * CODE[kind] for kind, mask in found.items())
    tails = flags.has(COMPOUND_TAIL) & (found[Kind.FILE] | found[Kind.KERNEL])
    inherits = tails and tails & flags.has(THP)
    return kinds & ~(inherits * 0xFF) | inherits * _AS_HEAD


def _found(flags: Planes) -> dict[Kind, int]:
    """For each kind the mask of its pages, by the rules of ``kind_of`` and in their order."""
    found, left = dict.fromkeys(Kind, 0), every(flags.count)
    for bit, kind in _SURE:
        mask = flags.has(bit) & left
        found[kind] |= mask
        left ^= mask
    if left:
        files = (flags.has(LRU) | flags.has(UPTODATE) & ~flags.has(COMPOUND_TAIL)) & left
        kernel = flags.some() & (left ^ files)
        found[Kind.FILE] |= files
        found[Kind.KERNEL] |= kernel
        found[Kind.UNKNOWN] |= left ^ files ^ kernel
    return found


def references_matter(kinds: bytearray) -> bool:
    """False where nothing but flags need be read, as of a block without any page in use."""
    return CODE[Kind.UNKNOWN] in kinds or any(CODE[kind] in kinds for kind in COUNTED)


def resolve_unflagged(kinds: bytearray, refs: Planes) -> None:
    """Settle pages without flags by their reference counts, in place.

    The kernel itself passes over pages that nobody refers to (``has_unmovable_pages``): they are free, in a
    per-CPU list. With a reference and no flag it is the kernel's.
    """
    if CODE[Kind.UNKNOWN] in kinds:
        unknown = _which(kinds, {Kind.UNKNOWN})
        kernel = unknown & refs.positive()
        told = kernel * CODE[Kind.KERNEL] | (unknown ^ kernel) * CODE[Kind.FREE]
        kinds[:] = plane(number(kinds) & ~(unknown * 0xFF) | told, len(kinds))


def slabs_pass(kinds: bytearray, flags: Planes, refs: Planes) -> bool:
    """True if isolation passes over every slab there is: each is one page that nobody refers to.
    ``has_unmovable_pages`` looks at compound pages before it looks at the count."""
    return not _which(kinds, {Kind.SLAB}) & (flags.has(COMPOUND_HEAD | COMPOUND_TAIL) | refs.some())


def pinned(kinds: bytearray, flags: Planes, counts: Planes, refs: Planes) -> Iterator[range]:
    """Index ranges of the pages that have more references than their mappings and caches explain."""
    counted, extra = _which(kinds, COUNTED), _extra(flags)
    tails = flags.has(COMPOUND_TAIL)
    heads = flags.has(COMPOUND_HEAD) & ~tails
    single = counted & ~(heads | tails)
    beyond = plane(extra, flags.count)
    for index in indices(_unlike(refs.small(), counts.small() + extra, flags.count) & single * 0xFF, flags.count):
        if refs.signed(index) > counts.at(index) + beyond[index]:
            yield range(index, index + 1)
    for head, end in _folios(heads & counted, tails, flags.count):
        if not _explained(refs.signed(head), counts.part(head, end), beyond[head], flags.at(head)):
            yield range(head, end)


def _which(kinds: bytearray, wanted: Collection[Kind]) -> int:
    """The mask of the pages of these kinds."""
    codes = {CODE[kind] for kind in wanted}
    return number(kinds.translate(bytes(code in codes for code in range(256))))


def _unlike(refs: int, explained: int, count: int) -> int:
    """The plane that is not zero where the numbers differ, or may because they are no small ones."""
    return refs ^ explained | refs & every(count) * 0x80


def _extra(flags: Planes) -> int:
    """The plane of references that pages have beyond those of their mappings: page or swap cache, buffers, batches.
    A page that is on no LRU list is on its way to one: a per-CPU batch holds it."""
    cached = every(flags.count) ^ flags.has(ANON) & ~flags.has(SWAPCACHE)
    return cached + flags.has(PRIVATE) + (every(flags.count) ^ flags.has(LRU))


def _folios(heads: int, tails: int, count: int) -> Iterator[tuple[int, int]]:
    """Where each large folio with one of these heads begins and ends."""
    if heads:
        yield from (found.span() for found in _FOLIO.finditer(plane(heads | tails * 2, count)))


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
