# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: one breath. Memory grows evenly, each page with content of its own, is checked, and let go.

``python3 -S guest_breath.py TOP RATE FLOOR``: MiB, MiB a second, and the bytes of MemAvailable that are watched. It
prints one JSON line: ``damaged`` MiB, and what a second process with locked memory saw meanwhile: ``least``, the least
MemAvailable in bytes, and ``below``, the longest time in seconds with less than FLOOR.
"""

import ctypes
import json
import mmap
import os
import sys
import time

MIB = 1 << 20
EVERY = 0.1  # seconds between looks
MCL_CURRENT, MCL_FUTURE = 1, 2


def main(top: int, rate: float, floor: int) -> None:
    ended, told = watched(floor)
    damaged = breathe(top, rate)
    os.close(ended)
    with os.fdopen(told) as said:
        print(json.dumps({"damaged": damaged, **json.load(said)}))


def breathe(top: int, rate: float) -> int:
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    noise = os.urandom(MIB) * 2
    held, began = list[mmap.mmap](), time.monotonic()
    for number in range(top):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        held.append(mmap.mmap(-1, MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))  # all at once is more than there is
        held[number][:] = content(noise, number)
    return sum(kept[:] != content(noise, number) for number, kept in enumerate(held))


def content(noise: bytes, number: int) -> bytes:
    """Of one MiB; no two are alike."""
    return noise[number * 64 : number * 64 + MIB]


def watched(floor: int) -> tuple[int, int]:
    """Start to look; what is closed to end it, and where it then tells."""
    reads, ended = os.pipe()
    told, tells = os.pipe()
    if os.fork() == 0:
        os.close(ended)
        os.close(told)
        os.write(tells, json.dumps(watch(reads, floor)).encode())
        os._exit(0)
    os.close(reads)
    os.close(tells)
    return ended, told


def watch(ended: int, floor: int) -> dict[str, float]:
    ctypes.CDLL(None).mlockall(MCL_CURRENT | MCL_FUTURE)
    os.set_blocking(ended, False)
    least, longest, since = available(), 0.0, time.monotonic()
    while going_on(ended):
        time.sleep(EVERY)
        least, now = min(least, available()), time.monotonic()
        since = now if available() >= floor else since
        longest = max(longest, now - since)
    return {"least": least, "below": longest}


def going_on(ended: int) -> bool:
    try:
        return os.read(ended, 1) != b""
    except BlockingIOError:
        return True


def available() -> int:
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) << 10


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
