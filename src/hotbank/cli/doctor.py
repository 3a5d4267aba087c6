# SPDX-License-Identifier: Apache-2.0
"""``hotbank doctor``: what about a machine would make a removal fail or hurt, with the line to add."""

from __future__ import annotations

from collections.abc import Iterator

import click

from hotbank import board as boards
from hotbank.cli.context import Context
from hotbank.cli.looking import sysroot_option
from hotbank.cli.terminal import say, say_json
from hotbank.errors import Finding, Severity
from hotbank.host.doctor import document, examine
from hotbank.host.tree import Tree


@click.command("doctor", short_help="What about a machine would make a removal fail or hurt.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--board", metavar="BOARD", help="Board to hold it against; without it its own /etc/hotbank/board.toml, if there."
)
@sysroot_option
@click.pass_obj
def doctor(context: Context, as_json: bool, board: str | None, sysroot: str | None) -> int:
    """Look for what would make a removal fail or hurt, in the files of the machine itself. Reads only.

    Exits with 1 if something blocks taking banks away and giving them back.
    """
    name, findings = _examined(context, sysroot, board)
    if as_json:
        say_json(document(name, findings))
    else:
        say(f"machine   {name}", *(line for finding in findings for line in _lines(finding)))
        if not findings:
            say("nothing found")
    return int(any(finding.severity is Severity.BLOCKS for finding in findings))


def _examined(context: Context, sysroot: str | None, board: str | None) -> tuple[str, tuple[Finding, ...]]:
    """The machine's name and what was found there. A folder is looked at even where it shows no memory blocks."""
    if sysroot is not None and context.machine_name is None:
        return sysroot, examine(Tree(sysroot), boards.load(board) if board else None)
    if sysroot is not None:
        raise click.UsageError("-m names a machine and --sysroot another")
    machine = context.session(changing=False)
    return machine.name, machine.doctor(board)


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity:<6} {finding.code}: {finding.message}"
    yield f"       -> {finding.remedy}"
