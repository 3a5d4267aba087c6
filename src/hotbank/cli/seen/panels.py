# SPDX-License-Identifier: Apache-2.0
"""What stands around the map: the selected block, sparklines, the transaction, the governor, the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from hotbank.cli import bankmap
from hotbank.cli.explain import evidence_lines
from hotbank.cli.lsmem import human
from hotbank.cli.progress import said, short_names
from hotbank.cli.seen.palette import DAY, NIGHT, Palette
from hotbank.cli.terminal import counted, visible
from hotbank.errors import Code
from hotbank.govern.status import Governed, Standing
from hotbank.memory import format_size
from hotbank.operate import Entry, Verdict
from hotbank.operate.reasons import may_go
from hotbank.report.cells import GROUP, Cell
from hotbank.watch import Frame, Look, Running, Stage
from hotbank.watch.running import Progress

_BAR, _BESIDE = 24, 19  # columns of the longest bar of a kind of pages, and of what stands before it
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_MARKS = {Progress.DOING: "▸", Progress.DONE: "✓", Progress.FAILED: "✗", Progress.RESTORED: "↺"}
_LINES = 2  # of a sparkline
_FEW = 6  # pieces of evidence


def palette_of(widget: Widget) -> Palette:
    """The colours of the theme."""
    return NIGHT if widget.app.current_theme.dark else DAY


class Panel(VerticalScroll):
    """A frame with a title around lines of text; it scrolls where there are more of them than room."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(id=name, classes="panel", can_focus=True)
        self.border_title = title
        self._body = Static(id=f"{name}-body")
        self._shown: Text | None = None

    def compose(self) -> Iterator[Widget]:
        """Its lines."""
        yield self._body

    def say(self, lines: Iterator[Text]) -> bool:
        """Put these lines in place of those; whether they differ."""
        text = Text("\n").join(lines)
        if text == self._shown:
            return False
        self._shown = text
        self._body.update(text)
        return True

    def style_of(self, code: Code) -> Style:
        """It is so, it may be, it is not."""
        palette = palette_of(self)
        return Style(
            color=palette.good if code is Code.OK else palette.warn if may_go(code) else palette.bad, bold=True
        )

    @property
    def faint(self) -> Style:
        """Of what is said in passing."""
        return Style(color=palette_of(self).faint)


def _plain(text: str) -> Text:
    return Text(visible(text))


