# SPDX-License-Identifier: Apache-2.0
"""What /proc/kpageflags says of a page, and which references would explain its reference count.

Truth: fs/proc/page.c (``stable_page_flags``), include/uapi/linux/kernel-page-flags.h,
include/linux/kernel-page-flags.h (bits from 32), mm/page_isolation.c (``has_unmovable_pages``).

One byte per page frame carries the kind; what many pages have in common is found for all of them at once (planes.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import takewhile

from hotbank.host.planes import Planes, every, indices, number, plane
from hotbank.memory import CODE, Kind

LRU, SLAB, BUDDY, MMAP, ANON, SWAPCACHE, SWAPBACKED = (1 << n for n in (5, 7, 10, 11, 12, 13, 14))
UPTODATE, COMPOUND_HEAD, COMPOUND_TAIL, HUGE, HWPOISON = (1 << n for n in (3, 15, 16, 17, 19))
NOPAGE, THP, OFFLINE, ZERO_PAGE, PGTABLE, RESERVED, PRIVATE = (1 << n for n in (20, 22, 23, 24, 26, 32, 35))
OWNER_PRIVATE = 1 << 37  # PG_owner_priv_1, PG_vmemmap_self_hosted

_MEMMAP = frozenset({OWNER_PRIVATE, OWNER_PRIVATE | RESERVED})  # from 6.11 on, and before
_LEAST_STRUCT_PAGE = 32  # bytes

COUNTED = frozenset({Kind.ANON, Kind.SHMEM, Kind.FILE})  # kinds whose references are understood
_HEAD = 0x80  # beside the kind of a page before tails whose flags are in their head alone, as before Linux 6.9
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
_COMMON = ((0, UPTODATE | LRU | SLAB), (1, (BUDDY | ANON | SWAPBACKED) >> 8), (2, COMPOUND_TAIL >> 16))
"""Bits that tell most kinds, by byte: none of them lies where another's does."""
_RARE = NOPAGE | HWPOISON | OFFLINE | PGTABLE | HUGE | RESERVED | ZERO_PAGE  # the others that tell a kind
_FOLIO = re.compile(b"\1\2+")


def kind_of(flags: int) -> Kind:
    """The kind of one page by its own flags. A mapped page on no LRU list is a driver's, hence the kernel's."""
    for bit, kind in _SURE:
        if flags & bit:
            return kind
    if flags & LRU or (flags & UPTODATE and not flags & COMPOUND_TAIL):
        return Kind.FILE
    return Kind.KERNEL if flags else Kind.UNKNOWN


def _unpacked(byte: int) -> int:
    """The flags that a byte of ``_COMMON`` stands for."""
    return sum((byte & bits) << 8 * place for place, bits in _COMMON)


_KINDS = bytes(CODE[kind_of(_unpacked(byte))] for byte in range(256))


def kinds_of(flags: Planes) -> bytearray:
    """One kind code per page. ``flags`` must start on a boundary that no large folio crosses."""
    if flags.alike:
        return kinds_of(flags.first(1)) * flags.count
    kinds, tails = _own_kinds(flags), flags.has(COMPOUND_TAIL)
    if (kinds ^ kinds << 8) & tails * 0xFF:  # else each is what its head is, as from Linux 6.9 on
        less = mask_of(plane(kinds, flags.count), {Kind.FILE, Kind.KERNEL})
        kinds = _as_heads(kinds, tails & flags.has(THP) & less, flags.count)
    return bytearray(plane(kinds, flags.count))


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
    """The plane of kinds as ``kind_of`` has them."""
    common = plane(flags.packed(_COMMON), flags.count)
    kinds = number(common.translate(_KINDS))
    if 0 in common and (bare := number(common.translate(_only(0))) & flags.some()):
        kinds = _with(kinds, bare, bare * CODE[Kind.KERNEL])
    if rare := flags.has(_RARE):
        kinds = _with(kinds, rare, _sure(flags, rare))
    return kinds


def _with(kinds: int, mask: int, own: int) -> int:
    """The plane of kinds with those of the mask replaced."""
    return kinds & ~(mask * 0xFF) | own


def _sure(flags: Planes, left: int) -> int:
    """The plane of kinds of those in a mask that one bit tells the kind of, each."""
    kinds = 0
    for bit, kind in _SURE:
        if mask := flags.has(bit) & left:
            kinds |= mask * CODE[kind]
            left ^= mask
        if not left:
            break
    return kinds


