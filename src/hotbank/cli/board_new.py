# SPDX-License-Identifier: Apache-2.0
"""``hotbank board new``: a board file from options, from answers, or from what this host has."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from hotbank import board as boards
from hotbank import kernels
from hotbank.board import TABLES
from hotbank.cli.context import Context
from hotbank.cli.looking import sysroot_option
from hotbank.cli.screen import is_terminal
from hotbank.cli.terminal import say, say_text
from hotbank.draft import Section, Value, text
from hotbank.errors import BoardError
from hotbank.memory import KIB, format_size
from hotbank.numbers import literal
from hotbank.routes import ROUTES, removing

_HEAD = ("arch", "page_size", "block_size", "describe", "cmdline")


def _head_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each key above all tables, the name apart."""
    for key in reversed(_HEAD):
        command = click.option(f"--{key.replace('_', '-')}", metavar="VALUE", help=f"Its {key}.")(command)
    return command


@click.command("new", short_help="Write a board file.")
@click.argument("name", required=False)
@click.option("--from-host", is_flag=True, help="Propose what this host has: nodes, dax, virtio-mem, regulators.")
@_head_options
@click.option(
    "--bank", "banks", multiple=True, metavar="NAME,KEY=VALUE,...", help="A bank, with start and size at least."
)
@click.option(
    "--domain", "domains", multiple=True, metavar="NAME,KEY=VALUE,...", help='A power domain: states="on off"'
)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write there, and over nothing.")
@sysroot_option
@click.pass_obj
def new(
    context: Context,
    /,
    name: str | None,
    from_host: bool,
    banks: tuple[str, ...],
    domains: tuple[str, ...],
    output: str | None,
    sysroot: str | None,
    **head: str | None,
) -> None:
    """Write a board file: from the options, from what this host has, or from answers where neither is given.

    The keys are those of docs/board.md; a value with several words is a list: `off="ddrctl off"`.
    """
    given = {key: value for key, value in head.items() if value is not None}
    if from_host and (given or banks or domains):
        raise click.UsageError("--from-host takes all from the host: edit what it writes")
    if sysroot is not None and not from_host:
        raise click.UsageError("--sysroot has an effect with --from-host only")
    if from_host:
        sections = _proposed(context, name or "host", sysroot)
    elif banks or given:
        sections = _from_options(name or "mine", given, banks, domains)
    else:
        sections = _from_answers(name)
    _put(text(sections), output, anyway=not (from_host or banks or given))


def _put(board: str, output: str | None, *, anyway: bool) -> None:
    """To the file, else to standard output; only what is a board. ``anyway``: what is none is shown, too, since typing
    it again would be worse than mending it."""
    try:
        boards.loads(board)
    except BoardError as e:
        if anyway:
            say_text(board)
        raise click.UsageError("; ".join(str(BoardError(m.key, m.value, m.allowed)) for m in e.mistakes)) from e
    if output is None:
        say_text(board)
        return
    try:
        with open(output, "x", encoding="utf-8") as file:
            file.write(board)
    except FileExistsError as e:
        raise click.UsageError(f"{output} is there already") from e
    say(f"wrote {output}; next: hotbank board show {shlex.quote(output)}, hotbank board check {shlex.quote(output)}")


def _proposed(context: Context, name: str, sysroot: str | None) -> Sequence[Section]:
    if context.machine_name not in (None, "host"):
        raise click.UsageError("--from-host reads this host, or the tree of --sysroot, and not what -m names")
    from hotbank.host.proposal import propose
    from hotbank.host.tree import Tree

    return propose(Tree(sysroot or "/"), name)


# From options


def _from_options(name: str, head: dict[str, str], banks: Sequence[str], domains: Sequence[str]) -> list[Section]:
    tables = [_table("bank", words) for words in banks] + [_table("domain", words) for words in domains]
    return [Section("", {"name": name, **head}), *tables]


def _table(kind: str, words: str) -> Section:
    name, *pairs = words.split(",")
    parts = [pair.partition("=") for pair in pairs]
    if wrong := next((key for key, equals, _ in parts if not equals), None):
        raise click.UsageError(f"--{kind} {words}: {wrong!r} is no KEY=VALUE")
    return Section(f"{kind}.{name}", {key: _read(kind, key, value) for key, _, value in parts})


