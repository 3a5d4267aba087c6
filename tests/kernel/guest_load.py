# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: takes memory of several kinds, one after the other, and keeps it until it is ended.

``python3 -S guest_load.py KIND:COUNT...``. ``anon``, ``shared``, ``tmpfs`` and ``file`` count MiB, ``pinned`` pages
that a pipe refers to, ``poisoned`` pages that the kernel is told to be bad, ``inodes`` files without content. When all
is there, ``/run/load`` holds one JSON line: ``pinned`` and ``poisoned``, each a list of pfns. The OOM killer takes this
process first.
"""

import ctypes
import json
import mmap
import os
import shutil
import signal
import struct
import sys

PAGE, MIB = 4096, 1 << 20
READY = "/run/load"
FOLDERS = {"tmpfs": "/tmp/load", "file": "/mnt/load", "inodes": "/tmp/inodes"}
POISON = "/sys/devices/system/memory/hard_offline_page"

kept: list[object] = []
found: dict[str, list[int]] = {"pinned": [], "poisoned": []}


def main(words: list[str]) -> None:
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    for folder in FOLDERS.values():
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
    for number, (kind, _, count) in enumerate(word.partition(":") for word in words):
        take(kind, int(count), number)
    with open(READY + ".part", "w") as ready:
        ready.write(json.dumps(found) + "\n")
    os.rename(READY + ".part", READY)
    signal.pause()


def take(kind: str, count: int, number: int) -> None:
    if kind == "inodes":
        for name in range(count):
            os.close(os.open(f"{FOLDERS[kind]}/{number}.{name}", os.O_CREAT | os.O_WRONLY))
    elif kind in ("tmpfs", "file"):
        write(f"{FOLDERS[kind]}/{number}", count)
    elif kind in ("anon", "shared"):
        fill(count * MIB, mmap.MAP_SHARED if kind == "shared" else mmap.MAP_PRIVATE)
    else:
        spoil(kind, fill(count * PAGE, mmap.MAP_PRIVATE))


def write(path: str, mib: int) -> None:
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(os.urandom(4096) * 256)
        file.flush()
        os.fsync(file.fileno())


def fill(size: int, how: int) -> mmap.mmap:
    mapping = mmap.mmap(-1, size, how | mmap.MAP_ANONYMOUS)
    kept.append(mapping)
    for at in range(0, size, MIB):
        mapping[at : at + MIB] = bytes([1 + number % 251 for number in range(256)]) * (min(MIB, size - at) // 256)
    return mapping


def spoil(kind: str, mapping: mmap.mmap) -> None:
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    pfns = frames(address, len(mapping) // PAGE)
    if kind == "pinned":
        pin(address, len(mapping))
    else:
        for pfn in pfns:
            with open(POISON, "w") as file:
                file.write(f"{pfn * PAGE:#x}")
    found[kind] += pfns


def frames(address: int, count: int) -> list[int]:
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(address // PAGE * 8)
        entries = struct.unpack(f"<{count}Q", pagemap.read(count * 8))
    return [entry & ((1 << 55) - 1) for entry in entries]


def pin(address: int, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for at in range(0, size, 16 * PAGE):
        reader, writer = os.pipe()
        kept.append((reader, writer))
        vector = struct.pack("PN", address + at, min(size - at, 16 * PAGE))
        if libc.vmsplice(writer, vector, 1, 0) < 0:
            raise OSError(ctypes.get_errno(), "vmsplice")


if __name__ == "__main__":
    main(sys.argv[1:])
