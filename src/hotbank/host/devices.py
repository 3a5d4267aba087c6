# SPDX-License-Identifier: Apache-2.0
"""Devices that hold memory which may come and go: of the dax bus, virtio-mem, banks of our driver.

Truth: drivers/dax/bus.c (``resource``, ``size``, ``target_node``), drivers/virtio/virtio_mem.c
(``virtio_mem_create_resource``: a region of /proc/iomem under the device's name), kernel/bank/driver.c
(``range``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hotbank.host.tree import Tree
from hotbank.memory import Range, merge
from hotbank.sysfs import iomem, names
from hotbank.sysfs.bank import RANGE
from hotbank.sysfs.form import number

DAX, ND = "sys/bus/dax", "sys/bus/nd"
_VIRTIO_MEM = "sys/bus/virtio/drivers/virtio_mem"


@dataclass(frozen=True, slots=True)
class Device:
    """One device. ``range``: its own, of which only whole memory blocks can be used. ``node``: None without one."""

    name: str
    route: str
    range: Range
    node: int | None = None


def devices(tree: Tree) -> tuple[Device, ...]:
    """All that are there and say where they lie, by address."""
    found = (*_dax(tree), *_virtio_mem(tree), *_banks(tree))
    return tuple(sorted(found, key=lambda device: device.range))


def regions(tree: Tree) -> tuple[Device, ...]:
    """Regions of the nd bus, on which a dax device can be made; what else may lie on one is its owner's to know."""
    found = [(name, extent(tree, f"{ND}/devices/{name}")) for name in tree.names(f"{ND}/devices")]
    return tuple(Device(name, "kmem", span) for name, span in found if name.startswith("region") and span.size)


def extent(tree: Tree, folder: str) -> Range:
    """Where a device's memory lies by its ``resource`` and ``size``; nothing where these do not say."""
    start, size = (tree.value(f"{folder}/{name}", number(name)) or 0 for name in ("resource", "size"))
    return Range.sized(start, size)


def parts_of(tree: Tree, device: str) -> tuple[Range, ...]:
    """Where a dax device's memory lies: one range, or several mappings (drivers/dax/bus.c)."""
    folder = f"{DAX}/devices/{device}"
    mappings = [name for name in tree.names(folder) if name.startswith("mapping")]
    parts = [_mapping(tree, f"{folder}/{name}") for name in mappings] or [extent(tree, folder)]
    return tuple(part for part in parts if part.size)


def _mapping(tree: Tree, folder: str) -> Range:
    start, last = (tree.value(f"{folder}/{name}", number(name)) for name in ("start", "end"))
    return Range(start, last + 1) if start is not None and last is not None and start <= last else Range(0, 0)


def _dax(tree: Tree) -> Iterator[Device]:
    """What comes and goes as one: a device in several parts is none of a bank."""
    for name in tree.names(f"{DAX}/devices"):
        parts = merge(parts_of(tree, name))
        if len(parts) == 1:
            node = tree.value(f"{DAX}/devices/{name}/target_node", number("target_node"))
            yield Device(name, "kmem", parts[0], node)


def _virtio_mem(tree: Tree) -> Iterator[Device]:
    known = {*tree.names(_VIRTIO_MEM)}
    for entry in tree.value(names.IOMEM, iomem.ENTRIES) or ():
        if entry.name in known and entry.range.start:  # without CAP_SYS_ADMIN all addresses read as 0
            yield Device(entry.name, "virtio-mem", entry.range)


def _banks(tree: Tree) -> Iterator[Device]:
    for name in tree.names(names.BANKS):
        span = tree.value(names.bank(name, "range"), RANGE)
        if span is not None:
            yield Device(name, "driver", span)
