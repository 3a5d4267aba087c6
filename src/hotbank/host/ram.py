# SPDX-License-Identifier: Apache-2.0
"""Where there is memory, and where it came from: /proc/iomem, /sys/firmware/memmap, ACPI memory devices.

Truth: kernel/resource.c, mm/memory_hotplug.c (``register_memory_resource``: who adds memory names it),
drivers/firmware/memmap.c, drivers/acpi/acpi_memhotplug.c.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from hotbank import kernels
from hotbank.errors import FormatError
from hotbank.host.tree import Tree
from hotbank.memory import Range, merge
from hotbank.sysfs import firmware_map, iomem, names


@dataclass(frozen=True, slots=True)
class SystemRam:
    """One ``System RAM`` resource. ``driver``: who added it after boot (``kmem``, ``virtio_mem``), else None."""

    range: Range
    driver: str | None = None


@dataclass(frozen=True)  # without slots: it keeps its indexes
class Ram:
    """Where there is memory, and where it came from.

    ``resources``: the RAM of /proc/iomem, None where its addresses are hidden. ``firmware``: the RAM that
    firmware told of (x86), None where the kernel keeps no such list. ``acpi_memory``: there are ACPI memory
    devices, which add plain ``System RAM`` and enter it in the firmware's list.
    """

    resources: tuple[SystemRam, ...] | None
    firmware: tuple[Range, ...] | None = None
    acpi_memory: bool = False
    arch: str | None = None

    @classmethod
    def of(cls, tree: Tree, arch: str | None, resources: bytes | None = None) -> Ram:
        """As the files of a machine of that architecture say now. ``resources``: what its /proc/iomem read a moment
        ago."""
        acpi_memory = any(name.startswith("PNP0C80:") for name in tree.names("sys/bus/acpi/devices"))
        return cls(_resources(resources or tree.read_bytes(names.IOMEM) or b""), _firmware_ram(tree), acpi_memory, arch)

    def covers(self, part: Range) -> bool | None:
        """True if all of the range is RAM: only then does the kernel take it offline. None when hidden."""
        return None if self.resources is None else _contains(self._all, part)

    def gaps(self, part: Range) -> Iterator[Range]:
        """What of the range is no RAM, by address; nothing where that is hidden."""
        at = part.start
        for ram in (ram for ram in self._all if ram.overlaps(part)):
            if at < ram.start:
                yield Range(at, ram.start)
            at = ram.end
        if self.resources is not None and at < part.end:
            yield Range(at, part.end)

    def at_boot(self, part: Range) -> bool | None:
        """True for memory from boot, False for memory that a driver added, None when nothing here tells."""
        if self.resources is None:
            return None
        if self._added and _touches(self._added, part):
            return False
        if self.acpi_memory:
            return None
        if kernels.arch(self.arch).boot_memory_leaves is False:
            return True  # even where firmware keeps all of a block for itself (no-map)
        return _touches(self.firmware, part) if self.firmware and _touches(self._all, part) else None

    def added_by(self, part: Range) -> str | None:
        """The driver that added memory of the range, as its resource names it; None where none did."""
        return next((ram.driver for ram in self.resources or () if ram.driver and ram.range.overlaps(part)), None)

    @cached_property
    def _all(self) -> tuple[Range, ...]:
        return merge(ram.range for ram in self.resources or ())

    @cached_property
    def _added(self) -> tuple[Range, ...]:
        return merge(ram.range for ram in self.resources or () if ram.driver)


def _last_before(spans: Sequence[Range], end: int) -> Range | None:
    """Of ascending ranges the last that begins before ``end``."""
    at = bisect_right(spans, end - 1, key=lambda span: span.start)
    return spans[at - 1] if at else None


def _touches(spans: Sequence[Range], part: Range) -> bool:
    before = _last_before(spans, part.end)
    return before is not None and before.overlaps(part)


def _contains(spans: Sequence[Range], part: Range) -> bool:
    before = _last_before(spans, part.start + 1)
    return before is not None and before.contains(part)


def _resources(said: bytes) -> tuple[SystemRam, ...] | None:
    """The RAM of /proc/iomem, at any depth; without CAP_SYS_ADMIN all addresses read as 0."""
    entries: Sequence[iomem.Resource] = ()
    with suppress(FormatError):
        entries = iomem.ENTRIES.parse(said.decode("utf-8", "replace"))
    rams = tuple(SystemRam(entry.range, entry.driver) for entry in entries if entry.is_ram)
    return rams if any(ram.range.size > 1 for ram in rams) else None


def _firmware_ram(tree: Tree) -> tuple[Range, ...] | None:
    found = (_firmware_entry(tree, f"{names.FIRMWARE_MAP}/{name}") for name in tree.names(names.FIRMWARE_MAP))
    return merge(span for span in found if span is not None) or None


def _firmware_entry(tree: Tree, folder: str) -> Range | None:
    if tree.value(f"{folder}/type", firmware_map.TYPE) != firmware_map.RAM:
        return None
    start, last = tree.value(f"{folder}/start", firmware_map.START), tree.value(f"{folder}/end", firmware_map.END)
    return Range(start, last + 1) if start is not None and last is not None and start <= last else None
