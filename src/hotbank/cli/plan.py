# SPDX-License-Identifier: Apache-2.0
"""``hotbank plan``: which banks to take, in which order, at what cost. Touches nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import click

from hotbank import operate
from hotbank.cli import trial
from hotbank.cli.context import Context
from hotbank.cli.looking import exit_code_option, look, machine_of, short, sysroot_option
from hotbank.cli.progress import said, short_names
from hotbank.cli.terminal import say, say_json
from hotbank.documents import EXIT_DONE, EXIT_FAILED
from hotbank.errors import Code
from hotbank.machine import Machine
from hotbank.memory import format_size, parse_size
from hotbank.operate import Choice, GivenUp, Plan
from hotbank.operate.pace import Pace

_FEW = 4  # parts that are named one by one


def _size(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    try:
        size = None if text is None else parse_size(text)
    except ValueError as e:
        raise click.BadParameter(str(e)) from e
    if size == 0:
        raise click.BadParameter("0 is nothing to free")
    return size


def size_option(help_: str) -> Callable[[Any], Any]:
    """``--free SIZE``."""
    return click.option("--free", "size", metavar="SIZE", callback=_size, help=help_)


@click.command("plan", short_help="Which banks to take, in which order, at what cost; touches nothing.")
@click.argument("targets", metavar="[BANK|BLOCK]...", nargs=-1)
@size_option("Choose the banks: so much is to be freed.")
@click.option("--add", "adding", is_flag=True, help="Plan an addition instead of a removal.")
@click.option("--try", "trying", is_flag=True, help="Also carry it out, on a model that starts from this machine.")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
@exit_code_option
@sysroot_option
@click.pass_obj
def plan(
    context: Context,
    targets: tuple[str, ...],
    size: int | None,
    adding: bool,
    trying: bool,
    as_json: bool,
    strict: bool,
    sysroot: str | None,
) -> int:
    """Print the steps that remove (or add) would take, with their expected cost. Changes nothing.

    Several banks make one plan. With --free SIZE (such as 256M) the banks are chosen: those that free so much by
    moving the fewest pages. A power domain counts when all of it leaves; half of one saves nothing. Where no board
    names banks, blocks are chosen. A plan that can't be carried out is an answer: the exit status is 0
    without --exit-code.
    With --try every page of the machine is looked at, and a model of it is what gets changed.
    """
    if (size is None) is not bool(targets):
        raise click.UsageError("name banks or blocks, or give --free SIZE")
    if size is not None and adding:
        raise click.UsageError("--free plans a removal, --add an addition")
    if size is not None and trying:
        raise click.UsageError("--try wants names: those that --free chooses")
    machine, pace = _machine_and_pace(context, sysroot)
    if size is not None:
        choice = operate.plan_free(machine, size, look=look)
        choice = replace(choice, plan=pace.applied(choice.plan))
        _print_choice(choice, size, as_json)
        return EXIT_FAILED if strict and not choice.plan.steps else EXIT_DONE
    made = operate.plan_add(machine, targets) if adding else operate.plan_remove(machine, targets, look=look)
    made = pace.applied(made)
    tried = trial.carried_out(machine, targets, adding=adding) if trying else None
    if as_json:
        say_json(made.document() | ({} if tried is None else {"try": trial.document(tried)}))
    else:
        say(*plan_lines(made), *([] if tried is None else [trial.line(tried)]))
    return EXIT_FAILED if strict and made.impossible else EXIT_DONE


def _machine_and_pace(context: Context, sysroot: str | None) -> tuple[Machine, Pace]:
    if sysroot is not None:
        return machine_of(context, sysroot), Pace()
    session = context.session(changing=False)
    return session.machine, Pace.of(session.history())


def plan_lines(made: Plan) -> Iterator[str]:
    """A plan for people: machine, verdict, steps with their cost."""
    yield f"machine   {made.machine}"
    names = short_names([t.name for t in made.targets]) or made.target
    fact = made.fact or ("" if made.steps else "nothing to do")
    yield f"{made.verb:<10}{names}: {said(made.code)}" + (f": {fact}" if fact else "")
    held: set[int] = set()
    for number, step in enumerate(made.steps, 1):
        pages = f"{step.pages:>8} pages" if step.pages else ""
        yield f"{number:>4}  {step.action:<15}{step.target:<18}{step.seconds:>8.2f} s{pages}".rstrip()
        if step.fence and step.block not in held:
            held.update(step.fence)
            yield f"      {'':<15}behind a fence, and {short_names([f'memory{n}' for n in step.fence])} with it"
        if step.drop:
            yield f"      {'':<15}after {step.drop} pages of clean cache without room elsewhere were dropped"
    if made.steps:
        history = ", by this machine's history" if made.paced_by else ""
        between = f" ({made.between[0]:.2f} to {made.between[1]:.2f})" if made.between else ""
        again = f", {made.again} of them twice" if made.again else ""
        unknown = made.may_move + made.again - made.pages - sum(step.drop for step in made.steps)
        unseen = f", {unknown} more of unknown contents" if unknown > 0 else ""
        yield f"total     {made.pages} pages to move{again}{unseen}, about {made.seconds:.2f} s{between}{history}"
    if made.remedy and made.impossible:
        yield f"remedy    {made.remedy}"


def _print_choice(found: Choice, size: int, as_json: bool) -> None:
    if as_json:
        say_json(_document(found))
        return
    for line in choice_lines(found, size):
        say(line)


def _document(found: Choice) -> dict[str, Any]:
    """The document of a plan; ``freed`` in bytes, ``at_least`` in pages, and what was given up."""
    given_up = [{"name": g.name, "size": g.size, "code": g.code.value, "why": g.why} for g in found.given_up]
    return found.plan.document() | {"freed": found.size, "at_least": found.at_least, "given_up": given_up}


def choice_lines(found: Choice, size: int) -> Iterator[str]:
    """What was chosen for people: the plan, what it frees, and what was given up."""
    head, *rest = plan_lines(found.plan)
    yield head
    yield f"free      {format_size(size)}" + (
        f": this plan frees {format_size(found.size)}" if found.plan.steps else ""
    )
    yield from rest
    if found.plan.steps and found.at_least < found.plan.may_move:
        yield f"          found in the time allowed; no choice moves fewer than {found.at_least} pages"
    yield from _given_up_lines(found.given_up)


def _given_up_lines(given_up: tuple[GivenUp, ...]) -> Iterator[str]:
    """What can't leave or saves nothing. Blocks that stay for one reason are one line."""
    alike: dict[Code, list[GivenUp]] = {}
    for part in given_up:
        alike.setdefault(part.code, []).append(part)
    for code, parts in alike.items():
        if len(parts) > _FEW:
            size = format_size(sum(p.size for p in parts))
            yield f"given up  {len(parts)} parts of {size} in all: {code}, such as {parts[0].why}"
        else:
            yield from (f"given up  {p.name} of {format_size(p.size)}: {p.code}: {short(p.name, p.why)}" for p in parts)
