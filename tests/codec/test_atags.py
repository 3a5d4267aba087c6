# SPDX-License-Identifier: Apache-2.0
"""The ATAG codec: golden bytes, its law, vendor tables, the limits of the appended device tree."""

from __future__ import annotations

import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.errors import FormatError, Refusal
from hotbank.firmware import atags
from hotbank.firmware.atags import Tag
from hotbank.memory import MemoryMap, MemoryRegion, Range

# What the 2009 board's boot loader would leave in memory, word by word.
GOLDEN = bytes.fromhex(
    "05000000 01004154 00000000 00100000 00000000"  # CORE: flags 0, pagesize 4096, rootdev 0
    "04000000 02004154 00000010 00000040"  # MEM: 256 MiB, size first, at 0x40000000
    "04000000 4d004154 00000010 00000050"  # MEM_MOVABLE: 256 MiB at 0x50000000
    "04000000 05004254 00000048 00100000"  # INITRD2: at 0x48000000, 4 KiB
    "04000000 06004154 78563412 efcdab90"  # SERIAL: low, high
    "03000000 07004154 02000000"  # REVISION
    "05000000 09004154 7175696574206f6e 65000000"  # CMDLINE "quiet one", padded to words
    "03000000 0d0d0d0d 01020304"  # a tag that nobody defines
    "00000000 00000000"  # NONE has size 0
)
LOW, HIGH = Range.sized(0x40000000, 256 << 20), Range.sized(0x50000000, 256 << 20)

_known = sorted({*atags.NAMED} - {atags.CORE, atags.NONE})
_tags = st.one_of(
    st.builds(
        atags.mem, st.builds(Range.sized, st.integers(0, 1 << 31), st.integers(0, 1 << 31)), movable=st.booleans()
    ),
    st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=30).map(atags.cmdline),
    st.builds(
        lambda number, words: Tag(number, b"".join(w.to_bytes(4, "little") for w in words)),
        st.integers(1, (1 << 32) - 1).filter(lambda n: n not in atags.NAMED),
        st.lists(st.integers(0, (1 << 32) - 1), max_size=6),
    ),
    st.sampled_from(_known).flatmap(
        lambda n: (
            st.binary(min_size=(atags.NAMED[n].size + 3) // 4 * 4, max_size=(atags.NAMED[n].size + 3) // 4 * 4)
            .filter(lambda raw: n != atags.CMDLINE or 0 in raw)
            .map(lambda raw: Tag(n, raw))
        )
    ),
)
_lists = st.lists(_tags, max_size=8).map(lambda tags: (atags.core(), *tags))


def test_golden_list() -> None:
    tags = atags.decode(GOLDEN)
    names = ["CORE", "MEM", "MEM_MOVABLE", "INITRD2", "SERIAL", "REVISION", "CMDLINE", "0x0d0d0d0d"]
    assert [t.name() for t in tags] == names
    assert tags[1].fields() == {"size": 256 << 20, "start": 0x40000000}
    assert tags[4].fields() == {"low": 0x12345678, "high": 0x90ABCDEF}
    assert tags[6].fields() == {"cmdline": "quiet one"}
    assert tags[7] == Tag(0x0D0D0D0D, bytes([1, 2, 3, 4]))
    assert atags.encode(tags) == GOLDEN
    assert atags.memory_map(tags) == MemoryMap(
        regions=(
            MemoryRegion(LOW, None, False, "ATAG_MEM"),
            MemoryRegion(HIGH, None, True, "ATAG_MEM_MOVABLE"),
        ),
        cmdline="quiet one",
        initrd=Range.sized(0x48000000, 4096),
    )


def test_golden_list_from_its_parts() -> None:
    tags = (
        *(atags.core(), atags.mem(LOW), atags.mem(HIGH, movable=True), atags.initrd2(Range.sized(0x48000000, 4096))),
        *(Tag(atags.SERIAL, struct.pack("<II", 0x12345678, 0x90ABCDEF)), Tag(atags.REVISION, struct.pack("<I", 2))),
        *(atags.cmdline("quiet one"), Tag(0x0D0D0D0D, bytes([1, 2, 3, 4]))),
    )
    assert atags.encode(tags) == GOLDEN


