# SPDX-License-Identifier: Apache-2.0
"""The plain twin of host/pages.py and host/views.py: one page after the other, by its own flag word, mappings and
references."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator, Sequence

from hotbank.host import pages
from hotbank.host.kcore import RefCounts
from hotbank.host.planes import Planes
from hotbank.host.tree import Tree
from hotbank.memory import Kind

_FOLIO = re.compile("HT+")


def values(planes: Planes | None) -> list[int] | None:
    """The numbers, with their signs."""
    return None if planes is None else [planes.signed(index) for index in range(planes.count)]


def kinds_of(flags: Sequence[int]) -> list[Kind]:
    """One kind a page; a tail of a large folio that says less than its head is what its head is."""
    kinds = list[Kind]()
    for word in flags:
        own = pages.kind_of(word)
        tail = word & pages.COMPOUND_TAIL and word & pages.THP
        inherits = tail and own in (Kind.FILE, Kind.KERNEL)
        kinds.append((kinds[-1] if kinds else Kind.UNKNOWN) if inherits else own)
    return kinds


def resolved(kinds: Sequence[Kind], refs: Sequence[int]) -> list[Kind]:
    """Pages without flags settled by their references."""
    settled = (Kind.KERNEL if ref > 0 else Kind.FREE for ref in refs)
    return [by_refs if kind is Kind.UNKNOWN else kind for kind, by_refs in zip(kinds, settled, strict=True)]


def pinned(kinds: Sequence[Kind], flags: Sequence[int], counts: Sequence[int], refs: Sequence[int]) -> set[int]:
    """Pages with more references than their mappings and caches explain."""
    shapes = "".join(map(_shape, flags))
    counted = [kind in pages.COUNTED for kind in kinds]
    single = (i for i, shape in enumerate(shapes) if shape == "." and counted[i])
    found = {i for i in single if refs[i] > counts[i] + _extra(flags[i])}
    for head, end in _folios(shapes):
        if counted[head] and not _explained(refs[head], counts[head:end], flags[head]):
            found |= set(range(head, end))
    return found


def _shape(flags: int) -> str:
    return "T" if flags & pages.COMPOUND_TAIL else "H" if flags & pages.COMPOUND_HEAD else "."


def _folios(shapes: str) -> Iterator[tuple[int, int]]:
    yield from (folio.span() for folio in _FOLIO.finditer(shapes))


def _cached(flags: int) -> bool:
    return not flags & pages.ANON or bool(flags & pages.SWAPCACHE)


def _extra(flags: int) -> int:
    return _cached(flags) + bool(flags & pages.PRIVATE) + (not flags & pages.LRU)


def _explained(refs: int, counts: Sequence[int], flags: int) -> bool:
    """True if some number of PMDs, each of which kpagecount adds to all pages' own counts and which holds one
    reference, makes the sum come out; a reference is never missing, but while it was changing."""
    others = len(counts) - 1
    by_mappings = refs - _extra(flags) - _cached(flags) * others
    surplus = sum(counts) - by_mappings
    if surplus > min(counts) * others:
        return True
    return surplus >= 0 and surplus % others <= (not flags & pages.LRU)


def look(tree: Tree, span: range) -> tuple[list[Kind], set[int]]:
    """What each page of a block is, and the pfns of those that two samples find pinned; of the second sample what
    looked like the kernel's in the first. The files are read as they are everywhere, and so are both samples."""
    kinds, pins = _sample(tree, span)
    again, still = _sample(tree, span)
    settled = (late if kind is Kind.KERNEL else kind for kind, late in zip(kinds, again, strict=True))
    return list(settled), pins & still


def _sample(tree: Tree, span: range) -> tuple[list[Kind], set[int]]:
    flags, counts = (_words(tree, f"proc/{name}", span) for name in ("kpageflags", "kpagecount"))
    counted = RefCounts.open(tree)
    assert counted is not None
    with counted:
        refs = values(counted.read(span.start, len(span)))
    assert refs is not None
    kinds = resolved(kinds_of(flags), refs)
    return kinds, {span[index] for index in pinned(kinds, flags, counts, refs)}


def _words(tree: Tree, name: str, span: range) -> Sequence[int]:
    file = tree.open(name)
    assert file is not None
    try:
        return array("Q", os.pread(file, len(span) * 8, span.start * 8))
    finally:
        os.close(file)
