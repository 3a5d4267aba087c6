# SPDX-License-Identifier: Apache-2.0
"""The map that is drawn, with the block that is selected: by arrow keys, or by the mouse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip as Line

from hotbank.cli import bankmap
from hotbank.cli.lsmem import human
from hotbank.cli.seen.palette import DAY, NIGHT, Palette, ink_on
from hotbank.cli.seen.tiles import Layout, Part, Row, Spot, digits
from hotbank.cli.terminal import visible
from hotbank.memory import BlockState, folded
from hotbank.report.cells import Cell, Group, Map, Strip

_LEVELS = " ▁▂▃▄▅▆▇█"
_UNSEEN, _CHOSEN, _DOING = "·", "◆", "▸"


class MapView(ScrollView, can_focus=True):
    """Banks with their blocks side by side. ``doing``: the block that a step is about."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", show=False),
        Binding("right", "step(1)", show=False),
        Binding("up", "row(-1)", show=False),
        Binding("down", "row(1)", show=False),
        Binding("home", "end(0)", show=False),
        Binding("end", "end(-1)", show=False),
    ]

    class Selected(Message):
        """Another block was selected."""

        def __init__(self, block: int) -> None:
            self.block = block
            super().__init__()

    def __init__(self) -> None:
        super().__init__(id="map")
        self.drawn: Map | None = None
        self.selected: int | None = None
        self.doing: int | None = None
        self._layout_of_map = Layout()

    def show(self, drawn: Map, doing: int | None) -> None:
        """Draw that map."""
        if drawn is self.drawn and doing == self.doing:
            return
        self.drawn, self.doing = drawn, doing
        if self.selected is None or drawn.cell(self.selected) is None:
            self._select(next((cell.block for cell in _leaving_first(drawn)), None))
        self._lay_out()

    def on_resize(self) -> None:
        """As much of it as there is room for."""
        self._lay_out()

    def _lay_out(self) -> None:
        if self.drawn is not None and self.size.width:
            self._layout_of_map = Layout.of(self.drawn, self.size.width, self.size.height)
            self.virtual_size = Size(self.size.width, len(self._layout_of_map.rows))
            self.border_subtitle = self._legend(self.drawn)
            self.refresh()

    # Selecting.

    def _select(self, block: int | None) -> None:
        self.selected = block
        if block is None:
            return
        line = self._layout_of_map.line_of(block)
        if line is not None:
            self.scroll_to_region(Region(0, max(0, line - 1), 1, 5), animate=False)
        self.refresh()
        self.post_message(self.Selected(block))

    def action_step(self, by: int) -> None:
        """The block before or after."""
        blocks = self._blocks()
        if self.selected in blocks:
            at = blocks.index(self.selected) + by
            self._select(blocks[min(max(at, 0), len(blocks) - 1)])

    def action_row(self, by: int) -> None:
        """The block above or below."""
        if self.selected is not None:
            other = self._layout_of_map.beyond(self.selected, by)
            if other is not None:
                self._select(other)

    def action_end(self, at: int) -> None:
        """The first or the last."""
        blocks = self._blocks()
        if blocks:
            self._select(blocks[at])

    def on_click(self, event: events.Click) -> None:
        """The block under the mouse."""
        at = event.get_content_offset(self)
        cell = None if at is None else self._layout_of_map.cell_at(at.x, at.y + self.scroll_offset.y)
        if cell is not None:
            self._select(cell.block)

    def _blocks(self) -> list[int]:
        return [] if self.drawn is None else [cell.block for cell in self.drawn.cells]

    # Drawing.

    @property
    def palette(self) -> Palette:
        """The colours of the theme."""
        return NIGHT if self.app.current_theme.dark else DAY

    def render_line(self, y: int) -> Line:
        """One line of the screen."""
        at = y + self.scroll_offset.y
        rows = self._layout_of_map.rows
        segments = list(self._drawn_row(rows[at])) if at < len(rows) else []
        return Line(segments).crop_extend(0, self.size.width, None).apply_style(self.rich_style)

    def _drawn_row(self, row: Row) -> Iterator[Segment]:
        if row.part is Part.TITLE:
            yield from self._titled(row.strip)
        elif row.part is Part.SIGNS and self.drawn is not None:
            begin = f"{row.spots[0].cell.range.start:#0{digits(self.drawn)}x} "
            yield Segment(begin, Style(color=self.palette.faint))
            for spot in row.spots:
                yield self._sign(spot)
        elif row.part is not Part.GAP:
            for spot in row.spots:
                yield from self._named(spot) if row.part is Part.NAMES else self._tile(spot, row.part is Part.MIDDLE)
                yield Segment(" ")

    def _titled(self, strip: Strip) -> Iterator[Segment]:
        bank, faint = strip.bank, Style(color=self.palette.faint)
        if bank is None:
            yield Segment(" ".join(folded(cell.block for cell in strip.cells)), Style(bold=True))
            yield Segment(f"  {human(strip.range.size)}", faint)
            return
        yield Segment(visible(bank.name), Style(bold=True))
        words = (human(bank.range.size), bank.zone, bank.kernel, f"power {bank.power}")
        yield Segment("  " + "  ".join(filter(None, words)), faint)
        if strip.interleaved:
            yield Segment("  interleaved", Style(color=self.palette.warn))

    def _named(self, spot: Spot) -> Iterator[Segment]:
        cell, chosen = spot.cell, spot.cell.block == self.selected
        forms = (f"memory{cell.block} {cell.range.start:#x}", f"memory{cell.block}", str(cell.block))
        name = next((form for form in forms if len(form) + 2 <= spot.width), forms[-1][: spot.width])
        if cell.block == self.doing or cell.state is BlockState.GOING_OFFLINE:
            name = f"{_DOING}{name}"
        style = Style(color=self.palette.accent, bold=True, reverse=True) if chosen else Style(color=self.palette.faint)
        yield Segment(f" {name}"[: spot.width].ljust(spot.width), style)

    def _tile(self, spot: Spot, middle: bool) -> Iterator[Segment]:
        cell, width = spot.cell, spot.width
        word, ground = self._whole(cell)
        if word:
            yield self._on(ground, (word if len(word) <= width else word[:1]).center(width) if middle else " " * width)
        elif cell.groups:
            for group, size in cell.parts(width):
                yield self._on(self.palette.groups[group], self._label(group, size, middle))
        else:
            yield from self._filled(cell, width, middle)

    def _label(self, group: Group, size: int, middle: bool) -> str:
        sign, word, _ = bankmap.SIGNS[group]
        if self.app.no_color:
            return sign * size
        return (word if len(word) + 2 <= size else "").center(size) if middle else " " * size

    def _filled(self, cell: Cell, width: int, middle: bool) -> Iterator[Segment]:
        """Nobody looked at its pages: how much is in use, where that is known."""
        share = _share(cell, self.drawn)
        if share is None:
            yield self._on(self.palette.unseen, (cell.zone or _UNSEEN)[:width].center(width) if middle else " " * width)
            return
        full = max(1, round(share * width)) if share else 0
        text = (f"{share:.0%}" if middle else "").center(width)
        if self.app.no_color and not middle:
            text = "=" * full + "." * (width - full)
        yield self._on(self.palette.used, text[:full])
        yield self._on(self.palette.groups[Group.FREE], text[full:])

    def _whole(self, cell: Cell) -> tuple[str, str]:
        """Word and ground of a block with nothing to tell of its pages; no word where there is."""
        if cell.dark:
            return cell.power.value, self.palette.dark
        if cell.state is None:
            return bankmap.OUT[1], self.palette.out
        return (bankmap.OFFLINE[1], self.palette.offline) if cell.state is BlockState.OFFLINE else ("", "")

    def _sign(self, spot: Spot) -> Segment:
        """One that is tiny: what keeps it, or else most of it; the part in use where nobody looked."""
        cell, ink = spot.cell, None
        word, ground = self._whole(cell)
        share = _share(cell, self.drawn)
        if word:
            sign = bankmap.DARK[0] if cell.dark else bankmap.OUT[0] if cell.state is None else bankmap.OFFLINE[0]
        elif cell.groups:
            group = cell.parts(1)[0][0]
            sign, ground = bankmap.SIGNS[group][0], self.palette.groups[group]
        elif share is None:
            sign, ground = _UNSEEN, self.palette.unseen
        else:
            sign, ground = _LEVELS[math.ceil(share * (len(_LEVELS) - 1))], self.palette.groups[Group.FREE]
            ink = self.palette.used
        if cell.block in (self.selected, self.doing):
            sign, ink, ground = _CHOSEN if cell.block == self.selected else _DOING, None, self.palette.accent
        return Segment(sign * spot.width, Style(color=ink or ink_on(self.palette, ground), bgcolor=ground))

    def _on(self, ground: str, text: str) -> Segment:
        ink = self.palette.faint if ground == self.palette.dark else ink_on(self.palette, ground)
        return Segment(text, Style(color=ink, bgcolor=ground))

    def _legend(self, drawn: Map) -> Text:
        """The groups that occur."""
        found = {group for cell in drawn.cells if not self._whole(cell)[0] for group in cell.groups}
        text = Text()
        for group in (group for group in Group if group in found):
            sign, word, _ = bankmap.SIGNS[group]
            ground = self.palette.groups[group]
            text.append(f" {sign} ", Style(color=ink_on(self.palette, ground), bgcolor=ground))
            text.append(f" {word} ")
        return text


def _share(cell: Cell, drawn: Map | None) -> float | None:
    """The part of a block that is in use."""
    return None if cell.used is None or drawn is None else cell.used * drawn.page_size / drawn.block_size


def _leaving_first(drawn: Map) -> Iterator[Cell]:
    """Those first that may leave: what one came for."""
    movable = (c for strip in drawn.strips if strip.bank is not None and strip.bank.movable for c in strip.cells)
    yield from movable
    yield from drawn.cells
