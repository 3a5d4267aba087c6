# SPDX-License-Identifier: Apache-2.0
"""``hotbank doctor``: what about a machine would make a removal fail or hurt, with the line to add."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from hotbank.cli.context import Context
from hotbank.cli.looking import sysroot_option
from hotbank.cli.terminal import say, say_json
from hotbank.errors import Finding, Severity
from hotbank.host.doctor import document, examine
from hotbank.host.tree import Tree


@click.command("doctor", short_help="What about a machine would make a removal fail or hurt.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Print JSON.")
@sysroot_option
@click.pass_obj
def doctor(context: Context, as_json: bool, sysroot: str | None) -> int:
    """Look for what would make a removal fail or hurt, in the files of the machine itself. Reads only.

    The machine is held against its own /etc/hotbank/board.toml, if there is one; against another board by `hotbank
    board check --host`. Exits with 1 if something blocks taking banks away and giving them back.
    """
    name, findings = _examined(context, sysroot)
    if as_json:
        say_json(document(name, findings))
    else:
        say(*finding_lines(name, findings))
    return int(blocked(findings))


def _examined(context: Context, sysroot: str | None) -> tuple[str, tuple[Finding, ...]]:
    """The machine's name and what was found there. A folder is looked at even where it shows no memory blocks."""
    if sysroot is not None and context.machine_name is None:
        return sysroot, examine(Tree(sysroot))
    if sysroot is not None:
        raise click.UsageError("-m names a machine and --sysroot another")
    machine = context.session(changing=False)
    return machine.name, machine.doctor()


def finding_lines(machine: str, findings: Sequence[Finding]) -> Iterator[str]:
    """The machine, and two lines for each finding: what, and what helps."""
    yield f"machine   {machine}"
    for finding in findings:
        yield f"{finding.severity:<6} {finding.code}: {finding.message}"
        yield f"       -> {finding.remedy}"
    if not findings:
        yield "nothing found"


def blocked(findings: Sequence[Finding]) -> bool:
    """True if something keeps banks from leaving or coming back."""
    return any(finding.severity is Severity.BLOCKS for finding in findings)
