# SPDX-License-Identifier: Apache-2.0
"""Holds memory in the guest of several kinds, pins and poisons pages of its own, and writes to files, as asked.

``python3 -S -m hotbank.guest.holder FOLDER`` reads one JSON document at a time from the FIFO ``FOLDER/in`` and
answers one on ``FOLDER/out``; ``{"do": NAME, ...}`` calls the method of that name with the rest. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE, CHUNK = 4096, 4 << 20
FOLDERS = {"shmem": "/tmp", "file": "/mnt"}
_PRESENT, _PFN = 1 << 63, (1 << 55) - 1  # Documentation/admin-guide/mm/pagemap.rst
_MADV_HWPOISON = 100
_libc = ctypes.CDLL(None, use_errno=True)


class Chunk:
    """4 MiB of one kind of memory; each page is full of the chunk's number and its own. ``lost``: poisoned pages."""

    def __init__(self, kind: str, number: int) -> None:
        self._path = Path(FOLDERS[kind], f"holder.{number}") if kind in FOLDERS else None
        self._number = number
        self.lost: set[int] = set()
        content = b"".join(map(self._content, range(CHUNK // PAGE)))
        if self._path is None:
            self.map = mmap.mmap(-1, CHUNK, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self.map[:] = content
        else:
            self._path.write_bytes(content)
            with open(self._path, "r+b") as file:
                os.fsync(file.fileno())
                self.map = mmap.mmap(file.fileno(), CHUNK, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)

    def damaged(self) -> int:
        """Pages that do not read as they were written."""
        pages = (page for page in range(CHUNK // PAGE) if page not in self.lost)
        return sum(self.map[page * PAGE : (page + 1) * PAGE] != self._content(page) for page in pages)

    def _content(self, page: int) -> bytes:
        return struct.pack("<Q", self._number << 32 | page) * (PAGE // 8)

    def inside(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Address and pfn of each page whose frame is in [low, high)."""
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        with open("/proc/self/pagemap", "rb") as pagemap:
            pagemap.seek(start // PAGE * 8)
            entries = struct.unpack(f"<{CHUNK // PAGE}Q", pagemap.read(CHUNK // PAGE * 8))
        for page, entry in enumerate(entries):
            if entry & _PRESENT and low <= entry & _PFN < high and page not in self.lost:
                yield start + page * PAGE, entry & _PFN

    def lose(self, address: int) -> None:
        """That page will never be read again."""
        self.lost.add((address - ctypes.addressof(ctypes.c_char.from_buffer(self.map))) // PAGE)

    def close(self) -> None:
        """Give the memory back."""
        self.map.close()
        if self._path is not None:
            self._path.unlink()


class Holder:
    """What can be asked for. Pages are ranges of pfns ``low`` to ``high``; a pfn of 0 says that there was none."""

    def __init__(self) -> None:
        self._held: dict[str, list[Chunk]] = {"anon": [], "shmem": [], "file": []}
        self._pipes: dict[int, tuple[int, int]] = {}  # by the pfn that they refer to
        self._made = self._found_damaged = 0

    def hold(self, kind: str, chunks: int) -> int:
        """Hold that many chunks of a kind; how many are held."""
        held = self._held[kind]
        while len(held) > chunks:
            chunk = held.pop()
            self._found_damaged += chunk.damaged()
            chunk.close()
        while len(held) < chunks:
            held.append(self._chunk(kind))
        return len(held)

    def pin(self, low: int, high: int) -> int:
        """Let a pipe refer to an anonymous page of ours (vmsplice): nothing but its reference count tells."""
        found = self._free_page(low, high)
        if found is None:
            return 0
        _, address, pfn = found
        _, writer = self._pipes[pfn] = os.pipe()
        if _libc.vmsplice(writer, struct.pack("PN", address, PAGE), 1, 0) != PAGE:
            raise OSError(ctypes.get_errno(), "vmsplice")
        return pfn

    def unpin(self) -> int:
        """Let go of every pinned page; how many there were."""
        pinned = len(self._pipes)
        for ends in self._pipes.values():
            for end in ends:
                os.close(end)
        self._pipes.clear()
        return pinned

    def poison(self, low: int, high: int) -> int:
        """A memory error hits an anonymous page of ours that is nowhere pinned."""
        found = self._free_page(low, high)
        if found is None:
            return 0
        chunk, address, pfn = found
        chunk.lose(address)
        if _libc.madvise(ctypes.c_void_p(address), PAGE, _MADV_HWPOISON):
            raise OSError(ctypes.get_errno(), "madvise")
        # Once its memory is removed, whoever reads our pagemap would make the kernel follow a dead page.
        _libc.munmap(ctypes.c_void_p(address), PAGE)
        return pfn

    def _free_page(self, low: int, high: int) -> tuple[Chunk, int, int] | None:
        """An anonymous page with a frame in the range that is not pinned: chunk, address, pfn. Where there is none, a
        fresh chunk is tried, since new pages go to ZONE_MOVABLE first."""
        for fresh in (False, True):
            if fresh:
                self._held["anon"].append(self._chunk("anon"))
            for chunk in reversed(self._held["anon"]):
                for address, pfn in chunk.inside(low, high):
                    if pfn not in self._pipes:
                        return chunk, address, pfn
        return None

    def _chunk(self, kind: str) -> Chunk:
        self._made += 1
        return Chunk(kind, self._made)

    def write(self, words: list[tuple[str, str]], seconds: float) -> list[int]:
        """Write each word to its file; the errnos, EINTR for one that did not return in ``seconds``."""
        return [_write(path, word, seconds) for path, word in words]

    def migrated(self) -> int:
        """Pages that migration has moved since boot."""
        with open("/proc/vmstat") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("pgmigrate_success "))

    def damaged(self) -> int:
        """Pages of all chunks, those given back included, that did not read as they were written."""
        return self._found_damaged + sum(chunk.damaged() for held in self._held.values() for chunk in held)


def _write(path: str, word: str, seconds: float) -> int:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        file = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(file, word.encode())
        finally:
            os.close(file)
    except OSError as e:
        return e.errno or 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def _out_of_time(*_: object) -> None:
    """Raised in a signal handler it ends a write that Python would otherwise begin again (PEP 475)."""
    raise InterruptedError(4, "out of time")


def _poisoned(*_: object) -> None:
    """A page of ours, on our own request. Ignoring the signal is no help: memory_failure forces it on us."""


def main(folder: str) -> None:
    """Do what is asked until killed."""
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.signal(signal.SIGBUS, _poisoned)
    holder = Holder()
    while True:
        with open(f"{folder}/in") as questions:
            question: dict[str, Any] = json.load(questions)
        try:
            answer: dict[str, Any] = {"answer": getattr(holder, question.pop("do"))(**question)}
        except OSError as e:
            answer = {"errno": e.errno, "error": str(e)}
        with open(f"{folder}/out", "w") as answers:
            json.dump(answer, answers)


if __name__ == "__main__":
    main(sys.argv[1])
