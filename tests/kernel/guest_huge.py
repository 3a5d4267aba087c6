# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: holds huge pages of hugetlb in use, and lets some go when asked.

``python3 -S guest_huge.py FOLDER COUNT SHIFT`` holds so many pages of ``1 << SHIFT`` bytes, reads lines from the FIFO
``FOLDER/in`` and answers one JSON line each on ``FOLDER/out``, the first frame of each page that it still has:
``where``, or ``drop N LOW HIGH``, which lets N of them go that lie outside of the frames [LOW, HIGH).
"""

import ctypes
import json
import mmap
import struct
import sys

PAGE = 4096


def taken(shift: int) -> mmap.mmap:
    """One huge page, in use."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000 | shift << 26  # MAP_HUGETLB, MAP_HUGE_SHIFT
    held = mmap.mmap(-1, 1 << shift, flags)
    held[0] = 1
    return held


def frame(held: mmap.mmap) -> int:
    """Where it lies (Documentation/admin-guide/mm/pagemap.rst)."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(held))
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(address // PAGE * 8)
        entry: int = struct.unpack("Q", pagemap.read(8))[0]
    return entry & ((1 << 55) - 1)


def main(folder: str, count: str, shift: str) -> None:
    """Hold that many, answer until the guest ends."""
    held = [taken(int(shift)) for _ in range(int(count))]
    while True:
        with open(f"{folder}/in") as asked:
            verb, *numbers = asked.read().split()
        if verb == "drop":
            most, low, high = map(int, numbers)
            outside = [page for page in held if not low <= frame(page) < high]
            held = [page for page in held if page not in outside[:most]]
            del outside
        with open(f"{folder}/out", "w") as answer:
            json.dump(sorted(map(frame, held)), answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
