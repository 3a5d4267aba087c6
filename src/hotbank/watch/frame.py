# SPDX-License-Identifier: Apache-2.0
"""What is to be seen of a machine at one moment: a value, its JSON, and the JSON of what differs from another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hotbank.documents import SCHEMA
from hotbank.energy import Bounds
from hotbank.govern.status import Governed
from hotbank.machine import Reading, Snapshot
from hotbank.operate import Entry
from hotbank.report.cells import Cell, Map, Strip
from hotbank.watch.looker import Look
from hotbank.watch.running import Running
from hotbank.wire import encode

CELLS = "cells"  # the key whose entries change one by one


@dataclass(frozen=True, slots=True)
class Frame:
    """A machine at one moment. ``seq`` counts frames, from 1; ``at``: seconds since 1970.

    ``trouble``: why the machine does not answer, empty where it does; then the rest is what it said last. ``watts``: by
    meter. ``saved``: joules by the machine's journal. ``running``: the order that is carried out, or the last one.
    ``journal``: its last transactions, the newest last. ``looks``: by name, what a viewer asked to look at.
    None: nobody can tell.
    """

    seq: int
    at: float
    snapshot: Snapshot
    map: Map
    reading: Reading | None = None
    trouble: str = ""
    watts: Mapping[str, float] = field(default_factory=dict)
    saved: Bounds | None = None
    running: Running | None = None
    governed: Governed | None = None
    journal: tuple[Entry, ...] = ()
    looks: Mapping[str, Look] = field(default_factory=dict)

    @property
    def machine(self) -> str:
        """Its name."""
        return self.snapshot.machine

    @property
    def alive(self) -> bool:
        """Whether the machine answers."""
        return not self.trouble

    @property
    def clock(self) -> float | None:
        """Seconds on the machine's clock."""
        return None if self.reading is None else self.reading.at

    @property
    def demand(self) -> int | None:
        """Bytes in use that could not be dropped."""
        return None if self.reading is None else self.reading.demand * self.snapshot.page_size

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""
        return self._head() | {CELLS: {str(cell.block): _cell(cell) for cell in self.map.cells}}

    def changes(self, before: Frame) -> dict[str, Any]:
        """Of the document the keys that differ from those of ``before``; of the blocks those that do, None for one that
        is gone. See ``merged``."""
        old, new = before._head(), self._head()
        changed = {key: value for key, value in new.items() if old[key] != value}
        cells = {str(block): cell for block, cell in _differing(before.map, self.map)}
        return changed | ({CELLS: cells} if cells else {})

    def _head(self) -> dict[str, Any]:
        """All but the blocks. Made anew each time: a record keeps thousands of frames."""
        return {
            "schema": SCHEMA["frame"],
            "seq": self.seq,
            "at": self.at,
            "clock": self.clock,
            "machine": self.machine,
            "alive": self.alive,
            "trouble": self.trouble,
            "page_size": self.map.page_size,
            "block_size": self.map.block_size,
            "strips": [_strip(strip) for strip in self.map.strips],
            **_felt(self.reading, self.map.page_size),
            "watts": dict(self.watts),
            "saved_j": encode(self.saved),
            "running": None if self.running is None else encode(self.running),
            "governor": None if self.governed is None else self.governed.document(self.machine),
            "journal": [_entry(entry) for entry in self.journal],
            "looks": {name: look.document(self.machine) for name, look in self.looks.items()},
        }


def merged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The document that ``before`` becomes by what ``Frame.changes`` said."""
    cells = {**before[CELLS], **changes.get(CELLS, {})}
    return {**before, **changes, CELLS: {block: cell for block, cell in cells.items() if cell is not None}}


def _differing(old: Map, new: Map) -> Iterator[tuple[int, dict[str, Any] | None]]:
    if old is not new:
        for block in dict.fromkeys(cell.block for cell in (*new.cells, *old.cells)):
            was, now = old.cell(block), new.cell(block)
            if was != now and (shown := _cell(now)) != _cell(was):
                yield block, shown


def _strip(strip: Strip) -> dict[str, Any]:
    bank = strip.bank
    of_bank = ("kernel", "power", "zone", "node", "domain", "route", "movable")
    return {
        "bank": None if bank is None else bank.name,
        "start": strip.range.start,
        "size": strip.range.size,
        **{key: None if bank is None else encode(getattr(bank, key)) for key in of_bank},
        "interleaved": strip.interleaved,
        "blocks": [cell.block for cell in strip.cells],
    }


def _cell(cell: Cell | None) -> dict[str, Any] | None:
    return (
        None
        if cell is None
        else {
            "start": cell.range.start,
            "state": encode(cell.state),
            "zone": cell.zone,
            "power": cell.power.value,
            "used": cell.used,
            "kinds": encode(cell.kinds),
            "groups": encode(cell.groups),
            "why": encode(cell.why),
        }
    )


def _felt(reading: Reading | None, page_size: int) -> dict[str, Any]:
    """How the machine feels: of zones in pages, of the whole in bytes."""
    if reading is None:
        sizes, rates = ("free", "clean", "managed", "demand"), ("pressure", "refaults", "migrated")
        return {"zones": [], **dict.fromkeys((*sizes, *rates))}
    shown = ("node", "zone", "free", "managed", "present", "reclaimable")
    return {
        "zones": [{key: getattr(zone, key) for key in shown} for zone in reading.zones],
        "free": reading.free * page_size,
        "clean": reading.clean * page_size,
        "managed": reading.managed * page_size,
        "demand": reading.demand * page_size,
        "pressure": encode(reading.pressure),
        "refaults": reading.refaults,
        "migrated": encode(reading.migrated),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "verb": entry.before.verb,
        "targets": list(entry.before.targets),
        "cause": entry.before.cause,
        "began": entry.began,
        "ended": entry.ended,
        "code": encode(entry.code),
        "moved": entry.moved,
    }
