# SPDX-License-Identifier: Apache-2.0
"""Patterns as fnmatch(3) of the C library takes them without flags, which is what udev matches with: ``[^a]`` is
``[!a]``, there are classes (``[[:digit:]]``), and a backslash takes the meaning from what follows."""

from __future__ import annotations

import re
from functools import lru_cache

_CHARACTER = r"\\.|[^\\]"
_BODY = r"\]?(?:\[:[a-z]+:\]|\\.|[^\]\\])*"
WILD = re.compile(rf"\[[!^]?{_BODY}\]|\\.|[*?]", re.DOTALL)
"""A piece of a pattern that is no plain character."""

_ITEM = re.compile(rf"\[:(?P<kind>[a-z]+):\]|(?P<first>{_CHARACTER})(?:-(?P<last>{_CHARACTER}))?", re.DOTALL)
_KINDS = {
    "digit": "0-9",
    "xdigit": "0-9A-Fa-f",
    "lower": "a-z",
    "upper": "A-Z",
    "alpha": "A-Za-z",
    "alnum": "0-9A-Za-z",
    "blank": r" \t",
    "space": r" \t\n\v\f\r",
    "punct": r"!-/:-@\[-`{-~",
    "graph": "!-~",
    "print": " -~",
    "cntrl": r"\x00-\x1f\x7f",
}


def matches(pattern: str, text: str) -> bool:
    """True if the pattern takes the whole text."""
    compiled = _compiled(pattern)
    return compiled is not None and compiled.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """None for one that takes nothing: with a class that there is not, or a range that runs backwards."""
    parts, at = list[str](), 0
    for wild in WILD.finditer(pattern):
        parts += [re.escape(pattern[at : wild.start()]), _wild(wild[0])]
        at = wild.end()
    try:
        return re.compile("".join([*parts, re.escape(pattern[at:])]), re.DOTALL)
    except re.error:
        return None


def _wild(piece: str) -> str:
    if piece in "*?":
        return {"*": ".*", "?": "."}[piece]
    if piece.startswith("\\"):
        return re.escape(piece[1])
    negated = piece[1] in "!^"
    items = "".join(_item(item) for item in _ITEM.finditer(piece[1 + negated : -1]))
    return f"[{'^' if negated else ''}{items}]"


def _item(item: re.Match[str]) -> str:
    if item["kind"]:
        return _KINDS.get(item["kind"], "z-a")
    first, last = (f"\\U{ord(item[end][-1]):08x}" for end in ("first", "last" if item["last"] else "first"))
    return f"{first}-{last}"
