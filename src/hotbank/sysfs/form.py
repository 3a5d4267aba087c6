# SPDX-License-Identifier: Apache-2.0
"""How one file reads: its text as a value, and the value as the text that a kernel would print.

The law is ``parse(show(x)) == x`` for every value that a kernel can mean; ``files.FILES`` lists the files that keep it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from hotbank.errors import FormatError
from hotbank.numbers import digits, literal

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_BITS = "must be a number of 63 bits"


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """``parse`` takes a file's text, with or without its last newline, and raises FormatError. ``show`` is its text."""

    parse: Callable[[str], T]
    show: Callable[[T], str]


def decimal(name: str) -> Form[int]:
    """A number below 2**63 in decimal digits (``%d``, ``%lu``)."""
    return Form(lambda text: _number(name, text, 10), lambda value: f"{value}\n")


def number(name: str) -> Form[int]:
    """A number below 2**63 in decimal digits, or hexadecimal with ``0x`` before it (``%#llx``)."""

    def parse(text: str) -> int:
        found = literal(text.strip())
        if found is None:
            raise wrong(name, text, _BITS)
        return found

    return Form(parse, lambda value: f"{value:#x}\n")


def signed(name: str) -> Form[int]:
    """A number in decimal digits, with a sign below 0 (``%ld``)."""

    def parse(text: str) -> int:
        plain = text.strip()
        value = _number(name, plain.removeprefix("-"), 10)
        return -value if plain.startswith("-") else value

    return Form(parse, lambda value: f"{value}\n")


def hexadecimal(name: str, show: str = "x") -> Form[int]:
    """A number below 2**63 in hexadecimal digits, read with ``0x`` or without. ``show``: its format specification."""
    return Form(lambda text: _number(name, text, 16), lambda value: f"{value:{show}}\n")


def word(name: str, words: type[E]) -> Form[E]:
    """One of these words."""

    def parse(text: str) -> E:
        try:
            return words(text.strip())
        except ValueError:
            raise wrong(name, text, f"must be one of {', '.join(words)}") from None

    return Form(parse, lambda value: f"{value.value}\n")


def flag(name: str, no: str, yes: str) -> Form[bool]:
    """One of two words."""
    values = {no: False, yes: True}

    def parse(text: str) -> bool:
        if text.strip() not in values:
            raise wrong(name, text, f"must be {no} or {yes}")
        return values[text.strip()]

    return Form(parse, lambda value: f"{yes if value else no}\n")


def wrong(name: str, text: str, problem: str) -> FormatError:
    """The error for a file of that name with this text."""
    return FormatError(name, 0, "text", f"{text.strip()[:40]!r} {problem}")


def _number(name: str, text: str, base: int) -> int:
    found = digits(text.strip().removeprefix("0x" if base == 16 else ""), base)
    if found is None:
        raise wrong(name, text, _BITS)
    return found