@given(_lists)
def test_decode_inverts_encode(tags: tuple[Tag, ...]) -> None:
    assert atags.decode(atags.encode(tags) + b"whatever lies behind") == tags


@given(_lists, st.data())
def test_a_list_cut_anywhere_is_a_format_error(tags: tuple[Tag, ...], data: st.DataObject) -> None:
    raw = atags.encode(tags)
    with pytest.raises(FormatError):
        atags.decode(raw[: data.draw(st.integers(0, len(raw) - 1))])


@pytest.mark.parametrize(
    ("raw", "offset", "field"),
    [
        (GOLDEN[:0x30], 0x24, "size"),  # cut inside MEM_MOVABLE
        (GOLDEN[20:], 4, "tag"),  # CORE is not first
        (GOLDEN[:-8] + struct.pack("<II", 2, 0), 0x80, "size"),  # NONE with size 2
        (GOLDEN[:20] + struct.pack("<II", 1, atags.MEM), 0x14, "size"),
        (GOLDEN[:20] + struct.pack("<II", 0xFFFFFFFF, atags.MEM), 0x14, "size"),
        (GOLDEN[:20] + struct.pack("<III", 3, atags.MEM, 7) + bytes(8), 0x1C, "size"),  # payload one word short
        (GOLDEN[:20] + struct.pack("<III", 3, atags.CMDLINE, 0x41414141) + bytes(8), 0x1C, "cmdline"),
    ],
)
def test_errors_name_offset_and_field(raw: bytes, offset: int, field: str) -> None:
    with pytest.raises(FormatError) as caught:
        atags.decode(raw)
    assert (caught.value.offset, caught.value.field) == (offset, field)


@given(st.sampled_from([n for n in atags.NAMED if n not in atags.NEEDED]), st.binary(max_size=48))
def test_a_tag_that_is_not_needed_never_costs_the_list(number: int, payload: bytes) -> None:
    """Whatever its size: U-Boot, vendors and old kernels disagree about some."""
    tag = Tag(number, payload + bytes(-len(payload) % 4))
    tags = atags.decode(atags.encode((atags.core(), tag, atags.mem(LOW))))
    assert tags[1] == tag
    assert [region.range for region in atags.memory_map(tags).regions] == [LOW]
    assert len(tags[1].fields()) <= len(atags.NAMED[number].fields)


# What the kernel calls them; ATAG_MEM_MOVABLE is ours alone.
KERNEL_TYPES = {
    atags.CORE: "tag_core",
    atags.MEM: "tag_mem32",
    atags.VIDEOTEXT: "tag_videotext",
    atags.RAMDISK: "tag_ramdisk",
    atags.INITRD: "tag_initrd",
    atags.INITRD2: "tag_initrd",
    atags.SERIAL: "tag_serialnr",
    atags.REVISION: "tag_revision",
    atags.VIDEOLFB: "tag_videolfb",
    atags.CMDLINE: "tag_cmdline",
    atags.ACORN: "tag_acorn",
    atags.MEMCLK: "tag_memclk",
}
_C_TYPES = {"B": "unsigned char", "H": "unsigned short", "I": "unsigned int"}


def _claims(number: int, kernel_type: str, layout: atags.Layout) -> list[str]:
    """Static assertions that hold if the layout is the header's."""
    if layout.form == "string":
        return [f'_Static_assert(sizeof(((struct {kernel_type} *)0)->{layout.fields[0]}[0]) == 1, "string");']
    ends = zip(layout.fields, layout.form, layout.ends, strict=True)
    claims = [
        f'_Static_assert(offsetof(struct {kernel_type}, {name}) + sizeof({_C_TYPES[form]}) == {end}, "{name}");'
        f'_Static_assert(sizeof(((struct {kernel_type} *)0)->{name}) == sizeof({_C_TYPES[form]}), "{name}");'
        for name, form, end in ends
    ]
    return [*claims, f'_Static_assert(sizeof(struct {kernel_type}) == {-(-layout.size // 4) * 4}, "{number:#x}");']


