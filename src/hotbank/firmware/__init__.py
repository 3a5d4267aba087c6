# SPDX-License-Identifier: Apache-2.0
"""What firmware tells the kernel about memory: ATAGs, device tree, ACPI SRAT, command line.

``memory_map`` recognises a description by itself; ``describe`` writes one for a board. Each format has its own module
with ``decode`` and ``encode``: any bytes give a value or FormatError, and unknown parts survive.
A command line is carried in ``MemoryMap.cmdline`` and not applied to the regions: what a kernel makes of ``mem=`` and
``movablemem=`` depends on the architecture and is ``zones``' business. Only when the line is all there is
(``form`` "cmdline") do its own ranges become regions.
"""

from __future__ import annotations

import codecs
import re
import struct

from hotbank import packed
from hotbank.errors import FILE, FormatError
from hotbank.firmware import atags, cmdline, console, container, devicetree, fdt, hexdump, srat
from hotbank.firmware.describe import Description, describe
from hotbank.memory import MemoryMap, MemoryRegion, Range

_PHYS_ADDR_MAX = (1 << 64) - 1  # mm/memblock.c, memblock_cap_size
_FDT, _CORE = struct.pack(">I", fdt.MAGIC), struct.pack("<I", atags.CORE)
_SOURCE = re.compile(rb"(?:\s|/\*.*?\*/|//[^\n]*)*(/dts-v1/|/ \{|DefinitionBlock|\[000h 0000)", re.DOTALL)
_COMPILERS = {
    **dict.fromkeys((b"/dts-v1/", b"/ {"), "dtc -I dts -O dtb -o TREE.dtb FILE makes the device tree of it"),
    **dict.fromkeys((b"DefinitionBlock", b"[000h 0000"), "iasl FILE makes the table of it"),
}
_LONGEST_TEXT = 1 << 16  # bytes, without what a file is padded with

__all__ = ["Description", "describe", "memory_map", "recognise", "unwrap"]


def unwrap(data: bytes) -> bytes:
    """The description inside gzip (once), behind a zImage, or in a dump; other data as it is. Raises FormatError."""
    if packed.is_packed(data):
        data = container.gunzip(data)
    data = hexdump.shown(data, "SRAT", _known)
    return container.appended_dtb(data) if container.is_zimage(data) else data


def _known(data: bytes) -> bool:
    return data[:4] in (_FDT, b"SRAT") or data[4:8] == _CORE


def recognise(data: bytes) -> str:
    """``dtb``, ``atags``, ``srat`` or ``cmdline``, by magic numbers. Raises FormatError for anything else.

    ``data`` is already unwrapped. Printable text is a command line, but for JSON.
    """
    if data[:4] == _FDT:
        return "dtb"
    if data[:4] == b"SRAT":
        return "srat"
    if data[4:8] == _CORE:
        return "atags"
    if (source := _SOURCE.match(data)) is not None:
        raise FormatError(FILE, 0, "magic", f"this is source: {_COMPILERS[source[1]]}")
    if data[:2] == b'{"':
        raise FormatError(FILE, 0, "magic", "JSON tells of no firmware; of a captured machine -m model:FILE does")
    if len(data.rstrip(b"\0\r\n")) <= _LONGEST_TEXT and _is_printed(data) and not _has_strings(data):
        _one_line(_text(data))
        return "cmdline"
    what = "device tree, ATAG list (CORE first), SRAT, command line, gzip, zImage with appended device tree"
    raise FormatError(FILE, 0, "magic", f"{data[:8].hex(' ') or 'empty'}: none of {what}")


def memory_map(data: bytes, *, vendor: str | None = None) -> MemoryMap:
    """What the description says about memory. ``vendor`` names the table for vendor ATAGs. Raises FormatError."""
    data = unwrap(data)
    form = recognise(data)
    if form == "dtb":
        return devicetree.memory_map(fdt.decode(data))
    if form == "srat":
        return srat.memory_map(srat.decode(data))
    if form == "atags":
        return atags.memory_map(atags.decode(data, vendor), vendor)
    return _cmdline_map(data)


def _text(data: bytes) -> str:
    """One character a byte, whatever its encoding; of UTF-16, one for each byte that UTF-8 would have."""
    if console.is_wide(data):
        return cmdline.typed(console.text(data))
    return data.removeprefix(codecs.BOM_UTF8).decode("latin-1")


def _is_printed(data: bytes) -> bool:
    text = console.plain(_text(data))
    return bool(text.strip("\n")) and all((c >= " " and c != "\x7f") or c in "\t\r\n" for c in text)


def _has_strings(data: bytes) -> bool:
    """Several, with what ends a string of C between them."""
    return "\0" in _text(data).strip("\0\r\n")


def _one_line(text: str) -> str:
    """The command line in a file or in what a console showed of one. Raises FormatError for any other text."""
    found = [_bare(line) for line in console.lines(text)]
    if len(found) > 1:
        raise FormatError(FILE, 0, "text", f"{len(found)} lines: a command line is one")
    return found[0] if found else ""


def _bare(line: str) -> str:
    """Without what a kernel's log, or U-Boot's printenv, says before it."""
    return line.rpartition("Kernel command line: ")[2].removeprefix("bootargs=")


def _cmdline_map(data: bytes) -> MemoryMap:
    line = _one_line(_text(data))
    regions = tuple(
        MemoryRegion(Range(r.start, end), hotpluggable=r.key == "movablemem", source=f"{r.key}=")
        for r in cmdline.memory_options(cmdline.decode(line)).ranges
        if r.start is not None and r.start < (end := min(r.start + r.size, _PHYS_ADDR_MAX))
    )
    return MemoryMap(regions=regions, cmdline=line)
