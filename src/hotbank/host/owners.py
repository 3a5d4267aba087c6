# SPDX-License-Identifier: Apache-2.0
"""Who holds a page: the processes that map it and the cgroup that pays for it.

Truth: fs/proc/task_mmu.c (``pagemap_read``: bit 63 present, bits 0-54 the pfn, for CAP_SYS_ADMIN only),
fs/proc/page.c (``kpagecgroup_read``: the inode of the memory cgroup). The process that maps a page need not be
the one that pinned it.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from hotbank.host.tree import Tree
from hotbank.machine import Owner
from hotbank.numbers import digits

_VMA = re.compile(r"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ", re.MULTILINE)
_PFN = (1 << 55) - 1
_PRESENT = 1 << 63
_VARIANTS = tuple(_PRESENT | low << 55 | high << 61 for low in range(16) for high in range(2))
_CHUNK = 1 << 16  # pagemap entries read at once: 512 KiB
# However late it is, since on a busy machine all time for it may have passed before the first: 40 ms of a PC.
_LEAST, _LEAST_FOLDERS = 4 * _CHUNK, 256  # pagemap entries, and folders of cgroups
_CGROUPS = "sys/fs/cgroup"


def mappers(tree: Tree, pfns: Collection[int], page_size: int, out_of_time: Callable[[], bool]) -> dict[int, Owner]:
    """For each of the pfns the first process found that maps it; the biggest processes are asked first.

    Stops when every pfn has an owner, or ``out_of_time`` says so and the least was looked at.
    """
    wanted = {variant | pfn: pfn for pfn in pfns for variant in _VARIANTS}
    found: dict[int, Owner] = {}
    search = _Search(out_of_time)
    for pid in _by_resident_size(tree):
        if search.is_over() or len(found) == len(set(pfns)):
            break
        for pfn in _mapped(tree, pid, wanted, page_size, search):
            found.setdefault(pfn, Owner(pid, tree.read(f"proc/{pid}/comm")))
    return found


@dataclass(slots=True)
class _Search:
    """How much was looked at, and whether that is enough. ``entries``: of pagemaps."""

    out_of_time: Callable[[], bool]
    entries: int = 0

    def is_over(self) -> bool:
        return self.entries >= _LEAST and self.out_of_time()


def cgroups(tree: Tree, inodes: Collection[int], out_of_time: Callable[[], bool]) -> dict[int, str]:
    """Paths of the memory cgroups with these inodes, below the cgroup file system (``/`` is its root).

    Stops when each is found, or ``out_of_time`` says so and the least was looked at.
    """
    missing, found = set(inodes), dict[int, str]()
    unified = tree.read(f"{_CGROUPS}/cgroup.controllers") is not None
    top = tree.path(_CGROUPS if unified else f"{_CGROUPS}/memory")
    for looked, (folder, folders, _) in enumerate(os.walk(top), start=1):
        inode = _inode(folder)
        if inode in missing:
            missing.remove(inode)
            found[inode] = "/" + os.path.relpath(folder, top).removeprefix(".")
        if not missing or (looked >= _LEAST_FOLDERS and out_of_time()):
            break
        folders.sort()
    return found


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return -1


def _by_resident_size(tree: Tree) -> list[int]:
    sizes = {}
    for name in tree.names("proc"):
        pid = digits(name)
        statm = (tree.read(f"proc/{name}/statm") or "").split() if pid is not None else []
        resident = digits(statm[1]) if len(statm) > 1 else None
        if pid is not None and resident:
            sizes[pid] = resident
    return sorted(sizes, key=lambda pid: (-sizes[pid], pid))


def _mapped(tree: Tree, pid: int, wanted: dict[int, int], page_size: int, search: _Search) -> Iterator[int]:
    pagemap = tree.open(f"proc/{pid}/pagemap")
    if pagemap is None:
        return
    try:
        for start, end in _VMA.findall(tree.read(f"proc/{pid}/maps") or ""):
            for page in range(int(start, 16) // page_size, int(end, 16) // page_size, _CHUNK):
                if search.is_over():
                    return
                count = min(_CHUNK, int(end, 16) // page_size - page)
                search.entries += count
                entries = array("Q", _whole_entries(os.pread(pagemap, count * 8, page * 8)))
                yield from (wanted[entry] for entry in wanted.keys() & set(entries))
    except (OSError, OverflowError):
        return
    finally:
        os.close(pagemap)


def _whole_entries(raw: bytes) -> bytes:
    return raw[: len(raw) // 8 * 8]
