# SPDX-License-Identifier: Apache-2.0
"""The whole: panels by the size of the screen, keys, and how a frame reaches it.

The feed's threads ask the machine; one more waits for frames and hands each to the loop that draws. What takes time, a
plan or an order, is asked in threads too, so that the picture never stands still.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widgets import Footer, Static

from hotbank.cli.seen.dialogs import help_dialog, leave_dialog, plan_dialog
from hotbank.cli.seen.mapview import MapView
from hotbank.cli.seen.palette import THEMES, theme
from hotbank.cli.seen.panels import FELT, Details, Gauge, Governor, Journal, Transaction, palette_of
from hotbank.cli.terminal import visible
from hotbank.errors import HotbankError
from hotbank.memory import BlockState, block_named
from hotbank.operate import Plan, resolve
from hotbank.watch import Feed, Frame
from hotbank.watch.feed import Verb
from hotbank.watch.running import Progress

_REST = 0.4  # seconds that a selection rests before its pages are looked at
_FRESH = 5.0  # seconds that a look is not repeated
_WAIT = 0.25  # seconds that a thread waits for a frame until it looks whether the view has ended
_TICK = 0.25  # seconds between two looks at whether a rollback is over


class Head(Static):
    """The machine, and whether it answers."""

    def show(self, frame: Frame, width: int) -> None:
        """Of that frame."""
        palette = palette_of(self)
        left = Text.assemble((" hotbank ", Style(bold=True)), visible(frame.machine))
        at = time.strftime("%H:%M:%S", time.localtime(frame.at))
        if frame.alive:
            right = Text.assemble(("● ", Style(color=palette.good)), f"live {at} ")
        else:
            right = Text.assemble(("○ ", Style(color=palette.bad)), f"as of {at}: {visible(frame.trouble)} ")
        right.truncate(max(10, width - left.cell_len - 2), overflow="ellipsis")
        left.append(" " * max(1, width - left.cell_len - right.cell_len))
        self.update(left + right)


class Top(App[None]):
    """A view of the machine of ``feed``."""

    TITLE = "hotbank top"
    CSS_PATH = "seen.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012  # textual's
        (0, "-narrow"),
        (110, "-normal"),
        (160, "-wide"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "explain(False)", "Explain"),
        Binding("p", "plan(False)", "Plan"),
        Binding("r", "order('remove', False)", "Remove"),
        Binding("a", "order('add', False)", "Add"),
        Binding("i", "interrupt", "Interrupt"),
        Binding("l", "light", "Light/dark"),
        Binding("question_mark,f1", "keys", "Help", key_display="?"),
        Binding("q", "leave", "Quit"),
        Binding("ctrl+c,ctrl+q", "leave", show=False),
        Binding("E", "explain(True)", show=False),
        Binding("P", "plan(True)", show=False),
        Binding("R", "order('remove', True)", show=False),
        Binding("A", "order('add', True)", show=False),
    ]

    def __init__(self, feed: Feed, *, light: bool = False) -> None:
        self._plain = bool(os.environ.get("NO_COLOR"))
        super().__init__(ansi_color=True if self._plain else None)
        self._feed, self._light = feed, light
        self.frame: Frame | None = None
        self._newest: Frame | None = None
        self._resting: Timer | None = None
        self._looked: dict[str, float] = {}
        self._head, self._map, self._details = Head(id="head"), MapView(), Details()
        self._gauges = tuple(map(Gauge, FELT))
        self._transaction, self._governor, self._journal = Transaction(), Governor(), Journal()

    def compose(self) -> ComposeResult:
        """From the top."""
        yield self._head
        with Horizontal(id="upper"):
            yield self._map
            yield self._details
        with Horizontal(id="felt"):
            yield from self._gauges
        with Horizontal(id="lower"):
            yield self._transaction
            yield self._governor
            yield self._journal
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Colours, and the thread that waits for frames."""
        for known in THEMES:
            self.register_theme(known)
        self.theme = theme(light=self._light, plain=self._plain)
        self._map.border_title = "memory"
        self._map.focus()
        self.run_worker(self._follow, thread=True)

    # Frames.

    def _follow(self) -> None:
        seq = 0
        while self.is_running:
            frame = self._feed.wait(seq, _WAIT)
            if frame is not None:
                seq, self._newest = frame.seq, frame
                self._later(self._show_newest)

    def _show_newest(self) -> None:
        """Those that came while another one was drawn are left out."""
        if self._newest is not None and self._newest is not self.frame:
            self.show(self._newest)

    def show(self, frame: Frame) -> None:
        """Draw it."""
        before, self.frame = self.frame, frame
        running = frame.running
        doing = None
        if running is not None and running.steps and running.steps[-1].state is Progress.DOING:
            doing = block_named(running.steps[-1].target)
        self._map.show(frame.map, doing)
        self._head.show(frame, self.size.width)
        for gauge in self._gauges:
            gauge.show(frame, self._feed.record.at)
        self._transaction.show(running)
        self._governor.show(frame.governed)
        self._journal.show(frame)
        self.set_class(not frame.alive, "-gone")
        self.set_class(frame.governed is None or frame.governed.status is None, "-ungoverned")
        self._show_details()
        self._look_again(before, frame)

    def _show_details(self) -> None:
        if self.frame is not None:
            self._details.show(self.frame, self._map.selected)

    def on_resize(self) -> None:
        """What is drawn to a width."""
        if self.frame is not None:
            self.call_after_refresh(self.show, self.frame)

    # Looks: of the block on which the selection rests, and again when it has changed since, now and then.

    def on_map_view_selected(self) -> None:
        """Another block: what is known of it at once, what its pages are when the selection rests."""
        self._show_details()
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(_REST, self._look)

    def _look(self) -> None:
        block = self._map.selected
        cell = None if block is None or self.frame is None else self.frame.map.cell(block)
        if cell is not None and cell.state is BlockState.ONLINE:
            self._want(f"memory{cell.block}")

    def _look_again(self, before: Frame | None, frame: Frame) -> None:
        block = self._map.selected
        if block is None or before is None or not frame.alive:
            return
        cell, look = frame.map.cell(block), frame.looks.get(f"memory{block}")
        unseen = cell is not None and cell.kinds is None and look is not None and look.over
        if unseen and time.monotonic() - self._looked.get(f"memory{block}", 0.0) > _FRESH:
            self._look()

    def _want(self, name: str) -> None:
        self._looked[name] = time.monotonic()
        self._feed.look(name)

    # Keys.

    def _target(self, alone: bool) -> str | None:
        """The bank of the selected block, or the block: where it lies in none, or ``alone``."""
        block = self._map.selected
        if block is None or self.frame is None:
            return None
        bank = None if alone else self.frame.snapshot.bank_at(block)
        return f"memory{block}" if bank is None else bank.name

    def action_explain(self, alone: bool) -> None:
        """Look at all pages of it."""
        name = self._target(alone)
        if name is not None:
            self._want(name)

    def action_plan(self, alone: bool) -> None:
        """Out if anything of it is in, else in."""
        self._planned("remove" if self._is_in(self._target(alone)) else "add", alone, act=False)

    def action_order(self, verb: Verb, alone: bool) -> None:
        """Its plan, and once that is confirmed the order."""
        self._planned(verb, alone, act=True)

    def _is_in(self, name: str | None) -> bool:
        if name is None or self.frame is None:
            return False
        numbers = resolve(self.frame.snapshot, name).blocks
        there = [cell for number in numbers if (cell := self.frame.map.cell(number)) is not None]
        return any(cell.state is not BlockState.OFFLINE for cell in there)

    def _planned(self, verb: Verb, alone: bool, *, act: bool) -> None:
        name = self._target(alone)
        if name is None:
            return

        def ask() -> None:
            plan = self._feed.plan(verb, name)
            self._later(self._confirm, plan, act)

        self._in_thread(ask)

    def _confirm(self, plan: Plan, act: bool) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                names = [target.name for target in plan.targets]
                verb: Verb = "remove" if plan.verb == "remove" else "add"
                self._in_thread(lambda: self._feed.change(verb, *names, found=plan.found))

        self.push_screen(plan_dialog(plan, act=act), answered)

    def action_interrupt(self) -> None:
        """Ask for a rollback."""
        running = None if self.frame is None else self.frame.running
        if running is not None and running.ended is None:
            self._in_thread(self._feed.interrupt)
        else:
            self.notify("nothing runs that could be interrupted")

    def action_light(self) -> None:
        """The other set of colours."""
        self._light = not self._light
        self.theme = theme(light=self._light, plain=self._plain)
        if self.frame is not None:
            self._map.drawn = None
            self.show(self.frame)

    def action_keys(self) -> None:
        """Help."""
        self.push_screen(help_dialog())

    def action_leave(self) -> None:
        """At once, or after a question where an order is under way that was given here."""
        if not self._feed.ordering:
            self.exit()
            return
        ends, running = self._feed.carries, None if self.frame is None else self.frame.running
        order = "an order" if running is None else running.order
        self.push_screen(leave_dialog(order, ends=ends), lambda yes: self._left(ends) if yes else None)

    def _left(self, ends: bool) -> None:
        if not ends:
            self.exit()
            return
        self._in_thread(self._feed.interrupt)
        self.set_interval(_TICK, lambda: None if self._feed.ordering else self.exit())

    def _later(self, act: Callable[..., object], *what: object) -> None:
        """Have the loop do it, from any thread. Nobody waits for that: the loop may end before it is done."""
        try:
            self.call_later(act, *what)
        except RuntimeError:  # the loop has ended
            if self.is_running:
                raise

    def _in_thread(self, act: Callable[[], None]) -> None:
        """Do what takes time; what goes wrong is told."""

        def doing() -> None:
            try:
                act()
            except HotbankError as e:
                told = f"{e.code}: {visible(str(e))}" + (f"; {visible(e.remedy)}" if e.remedy else "")
                self._later(partial(self.notify, told, severity="error", markup=False))

        self.run_worker(doing, thread=True)
