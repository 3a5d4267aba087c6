# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: memory in use so that each block holds a given share, and checked when asked.

``python3 -S fill.py JSON`` with ``seed``, ``first`` (the first block), ``pages`` (of a block), ``shares`` (percent in
use, block by block from the first on), ``pinned`` (blocks in which a pipe refers to some pages), ``cache`` (MiB of a
file that is read afterwards), and ``node`` (where all of it is to lie if it can, None: anywhere). Anonymous memory is
taken until the blocks are full; then all but the shares is given back, in runs of ``RUN`` pages chosen by the seed.
``/run/fill`` says how many pages each block holds; on SIGUSR1
everything is read, and ``/run/checked`` says how many pages are not what was written.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import signal
import struct
import sys
from array import array
from typing import Any

PAGE, MIB, RUN = 4096, 1 << 20, 16
CACHED = "/mnt/cached"
PFN = (1 << 55) - 1
SET_MEMPOLICY, MPOL_DEFAULT, MPOL_PREFERRED = 237, 0, 1  # arm64


def main(asked: dict[str, Any]) -> None:
    prefer(asked["node"])
    dice, held = random.Random(asked["seed"]), taken(asked)
    words = memoryview(held).cast("Q")
    frames = frames_of(held)
    runs = sorted_by_block(frames, asked)
    kept = keep(held, runs, asked, dice)
    _pins = [pin(held, own) for block, own in kept.items() if block in asked["pinned"]]
    cache = read_cache(asked["cache"])
    prefer(None)
    say("/run/fill", {block: RUN * len(own) for block, own in kept.items()})
    signal.signal(signal.SIGUSR1, lambda *_: say("/run/checked", check(words, kept, cache)))
    while True:
        signal.pause()


def prefer(node: int | None) -> None:
    """What this process takes from now on lies there, as long as there is room (set_mempolicy(2), MPOL_PREFERRED)."""
    mask = None if node is None else ctypes.byref(ctypes.c_ulong(1 << node))
    mode = MPOL_DEFAULT if node is None else MPOL_PREFERRED
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(SET_MEMPOLICY, mode, mask, 0 if node is None else 64) and node is not None:
        raise OSError(ctypes.get_errno(), "set_mempolicy")


def taken(asked: dict[str, Any]) -> mmap.mmap:
    """Anonymous memory for all of the blocks, each page with its number."""
    size = asked["take"] * MIB
    held = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held.madvise(mmap.MADV_NOHUGEPAGE)
    memoryview(held).cast("Q")[:: PAGE // 8] = array("Q", range(1, size // PAGE + 1))
    return held


def frames_of(held: mmap.mmap) -> array[int]:
    address = ctypes.addressof(ctypes.c_char.from_buffer(held))
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(address // PAGE * 8)
        return array("Q", pagemap.read(len(held) // PAGE * 8))


def sorted_by_block(frames: array[int], asked: dict[str, Any]) -> dict[int, list[int]]:
    """The runs of virtual pages by the block in which all of their frames lie; None: in several, or elsewhere."""
    runs: dict[int, list[int]] = {}
    for at in range(0, len(frames), RUN):
        blocks = {(frames[at] & PFN) // asked["pages"], (frames[at + RUN - 1] & PFN) // asked["pages"]}
        runs.setdefault(blocks.pop() if len(blocks) == 1 else -1, []).append(at)
    return runs


def keep(
    held: mmap.mmap, runs: dict[int, list[int]], asked: dict[str, Any], dice: random.Random
) -> dict[int, list[int]]:
    """Give back what is too much. The runs that stay, by block."""
    kept = {}
    for block, own in sorted(runs.items()):
        number = block - asked["first"]
        share = asked["shares"][number] if 0 <= number < len(asked["shares"]) else 0
        dice.shuffle(own)
        stay = asked["pages"] * share // 100 // RUN
        kept[block] = own[:stay]
        for at in own[stay:]:
            held.madvise(mmap.MADV_DONTNEED, at * PAGE, RUN * PAGE)
    return kept


def pin(held: mmap.mmap, runs: list[int]) -> tuple[int, int]:
    """A pipe that refers to the pages of the first run."""
    reader, writer = os.pipe()
    start = ctypes.addressof(ctypes.c_char.from_buffer(held)) + runs[0] * PAGE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.vmsplice(writer, struct.pack("PN", start, 4 * PAGE), 1, 0) <= 0:
        raise OSError(ctypes.get_errno(), "vmsplice")
    return reader, writer


def read_cache(size: int) -> int:
    """Read that much of a file without content; its pages are clean."""
    if size:
        with open(CACHED, "wb") as file:
            file.truncate(size * MIB)
            os.fsync(file.fileno())
        read(size)
    return size


def read(size: int) -> None:
    if size:
        with open(CACHED, "rb", buffering=0) as file:
            while file.read(MIB):
                pass


def check(words: memoryview, kept: dict[int, list[int]], cache: int) -> int:
    """Pages that are not what was written. The cache is read again, which counts its refaults."""
    read(cache)
    step, bad = PAGE // 8, 0
    for own in kept.values():
        for at in own:
            found = words[at * step : (at + RUN) * step : step].tolist()
            bad += found != list(range(at + 1, at + RUN + 1))
    return bad


def say(path: str, what: object) -> None:
    with open(path + ".part", "w") as file:
        json.dump(what, file)
    os.rename(path + ".part", path)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
