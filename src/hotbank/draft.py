# SPDX-License-Identifier: Apache-2.0
"""A board file in the making: tables with their keys, and remarks beside them, as TOML text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Value = bool | int | float | str | Sequence[str]

_ADDRESS = 4096  # a whole number from here on is an address


@dataclass(frozen=True, slots=True)
class Section:
    """One table: its header, ``""`` for what stands above all tables, and its keys. ``remarks`` come first."""

    header: str
    keys: Mapping[str, Value]
    remarks: tuple[str, ...] = ()


def text(sections: Iterable[Section]) -> str:
    """The file."""
    return "\n\n".join("\n".join(_lines(section)) for section in sections) + "\n"


def _lines(section: Section) -> Iterator[str]:
    for remark in section.remarks:
        yield "# " + "".join(c if c.isprintable() else "?" for c in remark)
    if section.header:
        yield f"[{section.header}]"
    for key, value in section.keys.items():
        yield f"{key} = {_value(value)}"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return f"{value:#x}" if value >= _ADDRESS else str(value)
    if isinstance(value, float):
        return repr(value)
    return f"[{', '.join(map(_quoted, value))}]"


def _quoted(word: str) -> str:
    """A basic string of TOML: what a terminal would obey is escaped."""
    return '"' + "".join(_escaped(c) for c in word) + '"'


def _escaped(c: str) -> str:
    if c in '\\"':
        return "\\" + c
    return c if c.isprintable() else f"\\U{ord(c):08x}"
