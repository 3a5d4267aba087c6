# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: memory of node 1, by a memory policy, until it is killed.

``python3 -S guest_binder.py FILE prefer|bind MIB CACHE``: anonymous memory whose policy, set for it alone (mbind(2)),
is to lie on node 1 if it can, or nowhere else; and so many MiB of a file that are read with the first of these.
Says its process id into the file when all is there; on SIGUSR1, in /run/whole, how many pages are not what was written.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import time
from array import array

PAGE, MIB = 4096, 1 << 20
MBIND, SET_MEMPOLICY = 235, 237  # arm64
MODES = {"prefer": 1, "bind": 2}
NODE_1, BITS = ctypes.c_ulong(1 << 1), 64


def main(file: str, policy: str, size: int, cache: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    held = mmap.mmap(-1, size * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.c_ulong(ctypes.addressof(ctypes.c_char.from_buffer(held)))
    done(libc.syscall(MBIND, start, ctypes.c_ulong(len(held)), MODES[policy], ctypes.byref(NODE_1), BITS, 0))
    words = memoryview(held).cast("Q")
    numbers = array("Q", range(1, len(held) // PAGE + 1))
    words[:: PAGE // 8] = numbers
    if cache:
        done(libc.syscall(SET_MEMPOLICY, MODES["prefer"], ctypes.byref(NODE_1), BITS))
        read(f"/mnt/{os.path.basename(file)}", cache)
        done(libc.syscall(SET_MEMPOLICY, 0, None, 0))
    signal.signal(signal.SIGUSR1, lambda *_: say("/run/whole", wrong(words, numbers)))
    say(file, os.getpid())
    while True:
        time.sleep(1)


def wrong(words: memoryview, numbers: array[int]) -> int:
    """Pages that are not what was written."""
    return sum(a != b for a, b in zip(words[:: PAGE // 8].tolist(), numbers, strict=True))


def done(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), "policy")


def read(path: str, mib: int) -> None:
    with open(path, "wb") as file:
        file.truncate(mib * MIB)
        os.fsync(file.fileno())
    with open(path, "rb", buffering=0) as file:
        while file.read(MIB):
            pass


def say(path: str, what: object) -> None:
    with open(path + ".part", "w") as file:
        file.write(f"{what}\n")
    os.rename(path + ".part", path)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
