# SPDX-License-Identifier: Apache-2.0
"""``hotbank list --lsmem``: the bytes that util-linux's ``lsmem`` prints, from any machine: 2.38's or 2.42's.

Truth: lsmem(1) and the program itself, which is the referee of the tests. What it does and its manual does not say:

* nodes and zones are shown if any block has them; by 2.38, nodes if the lowest block has a node link, zones if there is
  a ``memory0/valid_zones``: on most ARM boards RAM starts elsewhere, so that shows no zones there;
* 2.42's summary is wider and says what ``memmap_on_memory`` reads, if that is Y, N or force;
* a block without a node link is on node -1;
* blocks that are not online count as offline, and only online blocks are called removable or not;
* ranges are split by the columns that are printed; the attributes of a merged range are those of its first block;
* a zone that it does not know never merges; it reads eight zones at most.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hotbank.cli import table
from hotbank.host import Host
from hotbank.host import tree as files
from hotbank.host.tree import Tree
from hotbank.machine import Machine, Snapshot
from hotbank.numbers import digits
from hotbank.sysfs.names import MEMORY, PARAMETERS, node_number

_STATES = {"online": "online", "offline": "offline", "going-offline": "on->off"}
_ZONES = {z.lower(): z for z in ("DMA", "DMA32", "Normal", "Highmem", "Movable", "Device", "None")}
_UNKNOWN_ZONE, _MOST_ZONES = "Unknown", 8
_NO_NODE = -1
_MEMMAP = {"Y": "yes", "N": "no", "force": "force"}
_CHANGED = (2, 42)


class BadArgumentError(ValueError):
    """An option that lsmem refuses, in its words."""


@dataclass(frozen=True, slots=True)
class Span:
    """``count`` blocks from ``number`` on, with the attributes of the first. ``node`` is None where none are shown."""

    number: int
    state: str
    removable: bool
    node: int | None
    zones: tuple[str, ...]
    count: int = 1


@dataclass(frozen=True, slots=True)
class Blocks:
    """What lsmem knows of a machine: the block size in bytes and one span per block, ascending. ``memmap``: what its
    summary says of memmap_on_memory, None where it says nothing; ``newer``: the rules are 2.42's."""

    size: int
    spans: tuple[Span, ...]
    memmap: str | None = None
    newer: bool = True


@dataclass(frozen=True, slots=True)
class Format:
    """How to print. ``kind``: ``table``, ``json``, ``pairs`` or ``raw``; ``summary``: ``always``, ``never``, ``only``.

    ``split``: names of the columns that divide ranges, None for those that are printed.
    """

    kind: str = "table"
    columns: tuple[str, ...] = ("RANGE", "SIZE", "STATE", "REMOVABLE", "BLOCK")
    split: tuple[str, ...] | None = None
    every_block: bool = False
    in_bytes: bool = False
    headings: bool = True
    summary: str = "always"


def newer(version: str) -> bool:
    """True for what no older lsmem says of itself: ``lsmem from util-linux 2.42.4``, or nothing."""
    found = re.search(r"util-linux (\d{1,4})\.(\d{1,4})", version)
    return found is None or (digits(found[1]) or 0, digits(found[2]) or 0) >= _CHANGED


def blocks_of(machine: Machine, *, newer: bool = True) -> Blocks:
    """What lsmem would read on that machine. Only a Host has files; any other answers for itself."""
    if isinstance(machine, Host):
        return _from_tree(machine.tree, newer)
    return _from_snapshot(machine.snapshot(), newer)


def columns(text: str | None) -> tuple[str, ...]:
    """The columns of ``-o``: a list, or ``+list`` to extend the default. Raises BadArgumentError."""
    default = Format().columns
    if text is None:
        return default
    names = [_column(name) for name in text.removeprefix("+").split(",")]
    return (*default, *names) if text.startswith("+") else tuple(names)


def split(text: str | None) -> tuple[str, ...] | None:
    """The columns of ``-S``; ``none`` splits by nothing. Raises BadArgumentError."""
    if text is None:
        return None
    return () if text.lower() == "none" else tuple(_column(name) for name in text.split(","))