def _compiles(claims: list[str]) -> bool:
    headers = "/usr/arm-linux-gnueabihf/include"
    source = "#include <stddef.h>\n#include <asm/setup.h>\n" + "\n".join(claims)
    command = ["gcc", "-fsyntax-only", "-isystem", headers, "-x", "c", "-"]
    return subprocess.run(command, input=source.encode(), capture_output=True, check=False).returncode == 0


@pytest.mark.referee
def test_layouts_are_those_of_the_kernels_header() -> None:
    assert KERNEL_TYPES.keys() == atags.NAMED.keys() - {atags.MEM_MOVABLE}
    claims = [c for n, kernel_type in KERNEL_TYPES.items() for c in _claims(n, kernel_type, atags.NAMED[n])]
    assert _compiles(claims)
    wrong = atags.Layout("VIDEOLFB", "HHHHIIIB", atags.NAMED[atags.VIDEOLFB].fields[:8])
    assert not _compiles(_claims(atags.VIDEOLFB, "tag_videolfb", wrong))


def test_an_empty_core_is_allowed() -> None:
    assert atags.decode(struct.pack("<IIII", 2, atags.CORE, 0, 0)) == (Tag(atags.CORE),)


def test_vendor_tags_are_read_by_name_only() -> None:
    bank = struct.pack("<II", HIGH.size, HIGH.start)
    raw = atags.encode((atags.core(), atags.mem(LOW), Tag(0x5441000A, bank)))
    plain, qcom = atags.decode(raw), atags.decode(raw, "qcom")
    assert (plain[2].name(), plain[2].fields()) == ("0x5441000a", {})
    assert (qcom[2].name("qcom"), qcom[2].fields("qcom")["start"]) == ("MEM_RESERVED", HIGH.start)
    assert [r.range for r in atags.memory_map(plain).regions] == [LOW]
    assert atags.memory_map(qcom, "qcom").regions[1] == MemoryRegion(HIGH, None, True, "ATAG_MEM_RESERVED")
    short = atags.encode((atags.core(), Tag(0x5441000A, b"abcd")))
    assert atags.decode(short)[1].payload == b"abcd"
    with pytest.raises(FormatError, match="MEM_RESERVED has 4 bytes"):
        atags.decode(short, "qcom")
    with pytest.raises(Refusal, match="no table for vendor 'htc'"):
        atags.decode(raw, "htc")


def test_what_32_bits_and_the_kernel_hold() -> None:
    with pytest.raises(FormatError, match="does not fit into 32-bit words"):
        atags.mem(Range.sized(0xC0000000, 2 << 30))
    assert len(atags.cmdline("x" * 1023).payload) == 1024
    with pytest.raises(FormatError, match="1025 bytes"):
        atags.cmdline("x" * 1024)
    with pytest.raises(FormatError, match="CORE must be first"):
        atags.encode((atags.mem(LOW),))
    with pytest.raises(FormatError, match="NONE ends the list"):
        atags.encode((atags.core(), Tag(atags.NONE)))


@pytest.mark.parametrize(("cells", "most"), [(1, 32), (2, 16)])
def test_limits_of_the_appended_device_tree(cells: int, most: int) -> None:
    empty = Tag(atags.MEM, bytes(8))  # size 0: the decompressor skips it
    banks = [atags.mem(Range.sized(n << 20, 1 << 20), movable=n % 2 == 0) for n in range(most)]
    atags.check_appended((atags.core(), empty, *banks), cells)
    with pytest.raises(Refusal, match=f"{most + 1} banks.*takes {most}"):
        atags.check_appended((atags.core(), *banks, atags.mem(HIGH)), cells)


def test_what_the_decompressor_drops() -> None:
    dropped = atags.dropped_when_appended(atags.decode(GOLDEN))
    assert [tag.name() for tag in dropped] == ["REVISION", "0x0d0d0d0d"]
