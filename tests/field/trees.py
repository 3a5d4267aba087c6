# SPDX-License-Identifier: Apache-2.0
"""Captured trees with one block that matters, beside memory at the bottom that has room for it."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from host.captured_trees import MEMORY, write
from hotbank.host import pages
from hotbank.memory import MIB

FREE, OFFLINE = pages.BUDDY, pages.OFFLINE


@dataclass(frozen=True)
class Run:
    """Adjacent pages of the same flags."""

    flags: int
    pages: int


@dataclass(frozen=True)
class Zoned:
    """The block's zone, and the free pages of the memory that stays."""

    name: str = "Movable"
    elsewhere: int = 200_000


def machine(
    root: Path,
    block: int,
    runs: Sequence[Run],
    zoned: Zoned = Zoned(),
    *,
    iomem: str,
    block_size: int = 128 * MIB,
    first: int | None = None,
    node: int = 0,
    arch: str = "x86_64",
    files: Mapping[str, str | bytes] | None = None,
) -> Path:
    """A machine of 4K pages with 1 GiB at 0, and that block. ``first``: the block's number, where not ``block``."""
    number = block if first is None else first
    whole = block_size // 4096
    assert sum(run.pages for run in runs) == whole
    free = sum(run.pages for run in runs if run.flags == FREE)
    managed = whole - sum(run.pages for run in runs if run.flags == OFFLINE)
    folder = f"{MEMORY}/memory{number}"
    write(
        root,
        {
            f"{MEMORY}/block_size_bytes": f"{block_size:x}\n",
            f"{MEMORY}/auto_online_blocks": "offline\n",
            f"{folder}/state": "online\n",
            f"{folder}/valid_zones": f"{zoned.name}\n",
            "proc/sys/kernel/arch": f"{arch}\n",
            "proc/iomem": f"00001000-3fffffff : System RAM\n{iomem}\n",
            "proc/meminfo": f"MemTotal: {(250_000 + managed) * 4} kB\n",
            "proc/zoneinfo": zone_lines(0, "DMA32", 262_143, 250_000, zoned.elsewhere, 1)
            + zone_lines(node, zoned.name, whole, managed, free, number * whole),
        }
        | dict(files or {}),
    )
    _write_flags(root, number * whole, runs)
    return root


def zone_lines(node: int, name: str, spanned: int, managed: int, free: int, start: int) -> str:
    """A zone in /proc/zoneinfo."""
    return (
        f"Node {node}, zone {name:>8}\n  pages free     {free}\n        boost    0\n        min      2800\n"
        f"        low      3500\n        high     4200\n        spanned  {spanned}\n        present  {spanned}\n"
        f"        managed  {managed}\n        cma      0\n        protection: (0, 0, 0)\n      nr_free_pages {free}\n"
        f"  pagesets\n  node_unreclaimable:  0\n  start_pfn:           {start}\n"
    )


def _write_flags(root: Path, pfn: int, runs: Sequence[Run]) -> None:
    """Sparse: what lies below reads as 0."""
    with (root / "proc/kpageflags").open("wb") as file:
        file.seek(pfn * 8)
        for run in runs:
            file.write(array("Q", [run.flags]).tobytes() * run.pages)
    with (root / "proc/kpagecount").open("wb") as file:
        os.truncate(file.fileno(), (pfn + sum(run.pages for run in runs)) * 8)
