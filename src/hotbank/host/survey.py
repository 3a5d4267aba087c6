# SPDX-License-Identifier: Apache-2.0
"""The survey of one block of a real machine: every view that the kernel offers, and the names of those it does not.

Truth: fs/proc/page.c (kpageflags, kpagecount, kpagecgroup), fs/proc/kcore.c, mm/memory_hotplug.c
(``offline_pages``: a block whose System RAM has holes is refused), mm/cma_debug.c. docs/survey.md says how it
works and what it can't see.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice

from hotbank import kernels
from hotbank.errors import Code, FormatError
from hotbank.host import owners, pages, planes
from hotbank.host.bankrefs import BankRefs
from hotbank.host.hugepages import Found, found_in, free_elsewhere, in_use
from hotbank.host.kcore import RefCounts
from hotbank.host.leaves import Leaves
from hotbank.host.offlined import kind_of_offlined
from hotbank.host.planes import Planes
from hotbank.host.ram import Ram
from hotbank.host.tree import Tree, cma_pages, kernel_of
from hotbank.machine import EVIDENCE, Block, Clock, Evidence, HugePages, Owner, Pages, Survey
from hotbank.memory import CODE, IMMOVABLE_KINDS, KINDS, BlockState, Kind, Range, Zone
from hotbank.sysfs import cma, names

CHUNK = 1 << 15  # pages looked at together: no folio is larger, and 4 MiB is all the memory it takes
SETTLE = 0.02  # seconds between two samples of reference counts: most references live shorter
OWNERS_BUDGET = 0.2  # seconds spent on finding who maps the evidence

_PROBE = 64  # pages that tell most blocks without a memmap of their own
_KERNEL, _BALLOON = CODE[Kind.KERNEL], CODE[Kind.BALLOON]
_WHY: Mapping[Kind, Code] = dict.fromkeys(IMMOVABLE_KINDS, Code.UNMOVABLE) | {Kind.POISONED: Code.POISONED}
# In ZONE_MOVABLE every allocation was made movable, and the kernel says no to reserved pages only
# (``has_unmovable_pages``): a page without flags is on its way into or out of use.
_WHY_MOVABLE: Mapping[Kind, Code] = {kind: code for kind, code in _WHY.items() if kind is not Kind.KERNEL}


@dataclass(frozen=True, slots=True)
class _Views:
    """Open files with one u64 per page frame, None where the kernel does not show them to us, and what they don't say:
    what the block's PG_offline pages are, and which pages hold its own ``struct page``s."""

    flags: int | None
    counts: int | None
    cgroups: int | None
    refs: RefCounts | BankRefs | None
    offlined: Kind | None
    own_memmap: range


@dataclass(slots=True)
class _Finds:
    """What the pass over a block's pages collects. ``unseen``: views that failed on the way."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    blocking: dict[Code, list[Evidence]] = field(default_factory=dict)
    blocked: Counter[Code] = field(default_factory=Counter)
    unseen: set[str] = field(default_factory=set)
    huge: tuple[HugePages, ...] = ()

    def add(self, why: Code, kind: Kind, count: int, pfns: Iterable[int]) -> None:
        """Count pages that can't move, and name the first of them."""
        self.blocked[why] += count
        named = self.blocking.setdefault(why, [])
        named += [Evidence(pfn, kind, why) for pfn in islice(pfns, EVIDENCE - len(named))]


