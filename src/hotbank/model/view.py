# SPDX-License-Identifier: Apache-2.0
"""What can be seen of a model from outside: snapshot, reading, survey, page by page.

Follows what a kernel shows: drivers/base/memory.c, mm/vmstat.c (/proc/zoneinfo), fs/proc/page.c (/proc/kpageflags and
/proc/kpagecount), and the reference counts of /proc/kcore for pins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby

from hotbank.board import Bank
from hotbank.errors import Code, SwitchError
from hotbank.machine import (
    EVIDENCE,
    BankStatus,
    Block,
    Buddies,
    Evidence,
    Migrated,
    NodeStatus,
    Owner,
    Pages,
    Reading,
    Snapshot,
    Survey,
    ZoneInfo,
)
from hotbank.memory import CODE, KINDS, Kind, Power, Range, codes
from hotbank.model.alloc import ZoneState
from hotbank.model.frames import FREE, OFFLINE, UNMOVABLE_CODES, Frame, cma_pageblocks
from hotbank.model.parts import Parts
from hotbank.model.zoning import MemoryBlock

_FILE = codes([Kind.FILE])
_POISONED = codes([Kind.POISONED])

_SLAB = codes([Kind.SLAB])
_zone = lru_cache(maxsize=64)(ZoneInfo)  # most looks find a zone as the one before did
_NOT_USED = (FREE, CODE[Kind.HOLE], CODE[Kind.UNPLUGGED], OFFLINE)


class View:
    """A look at a model; it takes the lock itself. ``kcore``: False where reference counts can't be read, so that
    neither pins nor pages in per-CPU lists can be told."""

    def __init__(self, parts: Parts, *, kcore: bool) -> None:
        self._parts, self.kcore = parts, kcore
        self._frames, self._geometry = parts.frames, parts.geometry

    def snapshot(self) -> Snapshot:
        """Everything at one moment."""
        parts, board = self._parts, self._parts.board
        with parts.lock, parts.hotplug.zoning.counted():
            blocks = {number: self._block(block) for number, block in sorted(parts.hotplug.blocks.items())}
            powers = {domain.name: self._power(domain.name) for domain in board.domains}
            return Snapshot(
                machine=parts.name,
                arch=parts.arch,
                page_size=board.page_size,
                block_size=board.block_size,
                boot_id=parts.boot_id,
                blocks=tuple(blocks.values()),
                zones=tuple(self.zones()),
                banks=tuple(self._bank(bank, blocks, powers) for bank in board.banks),
                domains=tuple(board.status(domain, powers[domain.name]) for domain in board.domains),
                auto_online=parts.auto_online,
                policy=parts.hotplug.zoning.rules.policy,
                boot_memory_leaves=parts.rules.boot_memory_leaves,
                memmap_per_page=parts.rules.page_struct,
                pending=parts.hotplug.pending,
                release=parts.rules.kernel.release,
                nodes=tuple(self._nodes()),
            )

    def reading(self) -> Reading:
        """Free memory and clean cache by zone, pages moved, cache that was read again, slab and page tables. It knows
        no pressure."""
        with self._parts.lock:
            migration = self._parts.hotplug.migration
            moved = Migrated(migration.success, migration.fail)
            now, zones, tasks = self._parts.clock.now(), tuple(self.zones()), self._parts.tasks
            return Reading(now, zones, refaults=tasks.refaults, migrated=moved, kernel=tasks.kernels_own)

    def survey(self, block: int) -> Survey:
        """The kinds of all pages of the block, and which of them stand in the way. Raises KernelError(ENOENT)."""
        with self._parts.lock:
            found = self._parts.hotplug.block(block)
            start, end = self._geometry.frames(block)
            against = self._against(start + found.own_memmap, end)
            files = self._parts.contents.at(self._frames.find(start, end, _FILE))
            return Survey(
                block=block,
                kinds=self._kinds(start, end),
                blocking=tuple(self._evidence(against)),
                blocked=sum(len(frames) for frames in against.values()),
                unknown=() if self.kcore else ("pins",),
                boot=found.early,
                holes=found.holes,
                clean=sum(map(self._parts.tasks.is_clean, files)),
                endless=self.kcore and self._goes_round(against),
                leaf=found.leaf if self._parts.hotplug.vetoes_leaf(found) else "",
                buddies=None if found.zone is None else self._pieces(found.zone, start, end),
            )

    def pages(self, block: int) -> Pages:
        """What every page of the block is. Raises KernelError(ENOENT)."""
        with self._parts.lock:
            self._parts.hotplug.block(block)
            start, end = self._geometry.frames(block)
            kinds = self._frames.holds(range(start, end))[0]
            runs = tuple((kind, sum(1 for _ in run)) for kind, run in groupby(map(_kind, kinds)))
            cma = map(self._geometry.pfn, cma_pageblocks(self._frames, start, end))
            pinned = map(self._geometry.pfn, self._pinned(start, end))
            single = tuple((self._geometry.pfn(frame), 1) for frame in self._single_slabs(start, end))
            lent = tuple((pfn, self._frames.shape.pageblock) for pfn in cma)
            return Pages(block, runs, tuple(pinned), lent, single)

    # Parts of a snapshot

    def _block(self, block: MemoryBlock) -> Block:
        start, end = self._geometry.frames(block.number)
        size, counts = self._parts.board.block_size, self._frames.count(start, end)
        used = sum(pages for code, pages in counts.items() if code not in _NOT_USED)
        return Block(
            number=block.number,
            range=Range.sized(block.number * size, size),
            state=block.state,
            valid_zones=self._parts.hotplug.valid_zones(block),
            node=block.node,
            used=used - len(self._parts.allocator.pcp.within(start, end)),
        )

    def zones(self) -> Iterator[ZoneInfo]:
        """/proc/zoneinfo, by node and address. The caller holds the lock."""
        clean = self._parts.tasks.clean_pages()
        for zone in sorted(self._parts.allocator.zones, key=lambda zone: (zone.node, zone.start_pfn)):
            if zone.spanned:
                size = zone.start_pfn, zone.spanned, zone.present_pages, zone.managed
                counts = self._frames.free_pages(zone.number), zone.min, zone.low, zone.high
                cma_free, reclaimable = self._frames.free_cma(zone.number), clean.get(zone.number, 0)
                yield _zone(zone.node, zone.name.value, *size, *counts, cma_free, reclaimable)

    def _nodes(self) -> Iterator[NodeStatus]:
        with_memory = {zone.node for zone in self._parts.allocator.zones if zone.managed}
        for number in sorted(with_memory) if len(with_memory) > 1 else ():
            yield NodeStatus(number, drops=self._parts.rules.kernel.reclaims_nodes, moves=True)

    def _bank(self, bank: Bank, blocks: Mapping[int, Block], powers: Mapping[str, Power]) -> BankStatus:
        return BankStatus.of(
            bank.name,
            bank.range,
            (blocks[number] for number in self._parts.board.blocks(bank) if number in blocks),
            powers[bank.domain] if bank.domain else Power.ON,
            stuck=bank.name in self._parts.stuck,
            at_boot=bank.at_boot,
            movable=bank.movable,
            route=bank.route,
            domain=bank.domain,
            node=bank.node,
        )

    def _power(self, domain: str) -> Power:
        try:
            return self._parts.power_of(domain)
        except SwitchError:
            return Power.UNKNOWN

    # Parts of a survey

    def _pieces(self, zone: ZoneState, start: int, end: int) -> Buddies:
        """Free blocks of the frames, and the zone's line of /proc/buddyinfo (mm/vmstat.c, ``frag_show_print``)."""
        size, free = self._geometry.page_size, self._frames.free_by_order
        memory = (Range(first * size, last * size) for first, last in zone.present)
        runs = (free(*run) for part in memory for run in self._geometry.runs(part))
        return Buddies(free(start, end), tuple(map(sum, zip(*runs, strict=True))))

    def _kinds(self, start: int, end: int) -> dict[Kind, int]:
        """Pages in per-CPU lists say nothing of themselves; where counts can be read, nobody refers to them: free."""
        kinds = Counter[Kind]()
        for code, pages in sorted(self._frames.count(start, end).items()):
            kinds[_kind(code)] += pages
        if listed := len(self._listed(start, end)):
            kinds[Kind.FREE] += listed
            kinds[Kind.UNKNOWN] -= listed
        return dict(kinds)

    def _listed(self, start: int, end: int) -> set[Frame]:
        return self._parts.allocator.pcp.within(start, end) if self.kcore else set()

    def _pinned(self, start: int, end: int) -> list[Frame]:
        return self._parts.contents.pinned_for_long(start, end) if self.kcore else []

    def _goes_round(self, against: Mapping[Code, Sequence[Frame]]) -> bool:
        """True if isolation passes over all that can't move."""
        stays = against.get(Code.UNMOVABLE, ())
        return bool(stays) and Code.CMA not in against and all(map(self._parts.hotplug.passes, stays))

    def _single_slabs(self, start: int, end: int) -> Iterator[Frame]:
        for frame in self._frames.find(start, end, _SLAB):
            if any(self._parts.contents.holder(handle).single for handle in self._parts.contents.at([frame])):
                yield frame

    def _placeless(self, start: int, end: int) -> list[Frame]:
        frames = map(self._parts.contents.frame, self._parts.tasks.placeless)
        return sorted(frame for frame in frames if start <= frame < end)

    def _against(self, start: int, end: int) -> dict[Code, list[Frame]]:
        """Frames that speak against the block's leaving, by reason, in the order in which the kernel meets them."""
        listed = self._listed(start, end)
        found = {
            Code.UNMOVABLE: [f for f in self._frames.find(start, end, UNMOVABLE_CODES) if f not in listed],
            Code.CMA: cma_pageblocks(self._frames, start, end),
            Code.HUGETLB: self._placeless(start, end),
            Code.PINNED: self._pinned(start, end),
            Code.POISONED: self._frames.find(start, end, _POISONED),
        }
        return {why: frames for why, frames in found.items() if frames}

    def _evidence(self, against: dict[Code, list[Frame]]) -> Iterator[Evidence]:
        """The first pages of each reason, so that no reason hides behind another."""
        for why, frames in against.items():
            for frame in frames[: EVIDENCE // len(against)]:
                holder = next(map(self._parts.contents.holder, self._parts.contents.at([frame])), None)
                owner = Owner(holder.pid, holder.comm) if holder else None
                yield Evidence(self._geometry.pfn(frame), _kind(self._frames.kind(frame)), why, owner)


def _kind(code: int) -> Kind:
    return Kind.HOLE if code == OFFLINE else KINDS[code]
