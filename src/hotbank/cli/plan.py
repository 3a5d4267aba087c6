# SPDX-License-Identifier: Apache-2.0
"""``hotbank plan``: which steps would be taken, in which order, at what cost. Touches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from hotbank import operate
from hotbank.cli.context import Context
from hotbank.operate import Plan


@click.command("plan")
@click.argument("target", metavar="BANK|BLOCK")
@click.option("--add", "adding", is_flag=True, help="Plan an addition instead of a removal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def plan(context: Context, target: str, adding: bool, as_json: bool) -> None:
    """Print the steps that remove (or add) would take, with their expected cost. Changes nothing."""
    machine = context.machine(changing=False)
    made = operate.plan_add(machine, target) if adding else operate.plan_remove(machine, target)
    lines = [json.dumps(made.document())] if as_json else plan_lines(made)
    for line in lines:
        click.echo(line)


def plan_lines(made: Plan) -> Iterator[str]:
    """A plan for people: machine, verdict, steps with their cost."""
    yield f"machine   {made.machine}"
    yield f"{made.verb:<10}{made.target}: {made.code}" + (f": {made.fact}" if made.fact else "")
    for number, step in enumerate(made.steps, 1):
        pages = f"{step.pages:>8} pages" if step.pages else ""
        yield f"{number:>4}  {step.action:<14}{step.target:<16}{step.seconds:>8.2f} s{pages}".rstrip()
    yield f"total     {made.pages} pages to move, about {made.seconds:.2f} s"
    if made.remedy and made.impossible:
        yield f"remedy    {made.remedy}"
