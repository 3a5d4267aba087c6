# SPDX-License-Identifier: Apache-2.0
"""What descriptions come wrapped in: gzip, and ARM zImages with a device tree appended.

Truth: Documentation/arch/arm/booting.rst and arch/arm/boot/compressed/head.S for the zImage header (magic
0x016f2818 at 0x24, then start and end); the appended tree begins where the image ends.
"""

from __future__ import annotations

import struct

from hotbank import packed
from hotbank.errors import FormatError
from hotbank.firmware import fdt

ZIMAGE_MAGIC = 0x016F2818
MAX_UNPACKED = 32 << 20  # no description is bigger; a gzip bomb is


def is_zimage(data: bytes) -> bool:
    """True if the zImage magic is where it belongs."""
    return len(data) >= 0x30 and struct.unpack_from("<I", data, 0x24)[0] == ZIMAGE_MAGIC


def gunzip(data: bytes) -> bytes:
    """The unpacked bytes. Raises FormatError, also beyond 32 MiB."""
    return packed.unpacked(data, MAX_UNPACKED)


def appended_dtb(data: bytes) -> bytes:
    """The device tree behind a zImage. Raises FormatError when there is none."""
    start, end = struct.unpack_from("<II", data, 0x28)
    at = end - start
    if not 0x30 <= at <= len(data):
        raise FormatError("zImage", 0x28, "start, end", f"{start:#x} to {end:#x}, but the file has {len(data)} bytes")
    size = fdt.blob_size(data, at)
    if size is None:
        raise FormatError("zImage", at, "appended device tree", "there is none behind the image")
    return data[at : at + size]
