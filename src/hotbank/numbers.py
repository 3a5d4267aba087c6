# SPDX-License-Identifier: Apache-2.0
"""Numbers that others wrote, each within bounds before anything is made of it.

Python's own ``int`` and ``float`` take thousands of digits, other scripts' digits, underscores, infinity and what is no
number. Who decodes text or a document from outside asks here.
"""

from __future__ import annotations

import re
from typing import TypeGuard

U63, U64 = 1 << 63, 1 << 64
LARGEST = float(1 << 53)  # what is no whole number is of seconds or shares, and exact up to here
_DIGITS = {10: frozenset("0123456789"), 16: frozenset("0123456789abcdefABCDEF")}
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?")


def digits(text: str, base: int = 10, *, limit: int = U63) -> int | None:
    """The number below ``limit`` (2**64 at most) that the text is, digit by digit; None for any other text."""
    plain = 0 < len(text) <= 20 and _DIGITS[base].issuperset(text)
    value = int(text, base) if plain else limit
    return value if value < limit else None


def literal(text: str, *, limit: int = U63) -> int | None:
    """The same of a decimal number, or of a hexadecimal one that begins with ``0x``."""
    hexadecimal = text[:2] in ("0x", "0X")
    return digits(text[2:], 16, limit=limit) if hexadecimal else digits(text, limit=limit)


def decimal(text: str) -> float | None:
    """The number that the text is, with or without point and exponent; None for any other text, and beyond 2**53."""
    return finite(float(text)) if _DECIMAL.fullmatch(text) else None


def finite(value: object) -> float | None:
    """A number of a document (JSON, TOML) as float; None for anything else, what is no number, and beyond 2**53."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        return None
    return float(value)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number of a document that 64 bits hold, with a sign or without."""
    return isinstance(value, int) and not isinstance(value, bool) and -U63 <= value < U64
