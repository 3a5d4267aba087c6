# SPDX-License-Identifier: Apache-2.0
"""Write hotbank.1 from what the program itself says: the help of every command, and docs/reasons.md.

``make man`` puts it into build/man. roff by man(7): requests start a line, so text that starts with a dot or an
apostrophe is guarded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from hotbank import __version__
from hotbank.cli import SECTIONS, cli

REASONS = Path(__file__).parents[1] / "docs" / "reasons.md"
_EXIT = re.compile(r"^\| (\d+) \| (.*) \|$", re.MULTILINE)
_CODE = re.compile(r"^### ([A-Z_]+)\n\n(.*?)(?=\n\n#|\Z)", re.MULTILINE | re.DOTALL)


def page() -> str:
    """The whole page as roff."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    context = click.Context(cli, info_name="hotbank", **cli.context_settings)
    yield f'.TH HOTBANK 1 "" "hotbank {__version__}" "User Commands"'
    first, *more = _paragraphs(cli.help or "")
    yield from (".SH NAME", r"hotbank \- " + _text(first[0].lower() + first[1:].removesuffix(".")))
    yield from (".SH SYNOPSIS", r".B hotbank", _text("[OPTIONS] COMMAND [ARGS]..."))
    yield from (".SH DESCRIPTION", *_body([first, *more]))
    yield from (".SH OPTIONS", *_options(cli, context))
    for section, names in SECTIONS.items():
        yield f".SH {section.upper()}"
        for name in names:
            command = cli.get_command(context, name)
            assert command is not None, f"{name} is in SECTIONS and is no command"
            yield from _command(command, click.Context(command, info_name=name, parent=context))
    yield from _reasons(REASONS.read_text(encoding="utf-8"))
    yield from (".SH SEE ALSO", ".BR lsmem (1),", ".BR chmem (8)")


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


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(), encoding="utf-8")
