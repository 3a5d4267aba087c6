# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest of the radar: where the kernel takes a page when it has none of the migratetype that is wanted.

``python3 -S -m hotbank.guest.fallbacks TRACING MANY`` fills memory with its own pages up to the watermarks, gives
pieces of several sizes back, too little of each pageblock for it to change hands, and fills pipes, whose pages can't
move. From the trace event ``mm_page_alloc_extfrag`` it takes of which order the free pieces were from which single
pages came, until it knows ``MANY``. It prints one JSON object: ``orders``, in the order in which they came.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from hotbank.machine import ZoneInfo
from hotbank.memory import Zone
from hotbank.sysfs import names, zoneinfo

_PAGE, _STRETCH = 4096, 2 << 20
_LARGE, _SINGLES = 64, 32  # pages of a stretch that go: together, and one by one
_SPARE = 24 << 20  # bytes that stay free above them
_LEAST = 8 << 20
_LEAST_FREE = "/proc/sys/vm/min_free_kbytes"
_KEPT_FREE = 2048  # KiB, so that what is given back is more
_PIPE, _PIPES, _SET_PIPE_SIZE = 1 << 20, 200, 1031  # F_SETPIPE_SZ
_STEP = 64 << 10
_EVENT = "events/kmem/mm_page_alloc_extfrag/enable"
_STOLEN = re.compile(r"alloc_order=0 fallback_order=(\d+) .*alloc_migratetype=[02] .*change_ownership=0")
_NO_HUGE_PAGES, _POPULATE = 15, 23  # MADV_NOHUGEPAGE, MADV_POPULATE_WRITE


def main(tracing: str, many: int) -> None:
    """Fill, give back, and watch."""
    least = Path(_LEAST_FREE)
    before = least.read_text("ascii")
    least.write_text(str(_KEPT_FREE))
    try:
        print(json.dumps({"orders": _watch(Path(tracing), many)}))
    finally:
        least.write_text(before)


def _watch(tracing: Path, many: int) -> list[int]:
    held = _filled()
    (tracing / "trace").write_text("")
    (tracing / _EVENT).write_text("1")
    try:
        orders: list[int] = []
        for _held in _pipes():
            orders = [int(order) for order in _STOLEN.findall((tracing / "trace").read_text("ascii"))]
            if len(orders) >= many:
                break
        return orders[:many]
    finally:
        (tracing / _EVENT).write_text("0")
        held.close()


def _filled() -> mmap.mmap:
    """Nearly all that such pages may have, with holes."""
    size = (_to_fill() - _SPARE) // _STRETCH * _STRETCH
    held = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held.madvise(_NO_HUGE_PAGES)
    held.madvise(_POPULATE)
    for start in range(0, size, _STRETCH):
        held.madvise(mmap.MADV_DONTNEED, start, _LARGE * _PAGE)
        for single in range(_SINGLES):
            held.madvise(mmap.MADV_DONTNEED, start + (2 * _LARGE + 2 * single) * _PAGE, _PAGE)
    return held


def _to_fill() -> int:
    """Bytes down to the watermarks and what zones keep for others."""
    return _PAGE * sum(max(0, zone.free - zone.high - zone.reserve_movable) for zone in _zones())


def _for_kernel() -> int:
    """Bytes down to the watermarks that the kernel can take itself."""
    its = (zone for zone in _zones() if zone.zone != Zone.MOVABLE)
    return _PAGE * sum(max(0, zone.free - zone.cma_free - zone.high) for zone in its)


def _zones() -> tuple[ZoneInfo, ...]:
    return zoneinfo.ZONES.parse(Path(f"/{names.ZONEINFO}").read_text("ascii"))


def _pipes() -> Iterator[None]:
    """A little more of pipes each time."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4 * _PIPES,) * 2)
    held = []
    for _ in range(_PIPES):
        if _for_kernel() < _LEAST:  # the kernel would kill somebody next
            return
        ends = os.pipe()
        held.append(ends)
        fcntl.fcntl(ends[1], _SET_PIPE_SIZE, _PIPE)
        for _ in range(_PIPE // _STEP):
            os.write(ends[1], bytes(_STEP))
        yield


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
