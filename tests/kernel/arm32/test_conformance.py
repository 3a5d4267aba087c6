# SPDX-License-Identifier: Apache-2.0
"""Lists of tags that hotbank encodes, read by Debian's unmodified kernel for 32-bit ARM."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from hotbank.boards_qemu.parts.packages import Archive
from hotbank.firmware import atags
from hotbank.memory import GIB, MIB, merge
from hotbank.zones import iomem, predict
from kernel.arm32.test_zones import spans, zones_of
from kernel.arm32_guests import RAM, mib, printed

pytestmark = pytest.mark.kernel

WORDS = 'quiet name="two words" hotbank.test=1'
SERIAL = 0x0123_4567_89AB_CDEF
SERIAL_TAG = atags.Tag(atags.SERIAL, struct.pack("<Q", SERIAL))
REVISION_TAG = atags.Tag(atags.REVISION, struct.pack("<I", 0x2009))
UNKNOWN = (atags.Tag(0x5441_000A, b"vendor's own words ."), atags.Tag(0x7777_0001))

LISTS: dict[str, tuple[atags.Tag, ...]] = {
    "one bank": (atags.mem(mib(0, 512)),),
    "banks with holes": tuple(atags.mem(mib(start, size)) for start, size in ((0, 192), (256, 128), (512, 64))),
    "highmem, out of order, touching": tuple(atags.mem(mib(start, 256)) for start in (0, 768, 256)),
    "the most banks it takes": (atags.mem(mib(0, 128)), *(atags.mem(mib(160 + 32 * n, 16)) for n in range(15))),
    "everything at once": (
        *UNKNOWN,
        atags.mem(mib(0, 256)),
        REVISION_TAG,
        atags.mem(mib(256, 256), movable=True),
        SERIAL_TAG,
        atags.mem(mib(576, 0)),
        atags.cmdline(WORDS),
        atags.mem(mib(640, 64)),
    ),
}
COMMANDS = {
    "iomem": "cat /proc/iomem",
    "cmdline": "cat /proc/cmdline",
    "cpuinfo": "cat /proc/cpuinfo",
    "zones": "cat /proc/zoneinfo",
}


@pytest.fixture(scope="module")
def stock() -> Path:
    """The zImage of Debian's armhf kernel."""
    archive = Archive.open("armhf")
    package = archive.unpack_kernel(archive.kernel("6.1", "armmp"))
    (image,) = package.glob("boot/vmlinuz-*")
    return image


@pytest.mark.parametrize("name", LISTS)
def test_what_is_encoded_is_what_the_kernel_reads(name: str, stock: Path, tmp_path: Path) -> None:
    """Memory, command line and serial number; the initial RAM disk too, or nothing would be printed.

    This kernel has a DMA zone, on a machine without a limit: all lowmem is in it.
    """
    tags = LISTS[name]
    said = printed(tmp_path, tags, COMMANDS, size=mib(0, 1024), image=stock)
    memory = atags.memory_map([tag for tag in tags if tag.tag != atags.MEM_MOVABLE])  # which is nothing to this kernel
    assert merge(iomem.system_ram(said["iomem"])) == merge(region.range for region in memory.regions)
    size = 4 * GIB - RAM
    layout = predict(memory, arch="arm", page_size=4096, block_size=256 * MIB, kernel="6.1", dma_size=size).layout
    assert zones_of(said["zones"]) == spans(layout)
    line = f"console=ttyAMA0 {memory.cmdline}" if memory.cmdline else "console=ttyAMA0"
    assert said["cmdline"] == f"{line}\n"
    assert int(found(r"Serial\s*: (\w+)", said["cpuinfo"]), 16) == (SERIAL if SERIAL_TAG in tags else 0)
    assert found(r"Revision\s*: (\w+)", said["cpuinfo"]) == "0000"  # dropped with an appended device tree


def found(pattern: str, text: str) -> str:
    """The first group of the only match."""
    (match,) = re.findall(pattern, text)
    return str(match)
