# SPDX-License-Identifier: Apache-2.0
"""/proc/iomem: kernel/resource.c, ``r_show``. Addresses read as 0 without CAP_SYS_ADMIN."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hotbank.memory import Range
from hotbank.sysfs.form import Form

_LINE = re.compile(r"^((?:  )*)([0-9a-f]{1,16})-([0-9a-f]{1,16}) : (.*)$", re.MULTILINE)
_RAM = "System RAM"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource. ``depth``: how many others it lies in."""

    range: Range
    name: str
    depth: int = 0

    @property
    def is_ram(self) -> bool:
        """True for memory that the kernel uses, from boot or added."""
        return self.name == _RAM or (self.name.startswith(f"{_RAM} (") and self.name.endswith(")"))

    @property
    def driver(self) -> str | None:
        """Who added that memory (``kmem``, ``virtio_mem``); None for memory from boot and for what is none."""
        return self.name[len(_RAM) + 2 : -1] or None if self.is_ram else None


def _parse(text: str) -> tuple[Resource, ...]:
    return tuple(_entries(text))


def _entries(text: str) -> Iterator[Resource]:
    for indent, start, last, name in _LINE.findall(text):
        first, end = int(start, 16), int(last, 16) + 1
        if first < end:
            yield Resource(Range(first, end), name, len(indent) // 2)


def _show(entries: tuple[Resource, ...]) -> str:
    return "".join(f"{'  ' * e.depth}{e.range.start:08x}-{e.range.end - 1:08x} : {e.name}\n" for e in entries)


ENTRIES: Form[tuple[Resource, ...]] = Form(_parse, _show)
"""All entries in order; a line that is none is left out."""
