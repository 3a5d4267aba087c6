# SPDX-License-Identifier: Apache-2.0
"""``hotbank history`` and ``recover``: what was done to the current machine, and settling what was left open."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from hotbank import serve
from hotbank.cli.context import Context
from hotbank.cli.progress import outcome_lines
from hotbank.errors import Code, Refusal
from hotbank.operate import Entry, Limits
from hotbank.remote import Remote
from hotbank.wire import encode


@click.command("history")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def history(context: Context, as_json: bool) -> None:
    """Transactions of the current machine: when, how long, how many pages, how they ended."""
    entries = serve.history(_owner(context))
    if as_json:
        click.echo(json.dumps({"schema": 1, "transactions": [_document(entry) for entry in entries]}))
        return
    for line in _table(entries):
        click.echo(line)


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

    The machine is believed, not the journal: a bank that is out goes on to dark, everything else back to where it was.
    """
    machine = _owner(context)
    if not as_json:
        click.echo(f"machine {machine.hello.machine}")
    outcome = serve.recover(machine, limits=Limits(total=deadline, block=deadline))
    if as_json:
        click.echo(json.dumps({"schema": 1, "outcome": encode(outcome)}))
    else:
        for line in ["nothing to settle"] if outcome is None else outcome_lines(outcome, acted=True):
            click.echo(line, err=outcome is not None and outcome.exit != 0)
    return 0 if outcome is None else outcome.exit


def _owner(context: Context) -> Remote:
    machine = context.machine(changing=True)
    if not isinstance(machine, Remote):
        what = "a machine without an owner keeps no journal"
        raise Refusal(Code.UNSUPPORTED, what, remedy="use the machine of `hotbank up`, or serve it")
    return machine


def _document(entry: Entry) -> dict[str, Any]:
    seconds = None if entry.ended is None else round(entry.ended - entry.began, 6)
    code = None if entry.code is None else entry.code.value
    told: dict[str, Any] = encode(entry)
    return told | {"code": code, "seconds": seconds}


def _table(entries: tuple[Entry, ...]) -> Iterator[str]:
    yield f"{'BEGAN':<21}{'VERB':<8}{'TARGET':<12}{'RESULT':<18}{'SECONDS':>9}{'PAGES':>9}  STEPS"
    for e in entries:
        began = datetime.fromtimestamp(e.began, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        seconds = f"{e.ended - e.began:.2f}" if e.ended is not None else "open"
        result = e.code.value if e.code is not None else "-"
        verb, target = e.before.verb, e.before.target
        yield f"{began:<21}{verb:<8}{target:<12}{result:<18}{seconds:>9}{e.pages:>9}  {len(e.rows)}"
    ends = Counter(e.code for e in entries if e.code is not None)
    summary = ", ".join(f"{count} {code}" for code, count in ends.most_common()) or "none yet"
    yield f"{len(entries)} transactions: {summary}; {sum(e.pages for e in entries)} pages moved"
