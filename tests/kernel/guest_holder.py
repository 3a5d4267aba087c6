# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: holds memory of several kinds, each page with content of its own, and checks it when asked.

``python3 -S guest_holder.py FOLDER KIND=MIB...`` with the kinds ``anon``, ``shared``, ``tmpfs``, ``file`` (page cache
of a file on disk) and ``pinned`` (anonymous pages that a pipe refers to, by vmsplice). It reads commands from the
FIFO ``FOLDER/in`` and answers one JSON line each on ``FOLDER/out``:

``verify``          {kind: number of pages whose content is not what was written}
``where LO HI``     {kind: pages with a frame in [LO, HI)}, addresses in hex
``write``           gives every page that can be written new content, and answers like ``verify``
``end``             ends
"""

import ctypes
import json
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Iterator

PAGE, MIB = 4096, 1 << 20
TMPFS, DISK = "/tmp/held", "/mnt/held"


class Held:
    """One mapping whose pages carry a common noise, a number of their own and the round they were written in."""

    def __init__(self, kind: str, size: int) -> None:
        self.kind, self.size, self.round = kind, size, 0
        self.page = bytes(16) + os.urandom(PAGE - 16)
        self.map = self._mapping()
        if kind == "file":
            self.bad()  # reads every page into the cache
        else:
            self.write()

    def _mapping(self) -> mmap.mmap:
        if self.kind in ("anon", "pinned"):
            return mmap.mmap(-1, self.size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if self.kind == "shared":
            return mmap.mmap(-1, self.size, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        if self.kind == "tmpfs":
            with open(TMPFS, "wb+") as file:
                file.truncate(self.size)
                return mmap.mmap(file.fileno(), self.size)
        return self._on_disk()

    def _on_disk(self) -> mmap.mmap:
        """A file whose pages are clean and read again from disk."""
        with open(DISK, "wb") as file:
            for _, content in self._contents():
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with open(DISK, "rb") as file:
            return mmap.mmap(file.fileno(), self.size, prot=mmap.PROT_READ)

    def _contents(self) -> Iterator[tuple[int, bytes]]:
        """Where each MiB begins, and what belongs there: an emulated CPU has no time for each page by itself."""
        content = bytearray(self.page * (MIB // PAGE))
        words = memoryview(content).cast("Q")
        words[1 :: PAGE // 8] = array("Q", [self.round] * (MIB // PAGE))
        for at in range(0, self.size, MIB):
            words[0 :: PAGE // 8] = array("Q", range(at // PAGE, (at + MIB) // PAGE))
            yield at, bytes(content)

    def write(self) -> None:
        if self.kind != "file":
            self.round += 1
            for at, content in self._contents():
                self.map[at : at + MIB] = content

    def bad(self) -> int:
        return sum(unlike(self.map[at : at + MIB], content) for at, content in self._contents())

    def frames(self) -> list[int]:
        """The pfn of each page that is there."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.map)) if self.kind != "file" else _address(self.map)
        with open("/proc/self/pagemap", "rb") as pagemap:
            pagemap.seek(address // PAGE * 8)
            entries = struct.unpack(f"<{self.size // PAGE}Q", pagemap.read(self.size // PAGE * 8))
        return [entry & ((1 << 55) - 1) for entry in entries if entry >> 63]

    def pin(self) -> None:
        """Let pipes refer to every page: such references are invisible except in the reference counts."""
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        done = 0
        self.pipes = []
        while done < self.size:
            reader, writer = os.pipe()
            self.pipes.append((reader, writer))
            vector = struct.pack("PN", start + done, min(self.size - done, 16 * PAGE))
            moved = libc.vmsplice(writer, vector, 1, 0)
            if moved <= 0:
                raise OSError(ctypes.get_errno(), "vmsplice")
            done += moved


def unlike(found: bytes, wanted: bytes) -> int:
    """How many pages differ."""
    pages = range(0, len(wanted), PAGE) if found != wanted else ()
    return sum(found[at : at + PAGE] != wanted[at : at + PAGE] for at in pages)


def _address(mapping: mmap.mmap) -> int:
    """Where a read-only mapping lies: ctypes refuses those, /proc/self/maps does not."""
    mapping[0]
    with open("/proc/self/maps") as maps:
        return next(int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith(DISK))


def main() -> None:
    folder = sys.argv[1]
    held = [Held(kind, int(size) * MIB) for kind, _, size in (word.partition("=") for word in sys.argv[2:])]
    for one in held:
        if one.kind == "pinned":
            one.pin()
    while True:
        with open(f"{folder}/in") as commands:
            command, *words = commands.read().split()
        with open(f"{folder}/out", "w") as out:
            out.write(json.dumps(answer(held, command, words)) + "\n")
        if command == "end":
            return


def answer(held: list[Held], command: str, words: list[str]) -> dict[str, int]:
    if command == "where":
        low, high = (int(word, 16) // PAGE for word in words)
        return {one.kind: sum(low <= pfn < high for pfn in one.frames()) for one in held}
    if command == "write":
        for one in held:
            one.write()
    return {one.kind: one.bad() for one in held}


if __name__ == "__main__":
    main()
