# SPDX-License-Identifier: Apache-2.0
"""Memory blocks: online, offline, add, remove, with every refusal's errno and order.

Models mm/memory_hotplug.c (``online_pages``, ``offline_pages``, ``add_memory_resource``), mm/page_isolation.c
(``has_unmovable_pages``) and drivers/base/memory.c (``memory_block_change_state``, ``valid_zones_show``), 6.12.
Isolation comes before the notifiers; the loop that moves pages away has no end of its own and looks at signals between
passes only; one operation at a time, system wide.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby

from hotbank.errors import EHWPOISON, CancelPending, Code, KernelError, Refusal
from hotbank.memory import CODE, KINDS, BlockState, Kind, Online, Pfn, codes
from hotbank.model.alloc import GFP_MEMMAP, PageAllocator
from hotbank.model.clock import Costs, ModelClock
from hotbank.model.contents import PageContents
from hotbank.model.frames import LEFT_BEHIND, MOVABLE_CODES, UNMOVABLE_CODES, Frame, MigrateType, cma_pageblocks
from hotbank.model.geometry import Geometry
from hotbank.model.lru import Handle
from hotbank.model.migrate import MAX_BATCHED_MIGRATION, Migration, target_class
from hotbank.model.tasks import Tasks
from hotbank.model.zoning import Group, MemoryBlock, Rules, Zoning

_UNMOVABLE_ANYWHERE = codes([Kind.RESERVED, Kind.UNBACKED])
_POLL = 0.005  # seconds; lock_device_hotplug_sysfs and folio_wait_writeback are looked at this often

# A notifier is told what is about to happen to which block and answers 0, or an errno that stops it. Of what has
# happened it is told as well, and its answer counts for nothing.
PREPARE_ONLINE, GOING_ONLINE, GOING_OFFLINE = "prepare-online", "going-online", "going-offline"
ADDING_FIRST, REMOVING_LAST = "adding-first-memory", "removing-last-memory"  # of the block's node
WENT_ONLINE, WENT_OFFLINE, FINISH_OFFLINE = "online", "offline", "finish-offline"
Notifier = Callable[[str, int], int]


@dataclass(slots=True)
class Underway:
    """An operation that holds device_hotplug_lock.

    ``thread``: whose it is; None once its offline is pending: the kernel is still in there, and nobody waits for it.
    ``block``: the one that goes offline. ``stalled``: pages under writeback that it waits for.
    """

    thread: int | None
    block: int | None = None
    stalled: tuple[Handle, ...] = ()


class MemoryHotplug:
    """The memory blocks of one machine.

    ``lock`` guards the whole model and is not held while time passes, so that others can look and work between two
    passes.
    """

    def __init__(
        self,
        geometry: Geometry,
        allocator: PageAllocator,
        contents: PageContents,
        tasks: Tasks,
        rules: Rules,
        *,
        clock: ModelClock,
        costs: Costs,
        lock: AbstractContextManager[bool],
    ) -> None:
        self.blocks: dict[int, MemoryBlock] = {}
        self.zoning = Zoning(allocator, self.blocks, rules, geometry.pages_per_block)
        self.notifiers: list[Notifier] = [] if rules.boot_memory_leaves else [self._veto_boot_memory]
        self.notifiers += [self._veto_leaf, self._veto_kernel_zones]
        self.movable_only_blocks: frozenset[int] = frozenset()  # blocks whose driver wants them in ZONE_MOVABLE only
        self.migration = Migration(allocator, contents, tasks.huge)
        self._geometry, self._allocator, self._frames = geometry, allocator, allocator.frames
        self._contents, self._tasks, self._rules = contents, tasks, rules
        self._clock, self._costs, self._lock = clock, costs, lock
        self._busy = threading.Lock()  # device_hotplug_lock
        self._underway: Underway | None = None
        self._types: list[tuple[int, int, int]] = []  # runs of pageblocks that are isolated, with what they were
        self._signalled: tuple[int, float] | None = None  # the offline that a signal was sent to: block, deadline

    @property
    def pending(self) -> int | None:
        """The block whose cancelled offline the kernel has not let go of, or None."""
        underway = self._underway
        return underway.block if underway is not None and underway.thread is None else None

    # Online

    def online(self, number: int, how: Online) -> None:
        """``state_store``: put the block online. EINVAL unless offline, EHWPOISON, or a notifier's errno."""
        self._begin(f"online memory{number}")
        try:
            with self._lock:
                self._online(number, how)
        finally:
            self._finish()
        self._clock.sleep(self._costs.online_block)

    def _online(self, number: int, how: Online) -> None:
        block, what = self.block(number), f"{how} memory{number}"
        if block.state is not BlockState.OFFLINE:
            raise KernelError(errno.EINVAL, what, detail=f"it is {block.state}")
        if block.poisoned:
            raise KernelError(EHWPOISON, what, detail=f"{len(block.poisoned)} poisoned pages")
        zone = block.zone = self._allocator.zone(block.node, self.zoning.zone(block, how))
        try:
            self._ask_online(block, what)
        except KernelError:
            block.zone = None
            raise
        start, end = self._geometry.frames(number)
        self._frames.attach(zone.number, start, end)
        self._frames.release(start + block.own_memmap, end)
        zone.grow(*self._pfns(number))
        zone.managed += end - start - block.own_memmap
        zone.early += end - start if block.early else 0
        block.state = BlockState.ONLINE
        self._allocator.set_watermarks()
        self._tell(WENT_ONLINE, number)

    def _ask_online(self, block: MemoryBlock, what: str) -> None:
        """``memory_block_online``, ``online_pages``: all who may refuse."""
        row = self._rules.kernel
        if row.prepares_blocks:
            self._notify(PREPARE_ONLINE, block.number, what)
        if row.tells_nodes and not self._memory_of(block.node):
            self._notify(ADDING_FIRST, block.number, what)
        self._notify(GOING_ONLINE, block.number, what)

    # Offline

    def offline(
        self,
        number: int,
        deadline: float,
        *,
        starved: Callable[[], bool] = lambda: False,
        fence: Iterable[int] = (),
    ) -> None:
        """``state_store``: evacuate the block and take it offline; give up at ``deadline``, or when ``starved``.
        Meanwhile nothing lands in the blocks of ``fence``.

        Raises KernelError: EINVAL (not online, holes, several zones), EBUSY (an unmovable page), a notifier's errno
        (EPERM: arm64's boot memory), EINTR (deadline or ``interrupt``); CancelPending when a page under writeback
        keeps the kernel from looking at the signal. Refusal(NO_CAPACITY) when ``starved`` said so.
        """
        what = f"offline memory{number}"
        self._begin(what, number, deadline)
        left_there = False
        try:
            with self._fenced(fence):
                with self._lock:
                    block = self._start_offline(number, what)
                self._evacuate(block, deadline, what, starved)
                with self._lock:
                    self._complete_offline(block)
        except CancelPending:
            left_there = True  # the kernel is still in there, and holds the lock: settle() ends it
            raise
        finally:
            if not left_there:
                self._finish()

    @contextmanager
    def _fenced(self, numbers: Iterable[int]) -> Iterator[None]:
        """Let nothing land in these blocks, those that are online and have nothing unmovable (our kernel/bank,
        evacuate.c: their pageblocks are isolated). Under ``device_hotplug_lock``: none of them leaves meanwhile."""
        with self._lock:
            spans = [span for number in numbers if (span := self._movable_span(number)) is not None]
            self._allocator.pcp.drain()
            for span in spans:
                self._frames.isolate(*span)
        try:
            yield
        finally:
            with self._lock:
                for span in spans:
                    self._frames.unisolate(*span)

    def _movable_span(self, number: int) -> tuple[int, int] | None:
        block = self.blocks.get(number)
        if block is None or block.state is not BlockState.ONLINE or block.zone is None:
            return None
        first, end = self._geometry.frames(number)
        start = first + block.own_memmap
        return (start, end) if self._first_unmovable(block, start, end) is None else None

    def _start_offline(self, number: int, what: str) -> MemoryBlock:
        """Everything that can refuse, in the kernel's order: state, shape, isolation, notifiers."""
        block = self.block(number)
        if block.state is not BlockState.ONLINE:
            raise KernelError(errno.EINVAL, what, detail=f"it is {block.state}")
        if block.zone is None or block.holes:
            raise KernelError(errno.EINVAL, what, detail="it spans zones" if block.zone is None else "it has holes")
        first, end = self._geometry.frames(number)
        start = first + block.own_memmap
        self._allocator.pcp.drain()  # zone_pcp_disable; pages of isolated pageblocks never enter the lists
        self._isolate(block, start, end, what)
        try:
            self._ask_offline(block, what)
        except KernelError:
            self._unisolate()
            raise
        if not self._rules.kernel.keeps_slab or self._is_last(block):
            self._tasks.shrink_slabs()
        block.state = BlockState.GOING_OFFLINE
        return block

    def _ask_offline(self, block: MemoryBlock, what: str) -> None:
        """``offline_pages``: all who may refuse."""
        if self._is_last(block) and self._rules.kernel.tells_nodes:
            self._notify(REMOVING_LAST, block.number, what)
        self._notify(GOING_OFFLINE, block.number, what)

    def _is_last(self, block: MemoryBlock) -> bool:
        """Whether its node will have no memory without it."""
        return self._memory_of(block.node) == self._geometry.pages_per_block

    def _memory_of(self, node: int) -> int:
        """``node_present_pages``."""
        return sum(zone.present_pages for zone in self._allocator.zones if zone.node == node)

    def _isolate(self, block: MemoryBlock, start: int, end: int, what: str) -> None:
        """``start_isolate_page_range``: pageblock by pageblock; EBUSY at the first unmovable page, all undone."""
        bad = self._first_unmovable(block, start, end)
        size = 1 << self._geometry.shape.pageblock_order
        upto = end if bad is None else bad & -size
        self._types = self._types_of(start, upto)
        self._frames.isolate(start, upto)
        if bad is not None:
            self._unisolate()
            kind = KINDS[self._frames.kind(bad)]
            raise KernelError(errno.EBUSY, what, detail=f"unmovable page: pfn {self._geometry.pfn(bad):#x}, {kind}")

    def _types_of(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """Runs of pageblocks, and what each will be once isolation is undone."""
        if not self._rules.kernel.keeps_types:
            return [(start, end, MigrateType.MOVABLE)]
        size = self._geometry.shape.pageblock
        runs = [list(run) for _, run in groupby(range(start, end, size), self._frames.migratetype)]
        return [(run[0], run[-1] + size, self._frames.migratetype(run[0])) for run in runs]

    def _unisolate(self) -> None:
        """``undo_isolate_page_range``."""
        for start, end, migratetype in self._types:
            self._frames.unisolate(start, end, migratetype)
        self._types = []

    def _first_unmovable(self, block: MemoryBlock, start: int, end: int) -> Frame | None:
        """``has_unmovable_pages``: reserved and unbacked ones anywhere, kernel pages outside Movable, CMA areas."""
        movable_only = block.zone is not None and block.zone.movable_only
        stays = _UNMOVABLE_ANYWHERE if movable_only else UNMOVABLE_CODES
        found = self._frames.find(start, end, stays, limit=None if self._rules.kernel.frozen_slab else 1)
        first = next((frame for frame in found if not self.passes(frame)), None)
        there = [frame for frame in (first, *cma_pageblocks(self._frames, start, end)[:1]) if frame is not None]
        return min(there, default=None)

    def passes(self, frame: Frame) -> bool:
        """True if isolation passes over what can't move there: nobody refers to a slab that is one page."""
        held = self._contents.at([frame]) if self._rules.kernel.frozen_slab else []
        return any(self._contents.holder(handle).single for handle in held)

    def _evacuate(self, block: MemoryBlock, deadline: float, what: str, starved: Callable[[], bool]) -> None:
        """The loop of ``offline_pages``: pass after pass until nothing is left or a signal is pending."""
        try:
            self._clock.sleep(self._costs.isolate_block)
            cursor: int | None = self._geometry.frames(block.number)[0]
            while cursor is not None:
                with self._lock:
                    self._check_signal(block.number, deadline, what)
                    if starved():
                        raise Refusal(Code.NO_CAPACITY, f"{what}: no room is left for its pages; it is back online")
                    cursor, seconds = self._pass(block, cursor)
                self._clock.sleep(seconds)
                self._wait_writeback(block, deadline, what)
        except BaseException as e:
            if not isinstance(e, CancelPending):
                with self._lock:
                    self._back_online(block)
            raise

    def _pass(self, block: MemoryBlock, cursor: int) -> tuple[int | None, float]:
        """``scan_movable_pages``, ``do_migrate_range`` for one batch. Where to go on (None: all gone), and the cost."""
        start, end = self._geometry.frames(block.number)
        self._tasks.huge.dissolve(start, end)
        batch = self._frames.find(cursor, end, MOVABLE_CODES, limit=MAX_BATCHED_MIGRATION)
        if not batch:
            return self._after_the_last(start, end, cursor)
        assert block.zone is not None, "an online block without a zone never gets here"
        away = any(zone.managed and zone.node != block.node for zone in self._allocator.zones)
        outcome = self.migration.migrate(batch, target_class(block.zone, away=away))
        if outcome.no_room and not away:
            self._tasks.drop_put_back(batch)
        assert self._underway is not None, "nobody moves pages without device_hotplug_lock"
        self._underway.stalled = outcome.stalled
        retry = self._costs.failed_pass if outcome.failed else 0.0
        return batch[-1] + 1, outcome.moved * self._costs.migrate_page + retry

    def _after_the_last(self, start: int, end: int, cursor: int) -> tuple[int | None, float]:
        """``test_pages_isolated``: all gone, or once more from the start."""
        if cursor != start:
            return start, 0.0
        passed = any(map(self.passes, self._frames.find(start, end, UNMOVABLE_CODES)))
        return (start, self._costs.failed_pass) if passed else (None, 0.0)

    def _wait_writeback(self, block: MemoryBlock, deadline: float, what: str) -> None:
        """``folio_wait_writeback``: sleeps without looking at signals."""
        while self._under_writeback():
            if self._is_over(block.number, deadline):
                self._leave_pending(block, what)
            self._clock.sleep(_POLL)

    def _leave_pending(self, block: MemoryBlock, what: str) -> None:
        """Unless the writeback has ended this very moment, the writer goes and the kernel stays."""
        with self._lock:
            if self._under_writeback() and self._underway is not None:
                self._underway.thread, self._underway.block = None, block.number
                raise CancelPending(what, detail="a page under writeback holds it")

    def _under_writeback(self) -> bool:
        stalled = self._underway.stalled if self._underway is not None else ()
        return any(handle in self._contents.writeback for handle in stalled)

    def _check_signal(self, number: int, deadline: float, what: str) -> None:
        if self._is_over(number, deadline):
            raise KernelError(errno.EINTR, what, detail="cancelled, the block is back online")

    def _complete_offline(self, block: MemoryBlock) -> None:
        start, end = self._geometry.frames(block.number)
        if block.own_memmap:  # mhp_deinit_memmap_on_memory
            self._frames.isolate(start, start + block.own_memmap)
            self._frames.release(start, start + block.own_memmap)
        used = self._frames.count(start, end)
        assert used.keys() <= set(LEFT_BEHIND), "test_pages_isolated"
        block.poisoned.update(self._frames.find(start, end, codes([Kind.POISONED])))
        self._frames.detach(start, end)
        zone = block.zone
        assert zone is not None, "an online block without a zone never gets here"
        zone.managed -= end - start - block.own_memmap - used.get(CODE[Kind.UNPLUGGED], 0)
        zone.early -= end - start if block.early else 0
        zone.shrink(*self._pfns(block.number))
        block.zone, block.state = None, BlockState.OFFLINE
        self._allocator.set_watermarks()
        self._tell(WENT_OFFLINE, block.number)
        if self._rules.kernel.prepares_blocks:
            self._tell(FINISH_OFFLINE, block.number)

    def _back_online(self, block: MemoryBlock) -> None:
        self._unisolate()
        block.state = BlockState.ONLINE

    def interrupt(self, number: int, deadline: float) -> None:
        """A signal reaches the writer of that offline, under way or only about to begin: it ends with EINTR, or is left
        pending."""
        self._signalled = (number, deadline)

    def signalled(self, number: int, deadline: float) -> bool:
        """Whether that one was sent."""
        return self._signalled == (number, deadline)

    def _is_over(self, number: int, deadline: float) -> bool:
        return self.signalled(number, deadline) or self._clock.now() >= deadline

    def settle(self) -> None:
        """Let a pending offline see its signal if the writeback it waited for has ended."""
        number = self.pending
        if number is not None and not self._under_writeback():
            self._back_online(self.blocks[number])
            self._finish()

    # Add and remove

    def add(
        self,
        numbers: Iterable[int],
        *,
        node: int,
        group: Group | None,
        policy: str,
        memmap_on_memory: bool = False,
    ) -> None:
        """``add_memory_resource``: EEXIST, ENOMEM for the memmap; blocks then come online by ``policy``.

        ``memmap_on_memory``: the driver asks for MHP_MEMMAP_ON_MEMORY; the kernel's parameter decides.
        """
        wanted = tuple(numbers)
        self._begin("add memory")
        try:
            with self._lock:
                present = [number for number in wanted if number in self.blocks]
                if present:
                    raise KernelError(errno.EEXIST, "add memory", detail=f"memory{present[0]} exists")
                self._add(wanted, node, group, self._own_memmap() if memmap_on_memory else 0)
        finally:
            self._finish()
        if policy != BlockState.OFFLINE:
            self._online_added(wanted, Online(policy))

    def _online_added(self, numbers: tuple[int, ...], how: Online) -> None:
        """``online_memory_block``, block by block: a refusal ends the walk, and nobody hears of it."""
        with suppress(KernelError):
            for number in numbers:
                self.online(number, how)

    def _add(self, numbers: tuple[int, ...], node: int, group: Group | None, own: int) -> None:
        added: list[int] = []
        try:
            for number in numbers:
                name = f"memmap of memory{number}"
                if not own:
                    self._tasks.kernel_alloc(name, self.memmap_pages, gfp=GFP_MEMMAP)
                memmap = None if own else name
                leaf = "memmap" if own else ""
                self.blocks[number] = MemoryBlock(
                    number, BlockState.OFFLINE, node, group=group, memmap=memmap, own_memmap=own, leaf=leaf
                )
                added.append(number)
        except KernelError:
            self._remove(added)
            raise

    def _own_memmap(self) -> int:
        """``mhp_supports_memmap_on_memory``: a block holds its own memmap only if that fills whole pageblocks."""
        whole = self.memmap_pages % (1 << self._geometry.shape.pageblock_order) == 0
        return self.memmap_pages if self._rules.policy.memmap_on_memory and whole else 0

    def remove(self, numbers: Iterable[int]) -> None:
        """``remove_memory``: EBUSY, and nothing done, while one of the blocks is not offline."""
        wanted = [number for number in numbers if number in self.blocks]
        self._begin("remove memory")
        try:
            with self._lock:
                for number in wanted:
                    if self.blocks[number].state is not BlockState.OFFLINE:
                        raise KernelError(errno.EBUSY, "remove memory", detail=f"memory{number} is onlined")
                self._remove(wanted)
        finally:
            self._finish()

    def _remove(self, numbers: list[int]) -> None:
        for number in numbers:
            memmap = self.blocks.pop(number).memmap
            if memmap is not None:
                self._tasks.kernel_free(memmap)

    def offline_and_remove(self, numbers: Iterable[int], deadline: float) -> None:
        """``offline_and_remove_memory``: all blocks offline, then out; at a refusal those that went come back online.

        They come back to the kind of zone they were in, in reverse order. Raises what the refused block raised.
        """
        wanted = [number for number in numbers if number in self.blocks]
        undo: list[tuple[int, Online]] = []
        try:
            for number in wanted:
                block = self.block(number)
                if block.state is BlockState.OFFLINE:
                    continue
                movable = block.zone is not None and block.zone.movable_only
                self.offline(number, deadline)
                undo.append((number, Online.MOVABLE if movable else Online.KERNEL))
        except KernelError:
            for number, how in reversed(undo):
                self.online(number, how)
            raise
        self.remove(wanted)

    @property
    def memmap_pages(self) -> int:
        """Pages of ``struct page``s that one block costs."""
        return -(-self._geometry.pages_per_block * self._rules.page_struct // self._geometry.page_size)

    # Zones

    def valid_zones(self, block: MemoryBlock) -> tuple[str, ...]:
        """``valid_zones_show``: the zone of an online block; for others what plain ``online`` gives, then the rest."""
        if block.state is not BlockState.OFFLINE:
            return (block.zone.name.value,) if block.zone else ("none",)
        names = [self.zoning.zone(block, how).value for how in (Online.ONLINE, Online.KERNEL, Online.MOVABLE)]
        return tuple(dict.fromkeys(names))

    # One at a time

    def _begin(self, what: str, number: int = -1, deadline: float | None = None) -> None:
        """``lock_device_hotplug_sysfs``. EINTR at the deadline of an offline, or when it is interrupted; EBUSY where
        waiting could only last for ever."""
        while not self._busy.acquire(blocking=False):
            if deadline is not None and self._is_over(number, deadline):
                raise KernelError(errno.EINTR, what, detail="another hotplug operation is under way")
            if self._is_mine() or (self.pending is not None and deadline is None):
                raise KernelError(errno.EBUSY, what, detail="another hotplug operation is under way")
            self._clock.sleep(_POLL)
        self._underway = Underway(threading.get_ident())

    def _is_mine(self) -> bool:
        underway = self._underway
        return underway is not None and underway.thread == threading.get_ident()

    def _finish(self) -> None:
        self._underway = None
        self._busy.release()

    def _notify(self, action: str, number: int, what: str) -> None:
        for notifier in self.notifiers:
            refusal = notifier(action, number)
            if refusal:
                raise KernelError(refusal, what, detail="a memory notifier refused")

    def _tell(self, action: str, number: int) -> None:
        for notifier in self.notifiers:
            notifier(action, number)

    def _veto_boot_memory(self, action: str, number: int) -> int:
        """arch/arm64/mm/mmu.c, ``prevent_bootmem_remove_notifier``."""
        return errno.EPERM if action == GOING_OFFLINE and self.blocks[number].early else 0

    def vetoes_leaf(self, block: MemoryBlock) -> bool:
        """True where arm64 lets no block go that would split a leaf of its maps."""
        own_maps = not self._rules.boot_memory_leaves  # the same notifier
        return bool(block.leaf) and own_maps and self._rules.kernel.vetoes_leaf

    def _veto_leaf(self, action: str, number: int) -> int:
        """arch/arm64/mm/mmu.c, ``can_unmap_without_split``."""
        return errno.EPERM if action == GOING_OFFLINE and self.vetoes_leaf(self.blocks[number]) else 0

    def _veto_kernel_zones(self, action: str, number: int) -> int:
        """kernel/bank/hotplug.c, ``bank_memory_event``. Boot memory may return to the zone that it came from."""
        block = self.blocks[number]
        kept = number in self.movable_only_blocks and not block.early
        into_kernel = action == GOING_ONLINE and block.zone is not None and not block.zone.movable_only
        return errno.EPERM if kept and into_kernel else 0

    def block(self, number: int) -> MemoryBlock:
        """The block. Raises KernelError(ENOENT)."""
        if number not in self.blocks:
            raise KernelError(errno.ENOENT, f"memory{number}")
        return self.blocks[number]

    def _pfns(self, number: int) -> tuple[Pfn, Pfn]:
        pages = self._geometry.pages_per_block
        return Pfn(number * pages), Pfn((number + 1) * pages)
