# SPDX-License-Identifier: Apache-2.0
"""Room: what must move when blocks leave, and what has room for it. One arithmetic for verdict, choice, transaction and
what an offline must leave free. Pure functions of zones and surveys; everything in pages.

Where several nodes have memory, pages that leave a node go to the others alone, in all kernels of the table: their own
is no longer asked (mm/memory_hotplug.c, ``do_migrate_range``), and nobody reclaims on it either.

A kernel moves pages until a zone's free pages are down to its min watermark and to what it keeps for others
(``capacity``; mm/page_alloc.c, ``__zone_watermark_ok``), dropping clean page cache on the way (mm/vmscan.c, for
``__GFP_RETRY_MAYFAIL``). There its own next allocation wakes the OOM killer. So what hotbank begins without force stops
where the kernel's own zones still have their high watermark free (``room``), and the difference is what the machine is
told to keep meanwhile (``spare``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hotbank.machine import Block, Buddies, HugePages, NodeStatus, Snapshot, Survey, ZoneInfo
from hotbank.memory import BlockState, Kind, Zone

KERNEL_ZONES = frozenset({Zone.DMA, Zone.DMA32, Zone.NORMAL})
HIGH_ZONES = frozenset({Zone.HIGHMEM, Zone.MOVABLE})


@dataclass(frozen=True, slots=True)
class Leaving:
    """What one block of ``pages`` pages takes along, and from which zone and node; None: unknown.

    ``to_move``: pages that migration carries. ``must_fit``: those that need a place elsewhere on an only node; clean
    page cache needs none there, for where there is no room it is dropped. ``free`` and ``clean``: what its zone loses
    of its free pages and of its clean page cache. ``huge``: huge pages among those that move. ``unseen``: pages that do
    not show what they hold, and may have to move too. ``buddies``: in what pieces the free pages are, here and in the
    zone; None: unknown. ``drops``: its clean page cache can be dropped before, which else has to move as well where
    several nodes have memory.
    """

    zone: str | None
    node: int | None = None
    pages: int = 0
    to_move: int = 0
    must_fit: int = 0
    free: int = 0
    clean: int = 0
    huge: tuple[HugePages, ...] = ()
    unseen: int = 0
    buddies: Buddies | None = None
    drops: bool = False

    @property
    def may_move(self) -> int:
        """Pages to move, if every page that does not show what it holds is one."""
        return self.to_move + self.unseen

    @classmethod
    def of(cls, block: Block, survey: Survey) -> Leaving:
        """What the survey of an online block says.

        Page cache of which nobody knows whether it is clean counts as dirty: it needs a place. If it is clean after
        all, the zone loses as much of what it could drop, which is no more than was asked for.
        """
        pages, free, clean = sum(survey.kinds.values()), survey.kinds.get(Kind.FREE, 0), survey.clean or 0
        unseen, fit = survey.kinds.get(Kind.UNKNOWN, 0), survey.to_move - clean
        return cls(block.zone, block.node, pages, survey.to_move, fit, free, clean, survey.huge, unseen, survey.buddies)

    @property
    def whole(self) -> Leaving:
        """The same block as if nobody had looked at it: each of its pages may need a place, which is never less than
        what they do need and what its zone loses of its free ones."""
        return Leaving(self.zone, self.node, self.pages, self.pages, self.pages)

    def lies_in(self, zone: ZoneInfo) -> bool:
        """True if the block is in the zone, as far as its node is known."""
        return self.zone == zone.zone and self.node in (None, zone.node)


@dataclass(frozen=True, slots=True)
class Bound:
    """Where the pages of several blocks may all go. ``kernel``: some come from a kernel zone; ``high``: some do not.
    ``away``: the node that some of them leave for another; None where only one has memory.

    Pages of a kernel zone go to kernel zones only (mm/migrate.c, ``alloc_migration_target``); the others go anywhere,
    and a kernel zone keeps more from them. What holds for any page of the blocks is taken to hold for all: so a set of
    blocks that has no room has none with more blocks in it.
    """

    kernel: bool
    high: bool
    away: int | None = None

    @classmethod
    def of(cls, leaving: Iterable[Leaving], away: int | None = None) -> Bound:
        """A block whose zone is not known counts as one of a kernel zone."""
        high = {one.zone in HIGH_ZONES for one in leaving}
        return cls(False in high, True in high, away)

    def takes(self, zone: ZoneInfo) -> bool:
        """True if all the pages may go to the zone."""
        there = self.away is None or zone.node != self.away
        return there and (zone.zone in KERNEL_ZONES or (zone.zone in HIGH_ZONES and not self.kernel))

    def reserve(self, zone: ZoneInfo) -> int:
        """Free pages that the zone keeps from them, beyond its watermark (``lowmem_reserve``)."""
        return max(zone.reserve_normal if self.kernel else 0, zone.reserve_movable if self.high else 0)


@dataclass(frozen=True, slots=True)
class ZoneRoom:
    """One zone's part of the room: ``max(0, above - free that leaves + max(0, clean - clean that leaves))``.

    ``above``: free pages above what has to stay, less than 0 where some are missing. ``clean``: page cache that reclaim
    could drop.
    """

    above: int
    clean: int

    def left(self, free: int = 0, clean: int = 0) -> int:
        """Pages that fit once so many free ones and so much clean cache have left."""
        return max(0, self.above - free + max(0, self.clean - clean))

    def ways(self, free: Sequence[int], clean: Sequence[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """``left`` for any choice among several that take ``free`` and ``clean``, as linear terms: what there is, and
        what each of them takes of it.

        For every choice ``left`` is the greatest of the terms, and each term that can be is among them.
        """
        nothing = (0,) * len(free)
        if not any(free) and not any(clean):
            yield self.left(), nothing
            return
        yield self.above + self.clean, tuple(f + c for f, c in zip(free, clean, strict=True))
        rest = self.clean - sum(clean)
        if rest < 0:
            yield self.above, tuple(free)
        if self.above - sum(free) + max(0, rest) < 0:
            yield 0, nothing


def leaving_of(snapshot: Snapshot, surveys: Mapping[int, Survey]) -> tuple[Leaving, ...]:
    """What the surveyed blocks take along when they leave together."""
    drops = {node.number for node in vacant(snapshot, surveys) if node.drops}
    blocks = ((snapshot.block(number), survey) for number, survey in surveys.items())
    found = (Leaving.of(block, survey) for block, survey in blocks if block is not None)
    return tuple(replace(one, drops=True) if one.node in drops else one for one in found)


def vacant(snapshot: Snapshot, leaving: Collection[int]) -> tuple[NodeStatus, ...]:
    """The nodes that have no memory once these blocks are gone; nothing where no other would have any."""
    if not snapshot.nodes:
        return ()
    blocks = [block for number in leaving if (block := snapshot.block(number)) is not None]
    going = Counter(block.node for block in blocks if block.state is not BlockState.OFFLINE)
    staying = {node for node, count in snapshot.blocks_in_use.items() if count > going[node]}
    if not staying & {node.number for node in snapshot.nodes}:
        return ()
    left = {block.node for block in blocks}
    return tuple(node for node in snapshot.nodes if node.number in left - staying)


def several(zones: Iterable[ZoneInfo]) -> frozenset[int]:
    """The nodes that have memory, where there are several; empty where there is one."""
    nodes = frozenset(zone.node for zone in zones if zone.managed)
    return nodes if len(nodes) > 1 else frozenset()


def must_fit(zones: Iterable[ZoneInfo], leaving: Sequence[Leaving]) -> int:
    """Pages that need a place elsewhere: the number that is held against ``room``. Huge pages take free ones of their
    pool first."""
    return places(zones, leaving) - sum(pool.placed for pool in pools(leaving))


def places(zones: Iterable[ZoneInfo], leaving: Sequence[Leaving]) -> int:
    """The same without regard to pools. Clean page cache is dropped on an only node; on one of several it has to move
    like all the others, unless it is dropped before."""
    apart = bool(several(zones))
    return sum(one.to_move if apart and not one.drops else one.must_fit for one in leaving)


def bounds(zones: Iterable[ZoneInfo], leaving: Sequence[Leaving]) -> tuple[Bound, ...]:
    """Where pages of the blocks may go, for each node that they leave for others; one where only one has memory.

    All the pages must fit under each: what one node takes in may have to leave that one as well.
    """
    nodes, left = several(zones), {one.node for one in leaving}
    away = nodes if None in left else nodes & left
    return tuple(Bound.of(leaving, node) for node in sorted(away)) or (Bound.of(leaving),)


@dataclass(frozen=True, slots=True)
class Pool:
    """Huge pages of one size that leave, each counted once. ``pages``, ``inside``, ``free``, ``gigantic`` as in
    HugePages."""

    pages: int
    first: frozenset[int]
    inside: int
    free: int | None
    gigantic: bool

    @property
    def placed(self) -> int:
        """Ordinary pages in those that the pool has a place for."""
        return min(self.inside, min(len(self.first), self.free or 0) * self.pages)

    @property
    def fresh(self) -> int:
        """Huge pages that need a new one, of contiguous memory; a gigantic one never gets it."""
        return max(0, len(self.first) - (self.free or 0))


def pools(leaving: Iterable[Leaving]) -> tuple[Pool, ...]:
    """The huge pages that leave, by size. A pool has no more free pages than the block that sees fewest can use."""
    by_size = dict[int, list[HugePages]]()
    for one in leaving:
        for huge in one.huge:
            by_size.setdefault(huge.pages, []).append(huge)
    return tuple(_pool(size, found) for size, found in sorted(by_size.items()))


def _pool(pages: int, found: Sequence[HugePages]) -> Pool:
    free = [huge.free for huge in found if huge.free is not None]
    return Pool(
        pages,
        frozenset(first for huge in found for first in huge.first),
        sum(huge.inside for huge in found),
        min(free) if len(free) == len(found) else None,
        any(huge.gigantic for huge in found),
    )


def pieces(zones: Sequence[ZoneInfo], leaving: Sequence[Leaving], pages: int) -> int:
    """Huge pages of that many pages that fit into what stays, if memory can be compacted as far as it goes."""
    return _narrowest(zones, leaving, lambda zone, bound: _left(zone, zone_room(zone, bound), leaving) // pages)


def room(zones: Sequence[ZoneInfo], leaving: Sequence[Leaving]) -> int:
    """Pages that what stays can take while the kernel keeps what it needs for itself."""
    return _narrowest(zones, leaving, lambda zone, bound: _left(zone, zone_room(zone, bound), leaving))


def capacity(zones: Sequence[ZoneInfo], leaving: Sequence[Leaving]) -> int:
    """Pages that a kernel would put into what stays, down to its last."""
    return _narrowest(zones, leaving, lambda zone, bound: _left(zone, _zone_capacity(zone, bound), leaving))


def _narrowest(zones: Sequence[ZoneInfo], leaving: Sequence[Leaving], part: Callable[[ZoneInfo, Bound], int]) -> int:
    """The sum over the zones that a bound opens, under the bound where it is least."""
    return min(sum(part(zone, bound) for zone in zones if bound.takes(zone)) for bound in bounds(zones, leaving))


def spare(zones: Sequence[ZoneInfo], leaving: Sequence[Leaving]) -> int:
    """Pages of the capacity that must be left when the blocks are out: ``Machine.offline``'s argument."""
    return capacity(zones, leaving) - room(zones, leaving)