def _as_heads(kinds: int, tails: int, count: int) -> int:
    """The plane of kinds with those of ``tails`` being what is before their run; before the first page is ``unknown``.

    A run of tails is one of ones, and one added to its first byte is carried through to its end.
    """
    firsts, ones = tails & ~(tails << 8), tails * 0xFF
    heads = plane((kinds << 8 | CODE[Kind.UNKNOWN]) & firsts * 0xFF | firsts * _HEAD, count)
    kinds &= ~ones
    for head in set(heads.translate(None, b"\0")):
        run = ones & ~(ones + number(heads.translate(_only(head))))
        kinds |= run & tails * (head ^ _HEAD)
    return kinds


@lru_cache(maxsize=256)
def _only(wanted: int | Collection[Kind]) -> bytes:
    """A table that makes 1 of that byte, or of the codes of these kinds, and 0 of all others."""
    codes = {wanted} if isinstance(wanted, int) else {CODE[kind] for kind in wanted}
    return bytes(code in codes for code in range(256))


def references_matter(kinds: bytearray) -> bool:
    """False where nothing but flags need be read, as of a block without any page in use."""
    return CODE[Kind.UNKNOWN] in kinds or any(CODE[kind] in kinds for kind in COUNTED)


def resolve_unflagged(kinds: bytearray, refs: Planes) -> None:
    """Settle pages without flags by their reference counts, in place.

    The kernel itself passes over pages that nobody refers to (``has_unmovable_pages``): they are free, in a
    per-CPU list. With a reference and no flag it is the kernel's.
    """
    if CODE[Kind.UNKNOWN] in kinds:
        unknown = mask_of(kinds, {Kind.UNKNOWN})
        kernel = unknown & refs.positive()
        told = kernel * CODE[Kind.KERNEL] | (unknown ^ kernel) * CODE[Kind.FREE]
        kinds[:] = plane(number(kinds) & ~(unknown * 0xFF) | told, len(kinds))


def slabs_pass(kinds: bytearray, flags: Planes, refs: Planes) -> bool:
    """True if isolation passes over every slab there is: each is one page that nobody refers to.
    ``has_unmovable_pages`` looks at compound pages before it looks at the count."""
    return not mask_of(kinds, {Kind.SLAB}) & (flags.has(COMPOUND_HEAD | COMPOUND_TAIL) | refs.some())


def single_slabs(kinds: bytearray, flags: Planes) -> int:
    """The mask of the slabs that are a page each."""
    return mask_of(kinds, {Kind.SLAB}) & ~flags.has(COMPOUND_HEAD | COMPOUND_TAIL)


def pinned(kinds: bytearray, flags: Planes, counts: Planes, refs: Planes) -> bytearray:
    """1 for each page that has more references than its mappings and caches explain, and 0 for all others."""
    counted, extra = mask_of(kinds, COUNTED), _extra(flags)
    tails = flags.has(COMPOUND_TAIL)
    heads = flags.has(COMPOUND_HEAD) & ~tails
    single = counted & ~(heads | tails)
    more, unclear = _beyond(refs.small(), counts.small(), extra, flags.count)
    found, beyond = bytearray(plane(more & single, flags.count)), plane(extra, flags.count)
    for index in indices(unclear & single, flags.count):
        found[index] = refs.signed(index) > counts.at(index) + beyond[index]
    for head, end in _folios(heads & counted, tails, flags.count):
        if not _explained(refs.signed(head), counts.part(head, end), beyond[head], flags.at(head)):
            found[head:end] = b"\1" * (end - head)
    return found


def mask_of(kinds: bytes | bytearray, wanted: Collection[Kind]) -> int:
    """The mask of the pages of these kinds."""
    return number(are(kinds, wanted))


def are(kinds: bytes | bytearray, wanted: Collection[Kind]) -> bytes | bytearray:
    """1 for each page of these kinds, and 0 for all others."""
    return kinds.translate(_only(frozenset(wanted)))


def _beyond(refs: int, counts: int, extra: int, count: int) -> tuple[int, int]:
    """The mask of the numbers in ``refs`` that are above the sum of the others, and of those that are too large for a
    byte with its highest bit to spare, which borrows from no neighbour."""
    high = every(count) * 0x80
    explained = (counts & ~high) + extra
    unclear = (refs | counts | explained) & high
    more = (refs | high) - ((explained & ~high) + every(count)) & high & ~unclear
    return more >> 7, unclear >> 7


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
