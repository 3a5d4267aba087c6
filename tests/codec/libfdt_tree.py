# SPDX-License-Identifier: Apache-2.0
"""A blob as pylibfdt reads it: the referee's own walk, in shapes that can be compared and timed."""

from __future__ import annotations

import libfdt

Nested = tuple[str, tuple[tuple[str, bytes], ...], tuple["Nested", ...]]


def nested(blob: bytes) -> Nested:
    """(name, properties, children) of the root, properties as (name, raw bytes)."""
    return _node(libfdt.FdtRo(blob), 0)


def reservations(blob: bytes) -> tuple[tuple[int, int], ...]:
    """The memory reservation block."""
    fdt = libfdt.FdtRo(blob)
    return tuple(tuple(fdt.get_mem_rsv(i)) for i in range(fdt.num_mem_rsv()))


def memory_nodes(blob: bytes) -> list[tuple[str, bytes]]:
    """(name, reg) of each child of the root with device_type "memory", in order."""
    _, _, children = nested(blob)
    found = []
    for name, properties, _ in children:
        values = dict(properties)
        if values.get("device_type") == b"memory\0":
            found.append((name, values.get("reg", b"")))
    return found


def _node(fdt: libfdt.FdtRo, offset: int) -> Nested:
    properties, children = [], []
    at = fdt.first_property_offset(offset, libfdt.QUIET_NOTFOUND)
    while at >= 0:
        prop = fdt.get_property_by_offset(at)
        properties.append((prop.name, bytes(prop)))
        at = fdt.next_property_offset(at, libfdt.QUIET_NOTFOUND)
    at = fdt.first_subnode(offset, libfdt.QUIET_NOTFOUND)
    while at >= 0:
        children.append(_node(fdt, at))
        at = fdt.next_subnode(at, libfdt.QUIET_NOTFOUND)
    return fdt.get_name(offset), tuple(properties), tuple(children)
