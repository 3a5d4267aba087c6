# SPDX-License-Identifier: Apache-2.0
"""``Model``: the simulated kernel and its DRAM as a Machine, and the system calls that a workload makes on it.

Primitives do what hardware and kernel do, sensible or not: ``set_power(off)`` destroys what the bank holds even while
the kernel uses it, and ``check_contents`` then finds the loss. Power switches of every sort are played by the model.
"""

from __future__ import annotations

import errno
import random
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import groupby

from hotbank import kernels
from hotbank.board import Bank, Board, Domain
from hotbank.errors import CancelPending, Code, KernelError, SwitchError
from hotbank.firmware import describe, memory_map
from hotbank.machine import (
    EVIDENCE,
    Ability,
    BankStatus,
    Block,
    DomainStatus,
    Evidence,
    Migrated,
    Owner,
    Pages,
    Reading,
    Snapshot,
    Survey,
    ZoneInfo,
)
from hotbank.memory import CODE, KINDS, BlockState, KernelState, Kind, Online, Power, Range, codes, merge
from hotbank.model.alloc import GFP_BALLOON, PageAllocator
from hotbank.model.backend import check_room, new_frames
from hotbank.model.boot import BootSource, boot_memory
from hotbank.model.capture import Capture
from hotbank.model.clock import Costs, ModelClock, SimClock
from hotbank.model.folios import Folios
from hotbank.model.frames import DARK, FREE, OFFLINE, UNMOVABLE_CODES, Frames, MigrateType
from hotbank.model.hotplug import MemoryHotplug
from hotbank.model.resume import Restored, captured_board
from hotbank.model.tasks import Tasks
from hotbank.model.validate import validate
from hotbank.model.zoning import POLICIES, MemoryBlock, group_of
from hotbank.room import starved
from hotbank.routes import route

_UNPLUG_LIMIT = 5.0  # seconds that virtio-mem gives a block; its allocations give up by themselves
_FILE = codes([Kind.FILE])
_POISONED = codes([Kind.POISONED])
_NOT_USED = (FREE, CODE[Kind.HOLE], OFFLINE)


