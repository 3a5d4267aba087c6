# SPDX-License-Identifier: Apache-2.0
"""The one place that prints.

Names, facts and remedies come from boards, firmware and machines at the far end of a wire: what of them would move the
cursor, begin a line or turn the direction of writing is shown and not obeyed.

JSON is for programs and stays exact: what a terminal would obey is escaped there by JSON's own means.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from hotbank.cli.screen import Line, Style, above, columns, has_colours, is_terminal, wrapped
from hotbank.errors import Code
from hotbank.operate.reasons import may_go

_DONE, _PERHAPS, _NO = Style(fg=2, bold=True), Style(fg=5, bold=True), Style(fg=1, bold=True)


def visible(text: str) -> str:
    r"""The text with each character that is none to be seen as an escape: ``\x1b``, ``\u202e``, ``\udc80``.

    Those are the controls of Unicode's categories Cc, Cf and Cs, line ends, and what is not assigned.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(number: int, noun: str, plural: str = "s") -> str:
    """``1 boot``, ``2 boots``; ``plural``: what is appended."""
    return f"{number} {noun}{'' if number == 1 else plural}"


def say(*lines: str, err: bool = False) -> None:
    """Print lines, each as one line whatever is in it; a terminal breaks them between words, if it must. ``err``: to
    standard error."""
    if lines:
        _put([visible(line) for line in lines], err)


def _put(lines: Sequence[str], err: bool) -> None:
    stream = sys.stderr if err else sys.stdout
    if not is_terminal(stream):
        _echo("\n".join(lines), err)
        return
    parts = (part for line in lines for part in wrapped(line, columns()))
    _show("\n".join(map(_with_codes, parts) if has_colours(stream) else parts), err)


def _show(text: str, err: bool = False) -> None:
    if not above(text):
        _echo(text, err)


def _with_codes(line: str) -> str:
    """Reason codes in colours: it is so, it may be, it is not."""
    codes = rf"\b({'|'.join(Code)})\b"  # costly to compile, so only where there are colours; re keeps it
    return re.sub(codes, lambda found: _style_of(Code(found[0])).paint(found[0]), line)


def _style_of(code: Code) -> Style:
    return _DONE if code is Code.OK else _PERHAPS if may_go(code) else _NO


def say_drawn(*lines: Line) -> None:
    """Print lines of a picture, in colours where there are some; each is as wide as it was drawn."""
    if lines:
        _show("\n".join(painted(line) for line in lines))


def painted(line: Line) -> str:
    """The line as it goes to standard output."""
    colours = has_colours(sys.stdout)
    parts = ((visible(text), style) for text, style in line)
    return "".join(style.paint(text) if colours else text for text, style in parts)


def _echo(text: str, err: bool = False) -> None:
    """Nothing where the caller closed the stream, which click before 8.1.4 does not bear. Raises an OSError that names
    the stream."""
    if (sys.stderr if err else sys.stdout) is not None:
        try:
            click.echo(text, err=err)
        except OSError as e:
            e.filename = "standard error" if err else "standard output"
            raise


def say_text(text: str, *, err: bool = False) -> None:
    """Print a text that ends with its last line; only ``\\n`` ends one."""
    say(*text.split("\n")[:-1], err=err)


def json_text(document: Any, indent: int | None = None) -> str:
    """The document in ASCII without a control character in any string."""
    return json.dumps(document, indent=indent).replace("\x7f", "\\u007f")


def say_json(document: Any, indent: int | None = None) -> None:
    """Print one JSON document, on one line unless it is indented."""
    _echo(json_text(document, indent))


def say_over(text: str) -> None:
    """Print to standard error in place of what stood on the line, which does not end; no text clears it."""
    click.echo(f"\r\033[K{visible(text)}", err=True, nl=False)
