# SPDX-License-Identifier: Apache-2.0
"""From a captured machine to a running allocator: the same blocks, zones and pages, each page somewhere to belong.

What a capture can't tell is filled in on the careful side: page cache counts as dirty beyond what is known to be clean,
movable pages of a kernel's Movable zone whose kind was in transit have to move, every pin lasts. Watermarks are the
captured ones until a block comes or goes; then they follow the rule that comes closest to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from hotbank import kernels
from hotbank.board import Bank, Board, Domain
from hotbank.kernels import Kernel
from hotbank.machine import Block, OnlinePolicy, Snapshot
from hotbank.memory import KERNEL_KINDS, OWNERLESS_KINDS, BlockState, Kind, Pfn, Zone
from hotbank.model.alloc import PageAllocator, WatermarkRules, ZoneState
from hotbank.model.capture import BlockCapture, Capture
from hotbank.model.frames import Frame, Frames, MigrateType
from hotbank.model.geometry import Geometry
from hotbank.model.lru import Handle
from hotbank.model.tasks import Tasks
from hotbank.model.zoning import MemoryBlock, Rules, group_of


def captured_board(snapshot: Snapshot) -> Board:
    """The board that a snapshot tells of; switches of every sort are the model's now."""
    banks = tuple(
        Bank(b.name, b.range, b.movable, b.at_boot, b.route, b.domain, b.node) for b in snapshot.banks if b.range.size
    )
    domains = tuple(
        Domain(d.name, d.states, "none" if d.switch == "none" else "machine", d.interleaved, dram=d.dram)
        for d in snapshot.domains
    )
    name = snapshot.machine.rpartition(":")[2].rpartition("/")[2] or "captured"
    return Board(name, snapshot.arch, snapshot.page_size, snapshot.block_size, banks=banks, domains=domains)


def captured_numbers(board: Board, snapshot: Snapshot) -> tuple[int, ...]:
    """The memory blocks there were, and those that banks would bring."""
    there = {block.number for block in snapshot.blocks}
    return tuple(sorted(there.union(*map(board.blocks, board.banks))))


@dataclass(slots=True)
class _Found:
    """Frames by what they hold, and what is known beside their kind."""

    frames: dict[Kind, list[Frame]] = field(default_factory=dict)
    dirty: list[Frame] = field(default_factory=list)


