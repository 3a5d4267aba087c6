# SPDX-License-Identifier: Apache-2.0
"""Boards as bytes and back: what each format carries, what it says it can't, and recognition of files."""

from __future__ import annotations

import gzip
import struct

import pytest

from codec import debian_blobs
from hotbank import board as boards
from hotbank.errors import BoardError, FormatError, Refusal
from hotbank.firmware import atags, describe, devicetree, fdt, memory_map, recognise
from hotbank.memory import Range

TWO_NODES = """
name = "two-nodes"
arch = "arm64"
block_size = "128M"
cmdline = "console=ttyAMA0 movable_node"
[bank.a]
start = 0x40000000
size = "1G"
node = 0
[bank.b]
start = 0x80000000
size = "1G"
node = 1
movable = true
[bank.c]
start = 0x880000000
size = "1G"
node = 1
movable = true
at_boot = false
route = "driver"
"""


def _said(data: bytes) -> list[tuple[Range, bool]]:
    return [(r.range, r.hotpluggable) for r in memory_map(data).regions]


@pytest.mark.parametrize("form", ["atags", "dtb", "srat", "cmdline"])
def test_the_2009_board_in_every_format(form: str) -> None:
    board = boards.load("arm-2009")
    wanted = [(b.range, b.movable) for b in board.banks]
    assert _said(describe(board, form).data) == wanted


def test_the_2009_boards_tag_list() -> None:
    tags = atags.decode(describe(boards.load("arm-2009"), "atags").data)
    assert [t.name() for t in tags] == ["CORE", "MEM", "MEM_MOVABLE"]


def test_the_2009_boards_command_line() -> None:
    text = describe(boards.load("arm-2009"), "cmdline").data
    assert text == b"mem=256M@0x40000000 movablemem=256M@0x50000000\n"


@pytest.mark.parametrize("form", ["atags", "dtb", "srat"])
def test_a_bank_that_is_not_there_at_boot_is_no_memory(form: str) -> None:
    board = boards.load("virt-arm64")
    description = describe(board, form)
    assert _said(description.data) == [(board.banks[0].range, False)]
    carried = form == "dtb"
    assert any("bank high" in line for line in description.lost) is not carried


def test_the_tree_carries_nodes_the_command_line_and_absent_banks() -> None:
    board = boards.loads(TWO_NODES)
    data = describe(board, "dtb").data
    memory = memory_map(data)
    assert [(r.range, r.node, r.hotpluggable) for r in memory.regions] == [
        (board.banks[0].range, 0, False),
        (board.banks[1].range, 1, True),
    ]
    assert memory.cmdline == board.cmdline
    assert [(b.source, b.range, b.node) for b in devicetree.banks(fdt.decode(data))] == [("c", board.banks[2].range, 1)]


def test_srat_carries_domains_and_says_what_it_loses() -> None:
    board = boards.loads(TWO_NODES)
    description = describe(board, "srat")
    assert [(r.node, r.hotpluggable) for r in memory_map(description.data).regions] == [(0, False), (1, True)]
    assert "the command line" in description.lost


def test_atags_say_what_they_lose() -> None:
    small = boards.loads(TWO_NODES)
    description = describe(small, "atags")
    assert memory_map(description.data).cmdline == small.cmdline
    assert {"NUMA nodes", "names of banks"} <= set(description.lost)
    with pytest.raises(FormatError, match="does not fit into 32-bit words"):
        describe(boards.loads(TWO_NODES.replace("at_boot = false", "at_boot = true")), "atags")


def test_mem_hides_the_topmost_banks_of_arm64() -> None:
    description = describe(boards.loads(TWO_NODES), "cmdline")
    assert description.data == b"mem=2G console=ttyAMA0 movable_node\n"
    lower = TWO_NODES.replace("0x880000000", "0x0")
    description = describe(boards.loads(lower), "cmdline")
    assert description.data == b"console=ttyAMA0 movable_node\n"
    assert any("bank c" in line and "below other memory" in line for line in description.lost)


def test_a_command_line_needs_a_bank_that_stays() -> None:
    text = 'name = "x"\narch = "arm"\nblock_size = "64M"\n[bank.a]\nstart = 0\nsize = "64M"\nmovable = true\n'
    with pytest.raises(BoardError, match="not movable"):
        describe(boards.loads(text), "cmdline")


def test_base_keeps_the_devices() -> None:
    base = next(b for b in debian_blobs.sample().values() if memory_map(b).regions)
    board = boards.load("virt-arm64")
    description = describe(board, "dtb", base=base)
    assert _said(description.data) == [(board.banks[0].range, False)]
    names = {child.name for child in fdt.decode(description.data).root.children}
    assert {c.name for c in fdt.decode(base).root.children if not c.name.startswith("memory")} <= names
    with pytest.raises(Refusal):
        describe(board, "atags", base=base)
    with pytest.raises(Refusal, match="no format 'uefi'"):
        describe(board, "uefi")


def test_recognition() -> None:
    board = boards.load("arm-2009")
    for form in ("atags", "dtb", "srat", "cmdline"):
        data = describe(board, form).data
        assert recognise(data) == form
        assert memory_map(gzip.compress(data)) == memory_map(data)
    for junk in (b"", b"\0" * 64, b"\x7fELF" + bytes(60), bytes(range(256))):
        with pytest.raises(FormatError, match="none of"):
            memory_map(junk)


def _zimage(tree: bytes, start: int = 0, size: int = 4096) -> bytes:
    image = bytearray(size)
    struct.pack_into("<III", image, 0x24, 0x016F2818, start, start + size)
    return bytes(image) + tree


def test_a_zimage_with_an_appended_tree() -> None:
    tree = describe(boards.load("arm-2009"), "dtb").data
    for start in (0, 0x40008000):
        assert memory_map(_zimage(tree, start) + b"more") == memory_map(tree)
    with pytest.raises(FormatError, match="none behind the image"):
        memory_map(_zimage(b""))
    with pytest.raises(FormatError, match="none behind the image"):
        memory_map(_zimage(tree[:-1]))
    broken = bytearray(_zimage(tree))
    struct.pack_into("<I", broken, 0x2C, 0xFFFFFFF0)
    with pytest.raises(FormatError, match="but the file has"):
        memory_map(bytes(broken))


def test_gzip_that_is_cut_wrong_or_a_bomb() -> None:
    packed = gzip.compress(describe(boards.load("arm-2009"), "dtb").data)
    with pytest.raises(FormatError, match="cut short"):
        memory_map(packed[:-9])
    with pytest.raises(FormatError, match="gzip"):
        memory_map(packed[:20] + b"\xff" * 40)
    with pytest.raises(FormatError, match=f"more than {32 << 20} bytes"):
        memory_map(gzip.compress(bytes(40 << 20)))
