# SPDX-License-Identifier: Apache-2.0
"""What a workload calls: the users of memory (tasks.py) behind the model's lock, and what concerns several parts.

Whatever ends a page's writeback lets an offline go on that waited for it, so each call ends with that question.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from hotbank import kernels
from hotbank.errors import KernelError
from hotbank.memory import Kind
from hotbank.model.alloc import GFP_BALLOON
from hotbank.model.lru import Handle
from hotbank.model.parts import Parts
from hotbank.model.tasks import PTES_PER_TABLE, Tasks

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")


def _call(
    does: Callable[Concatenate[Tasks, _Given], _Answer],
) -> Callable[Concatenate[SystemCalls, _Given], _Answer]:
    """The method of Tasks, while nobody else sees or changes the model."""

    @wraps(does)
    def call(self: SystemCalls, /, *args: _Given.args, **named: _Given.kwargs) -> _Answer:
        with self.quiet():
            return does(self.tasks, *args, **named)

    return call


class SystemCalls:
    """The system calls of one model. Errors are KernelError with the errno that the call would give."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self.tasks = parts, parts.tasks

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """While it is entered, nobody else sees or changes the model; for calls of its parts."""
        with self._parts.lock:
            try:
                yield
            finally:
                self._parts.hotplug.settle()

    spawn = _call(Tasks.spawn)
    grow = _call(Tasks.grow)
    shrink = _call(Tasks.shrink)
    exit = _call(Tasks.exit)
    fork = _call(Tasks.fork)
    share = _call(Tasks.share)
    write = _call(Tasks.write)

    read_file = _call(Tasks.read_file)
    write_file = _call(Tasks.write_file)
    write_back = _call(Tasks.write_back)
    stall_writeback = _call(Tasks.stall_writeback)
    end_writeback = _call(Tasks.end_writeback)
    remove_file = _call(Tasks.remove_file)
    drop_caches = _call(Tasks.drop_caches)
    reclaimable = _call(Tasks.clean_count)

    create_inodes = _call(Tasks.create_inodes)
    kernel_alloc = _call(Tasks.kernel_alloc)
    kernel_free = _call(Tasks.kernel_free)

    def read(self, pid: int, vpage: int) -> int:
        """The content of a virtual page. Raises KernelError(EFAULT), and EIO when its bank has no power."""
        parts = self._parts
        with self.quiet():
            frame = parts.contents.frame(self.tasks.handle(pid, vpage))
            if parts.contents.is_dark(frame):
                raise KernelError(errno.EIO, f"read pfn {parts.geometry.pfn(frame):#x}", detail="its bank has no power")
            return parts.frames.content(frame)

    def free(self) -> int:
        """Free pages of all zones (MemFree)."""
        with self.quiet():
            return sum(self._parts.frames.free_pages(zone.number) for zone in self._parts.allocator.zones)

    def fill_until(self, free: int, comm: str = "hog") -> int:
        """Start a process that grows until ``free`` pages or fewer are left; returns its pid."""
        with self.quiet():
            pid = self.tasks.spawn(comm)
            while (missing := self.free() - free) > 0:
                # Of each 513 pages one is the table of the others; the last few may cost none.
                self.tasks.grow(pid, max(1, missing * PTES_PER_TABLE // (PTES_PER_TABLE + 1)))
            return pid

    def place(self, pid: int, block: int) -> list[int]:
        """The process's anonymous virtual pages that lie in the block, ascending."""
        with self.quiet():
            start, end = self._parts.geometry.frames(block)
            frames = self._parts.contents.frames(self.tasks.process(pid).pages)
            return [vpage for vpage, frame in enumerate(frames) if start <= frame < end]

    # Pins and errors

    def pin(self, pid: int, vpage: int, *, seconds: float | None = None) -> Handle:
        """Pin a virtual page where it is, as ``vmsplice`` does, for good or for ``seconds``; returns unpin's key."""
        with self.quiet():
            handle = self.tasks.pin(pid, vpage, long=seconds is None)
        if seconds is not None:
            self._parts.clock.call_later(seconds, lambda: self._unpin(handle, long=False))
        return handle

    def register(self, pid: int, vpage: int) -> Handle:
        """Pin for long with ``FOLL_LONGTERM``, as io_uring does: the page first moves out of Movable and CMA.

        Returns ``unpin``'s key. Raises KernelError(ENOMEM) when the kernel zones have no room, EAGAIN when it is
        pinned in place already.
        """
        with self.quiet():
            self._parts.hotplug.migration.leave_movable(self.tasks.handle(pid, vpage))
            return self.tasks.pin(pid, vpage)

    def unpin(self, key: int) -> None:
        """Drop a long pin. Raises KernelError(EINVAL)."""
        self._unpin(Handle(key), long=True)

    def _unpin(self, handle: Handle, *, long: bool) -> None:
        with self.quiet():
            self.tasks.unpin(handle, long=long)

    def poison(self, pid: int, vpage: int) -> int:
        """A memory error hits a virtual page: ``memory_failure`` kills who maps it. Returns the pfn."""
        with self.quiet():
            return self._parts.geometry.pfn(self.tasks.poison(pid, vpage))

    # What an administrator or a hypervisor asks for

    def set_huge_pages(self, pages: int) -> int:
        """``nr_hugepages``: have that many huge pages, as far as memory goes. Returns how many there are.

        Raises KernelError(EOPNOTSUPP) where the kernel has none, as our small one for arm.
        """
        if not kernels.arch(self._parts.arch).huge_pages:
            raise KernelError(errno.EOPNOTSUPP, "nr_hugepages")
        with self.quiet():
            return self.tasks.huge.resize(pages)

    def use_huge_pages(self, pages: int) -> None:
        """Have that many of the huge pages in use. Raises KernelError(ENOMEM)."""
        with self.quiet():
            self.tasks.huge.use(pages)

    def set_per_cpu_lists(self, length: int) -> None:
        """Keep up to that many freed pages for each zone and type out of the buddy lists; 0 switches them off."""
        with self.quiet():
            self._parts.allocator.pcp.drain()
            self._parts.allocator.pcp.length = length

    def balloon(self, pages: int) -> None:
        """Have a balloon of that many pages, which the hypervisor takes. Raises KernelError(ENOMEM)."""
        with self.quiet():
            self.tasks.resize_cache("balloon", pages, kind=Kind.BALLOON, gfp=GFP_BALLOON)
