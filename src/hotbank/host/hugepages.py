# SPDX-License-Identifier: Apache-2.0
"""Huge pages that a block holds in use, and the free ones of their pools that could take their place.

Truth: mm/hugetlb.c. A page that migrates takes a free one of its pool (``dequeue_hugetlb_folio_nodemask``), else a new
one from the buddy allocator, which has none of a gigantic size (``alloc_migrate_hugetlb_folio``).
mm/memory_hotplug.c, ``do_migrate_range``: on other nodes than the block's where there are others; of a gigantic size
only on nodes that have memory for the kernel too, unless ``vm.movable_gigantic_pages`` is set (7.0 and later;
``htlb_alloc_mask``). A free page in the block itself does not count: it is isolated, and dissolved later, unless an old
kernel takes it (``goes_round``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from hotbank.host import pages
from hotbank.host import tree as files
from hotbank.host.planes import Planes
from hotbank.host.tree import Tree
from hotbank.machine import HugePages
from hotbank.memory import KIB, Zone
from hotbank.sysfs import hugepages, names

Flags = Callable[[range], Planes]

_TAIL = b"\2"
_PIECE = re.compile(b"\1\2*|\2+")


@dataclass(frozen=True, slots=True)
class Found:
    """One huge page that is at least partly in the block: its first pfn, how many pages it has, and how many inside."""

    first: int
    pages: int
    inside: int


def found_in(tree: Tree, flags: Flags, span: range, page_size: int) -> Iterator[Found]:
    """The huge pages that lie in the frames, wholly or in part. Their size is what head and tails say; of one that the
    frames cut it is the smallest that the kernel has pools for and that is large enough."""
    sizes = [size // page_size for size in _pools(tree, names.HUGEPAGES)]
    shapes = pages.huge_shapes(flags(span))
    goes_on = pages.huge_shapes(flags(range(span.stop, span.stop + 1))) == _TAIL
    for piece in _PIECE.finditer(shapes):
        length, first = piece.end() - piece.start(), span.start + piece.start()
        cut = piece[0].startswith(_TAIL) or (piece.end() == len(shapes) and goes_on)
        size = min((size for size in sizes if size >= length + cut), default=length)
        yield Found(first - first % size if cut else first, size, length)


def in_use(
    found: Iterable[Found], used: Callable[[Found], bool], free: Callable[[int, int], int | None], gigantic: int
) -> Iterator[tuple[HugePages, int]]:
    """Those that somebody uses, by size, each with how many idle ones of that size are in the block. ``free``: of a
    size in pages, so many idle ones being in the block, how many the pool has elsewhere. ``gigantic``: pages above
    which a size is."""
    by_size = dict[int, list[Found]]()
    for one in found:
        by_size.setdefault(one.pages, []).append(one)
    for size, ones in sorted(by_size.items()):
        busy = [one for one in ones if used(one)]
        if busy:
            inside, first = sum(one.inside for one in busy), tuple(one.first for one in busy)
            idle = len(ones) - len(busy)
            yield HugePages(size, first, inside, free(size, idle), size > gigantic), idle


def free_elsewhere(tree: Tree, size: int, node: int | None, idle: int, *, gigantic: bool) -> int | None:
    """Free pages of the pool that may take the place of some in the block, of which ``idle`` ones are in it."""
    others, everywhere = _others(tree, node), _number(tree, names.HUGEPAGES, size, "free_hugepages")
    if everywhere is None:
        return None
    open_ = others if not gigantic or may_be_movable(tree) else others & _kernel_nodes(tree)
    told = [_number(tree, names.node(n, "hugepages"), size, "free_hugepages") for n in sorted(open_)]
    there = sum(count for count in told if count is not None) if others and None not in told else everywhere - idle
    return max(0, min(_unreserved(tree, size, everywhere), there))


def goes_round(tree: Tree, size: int, node: int | None, busy: int, idle: int) -> bool:
    """True if a kernel that takes free pages of the block itself (kernels.py, ``spares_left_huge_pages``) would move
    its ``busy`` pages from one place in it to the next. The pool gives out what came back last: one page alone finds a
    free one elsewhere; of several, or where ``idle`` ones lie in the block, the next takes the place of the last."""
    everywhere = _number(tree, names.HUGEPAGES, size, "free_hugepages")
    if _others(tree, node) or everywhere is None or _unreserved(tree, size, everywhere) <= 0:
        return False
    return busy + idle > 1


def _others(tree: Tree, node: int | None) -> set[int]:
    """The nodes with memory that pages of that node's blocks go to; none where there is one node."""
    nodes = {zone.node for zone in files.zones(tree) if zone.managed}
    return nodes - {node} if node is not None else set()


def _kernel_nodes(tree: Tree) -> set[int]:
    """The nodes that a request without ``__GFP_MOVABLE`` reaches."""
    return {zone.node for zone in files.zones(tree) if zone.managed and zone.zone != Zone.MOVABLE}


def may_be_movable(tree: Tree) -> bool:
    """Whether gigantic pages may lie in zone Movable, ``vm.movable_gigantic_pages``."""
    return tree.read(names.MOVABLE_GIGANTIC) not in (None, "0")


def _unreserved(tree: Tree, size: int, free: int) -> int:
    """``available_huge_pages``: free ones that nobody was promised."""
    return free - (_number(tree, names.HUGEPAGES, size, "resv_hugepages") or 0)


def _pools(tree: Tree, folder: str) -> Mapping[int, str]:
    """Sizes in bytes of which there are pools, ascending, with their folders."""
    sizes = {size: name for name in tree.names(folder) if (size := hugepages.size_named(name)) is not None}
    return dict(sorted(sizes.items()))


def _number(tree: Tree, folder: str, size: int, file: str) -> int | None:
    return tree.value(f"{folder}/hugepages-{size // KIB}kB/{file}", hugepages.COUNT)
