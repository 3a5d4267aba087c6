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

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_DIGITS = {10: frozenset("0123456789"), 16: frozenset("0123456789abcdefABCDEF")}
_LONGEST, _LIMIT = 19, 1 << 63


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """``parse`` takes a file's text, with or without its last newline, and raises FormatError. ``show`` is its text."""

    parse: Callable[[str], T]
    show: Callable[[T], str]


def decimal(name: str) -> Form[int]:
    """A number below 2**63 in decimal digits (``%d``, ``%lu``)."""
    return Form(lambda text: _number(name, text, 10), lambda value: f"{value}\n")


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
        raise wrong(name, text, "must be a number of 63 bits")
    return found


def digits(text: str, base: int = 10) -> int | None:
    """The number below 2**63 that the text is, digit by digit; None for any other text."""
    plain = 0 < len(text) <= _LONGEST and _DIGITS[base].issuperset(text)
    value = int(text, base) if plain else _LIMIT
    return value if value < _LIMIT else None
