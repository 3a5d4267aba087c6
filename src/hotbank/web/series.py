# SPDX-License-Identifier: Apache-2.0
"""What is plotted over time: one row for each frame of a record. Pure."""

from __future__ import annotations

from hotbank.report.cells import Map
from hotbank.watch import Frame

COLUMNS = ("at", "on", "demand", "dark", "pressure", "watts")
"""Seconds since 1970; bytes in the kernel, in use that can't be dropped, and without power; percent of the last ten
seconds in which somebody waited for memory; watts of all meters together. None: nobody can tell."""

Row = tuple[float, int | None, int | None, int, float | None, float | None]


def row(frame: Frame) -> Row:
    """Of one frame."""
    reading = frame.reading
    on = None if reading is None else sum(zone.managed for zone in reading.zones) * frame.map.page_size
    waited = None if reading is None or reading.pressure is None else reading.pressure.some_avg10
    watts = round(sum(frame.watts.values()), 6) if frame.watts else None
    return frame.at, on, frame.demand, dark(frame.map), waited, watts


def dark(drawn: Map) -> int:
    """Bytes of the blocks that are without power."""
    return sum(len(strip.cells) for strip in drawn.strips if strip.cells[0].dark) * drawn.block_size
