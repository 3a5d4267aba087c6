# SPDX-License-Identifier: Apache-2.0
"""ATAGs: the list of tagged words that a boot loader hands to a 32-bit ARM kernel.

Truth: arch/arm/include/uapi/asm/setup.h, arch/arm/kernel/atags_parse.c; for zImages with an appended device
tree arch/arm/boot/compressed/atags_to_fdt.c. A tag is ``size`` (in words, header included), ``tag``, payload,
all little-endian; ATAG_CORE comes first, ATAG_NONE with size 0 ends the list. ATAG_MEM_MOVABLE is this
project's. Vendors reused each other's numbers, so their tags are read only through a table chosen by name.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hotbank.errors import Code, FormatError, Refusal
from hotbank.memory import MemoryMap, MemoryRegion, Range

FORM = "ATAGs"
NONE, CORE, MEM, VIDEOTEXT, RAMDISK, INITRD = 0, 0x54410001, 0x54410002, 0x54410003, 0x54410004, 0x54410005
SERIAL, REVISION, VIDEOLFB, CMDLINE, INITRD2 = 0x54410006, 0x54410007, 0x54410008, 0x54410009, 0x54420005
ACORN, MEMCLK, MEM_MOVABLE = 0x41000101, 0x41000402, 0x5441004D
_CORE_SIZES = (5, 2)  # in words; 2 when it is empty (arch/arm/kernel/head-common.S, __vet_atags)
MAX_CMDLINE = 1024  # COMMAND_LINE_SIZE, the NUL included

_STRING = "string"
NEEDED = frozenset({MEM, MEM_MOVABLE, INITRD2, CMDLINE})  # what memory is read from; any other tag may have any size


@dataclass(frozen=True, slots=True)
class Layout:
    """A tag's name and payload: a struct format with the names of its fields, or ``string``."""

    name: str
    form: str = ""
    fields: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that the payload must have at least."""
        return 1 if self.form == _STRING else struct.calcsize("<" + self.form)

    @property
    def ends(self) -> tuple[int, ...]:
        """For each field the number of bytes up to its end."""
        return tuple(struct.calcsize("<" + self.form[: i + 1]) for i in range(len(self.form)))


NAMED: Mapping[int, Layout] = {
    CORE: Layout("CORE", "III", ("flags", "pagesize", "rootdev")),
    MEM: Layout("MEM", "II", ("size", "start")),
    MEM_MOVABLE: Layout("MEM_MOVABLE", "II", ("size", "start")),
    VIDEOTEXT: Layout(
        "VIDEOTEXT",
        "BBHBBHBBH",
        (
            *("x", "y", "video_page", "video_mode", "video_cols", "video_ega_bx"),
            *("video_lines", "video_isvga", "video_points"),
        ),
    ),
    RAMDISK: Layout("RAMDISK", "III", ("flags", "size", "start")),
    INITRD: Layout("INITRD", "II", ("start", "size")),
    INITRD2: Layout("INITRD2", "II", ("start", "size")),
    SERIAL: Layout("SERIAL", "II", ("low", "high")),
    REVISION: Layout("REVISION", "I", ("rev",)),
    VIDEOLFB: Layout(
        "VIDEOLFB",
        "HHHHIIBBBBBBBB",
        (
            *("lfb_width", "lfb_height", "lfb_depth", "lfb_linelength", "lfb_base", "lfb_size"),
            *("red_size", "red_pos", "green_size", "green_pos", "blue_size", "blue_pos"),
            *("rsvd_size", "rsvd_pos"),
        ),
    ),
    CMDLINE: Layout("CMDLINE", _STRING, ("cmdline",)),
    ACORN: Layout("ACORN", "IIBB", ("memc_control_reg", "vram_pages", "sounddefault", "adfsdrives")),
    MEMCLK: Layout("MEMCLK", "I", ("fmemclk",)),
}

# What Qualcomm's boot loaders shipped; 0x5441000A has at least six other meanings elsewhere.
_BANK = ("II", ("size", "start"))
VENDORS: Mapping[str, Mapping[int, Layout]] = {
    "qcom": {
        0x5441000A: Layout("MEM_RESERVED", *_BANK),
        0x5441000B: Layout("MEM_LOW_POWER", *_BANK),
        0x5441000C: Layout("MEM_OSBL", *_BANK),
    }
}
# Vendor tags that name memory which may leave (deep power down, self refresh).
_VENDOR_MOVABLE = {"qcom": frozenset({0x5441000A, 0x5441000B})}


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag: its number and its payload, whole words. What the payload means is asked of ``fields``."""

    tag: int
    payload: bytes = b""

    def __post_init__(self) -> None:
        if len(self.payload) % 4:
            raise ValueError(f"a payload of {len(self.payload)} bytes is not whole words")

    def layout(self, vendor: str | None = None) -> Layout | None:
        """How to read the payload, or None for a tag that nobody named here defines."""
        return NAMED.get(self.tag) or _vendor(vendor).get(self.tag)

    def name(self, vendor: str | None = None) -> str:
        """The kernel's name without ATAG\\_, or the number."""
        layout = self.layout(vendor)
        return layout.name if layout else f"{self.tag:#010x}"

    def fields(self, vendor: str | None = None) -> dict[str, int | str]:
        """The payload by field names, as far as it reaches; empty for an unknown tag and for an empty CORE."""
        layout = self.layout(vendor)
        if layout is None or not self.payload:
            return {}
        if layout.form == _STRING:
            return {layout.fields[0]: self.payload.split(b"\0")[0].decode("latin-1")}
        whole = self.payload.ljust(layout.size, b"\0")
        values = zip(layout.fields, layout.ends, struct.unpack_from("<" + layout.form, whole), strict=True)
        return {name: value for name, end, value in values if end <= len(self.payload)}


