# SPDX-License-Identifier: Apache-2.0
"""``hotbank history`` and ``recover``: what was done to the current machine, and settling what was left open."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from hotbank.cli import past
from hotbank.cli.context import Context
from hotbank.cli.progress import outcome_lines
from hotbank.cli.terminal import say, say_json
from hotbank.cli.times import Seconds
from hotbank.documents import SCHEMA
from hotbank.errors import Code, Refusal
from hotbank.machine import Snapshot
from hotbank.memory import Power
from hotbank.operate import Entry, Limits
from hotbank.operate.pace import Foretold, foretold
from hotbank.report.states import Now, Stretch, dark_seconds, seconds_by_state, stretches
from hotbank.wire import encode


@click.command("history", short_help="Transactions of the machine, how they ended, and time spent off.")
@click.argument("number", metavar="[N]", type=click.IntRange(min=0), required=False)
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def history(context: Context, number: int | None, as_json: bool) -> None:
    """Transactions of the current machine: when, how long, how many pages, how they ended, and time spent off.

    N: all of that one, with its steps. A table that is wider than the screen leaves EXPECTED and PLANNED out, and names
    as many targets as have room.
    """
    machine = context.session(changing=False)
    entries = machine.history()
    spent = {
        domain: seconds_by_state(states) for domain, states in states_of(entries, machine.list(), time.time()).items()
    }
    transactions = tuple(entry for entry in entries if not entry.is_sign)
    chosen = transactions if number is None else (_numbered(transactions, number),)
    if as_json:
        say_json(_history(chosen, foretold(transactions), spent))
    elif number is None:
        say(*past.lines(transactions), *_off(spent))
    else:
        say(*past.whole(chosen[0], foretold(transactions).get(number)))


def _numbered(entries: tuple[Entry, ...], number: int) -> Entry:
    """Raises Refusal(UNSUPPORTED) where there is none."""
    found = next((entry for entry in entries if entry.id == number), None)
    if found is None:
        raise Refusal(Code.UNSUPPORTED, f"no transaction {number}", remedy="hotbank history lists them")
    return found


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


def states_of(entries: tuple[Entry, ...], snapshot: Snapshot, at: float) -> dict[str, tuple[Stretch, ...]]:
    """The states of each domain until that moment, at which the snapshot was taken: seconds since 1970."""
    powers = {domain.name: domain.power for domain in snapshot.domains}
    return stretches(entries, Now(at, snapshot.boot_id, powers))


def _history(
    entries: tuple[Entry, ...], told: Mapping[int, Foretold], spent: Mapping[str, Mapping[Power, float]]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA["history"],
        "transactions": [_document(entry, told.get(entry.id)) for entry in entries],
        "failures": past.failures(entries),
        "off": {domain: dark_seconds(seconds) for domain, seconds in spent.items()},
        "states": {domain: encode(seconds) for domain, seconds in spent.items()},
    }


def _document(entry: Entry, foretold: Foretold | None) -> dict[str, Any]:
    seconds = None if entry.seconds is None else round(entry.seconds, 6)
    code = None if entry.code is None else entry.code.value
    told: dict[str, Any] = encode(entry)
    return told | {"code": code, "seconds": seconds, "foretold": None if foretold is None else encode(foretold)}


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


def _duration(seconds: float) -> str:
    """``3 d 04:05:06`` or ``04:05:06``."""
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock
