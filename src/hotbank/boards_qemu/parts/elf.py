# SPDX-License-Identifier: Apache-2.0
"""The little of ELF that an initramfs needs: which libraries a program wants, what a kernel module says of itself.

ELF specification, chapters 4 and 5; ``.modinfo`` as written by the kernel's include/linux/moduleparam.h.
Both word sizes, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from hotbank.errors import FormatError

_DYNAMIC = 6  # sh_type: SHT_DYNAMIC
_NEEDED = 1  # d_tag: DT_NEEDED


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    type: int
    link: int
    data: bytes


def is_elf(data: bytes) -> bool:
    """True if the bytes begin as an ELF file does."""
    return data[:4] == b"\x7fELF"


def needed(data: bytes) -> tuple[str, ...]:
    """The shared libraries (DT_NEEDED) of a program or library; none when it is linked statically."""
    sections = _sections(data)
    dynamic = next((s for s in sections if s.type == _DYNAMIC), None)
    if dynamic is None:
        return ()
    names = sections[dynamic.link].data
    entries = struct.iter_unpack("<QQ" if data[4] == 2 else "<II", dynamic.data)
    return tuple(_string(names, value) for tag, value in entries if tag == _NEEDED)


def modinfo(data: bytes) -> Iterator[tuple[str, str]]:
    """The ``key=value`` pairs of a kernel module's ``.modinfo``: depends, softdep, alias, vermagic…"""
    section = next((s for s in _sections(data) if s.name == ".modinfo"), None)
    for pair in (section.data if section else b"").split(b"\0"):
        key, equals, value = pair.decode("utf-8", "replace").partition("=")
        if equals:
            yield key, value


def _sections(data: bytes) -> list[_Section]:
    try:
        return _parse(data)
    except (struct.error, IndexError, ValueError) as e:
        raise FormatError("ELF", 0, "section headers", "truncated or out of range") from e


def _parse(data: bytes) -> list[_Section]:
    if not is_elf(data) or data[4] not in (1, 2) or data[5] != 1:
        raise FormatError("ELF", 0, "e_ident", "no little-endian ELF file")
    wide = data[4] == 2
    (table,) = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)
    size, count, names_at = struct.unpack_from("<HHH", data, 58 if wide else 46)
    form = "<II16xQQI" if wide else "<II8xIII"  # sh_name, sh_type, sh_offset, sh_size, sh_link
    headers = [struct.unpack_from(form, data, table + i * size) for i in range(count)]
    bodies = [data[offset : offset + length] for _, _, offset, length, _ in headers]
    names = bodies[names_at] if headers else b""
    return [_Section(_string(names, h[0]), h[1], h[4], body) for h, body in zip(headers, bodies, strict=True)]


def _string(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode("utf-8", "replace")
