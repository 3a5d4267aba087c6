# SPDX-License-Identifier: Apache-2.0
"""The captured boots under tests/data/zones: what each kernel was given, and what it made of it."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hotbank.zones import BlockZones, ZoneSpan

DATA = Path(__file__).resolve().parents[1] / "data" / "zones"


@dataclass(frozen=True, slots=True)
class Captured:
    """One boot: the blob and command line that went in, zones, blocks and System RAM that came out.

    ``cmdline`` None: the blob's own.
    """

    kernel: str
    dtb: bytes
    cmdline: str | None
    zones: tuple[ZoneSpan, ...]
    blocks: tuple[BlockZones, ...]
    block_size: int
    ram: tuple[tuple[int, int], ...]


def cases() -> list[str]:
    """The names of all cases, such as ``6.1.176/plain-6g``."""
    return sorted(str(path.parent.relative_to(DATA)) for path in DATA.glob("*/*/guest.dtb"))


def load(name: str) -> Captured:
    """One case, parsed."""
    folder = DATA / name
    block_size, blocks = _blocks((folder / "blocks").read_text())
    return Captured(
        kernel=name.split("/")[0],
        dtb=(folder / "guest.dtb").read_bytes(),
        cmdline=(folder / "cmdline").read_text().strip(),
        zones=_zones((folder / "zoneinfo").read_text()),
        blocks=blocks,
        block_size=block_size,
        ram=_ram((folder / "iomem").read_text()),
    )


@cache
def own() -> dict[str, Captured]:
    """The boots of own-boots.tar.xz by name; their command lines are in the blobs."""
    with tarfile.open(DATA / "own-boots.tar.xz") as tar:
        files = {m.name: file.read() for m in tar if (file := tar.extractfile(m)) is not None}
    return {name: _own(files, name) for name in sorted({path.rpartition("/")[0] for path in files})}


def _own(files: dict[str, bytes], name: str) -> Captured:
    block_size, blocks = _blocks(files[f"{name}/blocks"].decode())
    return Captured(
        kernel=name.split("/")[0],
        dtb=files[f"{name}/guest.dtb"],
        cmdline=None,
        zones=_zones(files[f"{name}/zoneinfo"].decode()),
        blocks=blocks,
        block_size=block_size,
        ram=_ram(files[f"{name}/iomem"].decode()),
    )


def _ram(text: str) -> tuple[tuple[int, int], ...]:
    found = re.findall(r"^(\w+)-(\w+) : System RAM$", text, re.MULTILINE)
    return tuple((int(start, 16), int(last, 16) + 1) for start, last in found)


def _zones(text: str) -> tuple[ZoneSpan, ...]:
    found = []
    for part in re.split(r"^(?=Node \d+, zone)", text, flags=re.MULTILINE)[1:]:
        head = re.match(r"Node (\d+), zone\s+(\w+)", part)
        assert head
        values = {
            key: int(n) for key, n in re.findall(r"^\s+(spanned|present|start_pfn):?\s+(\d+)$", part, re.MULTILINE)
        }
        if values["present"]:
            span = ZoneSpan(int(head[1]), head[2], values["start_pfn"], values["spanned"], values["present"])
            found.append(span)
    return tuple(found)


def _blocks(text: str) -> tuple[int, tuple[BlockZones, ...]]:
    size, *lines = text.split("\n", 1)
    found = re.findall(r"memory(\d+) .*?zones=\[(.*?)\]", lines[0])
    return int(size, 16), tuple(BlockZones(int(n), tuple(zones.split())) for n, zones in found)
