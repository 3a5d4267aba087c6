# SPDX-License-Identifier: Apache-2.0
"""What lives in memory: processes, page cache, kernel caches, pins.

Models what mm/memory.c, mm/filemap.c, mm/slub.c and mm/gup.c do to pages, seen from the page allocator: which class
each page asks for, who holds it, what can make it go. Reclaim drops clean, unpinned page cache, oldest first
(mm/vmscan.c without swap); the OOM killer takes the process with most pages (mm/oom_kill.c).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from hotbank.errors import KernelError
from hotbank.memory import CODE, NAMED_KERNEL_KINDS, Kind
from hotbank.model.alloc import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_RECLAIMABLE, Gfp, OutOfMemoryError, PageAllocator
from hotbank.model.contents import Holder, PageContents
from hotbank.model.frames import Frame, MigrateType
from hotbank.model.hugepages import HugePages
from hotbank.model.lru import Handle

# Objects a page holds: an in-memory inode of 1 KiB (no shrinker frees it while the file exists), a dentry of 192 bytes.
INODES_PER_PAGE, DENTRIES_PER_PAGE = 4, 21
PTES_PER_TABLE = 512


@dataclass(slots=True, eq=False)
class Segment:
    """Shared memory: every process that has it maps the same pages."""

    holder: Holder
    pages: list[Handle]
    users: int = 1


@dataclass(slots=True, eq=False)
class Process:
    """A process. ``pages``: handle of each anonymous virtual page; ``tables``: of its page-table pages."""

    pid: int
    holder: Holder
    table_holder: Holder
    pages: list[Handle] = field(default_factory=list)
    tables: list[Handle] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def handle(self, vpage: int) -> Handle:
        """The page behind a virtual page: anonymous pages first, then each segment's. Raises IndexError."""
        for pages in (self.pages, *(segment.pages for segment in self.segments)):
            if vpage < len(pages):
                return pages[vpage]
            vpage -= len(pages)
        raise IndexError("no such virtual page")

    @property
    def rss(self) -> int:
        """Pages mapped, shared ones included."""
        return len(self.pages) + sum(len(segment.pages) for segment in self.segments)


@dataclass(slots=True, eq=False)
class File:
    """A file's pages in the page cache, in the order they were read; ``dirty`` ones were not written back yet.
    ``evicted``: pages that reclaim dropped and nobody has read again (mm/workingset.c, shadow entries)."""

    holder: Holder
    pages: dict[Handle, None] = field(default_factory=dict)
    dirty: set[Handle] = field(default_factory=set)
    evicted: int = 0

    def hold(self, handles: Iterable[Handle]) -> None:
        """Have further pages, as the newest."""
        pages = self.pages
        for handle in handles:
            pages[handle] = None


@dataclass(slots=True, eq=False)
class Cache:
    """A kernel user of whole pages: a slab cache, stacks, a memmap. ``empty``: slabs that it keeps though no object is
    left in them."""

    holder: Holder
    gfp: Gfp
    pages: list[Handle] = field(default_factory=list)
    empty: list[Handle] = field(default_factory=list)


