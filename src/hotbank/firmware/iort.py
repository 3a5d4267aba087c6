# SPDX-License-Identifier: Apache-2.0
"""ACPI IORT of arm64: how far the masters that it names reach, which is where zone DMA ends.

Truth: Arm DEN0049 (IO Remapping Table); drivers/acpi/arm64/iort.c, ``acpi_iort_dma_get_max_cpu_address``: the least
"memory address size limit" of named components, and of root complexes from their revision 1 on. Nothing else of the
table is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hotbank.errors import FormatError
from hotbank.firmware import acpi, hexdump

FORM = "IORT"
_SIGNATURE = b"IORT"
_PREFIX = 48  # table header, number of nodes, where they begin, 4 reserved bytes
_NODE = struct.Struct("<BHB")  # type, length, revision
_LEAST = 16  # bytes of a node before its own data
_LIMITS = {1: (28, 0), 2: (32, 1)}  # named component, root complex: where its limit stands, from which revision on
_WIDEST = 64


def dma_limit(data: bytes) -> int:
    """The exclusive upper physical address that every DMA master reaches; 2**64 where none is limited.

    ``data``: the table, or what acpidump or another tool printed of it. Raises FormatError.
    """
    bare = hexdump.shown(data, FORM, lambda order: order.startswith(_SIGNATURE))
    table = acpi.whole(bare, _SIGNATURE, _PREFIX)
    return 1 << min(_limits(table), default=_WIDEST)


def _limits(table: bytes) -> Iterator[int]:
    """Bits of address of each master that says so; 0 says nothing (min_not_zero)."""
    for at, kind, revision, length in _nodes(table):
        offset, since = _LIMITS.get(kind, (0, 0))
        if offset and revision >= since:
            if length <= offset:
                raise FormatError(FORM, at + 1, "length", f"{length} bytes for type {kind}, needs {offset + 1}")
            if bits := table[at + offset]:
                yield min(bits, _WIDEST)


def _nodes(table: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Where each node begins, its type, revision and length; no more than the table counts, or has room for."""
    count, at = struct.unpack_from("<II", table, acpi.HEADER)
    for _ in range(count):
        if at + _LEAST > len(table):
            return
        kind, length, revision = _NODE.unpack_from(table, at)
        if not _LEAST <= length <= len(table) - at:
            raise FormatError(FORM, at + 1, "length", f"{length} bytes, but {len(table) - at} are there")
        yield at, kind, revision, length
        at += length