def survey(tree: Tree, block: Block, *, page_size: int, clock: Clock, ram: Ram) -> Survey:
    """Look at every page of the block.

    The frames of an offline block are no pages to the kernel, so they count as holes; ``holes`` says whether
    there is memory everywhere.
    """
    span = range(block.range.start // page_size, block.range.end // page_size)
    whole, endless = ram.covers(block.range), False
    finds = _Finds(unseen=set() if whole is not None else {"holes"})
    with ExitStack() as stack:
        views = _open(tree, stack, block, span, page_size, ram)
        if block.state is BlockState.OFFLINE:
            finds.kinds[Kind.HOLE] = len(span)
        elif views.flags is None:
            finds.kinds[Kind.UNKNOWN] = len(span)
            finds.unseen |= {"kinds", "pins"}
        else:
            _look_at_all(tree, views, block, span, page_size, finds, clock)
            endless = _goes_round(views, span, finds)
            if finds.kinds[Kind.HUGETLB]:
                gigantic = kernels.arch(ram.arch).largest_buddy(page_size)
                _look_for_huge(tree, views, block, span, page_size, gigantic, finds)
        evidence = _with_owners(tree, views, finds, page_size, clock)
        leaf = _leaf(tree, block, len(views.own_memmap) * page_size, ram, finds)
    kinds = {kind: finds.kinds[kind] for kind in Kind if finds.kinds[kind]}
    holes = not whole if whole is not None else _has_gaps(block, finds)
    boot = ram.at_boot(block.range)
    return Survey(
        block.number,
        kinds,
        evidence,
        finds.blocked.total(),
        tuple(sorted(finds.unseen)),
        boot,
        holes,
        huge=finds.huge,
        endless=endless,
        leaf=leaf,
    )


def page_by_page(tree: Tree, block: Block, *, page_size: int, ram: Ram) -> Pages:
    """One look at every page of the block. Kinds are ``unknown`` where the kernel does not show them to us."""
    span = range(block.range.start // page_size, block.range.end // page_size)
    if block.state is BlockState.OFFLINE:
        return Pages(block.number, ((Kind.HOLE, len(span)),))
    kinds, pins = bytearray(), set[int]()
    with ExitStack() as stack:
        views = _open(tree, stack, block, span, page_size, ram)
        if views.flags is None:
            return Pages(block.number, ((Kind.UNKNOWN, len(span)),))
        if tree.running:
            _drain()
        for at in range(0, len(span), CHUNK):
            seen, held = _sample(views, span[at : at + CHUNK])
            kinds += seen
            pins |= held or set()
    runs = tuple((KINDS[code], count) for code, count in planes.runs(kinds))
    areas = _cma_areas(tree, page_size) if _may_be_lent(block, cma_pages(tree)) else ()
    lent = [range(max(area.start, span.start), min(area.stop, span.stop)) for area in areas]
    return Pages(block.number, runs, tuple(sorted(pins)), tuple((part.start, len(part)) for part in lent if part))


def _open(tree: Tree, stack: ExitStack, block: Block, span: range, page_size: int, ram: Ram) -> _Views:
    def one(name: str) -> int | None:
        file = tree.open(f"proc/{name}")
        if file is not None:
            stack.callback(os.close, file)
        return file

    refs = RefCounts.open(tree) or BankRefs.open(tree, page_size)
    if refs is not None:
        stack.callback(refs.close)
    flags, offlined = one("kpageflags"), kind_of_offlined(tree, ram, block.range)
    own = 0 if ram.at_boot(block.range) or flags is None else pages.own_memmap(_each(flags, span), len(span), page_size)
    return _Views(flags, one("kpagecount"), one("kpagecgroup"), refs, offlined, span[:own])


def _each(flags: int, span: range) -> Iterator[int]:
    """The flags of all frames, read in chunks as somebody asks for them; the first one is small."""
    for at, chunk in ((0, _PROBE), *((at, CHUNK) for at in range(_PROBE, len(span), CHUNK))):
        yield from _words(flags, span[at : at + chunk])


def _leaf(tree: Tree, block: Block, own: int, ram: Ram, finds: _Finds) -> str:
    """The map with a leaf across an edge of what leaves; its own memmap, ``own`` bytes, stays. Needs no look for boot
    memory, which is refused before, by the same notifier."""
    kernel, vetoes = kernel_of(tree), kernels.arch(ram.arch).boot_memory_leaves is False
    if not vetoes or kernel is None or not kernel.vetoes_leaf or ram.at_boot(block.range):
        return ""
    leaves = Leaves.open(tree)
    cut = None
    if leaves is not None:
        cut = leaves.cut_by(Range(block.range.start + own, block.range.end))
        leaves.close()
    if cut is None:
        finds.unseen.add("leaf")
    return cut or ""


def _has_gaps(block: Block, finds: _Finds) -> bool:
    return block.state is not BlockState.OFFLINE and finds.kinds[Kind.HOLE] > 0


def _look_at_all(
    tree: Tree, views: _Views, block: Block, span: range, page_size: int, finds: _Finds, clock: Clock
) -> None:
    why = _WHY_MOVABLE if block.valid_zones[:1] == (Zone.MOVABLE,) else _WHY
    for at in range(0, len(span), CHUNK):
        _look(tree, views, span[at : at + CHUNK], finds, why, clock)
    _look_for_cma(tree, views, block, span, page_size, finds)


def _look(tree: Tree, views: _Views, span: range, finds: _Finds, why: Mapping[Kind, Code], clock: Clock) -> None:
    """Collect what one chunk of the block holds. Pages count as pinned or the kernel's when two samples say so."""
    kinds, pins = _sample(views, span)
    if pins is None:
        finds.unseen.add("pins")
    elif pins or _KERNEL in kinds:
        clock.sleep(SETTLE)
        if pins and tree.running:
            _drain()
        again, still = _sample(views, span)
        pins &= still or set()
        _withdraw(kinds, again)
    own = _own(views, span)
    for code, kind in enumerate(KINDS):
        finds.kinds[kind] += kinds.count(code)
        holding = kinds.count(code, own) if kind in why else 0
        if holding:
            finds.add(why[kind], kind, holding, _each_of(kinds, code, own, span))
    if views.offlined is None and _BALLOON in kinds:
        finds.unseen.add("balloon")
    for pfn in sorted(pins or ()):
        finds.add(Code.PINNED, KINDS[kinds[pfn - span.start]], 1, (pfn,))


def _goes_round(views: _Views, span: range, finds: _Finds) -> bool:
    """True if what can't move is slabs alone and isolation passes over all of them (kernels.py, ``frozen_slab``)."""
    slabs = finds.kinds[Kind.SLAB]
    if not slabs or views.refs is None or finds.blocked[Code.UNMOVABLE] != slabs or finds.blocked[Code.CMA]:
        return False
    return all(_slabs_pass(views, span[at : at + CHUNK]) for at in range(0, len(span), CHUNK))


def _slabs_pass(views: _Views, span: range) -> bool:
    flags = _words(views.flags, span)
    kinds = pages.kinds_of(flags)
    if CODE[Kind.SLAB] not in kinds:
        return True
    refs = None if views.refs is None else views.refs.read(span.start, len(span))
    return refs is not None and pages.slabs_pass(kinds, flags, refs)


def _each_of(kinds: bytearray, code: int, start: int, span: range) -> Iterator[int]:
    """The pfns of that kind from ``start`` on."""
    at = kinds.find(code, start)
    while at >= 0:
        yield span[at]
        at = kinds.find(code, at + 1)


def _drain() -> None:
    from hotbank.host.batches import drain  # most surveys see no pin, and ctypes takes its time

    drain()


def _withdraw(kinds: bytearray, again: bytearray) -> None:
    """Believe the second sample about pages that looked like the kernel's: flags and reference counts are read one
    after the other, and a page that was allocated in between has a reference but had no flags yet."""
    at = kinds.find(_KERNEL)
    while at >= 0:
        kinds[at] = again[at]
        at = kinds.find(_KERNEL, at + 1)


def _sample(views: _Views, span: range) -> tuple[bytearray, set[int] | None]:
    """Kind codes of the frames, and the pfns with references that nothing explains, None where those are unseen."""
    flags = _words(views.flags, span)
    kinds = pages.kinds_of(flags)
    _say_what_flags_do_not(views, span, kinds)
    matter = pages.references_matter(kinds)
    refs = None if views.refs is None else views.refs.read(span.start, len(span) if matter else 1)
    if refs is None:
        return kinds, None
    if not matter:
        return kinds, None if views.counts is None else set()
    pages.resolve_unflagged(kinds, refs)
    if views.counts is None:
        return kinds, None
    pins = pages.pinned(kinds, flags, _words(views.counts, span), refs)
    return kinds, {span[index] for run in pins for index in run}


def _say_what_flags_do_not(views: _Views, span: range, kinds: bytearray) -> None:
    """Whose PG_offline pages these are, and the block's own memmap, which is reserved by whatever flag says so."""
    if views.offlined is not None:
        kinds[:] = kinds.replace(bytes([_BALLOON]), bytes([CODE[views.offlined]]))
    own = _own(views, span)
    kinds[:own] = bytes([CODE[Kind.RESERVED]]) * own


def _own(views: _Views, span: range) -> int:
    """How many of the first frames hold the block's own memmap."""
    return min(len(span), max(0, views.own_memmap.stop - span.start))


def _words(file: int | None, span: range) -> Planes:
    """One u64 per frame. Frames beyond the file's end are beyond all memory: the kernel calls such NOPAGE."""
    raw = b"" if file is None else os.pread(file, len(span) * 8, span.start * 8)
    missing = len(span) - len(raw) // 8
    return Planes(raw[: len(raw) // 8 * 8] + pages.NOPAGE.to_bytes(8, sys.byteorder) * missing, 8)


def _look_for_huge(
    tree: Tree, views: _Views, block: Block, span: range, page_size: int, gigantic: int, finds: _Finds
) -> None:
    """Huge pages in use. Gigantic ones without a free one that could take their place can't move."""

    def free(pages_of_one: int, idle: int) -> int | None:
        return free_elsewhere(tree, pages_of_one * page_size, block.node, idle)

    found = found_in(tree, lambda frames: _words(views.flags, frames), span, page_size)
    finds.huge = tuple(in_use(found, lambda one: _used(views, one), free, gigantic))
    for huge in finds.huge:
        if huge.gigantic and huge.free is None:
            finds.unseen.add("huge")
        elif huge.gigantic and len(huge.first) > (huge.free or 0):
            finds.add(Code.HUGETLB, Kind.HUGETLB, huge.inside, huge.first)


def _used(views: _Views, huge: Found) -> bool:
    """False for a free page of the pool: nobody refers to it. Where counts can't be seen it is taken to be used."""
    refs = None if views.refs is None else views.refs.read(huge.first, 1)
    return refs is None or refs.signed(0) > 0


def _look_for_cma(tree: Tree, views: _Views, block: Block, span: range, page_size: int, finds: _Finds) -> None:
    """CMA areas, which page flags do not show. Where not all of them could be located, ``cma`` is unseen."""
    lent = list(cma_pages(tree))
    if not _may_be_lent(block, lent):
        return
    areas = list(_cma_areas(tree, page_size))
    for area in areas:
        inside = range(max(area.start, span.start), min(area.stop, span.stop))
        if inside:
            kind = pages.kind_of(_words(views.flags, inside[:1]).at(0))
            finds.add(Code.CMA, kind, len(inside), inside)
    concerned = any(zone in block.valid_zones[:1] and block.node in (None, node) for node, zone, _ in lent)
    if concerned and sum(map(len, areas)) < sum(count for _, _, count in lent):
        finds.unseen.add("cma")


def _may_be_lent(block: Block, lent: Iterable[tuple[int, str, int]]) -> bool:
    """False for a block of one zone that lends nothing: then nobody need look for where the areas are, which takes a
    whole device tree to be read."""
    return any(block.node in (None, node) and block.zone in (None, zone) for node, zone, _ in lent)


def _cma_areas(tree: Tree, page_size: int) -> Iterator[range]:
    """By debugfs (CONFIG_CMA_DEBUGFS) all of them, else those that the device tree puts in a fixed place."""
    for name in tree.names(names.CMA):
        base = tree.value(f"{names.CMA}/{name}/base_pfn", cma.BASE_PFN)
        count = tree.value(f"{names.CMA}/{name}/count", cma.COUNT)
        if base is not None and count is not None:
            yield range(base, base + count)
    if not tree.names(names.CMA):
        for part in _lent_by_device_tree(tree):
            yield range(part.start // page_size, part.end // page_size)


def _lent_by_device_tree(tree: Tree) -> Iterator[Range]:
    from hotbank.firmware import memory_map  # only machines with CMA pages need it

    try:
        told = memory_map(tree.read_bytes("sys/firmware/fdt") or b"")
    except FormatError:
        return
    yield from (reserved.range for reserved in told.reserved if reserved.reusable)


def _with_owners(tree: Tree, views: _Views, finds: _Finds, page_size: int, clock: Clock) -> tuple[Evidence, ...]:
    """The evidence with the processes that map pinned pages and the cgroups that pay, as far as time allows."""
    evidence = [e for named in finds.blocking.values() for e in named]
    deadline = clock.now() + OWNERS_BUDGET

    def out_of_time() -> bool:
        return clock.now() >= deadline

    inodes = {
        e.pfn: _words(views.cgroups, range(e.pfn, e.pfn + 1)).at(0) for e in evidence if views.cgroups is not None
    }
    payers = {pfn: inode for pfn, inode in inodes.items() if inode not in (0, pages.NOPAGE)}
    paths = owners.cgroups(tree, set(payers.values()), out_of_time) if payers else {}
    mapped = {e.pfn for e in evidence if e.why is Code.PINNED}
    found = owners.mappers(tree, mapped, page_size, out_of_time) if mapped else {}
    if mapped - found.keys():
        finds.unseen.add("owners")
    return tuple(_owned(e, found.get(e.pfn), paths.get(payers.get(e.pfn, 0))) for e in evidence)


def _owned(evidence: Evidence, mapper: Owner | None, cgroup: str | None) -> Evidence:
    if mapper is None and cgroup is None:
        return evidence
    return replace(evidence, owner=replace(mapper or Owner(), cgroup=cgroup))