class Tasks:
    """All users of memory of one machine. Errors are KernelError with the errno a system call would give."""

    def __init__(self, allocator: PageAllocator, contents: PageContents) -> None:
        self._allocator, self._frames, self._contents = allocator, allocator.frames, contents
        self.processes: dict[int, Process] = {}
        self.files: dict[str, File] = {}
        self.caches: dict[str, Cache] = {}
        self.huge = HugePages(allocator, contents)
        self.placeless = set[Handle]()
        self.oom_killed: list[int] = []
        self.refaults = 0  # pages of the cache that reclaim had dropped and that were read again
        self.kernels_own = 0  # pages of slab, none of which is reclaimed here, and of page tables
        self._doomed: set[Handle] = set()  # pages whose last user left while they were pinned
        self._poisoned = False
        self._next_pid = 100

    # Processes

    def spawn(self, comm: str, *, anon_pages: int = 0) -> int:
        """Start a process; returns its pid. Nothing is left of one that is refused memory (ENOMEM, ESRCH)."""
        pid = self._next_pid
        self._next_pid += 1
        process = Process(pid, Holder(Kind.ANON, comm, pid), Holder(Kind.PAGE_TABLE, comm, pid))
        self.processes[pid] = process
        try:
            self._map_tables(process)
            self.grow(pid, anon_pages)
        except KernelError:
            if pid in self.processes:
                self.exit(pid)
            raise
        return pid

    def grow(self, pid: int, pages: int) -> None:
        """Touch ``pages`` new anonymous pages. ENOMEM if even killing others gave no room; ESRCH if it killed this."""
        process = self.process(pid)
        process.pages += self._fault_in(process, process.holder, pages)

    def shrink(self, pid: int, pages: int) -> None:
        """Unmap the last ``pages`` anonymous pages (all, if there are fewer)."""
        process = self.process(pid)
        keep = max(0, len(process.pages) - pages)
        dropped = process.pages[keep:]
        del process.pages[keep:]
        self._release(dropped)
        self._unmap_tables(process)

    def exit(self, pid: int) -> None:
        """End a process and give its memory back; pinned pages stay until they are unpinned."""
        process = self.process(pid)
        del self.processes[pid]
        self._release(process.pages)
        self._release(process.tables)
        for segment in process.segments:
            self._detach(segment)

    def fork(self, pid: int) -> int:
        """A child that maps the parent's segments and copies its anonymous pages at once; returns its pid.

        ENOMEM; ESRCH if room for the child cost the parent its life.
        """
        parent = self.process(pid)
        child = self.spawn(parent.holder.comm, anon_pages=len(parent.pages))
        if pid not in self.processes:
            self.exit(child)
            raise KernelError(errno.ESRCH, f"process {pid}", detail="killed by the OOM killer while it forked")
        for segment in parent.segments:
            segment.users += 1
        self.processes[child].segments += parent.segments
        self._map_tables(self.processes[child])
        return child

    def share(self, pid: int, pages: int) -> None:
        """Map a new shared memory segment; ``fork`` shares it."""
        process = self.process(pid)
        holder = Holder(Kind.SHMEM, process.holder.comm, pid)
        process.segments.append(Segment(holder, self._fault_in(process, holder, pages)))

    def write(self, pid: int, first: int, pages: int = 1) -> None:
        """Write to virtual pages: their content changes."""
        self._contents.write([self.handle(pid, vpage) for vpage in range(first, first + pages)])

    def process(self, pid: int) -> Process:
        """The process. Raises KernelError(ESRCH)."""
        if pid not in self.processes:
            raise KernelError(errno.ESRCH, f"process {pid}")
        return self.processes[pid]

    def _charge(self, process: Process, gfp: Gfp, holder: Holder, pages: int) -> list[Handle]:
        """Pages for a process, which the OOM killer may end meanwhile: ESRCH."""
        handles = self._take(gfp, holder, pages)
        if process.pid not in self.processes:
            self._release(handles)
            raise KernelError(errno.ESRCH, f"process {process.pid}", detail="killed by the OOM killer")
        return handles

    def _fault_in(self, process: Process, holder: Holder, pages: int) -> list[Handle]:
        """Pages and, before them, the page tables that map them: a fault needs its table first."""
        self._map_tables(process, pages)
        try:
            return self._charge(process, GFP_HIGHUSER_MOVABLE, holder, pages)
        except KernelError:
            if process.pid in self.processes:
                self._unmap_tables(process)
            raise

    def _map_tables(self, process: Process, more: int = 0) -> None:
        """A top-level table and one page for every 512 entries, with ``more`` pages to come."""
        missing = 1 + -(-(process.rss + more) // PTES_PER_TABLE) - len(process.tables)
        if missing > 0:
            process.tables += self._charge(process, GFP_KERNEL, process.table_holder, missing)

    def _unmap_tables(self, process: Process) -> None:
        needed = 1 + -(-process.rss // PTES_PER_TABLE)
        self._release(process.tables[needed:])
        del process.tables[needed:]

    def _detach(self, segment: Segment) -> None:
        segment.users -= 1
        if not segment.users:
            self._release(segment.pages)

    # Page cache

    def read_file(self, name: str, pages: int) -> None:
        """Read ``pages`` further pages of a file: clean page cache. Those that reclaim dropped come first."""
        file = self.files.setdefault(name, File(Holder(Kind.FILE, name)))
        again = min(pages, file.evicted)
        handles = self._take(GFP_HIGHUSER_MOVABLE, file.holder, pages)
        self.refaults, file.evicted = self.refaults + again, file.evicted - again
        file.hold(handles)
        self._contents.mark_clean(handles)

    def write_file(self, name: str, pages: int) -> None:
        """Write ``pages`` further pages of a file: dirty page cache."""
        file = self.files.setdefault(name, File(Holder(Kind.FILE, name)))
        handles = self._take(GFP_HIGHUSER_MOVABLE, file.holder, pages)
        file.hold(handles)
        file.dirty.update(handles)

    def write_back(self, name: str, pages: int | None = None) -> int:
        """Write dirty pages of a file out, the oldest first; they are clean afterwards. Returns how many."""
        file = self.file(name)
        ready = [handle for handle in file.pages if handle in file.dirty and handle not in self._contents.writeback]
        written = ready[:pages]
        file.dirty.difference_update(written)
        self._contents.mark_clean(written)
        return len(written)

    def stall_writeback(self, name: str, pages: int = 1) -> list[Handle]:
        """Start writing dirty pages to a device that does not answer: they stay where they are until it does."""
        file = self.file(name)
        ready = [h for h in file.pages if h in file.dirty and h not in self._contents.writeback][:pages]
        self._contents.writeback.update(ready)
        return ready

    def end_writeback(self, name: str) -> None:
        """The device answered: the file's pages under writeback are clean."""
        file = self.file(name)
        ended = [handle for handle in file.pages if handle in self._contents.writeback]
        self._contents.writeback.difference_update(ended)
        file.dirty.difference_update(ended)
        self._contents.mark_clean(ended)

    def remove_file(self, name: str) -> None:
        """Delete a file: its pages go, dirty or not."""
        file = self.file(name)
        del self.files[name]
        self._forget(list(file.pages), file)

    def resize_file(self, name: str, pages: int, *, dirty: bool = False) -> None:
        """Have that many pages of a file in the cache: read (or write) further ones, or let the oldest go."""
        excess = self.cached(name) - pages
        if excess > 0:
            file = self.file(name)
            self._forget(list(islice(file.pages, excess)), file)
        elif excess < 0:
            (self.write_file if dirty else self.read_file)(name, -excess)

    def cached(self, name: str) -> int:
        """Pages of a file in the page cache."""
        return len(self.files[name].pages) if name in self.files else 0

    def file(self, name: str) -> File:
        """The file. Raises KernelError(ENOENT)."""
        if name not in self.files:
            raise KernelError(errno.ENOENT, name)
        return self.files[name]

    def clean_pages(self) -> dict[int, int]:
        """Zone number → pages that reclaim could drop."""
        return self._contents.droppable()

    def clean_count(self) -> int:
        """Pages that reclaim could drop, in all zones."""
        return sum(self._contents.droppable().values())

    def is_clean(self, handle: Handle) -> bool:
        """True for a page of the cache that need not be written before it can go."""
        return handle in self._contents.clean

    def pinned_clean(self) -> int:
        """Clean pages that a pin keeps from being dropped."""
        return sum(1 for handle in self._contents.pins if handle in self._contents.clean)

    def drop_caches(self) -> int:
        """``echo 1 > drop_caches``: every clean page, none of which leaves a shadow. Returns how many."""
        dropped = self._drop([handle for handle in self._contents.clean if handle not in self._contents.pins])
        for file in self.files.values():
            file.evicted = 0
        return dropped

    def drop_put_back(self, frames: Sequence[int]) -> int:
        """kswapd takes clean pages that a migration without room put back (``putback_movable_pages``), isolated or not.

        Returns how many.
        """
        handles = self._contents.at(frames)
        return self._drop([h for h in handles if h in self._contents.clean and h not in self._contents.pins])

    # Kernel memory

    def create_inodes(self, count: int) -> None:
        """Create files: inodes that stay and dentries that belong to them, both slab."""
        self.kernel_alloc("inode_cache", -(-count // INODES_PER_PAGE), kind=Kind.SLAB)
        self.kernel_alloc("dentry", -(-count // DENTRIES_PER_PAGE), kind=Kind.SLAB, gfp=GFP_RECLAIMABLE, single=True)

    def kernel_alloc(
        self, name: str, pages: int, *, kind: Kind = Kind.KERNEL, gfp: Gfp = GFP_KERNEL, single: bool = False
    ) -> None:
        """Pages for a kernel cache, none of which can move. ``single``: see Holder."""
        cache = self.caches.setdefault(name, Cache(Holder(kind, name, single=single), gfp))
        cache.pages += self._take(cache.gfp, cache.holder, pages)

    def kernel_free(self, name: str, pages: int | None = None) -> None:
        """Give the newest ``pages`` of a kernel cache back, or all."""
        cache = self.caches.get(name)
        if cache is None:
            return
        keep = 0 if pages is None else max(0, len(cache.pages) - pages)
        dropped = cache.pages[keep:]
        del cache.pages[keep:]
        self._release(dropped)
        if not cache.pages and not cache.empty:
            del self.caches[name]

    def empty_slabs(self, name: str) -> None:
        """The last object of each slab is gone, and the cache keeps its slabs (mm/slub.c, ``min_partial``)."""
        cache = self.caches[name]
        cache.empty, cache.pages = cache.empty + cache.pages, []

    def shrink_slabs(self) -> None:
        """``kmem_cache_shrink`` for every cache: what is empty goes."""
        for name, cache in list(self.caches.items()):
            dropped, cache.empty = cache.empty, []
            self._release(dropped)
            if not cache.pages:
                del self.caches[name]

    def resize_cache(self, name: str, pages: int, *, kind: Kind = Kind.KERNEL, gfp: Gfp = GFP_KERNEL) -> None:
        """Have that many pages in a kernel cache."""
        excess = (len(self.caches[name].pages) if name in self.caches else 0) - pages
        if excess > 0:
            self.kernel_free(name, excess)
        elif excess < 0:
            self.kernel_alloc(name, -excess, kind=kind, gfp=gfp)

    # Pins

    def pin(self, pid: int, vpage: int, *, long: bool = True) -> Handle:
        """Pin a virtual page where it is, as ``vmsplice`` does; returns the page's handle for ``unpin``."""
        handle = self.handle(pid, vpage)
        self._contents.pin(handle, long=long)
        return handle

    def unpin(self, handle: Handle, *, long: bool = True) -> None:
        """Drop a pin; the last one lets go of a page whose users have left."""
        if handle not in (self._contents.long_pins if long else self._contents.pins):
            raise KernelError(errno.EINVAL, f"page with handle {handle}", detail="not pinned")
        self._contents.unpin(handle, long=long)
        if handle in self._doomed and handle not in self._contents.pins:
            self._doomed.discard(handle)
            self._release([handle])

    def poison(self, pid: int, vpage: int) -> Frame:
        """``memory_failure`` on an anonymous page: every process that maps it dies, the frame is never used again.

        Returns the frame. Raises KernelError(EBUSY) for a pinned page, which this model does not poison.
        """
        handle = self.handle(pid, vpage)
        if handle in self._contents.pins:
            raise KernelError(errno.EBUSY, f"process {pid}, virtual page {vpage}", detail="pinned")
        frame = self._contents.frame(handle)
        self._frames.set_kind(frame, frame + 1, Kind.POISONED)
        self._poisoned = True
        users = [p.pid for p in self.processes.values() if handle in p.pages or _maps(p, handle)]
        for user in users:
            self.exit(user)
        return frame

    def handle(self, pid: int, vpage: int) -> Handle:
        """The page behind a virtual page. Raises KernelError(ESRCH, EFAULT)."""
        try:
            return self.process(pid).handle(vpage)
        except IndexError as e:
            raise KernelError(errno.EFAULT, f"process {pid}, virtual page {vpage}") from e

    # What was there already

    def adopt(self, kind: Kind, frames: Sequence[Frame], *, dirty: Iterable[Frame] = (), single: bool = False) -> None:
        """Give allocated frames of one kind, found on a captured machine, to one user named after it.

        Anonymous and shared memory belongs to a process, page cache (``dirty``: frames of it) to a file, the rest to a
        kernel cache of that name; ``single``: see Holder.
        """
        if not frames:
            return
        name = f"captured {'single ' if single else ''}{kind.value}"
        if kind in (Kind.ANON, Kind.SHMEM):
            pid = self._next_pid
            self._next_pid += 1
            holder = Holder(kind, name, pid)
            process = self.processes[pid] = Process(pid, holder, Holder(Kind.PAGE_TABLE, name, pid))
            process.segments.append(Segment(holder, self._contents.create(frames, holder)))
            return
        holder = Holder(kind, name, single=single)
        handles = self._contents.create(frames, holder)
        self._count(holder, len(frames))
        if kind is not Kind.FILE:
            self.caches[name] = Cache(holder, GFP_KERNEL, handles)
            return
        unclean = set(dirty)
        file = self.files[name] = File(holder, dict.fromkeys(handles))
        file.dirty.update(handle for handle, frame in zip(handles, frames, strict=True) if frame in unclean)
        self._contents.mark_clean([handle for handle in handles if handle not in file.dirty])

    def hold(self, handles: Iterable[Handle]) -> None:
        """Pin pages for long: what held them on a captured machine is not known."""
        for handle in handles:
            self._contents.pin(handle, long=True)

    def keep_in_place(self, handles: Iterable[Handle]) -> None:
        """Gigantic pages without a free one of their pool: migration would try for ever."""
        for handle in handles:
            self._contents.pin(handle, long=False)
            self.placeless.add(handle)

    # Frames in and out

    def _take(self, gfp: Gfp, holder: Holder, pages: int) -> list[Handle]:
        if not pages:
            return []
        try:
            frames = self._allocator.alloc(gfp, holder.kind, pages)
        except OutOfMemoryError as e:
            self._allocator.free(e.got)
            raise KernelError(errno.ENOMEM, holder.comm, detail=f"{e}") from e
        self._count(holder, pages)
        return self._contents.create(frames, holder)

    def _count(self, holder: Holder, pages: int) -> None:
        if holder.kind in NAMED_KERNEL_KINDS:
            self.kernels_own += pages

    def _release(self, handles: list[Handle]) -> None:
        """Pages of one holder."""
        if not handles:
            return
        self._count(self._contents.holder(handles[0]), -len(handles))
        pins = self._contents.pins
        if not pins.keys().isdisjoint(handles):
            self._doomed.update(handle for handle in handles if handle in pins)
            handles = [handle for handle in handles if handle not in pins]
        frames, poisoned = self._contents.end(handles), CODE[Kind.POISONED]
        if self._poisoned:
            frames = [frame for frame in frames if self._frames.kind(frame) != poisoned]
        self._allocator.free(frames)

    def _forget(self, handles: list[Handle], file: File) -> None:
        if len(handles) == len(file.pages):
            file.pages.clear()
        for handle in handles if file.pages else ():
            del file.pages[handle]
        file.dirty.difference_update(handles)
        self._contents.unmark_clean(handles)
        self._release(handles)

    def _drop(self, handles: list[Handle]) -> int:
        for holder, dropped in self._contents.by_holder(handles):
            file = self.files[holder.comm]
            for handle in dropped:
                del file.pages[handle]
            file.evicted += len(dropped)
        self._contents.unmark_clean(handles)
        self._release(handles)
        return len(handles)

    def reclaim(self, zones: frozenset[int], pages: int) -> int:
        """``shrink_inactive_list``: the oldest clean pages of those zones, outside memory that is being isolated."""
        chosen: list[Handle] = []
        clean, there = self._contents.clean, self._contents.droppable()
        wanted = min(pages, sum(there.get(zone, 0) for zone in zones))  # none behind the last of them is looked at
        left = clean.pages(zones)
        while left and len(chosen) < wanted:
            looked = clean.oldest(zones, min(left, wanted - len(chosen)))
            left -= len(looked)
            chosen += self._loose(looked)
            if len(chosen) < wanted:
                clean.put_behind(looked)
        return self._drop(chosen)

    def _loose(self, handles: list[Handle]) -> list[Handle]:
        """Those that no pin keeps and that lie outside memory that is being isolated, which whole pageblocks are."""
        frames, shift, pins = self._contents.frames(handles), self._frames.shape.pageblock_order, self._contents.pins
        isolated = {
            pageblock
            for pageblock in {frame >> shift for frame in frames}
            if self._frames.migratetype(pageblock << shift) == MigrateType.ISOLATE
        }
        if not isolated and pins.keys().isdisjoint(handles):
            return handles
        where = zip(handles, frames, strict=True)
        return [handle for handle, frame in where if frame >> shift not in isolated and handle not in pins]

    def kill(self) -> bool:
        """``out_of_memory``: the largest process dies. False when there is none left that owns memory."""
        victims = [process for process in self.processes.values() if process.rss]
        if not victims:
            return False
        victim = max(victims, key=lambda process: (process.rss, process.pid))
        self.oom_killed.append(victim.pid)
        self.exit(victim.pid)
        return True

    # Checks

    def holders_of_every_page(self) -> dict[Handle, int]:
        """Page → how many lists of users hold it; each live page must occur exactly once."""
        held: dict[Handle, int] = {}
        segments = {id(s): s for p in self.processes.values() for s in p.segments}
        lists = [
            *(pages for p in self.processes.values() for pages in (p.pages, p.tables)),
            *(segment.pages for segment in segments.values()),
            *(list(file.pages) for file in self.files.values()),
            *(cache.pages for cache in self.caches.values()),
            *(cache.empty for cache in self.caches.values()),
            *(page.handles for page in self.huge.pages),
            list(self._doomed),
        ]
        for pages in lists:
            for handle in pages:
                held[handle] = held.get(handle, 0) + 1
        return held


def _maps(process: Process, handle: Handle) -> bool:
    return any(handle in segment.pages for segment in process.segments)
