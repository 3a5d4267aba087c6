# SPDX-License-Identifier: Apache-2.0
"""Text in columns, for every command that prints a table."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence

from hotbank.cli.screen import columns, is_terminal
from hotbank.cli.terminal import visible

GAP, NARROW_GAP = "  ", " "


def lines(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    shown: bool = True,
    spare: Sequence[str] = (),
) -> Iterator[str]:
    """The rows under their headings, each column as wide as it has to be; ``right``: headings of those that are
    flushed right; ``shown``: False leaves the headings out; ``spare``: headings of what is left out where the screen is
    too narrow, in that order. Nothing without a column or without a line. On a terminal for which that is too wide the
    columns move together."""
    for name in spare:
        if width(headings, rows) > columns():
            headings, rows = _without(name, headings, rows)
    seen = [[visible(cell) for cell in row] for row in rows]
    every = [headings, *seen] if shown else seen
    if not headings or not every:
        return
    widths = [max(len(row[at]) for row in every) for at in range(len(headings))]
    gap = NARROW_GAP if _is_too_wide(sum(widths) + len(GAP) * (len(widths) - 1)) else GAP
    for row in every:
        yield gap.join(padded(row, widths, [name in right for name in headings])).rstrip()


def _without(
    name: str, headings: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    kept = [at for at, heading in enumerate(headings) if heading != name]
    return [headings[at] for at in kept], [[row[at] for at in kept] for row in rows]


def width(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Columns of the screen that a table needs at least."""
    every = [headings, *([visible(cell) for cell in row] for row in rows)]
    return sum(max(len(row[at]) for row in every) for at in range(len(headings))) + len(NARROW_GAP) * (
        len(headings) - 1
    )


def _is_too_wide(width: int) -> bool:
    return is_terminal(sys.stdout) and width > columns()


def padded(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """Cells filled up to their widths; ``right``: which of them on the left side."""
    each = zip(cells, widths, right, strict=True)
    return [text.rjust(width) if flushed else text.ljust(width) for text, width, flushed in each]


def numbers(first: int, more: int) -> str:
    """A number and how many follow it as one name: ``7``, ``7-9``."""
    return f"{first}-{first + more}" if more else str(first)
