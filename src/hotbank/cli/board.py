# SPDX-License-Identifier: Apache-2.0
"""``hotbank board``: the file that says which banks a machine has: list, show, check; ``new`` is in board_new.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from hotbank import board as boards
from hotbank.board import Board
from hotbank.cli import blueprint, handed, table
from hotbank.cli.board_new import new
from hotbank.cli.context import Context
from hotbank.cli.doctor import blocked, finding_lines
from hotbank.cli.groups import Group
from hotbank.cli.looking import sysroot_option
from hotbank.cli.screen import columns
from hotbank.cli.terminal import say, say_json
from hotbank.documents import EXIT_DONE, EXIT_FAILED, SCHEMA
from hotbank.errors import BoardError, Finding, brief
from hotbank.host.doctor import examine, rows
from hotbank.host.tree import Tree
from hotbank.keys import decoded
from hotbank.memory import format_size
from hotbank.wire import encode

_json_option = click.option("-J", "--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("board", cls=Group, short_help="The file that says which banks a machine has.")
def board() -> None:
    """The file that says which banks a machine has, and how they are switched.

    BOARD is a TOML file or the name of a shipped board; show and check take - for standard input. docs/board.md has
    every key.
    """


board.add_command(new)


@board.command("list", short_help="The boards that come with hotbank.")
@_json_option
def list_(as_json: bool) -> None:
    """The boards that come with hotbank."""
    found = [(file, boards.load(file)) for file in boards.shipped()]
    if as_json:
        say_json({"schema": SCHEMA["boards"], "boards": [_listed(file, its) for file, its in found]})
        return
    say(*table.lines(("BOARD", "ARCH", "SIZE", "BANKS"), [_row(its) for _, its in found], right=("SIZE",)))


def _listed(file: Path, its: Board) -> dict[str, Any]:
    return {"board": its.name, "file": str(file), "arch": its.arch, "banks": [bank.name for bank in its.banks]}


def _row(its: Board) -> list[str]:
    size = format_size(sum(bank.range.size for bank in its.banks))
    return [its.name, its.arch, size, ", ".join(_described(its))]


def _described(its: Board) -> Iterator[str]:
    for bank in its.banks:
        yield f"{bank.name} ({bank.route})" if blueprint.may_leave(bank) else bank.name


@board.command("show", short_help="Draw a board.")
@click.argument("name", metavar="BOARD")
@_json_option
def show(name: str, as_json: bool) -> None:
    """Draw a board: its addresses, banks, power domains, and what is interleaved."""
    its = boards.loads(*_written(name))
    if as_json:
        say_json({"schema": SCHEMA["board"], "board": encode(its)})
    else:
        say(*blueprint.lines(its, columns()))


@board.command("check", short_help="Tell everything that is wrong with a board.")
@click.argument("name", metavar="BOARD")
@click.option("--host", "held", is_flag=True, help="Hold it against this machine, or the one that -m names.")
@_json_option
@sysroot_option
@click.pass_obj
def check(context: Context, name: str, held: bool, as_json: bool, sysroot: str | None) -> int:
    """Tell everything that is wrong with a board, each with file, line and key.

    With --host also what of it does not fit a machine: architecture, block size, what lies where, its switches; and
    what else of that machine would make a removal fail or hurt, as `hotbank doctor` tells it.

    Exits with 1 if the board is wrong, or something blocks taking its banks away and giving them back.
    """
    if sysroot is not None and not held:
        raise click.UsageError("--sysroot has an effect with --host only")
    if name == handed.STDIN and held:
        raise click.UsageError("--host holds a board in a file against a machine, not standard input")
    text, file = _written(name)
    mistakes = _mistakes(text, file)
    machine, findings = _held(context, name, sysroot) if held and not mistakes else (None, ())
    if as_json:
        say_json(_document(name, mistakes, machine, findings))
    else:
        say(*(map(str, mistakes) if mistakes else [_fine(name, boards.loads(text, file))]))
        say(*(finding_lines(machine, findings) if machine is not None else ()))
    return EXIT_FAILED if mistakes or blocked(findings) else EXIT_DONE


def _written(name: str) -> tuple[str, str]:
    """The board's text, and its file. That there is none is no mistake in it. Raises BoardError."""
    if name == handed.STDIN:
        return decoded("board", handed.contents(name), name), name
    return boards.read(name), str(boards.find(name))


def _mistakes(text: str, file: str) -> tuple[BoardError, ...]:
    try:
        boards.loads(text, file)
    except BoardError as e:
        return e.mistakes
    return ()


def _fine(name: str, its: Board) -> str:
    size = format_size(sum(bank.range.size for bank in its.banks))
    return f"{name}: no mistake; banks: {len(its.banks)} of {size}, power domains: {len(its.domains)}"


def _held(context: Context, name: str, sysroot: str | None) -> tuple[str, tuple[Finding, ...]]:
    """The machine, and what was found there with this board."""
    if sysroot is None:
        machine = context.at_host().session(changing=False)
        return machine.name, machine.doctor(name)
    if context.machine_name is not None:
        raise click.UsageError("-m names a machine and --sysroot another")
    return sysroot, examine(Tree(sysroot), boards.load(name))


def _document(
    name: str, mistakes: Sequence[BoardError], machine: str | None, findings: Sequence[Finding]
) -> dict[str, Any]:
    found = {"machine": machine, "findings": rows(findings)}
    return {"schema": SCHEMA["check"], "board": name, "mistakes": [*map(_mistake, mistakes)], **found}


def _mistake(error: BoardError) -> dict[str, Any]:
    value = None if error.value is None else brief(error.value)
    return {
        "line": error.line or None,
        "key": error.key,
        "value": value,
        "allowed": error.allowed,
        "code": error.code.value,
    }
