# SPDX-License-Identifier: Apache-2.0
"""NUMA nodes that are emptied as a whole before the blocks that are their last memory go offline.

Truth: mm/vmscan.c, ``user_proactive_reclaim``: ``BYTES swappiness=0`` written to nodeX/reclaim (6.17) has that much of
the page cache dropped, anonymous memory only where there is swap and next to no cache; EAGAIN when it was less, EBUSY
while somebody else does so, and a signal is looked at after each quarter. mm/mempolicy.c, ``kernel_migrate_pages``:
moves what a process has mapped, for CAP_SYS_NICE also what others map as well; it wants the right to look into the
process. Page cache that nobody maps and files of tmpfs wait for the offline. Nothing is held by any of it.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence

from hotbank.host import vacating
from hotbank.host.parent import readable
from hotbank.host.tree import Tree
from hotbank.host.writer import Waited, Writers
from hotbank.kernels import Arch
from hotbank.machine import NodeStatus, Vacated
from hotbank.memory import MIB
from hotbank.sysfs import names, node, vmstat

Wait = Callable[[Waited], str | None]
"""Waits for it; why it was ended, None where it came to its end."""

_AT_ONCE = 256 * MIB  # asked of one write, so that its quarters are short
_NAMED = 3  # processes that are named
_SYS_PTRACE, _SYS_NICE = 1 << 19, 1 << 23  # include/uapi/linux/capability.h
_MOVES = _SYS_PTRACE | _SYS_NICE


def statuses(tree: Tree, nodes: Collection[int], arch: Arch) -> tuple[NodeStatus, ...]:
    """What this process can do about each of the nodes."""
    moves = arch.migrate_pages is not None and _rights(tree) & _MOVES == _MOVES
    drops = ((n, os.access(tree.path(names.reclaim(n)), os.W_OK)) for n in sorted(nodes))
    return tuple(NodeStatus(number, can_drop, moves) for number, can_drop in drops)


def _rights(tree: Tree) -> int:
    lines = (tree.read("proc/self/status") or "").splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


class Vacancy:
    """One node that is to be emptied, and how."""

    def __init__(self, tree: Tree, status: NodeStatus, arch: Arch, page_size: int, writers: Writers) -> None:
        self._tree, self._status, self._arch = tree, status, arch
        self._page_size, self._writers = page_size, writers

    def make(self, drop: int, wait: Wait) -> Vacated:
        """Drop so many pages of clean cache, then move what processes have mapped there."""
        dropped = self._drop(drop, wait) if drop and self._status.drops else 0
        return Vacated(dropped, tuple(self._moved(wait)) if self._status.moves else ())

    def _drop(self, pages: int, wait: Wait) -> int | None:
        """How many pages the kernel says that it dropped."""
        before, left = self._stolen(), pages * self._page_size
        while left > 0:
            size = min(left, _AT_ONCE)
            writer = self._writers.write(self._tree.path(names.reclaim(self._status.number)), f"{size} swappiness=0")
            if wait(writer) is not None or writer.errno:
                break
            left -= size
        now = self._stolen()
        return now - before if now is not None and before is not None else None

    def _stolen(self) -> int | None:
        counters = self._tree.value(names.node(self._status.number, "vmstat"), vmstat.COUNTERS) or {}
        return counters.get("pgsteal_proactive")

    def _moved(self, wait: Wait) -> Iterator[str]:
        """Move; what was not moved, and why."""
        assert self._arch.migrate_pages is not None, "else nobody says that it moves pages"
        others = [n for n in self._with_memory() if n != self._status.number]
        try:
            moving = Moving(self._arch.migrate_pages, self._status.number, others, self._writers.kept)
        except OSError as e:
            yield f"node {self._status.number} was emptied block by block: no process could be started: {e.strerror}"
            return
        why = wait(moving) or ("the program that moves pages was ended" if moving.errno else "")
        if why:
            yield f"node {self._status.number} was not emptied to the end: {why}"
        yield from _left(moving.said, self._status.number, self._tree)

    def _with_memory(self) -> tuple[int, ...]:
        return self._tree.value(f"{names.NODES}/has_memory", node.LIST) or ()


def _left(said: Collection[Sequence[str]], number: int, tree: Tree) -> Iterator[str]:
    bound = [pid for pid, _, failed, _ in said if failed == "bound"]
    if bound:
        yield f"bound to node {number} alone, so left to the offline, which heeds no policy: {_some(bound, tree)}"
    refused = [pid for pid, _, _, error in said if error == str(errno.EPERM)]
    if refused:
        yield f"not to be moved by this user, so left to the offline: {_some(refused, tree)}"


def _some(pids: Sequence[str], tree: Tree) -> str:
    some = ", ".join(f"{tree.read(f'proc/{pid}/comm') or 'a process'} ({pid})" for pid in pids[:_NAMED])
    return some + (f" and {len(pids) - _NAMED} more" if len(pids) > _NAMED else "")


class Moving(Waited):
    """The program that moves (vacating.py), under way. Raises OSError where no process is to be had."""

    def __init__(self, call: int, number: int, targets: Collection[int], kept: tuple[int, ...]) -> None:
        workers = len(os.sched_getaffinity(0))
        words = map(str, (call, number, workers, *targets))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", vacating.__file__, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=kept,
        )
        self._heard, self._ended = b"", False

    @property
    def pending(self) -> bool:
        """True until all of it is gone: who was cancelled in the kernel ends when its pages have moved."""
        self.listen(0.0)
        return not self._ended

    def listen(self, seconds: float | None) -> None:
        """Hear what it says; it hangs up when all of it is gone."""
        assert self._process.stdout is not None
        if not self._ended and readable(self._process.stdout.fileno(), seconds):
            word = os.read(self._process.stdout.fileno(), 65536)
            self._heard += word
            if not word:
                self._process.stdout.close()
                self._hang_up()
                self._process.wait()
                self._ended = True

    def cancel(self) -> None:
        """Have all of it end."""
        self._hang_up()
        self._process.send_signal(signal.SIGKILL)

    def _hang_up(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    @property
    def errno(self) -> int:
        """0 when it came to its end, EINTR when it was ended before."""
        return 0 if b"\n\n" in b"\n" + self._heard else errno.EINTR

    @property
    def said(self) -> list[list[str]]:
        """Of each process with pages there: its number, pages, those that failed or ``bound``, an errno."""
        return [line.split() for line in self._heard.decode().splitlines() if line]
