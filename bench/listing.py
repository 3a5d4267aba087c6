# SPDX-License-Identifier: Apache-2.0
"""What listing the blocks of a large machine costs beside ``lsmem -a`` on the same tree of files.

Trees of 192, 4,096, 16,384 and 65,536 memory blocks of 128 MiB (24 GiB to 8 TiB) are made in a temporary folder. Both
programs are fresh processes, run in turn; what counts is their CPU time, and the ratio is the median over the pairs.
Goals: 16,384 blocks in at most 8 times what lsmem takes, and 65,536 in at most 5 times what those take.

    python bench/listing.py [--pairs N] [--check]

``--check`` exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hotbank.machine import ZoneInfo
from hotbank.memory import KIB, MIB, BlockState, Range
from hotbank.sysfs import block, iomem, meminfo, names, node, uname, zoneinfo

BLOCK, PAGE = 128 * MIB, 4 * KIB
SIZES = (192, 4096, 16384, 65536)
GOAL, LINEAR = 8.0, 5.0
COMMANDS = {"list": ["list"], "list --lsmem -a": ["list", "--lsmem", "-a"]}


def make(root: Path, count: int) -> None:
    """The files of a machine with so many blocks, the upper half of them Movable."""
    for name, text in _texts(count):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    for number in range(count):
        os.symlink(node.LINK.show(0), root / names.block(number, "node0"))
        os.symlink(node.BACK_LINK.show(number), root / names.node(0, f"memory{number}"))


def _texts(count: int) -> list[tuple[str, str]]:
    pages = count * BLOCK // PAGE
    half = pages // 2
    zones = tuple(ZoneInfo(0, name, at, half, half, half, half) for name, at in (("Normal", 0), ("Movable", half)))
    found = [
        (names.BLOCK_SIZE, block.BLOCK_SIZE.show(BLOCK)),
        (f"{names.NODES}/online", node.LIST.show((0,))),
        (names.node(0, "cpulist"), "0\n"),
        (names.ZONEINFO, zoneinfo.ZONES.show(zones)),
        (names.IOMEM, iomem.ENTRIES.show((iomem.Entry(Range(0, count * BLOCK), "System RAM"),))),
        (names.MEMINFO, meminfo.LINES.show({"MemTotal": pages * PAGE // KIB})),
        (names.ARCH, uname.ARCH.show("x86_64")),
    ]
    for number in range(count):
        found.append((names.block(number, "state"), block.STATE.show(BlockState.ONLINE)))
        zone = ("Movable" if number >= count // 2 else "Normal",)
        found.append((names.block(number, "valid_zones"), block.VALID_ZONES.show(zone)))
        found.append((names.block(number, "removable"), block.REMOVABLE.show(True)))
    return found


def spent(argv: Sequence[str]) -> float:
    """Seconds of CPU time of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def row(name: str, root: Path, count: int, pairs: int) -> tuple[float, float]:
    """Print one; the ratio to lsmem, and seconds."""
    ours = [sys.executable, "-m", "hotbank", *COMMANDS[name], "--sysroot", str(root)]
    times = [(spent(["lsmem", "-a", "--sysroot", str(root)]), spent(ours)) for _ in range(pairs)]
    ratios = sorted(other / base for base, other in times if base)
    base, other = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(ratios) if ratios else float("inf")
    print(f"{name:16} {count:7,} blocks  {base:7.3f} s {other:7.3f} s  {ratio:6.2f}  ({pairs} pairs)")
    return ratio, other


def main() -> int:
    """Print the rows; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs for each row (default 5)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a goal is missed")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        print(f"{'':31}  {'lsmem -a':>9} {'hotbank':>9}  ratio of CPU time")
        for count in SIZES:
            root = Path(folder, str(count))
            make(root, count)
            for name in COMMANDS:
                found[name, count] = row(name, root, count, options.pairs)
    near = found["list", 16384][0] <= GOAL
    linear = found["list", 65536][1] <= LINEAR * found["list", 16384][1]
    print(f"16,384 blocks within {GOAL:g} times: {near}; 65,536 within {LINEAR:g} times of those: {linear}")
    return int(options.check and not (near and linear))


if __name__ == "__main__":
    sys.exit(main())
