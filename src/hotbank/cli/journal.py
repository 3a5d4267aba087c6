# SPDX-License-Identifier: Apache-2.0
"""``hotbank history`` and ``recover``: what was done to the current machine, and settling what was left open."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from hotbank.cli import table
from hotbank.cli.context import Context
from hotbank.cli.progress import outcome_lines, said, short_names
from hotbank.cli.terminal import counted, say, say_json
from hotbank.cli.times import Seconds, date
from hotbank.documents import SCHEMA
from hotbank.errors import Code
from hotbank.machine import Snapshot
from hotbank.memory import Power
from hotbank.operate import Entry, Limits, remedy
from hotbank.operate.journal import PERSON
from hotbank.operate.pace import Foretold, foretold
from hotbank.report.states import Now, Stretch, dark_seconds, seconds_by_state, stretches
from hotbank.wire import encode


@click.command("history", short_help="Transactions of the machine, how they ended, and time spent off.")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def history(context: Context, as_json: bool) -> None:
    """Transactions of the current machine: when, how long, how many pages, how they ended, and time spent off."""
    machine = context.session(changing=False)
    entries = machine.history()
    spent = {
        domain: seconds_by_state(states) for domain, states in states_of(entries, machine.list(), time.time()).items()
    }
    transactions = tuple(entry for entry in entries if not entry.is_sign)
    if as_json:
        say_json(_history(transactions, spent))
        return
    for line in [*_table(transactions), *_off(spent)]:
        say(line)


@click.command("recover")
@click.option(
    "--deadline",
    type=Seconds(),
    default=Limits().total,
    show_default=True,
    metavar="SECONDS",
)
@click.option(
    "--forget",
    type=click.IntRange(min=0, max=(1 << 63) - 1),
    metavar="N",
    help="Close transaction N, which can't be read (DAMAGED), and leave what is half-way as it is.",
)
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def recover(context: Context, deadline: float, forget: int | None, as_json: bool) -> int:
    """Settle a transaction that a crash or a stubborn kernel left open.

    The machine is believed, not the journal: a removal whose banks are all out goes on to dark, everything else back to
    where it was. A transaction that can't be read is closed when nothing on the machine is half-way.
    """
    machine = context.session(changing=True)
    if not as_json:
        say(f"machine {machine.name}")
    try:
        outcome = machine.recover(limits=Limits(total=deadline, block=deadline), forget=forget)
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


_COLUMNS = ("BEGAN", "VERB", "TARGET", "RESULT", "SECONDS", "EXPECTED", "PLANNED", "MOVED", "STEPS")


def states_of(entries: tuple[Entry, ...], snapshot: Snapshot, at: float) -> dict[str, tuple[Stretch, ...]]:
    """The states of each domain until that moment, at which the snapshot was taken: seconds since 1970."""
    powers = {domain.name: domain.power for domain in snapshot.domains}
    return stretches(entries, Now(at, snapshot.boot_id, powers))


def _history(entries: tuple[Entry, ...], spent: Mapping[str, Mapping[Power, float]]) -> dict[str, Any]:
    told = foretold(entries)
    return {
        "schema": SCHEMA["history"],
        "transactions": [_document(entry, told.get(entry.id)) for entry in entries],
        "failures": _failures(entries),
        "off": {domain: dark_seconds(seconds) for domain, seconds in spent.items()},
        "states": {domain: encode(seconds) for domain, seconds in spent.items()},
    }


def _document(entry: Entry, foretold: Foretold | None) -> dict[str, Any]:
    seconds = None if entry.seconds is None else round(entry.seconds, 6)
    code = None if entry.code is None else entry.code.value
    told: dict[str, Any] = encode(entry)
    return told | {"code": code, "seconds": seconds, "foretold": None if foretold is None else encode(foretold)}


def _table(entries: tuple[Entry, ...]) -> Iterator[str]:
    told = foretold(entries)
    yield from table.lines(_COLUMNS, [_row(e, told.get(e.id)) for e in entries], right=_COLUMNS[4:8])
    ends = Counter(said(e.code) for e in entries if e.code is not None)
    summary = ", ".join(f"{count} {code}" for code, count in ends.most_common()) or "none yet"
    yield f"{counted(len(entries), 'transaction')}: {summary}; {sum(e.moved or 0 for e in entries)} pages moved"
    yield from _off_by(told.values())
    failures = _failures(entries)
    if failures:
        yield "failures: " + ", ".join(f"{count} {code}" for code, count in failures.items())
    yield from (f"transaction {e.id} is open: {_what_to_do(e)}" for e in entries if e.code is None)


def _off(spent: Mapping[str, Mapping[Power, float]]) -> Iterator[str]:
    for domain, seconds in spent.items():
        if dark := dark_seconds(seconds):
            yield f"domain {domain}: off or in self-refresh for {_duration(dark)}{_besides(seconds)}"


def _besides(seconds: Mapping[Power, float]) -> str:
    unknown = seconds.get(Power.UNKNOWN, 0.0)
    return (
        f"; for {_duration(unknown)} nobody knows: the machine was down, or another hand was at work"
        if unknown >= 1
        else ""
    )


def _off_by(told: Iterable[Foretold]) -> Iterator[str]:
    """How far off the expectations were, in parts of what was expected."""
    errors = sorted(abs(one.ratio - 1) for one in told)
    if errors:
        middle, count = errors[len(errors) // 2], counted(len(errors), "transaction")
        yield f"expected seconds: off by {middle:.0%} in the middle, {errors[-1]:.0%} at most, in {count} after others"


def _row(entry: Entry, told: Foretold | None) -> tuple[str, ...]:
    began = date(entry.began)
    seconds = "open" if entry.ended is None else "-" if entry.seconds is None else f"{entry.seconds:.2f}"
    expected = f"{told.expected:.2f}" if told is not None else "-"
    result, before = said(entry.code or _open_because(entry)), entry.before
    moved = "-" if entry.moved is None else str(entry.moved)
    steps = f"{len(entry.rows)}" + ("" if before.cause == PERSON else f", by the {before.cause}")
    return began, before.verb, short_names(before.targets), result, seconds, expected, str(before.planned), moved, steps


def _open_because(entry: Entry) -> Code:
    """Why a transaction is not over: the kernel holds a block, or it is being done, or its process died."""
    if entry.damage:
        return Code.DAMAGED
    held = any(row.code is Code.CANCEL_PENDING for row in entry.rows[-1:])
    return Code.CANCEL_PENDING if held else Code.BUSY_TRANSACTION


def _what_to_do(entry: Entry) -> str:
    code = _open_because(entry)
    return "hotbank recover closes it, or says what is half-way" if code is Code.DAMAGED else remedy(code)


def _failures(entries: tuple[Entry, ...]) -> dict[str, int]:
    """Reasons of what did not come about, the most frequent first."""
    codes = (e.code.value for e in entries if e.code not in (None, Code.OK, Code.DOMAIN_IN_USE, Code.SUPERSEDED))
    return dict(Counter(codes).most_common())


def _duration(seconds: float) -> str:
    """``3 d 04:05:06`` or ``04:05:06``."""
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock
