# SPDX-License-Identifier: Apache-2.0
"""``hotbank remove`` and ``add``: doing it.

A served machine's owner carries the transaction out, so it survives this process; Ctrl-C asks for a rollback.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from hotbank import documents, operate
from hotbank.cli import handed
from hotbank.cli.context import Context, given
from hotbank.cli.interrupts import heard
from hotbank.cli.looking import look
from hotbank.cli.plan import choice_lines, plan_lines, size_option
from hotbank.cli.progress import outcome_lines, short_names, watching
from hotbank.cli.terminal import say, say_json
from hotbank.cli.times import Seconds
from hotbank.errors import Code, FormatError, Refusal
from hotbank.operate import Before, Choice, Event, Limits, Plan, found
from hotbank.session import Session

_NAMED = {"targets": "names", "every": "--all", "domain": "--domain", "plan": "--plan", "size": "--free"}
_ACTS = ("deadline", "keep_partial", "force", "wait")
_AGAIN = 0.1  # seconds of wall time
_ONE_WAY = "name banks or blocks, or give --all, --domain DOMAIN{} or --plan FILE"


@dataclass(frozen=True, slots=True)
class _Transaction:
    """What is carried out together. ``found``: what a plan of it was made of."""

    targets: tuple[str, ...]
    found: Before | None = None


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that remove and add share."""
    options = (
        click.argument("targets", metavar="[BANK|BLOCK]...", nargs=-1),
        click.option("--all", "every", is_flag=True, help="Everything that may, one transaction after the other."),
        click.option("--domain", metavar="DOMAIN", help="All banks of that power domain."),
        click.option(
            "--plan",
            type=click.Path(allow_dash=True),
            metavar="FILE",
            help="What `hotbank plan --json` printed; refused if the machine has changed since.",
        ),
        click.option(
            "--deadline",
            type=Seconds(),
            default=Limits().total,
            show_default=True,
            metavar="SECONDS",
            help="Give up and roll back after this long.",
        ),
        click.option(
            "--wait",
            type=Seconds(),
            metavar="SECONDS",
            help="Wait so long for another transaction to end.",
        ),
        click.option("--keep-partial", is_flag=True, help="On failure keep what was done (exit status 64)."),
        click.option("--dry-run", is_flag=True, help="Print the plan and stop."),
        click.option("-J", "--json", "as_json", is_flag=True, help='Events as JSON, one a line; the last is "done".'),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("remove")
@_options
@size_option("Choose the banks: so much is to be freed, by moving the fewest pages.")
@click.option("--force", is_flag=True, help="Try although a survey says no; the deadline still holds.")
@click.pass_obj
def remove(context: Context, /, **options: Any) -> int:
    """Evacuate banks, take them out of the kernel, and switch their power off.

    Several are one transaction: all of them leave, or a failure puts every block back into the state and zone it was
    in. A power domain goes dark with its last bank. With --all the banks of each domain leave together, because half of
    a domain saves nothing; where they can't, the other domains are tried all the same.
    """
    return _carry_out_all(context, "remove", options)


@click.command("add")
@_options
@click.pass_obj
def add(context: Context, /, **options: Any) -> int:
    """Switch banks' power on, bring them into the kernel, and online them as Movable.

    Several are one transaction: all of them return, or none. With --all each returns by itself, so that one that can't
    keeps no other out.
    """
    return _carry_out_all(context, "add", {**options, "size": None})


def _carry_out_all(context: Context, verb: str, options: dict[str, Any]) -> int:
    """One transaction after the other; an interruption ends the row."""
    asked = {key: options.pop(key) for key in _NAMED}
    dry_run, as_json = options.pop("dry_run"), options.pop("as_json")
    _check_one_way(verb, asked)
    if dry_run:
        _check_nothing_to_limit()
    machine = context.session(changing=True)
    if dry_run:
        return _plan_all(machine, verb, asked, as_json)
    if not as_json:
        say(f"machine {machine.name}")
    return _when_idle(machine, options.pop("wait") or 0.0, lambda: _order_all(machine, verb, asked, options, as_json))


def _when_idle(machine: Session, seconds: float, act: Callable[[], int]) -> int:
    """Do it once nothing else is under way: what is out is known only then. Again when somebody else was faster."""
    until = time.monotonic() + seconds
    if seconds and not machine.wait(0.0):
        say(f"hotbank: a transaction is open: waiting for its end, {seconds:g} s at most", err=True)
    while (left := until - time.monotonic()) > 0:
        machine.wait(left)
        try:
            return act()
        except Refusal as refusal:
            if refusal.code is not Code.BUSY_TRANSACTION:
                raise
            time.sleep(_AGAIN)
    return act()


def _plan_all(machine: Session, verb: str, asked: Mapping[str, Any], as_json: bool) -> int:
    rows = _transactions(machine, verb, asked)
    if isinstance(rows, Choice):
        return _no_choice(rows, asked["size"], as_json)
    plans = [machine.plan(*row.targets, add=verb == "add", found=row.found) for row in rows]
    return documents.together([_print_plan(plan, as_json) for plan in plans or [_nothing(machine, verb)]])


def _order_all(machine: Session, verb: str, asked: Mapping[str, Any], options: Mapping[str, Any], as_json: bool) -> int:
    rows = _transactions(machine, verb, asked)
    if isinstance(rows, Choice):
        return _no_choice(rows, asked["size"], as_json)
    if not rows and as_json:
        say_json(Event(0.0, 0, "done", exit=0, fact="nothing to do").document())
    elif not rows:
        say("nothing to do")
    return _in_turn(machine, verb, rows, _settings(options), as_json)


def _check_one_way(verb: str, asked: Mapping[str, Any]) -> None:
    given = [_NAMED[key] for key, value in asked.items() if value]
    if len(given) != 1:
        ways = _ONE_WAY.format(", --free SIZE" if verb == "remove" else "")
        raise click.UsageError(f"{' and '.join(given)}: {ways}" if given else ways)


def _check_nothing_to_limit() -> None:
    """What only an act heeds must not seem to be heeded by a plan."""
    if stray := given(*_ACTS):
        raise click.UsageError(f"--dry-run only plans: {' and '.join(stray)} would change nothing about it")


def _nothing(machine: Session, verb: str) -> Plan:
    """The plan where nothing is left that may leave or return."""
    return Plan(machine.name, verb, "everything", (), (), Code.OK, "nothing to do")


def _transactions(machine: Session, verb: str, asked: Mapping[str, Any]) -> Sequence[_Transaction] | Choice:
    """What was asked for; the choice where nothing can be chosen."""
    if asked["plan"] is not None:
        return [_of_plan(asked["plan"], verb)]
    if asked["size"] is not None:
        choice = operate.plan_free(machine.machine, asked["size"], look=look)
        plan = choice.plan
        return [_Transaction(tuple(t.name for t in plan.targets), plan.found)] if plan.steps else choice
    if asked["domain"] is not None:
        return [_Transaction(operate.of_domain(machine.list(), asked["domain"]))]
    if asked["every"]:
        return [_Transaction(names) for names in operate.everything(machine.list(), verb)]
    return [_Transaction(asked["targets"])]


def _of_plan(file: str, verb: str) -> _Transaction:
    """What a plan in a file is about. Raises FormatError, OSError."""
    there = found.of_plan(handed.document(file, "plan"))
    if there.verb != verb or not there.targets:
        what = f"plans to {there.verb} {there.target or 'nothing'}, not to {verb} something"
        raise FormatError(file, 0, "verb", what)
    return _Transaction(there.targets, there)


def _no_choice(choice: Choice, size: int, as_json: bool) -> int:
    if as_json:
        say_json(choice.plan.document())
    else:
        say(*choice_lines(choice, size), err=True)
    return documents.EXIT_FAILED


def _in_turn(machine: Session, verb: str, rows: Sequence[_Transaction], options: dict[str, Any], as_json: bool) -> int:
    exits: list[int] = []
    for row in rows:
        if documents.EXIT_INTERRUPTED in exits:
            say(f"hotbank: {verb} {short_names(row.targets)} was not begun", err=True)
            continue
        if len(rows) > 1 and not as_json:
            say(f"{verb} {short_names(row.targets)}")
        exits.append(_carry_out(machine, verb, row, options, as_json))
    return documents.together(exits)


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a verb. The deadline is of the whole, and one block may take all of it."""
    limits = Limits(total=options["deadline"], block=options["deadline"])
    return {"limits": limits, **{name: value for name, value in options.items() if name != "deadline"}}


def _print_plan(made: Plan, as_json: bool) -> int:
    if as_json:
        say_json(made.document())
    else:
        say(*plan_lines(made))
    return documents.EXIT_FAILED if made.impossible else documents.EXIT_DONE


def _carry_out(machine: Session, verb: str, row: _Transaction, options: dict[str, Any], as_json: bool) -> int:
    seen: set[str] = set()
    with watching(f"{verb} {short_names(row.targets)}", as_json) as show:

        def note(event: Event) -> None:
            seen.add(event.event)
            show(event)

        def stop() -> None:
            say("hotbank: interrupted, rolling back", err=True)
            machine.interrupt()

        with heard(stop):
            act = machine.remove if verb == "remove" else machine.add
            outcome = act(*row.targets, found=row.found, on_event=note, **options)
    if not as_json:
        for line in outcome_lines(outcome, acted="step" in seen):
            say(line, err=outcome.exit != documents.EXIT_DONE)
    if outcome.open and machine.is_ours:
        _stay_until_settled(machine)
    return outcome.exit


def _stay_until_settled(machine: Session) -> None:
    """This process is the owner itself: who settles it when the kernel lets go is a worker that would die with us."""
    say("hotbank: waiting until the kernel lets go; Ctrl-C leaves it to hotbank recover", err=True)
    machine.settle()
