# SPDX-License-Identifier: Apache-2.0
"""A tree of many zones, entries or areas: twice as much costs hardly more than twice as much, counted."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from counted import lines
from host.captured_trees import VMEMMAP, Made, MadeBlock
from host.test_garbage import BLOCK, FILES
from hotbank import operate
from hotbank.cli.listing import document, look
from hotbank.host import Host
from hotbank.host.doctor import examine
from hotbank.host.kcore import RefCounts
from hotbank.host.tree import Tree

FEW, SLACK = 400, 2.3
ZONE = (
    "Node {0}, zone Normal\n  pages free 5\n        min 1\n        spanned 512\n        present 512\n  start_pfn: {1}\n"
)


def zones(count: int) -> dict[str, bytes]:
    return {"proc/zoneinfo": "".join(ZONE.format(n, n * 512) for n in range(count)).encode()}


def resources(count: int) -> dict[str, bytes]:
    spans = ((n * 4096, n * 4096 + 4095) for n in range(count))
    return {"proc/iomem": "".join(f"{first:08x}-{last:08x} : System RAM\n" for first, last in spans).encode()}


def areas(count: int) -> dict[str, bytes]:
    folder = "sys/kernel/debug/cma"
    files = {f"{folder}/a{n}/base_pfn": b"%d\n" % (n * 64) for n in range(count)}
    return files | {f"{folder}/a{n}/count": b"64\n" for n in range(count)}


def map_entries(count: int) -> dict[str, bytes]:
    folder = "sys/firmware/memmap"
    files = {f"{folder}/{n}/start": b"%#x\n" % (n << 20) for n in range(count)}
    files |= {f"{folder}/{n}/end": b"%#x\n" % ((n << 20) + 4095) for n in range(count)}
    return files | {f"{folder}/{n}/type": b"System RAM\n" for n in range(count)}


def mappings(count: int) -> dict[str, bytes]:
    spans = ((n * 8192, n * 8192 + 4096) for n in range(count))
    return {"proc/9/maps": "".join(f"{first:08x}-{last:08x} rw-p 0 0 0\n" for first, last in spans).encode()}


def segments(count: int) -> dict[str, bytes]:
    """A kcore whose ``struct page`` array is in segments of one entry each."""
    info = b"PAGESIZE=4096\nSYMBOL(vmemmap)=fffffdffc0000000\nSIZE(page)=64\nOFFSET(page._refcount)=52\n"
    note = struct.pack("<III", 11, len(info), 0) + b"VMCOREINFO\0\0" + info
    first = 64 + 56 * (count + 1) + len(note)
    rows = [(4, first - len(note), 0, len(note)), *((1, first + n * 64, VMEMMAP + n * 64, 64) for n in range(count))]
    headers = b"".join(struct.pack("<IIQQQQQQ", kind, 4, at, va, 0, size, size, 1) for kind, at, va, size in rows)
    elf = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 4, 183, 1, 0, 64, 0, 0, 64, 56, len(rows), 0, 0, 0)
    )
    return {"proc/kcore": elf + headers + note + bytes(64 * count)}


MANY = (zones, resources, areas, map_entries, mappings)
LOOKS: dict[str, Callable[[Path], object]] = {
    "list": lambda root: document(look(Host(root), used=True)),
    "explain": lambda root: operate.explain(Host(root), 1),
    "doctor": lambda root: examine(Tree(root)),
}


@pytest.mark.parametrize("many", MANY, ids=lambda many: many.__name__)
@pytest.mark.parametrize("name", LOOKS)
def test_twice_as_many_cost_twice_as_much(name: str, many: Callable[[int], dict[str, bytes]], tmp_path: Path) -> None:
    def cost(count: int) -> int:
        root = Made((MadeBlock(1),), BLOCK, FILES | many(count)).at(tmp_path / str(count))
        return lines(lambda: LOOKS[name](root))

    assert cost(2 * FEW) < SLACK * cost(FEW)


def test_reference_counts_in_twice_as_many_segments_cost_twice_as_much(tmp_path: Path) -> None:
    def cost(count: int) -> int:
        counts = RefCounts.open(Tree(Made((MadeBlock(1),), BLOCK, segments(count)).at(tmp_path / str(count))))
        assert counts is not None
        with counts:
            assert counts.read(0, count) is not None
            return lines(lambda: counts.read(0, count))

    assert cost(2 * FEW) < SLACK * cost(FEW)
