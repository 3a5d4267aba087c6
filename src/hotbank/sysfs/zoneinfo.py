# SPDX-License-Identifier: Apache-2.0
"""/proc/zoneinfo: mm/vmstat.c, ``zoneinfo_show_print``.

The kernel prints every zone that it was built with for every node; one that has no memory ends after ``protection``.
``protection`` is the zone's ``lowmem_reserve``: one number for each of those zones, in the order in which they are
printed. Which zones a kernel has beyond those with memory a snapshot does not tell, so ``show`` prints Normal and
Movable besides: their reserves are what a snapshot knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from hotbank.machine import ZoneInfo
from hotbank.memory import Zone
from hotbank.sysfs.form import Form

_ZONE = re.compile(r"^Node +(\d{1,9}), zone +(\S+)$", re.MULTILINE)
_FIELD = re.compile(r"^\s+(?:pages )?(\w+):? +(\d{1,19})$", re.MULTILINE)
_LENT = re.compile(r"^\s+cma +0*[1-9]", re.MULTILINE)
_PROTECTION = re.compile(r"^ +protection: \((\d{1,19}(?:, \d{1,19})*)\)$", re.MULTILINE)
_NEEDS = frozenset({"spanned", "present", "managed", "free", "min", "low", "high"})
_ORDER = {zone.value: at for at, zone in enumerate(Zone)}
_FILE_PAGES = ("nr_zone_inactive_file", "nr_zone_active_file")


@dataclass(frozen=True, slots=True)
class Printed:
    """One zone as it is printed: all its numbers by name, and its ``protection``.

    Numbers of the per-node part and of the page sets are left out: some of them have a zone's names.
    """

    node: int
    zone: str
    fields: Mapping[str, int]
    protection: tuple[int, ...]


def lends(text: str) -> bool:
    """False if no zone in the text lends pages to CMA, which takes no reading of all the rest."""
    return _LENT.search(text) is not None


def printed(text: str) -> tuple[Printed, ...]:
    """Every zone in the text, with memory or without."""
    marks = list(_ZONE.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return tuple(_printed(int(m[1]), m[2], text[m.end() : end]) for m, end in zip(marks, ends, strict=False))


def _printed(node: int, zone: str, body: str) -> Printed:
    counters, _, tail = body[max(0, body.find("\n  pages free")) :].partition("\n  pagesets")
    start = tail[tail.rfind("\n  start_pfn:") :] if "start_pfn:" in tail else ""
    reserve = _PROTECTION.search(counters)
    numbers = tuple(int(number) for number in reserve[1].split(", ")) if reserve else ()
    return Printed(node, zone, {name: int(value) for name, value in _FIELD.findall(counters + start)}, numbers)


def _parse(text: str) -> tuple[ZoneInfo, ...]:
    return tuple(_zones(printed(text)))


def _zones(found: tuple[Printed, ...]) -> Iterator[ZoneInfo]:
    for _, of_node in groupby(found, lambda zone: zone.node):
        zones = list(of_node)
        places = {zone.zone: at for at, zone in enumerate(zones)}
        for zone in zones:
            if zone.fields.keys() >= _NEEDS and zone.fields["present"]:
                yield _zone(zone, places)


def _zone(zone: Printed, places: Mapping[str, int]) -> ZoneInfo:
    fields = zone.fields

    def kept_from(name: str) -> int:
        at = places.get(name, len(zone.protection))
        return zone.protection[at] if at < len(zone.protection) else 0

    return ZoneInfo(
        node=zone.node,
        zone=zone.zone,
        start_pfn=fields.get("start_pfn", 0),
        spanned=fields["spanned"],
        present=fields["present"],
        managed=fields["managed"],
        free=fields["free"],
        min=fields["min"],
        low=fields["low"],
        high=fields["high"],
        cma_free=fields.get("nr_free_cma", 0),
        reclaimable=max(0, sum(fields.get(n, 0) for n in _FILE_PAGES) - fields.get("nr_zone_write_pending", 0)),
        reserve_normal=kept_from(Zone.NORMAL),
        reserve_movable=kept_from(Zone.MOVABLE),
    )


def _show(zones: tuple[ZoneInfo, ...]) -> str:
    built = sorted({*(z.zone for z in zones), Zone.NORMAL.value, Zone.MOVABLE.value}, key=_place)
    nodes = dict.fromkeys(z.node for z in zones)
    there = {(z.node, z.zone): z for z in zones}
    rows = (there.get((node, name)) or _empty(node, name) for node in nodes for name in built)
    return "".join(_text(row, built) for row in rows)


def _place(zone: str) -> tuple[int, str]:
    return _ORDER.get(zone, len(_ORDER)), zone


def _empty(node: int, name: str) -> ZoneInfo:
    return ZoneInfo(node, name, 0, 0, 0, 0)


def _text(zone: ZoneInfo, built: list[str]) -> str:
    lines = [f"Node {zone.node}, zone {zone.zone:>8}", f"  pages free     {zone.free}", "        boost    0"]
    marks = ("min", "low", "high", "spanned", "present", "managed")
    lines += [f"        {name:<8} {getattr(zone, name)}" for name in marks]
    reserves = {Zone.NORMAL.value: zone.reserve_normal, Zone.MOVABLE.value: zone.reserve_movable}
    lines.append(f"        protection: ({', '.join(str(reserves.get(name, 0)) for name in built)})")
    if zone.present:
        lines += [f"      {name:<12} {value}" for name, value in _counters(zone).items()]
        lines += ["  pagesets", "  node_unreclaimable:  0", f"  start_pfn:           {zone.start_pfn}"]
    return "".join(f"{line}\n" for line in lines)


def _counters(zone: ZoneInfo) -> Mapping[str, int]:
    return {"nr_free_pages": zone.free, "nr_zone_inactive_file": zone.reclaimable, "nr_free_cma": zone.cma_free}


ZONES: Form[tuple[ZoneInfo, ...]] = Form(_parse, _show)
"""The zones that have memory, node by node in the kernel's order. What is no zone, or not a whole one, is left out."""