class Model:
    """A running simulated machine; make one with ``boot``, ``from_description`` or ``restore``.

    ``tasks`` is everything that uses memory, ``hotplug`` the memory blocks, ``allocator`` the zones, ``frames`` the
    page frames. ``auto_online``: the content of ``auto_online_blocks``. ``kcore``: False hides pins from surveys, as
    on a machine whose reference counts can't be read. ``switch_faults``: domain → ``fails`` or ``lies``.
    ``backend``: who keeps the frames (backend.py). Public methods may be called from any thread.
    """

    def __init__(
        self,
        board: Board,
        start: BootSource,
        *,
        clock: ModelClock | None = None,
        costs: Costs | None = None,
        seed: int = 0,
        boot_id: str | None = None,
        kcore: bool = True,
        backend: str | None = None,
    ) -> None:
        self.board, self.arch = board, start.arch
        self.kcore = kcore
        self.auto_online = start.auto_online
        self.switch_faults: dict[str, str] = {}
        self.costs = costs or Costs()
        self._clock: ModelClock = clock or SimClock()
        self._lock = threading.RLock()
        self._rules, self._geometry = start.rules, start.geometry
        self._boot_id = boot_id or str(uuid.UUID(int=random.Random(seed).getrandbits(128), version=4))
        self._power = {domain.name: Power.ON for domain in board.domains}
        self._stuck: set[str] = set()
        self.frames: Frames = new_frames(start.geometry.shape, backend)
        self.allocator = PageAllocator(self.frames)
        self.folios = Folios(self.frames)
        self.tasks = Tasks(self.allocator, self.folios)
        self.hotplug = MemoryHotplug(
            start.geometry,
            self.allocator,
            self.folios,
            self.tasks,
            start.rules,
            clock=self._clock,
            costs=self.costs,
            lock=self._lock,
        )
        kept = (board.blocks(bank) for bank in board.banks if route(bank.route).movable_only)
        self.hotplug.kept_movable = frozenset(number for numbers in kept for number in numbers)
        self.hotplug.blocks.update(start.fill(self.allocator, self.tasks))

    @classmethod
    def boot(
        cls,
        board: Board,
        *,
        description: bytes | None = None,
        cmdline: str | None = None,
        kernel: str = kernels.DEFAULT,
        clock: ModelClock | None = None,
        costs: Costs | None = None,
        seed: int = 0,
        boot_id: str | None = None,
        kcore: bool = True,
        backend: str | None = None,
    ) -> Model:
        """Boot a board from what its firmware says; ``description`` None: what the board file would have it say.

        ``cmdline`` replaces the description's own. Raises FormatError, BoardError, Refusal.
        """
        data = describe(board, _form(board)).data if description is None else description
        firmware = memory_map(data)
        line = cmdline if cmdline is not None else firmware.cmdline or board.cmdline
        return cls(
            board,
            boot_memory(board, firmware, line, kernel, backend),
            clock=clock,
            costs=costs,
            seed=seed,
            boot_id=boot_id,
            kcore=kcore,
            backend=backend,
        )

    @classmethod
    def from_description(
        cls,
        data: bytes,
        cmdline: str | None = None,
        *,
        arch: str = kernels.DEFAULT_ARCH,
        block_size: int = 128 << 20,
        page_size: int = 4096,
        kernel: str = kernels.DEFAULT,
        name: str = "captured",
        clock: ModelClock | None = None,
        seed: int = 0,
        backend: str | None = None,
    ) -> Model:
        """Boot from a description alone: each memory block that comes up is a bank ``memoryN`` without a route."""
        firmware = memory_map(data)
        line = cmdline if cmdline is not None else firmware.cmdline or ""
        bare = Board(name, arch, page_size, block_size)
        blocks = boot_memory(bare, firmware, line, kernel).known.layout.blocks
        banks = tuple(Bank(f"memory{b.block}", Range.sized(b.block * block_size, block_size)) for b in blocks)
        board = Board(name, arch, page_size, block_size, banks=banks)
        return cls(board, boot_memory(board, firmware, line, kernel, backend), clock=clock, seed=seed, backend=backend)

    @classmethod
    def restore(
        cls,
        capture: Capture,
        *,
        clock: ModelClock | None = None,
        costs: Costs | None = None,
        backend: str | None = None,
    ) -> Model:
        """A model in the state of a captured machine (capture.py): the same blocks, zones, banks, power and pages."""
        snapshot = capture.snapshot
        board = captured_board(snapshot)
        places = merge([*(block.range for block in snapshot.blocks), *(bank.range for bank in board.banks)])
        check_room(sum(place.size for place in places) // snapshot.page_size, backend)
        model = cls(board, Restored(capture), clock=clock, costs=costs, boot_id=snapshot.boot_id, backend=backend)
        model._stuck.update(bank.name for bank in snapshot.banks if bank.kernel is KernelState.STUCK)
        for domain in snapshot.domains:
            if domain.power is not Power.UNKNOWN:
                model._turn(domain.name, domain.power)
        return model

    # Machine

    @property
    def clock(self) -> ModelClock:
        """The clock that deadlines and costs are on."""
        return self._clock

    @property
    def can(self) -> frozenset[Ability]:
        """It has no files of its own that could be examined."""
        return frozenset({Ability.INTERRUPT, Ability.PAGES})

    def snapshot(self) -> Snapshot:
        """Everything at one moment."""
        with self._lock:
            blocks = {number: self._block(block) for number, block in sorted(self.hotplug.blocks.items())}
            return Snapshot(
                machine=f"model:{self.board.name}",
                arch=self.arch,
                page_size=self.board.page_size,
                block_size=self.board.block_size,
                boot_id=self._boot_id,
                blocks=tuple(blocks.values()),
                zones=tuple(self._zones()),
                banks=tuple(self._bank(bank, blocks) for bank in self.board.banks),
                domains=tuple(self._domain(domain) for domain in self.board.domains),
                auto_online=self.auto_online,
                policy=self.hotplug.zoning.rules.policy,
                boot_memory_leaves=self._rules.boot_memory_leaves,
                memmap_per_page=self._rules.page_struct,
                pending=self.hotplug.pending,
            )

    def survey(self, block: int) -> Survey:
        """The kinds of all pages of the block, and which of them stand in the way."""
        with self._lock:
            found = self.hotplug.block(block)
            start, end = self._geometry.frames(block)
            kinds: dict[Kind, int] = {}
            for code, pages in sorted(self.frames.count(start, end).items()):
                kind = Kind.HOLE if code == OFFLINE else KINDS[code]
                kinds[kind] = kinds.get(kind, 0) + pages
            listed = len(self.allocator.lists.within(start, end)) if self.kcore else 0  # nobody refers to them: free
            if listed:
                kinds[Kind.FREE] = kinds.get(Kind.FREE, 0) + listed
                kinds[Kind.UNKNOWN] -= listed
            against = self._against(start + found.own_memmap, end)
            return Survey(
                block=block,
                kinds=kinds,
                blocking=tuple(self._evidence(against)),
                blocked=sum(len(frames) for frames in against.values()),
                unknown=() if self.kcore else ("pins",),
                boot=found.early,
                holes=found.holes,
                clean=sum(self.tasks.is_clean(self.frames.owner(f)) for f in self.frames.find(start, end, _FILE)),
            )

    def pages(self, block: int) -> Pages:
        """What every page of the block is. Raises KernelError(ENOENT)."""
        with self._lock:
            self.hotplug.block(block)
            start, end = self._geometry.frames(block)
            codes = self.frames.holds(range(start, end))[0]
            kinds = (Kind.HOLE if code == OFFLINE else KINDS[code] for code in codes)
            runs = tuple((kind, sum(1 for _ in run)) for kind, run in groupby(kinds))
            size = 1 << self.frames.shape.pageblock_order
            cma = [f for f in range(start, end, size) if self.frames.migratetype(f) == MigrateType.CMA]
            held = sorted(f for f in map(self.folios.frame, self.folios.long_pins) if start <= f < end)
            pinned = tuple(map(self._geometry.pfn, held if self.kcore else ()))
            return Pages(block, runs, pinned, tuple((self._geometry.pfn(frame), size) for frame in cma))

    def online(self, block: int, how: Online) -> None:
        """Put a block online. Raises KernelError."""
        self.hotplug.online(block, how)

    def offline(self, block: int, deadline: float, *, spare: int = 0) -> None:
        """Evacuate a block and take it offline. Raises KernelError, CancelPending, and Refusal(NO_CAPACITY) when less
        than ``spare`` pages are left for what moves; looked at between passes, where a kernel looks at signals."""
        self.hotplug.offline(block, deadline, starved=lambda: bool(spare) and self._starved(block, spare))

    def _starved(self, block: int, spare: int) -> bool:
        """As a host would find out, from the counters of the zones; page cache is counted only where it matters."""
        zone = self.hotplug.block(block).zone
        origin = zone.name.value if zone is not None else None
        return starved(self._zones(clean={}), origin, spare) and starved(self._zones(), origin, spare)

    def add(self, bank: str) -> None:
        """Hot-add a bank. Raises KernelError: ENODEV, EOPNOTSUPP (no route), EEXIST, ENOMEM, EBUSY (stuck)."""
        found = self._route(bank, "add")
        self._check_not_stuck(bank, "add")
        self._bring_in(found, self.board.blocks(found))
        self._clock.sleep(self.costs.add_bank)

    def remove(self, bank: str) -> None:
        """Hot-remove a bank. Raises KernelError: ENODEV, EOPNOTSUPP (no route), EBUSY (a block is online).

        ``kmem`` unbinds all the same when a block is online, and the bank is stuck until the next boot, with every
        block offline as well: nobody is left who would remove them. ``virtio-mem`` takes blocks offline by itself;
        EAGAIN when one can't go, and then the whole bank is back.
        """
        found = self._route(bank, "remove")
        self._check_not_stuck(bank, "remove")
        if route(found.route).offlines:
            self._unplug(found)
        else:
            self._take_out(found)
        self._clock.sleep(self.costs.remove_bank)

    def _check_not_stuck(self, bank: str, verb: str) -> None:
        if bank in self._stuck:
            detail = "kmem let go of it with blocks still there"
            raise KernelError(errno.EBUSY, f"{verb} {bank}", detail=detail, code=Code.STUCK)

    def offline_and_remove(self, bank: str, deadline: float) -> None:
        """What a driver's own removal does: all blocks offline and out, or back online as they were."""
        found = self._route(bank, "remove")
        self.hotplug.offline_and_remove(self.board.blocks(found), deadline)
        self._clock.sleep(self.costs.remove_bank)

    def power(self, domain: str) -> Power:
        """What the domain's switch says. Raises SwitchError."""
        with self._lock:
            self._known_domain(domain)
            return self._power[domain]

    def set_power(self, domain: str, want: Power) -> None:
        """Turn the switch: ``off`` destroys what every bank of the domain holds. Raises SwitchError."""
        with self._lock:
            known, fault = self._known_domain(domain), self.switch_faults.get(domain)
            if want not in known.states:
                raise SwitchError(f"{domain} has no state {want}", remedy=f"known: {', '.join(known.states)}")
            if known.switch == "none" and want is not Power.ON:
                raise SwitchError(f"{domain} has no switch")
            if fault == "fails":
                raise SwitchError(f"{domain} did not go {want}")
            if fault != "lies":
                self._turn(domain, want)
        self._clock.sleep(self.costs.switch_power)

    def reading(self) -> Reading:
        """Free memory and clean cache by zone, and what migration moved."""
        with self._lock:
            migration = self.hotplug.migration
            moved = Migrated(migration.success, migration.fail)
            return Reading(self._clock.now(), tuple(self._zones()), migrated=moved)

    # Routes

    def _bring_in(self, bank: Bank, numbers: Sequence[int]) -> None:
        own = route(bank.route).own_memmap
        group = group_of(bank, self.board.block_size)
        self.hotplug.add(numbers, node=bank.node or 0, group=group, policy=self.auto_online, memmap_on_memory=own)

    def _take_out(self, bank: Bank) -> None:
        try:
            self.hotplug.remove(self.board.blocks(bank))
        except KernelError:
            if not route(bank.route).sticks:
                raise
            self._stuck.add(bank.name)
            self._check_not_stuck(bank.name, "remove")

    def _unplug(self, bank: Bank) -> None:
        """drivers/virtio/virtio_mem.c, ``virtio_mem_sbm_unplug_request``, and a hypervisor that takes its wish back."""
        gone: list[int] = []
        there = [number for number in self.board.blocks(bank) if number in self.hotplug.blocks]
        for number in reversed(there):
            try:
                self.hotplug.offline_and_remove([number], self._clock.now() + _UNPLUG_LIMIT)
                gone.append(number)
            except CancelPending:  # the kernel is still in there, and nobody else can do anything
                raise
            except KernelError:
                continue
        if len(gone) < len(there):
            self._bring_in(bank, sorted(gone))
            raise KernelError(errno.EAGAIN, f"remove {bank.name}", detail="the guest keeps some of it")

    # Power

    def _turn(self, domain: str, want: Power) -> None:
        runs = [run for bank in self.board.banks if bank.domain == domain for run in self._geometry.runs(bank.range)]
        self._power[domain] = want
        self.folios.dark = [run for run in self.folios.dark if run not in runs]
        if want is Power.OFF:
            self.folios.dark += runs
            for start, end in runs:
                self.frames.fill(start, end, DARK)

    def _known_domain(self, name: str) -> Domain:
        domain = self.board.domain(name)
        if domain is None:
            raise SwitchError(f"no power domain {name}", code=Code.NO_SUCH_BANK)
        return domain

    def _route(self, name: str, verb: str) -> Bank:
        bank = self.board.bank(name)
        if bank is None:
            raise KernelError(errno.ENODEV, f"{verb} {name}", detail="no such bank", code=Code.NO_SUCH_BANK)
        way = route(bank.route)
        if not (way.enters if verb == "add" else way.removes):
            raise KernelError(errno.EOPNOTSUPP, f"{verb} {name}", detail=f"route {way.name} can't {verb} a bank")
        return bank

    # Parts of a snapshot and a survey

    def _block(self, block: MemoryBlock) -> Block:
        start, end = self._geometry.frames(block.number)
        counts = self.frames.count(start, end)
        used = sum(pages for code, pages in counts.items() if code not in _NOT_USED)
        return Block(
            number=block.number,
            range=Range.sized(block.number * self.board.block_size, self.board.block_size),
            state=block.state,
            valid_zones=self.hotplug.valid_zones(block),
            node=block.node,
            used=used - len(self.allocator.lists.within(start, end)),
        )

    def _zones(self, clean: Mapping[int, int] | None = None) -> Iterator[ZoneInfo]:
        """``clean``: pages of clean cache by the zone's number; None: counted now."""
        clean = self.tasks.clean_pages() if clean is None else clean
        for zone in sorted(self.allocator.zones, key=lambda zone: (zone.node, zone.start_pfn)):
            if zone.spanned:
                yield ZoneInfo(
                    node=zone.node,
                    zone=zone.name.value,
                    start_pfn=zone.start_pfn,
                    spanned=zone.spanned,
                    present=zone.present_pages,
                    managed=zone.managed,
                    free=self.frames.free_pages(zone.number),
                    min=zone.min,
                    low=zone.low,
                    high=zone.high,
                    cma_free=self.frames.free_cma(zone.number),
                    reclaimable=clean.get(zone.number, 0),
                )

    def _bank(self, bank: Bank, blocks: Mapping[int, Block]) -> BankStatus:
        return BankStatus.of(
            bank.name,
            bank.range,
            (blocks[number] for number in self.board.blocks(bank) if number in blocks),
            self._power[bank.domain] if bank.domain else Power.ON,
            stuck=bank.name in self._stuck,
            at_boot=bank.at_boot,
            movable=bank.movable,
            route=bank.route,
            domain=bank.domain,
            node=bank.node,
        )

    def _domain(self, domain: Domain) -> DomainStatus:
        banks = tuple(bank.name for bank in self.board.banks if bank.domain == domain.name)
        power = self._power[domain.name]
        return DomainStatus(domain.name, power, domain.states, banks, domain.switch, domain.interleaved)

    def _against(self, start: int, end: int) -> dict[Code, list[int]]:
        """Frames that speak against the block's leaving, by reason, in the order in which the kernel meets them."""
        size = 1 << self.frames.shape.pageblock_order
        cma = [f for f in range(start, end, size) if self.frames.migratetype(f) == MigrateType.CMA]
        pinned = sorted(f for f in map(self.folios.frame, self.folios.long_pins) if start <= f < end)
        listed = self.allocator.lists.within(start, end) if self.kcore else frozenset()
        found = {
            Code.UNMOVABLE: [frame for frame in self.frames.find(start, end, UNMOVABLE_CODES) if frame not in listed],
            Code.CMA: cma,
            Code.PINNED: pinned if self.kcore else [],
            Code.POISONED: self.frames.find(start, end, _POISONED),
        }
        return {why: frames for why, frames in found.items() if frames}

    def _evidence(self, against: dict[Code, list[int]]) -> Iterator[Evidence]:
        """The first pages of each reason, so that no reason hides behind another."""
        for why, frames in against.items():
            for frame in frames[: EVIDENCE // len(against)]:
                handle = self.frames.owner(frame)
                holder = self.folios.holder(handle) if handle else None
                owner = Owner(holder.pid, holder.comm) if holder else None
                yield Evidence(self._geometry.pfn(frame), KINDS[self.frames.kind(frame)], why, owner)

    def set_auto_online(self, word: str) -> None:
        """Write ``auto_online_blocks``. Raises KernelError(EINVAL) for a word that it does not take."""
        if word not in (BlockState.OFFLINE, *Online):
            raise KernelError(errno.EINVAL, "auto_online_blocks", detail=f"no policy is called {word!r}")
        self.auto_online = word

    def set_policy(self, online: str, ratio: int) -> None:
        """Write ``online_policy`` and ``auto_movable_ratio`` (/sys/module/memory_hotplug/parameters); the others are
        read-only there. Raises KernelError(EINVAL) for an unknown policy."""
        if online not in POLICIES:
            raise KernelError(errno.EINVAL, "online_policy", detail=f"{online!r} is none of {', '.join(POLICIES)}")
        with self._lock:
            zoning = self.hotplug.zoning
            zoning.rules = replace(zoning.rules, policy=replace(zoning.rules.policy, online=online, ratio=ratio))

    # What a workload does

    def spawn(self, comm: str, *, anon_pages: int = 0) -> int:
        """BootSource a process with that many touched pages; returns its pid. Raises KernelError(ENOMEM, ESRCH)."""
        with self._lock:
            return self.tasks.spawn(comm, anon_pages=anon_pages)

    def grow(self, pid: int, pages: int) -> None:
        """A process touches new anonymous pages. Raises KernelError(ENOMEM, ESRCH)."""
        with self._lock:
            self.tasks.grow(pid, pages)

    def shrink(self, pid: int, pages: int) -> None:
        """A process gives anonymous pages back."""
        with self._lock:
            self.tasks.shrink(pid, pages)

    def exit(self, pid: int) -> None:
        """A process ends."""
        with self._lock:
            self.tasks.exit(pid)

    def fork(self, pid: int) -> int:
        """A process forks and both copies are written at once; returns the child's pid."""
        with self._lock:
            return self.tasks.fork(pid)

    def share(self, pid: int, pages: int) -> None:
        """A process maps shared memory, which later children share."""
        with self._lock:
            self.tasks.share(pid, pages)

    def write(self, pid: int, first: int, pages: int = 1) -> None:
        """A process writes to virtual pages."""
        with self._lock:
            self.tasks.write(pid, first, pages)

    def read(self, pid: int, vpage: int) -> int:
        """The content of a virtual page. Raises KernelError(EFAULT), and EIO when its bank has no power."""
        with self._lock:
            frame = self.folios.frame(self.tasks.folio(pid, vpage))
            if any(start <= frame < end for start, end in self.folios.dark):
                raise KernelError(errno.EIO, f"read pfn {self._geometry.pfn(frame):#x}", detail="its bank has no power")
            return self.frames.content(frame)

    def read_file(self, name: str, pages: int) -> None:
        """Read further pages of a file into clean page cache."""
        with self._lock:
            self.tasks.read_file(name, pages)

    def write_file(self, name: str, pages: int) -> None:
        """Write further pages of a file into dirty page cache."""
        with self._lock:
            self.tasks.write_file(name, pages)

    def write_back(self, name: str, pages: int | None = None) -> int:
        """Clean dirty pages of a file."""
        with self._lock:
            return self.tasks.write_back(name, pages)

    def stall_writeback(self, name: str, pages: int = 1) -> None:
        """Dirty pages of a file go under writeback that does not end by itself."""
        with self._lock:
            self.tasks.stall_writeback(name, pages)

    def end_writeback(self, name: str) -> None:
        """The stalled writeback ends, and with it what waited for it."""
        with self._lock:
            self.tasks.end_writeback(name)
            self.hotplug.settle()

    def remove_file(self, name: str) -> None:
        """Delete a file."""
        with self._lock:
            self.tasks.remove_file(name)
            self.hotplug.settle()

    def drop_caches(self) -> int:
        """Drop all clean page cache; returns the pages."""
        with self._lock:
            return self.tasks.drop_caches()

    def create_inodes(self, count: int) -> None:
        """Create that many files: slab that stays."""
        with self._lock:
            self.tasks.create_inodes(count)

    def kernel_alloc(self, name: str, pages: int) -> None:
        """A driver takes pages for itself."""
        with self._lock:
            self.tasks.kernel_alloc(name, pages)

    def kernel_free(self, name: str, pages: int | None = None) -> None:
        """A driver gives pages back."""
        with self._lock:
            self.tasks.kernel_free(name, pages)

    def set_huge_pages(self, pages: int) -> int:
        """``nr_hugepages``: have that many huge pages, as far as memory goes. Returns how many there are.

        Raises KernelError(EOPNOTSUPP) on arm, whose small kernel has none.
        """
        with self._lock:
            if not kernels.arch(self.arch).huge_pages:
                raise KernelError(errno.EOPNOTSUPP, "nr_hugepages")
            return self.tasks.huge.resize(pages)

    def use_huge_pages(self, pages: int) -> None:
        """Have that many of the huge pages in use. Raises KernelError(ENOMEM)."""
        with self._lock:
            self.tasks.huge.use(pages)

    def set_per_cpu_lists(self, length: int) -> None:
        """Keep up to that many freed pages for each zone and type out of the buddy lists; 0 switches them off."""
        with self._lock:
            self.allocator.lists.drain()
            self.allocator.lists.length = length

    def balloon(self, pages: int) -> None:
        """Have a balloon of that many pages, which the hypervisor takes. Raises KernelError(ENOMEM)."""
        with self._lock:
            self.tasks.resize_cache("balloon", pages, kind=Kind.BALLOON, gfp=GFP_BALLOON)

    def pin(self, pid: int, vpage: int, *, seconds: float | None = None) -> int:
        """Pin a virtual page where it is, as ``vmsplice`` does, for good or for ``seconds``; returns unpin's key."""
        with self._lock:
            handle = self.tasks.pin(pid, vpage, long=seconds is None)
        if seconds is not None:
            self._clock.call_later(seconds, lambda: self._unpin(handle, long=False))
        return handle

    def register(self, pid: int, vpage: int) -> int:
        """Pin for long with ``FOLL_LONGTERM``, as io_uring does: the page first moves out of Movable and CMA.

        Returns ``unpin``'s key. Raises KernelError(ENOMEM) when the kernel zones have no room, EAGAIN when it is
        pinned in place already.
        """
        with self._lock:
            self.hotplug.migration.leave_movable(self.tasks.folio(pid, vpage))
            return self.tasks.pin(pid, vpage)

    def unpin(self, handle: int) -> None:
        """Drop a long pin. Raises KernelError(EINVAL)."""
        self._unpin(handle, long=True)

    def poison(self, pid: int, vpage: int) -> int:
        """A memory error hits a virtual page: ``memory_failure`` kills who maps it. Returns the pfn."""
        with self._lock:
            return self._geometry.pfn(self.tasks.poison(pid, vpage))

    def interrupt(self, block: int, deadline: float) -> None:
        """A signal for whoever writes to the block's state: that offline ends with EINTR, or is left pending."""
        with self._lock:
            self.hotplug.interrupt(block, deadline)

    def free(self) -> int:
        """Free pages of all zones (MemFree)."""
        with self._lock:
            return sum(self.frames.free_pages(zone.number) for zone in self.allocator.zones)

    def reclaimable(self) -> int:
        """Clean page cache that reclaim could drop, in pages."""
        with self._lock:
            return self.tasks.clean_count()

    def quiet(self) -> AbstractContextManager[bool]:
        """While it is entered, nobody else sees or changes the model; for calls of its parts."""
        return self._lock

    def fill_until(self, free: int, comm: str = "hog") -> int:
        """BootSource a process that grows until ``free`` pages or fewer are left; returns its pid."""
        with self._lock:
            pid = self.tasks.spawn(comm)
            while self.free() > free:
                self.tasks.grow(pid, max(1, (self.free() - free) * 512 // 513))
            return pid

    def place(self, pid: int, block: int) -> list[int]:
        """The process's virtual pages that lie in the block, ascending."""
        with self._lock:
            start, end = self._geometry.frames(block)
            pages = enumerate(self.tasks.process(pid).pages)
            return [vpage for vpage, handle in pages if start <= self.folios.frame(handle) < end]

    def _unpin(self, handle: int, *, long: bool) -> None:
        with self._lock:
            self.tasks.unpin(handle, long=long)

    # Checks

    def validate(self) -> None:
        """Check every invariant of the model's own books. Raises AssertionError that names the first breach."""
        with self._lock:
            validate(self.frames, self.allocator, self.folios, self.tasks, self.hotplug, self._geometry)

    def check_contents(self) -> tuple[int, ...]:
        """The pfns whose page does not read as it was written, none on a sound machine."""
        with self._lock:
            return tuple(self._geometry.pfn(self.folios.frame(handle)) for handle in self.folios.damaged())


def _form(board: Board) -> str:
    """Outside 32-bit ARM a command line can't say where memory is: such a board has a device tree as well."""
    return "dtb" if board.describe == "cmdline" and not kernels.arch(board.arch).mem_has_start else board.describe