def _read(kind: str, key: str, word: str) -> Value:
    """A word of the command line as what TOML would have."""
    its = next((each for each in TABLES[kind] if each.name == key), None)
    if its is not None and isinstance(its.default, tuple):
        return _words(word)
    if word in ("true", "false"):
        return word == "true"
    number = literal(word)
    return word if number is None else number


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as e:
        raise click.UsageError(f"{text}: {e}") from e


# From answers


def _from_answers(name: str | None) -> list[Section]:
    if not is_terminal(sys.stdin):
        raise click.UsageError("give --from-host, or --block-size and a --bank at least; on a terminal it asks")
    head: dict[str, Value] = {"name": name or _ask("", "name", "Name of the board", "mine")}
    arch = str(_ask("", "arch", f"Architecture ({', '.join(kernels.ARCHES)})", kernels.DEFAULT_ARCH))
    its = kernels.arch(arch)
    head["arch"] = arch
    head["block_size"] = _ask("", "block_size", "Bytes of a memory block", format_size(its.block_size(4 * KIB)))
    head["describe"] = _ask("", "describe", f"Described by ({', '.join(boards.DESCRIPTIONS)})", its.firmware)
    banks = [*_banks()]
    wanted = dict.fromkeys(bank.keys["domain"] for bank in banks if "domain" in bank.keys)
    return [Section("", head), *banks, *(_domain(str(domain)) for domain in wanted)]


def _banks() -> Iterator[Section]:
    name = _name("Name of the lowest bank", "low")
    while name:
        yield Section(f"bank.{name}", _bank())
        name = _name("Name of the next bank (empty: no more)", "")


def _bank() -> dict[str, Value]:
    keys = {"start": _ask("bank", "start", "  First address, such as 0x40000000")}
    keys["size"] = _ask("bank", "size", "  Size, such as 256M")
    if not _agreed("  May it leave?", default=True):
        return keys
    keys |= {"movable": True, "at_boot": _agreed("  Is it in the kernel from boot on?", default=False)}
    keys["route"] = _ask("bank", "route", f"  Route ({', '.join(ROUTES)})", removing()[0])
    domain = _name("  Power domain (empty: nothing switches it)", "")
    return keys | ({"domain": domain} if domain else {})


def _domain(name: str) -> Section:
    say(f"Power domain {name}", err=True)
    switch = _ask("domain", "switch", f"  Switched by ({', '.join(boards.SWITCHES)})", "machine")
    states = _ask("domain", "states", "  States (on self-refresh off)", "on off")
    keys = {"switch": switch, "states": states}
    if switch == "regulator":
        keys["regulator"] = _ask("domain", "regulator", "  Name of the regulator")
    if switch == "command" and isinstance(states, list):
        keys |= {word: _ask("domain", word, f"  Program for {word}") for word in (*states, "status")}
    if _agreed("  Are its addresses spread over chips that stay powered?", default=False):
        keys["interleaved"] = True
    return Section(f"domain.{name}", keys)


def _ask(kind: str, key: str, question: str, default: str | None = None) -> Value:
    """An answer that the key takes: a wrong one is asked for again. Questions are no part of the output."""
    found = next(each for each in TABLES[kind] if each.name == key)

    def checked(word: str) -> Value:
        value = _read(kind, key, word)
        found.parse(value)
        return value

    answer: Value = click.prompt(question, default=default, value_proc=_again(checked), err=True)
    return answer


def _name(question: str, default: str) -> str:
    """A name for a table, or nothing."""
    ask = _again(lambda word: boards.table_name(word) if word else "")
    return str(click.prompt(question, default=default, show_default=bool(default), value_proc=ask, err=True))


def _agreed(question: str, *, default: bool) -> bool:
    return click.confirm(question, default=default, err=True)


def _again(check: Callable[[str], Value]) -> Callable[[str], Value]:
    """What a prompt asks again for: click wants its own error."""

    def checked(word: str) -> Value:
        try:
            return check(word)
        except ValueError as e:
            raise click.BadParameter(str(e)) from e

    return checked
