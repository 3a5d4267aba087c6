# SPDX-License-Identifier: Apache-2.0
"""Pictures of what a terminal shows, as SVG, for README and docs.

``PYTHONPATH=src:tests python -m terminal.pictures`` draws docs/pictures anew; a test holds them against today's
commands.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast

import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

from hotbank.cli.seen.app import Top
from hotbank.watch import Feed, Frame
from seen.played import Played, leaving
from terminal import screens

FOLDER = Path(__file__).parents[2] / "docs/pictures"
AGAIN = "PYTHONPATH=src:tests python -m terminal.pictures draws them anew"
COLUMNS, _TOP = 80, (100, 32)
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*|Fira Code, ", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)  # fetches nothing


@dataclass(frozen=True)
class Picture:
    """One of ``screens.COMMANDS``, and of its lines those from the one that begins with ``first`` to ``last``."""

    command: str
    first: str = ""
    last: str = ""

    def part(self, lines: Sequence[str]) -> slice:
        """Which of the screen's lines it has."""
        begin = next(at for at, line in enumerate(lines) if line.startswith(self.first))
        ends = (at for at, line in enumerate(lines) if at >= begin and self.last and line.startswith(self.last))
        return slice(begin, next(ends, len(lines) - 1) + 1)


PICTURES = {
    "demo": Picture("demo", "== the bank leaves", "remove "),
    "untagged": Picture("demo", "== the same board", "remove "),
}


def drawn(picture: Picture, lines: Sequence[str], came: bytes) -> str:
    """The SVG of a command whose screen is ``lines``, after these bytes."""
    terminal = pyte.Screen(COLUMNS, len(lines) + 1)
    pyte.ByteStream(terminal).feed(came)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for at in range(len(lines))[picture.part(lines)]:
        console.print(_line(terminal, at), no_wrap=True)
    title = f"hotbank {' '.join(screens.COMMANDS[picture.command])}"
    return console.export_svg(title=title, code_format=_FORMAT, unique_id="hotbank")


def content(svg: str) -> tuple[list[str], list[str]]:
    """What is written and which grounds it has: all that our code decides, and not the version of rich."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg), re.findall(r'<rect fill="(#\w+)"', svg)


def _line(terminal: pyte.Screen, at: int) -> Text:
    cells = [terminal.buffer[at][column] for column in range(COLUMNS)]
    line = Text()
    for (fg, bg, bold), run in groupby(cells, key=lambda cell: (cell.fg, cell.bg, cell.bold)):
        line.append("".join(cell.data for cell in run), Style(color=_colour(fg), bgcolor=_colour(bg), bold=bold))
    line.rstrip()
    return line


def _colour(name: str) -> str | None:
    """A colour by pyte's name as one by rich's."""
    if name == "default":
        return None
    return f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else {"brown": "yellow"}.get(name, name)


def top(frames: list[Frame]) -> str:
    """The SVG of ``hotbank top`` at the last of these frames, by a clock in UTC."""

    async def drawn() -> str:
        app = Top(cast("Feed", Played(frames)))
        async with app.run_test(size=_TOP) as pilot:
            before, now = "", app.export_screenshot(title="hotbank top")
            while now != before or "Quit" not in now or app.frame is None:
                await pilot.pause(0.3)
                before, now = now, app.export_screenshot(title="hotbank top")
            return now

    zone = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        return re.sub(r"@font-face \{.*?\}\s*|Fira Code, ", "", asyncio.run(drawn()), flags=re.DOTALL)
    finally:
        os.environ.pop("TZ") if zone is None else os.environ.update(TZ=zone)
        time.tzset()


def main() -> None:
    """Draw all of them."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "top.svg").write_text(top(leaving()))
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(drawn(picture, *screens.seen(screens.COMMANDS[picture.command], COLUMNS)))


if __name__ == "__main__":
    main()