def starved(zones: Sequence[ZoneInfo], origin: str | None, node: int | None, spare: int) -> bool:
    """True if, while a block of zone ``origin`` on ``node`` goes offline, less is left for its pages than ``spare``.

    Every page that moves takes one of the capacity. Free pages of the block itself are out of the count as soon as it
    is isolated, and its clean cache leaves it page by page, so the capacity comes down to what was promised from above.
    """
    return capacity(zones, (Leaving(origin, node),)) < spare


def zone_room(zone: ZoneInfo, bound: Bound) -> ZoneRoom:
    """What a zone gives of its own as long as the kernel is to have what it needs."""
    return ZoneRoom(zone.free - max(zone.min + bound.reserve(zone), _needs(zone)), zone.reclaimable)


def _zone_capacity(zone: ZoneInfo, bound: Bound) -> ZoneRoom:
    return ZoneRoom(zone.free - zone.min - bound.reserve(zone), zone.reclaimable)


def _needs(zone: ZoneInfo) -> int:
    """Free pages that a zone of the kernel's own must keep: its high watermark, where kswapd is content, of pages that
    the kernel can have, which CMA's and the reserve are not.

    Movable pages take CMA's first as soon as those are more than half of what is free (mm/page_alloc.c, ``__rmqueue``),
    so that in the end no more than half is CMA's. What is left of the reserve may be the same pages.
    """
    if zone.zone not in KERNEL_ZONES:
        return 0
    return zone.high + max(min(zone.cma_free, zone.high), zone.reserve_normal)


def _left(zone: ZoneInfo, own: ZoneRoom, leaving: Iterable[Leaving]) -> int:
    here = [one for one in leaving if one.lies_in(zone)]
    return own.left(sum(one.free for one in here), sum(one.clean for one in here))
