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

from hotbank.cli.context import Context
from hotbank.cli.plan import plan_lines
from hotbank.cli.progress import outcome_lines, watching
from hotbank.memory import KernelState
from hotbank.operate import Event, Limits, Plan, reasons
from hotbank.session import Session


def _limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that remove and add share."""
    options = (
        click.argument("target", metavar="BANK|BLOCK", required=False),
        click.option("--all", "every", is_flag=True, help="Every bank that may leave, one after the other."),
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
def remove(context: Context, /, target: str | None, every: bool, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Evacuate a bank, take it out of the kernel, and switch its power off.

    A removal that fails puts every block back into the state and zone it was in.
    """
    _check_named(target, every)
    machine = context.session(changing=True)
    targets = _targets(machine, "remove", target)
    if dry_run:
        return _together([_print_plan(machine.plan(name), as_json) for name in targets])
    return _all_of(machine, "remove", targets, _settings(options), as_json)


@click.command("add")
@_limits
@click.pass_obj
def add(context: Context, /, target: str | None, every: bool, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Switch a bank's power on, bring it into the kernel, and online it as Movable."""
    _check_named(target, every)
    machine = context.session(changing=True)
    targets = _targets(machine, "add", target)
    if dry_run:
        return _together([_print_plan(machine.plan(name, add=True), as_json) for name in targets])
    return _all_of(machine, "add", targets, _settings(options), as_json)


def _check_named(target: str | None, every: bool) -> None:
    if every == (target is not None):
        raise click.UsageError("name a bank or a block, or give --all")


def _targets(machine: Session, verb: str, target: str | None) -> tuple[str, ...]:
    """What was named, else the banks that may leave and are not yet where the verb takes them."""
    if target is not None:
        return (target,)
    there = KernelState.ABSENT if verb == "remove" else KernelState.ONLINE
    return tuple(b.name for b in machine.list().banks if (b.movable or not b.at_boot) and b.kernel is not there)


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a verb. The deadline is of the whole, and one block may take all of it."""
    deadline = options.pop("deadline")
    return {"limits": Limits(total=deadline, block=deadline), **options}


def _all_of(machine: Session, verb: str, targets: tuple[str, ...], options: dict[str, Any], as_json: bool) -> int:
    """One transaction each; an interruption ends the row."""
    if not as_json:
        click.echo(f"machine {machine.name}")
    if not targets:
        click.echo(json.dumps(Event(0.0, 0, "done", exit=0).document()) if as_json else "nothing to do")
    exits: list[int] = []
    for target in targets:
        exits.append(_carry_out(machine, verb, target, options, as_json))
        if exits[-1] == reasons.EXIT_INTERRUPTED:
            break
    return _together(exits)


def _together(exits: list[int]) -> int:
    """The exit status of several: the one they share, 130 after an interruption, else 64: partly done."""
    if reasons.EXIT_INTERRUPTED in exits:
        return reasons.EXIT_INTERRUPTED
    return max(exits, default=reasons.EXIT_DONE) if len(set(exits)) < 2 else reasons.EXIT_PARTLY


def _print_plan(made: Plan, as_json: bool) -> int:
    for line in [json.dumps(made.document())] if as_json else plan_lines(made):
        click.echo(line)
    return reasons.EXIT_FAILED if made.impossible else reasons.EXIT_DONE


def _carry_out(machine: Session, verb: str, target: str, options: dict[str, Any], as_json: bool) -> int:
    seen: set[str] = set()
    with watching(f"{verb} {target}", as_json) as show:

        def note(event: Event) -> None:
            seen.add(event.event)
            show(event)

        with _interrupts(machine.interrupt):
            act = machine.remove if verb == "remove" else machine.add
            outcome = act(target, on_event=note, **options)
    if not as_json:
        for line in outcome_lines(outcome, acted="step" in seen):
            click.echo(line, err=outcome.exit != reasons.EXIT_DONE)
    if outcome.open and machine.is_ours:
        _stay_until_settled(machine)
    return outcome.exit


def _stay_until_settled(machine: Session) -> None:
    """This process is the owner itself: who settles it when the kernel lets go is a worker that would die with us."""
    click.echo("hotbank: waiting until the kernel lets go; Ctrl-C leaves it to hotbank recover", err=True)
    machine.settle()


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