def render(blocks: Blocks, form: Format) -> str:
    """All that lsmem prints, to the byte."""
    by = form.columns if form.split is None else form.split
    spans = blocks.spans if form.every_block else _merged(blocks.spans, by)
    rows = [[_COLUMNS[name].value(span, blocks.size, form.in_bytes) for name in form.columns] for span in spans]
    if form.kind != "table":
        return _KINDS[form.kind](form, rows)
    text = "" if form.summary == "only" else _table(form, rows, newer=blocks.newer)
    totals = "" if form.summary == "never" else _summary(blocks, form.in_bytes)
    return text + ("\n" if text and totals else "") + totals


def human(size: int) -> str:
    """A size as util-linux shortens it: ``2.1G``, one digit, rounded half up from three digits that were cut."""
    exponent = max(0, min((size.bit_length() - 1) // 10 * 10, 60)) if size else 0
    whole, rest = divmod(size, 1 << exponent)
    tenths = (rest * 1000 // (1 << exponent) + 50) // 100
    if tenths == 10:
        whole, tenths = whole + 1, 0
    return f"{whole}.{tenths}{'BKMGTPE'[exponent // 10]}" if tenths else f"{whole}{'BKMGTPE'[exponent // 10]}"


def _from_tree(tree: Tree, newer: bool) -> Blocks:
    numbers = files.block_numbers(tree)
    with_nodes = any(_node(tree, number) != _NO_NODE for number in (numbers if newer else numbers[:1]))
    zones = (f"{MEMORY}/memory{number}/valid_zones" for number in (numbers if newer else (0,)))
    with_zones = any(os.path.exists(tree.path(name)) for name in zones)
    spans = tuple(_span(tree, n, with_nodes, with_zones) for n in numbers)
    memmap = _MEMMAP.get(tree.read(f"{PARAMETERS}/memmap_on_memory") or "") if newer else None
    return Blocks(files.block_size(tree), spans, memmap, newer)


def _span(tree: Tree, number: int, with_nodes: bool, with_zones: bool) -> Span:
    folder = f"{MEMORY}/memory{number}"
    zones = (tree.read(f"{folder}/valid_zones") or "").split() if with_zones else []
    return Span(
        number,
        _STATES.get(tree.read(f"{folder}/state") or "", "?"),
        tree.read(f"{folder}/removable") == "1",
        _node(tree, number) if with_nodes else None,
        _zone_names(zones),
    )


def _node(tree: Tree, number: int) -> int:
    """The node of a block, in the order of the folder's entries: a block on two nodes has two links."""
    nodes = map(node_number, os.listdir(tree.path(f"{MEMORY}/memory{number}")))
    return next((node for node in nodes if node is not None), _NO_NODE)


def _from_snapshot(snapshot: Snapshot, newer: bool) -> Blocks:
    blocks = snapshot.blocks
    with_nodes = any(block.node is not None for block in (blocks if newer else blocks[:1]))
    with_zones = any(block.number == 0 or newer for block in blocks)

    def node(of: int | None) -> int | None:
        return None if not with_nodes else _NO_NODE if of is None else of

    return Blocks(
        snapshot.block_size,
        tuple(
            Span(b.number, _STATES[b.state], True, node(b.node), _zone_names(b.valid_zones if with_zones else ()))
            for b in blocks
        ),
        _MEMMAP["Y" if snapshot.policy.memmap_on_memory else "N"] if newer else None,
        newer,
    )


def _zone_names(zones: Sequence[str]) -> tuple[str, ...]:
    return tuple(_ZONES.get(zone.lower(), _UNKNOWN_ZONE) for zone in zones[:_MOST_ZONES])


def _merged(spans: Iterable[Span], by: Sequence[str]) -> list[Span]:
    same = [_COLUMNS[name].attribute for name in by if _COLUMNS[name].attribute is not None]
    merged: list[Span] = []
    for span in spans:
        last = merged[-1] if merged else None
        if last and last.number + last.count == span.number and all(f(last) == f(span) for f in same if f):
            merged[-1] = replace(last, count=last.count + 1)
        else:
            merged.append(span)
    return merged


def _zones_or_itself(span: Span) -> object:
    """Equal for blocks with the same zones; a zone that lsmem does not know is never the same as another."""
    return (span.zones, span.number) if _UNKNOWN_ZONE in span.zones else span.zones


def _range(span: Span, size: int, _: bool) -> str:
    return f"{span.number * size:#018x}-{(span.number + span.count) * size - 1:#018x}"


def _size(span: Span, size: int, in_bytes: bool) -> int | str:
    return span.count * size if in_bytes else human(span.count * size)


def _removable(span: Span, *_: object) -> bool | None:
    return span.removable if span.state == "online" else None


def _block(span: Span, *_: object) -> str:
    return str(span.number) if span.count == 1 else f"{span.number}-{span.number + span.count - 1}"


@dataclass(frozen=True, slots=True)
class _Column:
    """One column: its value for a span, the attribute by which it divides ranges, and its place in a table."""

    value: Callable[[Span, int, bool], Any]
    attribute: Callable[[Span], object] | None = None
    left: bool = False
    hint: int = 0


_COLUMNS = {
    "RANGE": _Column(_range, left=True),
    "SIZE": _Column(_size, hint=5),
    "STATE": _Column(lambda span, *_: span.state, lambda span: span.state),
    "REMOVABLE": _Column(_removable, lambda span: span.removable),
    "BLOCK": _Column(_block),
    "NODE": _Column(lambda span, *_: span.node, lambda span: span.node),
    "ZONES": _Column(lambda span, *_: "/".join(span.zones) or None, _zones_or_itself),
}
ALL_COLUMNS = tuple(_COLUMNS)


def _column(name: str) -> str:
    if name.upper() not in _COLUMNS:
        raise BadArgumentError(f"unknown column: {name}")
    return name.upper()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _table(form: Format, rows: list[list[Any]], *, newer: bool) -> str:
    cells = [[_text(value) for value in row] for row in rows]
    lines = [list(form.columns), *cells] if form.headings else cells
    width = (_bare_width if not form.headings else _headed_width) if newer else _width
    widths = [width(name, [row[at] for row in cells]) for at, name in enumerate(form.columns)]
    return "".join(_line(form.columns, line, widths) for line in lines)


def _width(name: str, texts: Sequence[str]) -> int:
    """libsmartcols of 2.38 widens a column to its heading, shown or not, or to its hint, never to both."""
    width = max(map(len, texts), default=0)
    return len(name) if width < len(name) else max(width, _COLUMNS[name].hint)


def _headed_width(name: str, texts: Sequence[str]) -> int:
    """That of 2.42: to the heading where it is shown, else to the hint."""
    return max([len(name), *map(len, texts)])


def _bare_width(name: str, texts: Sequence[str]) -> int:
    return max([_COLUMNS[name].hint, *map(len, texts)])


def _line(names: Sequence[str], cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = table.padded(cells, widths, [not _COLUMNS[name].left for name in names])
    if _COLUMNS[names[-1]].left or not cells[-1]:
        padded[-1] = cells[-1]
    return " ".join(padded) + "\n"


def _json(form: Format, rows: list[list[Any]]) -> str:
    bodies = []
    for row in rows:
        pairs = zip(form.columns, row, strict=True)
        bodies.append(",\n".join(f'         "{name.lower()}": {_json_value(name, value)}' for name, value in pairs))
    body = "\n      },{\n".join(bodies)
    return f'{{\n   "memory": [\n      {{\n{body}\n      }}\n   ]\n}}\n'


def _json_value(name: str, value: object) -> str:
    if name == "REMOVABLE":
        return "true" if value else "false"
    if value is None:
        return "null"
    return str(value) if isinstance(value, int) else f'"{value}"'


def _pairs(form: Format, rows: list[list[Any]]) -> str:
    return "".join(" ".join(f'{n}="{_text(v)}"' for n, v in zip(form.columns, row, strict=True)) + "\n" for row in rows)


def _raw(form: Format, rows: list[list[Any]]) -> str:
    lines = [list(form.columns)] if form.headings else []
    lines += [[_text(value) for value in row] for row in rows]
    return "".join(" ".join(line) + "\n" for line in lines)


_KINDS = {"json": _json, "pairs": _pairs, "raw": _raw}


def _summary(blocks: Blocks, in_bytes: bool) -> str:
    online = sum(span.count for span in blocks.spans if span.state == "online") * blocks.size
    offline = sum(span.count for span in blocks.spans) * blocks.size - online
    sizes = ("Memory block size:", blocks.size), ("Total online memory:", online), ("Total offline memory:", offline)
    rows = [(label, str(size) if in_bytes else human(size)) for label, size in sizes]
    rows += [("Memmap on memory parameter:", blocks.memmap)] if blocks.memmap else []
    first, width = 32 if blocks.newer else 23, 15 if in_bytes else 5
    return "".join(f"{label:<{first}} {text:>{width}}\n" for label, text in rows)
