# SPDX-License-Identifier: Apache-2.0
"""``hotbank history`` and ``recover``: what was done to the current machine, and settling what was left open."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from hotbank.cli import table
from hotbank.cli.context import Context
from hotbank.cli.progress import outcome_lines, said, short_names
from hotbank.cli.terminal import say, say_json
from hotbank.documents import SCHEMA
from hotbank.errors import Code
from hotbank.operate import Action, Entry, Limits, Row
from hotbank.operate.journal import PERSON
from hotbank.wire import encode


@click.command("history")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def history(context: Context, as_json: bool) -> None:
    """Transactions of the current machine: when, how long, how many pages, how they ended, and time spent off."""
    entries = context.session(changing=False).history()
    if as_json:
        document = {"schema": SCHEMA["history"], "transactions": [_document(entry) for entry in entries]}
        say_json(document | {"failures": _failures(entries), "off": seconds_off(entries, time.time())})
        return
    for line in _table(entries):
        say(line)


@click.command("recover")
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=Limits().total,
    show_default=True,
    metavar="SECONDS",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def recover(context: Context, deadline: float, as_json: bool) -> int:
    """Settle a transaction that a crash or a stubborn kernel left open.

    The machine is believed, not the journal: a removal whose banks are all out goes on to dark, everything else back to
    where it was.
    """
    machine = context.session(changing=True)
    if not as_json:
        say(f"machine {machine.name}")
    try:
        outcome = machine.recover(limits=Limits(total=deadline, block=deadline))
    except KeyboardInterrupt:
        goes_on = "what is open is left to hotbank recover" if machine.is_ours else "its owner goes on settling it"
        say(f"hotbank: {goes_on}", err=True)
        raise
    if as_json:
        say_json({"schema": SCHEMA["recover"], "outcome": encode(outcome)})
    else:
        for line in ["nothing to settle"] if outcome is None else outcome_lines(outcome, acted=True):
            say(line, err=outcome is not None and outcome.exit != 0)
    return 0 if outcome is None else outcome.exit


_COLUMNS = ("BEGAN", "VERB", "TARGET", "RESULT", "SECONDS", "PLANNED", "MOVED", "STEPS")


def _document(entry: Entry) -> dict[str, Any]:
    seconds = None if entry.ended is None else round(entry.ended - entry.began, 6)
    code = None if entry.code is None else entry.code.value
    told: dict[str, Any] = encode(entry)
    return told | {"code": code, "seconds": seconds}


def _table(entries: tuple[Entry, ...]) -> Iterator[str]:
    yield from table.lines(_COLUMNS, [_row(e) for e in entries], right=("SECONDS", "PLANNED", "MOVED"))
    ends = Counter(said(e.code) for e in entries if e.code is not None)
    summary = ", ".join(f"{count} {code}" for code, count in ends.most_common()) or "none yet"
    yield f"{len(entries)} transactions: {summary}; {sum(e.moved or 0 for e in entries)} pages moved"
    failures = _failures(entries)
    if failures:
        yield "failures: " + ", ".join(f"{count} {code}" for code, count in failures.items())
    for domain, spent in seconds_off(entries, time.time()).items():
        yield f"domain {domain}: off or in self-refresh for {_duration(spent)}"


def _row(entry: Entry) -> tuple[str, ...]:
    began = datetime.fromtimestamp(entry.began, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    seconds = f"{entry.ended - entry.began:.2f}" if entry.ended is not None else "open"
    result, before = said(entry.code or _open_because(entry)), entry.before
    moved = "-" if entry.moved is None else str(entry.moved)
    steps = f"{len(entry.rows)}" + ("" if before.cause == PERSON else f", by the {before.cause}")
    return began, before.verb, short_names(before.targets), result, seconds, str(before.planned), moved, steps


def _open_because(entry: Entry) -> Code:
    """Why a transaction is not over: the kernel holds a block, or it is being done, or its process died."""
    held = any(row.code is Code.CANCEL_PENDING for row in entry.rows[-1:])
    return Code.CANCEL_PENDING if held else Code.BUSY_TRANSACTION


def _failures(entries: tuple[Entry, ...]) -> dict[str, int]:
    """Reasons of what did not come about, the most frequent first."""
    codes = (e.code.value for e in entries if e.code not in (None, Code.OK, Code.DOMAIN_IN_USE, Code.SUPERSEDED))
    return dict(Counter(codes).most_common())


def seconds_off(entries: tuple[Entry, ...], now: float) -> dict[str, float]:
    """For each domain, seconds between its going dark and its going on, as the journal has them, up to ``now``.

    A boot that came in between ends a stretch at the first row that was written after it: more is not known.
    """
    spent: dict[str, float] = {}
    dark: dict[str, tuple[float, str]] = {}
    for entry in entries:
        boot = entry.before.boot_id
        for domain in [d for d, (_, since) in dark.items() if since != boot]:
            spent[domain] += entry.began - dark.pop(domain)[0]
        for row in entry.rows:
            if row.code is Code.OK and row.ended is not None:
                _count(row, boot, spent, dark)
    for domain, (since, _) in dark.items():
        spent[domain] += now - since
    return spent


def _count(row: Row, boot: str, spent: dict[str, float], dark: dict[str, tuple[float, str]]) -> None:
    assert row.ended is not None
    if row.step in (Action.POWER_OFF, Action.SELF_REFRESH):
        spent.setdefault(row.target, 0.0)
        dark.setdefault(row.target, (row.ended, boot))
    elif row.step == Action.POWER_ON and row.target in dark:
        spent[row.target] += row.ended - dark.pop(row.target)[0]


def _duration(seconds: float) -> str:
    """``3 d 04:05:06`` or ``04:05:06``."""
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock
