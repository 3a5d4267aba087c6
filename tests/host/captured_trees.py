# SPDX-License-Identifier: Apache-2.0
"""File trees to point a Host at: made from dumps of real kernels, and made up where no dump has the case."""

from __future__ import annotations

import os
import re
import struct
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hotbank.memory import MIB

DATA = Path(__file__).parents[1] / "data"
DUMPS = sorted((DATA / "trees").glob("*.txt"))
BOOTS = sorted((DATA / "zones").glob("*/*/blocks"))
MEMORY = "sys/devices/system/memory"
VMEMMAP = 0xFFFFFDFFC0000000

_ROOT_FILE = re.compile(r"^/(\S+) perm=\d+ \[(.*)\]$", re.MULTILINE)
_BLOCK = re.compile(r"^/(sys/devices/system/memory/memory\d+): (.*)$", re.MULTILINE)
_ATTRIBUTE = re.compile(r"(\w+)\(\d+\)=\[(.*?)\]")
_SECTION = re.compile(r"^== (.*)$", re.MULTILINE)
_BOOT_BLOCK = re.compile(r"^memory(\d+) idx=(\w+) state=(\S+) zones=\[(.*)\] removable=(\d) node=(\S*)$", re.MULTILINE)


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Put the files below ``root``, which is returned."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def from_dump(dump: Path, root: Path) -> Path:
    """The tree of one of DUMPS."""
    text = dump.read_text()
    marks = [*_SECTION.finditer(text)]
    sections = {
        m[1]: text[m.end() + 1 : n] for m, n in zip(marks, [m.start() for m in marks[1:]] + [None], strict=True)
    }
    files = {name: value + "\n" for name, value in _ROOT_FILE.findall(sections["mem root"] + sections["mhp params"])}
    files |= {f"proc/{name}": sections[name] for name in ("buddyinfo", "pagetypeinfo", "iomem", "zoneinfo")}
    files["proc/sys/kernel/arch"] = text.splitlines()[0].split()[-2] + "\n"
    for folder, attributes in _BLOCK.findall(text):
        files |= {f"{folder}/{name}": value + "\n" for name, value in _ATTRIBUTE.findall(attributes)}
    write(root, files)
    for folder, attributes in _BLOCK.findall(text):
        for node in re.findall(r"(node\d+)->", attributes):
            link_node(root, folder, node)
    return root


def from_boot(blocks: Path, root: Path) -> Path:
    """The tree of one of BOOTS, as far as it was captured."""
    text = blocks.read_text()
    files = {f"proc/{name}": (blocks.parent / name).read_text() for name in ("zoneinfo", "iomem")}
    files[f"{MEMORY}/block_size_bytes"] = text.splitlines()[0] + "\n"
    files["proc/sys/kernel/arch"] = "aarch64\n"
    for number, index, state, zones, removable, _ in _BOOT_BLOCK.findall(text):
        values = {"phys_index": index, "state": state, "valid_zones": zones, "removable": removable}
        files |= {f"{MEMORY}/memory{number}/{name}": value + "\n" for name, value in values.items()}
    write(root, files)
    for number, *_, node in _BOOT_BLOCK.findall(text):
        if node:
            link_node(root, f"{MEMORY}/memory{number}", node)
    return root


def link_node(root: Path, folder: str, node: str) -> None:
    """``folder/nodeN`` -> the node."""
    (root / "sys/devices/system/node" / node).mkdir(parents=True, exist_ok=True)
    os.symlink(f"../../node/{node}", root / folder / node)


@dataclass(frozen=True)
class MadeBlock:
    """One block of a made-up tree; None leaves the file or the link out."""

    number: int
    state: str = "online"
    zones: str | None = "Normal"
    node: int | None = 0
    removable: str | None = "1"


@dataclass(frozen=True)
class Made:
    """A made-up machine. ``flags``, ``counts``, ``cgroups``: u64 of the pages from pfn 0 on."""

    blocks: tuple[MadeBlock, ...]
    block_size: int = 128 * MIB
    files: Mapping[str, str | bytes] = field(default_factory=dict)

    def at(self, root: Path) -> Path:
        """Write it below ``root``."""
        files: dict[str, str | bytes] = {f"{MEMORY}/block_size_bytes": f"{self.block_size:x}\n"}
        for block in self.blocks:
            values = {"state": block.state, "valid_zones": block.zones, "removable": block.removable}
            values["phys_index"] = f"{block.number:08x}"
            files |= {f"{MEMORY}/memory{block.number}/{k}": v + "\n" for k, v in values.items() if v is not None}
        write(root, files | dict(self.files))
        for block in self.blocks:
            if block.node is not None:
                link_node(root, f"{MEMORY}/memory{block.number}", f"node{block.node}")
        return root


def gaps() -> Made:
    """An ACPI guest: an extra memory0 without a node, gaps, offline blocks, every shape of ``valid_zones``."""
    rest = (
        MadeBlock(8),
        MadeBlock(9),
        MadeBlock(10, zones="Movable"),
        MadeBlock(11, "offline", "Normal Movable"),
        MadeBlock(12, "offline", "Movable Normal"),
        MadeBlock(13, "going-offline", "Movable"),
        MadeBlock(14, zones="none"),
        MadeBlock(15, zones="none"),
        MadeBlock(16, zones="HighMem"),
        MadeBlock(17, zones="HighMem", node=None),
        MadeBlock(18, zones="DMA32", node=1),
        MadeBlock(19, zones="DMA", removable="0"),
        MadeBlock(20, zones="DMA", removable=None),
        MadeBlock(21, zones=""),
        MadeBlock(22, zones=None),
        MadeBlock(24, zones="Weird"),
        MadeBlock(25, zones="Weird Movable"),
        MadeBlock(26, zones="Normal Movable DMA DMA32 Device HighMem none Normal DMA"),
        MadeBlock(8192, zones="Device DMA32"),
        MadeBlock(8193, zones="Weird"),
        MadeBlock(8194, zones="Weird"),
    )
    return Made(
        (MadeBlock(0, zones="none", node=None), *rest),
        files={f"{MEMORY}/memory_failure/x": "", f"{MEMORY}/power/control": ""},
    )


def words(values: Iterable[int]) -> bytes:
    """u64 words as the kernel lays them out."""
    return array("Q", values).tobytes()


def kcore(
    refs: Mapping[int, int],
    *,
    pages: int,
    size: int = 64,
    offset: int = 52,
    memstart: int | None = None,
    page_size: int = 4096,
) -> bytes:
    """A /proc/kcore whose ``struct page`` array, in two segments, has the given reference counts (others: 0).

    ``memstart``: the kernel does not say where the entry of pfn 0 is, but that the array begins with this address.
    """
    memmap = bytearray(pages * size)
    for pfn, count in refs.items():
        struct.pack_into("<i", memmap, pfn * size + offset, count)
    info = f"PAGESIZE={page_size}\n{_place_of_memmap(size, memstart, page_size)}\n"
    info += f"SIZE(page)={size}\nOFFSET(page._refcount)={offset}\n"
    note = struct.pack("<III", 11, len(info), 0) + b"VMCOREINFO\0\0" + info.encode()
    half, notes_at = pages // 2 * size, 64 + 56 * 3
    first = notes_at + len(note)
    segments = (
        (4, notes_at, 0, len(note)),
        (1, first + half, VMEMMAP + half, len(memmap) - half),
        (1, first, VMEMMAP, half),
    )
    headers = b"".join(struct.pack("<IIQQQQQQ", kind, 4, at, va, 0, n, n, 1) for kind, at, va, n in segments)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf = ident + struct.pack("<HHIQQQIHHHHHH", 4, 183, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    return elf + headers + note + bytes(memmap)


def _place_of_memmap(size: int, memstart: int | None, page_size: int) -> str:
    """As kernel/vmcore_info.c has it, or as arch/arm64/kernel/crash_core.c of 6.1."""
    if memstart is None:
        return f"SYMBOL(vmemmap)={VMEMMAP:x}"
    start = VMEMMAP + memstart // page_size * size
    return f"NUMBER(VMEMMAP_START)=0x{start:x}\nNUMBER(PHYS_OFFSET)=0x{memstart & (1 << 64) - 1:x}"
