# SPDX-License-Identifier: Apache-2.0
"""What a terminal can do beyond a pipe: lines break between words at its width, colours, an area drawn over live."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_LABEL = re.compile(r"\s*\S+( \S+)?\s{2,}|\s*")  # what a line begins with, so that the rest of it hangs beside it
_NARROW = 3  # a label wider than this part of the screen leaves too little beside it


@dataclass(frozen=True, slots=True)
class Style:
    """How a text looks where there are colours; ``fg``, ``bg``: of xterm's 256."""

    fg: int | None = None
    bg: int | None = None
    bold: bool | None = None
    dim: bool | None = None

    def paint(self, text: str) -> str:
        """The text between the control sequences that make it look so."""
        return click.style(text, fg=self.fg, bg=self.bg, bold=self.bold, dim=self.dim)


PLAIN = Style()
Line = tuple[tuple[str, Style], ...]
"""A line in parts, each with its style."""


def has_colours(stream: TextIO | None) -> bool:
    """A terminal that shows colours, of somebody who wants them (no-color.org)."""
    return is_terminal(stream) and os.environ.get("TERM") not in (None, "dumb") and not os.environ.get("NO_COLOR")


def above(text: str) -> bool:
    """Print what is to stay above the live area; False where none is drawn."""
    if _drawn:
        _drawn[-1].above(text)
    return bool(_drawn)


def wrapped(line: str, width: int) -> Iterator[str]:
    """The line in parts of at most ``width`` columns, broken between words; what follows hangs beside its label."""
    import textwrap  # for terminals only, so that what is piped starts sooner

    label = _LABEL.match(line)
    hanging = label.end() if label else 0
    indent = " " * (hanging if hanging <= width // _NARROW else 2)
    parts = textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )
    yield from parts or [line]


def columns() -> int:
    """The terminal's width."""
    import shutil  # for terminals only, as above

    return shutil.get_terminal_size().columns


def is_terminal(stream: TextIO | None) -> bool:
    """A terminal; a caller may have closed the stream."""
    return stream is not None and stream.isatty()


@contextmanager
def live(stream: TextIO | None) -> Iterator[LiveArea | None]:
    """An area at the foot of a terminal that is drawn over in place and is gone at the end; None where nothing can be
    drawn over: no terminal, or a dumb one. What is printed meanwhile stands above it."""
    if stream is None or not is_terminal(stream):
        yield None
        return
    from rich.console import Console

    console = Console(file=stream, width=columns())
    if console.is_dumb_terminal:
        yield None
        return
    with _area(console) as area:
        yield area


class LiveArea:
    """What is drawn now."""

    def __init__(self, drawing: Live) -> None:
        self._live = drawing

    def show(self, picture: RenderableType) -> None:
        """Draw it in place of what was there: anything that rich can print, of a string its styles too."""
        from rich.text import Text

        self._live.update(Text.from_ansi(picture) if isinstance(picture, str) else picture, refresh=True)

    def above(self, text: str) -> None:
        """Print a line above it, to stay."""
        from rich.text import Text

        self._live.console.print(Text.from_ansi(text))


_drawn: list[LiveArea] = []  # a process has one terminal; click writes past what rich puts in place of sys.stdout


@contextmanager
def _area(console: Console) -> Iterator[LiveArea]:
    from rich.live import Live

    with Live(console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as drawing:
        _drawn.append(LiveArea(drawing))
        try:
            yield _drawn[-1]
        finally:
            _drawn.pop()
