# SPDX-License-Identifier: Apache-2.0
"""What is asked and told in front of everything: a plan to be confirmed, help, an order when somebody leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from hotbank.cli.plan import plan_lines
from hotbank.cli.terminal import visible
from hotbank.operate import Plan

HELP = (
    ("← → ↑ ↓  mouse", "select a block; a moment later its pages are looked at"),
    ("e", "explain the bank of the block: can it leave, and what stops it"),
    ("p", "plan: out if it is in, in if it is out; changes nothing"),
    ("r", "remove the bank, after its plan was confirmed"),
    ("a", "add it, likewise"),
    ("E P R A", "the same of the block alone"),
    ("i", "interrupt what runs: it is rolled back"),
    ("l", "light or dark"),
    ("tab", "the next panel; arrow keys scroll it"),
    ("q", "leave; a served machine goes on with what was ordered"),
)


class Dialog(ModalScreen[bool]):
    """A frame with a title around lines, and one or two answers: the one that does nothing is offered first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n,q", "answer(False)", show=False),
        Binding("y", "answer(True)", show=False),
    ]

    def __init__(self, title: str, lines: Iterable[str], yes: str = "", no: str = "Close") -> None:
        super().__init__()
        self._heading, self._lines, self._yes, self._no = title, list(lines), yes, no

    def compose(self) -> ComposeResult:
        """Lines and answers."""
        with Vertical(id="dialog") as box:
            box.border_title = visible(self._heading)
            with VerticalScroll(id="dialog-text", can_focus=False):
                yield Static(Text("\n".join(map(visible, self._lines))))
            with Horizontal(id="answers"):
                yield Button(self._no, id="no", compact=True)
                if self._yes:
                    yield Button(visible(self._yes), id="yes", variant="warning", compact=True)

    def on_mount(self) -> None:
        """Enter does nothing to the machine unless somebody went there."""
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """An answer."""
        self.action_answer(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """An answer by a key; there may be only one."""
        self.dismiss(yes and bool(self._yes))


def help_dialog() -> Dialog:
    """All keys."""
    return Dialog("keys", (f"{keys:<17}{what}" for keys, what in HELP))


def plan_dialog(plan: Plan, *, act: bool) -> Dialog:
    """A plan; ``act``: with the question whether it is to be carried out, unless that is known to fail."""
    may = act and not plan.impossible and bool(plan.steps)
    return Dialog(
        f"{plan.verb} {plan.target}{'?' if may else ''}",
        plan_lines(plan),
        f"{plan.verb.capitalize()} (y)" if may else "",
        "Leave it (n)" if may else "Close",
    )


def leave_dialog(order: str, *, ends: bool) -> Dialog:
    """An order is under way; ``ends``: it would end with this process, half-way."""
    return Dialog(f"{order} is under way", _leaving(ends), "Roll back and quit (y)" if ends else "Quit (y)", "Stay (n)")


def _leaving(ends: bool) -> Iterator[str]:
    if ends:
        yield "This process owns the machine: what is under way is rolled back before it ends."
    else:
        yield "The machine's owner goes on with it; hotbank history tells how it ended."
