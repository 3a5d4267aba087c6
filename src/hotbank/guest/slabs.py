# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest of the radar: a memory block with hardly anything but slabs in it, and what its offlines come to.

``python3 -S -m hotbank.guest.slabs BLOCK FOLDER MANY KEPT PIPES SECONDS`` puts the block online for the kernel, makes
``MANY`` files in a folder of ramfs, whose inodes and dentries are slabs, and removes all but ``KEPT`` in the middle, so
that there are pageblocks of the kernel with nothing in them at the block's lower end. It tries to take the block
offline, each time for so many seconds; holds pipes of 128 slots, whose 5 KiB make slabs of several pages however small
slabs are to be; and tries again. One process that has touched its memory before does all of it, since whatever the
kernel needed for another would get into the block as well. It prints one JSON object.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from hotbank.host import Host
from hotbank.machine import Pages
from hotbank.memory import IMMOVABLE_KINDS, Kind
from hotbank.sysfs import names

_SLOTS = 128 * 4096  # bytes: 128 slots of 40 bytes are an object of kmalloc-8k
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ
_HEAP = 24 << 20  # bytes: more than this process ever needs, so that it needs no page table later
_STIR = 8
_CACHES = Path("/sys/kernel/slab")
_OF_KERNEL = ("Unmovable", "Reclaimable")


def main(block: int, folder: str, many: int, kept: int, pipes: int, seconds: int) -> None:
    """Do all of it, once without the block and once with it."""
    host, place = Host(), os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    state = os.open(f"/{names.block(block, 'state')}", os.O_WRONLY)
    warm = next(b.number for b in host.snapshot().blocks if b.number < block)
    signal.signal(signal.SIGALRM, _interrupt)
    bytes([1]) * _HEAP  # written to, so that it is there, and kept (MALLOC_TRIM_THRESHOLD_ in the guest's profile)
    warmed = _look(host.pages(warm)), _pageblocks(), _offline(state, seconds)
    held = _pipes(pipes, 0)
    _fill(place, many // 8, 0)
    for _ in range(_STIR):  # what the kernel takes of slabs to tell of a block is there, else it would lie lowest
        Path(f"/{names.block(block, 'uevent')}").write_text("change")
    os.write(state, b"online_kernel")
    _fill(place, many, kept)
    _shrink()
    seen = host.pages(block)
    found: dict[str, Any] = {"before": _pageblocks(), "single": _look(seen), "empty": _empty(seen)}
    found |= {"first": _offline(state, seconds), "after": _pageblocks(), "again": _offline(state, seconds)}
    held += _pipes(pipes, _SLOTS)
    found |= {"large": _look(host.pages(block)), "last": _offline(state, seconds)}
    del held, warmed
    print(json.dumps(found))


def _interrupt(*_: object) -> None:
    raise InterruptedError(errno.EINTR, "the time is over")


def _offline(state: int, seconds: int) -> str:
    """``done``, or the errno's name. What looking at the block took of slabs is gone first."""
    _shrink()
    signal.alarm(seconds)
    try:
        os.write(state, b"offline")
    except OSError as e:
        return errno.errorcode[e.errno or 0]
    finally:
        signal.alarm(0)
    return "done"


def _fill(place: int, many: int, kept: int) -> None:
    """Files that stay in the middle of some that go."""
    first = (many - kept) // 2
    for number in range(many):
        os.close(os.open(f"{number:x}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=place))
    for number in (*range(first), *range(first + kept, many)):
        os.unlink(f"{number:x}", dir_fd=place)


def _shrink() -> None:
    """Each cache lets go of its empty slabs; some have several names."""
    for cache in {path.resolve() for path in _CACHES.iterdir()}:
        (cache / "shrink").write_text("1")


def _look(pages: Pages) -> Mapping[str, int]:
    """Pages of each kind that can't move; slabs of one page apart."""
    counts = {kind: sum(n for found, n in pages.runs if found is kind) for kind in IMMOVABLE_KINDS}
    single = sum(count for _, count in pages.single)
    counts[Kind.SLAB] -= single
    return {kind.value: count for kind, count in counts.items() if count} | {"single": single}


def _empty(pages: Pages) -> int:
    """How many pages at the block's lower end are none that can't move: so much is isolated whatever comes behind."""
    return sum(count for _, count in takewhile(lambda run: run[0] not in IMMOVABLE_KINDS, pages.runs))


def _pipes(many: int, size: int) -> list[tuple[int, int]]:
    """That many pipes, with room for so many bytes if that is said."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4 * many + 256,) * 2)
    made = [os.pipe() for _ in range(many)]
    for _, end in made if size else ():
        fcntl.fcntl(end, _SET_PIPE_SIZE, size)
    return made


def _pageblocks() -> int:
    """Pageblocks of zone Normal whose migratetype is the kernel's (mm/vmstat.c, ``pagetypeinfo_showblockcount``)."""
    blocks = Path("/proc/pagetypeinfo").read_text("ascii").partition("Number of blocks type")[2]
    header, _, rows = blocks.partition("\n")
    counts = re.search(r"zone\s+Normal\s+([\d ]+)", rows)
    told = dict(zip(header.split(), map(int, counts[1].split() if counts else ()), strict=False))
    return sum(told.get(kind, 0) for kind in _OF_KERNEL)


if __name__ == "__main__":
    number, where, *rest = sys.argv[1:]
    main(int(number), where, *map(int, rest))
