# SPDX-License-Identifier: Apache-2.0
"""Reference counts of page frames, read through /proc/kcore: the only view of pins that user space has.

Truth: fs/proc/kcore.c (an ELF64 core of the running kernel), kernel/vmcore_info.c (the VMCOREINFO note:
``SYMBOL(vmemmap)`` is where the ``struct page`` of pfn 0 is or would be, ``OFFSET(page._refcount)``,
``SIZE(page)``). arm64 kernels without that symbol, such as 6.1, tell where the array begins and which physical address
that stands for (arch/arm64/kernel/crash_core.c). Needs CAP_SYS_RAWIO, CONFIG_PROC_KCORE and no lockdown; 32-bit kernels
have no vmemmap.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from dataclasses import dataclass

from hotbank.host.planes import Planes
from hotbank.host.tree import Tree

_PT_LOAD, _PT_NOTE = 1, 4
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_LINE = re.compile(rb"^(\w+(?:\([\w.]+\))?)=(\w+)$", re.MULTILINE)
_NOTE_LIMIT = 1 << 20
_LARGEST = 1024  # bytes of a struct page, with every debugging option and some


@dataclass(frozen=True, slots=True)
class _Segment:
    address: int
    size: int
    offset: int
    physical: int


class Core:
    """The kernel's memory. ``note``: what VMCOREINFO says."""

    def __init__(self, file: int, segments: tuple[_Segment, ...], note: dict[str, str]) -> None:
        self._file, self.note = file, note
        self._by_address = sorted(segments, key=lambda segment: segment.address)

    @classmethod
    def open(cls, tree: Tree) -> Core | None:
        """That of a machine, or None where its kernel does not show it."""
        file = tree.open("proc/kcore")
        if file is None:
            return None
        try:
            segments, note = _layout(file)
            return cls(file, segments, _vmcoreinfo(note))
        except (OSError, ValueError, struct.error):
            os.close(file)
            return None

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def number(self, name: str) -> int | None:
        """What the note calls ``NUMBER(name)``, with its sign: decimal, or hexadecimal of 64 bits."""
        text = self.note.get(f"NUMBER({name})", "")
        if not text.startswith("0x"):
            return int(text) if text.isdecimal() else None
        value = int(text, 16)
        return value - (value >> 63 << 64)

    def read(self, address: int, size: int) -> bytes | None:
        """So many bytes from that virtual address on; None where the kernel shows no such memory."""
        parts = []
        while size:
            at = bisect_right(self._by_address, address, key=lambda segment: segment.address) - 1
            inside = self._by_address[at] if at >= 0 else None
            if inside is None or address >= inside.address + inside.size:
                return None
            want = min(size, inside.address + inside.size - address)
            part = _read(self._file, want, inside.offset + address - inside.address)
            if not part:
                return None
            parts.append(part)
            address, size = address + len(part), size - len(part)
        return b"".join(parts)

    def read_physical(self, address: int, size: int) -> bytes | None:
        """The same from a physical address on, which has to lie in RAM."""
        for inside in self._by_address:
            if inside.physical <= address < inside.physical + inside.size:
                return self.read(inside.address + address - inside.physical, size)
        return None


class RefCounts:
    """``_refcount`` of any range of page frames. Use as a context manager, or ``close``."""

    def __init__(self, core: Core, vmemmap: int, size: int, offset: int) -> None:
        self._core = core
        self._vmemmap, self._size, self._offset = vmemmap, size, offset

    @classmethod
    def open(cls, tree: Tree) -> RefCounts | None:
        """The reference counts of that machine, or None where this kernel does not show them."""
        core = Core.open(tree)
        if core is None:
            return None
        try:
            return cls(core, *struct_page(core.note))
        except (KeyError, ValueError, ArithmeticError):
            core.close()
            return None

    def __enter__(self) -> RefCounts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._core.close()

    def read(self, pfn: int, pages: int) -> Planes | None:
        """Reference counts of ``pages`` frames from ``pfn`` on; None where the kernel shows no such memory."""
        raw = self._core.read(self._vmemmap + pfn * self._size, pages * self._size)
        return None if raw is None else Planes(raw, 4, stride=self._size, offset=self._offset)


def _layout(file: int) -> tuple[tuple[_Segment, ...], bytes]:
    """Loadable segments and the notes. Raises ValueError for anything but a little-endian ELF64 file."""
    header = os.pread(file, 64, 0)
    if header[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a little-endian ELF64 core")
    (table,) = struct.unpack_from("<Q", header, 32)
    entry, count = struct.unpack_from("<HH", header, 54)
    segments, note = [], b""
    for number in range(count):
        raw = _read(file, _PROGRAM_HEADER.size, table + number * entry)
        kind, _, offset, address, physical, filesz, memsz, _ = _PROGRAM_HEADER.unpack(raw)
        if kind == _PT_LOAD:
            segments.append(_Segment(address, memsz, offset, physical))
        elif kind == _PT_NOTE:
            note = _read(file, min(filesz, _NOTE_LIMIT), offset)
    return tuple(segments), note


def _vmcoreinfo(note: bytes) -> dict[str, str]:
    _, _, text = note.partition(b"VMCOREINFO")
    return {name.decode(): value.decode() for name, value in _LINE.findall(text.lstrip(b"\0"))}


def struct_page(note: dict[str, str]) -> tuple[int, int, int]:
    """Where the ``struct page`` of pfn 0 is or would be, its size, and where in it the reference count is. Raises
    ValueError or KeyError for a note that does not say it."""
    size, offset = int(note["SIZE(page)"]), int(note["OFFSET(page._refcount)"])
    if size % 4 or offset % 4 or not 0 <= offset < size <= _LARGEST:
        raise ValueError("VMCOREINFO describes no struct page")
    return _vmemmap(note, size), size, offset


def _vmemmap(note: dict[str, str], size: int) -> int:
    """arch/arm64/include/asm/memory.h: the array begins with the page of ``memstart_addr``, which may be negative."""
    if "SYMBOL(vmemmap)" in note:
        return int(note["SYMBOL(vmemmap)"], 16)
    memstart = int(note["NUMBER(PHYS_OFFSET)"], 16)
    memstart -= memstart >> 63 << 64
    return int(note["NUMBER(VMEMMAP_START)"], 16) - memstart // int(note["PAGESIZE"]) * size


def _read(file: int, size: int, offset: int) -> bytes:
    """Up to ``size`` bytes; fewer only where the file ends or an error strikes first."""
    parts = []
    while size:
        try:
            part = os.pread(file, size, offset)
        except (OSError, OverflowError):
            break
        if not part:
            break
        parts.append(part)
        offset, size = offset + len(part), size - len(part)
    return b"".join(parts)