def core(flags: int = 0, pagesize: int = 4096, rootdev: int = 0) -> Tag:
    """ATAG_CORE, which every list begins with."""
    return Tag(CORE, struct.pack("<III", flags, pagesize, rootdev))


def mem(range_: Range, *, movable: bool = False) -> Tag:
    """ATAG_MEM or ATAG_MEM_MOVABLE. Raises FormatError for a range that 32-bit words can't hold."""
    if range_.end > 1 << 32 or range_.size >= 1 << 32:
        raise FormatError(FORM, 0, "start", f"{range_} does not fit into 32-bit words; a device tree can say it")
    return Tag(MEM_MOVABLE if movable else MEM, struct.pack("<II", range_.size, range_.start))


def cmdline(text: str) -> Tag:
    """ATAG_CMDLINE. Raises FormatError beyond 1024 bytes (COMMAND_LINE_SIZE), NUL included."""
    raw = text.encode("latin-1", "replace") + b"\0"
    if len(raw) > MAX_CMDLINE:
        raise FormatError(FORM, 0, "cmdline", f"{len(raw)} bytes with the NUL; the kernel keeps {MAX_CMDLINE}")
    return Tag(CMDLINE, raw + bytes(-len(raw) % 4))


def initrd2(range_: Range) -> Tag:
    """ATAG_INITRD2: an initial RAM disk at physical addresses."""
    return Tag(INITRD2, struct.pack("<II", range_.start, range_.size))


def decode(data: bytes, vendor: str | None = None) -> tuple[Tag, ...]:
    """The tags before ATAG_NONE, CORE first; bytes behind ATAG_NONE belong to nobody and are not looked at.

    Raises FormatError; with ``vendor`` (a key of VENDORS) that vendor's tags are checked as well.
    """
    _vendor(vendor)
    tags: list[Tag] = []
    at = 0
    while True:
        if at + 8 > len(data):
            raise FormatError(FORM, at, "size", f"the list ends after {len(data)} bytes without ATAG_NONE")
        size, number = struct.unpack_from("<II", data, at)
        if size == 0 and number == NONE and tags:
            return tuple(tags)
        tag = _tag(data, at, size, number)
        if not tags and number != CORE:
            raise FormatError(FORM, at + 4, "tag", f"{tag.name()} is first, not CORE: the kernel ignores such a list")
        if not tags and size not in _CORE_SIZES:
            raise FormatError(FORM, at, "size", f"CORE has {size} words, not 5 or 2: the kernel ignores such a list")
        _check_payload(tag, at, vendor)
        tags.append(tag)
        at += 4 * size