class Restored:
    """A ``BootSource`` (boot.py) from a capture."""

    def __init__(self, capture: Capture) -> None:
        snapshot = capture.snapshot
        board = captured_board(snapshot)
        numbers = captured_numbers(board, snapshot)
        self._capture, self._snapshot = capture, snapshot
        self.arch, self.auto_online = snapshot.arch, snapshot.auto_online
        row = _kernel(snapshot)
        self.geometry = Geometry(
            numbers, arch=snapshot.arch, page_size=snapshot.page_size, block_size=snapshot.block_size, kernel=row
        )
        self.rules = Rules(
            snapshot.boot_memory_leaves is not False,
            _policy(snapshot),
            high_pfn=next((zone.start_pfn for zone in snapshot.zones if zone.zone == Zone.HIGHMEM), None),
            page_struct=snapshot.memmap_per_page,
            kernel=row,
        )

    def fill(self, allocator: PageAllocator, tasks: Tasks) -> dict[int, MemoryBlock]:
        """Make the zones, put every page where it was, pin what was pinned."""
        zones = [_zone(allocator, info.node, info.zone, info.start_pfn, info.spanned) for info in self._snapshot.zones]
        blocks, found = dict[int, MemoryBlock](), _Found()
        for block, seen in zip(self._snapshot.blocks, self._capture.blocks, strict=True):
            blocks[block.number] = self._block(block, seen, zones)
            if block.state is not BlockState.OFFLINE:
                self._fill(allocator.frames, block, seen, zones, found)
        self._settle_zones(allocator, zones, blocks)
        for kind, frames in found.frames.items():
            single = self._single(kind, frames)
            tasks.adopt(kind, [frame for frame in frames if frame not in single], dirty=found.dirty)
            tasks.adopt(kind, sorted(single), single=True)
        self._pin(allocator.frames, tasks)
        tasks.keep_in_place(self._placeless(allocator.frames))
        return blocks

    def _block(self, block: Block, seen: BlockCapture, zones: Sequence[ZoneState]) -> MemoryBlock:
        bank = next((b for b in self._snapshot.banks if b.range.overlaps(block.range)), None)
        early = seen.boot if seen.boot is not None else bank is None or bank.at_boot
        zone = None if block.state is BlockState.OFFLINE else _named(zones, block)
        state = BlockState.OFFLINE if block.state is BlockState.OFFLINE else BlockState.ONLINE
        group = None if early or bank is None else group_of(bank, self._snapshot.block_size)
        own = 0 if early else self._own_memmap(seen)
        leaf = seen.leaf or ("memmap" if own else "")
        return MemoryBlock(
            block.number, state, block.node or 0, zone, early, group, seen.holes, own_memmap=own, leaf=leaf
        )

    def _single(self, kind: Kind, frames: Sequence[Frame]) -> frozenset[Frame]:
        """Those of the frames that are slabs of a page each."""
        if kind is not Kind.SLAB:
            return frozenset()
        alone = set[int]()
        for block in self._capture.blocks:
            start = self.geometry.frames(block.pages.block)[0]
            first = start - self.geometry.pfn(start)
            for pfn, count in block.pages.single:
                alone.update(range(first + pfn, first + pfn + count))
        return frozenset(frame for frame in frames if frame in alone)

    def _own_memmap(self, seen: BlockCapture) -> int:
        """Whole pageblocks of reserved pages that begin an added block are its own memmap."""
        kind, pages = seen.pages.runs[0]
        whole = pages % (1 << self.geometry.shape.pageblock_order) == 0
        return pages if kind is Kind.RESERVED and whole else 0

    def _fill(
        self, frames: Frames, block: Block, seen: BlockCapture, zones: Sequence[ZoneState], found: _Found
    ) -> None:
        start, _ = self.geometry.frames(block.number)
        pfn = self.geometry.pfn(start)
        self._attach(frames, block, seen, zones)
        zone, at, files = _named(zones, block), int(start), list[Frame]()
        for kind, pages in seen.pages.runs:
            held = Kind.ANON if zone is not None and zone.movable_only and _in_transit(kind) else kind
            for first, last in _attached(frames, at, at + pages):
                _place(frames, held, first, last, found)
                if held is Kind.FILE:
                    files += _all(first, last)
                if held is not Kind.HOLE:
                    owner = zones[frames.zone(first)]
                    owner.grow_present(Pfn(pfn + first - start), Pfn(pfn + last - start))
            at += pages
        found.dirty += files[seen.clean if seen.clean is not None else self._clean_share(block, len(files)) :]

    def _clean_share(self, block: Block, files: int) -> int:
        """How many of a block's file pages are clean, where nobody counted: as many as in its zone on the average."""
        inside = {b.number for b in self._snapshot.blocks if b.valid_zones == block.valid_zones}
        cached = sum(
            pages
            for b in self._capture.blocks
            if b.pages.block in inside
            for kind, pages in b.pages.runs
            if kind is Kind.FILE
        )
        clean = sum(zone.reclaimable for zone in self._snapshot.zones if (zone.zone,) == block.valid_zones)
        return min(files, files * clean // cached) if cached else 0

    def _attach(self, frames: Frames, block: Block, seen: BlockCapture, zones: Sequence[ZoneState]) -> None:
        """Give each pageblock to its zone; one that no zone spans stays outside, as a hole."""
        start, end = self.geometry.frames(block.number)
        size = 1 << self.geometry.shape.pageblock_order
        lent = [range(first, first + pages) for first, pages in seen.pages.cma]
        named = _named(zones, block)
        for frame in range(start, end, size):
            pfn = self.geometry.pfn(Frame(frame))
            zone = named or next((z for z in zones if z.intersects(pfn, Pfn(pfn + size))), None)
            if zone is not None:
                cma = any(part.start < pfn + size and pfn < part.stop for part in lent)
                frames.attach(zone.number, frame, frame + size, MigrateType.CMA if cma else MigrateType.MOVABLE)
                zone.cma += size if cma else 0

    def _settle_zones(
        self, allocator: PageAllocator, zones: Sequence[ZoneState], blocks: dict[int, MemoryBlock]
    ) -> None:
        for zone, info in zip(zones, self._snapshot.zones, strict=True):
            zone.managed = min(zone.present_pages, max(info.managed, allocator.frames.free_pages(zone.number)))
            late = sum(1 for block in blocks.values() if block.zone is zone and not block.early)
            zone.early = max(0, zone.present_pages - late * self.geometry.pages_per_block)
        allocator.watermark_rules = self._closest_rules(allocator, zones)
        for zone, info in zip(zones, self._snapshot.zones, strict=True):
            zone.min, zone.low, zone.high = info.min, info.low, info.high

    def _closest_rules(self, allocator: PageAllocator, zones: Sequence[ZoneState]) -> WatermarkRules:
        def distance(rules: WatermarkRules) -> int:
            allocator.watermark_rules = rules
            allocator.set_watermarks()
            return sum(abs(zone.min - info.min) for zone, info in zip(zones, self._snapshot.zones, strict=True))

        page_size, both = self._snapshot.page_size, (False, True)
        return min((WatermarkRules(page_size, huge, shares) for huge in both for shares in both), key=distance)

    def _pin(self, frames: Frames, tasks: Tasks) -> None:
        for block in self._capture.blocks:
            if block.pages.pinned:
                start = self.geometry.frames(block.pages.block)[0]
                first = self.geometry.pfn(start)
                held = [Handle(frames.owner(start + pfn - first)) for pfn in block.pages.pinned]
                tasks.hold(handle for handle in held if handle)

    def _placeless(self, frames: Frames) -> Iterator[Handle]:
        """Pages of gigantic huge pages that have no free one of their pool to go to."""
        for block in self._capture.blocks:
            start, end = self.geometry.frames(block.pages.block)
            first = self.geometry.pfn(start)
            for huge in block.huge:
                if huge.gigantic and len(huge.first) > (huge.free or 0):
                    inside = (range(max(first, at), min(first + end - start, at + huge.pages)) for at in huge.first)
                    held = (frames.owner(start + pfn - first) for span in inside for pfn in span)
                    yield from (Handle(owner) for owner in held if owner)


def _kernel(snapshot: Snapshot) -> Kernel:
    """The row of the captured release; the usual one where that is unknown, or older than the table."""
    return kernels.row_of(snapshot.release) or kernels.kernel(kernels.DEFAULT)


def _policy(snapshot: Snapshot) -> OnlinePolicy:
    """The captured one. A tag list, which no file shows, switches ``movable_node`` on for its movable banks."""
    tagged = any(bank.movable and bank.at_boot for bank in snapshot.banks)
    arch = kernels.arch(snapshot.arch)
    word = snapshot.policy.movable_node
    return replace(snapshot.policy, movable_node=kernels.movable_node(arch, word=word, marked=tagged))


def _zone(allocator: PageAllocator, node: int, name: str, start: int, spanned: int) -> ZoneState:
    zone = allocator.zone(node, Zone(name))
    zone.start_pfn, zone.spanned = start, spanned
    return zone


def _named(zones: Sequence[ZoneState], block: Block) -> ZoneState | None:
    """The zone that an online block says it is in, None where it reads ``none``."""
    alike = [zone for zone in zones if block.valid_zones[:1] == (zone.name.value,)]
    return next((zone for zone in alike if block.node in (None, zone.node)), alike[0] if alike else None)


def _in_transit(kind: Kind) -> bool:
    return kind in KERNEL_KINDS or kind is Kind.UNKNOWN


def _attached(frames: Frames, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of the frames that lie in one zone each; frames in no zone are left out."""
    size = 1 << frames.shape.pageblock_order
    at = start
    while at < end:
        zone, last = frames.zone(at), at
        while last < end and frames.zone(last) == zone:
            last = min(end, (last | (size - 1)) + 1)
        if zone >= 0:
            yield at, last
        at = last


def _place(frames: Frames, kind: Kind, first: int, last: int, found: _Found) -> None:
    if kind is Kind.FREE:
        frames.release(first, last)
        return
    frames.set_kind(first, last, kind)
    if kind not in OWNERLESS_KINDS:
        found.frames.setdefault(kind, []).extend(_all(first, last))


def _all(first: int, last: int) -> Sequence[Frame]:
    return cast("Sequence[Frame]", range(first, last))
