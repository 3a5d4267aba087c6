# SPDX-License-Identifier: Apache-2.0
"""``hotbank doctor``: what on this machine would make a removal fail or hurt, with the line to add."""

from __future__ import annotations

import json

import click

from hotbank import board as boards
from hotbank.host.doctor import Finding, Severity, document, examine
from hotbank.host.tree import Tree


@click.command("doctor", short_help="What on this machine would make a removal fail or hurt.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "-s", "--sysroot", metavar="DIR", default="/", type=click.Path(exists=True, file_okay=False), help="Read a tree."
)
@click.option(
    "--board", metavar="BOARD", help="Board to hold it against; without it /etc/hotbank/board.toml, if there."
)
def doctor(as_json: bool, sysroot: str, board: str | None) -> int:
    """Look for what would make a removal fail or hurt. Reads only.

    Exits with 1 if something blocks taking banks away and giving them back.
    """
    findings = examine(Tree(sysroot), boards.load(board) if board else None)
    if as_json:
        click.echo(json.dumps(document("host" if sysroot == "/" else sysroot, findings)))
    else:
        click.echo("\n".join(map(_text, findings)) or "nothing found")
    return int(any(finding.severity is Severity.BLOCKS for finding in findings))


def _text(finding: Finding) -> str:
    return f"{finding.severity:<6} {finding.name}: {finding.message}\n       -> {finding.remedy}"
