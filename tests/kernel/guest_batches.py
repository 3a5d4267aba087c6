# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: pages in the batches of an idle CPU, and how many of them a survey calls pinned.

``python3 -S guest_batches.py ROUNDS WAY`` prints one JSON list of two numbers for each round: without and with
emptying the batches between the two samples. WAY is ``move_pages``, or ``seal`` as on a kernel without NUMA.
"""

import ctypes
import json
import mmap
import os
import sys

from hotbank.errors import Code
from hotbank.host import Host, batches
from hotbank.memory import Zone

PAGE, MANY, FEW = 4096, 64, 6  # a batch of 15 pages, or 31, is passed on when it is full
MADV_FREE = 8


def main(rounds: int, way: str) -> None:
    if way == "seal":
        batches._move_pages = lambda: None
    print(json.dumps([compared() for _ in range(rounds)]))


def compared() -> tuple[int, int]:
    kept = on_cpu(1)
    os.sched_setaffinity(0, {0})
    drain, batches.drain = batches.drain, lambda: None
    without = pins()
    batches.drain = drain
    both = without, pins()
    kept.close()
    return both


def on_cpu(cpu: int) -> mmap.mmap:
    """Pages that are on an LRU list, and a few of them that are to change it."""
    os.sched_setaffinity(0, {cpu})
    mapping = mmap.mmap(-1, MANY * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for number in range(MANY):
        mapping[number * PAGE] = 1
    batches.drain()
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(FEW * PAGE), MADV_FREE)
    return mapping


def pins() -> int:
    host = Host()
    blocks = (block.number for block in host.snapshot().blocks if block.valid_zones == (Zone.MOVABLE,))
    return sum(e.why is Code.PINNED for number in blocks for e in host.survey(number).blocking)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
