# SPDX-License-Identifier: Apache-2.0
"""The zones that our kernel makes of a list of tags are those that ``hotbank zones`` predicts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotbank.firmware import atags
from hotbank.memory import MIB
from hotbank.zones import Layout, predict
from kernel.arm32_guests import mib, printed

pytestmark = pytest.mark.kernel

BLOCK = 64 * MIB


@dataclass(frozen=True)
class Shape:
    """A list of tags; ``banks_agree``: the two strategies of 2009 make the zones that mainline makes, None for words
    that 2009 did not have."""

    tags: tuple[atags.Tag, ...]
    banks_agree: bool | None = True


def mem(start: int, size: int) -> atags.Tag:
    """MEM, in MiB from the start of RAM."""
    return atags.mem(mib(start, size))


def movable(start: int, size: int) -> atags.Tag:
    """MEM_MOVABLE, in MiB from the start of RAM."""
    return atags.mem(mib(start, size), movable=True)


SHAPES = {
    "the board of 2009": Shape((mem(0, 256), movable(256, 256))),
    "highmem bank": Shape((mem(0, 768), movable(768, 256))),
    "all of it unmovable": Shape((mem(0, 1024),)),
    "two movable tags above a hole": Shape((mem(0, 256), movable(320, 128), movable(512, 64))),
    "mixed: a movable bank between others": Shape((mem(0, 256), movable(256, 128), mem(384, 128)), banks_agree=False),
    "lowmem movable bank on a highmem board": Shape((mem(0, 512), movable(512, 256), mem(768, 256)), banks_agree=False),
    "movablemem= within a bank": Shape((mem(0, 512), atags.cmdline("movablemem=128M@0x58000000"))),
    "movablemem= adds a bank": Shape((mem(0, 256), atags.cmdline("movablemem=0x8000000@1342177280"))),
    "mem= drops the tags": Shape(
        (mem(0, 512), movable(512, 512), atags.cmdline("mem=256M mem=64M@0x54000000 movablemem=64M@0x58000000"))
    ),
    "movable bank off block boundaries": Shape((mem(0, 300), movable(300, 100))),
    "vmalloc= moves highmem": Shape((mem(0, 1024), atags.cmdline("vmalloc=400M"))),
    "movablecore=": Shape((mem(0, 1024), atags.cmdline("movablecore=192M")), banks_agree=None),
    "kernelcore=": Shape((mem(0, 512), atags.cmdline("kernelcore=200M")), banks_agree=None),
}


@pytest.mark.parametrize("name", SHAPES)
def test_zones_and_blocks_are_as_predicted(name: str, tmp_path: Path) -> None:
    tags = SHAPES[name].tags
    commands = {
        "zones": "cat /proc/zoneinfo",
        "blocks": "cd /sys/devices/system/memory; for b in memory*; do echo ${b#memory} $(cat $b/valid_zones); done",
        "size": "cat /sys/devices/system/memory/block_size_bytes",
    }
    said = printed(tmp_path, tags, commands, size=mib(0, 1024))
    layout = predicted(tags)
    assert zones_of(said["zones"]) == spans(layout)
    blocks = {int(line.split()[0]): tuple(line.split()[1:]) for line in said["blocks"].splitlines()}
    assert blocks == {block.block: block.valid_zones for block in layout.blocks}
    assert int(said["size"], 16) == BLOCK


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape.banks_agree is not None])
def test_the_strategies_of_2009_agree_where_the_movable_banks_are_topmost(name: str) -> None:
    """And where they don't, the user is told."""
    tags = SHAPES[name].tags
    mainline, adjust, banks = (predicted(tags, strategy) for strategy in ("mainline", "adjust", "banks"))
    assert spans(adjust) == spans(banks)
    assert (spans(mainline) == spans(banks)) is SHAPES[name].banks_agree
    if not SHAPES[name].banks_agree:
        assert mainline.findings


def predicted(tags: tuple[atags.Tag, ...], strategy: str = "mainline") -> Layout:
    """What hotbank says of the same list."""
    memory = atags.memory_map(tags)
    return predict(memory, arch="arm", page_size=4096, block_size=BLOCK, kernel="6.1", strategy=strategy).layout


def spans(layout: Layout) -> set[tuple[str, int, int, int]]:
    """Populated zones: name, first pfn, pages spanned and present."""
    return {(zone.zone, zone.start_pfn, zone.spanned, zone.present) for zone in layout.zones}


def zones_of(zoneinfo: str) -> set[tuple[str, int, int, int]]:
    """The same of /proc/zoneinfo; a zone that spans nothing is none."""
    found = set()
    for part in re.split(r"^Node \d+, zone +", zoneinfo, flags=re.MULTILINE)[1:]:
        numbers = {word: int(value) for word, value in re.findall(r"^ +(\w+):? +(\d+)$", part, re.MULTILINE)}
        if numbers["spanned"]:
            found.add((part.split()[0], numbers["start_pfn"], numbers["spanned"], numbers["present"]))
    return found
