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


def kstrtobool(word: str) -> bool | None:
    """lib/kstrtox.c, ``kstrtobool``: by the first letters. None for what the kernel refuses."""
    first, second = word[:1].lower(), word[1:2].lower()
    if first and first in "1yt":
        return True
    if first and first in "0nf":
        return False
    return {"n": True, "f": False}.get(second) if first == "o" else None


_UINT = re.compile(r"\+?(0[xX][0-9a-fA-F]{1,8}|0[0-7]{0,11}|[1-9][0-9]{0,9})\n?")


def kstrtouint(word: str) -> int | None:
    """lib/kstrtox.c, ``kstrtouint`` in any base, without a suffix. None for what the kernel refuses."""
    match = _UINT.fullmatch(word)
    digits = match[1] if match else ""
    base = 16 if digits[:2].lower() == "0x" else 8 if digits[:1] == "0" else 10
    value = int(digits, base) if digits else 1 << 32
    return value if value < 1 << 32 else None
