# SPDX-License-Identifier: Apache-2.0
"""The man pages, from what the program itself says: the help of every command, and docs/reasons.md.

One page for the program, one for each section of its help. roff by man(7): requests start a line, so text that starts
with a dot or an apostrophe is guarded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from hotbank import __version__
from hotbank.cli import SECTIONS, cli

REASONS = Path(__file__).parents[1] / "docs" / "reasons.md"
_EXIT = re.compile(r"^\| (\d+) \| (.*) \|$", re.MULTILINE)
_CODE = re.compile(r"^### ([A-Z_]+)\n\n(.*?)(?=\n\n#|\Z)", re.MULTILINE | re.DOTALL)


def pages() -> dict[str, str]:
    """Each page as roff, by the name of its file."""
    context = click.Context(cli, info_name="hotbank", **cli.context_settings)
    made = {"hotbank.1": _joined(_overview(context))}
    return made | {f"{_page(section)}.1": _joined(_section(section, context)) for section in SECTIONS}


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _page(section: str) -> str:
    return f"hotbank-{section.lower()}"


def _overview(context: click.Context) -> Iterator[str]:
    """The program: its own options, its commands with one line each, how they end."""
    first, *more = _paragraphs(cli.help or "")
    yield from _head("hotbank", first)
    yield from (".SH SYNOPSIS", ".B hotbank", _text("[OPTIONS] COMMAND [ARGS]..."))
    yield from (".SH DESCRIPTION", *_body([first, *more]))
    yield from (".SH OPTIONS", *_options(cli, context))
    yield ".SH COMMANDS"
    for section, names in SECTIONS.items():
        yield from (".SS", f"{section}: {_text(_page(section))}(1)")
        for name in names:
            yield from (".TP", f".B {name}", _text(_known(name, context).get_short_help_str(limit=200)))
    yield from _reasons(REASONS.read_text(encoding="utf-8"))
    yield from _see_also((_page(section), "1") for section in SECTIONS)


def _section(section: str, context: click.Context) -> Iterator[str]:
    """The commands of a section, each with all that its help says."""
    names = list(SECTIONS[section])
    yield from _head(_page(section), f"{', '.join(names)}: commands of hotbank")
    yield from (".SH SYNOPSIS", *_synopsis(names))
    yield from (".SH DESCRIPTION", ".PP", "What hotbank is, the option")
    yield from (_text("-m") + ", which names a machine, exit statuses and reason codes:", ".BR hotbank (1).")
    yield ".SH COMMANDS"
    for name in names:
        command = _known(name, context)
        yield from _command(command, click.Context(command, info_name=name, parent=context))
    others = (_page(other) for other in SECTIONS if other != section)
    yield from _see_also((name, "1") for name in ("hotbank", *others))


def _head(name: str, what: str) -> Iterator[str]:
    yield f'.TH {_text(name.upper())} 1 "" "hotbank {__version__}" "User Commands"'
    yield from (".SH NAME", f"{_text(name)} \\- {_text(what[0].lower() + what[1:].removesuffix('.'))}")


def _synopsis(names: Iterable[str]) -> Iterator[str]:
    for at, name in enumerate(names):
        yield from (*((".br",) if at else ()), ".B hotbank", _text(f"[OPTIONS] {name} [ARGS]..."))


def _see_also(pages: Iterable[tuple[str, str]]) -> Iterator[str]:
    *more, last = (f".BR {_text(name)} ({section})" for name, section in (*pages, ("lsmem", "1"), ("chmem", "8")))
    yield from (".SH SEE ALSO", *(f"{line}," for line in more), last)


def _known(name: str, context: click.Context) -> click.Command:
    command = cli.get_command(context, name)
    assert command is not None, f"{name} is in SECTIONS and is no command"
    return command


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    """A command with its options; of a group, all the commands below it."""
    usage = command.collect_usage_pieces(context)
    yield f'.SS "{_text(" ".join([context.command_path, *usage]))}"'
    yield from _body(_paragraphs(command.help or ""))
    yield from _options(command, context)
    for name, below in sorted(command.commands.items()) if isinstance(command, click.Group) else ():
        yield from _command(below, click.Context(below, info_name=name, parent=context))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Options with their help. That each command has --help is said once, at the top."""
    own = command.get_params(context) if context.parent is None else command.params
    for parameter in own:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            yield from (".TP", f".B {_text(record[0])}", _text(record[1]))


def _reasons(text: str) -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for status, meaning in _EXIT.findall(text):
        yield from (".TP", f".B {status}", _text(_plain(meaning)))
    yield ".SH REASON CODES"
    for code, paragraphs in _CODE.findall(text):
        first, *more = _paragraphs(_plain(paragraphs))
        yield from (".TP", f".B {code}", _text(first))
        for paragraph in more:
            yield from (".IP", _text(paragraph))


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip())]


def _body(paragraphs: list[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from (".PP", _text(paragraph))


def _plain(markdown: str) -> str:
    """Without link targets and code marks."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "").replace("**", "")


def _text(text: str) -> str:
    guarded = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    return r"\&" + guarded if guarded.startswith((".", "'")) else guarded
