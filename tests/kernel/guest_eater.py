# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: eats all memory but LEFT bytes, and holds it until FOLDER/enough is there.

``python3 -S guest_eater.py FOLDER LEFT``. What counts is what a memory map could be made of: free pages that are not
lent to CMA, and clean page cache. All of its memory is locked. Once it is eaten, ``FOLDER/full`` says how many bytes
are left. It prints one JSON line in the end: ``damaged``, bites whose content is not what was written.
"""

import ctypes
import json
import mmap
import os
import sys
import time
from pathlib import Path

from hotbank.host import Host

PAGE, BITE, CHUNK = 4096, 16 << 20, 1 << 20
EVERY = 0.05  # seconds between looks
CALM = 10  # looks after which nothing more is given back
MCL_CURRENT, MCL_FUTURE = 1, 2


def main(folder: Path, left: int) -> None:
    ctypes.CDLL(None).mlockall(MCL_CURRENT | MCL_FUTURE)
    noise = os.urandom(CHUNK)
    held = eaten(Host(), left, noise)
    (folder / "full.new").write_text(f"{room(Host())}\n")
    os.rename(folder / "full.new", folder / "full")
    while not (folder / "enough").exists():
        time.sleep(EVERY)
    print(json.dumps({"damaged": sum(not is_noise(bite, noise) for bite in held)}))


def eaten(host: Host, left: int, noise: bytes) -> list[mmap.mmap]:
    """Ever smaller bites, until nothing more is there for a while."""
    held, calm = list[mmap.mmap](), 0
    while calm < CALM:
        over = room(host) - left
        calm = calm + 1 if over <= 0 else 0
        if over > 0:
            held.append(bite(min(BITE, over // 2), noise))
        else:
            time.sleep(EVERY)
    return held


def room(host: Host) -> int:
    """Bytes."""
    reading = host.reading()
    return (reading.managed - reading.demand - reading.lent) * PAGE


def bite(size: int, noise: bytes) -> mmap.mmap:
    """So many bytes, a page at least, full of noise."""
    taken = mmap.mmap(-1, max(PAGE, size // PAGE * PAGE), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(taken), CHUNK):
        taken[at : at + CHUNK] = noise[: len(taken) - at]
    return taken


def is_noise(taken: mmap.mmap, noise: bytes) -> bool:
    return all(taken[at : at + CHUNK] == noise[: len(taken) - at] for at in range(0, len(taken), CHUNK))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