class Details(Panel):
    """The selected block, and what became of a look at its pages, or at those of its bank."""

    def __init__(self) -> None:
        super().__init__("details", "block")

    def show(self, frame: Frame, block: int | None) -> None:
        """Of that block in that frame."""
        cell = None if block is None else frame.map.cell(block)
        if cell is None:
            self.say(iter(()))
            return
        bank = frame.snapshot.bank_at(cell.block)
        self.border_title = f"memory{cell.block}"
        name = None if bank is None or bank.is_a_block else bank.name
        self.border_subtitle = "" if name is None else visible(f"bank {name}")
        self.say(self._lines(frame, cell, name))

    def _lines(self, frame: Frame, cell: Cell, bank: str | None) -> Iterator[Text]:
        yield Text(str(cell.range))
        words = (cell.state or "not in the kernel", cell.zone, f"power {cell.power}")
        yield Text("  ".join(filter(None, words)))
        if cell.used is not None:
            pages = frame.map.block_size // frame.map.page_size
            yield Text(f"{cell.used} of {pages} pages used", self.faint)
        for name in filter(None, (f"memory{cell.block}", bank)):
            if name in frame.looks:
                yield Text("")
                yield from self._look(name, frame.looks[name])

    def _look(self, name: str, look: Look) -> Iterator[Text]:
        if look.error:
            yield Text(visible(look.error), Style(color=palette_of(self).bad))
        elif look.verdict is None:
            seen = f" {look.seen} of {look.blocks} blocks" if look.blocks > 1 else ""
            yield Text(f"{visible(name)}: looking at pages{seen} …", self.faint)
        else:
            yield from self._verdict(look.verdict)

    def _verdict(self, answer: Verdict) -> Iterator[Text]:
        yield Text.assemble((str(answer.code), self.style_of(answer.code)), " ", visible(answer.fact))
        most, room = max(answer.kinds.values(), default=0), min(_BAR, self.scrollable_content_region.width - _BESIDE)
        for kind, pages in sorted(answer.kinds.items(), key=lambda pair: -pair[1]):
            if pages:
                sign, ground = bankmap.SIGNS[GROUP[kind]][0], palette_of(self).groups[GROUP[kind]]
                bar = (sign if self.app.no_color else "█") * max(1, pages * room // most)
                yield Text.assemble(f"{kind:<10}{pages:>8} ", (bar, Style(color=ground)))
        for line in list(evidence_lines(answer.evidence))[:_FEW]:
            yield Text(visible(line), self.faint)
        if answer.remedy and not may_go(answer.code):
            yield Text.assemble(("→ ", self.style_of(answer.code)), visible(answer.remedy))


@dataclass(frozen=True, slots=True)
class Felt:
    """Something that a machine feels, as a line over time. ``value`` of a frame, None where nobody can tell; ``words``
    of it. ``full``: what fills the height; None: the largest that is drawn."""

    title: str
    value: Callable[[Frame], float | None]
    words: Callable[[float], str]
    full: Callable[[Frame], float] | None = None


def _managed(frame: Frame) -> float:
    return 1.0 if frame.reading is None else frame.reading.managed * frame.snapshot.page_size


def _size(value: float) -> str:
    return human(round(value))


FELT = (
    Felt("free", lambda f: None if f.reading is None else f.reading.free * f.snapshot.page_size, _size, _managed),
    Felt("demand", lambda f: f.demand, _size, _managed),
    Felt(
        "pressure",
        lambda f: None if f.reading is None or f.reading.pressure is None else f.reading.pressure.some_avg10,
        lambda percent: f"{percent:.1f} %",
    ),
    Felt("watts", lambda f: sum(f.watts.values()) if f.watts else None, lambda watts: f"{watts:.2f} W"),
)


class Gauge(Static):
    """What is felt now, and how that was in the last seconds, one a column."""

    def __init__(self, felt: Felt) -> None:
        super().__init__(id=f"gauge-{felt.title}", classes="gauge")
        self._felt = felt

    def show(self, frame: Frame, at: Callable[[float], Frame | None]) -> None:
        """``at``: the frame that was current at that time."""
        felt, width = self._felt, max(1, self.size.width)
        now, palette = felt.value(frame), palette_of(self)
        words = "–" if now is None else felt.words(now)
        head = Text.assemble((f"{felt.title} ", Style(color=palette.faint)), (words, Style(bold=now is not None)))
        past = [None if (f := at(frame.at - back)) is None else felt.value(f) for back in range(width - 1, -1, -1)]
        full = felt.full(frame) if felt.full is not None else max(filter(None, past), default=1.0)
        lines = sparkline(past, full) if now is not None else ()
        self.update(Text("\n").join([head, *(Text(line, Style(color=palette.used)) for line in lines)]))


def sparkline(values: Sequence[float | None], full: float) -> list[str]:
    """Lines from the top: a column for each value, as high as its part of ``full``; nothing where there is none."""
    most = _LINES * 8
    levels = [0 if v is None or full <= 0 else min(most, max(1, round(v / full * most))) if v else 0 for v in values]
    return ["".join(_EIGHTHS[min(8, max(0, n - 8 * line))] for n in levels) for line in reversed(range(_LINES))]


class Transaction(Panel):
    """The order that is carried out, or the last one."""

    def __init__(self) -> None:
        super().__init__("transaction", "transaction")

    def show(self, running: Running | None) -> None:
        """Its steps, the newest in sight."""
        if running is None:
            self.say(iter([Text("nothing has been ordered yet", self.faint)]))
        elif self.say(self._lines(running, self.scrollable_content_region.width)):
            self.scroll_end(animate=False)

    def _lines(self, running: Running, width: int) -> Iterator[Text]:
        yield Text.assemble((visible(running.order), Style(bold=True)), (f"  pid {running.pid}", self.faint))
        for stage in running.steps:
            yield self._stage(stage)
        if running.total:
            yield self._bar(running, width)
        if running.ended is not None and running.code is not None:
            words = f" {visible(running.fact)}" + (f"; {visible(running.remedy)}" if running.exit else "")
            yield Text.assemble((said(running.code), self.style_of(running.code)), words)

    def _stage(self, stage: Stage) -> Text:
        palette = palette_of(self)
        colours = {Progress.DONE: palette.good, Progress.DOING: palette.accent}
        colour = colours.get(stage.state, palette.bad if stage.state is Progress.FAILED else palette.warn)
        mark = (f"{_MARKS[stage.state]} ", Style(color=colour, bold=True))
        code = "" if stage.code in (None, Code.OK) else f" {stage.code}"
        return Text.assemble(mark, f"{stage.step:<13}{visible(stage.target)}{code}", (f"  {stage.t:.2f} s", self.faint))

    def _bar(self, running: Running, width: int) -> Text:
        moved = running.moved or 0
        words = f" {'-' if running.moved is None else moved}/{running.total} pages"
        room = max(4, width - len(words) - 1)
        done = min(room, moved * room // running.total)
        palette = palette_of(self)
        return Text.assemble(("━" * done, Style(color=palette.good)), ("─" * (room - done), self.faint), words)


class Governor(Panel):
    """What the governor wishes and why, and what keeps each domain in or out."""

    def __init__(self) -> None:
        super().__init__("governor", "governor")

    def show(self, governed: Governed | None) -> None:
        """What is known of it."""
        self.say(self._lines(governed))

    def _lines(self, governed: Governed | None) -> Iterator[Text]:
        told = None if governed is None else governed.status
        if governed is None or told is None:
            yield Text("nobody governs this machine", self.faint)
        if governed is not None and governed.paused:
            yield Text(f"paused: {visible(governed.paused)}", Style(color=palette_of(self).warn))
        if governed is None or told is None:
            return
        gone = "" if governed.alive else ", gone"
        yield Text(
            f"{visible(told.policy)}{', dry run' if told.dry else ''}{gone}, every {told.period:g} s", self.faint
        )
        if told.blind:
            yield Text(f"blind: {visible(told.blind)}", Style(color=palette_of(self).warn))
            return
        yield Text.assemble("keep ", (human(told.keep), Style(bold=True)), f": {visible(told.wish)}")
        for group in told.groups:
            yield self._group(group)

    def _group(self, group: Standing) -> Text:
        palette = palette_of(self)
        mark = ("○ ", Style(color=palette.accent)) if group.dark else ("● ", Style(color=palette.good))
        why = group.why or ("" if group.ours else "by another hand")
        return Text.assemble(mark, f"{visible(group.group)} {format_size(group.size)} ", (visible(why), self.faint))


class Journal(Panel):
    """The last transactions, the newest first, and what being dark has saved by them."""

    def __init__(self) -> None:
        super().__init__("journal", "journal")

    def show(self, frame: Frame) -> None:
        """Of that frame."""
        saved = frame.saved
        self.border_subtitle = "" if saved is None else f"saved {saved.low:.3g} to {saved.high:.3g} J"
        self.say(self._lines(frame.journal))

    def _lines(self, entries: Sequence[Entry]) -> Iterator[Text]:
        if not entries:
            yield Text("no transaction yet", self.faint)
        for entry in reversed(entries):
            at = time.strftime("%H:%M:%S", time.localtime(entry.began))
            code = ("open", self.faint) if entry.code is None else (said(entry.code), self.style_of(entry.code))
            moved = f"  {counted(entry.moved, 'page')}" if entry.moved else ""
            what = f" {entry.before.verb} {visible(short_names(entry.before.targets))} "
            yield Text.assemble((at, self.faint), what, code, (moved, self.faint))
