# SPDX-License-Identifier: Apache-2.0
"""The map on a screen of some size: which block is drawn where. Pure.

Few blocks are tiles under their names, as high and as wide as there is room for; of many each is one sign in rows that
begin with an address.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from hotbank.report.cells import Cell, Map, Strip

_NARROWEST, _WIDEST = 6, 30  # columns of a tile with the gap behind it
_HEIGHTS = range(8, 0, -1)  # lines of a tile
_SIGNS = (256, 128, 64, 32, 16)  # blocks in a row of signs


class Part(Enum):
    """What a line shows."""

    TITLE = "title"
    NAMES = "names"
    EDGE = "edge"  # of tiles, without words
    MIDDLE = "middle"  # of tiles, with words
    SIGNS = "signs"
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class Spot:
    """A block from column ``x`` on."""

    x: int
    width: int
    cell: Cell


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the screen."""

    part: Part
    strip: Strip
    spots: tuple[Spot, ...] = ()

    def at(self, x: int) -> Cell | None:
        """The block that is drawn in that column."""
        place = bisect_right(self.spots, x, key=lambda spot: spot.x) - 1
        found = self.spots[place] if place >= 0 else None
        return found.cell if found is not None and x < found.x + found.width else None


@dataclass(frozen=True)
class Layout:
    """All lines, from the top."""

    rows: tuple[Row, ...] = ()
    _homes: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, drawn: Map, width: int, height: int) -> Layout:
        """The largest tiles that fit, else signs, which may take more lines than there are."""
        for lines in _HEIGHTS:
            rows = tuple(_tiled(drawn, width, lines))
            if len(rows) <= height:
                return cls._placed(rows)
        return cls._placed(tuple(_signed(drawn, width)))

    @classmethod
    def _placed(cls, rows: tuple[Row, ...]) -> Layout:
        homes: dict[int, int] = {}
        for y, row in enumerate(rows):
            for spot in row.spots:
                homes.setdefault(spot.cell.block, y)
        return cls(rows, homes)

    def line_of(self, block: int) -> int | None:
        """The first line on which the block is drawn."""
        return self._homes.get(block)

    def cell_at(self, x: int, y: int) -> Cell | None:
        """The block that is drawn there."""
        return self.rows[y].at(x) if 0 <= y < len(self.rows) else None

    def beyond(self, block: int, step: int) -> int | None:
        """The block that is drawn above (-1) or below (1), nearest to the same column."""
        home = self.line_of(block)
        if home is None:
            return None
        x = next(spot.x for spot in self.rows[home].spots if spot.cell.block == block)
        others = [row for row in (self.rows[home::step]) if row.spots and block not in _numbers(row)]
        if not others:
            return None
        return min(others[0].spots, key=lambda spot: abs(spot.x - x)).cell.block


def _numbers(row: Row) -> set[int]:
    return {spot.cell.block for spot in row.spots}


def _tiled(drawn: Map, width: int, lines: int) -> Iterator[Row]:
    most = max((len(strip.cells) for strip in drawn.strips), default=1)
    tile = min(_WIDEST, max(_NARROWEST, (width + 1) // most))
    per_row = max(1, (width + 1) // tile)
    for place, strip in enumerate(drawn.strips):
        if place and lines > 1:
            yield Row(Part.GAP, strip)
        yield Row(Part.TITLE, strip)
        for first in range(0, len(strip.cells), per_row):
            spots = tuple(Spot(n * tile, tile - 1, c) for n, c in enumerate(strip.cells[first : first + per_row]))
            yield Row(Part.NAMES, strip, spots)
            yield from (Row(Part.MIDDLE if n == (lines - 1) // 2 else Part.EDGE, strip, spots) for n in range(lines))


def _signed(drawn: Map, width: int) -> Iterator[Row]:
    indent = digits(drawn) + 1
    blocks = next((n for n in _SIGNS if indent + n <= width), _SIGNS[-1])
    wide = 2 if all(len(s.cells) * 2 + indent <= width for s in drawn.strips) else 1
    for strip in drawn.strips:
        yield Row(Part.TITLE, strip)
        for run in _runs(strip.cells, blocks):
            yield Row(Part.SIGNS, strip, tuple(Spot(indent + n * wide, wide, cell) for n, cell in enumerate(run)))


def digits(drawn: Map) -> int:
    """Columns of the longest address."""
    return max((len(f"{strip.range.start:#x}") for strip in drawn.strips), default=0)


def _runs(cells: Sequence[Cell], most: int) -> Iterator[Sequence[Cell]]:
    """Up to so many at a time, from round numbers on."""
    while cells:
        room = most - cells[0].block % most
        yield cells[:room]
        cells = cells[room:]
