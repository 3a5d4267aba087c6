# SPDX-License-Identifier: Apache-2.0
"""The map of report/cells.py as lines of a screen: banks with their blocks side by side, what is in each by share.

Up to so many blocks are drawn as bars under their addresses; of more, each is one sign in rows that begin with an
address. Signs tell everything; colours, each on a ground of its own so that they read on any screen, tell it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from hotbank.cli.screen import PLAIN, Line, Style
from hotbank.memory import BlockState, folded, format_size
from hotbank.report.cells import Cell, Group, Map, Strip

_BARS = 64  # blocks of a map that are still drawn as bars
_NARROW = 5  # columns of the narrowest bar
_ROWS = (256, 128, 64, 32, 16)  # blocks in a row of signs

SIGNS: Mapping[Group, tuple[str, str, Style]] = {
    Group.KERNEL: ("#", "kernel", Style(16, 167)),
    Group.PINNED: ("*", "pinned", Style(231, 127)),
    Group.ANON: ("a", "anon", Style(16, 80)),
    Group.FILE: ("f", "file", Style(16, 111)),
    Group.UNKNOWN: ("?", "not seen", Style(16, 250)),
    Group.POISONED: ("!", "poisoned", Style(16, 220)),
    Group.HOLE: (" ", "hole", Style(250, 236)),
    Group.FREE: (".", "free", Style(16, 151)),
}
DARK = ("_", "dark", Style(245, 233))
OUT = ("-", "out", Style(250, 238))
OFFLINE = ("o", "offline", Style(16, 245))
_UNSEEN = SIGNS[Group.UNKNOWN]


def lines(drawn: Map, columns: int) -> Iterator[Line]:
    """The map in lines of at most so many columns (names of banks apart), the meaning of its signs below it."""
    cells = tuple(drawn.cells)
    digits = len(f"{cells[-1].range.start:#x}") if cells else 0
    for strip in drawn.strips:
        yield (_title(strip),)
        bars = len(cells) <= _BARS
        yield from _bars(strip, _width(drawn, columns), columns) if bars else _rows(strip, digits, columns)
    if cells:
        yield (_legend(cells, words=len(cells) <= _BARS),)


def _width(drawn: Map, columns: int) -> int:
    """Columns of a block, so that the longest strip fits in one line if it can."""
    most = max((len(strip.cells) for strip in drawn.strips), default=1)
    return max(_NARROW, (columns - 1) // most - 1)


def _title(strip: Strip) -> tuple[str, Style]:
    bank = strip.bank
    if bank is None:
        zones = "/".join(dict.fromkeys(cell.zone for cell in strip.cells if cell.zone))
        names = ", ".join(folded(cell.block for cell in strip.cells))
        return f"{names}  {format_size(strip.range.size)}  {zones}".rstrip(), PLAIN
    words = [bank.name, format_size(bank.range.size), bank.zone or "", bank.kernel.value, f"power {bank.power.value}"]
    words += [bank.domain or "", "interleaved" if strip.interleaved else ""]
    return "  ".join(word for word in words if word), Style(bold=True)


def _bars(strip: Strip, width: int, columns: int) -> Iterator[Line]:
    per_line = max(1, (columns - 1) // (width + 1))
    cells = iter(strip.cells)
    while row := list(islice(cells, per_line)):
        yield ((_ruler(row, width), Style(dim=True)),)
        bars = [part for cell in row for part in (*_bar(cell, width), ("|", PLAIN))]
        yield (("|", PLAIN), *bars)


def _ruler(row: Sequence[Cell], width: int) -> str:
    """Number and address of each block over its bar, or as much of that as has room."""
    names = ([_name(cell) for cell in row], [f"{cell.range.start:#x}" for cell in row], [f"{c.block}" for c in row])
    fitting = next((each for each in names if all(len(name) <= width for name in each)), names[-1])
    return "".join(f" {name[:width]:<{width}}" for name in fitting).rstrip()


def _name(cell: Cell) -> str:
    """Which it is, and whether it is on its way out."""
    leaving = cell.state is BlockState.GOING_OFFLINE
    return f"{cell.block} leaving" if leaving else f"{cell.block}: {cell.range.start:#x}"


def _bar(cell: Cell, width: int) -> Iterator[tuple[str, Style]]:
    sign, word, style = _whole(cell)
    if sign:
        yield (word.center(width) if len(word) <= width else sign * width), style
        return
    for group, size in cell.parts(width):
        sign, _, style = SIGNS[group]
        yield sign * size, style


def _whole(cell: Cell) -> tuple[str, str, Style]:
    """Sign, word and style of a block with nothing to tell of its pages; no sign where there is."""
    if cell.dark:
        return DARK[0], cell.power.value, DARK[2]
    if cell.state is None:
        return OUT
    if cell.state is BlockState.OFFLINE:
        return OFFLINE
    return ("", "", PLAIN) if cell.groups else _UNSEEN


def _rows(strip: Strip, digits: int, columns: int) -> Iterator[Line]:
    """Rows that begin at round addresses of so many digits, a sign for each block."""
    per_row = next((blocks for blocks in _ROWS if digits + 2 + blocks <= columns), _ROWS[-1])
    cells = list(strip.cells)
    while cells:
        room = per_row - cells[0].block % per_row
        row, cells = cells[:room], cells[room:]
        yield (f"{row[0].range.start:#0{digits}x}  ", Style(dim=True)), *(part for c in row for part in _bar(c, 1))


def _legend(cells: Sequence[Cell], *, words: bool) -> tuple[str, Style]:
    """The signs that occur. ``words``: blocks without a look at their pages say themselves what they are."""
    whole = {_whole(cell)[0] for cell in cells}
    groups = {group for cell in cells if not _whole(cell)[0] for group in cell.groups}
    signs = {SIGNS[group][0] for group in groups} | (whole & {_UNSEEN[0]} if words else whole)
    told = (f"{sign} {name}" for sign, name, _ in (*SIGNS.values(), OFFLINE, OUT, DARK) if sign in signs)
    return "  ".join(told), Style(dim=True)
