# SPDX-License-Identifier: Apache-2.0
"""The survey of one block of a real machine: every view that the kernel offers, and the names of those it does not.

Truth: fs/proc/page.c (kpageflags, kpagecount, kpagecgroup), fs/proc/kcore.c, mm/memory_hotplug.c
(``offline_pages``: a block whose System RAM has holes is refused), mm/cma_debug.c. docs/survey.md says how it
works and what it can't see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice

from hotbank import kernels
from hotbank.errors import Code, FormatError
from hotbank.host import owners, pages, planes
from hotbank.host.hugepages import Found, found_in, free_elsewhere, goes_round, in_use
from hotbank.host.leaves import Leaves
from hotbank.host.tree import Tree
from hotbank.host.views import Look, Sample, Views, words
from hotbank.machine import EVIDENCE, Block, Buddies, Clock, Evidence, HugePages, Owner, Pages, Survey
from hotbank.memory import CODE, IMMOVABLE_KINDS, KINDS, BlockState, Kind, Range, Zone
from hotbank.sysfs import cma, names

CHUNK = 1 << 15  # pages looked at together: no folio is larger, and 4 MiB is all the memory it takes
SETTLE = 0.02  # seconds between two samples of reference counts: most references live shorter
OWNERS_BUDGET = 0.2  # seconds spent on finding who maps the evidence, unless that is too little to find anybody

_LEAF_ENTRY = 8  # bytes in a page table: what one of these maps is the largest folio that moves, hugetlb's aside
_BALLOON = CODE[Kind.BALLOON]
_WHY: Mapping[Kind, Code] = dict.fromkeys(IMMOVABLE_KINDS, Code.UNMOVABLE) | {Kind.POISONED: Code.POISONED}
# In ZONE_MOVABLE every allocation was made movable, and the kernel says no to reserved pages only
# (``has_unmovable_pages``): a page without flags is on its way into or out of use.
_WHY_MOVABLE: Mapping[Kind, Code] = {kind: code for kind, code in _WHY.items() if kind is not Kind.KERNEL}
_CLEAR = pages.COUNTED | {Kind.FREE, Kind.KERNEL}  # what speaks against no block of it


@dataclass(slots=True)
class _Finds:
    """What the pass over a block's pages collects. ``unseen``: views that failed on the way. ``orders``: free blocks of
    each order, of as many orders as the zone has."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    blocking: dict[Code, list[Evidence]] = field(default_factory=dict)
    blocked: Counter[Code] = field(default_factory=Counter)
    unseen: set[str] = field(default_factory=set)
    orders: tuple[int, ...] = ()
    huge: tuple[HugePages, ...] = ()

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What was named, reason by reason."""
        return tuple(e for named in self.blocking.values() for e in named)

    def add(self, why: Code, count: int, pages: Iterable[tuple[int, Kind]]) -> None:
        """Count pages that can't move, and name the first of them."""
        self.blocked[why] += count
        named = self.blocking.setdefault(why, [])
        named += [Evidence(pfn, kind, why) for pfn, kind in islice(pages, EVIDENCE - len(named))]


def survey(look: Look, block: Block, clock: Clock) -> Survey:
    """Look at every page of the block; in a glance at its flags alone.

    The frames of an offline block are no pages to the kernel, so they count as holes; ``holes`` says whether
    there is memory everywhere.
    """
    ram, views = look.ram, Views(look, block)
    whole, endless = ram.covers(block.range), False
    zone = look.buddies(block.node, block.zone)
    finds = _Finds(unseen=set() if whole is not None else {"holes"})
    if block.state is BlockState.OFFLINE:
        finds.kinds[Kind.HOLE] = len(views.span)
    elif views.source is None:
        finds.kinds[Kind.UNKNOWN] = len(views.span)
        finds.unseen |= {"kinds", "pins"}
    else:
        finds.orders = (0,) * len(zone)
        _look_at_all(views, block, finds, clock)
        endless = _goes_round(views, finds)
        if finds.kinds[Kind.HUGETLB] and look.pins:
            rounds = _look_for_huge(views, block, finds)
            endless |= rounds and not (finds.blocked[Code.UNMOVABLE] or finds.blocked[Code.CMA])
    evidence = _with_owners(look, finds, clock) if look.pins else finds.evidence
    leaf = _leaf(look, block, len(views.own_memmap) * look.page_size, finds)
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
        buddies=Buddies(finds.orders, zone) if finds.orders else None,
    )