def encode(tags: Sequence[Tag]) -> bytes:
    """The list as bytes, with ATAG_NONE behind it. Raises FormatError when CORE isn't first or NONE is listed."""
    if not tags or tags[0].tag != CORE:
        raise FormatError(FORM, 0, "tag", "ATAG_CORE must be first, or the kernel ignores the list")
    raw = bytearray()
    for tag in tags:
        if tag.tag == NONE:
            raise FormatError(FORM, len(raw), "tag", "ATAG_NONE ends the list; it is added by itself")
        _check_payload(tag, len(raw), None)
        raw += struct.pack("<II", 2 + len(tag.payload) // 4, tag.tag) + tag.payload
    return bytes(raw + struct.pack("<II", 0, NONE))


def memory_map(tags: Sequence[Tag], vendor: str | None = None) -> MemoryMap:
    """What the list says about memory: MEM stays, MEM_MOVABLE may leave; empty banks are nothing."""
    movable = _VENDOR_MOVABLE.get(vendor or "", frozenset()) | {MEM_MOVABLE}
    regions, line, initrd = [], None, None
    for tag in tags:
        fields = tag.fields(vendor)
        if tag.tag in movable or tag.tag == MEM:
            regions += _region(tag, vendor, fields, tag.tag in movable)
        elif tag.tag == CMDLINE:
            line = str(fields["cmdline"])
        elif tag.tag == INITRD2:
            initrd = Range.sized(int(fields["start"]), int(fields["size"]))
    why = "" if regions else _why_no_memory(any(tag.tag in movable or tag.tag == MEM for tag in tags))
    return MemoryMap(regions=tuple(regions), cmdline=line, initrd=initrd, no_memory=why)


def _why_no_memory(banks: bool) -> str:
    return "each bank of the list has size 0" if banks else "the list has no ATAG_MEM"


def check_appended(tags: Sequence[Tag], size_cells: int) -> None:
    """Refuse a list that the decompressor of a zImage with appended device tree can't take.

    atags_to_fdt collects banks in an array of 64 words on its stack and stops only at 32 pairs: with 2 size cells
    a pair takes 4 words, so banks 17 to 32 overrun it. ``size_cells`` is the device tree's #size-cells.
    Raises Refusal(UNSUPPORTED).
    """
    if size_cells not in (1, 2):
        raise Refusal(Code.UNSUPPORTED, f"#size-cells = {size_cells}: the decompressor knows 1 and 2")
    limit = 32 // size_cells
    banks = sum(tag.tag in (MEM, MEM_MOVABLE) and tag.fields()["size"] != 0 for tag in tags)
    if banks > limit:
        message = f"{banks} banks; an appended device tree with #size-cells = {size_cells} takes {limit}"
        raise Refusal(Code.UNSUPPORTED, message, remedy="join neighbouring banks, or put them into the device tree")


def dropped_when_appended(tags: Sequence[Tag]) -> tuple[Tag, ...]:
    """The tags that the decompressor does not carry into an appended device tree, in order."""
    kept = {CORE, MEM, CMDLINE, INITRD2, SERIAL, MEM_MOVABLE}
    return tuple(tag for tag in tags if tag.tag not in kept)


def _vendor(vendor: str | None) -> Mapping[int, Layout]:
    if vendor is None:
        return {}
    if vendor not in VENDORS:
        known = ", ".join(sorted(VENDORS))
        raise Refusal(Code.UNSUPPORTED, f"no table for vendor {vendor!r}", remedy=f"known vendors: {known}")
    return VENDORS[vendor]


def _tag(data: bytes, at: int, size: int, number: int) -> Tag:
    if number == NONE:
        raise FormatError(FORM, at, "size", f"ATAG_NONE has size {size}, not 0: the kernel would read on behind it")
    if size < 2:
        raise FormatError(FORM, at, "size", f"{size} words, but a header alone has 2")
    if at + 4 * size > len(data):
        raise FormatError(FORM, at, "size", f"{size} words, but only {(len(data) - at) // 4} are there")
    return Tag(number, bytes(data[at + 8 : at + 4 * size]))


def _check_payload(tag: Tag, at: int, vendor: str | None) -> None:
    layout = tag.layout(vendor)
    if layout is None or tag.tag not in NEEDED | _VENDOR_MOVABLE.get(vendor or "", frozenset()):
        return
    if len(tag.payload) < layout.size:
        problem = f"{layout.name} has {len(tag.payload)} bytes of payload, needs {layout.size}"
        raise FormatError(FORM, at + 8, layout.fields[0], problem)
    if layout.form == _STRING and b"\0" not in tag.payload:
        raise FormatError(FORM, at + 8, layout.fields[0], "no NUL at its end")


def _region(tag: Tag, vendor: str | None, fields: Mapping[str, int | str], movable: bool) -> list[MemoryRegion]:
    start, size = int(fields["start"]), int(fields["size"])
    source = f"ATAG_{tag.name(vendor)}"
    return [MemoryRegion(Range.sized(start, size), hotpluggable=movable, source=source)] if size else []
