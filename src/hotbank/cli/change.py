# SPDX-License-Identifier: Apache-2.0
"""``hotbank remove`` and ``add``: doing it.

A served machine's owner carries the transaction out, so it survives this process; Ctrl-C asks for a rollback.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from hotbank import operate
from hotbank.cli.context import Context
from hotbank.cli.plan import plan_lines
from hotbank.cli.progress import Show, outcome_lines, watching
from hotbank.machine import Machine
from hotbank.operate import Event, Limits, Outcome, Plan, reasons
from hotbank.remote import Remote


def _limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that remove and add share."""
    options = (
        click.argument("target", metavar="BANK|BLOCK"),
        click.option(
            "--deadline",
            type=click.FloatRange(min=0, min_open=True),
            default=Limits().total,
            show_default=True,
            metavar="SECONDS",
            help="Give up and roll back after this long.",
        ),
        click.option("--keep-partial", is_flag=True, help="On failure keep what was done (exit status 64)."),
        click.option("--dry-run", is_flag=True, help="Print the plan and stop."),
        click.option("--json", "as_json", is_flag=True, help='Events as JSON, one a line; the last is "done".'),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("remove")
@_limits
@click.option("--force", is_flag=True, help="Try although a survey says no; the deadline still holds.")
@click.pass_obj
def remove(
    context: Context, target: str, deadline: float, keep_partial: bool, dry_run: bool, as_json: bool, force: bool
) -> int:
    """Evacuate a bank, take it out of the kernel, and switch its power off.

    A removal that fails puts every block back into the state and zone it was in.
    """
    machine = context.machine(changing=True)
    if dry_run:
        return _print_plan(operate.plan_remove(machine, target), as_json)
    options = {"limits": _seconds(deadline), "force": force, "keep_partial": keep_partial}
    return _carry_out(machine, "remove", target, options, as_json)


@click.command("add")
@_limits
@click.pass_obj
def add(context: Context, target: str, deadline: float, keep_partial: bool, dry_run: bool, as_json: bool) -> int:
    """Switch a bank's power on, bring it into the kernel, and online it as Movable."""
    machine = context.machine(changing=True)
    if dry_run:
        return _print_plan(operate.plan_add(machine, target), as_json)
    return _carry_out(machine, "add", target, {"limits": _seconds(deadline), "keep_partial": keep_partial}, as_json)


def _print_plan(made: Plan, as_json: bool) -> int:
    for line in [json.dumps(made.document())] if as_json else plan_lines(made):
        click.echo(line)
    return reasons.EXIT_FAILED if made.impossible else reasons.EXIT_DONE


def _seconds(deadline: float) -> Limits:
    """The total; one block may take all of it."""
    return Limits(total=deadline, block=deadline)


def _carry_out(machine: Machine, verb: str, target: str, options: dict[str, Any], as_json: bool) -> int:
    name = machine.snapshot().machine
    if not as_json:
        click.echo(f"machine {name}")
    seen: set[str] = set()
    with watching(f"{verb} {target}", as_json) as show:

        def note(event: Event) -> None:
            seen.add(event.event)
            show(event)

        outcome = _transact(machine, verb, target, options, note)
    if not as_json:
        for line in outcome_lines(outcome, acted="step" in seen):
            click.echo(line, err=outcome.exit != reasons.EXIT_DONE)
    return outcome.exit


def _transact(machine: Machine, verb: str, target: str, options: dict[str, Any], show: Show) -> Outcome:
    if isinstance(machine, Remote):
        from hotbank import serve

        with _interrupts(machine.interrupt):
            order = serve.remove if verb == "remove" else serve.add
            return order(machine, target, on_event=show, **options)
    stopped: list[bool] = []
    with _interrupts(lambda: stopped.append(True)):
        act = operate.remove if verb == "remove" else operate.add
        return act(machine, target, on_event=show, interrupted=lambda: bool(stopped), **options)


@contextmanager
def _interrupts(stop: Callable[[], object]) -> Iterator[None]:
    """While this runs, Ctrl-C and SIGTERM ask for a rollback instead of ending the process."""

    def handle(_signal: int, _frame: FrameType | None) -> None:
        click.echo("hotbank: interrupted, rolling back", err=True)
        stop()

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
