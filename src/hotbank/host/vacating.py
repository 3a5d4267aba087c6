# SPDX-License-Identifier: Apache-2.0
"""The program that moves pages of processes off a NUMA node: started by nodes.py and nobody else.

``vacating.py SYSCALL NODE WORKERS TARGET…``: looks through all processes, those with the most memory first, by a
process for each CPU. One that has pages on the node by /proc/PID/numa_maps (fs/proc/task_mmu.c, ``show_numa_map``) has
them moved to the one of the targets that has the most free pages just then, of those that its memory policies and its
cpuset allow, and to the next where that does not take all of them, by migrate_pages(2) (mm/mempolicy.c,
``kernel_migrate_pages``): that call moves a whole process and heeds no policy, so who
is bound to the node alone is left as it is. It says a line for each process with pages there, ``PID PAGES FAILED
ERRNO``, FAILED being ``bound`` for one that was left, and at last an empty line. That line is missing where one of
its processes was killed, and when its standard input ended before, or the thread that started it, with which it ends;
then pages are where they are. Nothing here imports hotbank: it must start fast.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

_PR_SET_PDEATHSIG = 1
_NODES = 1024  # bits of a node mask; MAX_NUMNODES is no more in any configuration
_PIDS = 4096  # bytes of a pipe that holds any number of them at a time


def main(call: int, node: int, workers: int, targets: list[int]) -> None:
    """Move what can be moved, and tell."""
    _die_with_parent()
    todo, ours = os.pipe()
    ends = [_begun(lambda: _work(call, node, targets, todo), ours) for _ in range(workers)]
    os.close(todo)
    for pid in processes():
        if select.select([0], [], [], 0)[0]:
            return
        try:
            os.write(ours, pid.to_bytes(4, "little"))
        except BrokenPipeError:  # nobody is left who would do it
            break
    os.close(ours)
    whole = True
    while ends:
        ready = select.select([0, *ends], [], [])[0]
        if 0 in ready:
            return
        whole = all([whole, *map(_came_to_its_end, ready)])
        ends = [end for end in ends if end not in ready]
    if whole:
        os.write(1, b"\n")


def _came_to_its_end(process: int) -> bool:
    """Of one that has ended: whether nobody killed it in its middle, as who is out of memory does."""
    found = os.waitid(os.P_PIDFD, process, os.WEXITED)
    return found is not None and (found.si_code, found.si_status) == (os.CLD_EXITED, 0)


def _begun(work: object, unused: int) -> int:
    """A process that does it; a descriptor that is readable when it has ended."""
    us, child = os.getpid(), os.fork()
    if child == 0:
        _die_with_parent()
        os.close(unused)
        if os.getppid() == us and callable(work):
            work()
        os._exit(0)
    return os.pidfd_open(child)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def processes() -> Iterator[int]:
    """All processes, those with the most resident memory first."""
    sizes = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/statm") as file:
                sizes.append((int(file.read().split()[1]), int(name)))
        except (OSError, IndexError):  # it has ended
            continue
    return (pid for size, pid in sorted(sizes, reverse=True) if size)


def _work(call: int, node: int, targets: Sequence[int], todo: int) -> None:
    while pid := os.read(todo, 4):
        said = moved(call, int.from_bytes(pid, "little"), node, targets)
        if said:
            os.write(1, f"{said}\n".encode())


def moved(call: int, pid: int, node: int, targets: Sequence[int]) -> str:
    """Move its pages off the node. What came of it; empty for a process without pages there, or that has ended."""
    try:
        with _lines(f"/proc/{pid}/numa_maps") as file:
            pages, bound = there(file, node)
        with _lines(f"/proc/{pid}/status") as file:
            own = next((line.split()[1] for line in file if line.startswith("Mems_allowed_list:")), None)
    except (OSError, IndexError):
        return ""
    if not pages:
        return ""
    bound += [] if own is None else [numbers(own)]  # a kernel without cpusets has no such line
    allowed = [target for target in targets if all(target in one for one in bound)]
    if not allowed:
        return f"{pid} {pages} bound 0"
    failed, error = pages, 0
    for target in sorted(allowed, key=free, reverse=True):
        failed, error = _migrate(call, pid, node, target)
        if failed == 0:
            break
    return f"{pid} {pages} {failed} {error}"


def free(node: int) -> int:
    """Free pages of it (drivers/base/node.c, ``node_read_vmstat``); 0 where nobody tells."""
    try:
        with _lines(f"/sys/devices/system/node/node{node}/vmstat") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("nr_free_pages ")), 0)
    except OSError:
        return 0


def _lines(path: str) -> TextIO:
    """In which names of files and programs are any bytes but line feeds."""
    return open(path, errors="replace", newline="\n")


def there(lines: Iterable[str], node: int) -> tuple[int, list[frozenset[int]]]:
    """Of a file ``numa_maps``: pages on the node, and the nodes to which mappings that have some are bound."""
    pages, bound = 0, []
    for line in lines:
        words = line.split()
        here = [int(word.partition("=")[2]) for word in words[2:] if word.startswith(f"N{node}=")]
        pages += sum(here)
        if here and words[1].startswith("bind"):
            bound.append(numbers(words[1].partition(":")[2]))
    return pages, bound


def numbers(text: str) -> frozenset[int]:
    """Those of a list such as ``0-2,5`` (lib/vsprintf.c, ``%*pbl``)."""
    runs = (run.partition("-") for run in text.split(",") if run)
    return frozenset(n for first, _, last in runs for n in range(int(first), int(last or first) + 1))


def _migrate(call: int, pid: int, node: int, target: int) -> tuple[int, int]:
    """Pages, or folios, that would not move, -1 where the call failed; and its errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = ctypes.c_ulong * (_NODES // (8 * ctypes.sizeof(ctypes.c_ulong)))
    masks = [words(), words()]
    for mask, number in zip(masks, (node, target), strict=True):
        bits = 8 * ctypes.sizeof(ctypes.c_ulong)
        mask[number // bits] = 1 << number % bits
    failed = libc.syscall(call, pid, ctypes.c_ulong(_NODES), *masks)
    return failed, ctypes.get_errno() if failed < 0 else 0


if __name__ == "__main__":
    syscall, number, many, *rest = map(int, sys.argv[1:])
    main(syscall, number, many, rest)
