# SPDX-License-Identifier: Apache-2.0
"""gzip from outside, unpacked up to a limit: a bomb takes no more memory than the limit, a small file little."""

from __future__ import annotations

import zlib

from hotbank.errors import FormatError

MAGIC = b"\x1f\x8b"


def is_packed(data: bytes) -> bool:
    """True if it begins as gzip does."""
    return data[:2] == MAGIC


def unpacked(data: bytes, most: int, form: str = "gzip") -> bytes:
    """The bytes of the one gzip member; what lies behind it belongs to nobody.

    Raises FormatError (as ``form``) for what is damaged or cut short, beyond ``most`` bytes, and for a second member,
    which would be lost.
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(data, most)
    except zlib.error as e:
        raise FormatError(form, 0, "gzip", str(e)) from e
    at = len(data) - len(unpacker.unused_data) - len(unpacker.unconsumed_tail)
    if not unpacker.eof:
        what = f"unpacks to more than {most} bytes" if unpacker.unconsumed_tail else "cut short"
        raise FormatError(form, at, "gzip", what)
    if is_packed(unpacker.unused_data):
        raise FormatError(form, at, "gzip", "a second member begins here; unpack it with gunzip first")
    return plain