def counted(look: Look, number: int, span: Range) -> Survey | None:
    """The survey of a block by what our driver counts of it; None where that does not say all that there is: it is not
    all in ZONE_MOVABLE, something speaks against it or may hold a page of it, there are bad pages somewhere, or nobody
    counts."""
    count = look.count(range(span.start // look.page_size, span.end // look.page_size))
    if count is None or not count.movable or count.held or not count.kinds.keys() <= _CLEAR or look.bad:
        return None
    block = Block(number, span, BlockState.ONLINE, (Zone.MOVABLE,), count.node)
    if _may_be_lent(look, block):
        return None
    whole, zone = look.ram.covers(span), look.buddies(count.node, Zone.MOVABLE)
    finds = _Finds(unseen=set() if whole is not None else {"holes"})
    leaf = _leaf(look, block, 0, finds)
    return Survey(
        number,
        {kind: count.kinds[kind] for kind in Kind if kind in count.kinds},
        unknown=tuple(sorted(finds.unseen)),
        boot=look.ram.at_boot(span),
        holes=whole is False,
        leaf=leaf,
        buddies=Buddies(count.free[: len(zone)], zone) if zone else None,
    )


def page_by_page(look: Look, block: Block) -> Pages:
    """One look at every page of the block. Kinds are ``unknown`` where the kernel does not show them to us."""
    kinds, pins, single = bytearray(), list[int](), list[tuple[int, int]]()
    views = Views(look, block)
    span = views.span
    if block.state is BlockState.OFFLINE or views.source is None:
        all_are = Kind.UNKNOWN if block.state is not BlockState.OFFLINE else Kind.HOLE
        return Pages(block.number, ((all_are, len(span)),))
    if look.tree.running:
        _drain()
    for part in _chunks(span):
        seen = views.sample(part)
        kinds += seen.kinds
        pins += [part[index] for index in planes.indices(planes.number(seen.pins or b""), len(part))]
        single += views.single_slabs(seen)
    runs = tuple((KINDS[code], count) for code, count in planes.runs(kinds))
    areas = _cma_areas(look) if _may_be_lent(look, block) else ()
    lent = [range(max(area.start, span.start), min(area.stop, span.stop)) for area in areas]
    areas_inside = tuple((part.start, len(part)) for part in lent if part)
    return Pages(block.number, runs, tuple(pins), areas_inside, tuple(single))


def _chunks(span: range) -> Iterator[range]:
    return (span[at : at + CHUNK] for at in range(0, len(span), CHUNK))


def _leaf(look: Look, block: Block, own: int, finds: _Finds) -> str:
    """The map with a leaf across an edge of what leaves; its own memmap, ``own`` bytes, stays. Needs no look for boot
    memory, which is refused before, by the same notifier."""
    if kernels.arch(look.ram.arch).boot_memory_leaves is not False or look.ram.at_boot(block.range):
        return ""
    if look.kernel is None or not look.kernel.vetoes_leaf:
        return ""
    leaves = Leaves.open(look.tree)
    cut = None
    if leaves is not None:
        cut = leaves.cut_by(Range(block.range.start + own, block.range.end))
        leaves.close()
    if cut is None:
        finds.unseen.add("leaf")
    return cut or ""


def _has_gaps(block: Block, finds: _Finds) -> bool:
    return block.state is not BlockState.OFFLINE and finds.kinds[Kind.HOLE] > 0


def _look_at_all(views: Views, block: Block, finds: _Finds, clock: Clock) -> None:
    why = _WHY_MOVABLE if block.valid_zones[:1] == (Zone.MOVABLE,) else _WHY
    for part in _chunks(views.span):
        seen = views.sample(part)
        _look_again(views, seen, why, clock)
        _collect(views, seen, finds, why)
        _collect_free(seen, finds)
    _look_for_cma(views, block, finds)


def _look_again(views: Views, seen: Sample, why: Mapping[Kind, Code], clock: Clock) -> None:
    """Look once more at pages that speak against their block: they count as pinned, or the kernel's, when two samples
    say so. Flags and reference counts are read one after the other, and a page that was allocated in between has a
    reference but had no flags yet. No folio that moves crosses a multiple of its largest size."""
    doubts = pages.mask_of(seen.kinds, {Kind.KERNEL}) if Kind.KERNEL in why and seen.pins is not None else 0
    against = doubts | planes.number(seen.pins or b"")
    if against:
        clock.sleep(SETTLE)
        if views.look.tree.running and 1 in (seen.pins or b""):
            _drain()
        folio = views.look.page_size // _LEAF_ENTRY
        for part in planes.parts(against, len(seen.span), folio):
            seen.correct(doubts, views.sample(seen.span[part.start : part.stop]))


def _collect(views: Views, seen: Sample, finds: _Finds, why: Mapping[Kind, Code]) -> None:
    """Count the pages by kind, and those that can't move."""
    kinds, pins, span, own = seen.kinds, seen.pins, seen.span, views.own(seen.span)
    for code, kind in enumerate(KINDS):
        if code in kinds:
            count = kinds.count(code)
            finds.kinds[kind] += count
            holding = count - kinds.count(code, 0, own) if kind in why else 0
            if holding:
                finds.add(why[kind], holding, ((span[at], kind) for at in _places(kinds, code, own)))
    if _BALLOON in kinds and views.offlined is None:
        finds.unseen.add("balloon")
    if pins is None:
        finds.unseen.add("pins")
    elif 1 in pins:
        finds.add(Code.PINNED, pins.count(1), ((span[at], KINDS[kinds[at]]) for at in _places(pins, 1)))


def _collect_free(seen: Sample, finds: _Finds) -> None:
    """Count the free blocks by order, if the zone's orders are known."""
    if finds.orders:
        found = planes.buddies(pages.are(seen.kinds, {Kind.FREE}), len(finds.orders) - 1)
        finds.orders = tuple(map(sum, zip(finds.orders, found, strict=True)))


def _goes_round(views: Views, finds: _Finds) -> bool:
    """True if what can't move is slabs alone and isolation passes over all of them (kernels.py, ``frozen_slab``)."""
    slabs = finds.kinds[Kind.SLAB]
    if not slabs or finds.blocked[Code.UNMOVABLE] != slabs or finds.blocked[Code.CMA]:
        return False
    if views.refs(views.span[:1]) is None:
        return False
    return all(map(views.passes_slabs, _chunks(views.span)))


def _places(codes: bytearray, code: int, start: int = 0) -> Iterator[int]:
    """Where that code is, from ``start`` on."""
    at = codes.find(code, start)
    while at >= 0:
        yield at
        at = codes.find(code, at + 1)


def _drain() -> None:
    from hotbank.host.batches import drain  # most surveys see no pin, and ctypes takes its time

    drain()


def _look_for_huge(views: Views, block: Block, finds: _Finds) -> bool:
    """Huge pages in use. Gigantic ones without a free one that could take their place can't move; True if there are
    any that would only change places in the block."""
    look, tree, page_size = views.look, views.look.tree, views.look.page_size

    def free(pages_of_one: int, idle: int) -> int | None:
        size, above = pages_of_one * page_size, pages_of_one > gigantic
        return free_elsewhere(tree, size, block.node, idle, gigantic=above)

    found = found_in(tree, views.flags, views.span, page_size)
    gigantic = kernels.arch(look.ram.arch).largest_buddy(page_size)
    pools = list(in_use(found, lambda one: _used(views, one), free, gigantic))
    finds.huge, rounds = tuple(huge for huge, _ in pools), False
    returns = look.kernel is not None and not look.kernel.spares_left_huge_pages
    for huge, idle in pools:
        back = returns and goes_round(tree, huge.pages * page_size, block.node, len(huge.first), idle)
        rounds |= back
        if huge.gigantic and huge.free is None:
            finds.unseen.add("huge")
        elif back or (huge.gigantic and len(huge.first) > (huge.free or 0)):
            finds.add(Code.HUGETLB, huge.inside, ((first, Kind.HUGETLB) for first in huge.first))
    return rounds


def _used(views: Views, huge: Found) -> bool:
    """False for a free page of the pool: nobody refers to it. Where counts can't be seen it is taken to be used."""
    refs = views.refs(range(huge.first, huge.first + 1))
    return refs is None or refs.signed(0) > 0


def _look_for_cma(views: Views, block: Block, finds: _Finds) -> None:
    """CMA areas, which page flags do not show. Where not all of them could be located, ``cma`` is unseen."""
    lent = views.look.lent
    if not _may_be_lent(views.look, block):
        return
    areas = list(_cma_areas(views.look))
    for area in areas:
        inside = range(max(area.start, views.span.start), min(area.stop, views.span.stop))
        if inside:
            kind = pages.kind_of(views.flags(inside[:1]).at(0))
            finds.add(Code.CMA, len(inside), ((pfn, kind) for pfn in inside))
    concerned = any(zone in block.valid_zones[:1] and block.node in (None, node) for node, zone, _ in lent)
    if concerned and sum(map(len, areas)) < sum(count for _, _, count in lent):
        finds.unseen.add("cma")


def _may_be_lent(look: Look, block: Block) -> bool:
    """False for a block of one zone that lends nothing: then nobody need look for where the areas are, which takes a
    whole device tree to be read."""
    return any(block.node in (None, node) and block.zone in (None, zone) for node, zone, _ in look.lent)


def _cma_areas(look: Look) -> Iterator[range]:
    """By debugfs (CONFIG_CMA_DEBUGFS) all of them, else those that the device tree puts in a fixed place."""
    tree = look.tree
    for name in tree.names(names.CMA):
        base = tree.value(f"{names.CMA}/{name}/base_pfn", cma.BASE_PFN)
        count = tree.value(f"{names.CMA}/{name}/count", cma.COUNT)
        if base is not None and count is not None:
            yield range(base, base + count)
    if not tree.names(names.CMA):
        for part in _lent_by_device_tree(tree):
            yield range(part.start // look.page_size, part.end // look.page_size)


def _lent_by_device_tree(tree: Tree) -> Iterator[Range]:
    from hotbank.firmware import memory_map  # only machines with CMA pages need it

    try:
        told = memory_map(tree.read_bytes("sys/firmware/fdt") or b"")
    except FormatError:
        return
    yield from (reserved.range for reserved in told.reserved if reserved.reusable)


def _with_owners(look: Look, finds: _Finds, clock: Clock) -> tuple[Evidence, ...]:
    """The evidence with the processes that map pinned pages and the cgroups that pay, as far as time allows."""
    evidence = finds.evidence
    deadline = clock.now() + OWNERS_BUDGET

    def out_of_time() -> bool:
        return clock.now() >= deadline

    payers = _payers(look, [e.pfn for e in evidence])
    paths = owners.cgroups(look.tree, set(payers.values()), out_of_time) if payers else {}
    mapped = {e.pfn for e in evidence if e.why is Code.PINNED}
    found = owners.mappers(look.tree, mapped, look.page_size, out_of_time) if mapped else {}
    if mapped - found.keys():
        finds.unseen.add("owners")
    return tuple(_owned(e, found.get(e.pfn), paths.get(payers.get(e.pfn, 0))) for e in evidence)


def _payers(look: Look, pfns: Sequence[int]) -> dict[int, int]:
    """The inode of the cgroup that pays for each, as far as one does. Neighbours are asked about together."""
    found = dict[int, int]()
    for part in _neighbours(pfns):
        if look.cgroups is not None:
            found |= zip(part, words(look.cgroups, part).all(), strict=True)
    return {pfn: inode for pfn, inode in found.items() if inode not in (0, pages.NOPAGE)}


def _neighbours(pfns: Iterable[int]) -> Iterator[range]:
    for _, run in groupby(enumerate(sorted(pfns)), key=lambda place: place[1] - place[0]):
        found = [pfn for _, pfn in run]
        yield range(found[0], found[-1] + 1)


def _owned(evidence: Evidence, mapper: Owner | None, cgroup: str | None) -> Evidence:
    if mapper is None and cgroup is None:
        return evidence
    return replace(evidence, owner=replace(mapper or Owner(), cgroup=cgroup))
