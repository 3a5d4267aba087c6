# SPDX-License-Identifier: Apache-2.0
"""``hotbank up`` and ``down``: a machine that lasts between commands, and is the current one for all shells."""

from __future__ import annotations

import click

from hotbank import board, serve
from hotbank.errors import MachineError


@click.command("up")
@click.argument("board_name", metavar="BOARD")
@click.option("--description", type=click.Path(dir_okay=False), help="Boot from these firmware bytes (hotbank encode).")
@click.option("--cmdline", metavar="TEXT", help="The kernel's command line, in place of the board's.")
@click.option("--kernel", metavar="VERSION", help="Behave as this kernel does: 6.1, 6.12 or 7.3.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option(
    "--pages", type=click.IntRange(min=0), default=4000, show_default=True, help="Pages that processes and files use."
)
def up(
    board_name: str, description: str | None, cmdline: str | None, kernel: str | None, seed: int, pages: int
) -> None:
    """Start a machine in the background and make it the current one.

    BOARD is a TOML file or the name of a shipped board: arm-2009, virt-arm64.
    """
    board.load(board_name)
    spec = serve.ModelSpec(board_name, description, cmdline, kernel, seed, pages)
    record = serve.serve_in_background(spec)
    click.echo(f"{record.machine} is up (pid {record.pid}); next: hotbank list, hotbank explain BANK")


@click.command("down")
def down() -> None:
    """End the current machine. What it held is gone."""
    record = serve.current()
    if record is None:
        raise MachineError("no machine is up", remedy="hotbank up BOARD starts one")
    ended = serve.down(record)
    click.echo(f"{record.machine} is down" if ended else f"{record.machine} was gone already; its record is cleared")
