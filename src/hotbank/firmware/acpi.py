# SPDX-License-Identifier: Apache-2.0
"""What all ACPI tables have in common: a header with signature, length and checksum (ACPI 6.5, 5.2.6)."""

from __future__ import annotations

from hotbank.errors import FormatError

HEADER = 36  # bytes


def whole(data: bytes, signature: bytes, least: int) -> bytes:
    """The table at the beginning of ``data``, which has ``least`` bytes or more; what is behind its length is not part
    of it. Raises FormatError, also for a wrong checksum."""
    form = signature.decode("ascii")
    if len(data) < least:
        raise FormatError(form, 0, "header", f"{len(data)} bytes, needs {least}")
    length = int.from_bytes(data[4:8], "little")
    if data[:4] != signature:
        raise FormatError(form, 0, "signature", f"{data[:4]!r}, not {signature!r}")
    if not least <= length <= len(data):
        raise FormatError(form, 4, "length", f"{length} bytes, but {len(data)} are there")
    if wrong := sum(data[:length]) & 0xFF:
        raise FormatError(form, 9, "checksum", f"{data[9]:#04x}, must be {(data[9] - wrong) & 0xFF:#04x}")
    return bytes(data[:length])
