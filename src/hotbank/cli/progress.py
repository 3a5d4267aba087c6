# SPDX-License-Identifier: Apache-2.0
"""How a transaction looks while it runs: JSON events, plain lines, or a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hotbank.cli.screen import LiveArea, live
from hotbank.cli.terminal import say, say_json, visible
from hotbank.documents import EXIT_DONE
from hotbank.errors import Code
from hotbank.memory import block_named
from hotbank.operate import Event, Outcome
from hotbank.operate.reasons import may_go

_FEW = 4  # names that are told one by one
Show = Callable[[Event], None]


@contextmanager
def watching(title: str, as_json: bool) -> Iterator[Show]:
    """A listener for events: one JSON document a line, or plain lines, on a terminal with a bar below them."""
    if as_json:
        yield _json_line
    else:
        with live(sys.stderr) as area:
            yield _plain_line if area is None else _bar(title, area)


def outcome_lines(outcome: Outcome, acted: bool) -> Iterator[str]:
    """How it ended, in words; of a failure the first line is the error with its remedy, as everywhere.

    ``acted``: False when it was refused before its first step, and that line says it all.
    """
    if outcome.exit == EXIT_DONE:
        yield f"{said(outcome.code)}: {outcome.fact}"
    else:
        yield f"hotbank: {outcome.code}: {outcome.fact}" + (f"; {outcome.remedy}" if outcome.remedy else "")
    if outcome.planned or outcome.moved or outcome.freed:
        freed = f"; {outcome.freed >> 20} MiB out of the kernel" if outcome.freed else ""
        yield f"  {pages(outcome)} in {outcome.seconds:.2f} s{freed}"
    if outcome.kernel is not None and acted:
        power = f", power {outcome.power}" if outcome.power is not None else ""
        whose = "bank of " if any(block_named(name) is not None for name in outcome.targets) else ""
        yield f"  {whose}{short_names(outcome.targets)}: kernel {outcome.kernel}{power}"
    if outcome.unrestored:
        yield "  could not be put back: " + ", ".join(f"memory{n}" for n in outcome.unrestored)


def said(code: Code) -> str:
    """The code for people: a bank that is out while others of its domain are in use is out, and nothing went wrong."""
    return str(Code.OK if code is Code.DOMAIN_IN_USE else code)


def short_names(names: Sequence[str]) -> str:
    """Many names, which the steps list anyway, as the first, the last and how many."""
    return ", ".join(names) if len(names) <= _FEW else f"{names[0]} … {names[-1]} ({len(names)} in all)"


def names_within(names: Sequence[str], room: int) -> str:
    """As many names as so many columns have room for, one at least, and how many there are besides: ``a, b +3``."""
    for shown in range(len(names), 0, -1):
        more = f" +{len(names) - shown}" if shown < len(names) else ""
        text = ", ".join(visible(name) for name in names[:shown])
        if len(text) + len(more) <= room:
            return text + more
        if shown == 1:
            return text[: room - len(more) - 1] + "…" + more
    return "-"


def pages(outcome: Outcome) -> str:
    """Pages that were to move, and those that did: all that the machine migrated meanwhile, whoever made it."""
    moved = "-" if outcome.moved is None else str(outcome.moved)
    more = outcome.moved is not None and outcome.moved > outcome.planned
    return f"{outcome.planned} pages planned, {moved} moved" + (", some perhaps by others," if more else "")


def event_line(event: Event) -> str | None:
    """One event as a line for people, None for those that say nothing new."""
    if event.event == "plan":
        goes = event.code is not None and may_go(event.code)
        return f"{event.t:8.3f}  plan: {event.total} pages to move" if goes else None
    if event.event == "step":
        return f"{event.t:8.3f}  {_step(event)}"
    if event.event == "rollback":
        return f"{event.t:8.3f}  rolling back: {_step(event)} {event.code or ''}".rstrip()
    return None


def _json_line(event: Event) -> None:
    say_json(event.document())


def _plain_line(event: Event) -> None:
    line = event_line(event)
    if line is not None:
        say(line)


def _step(event: Event) -> str:
    """What is done, and to whom."""
    return f"{event.step} {event.target}" if event.target else str(event.step)


def _bar(title: str, area: LiveArea) -> Show:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[pages]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    progress = Progress(*columns, auto_refresh=False)
    bar = progress.add_task(visible(title), total=None, pages="", rate="")
    area.show(progress)

    def show(event: Event) -> None:
        _plain_line(event)
        rate = f"{event.moved / event.t:.0f} pages/s" if event.t > 0 and event.moved else ""
        done = f"{'-' if event.moved is None else event.moved}/{event.total} pages"
        progress.update(bar, total=max(event.total, 1), completed=event.moved or 0, pages=done, rate=rate)

    return show
