# SPDX-License-Identifier: Apache-2.0
"""Patterns as fnmatch(3) of the C library takes them without flags, which is what udev matches with: ``[^a]`` is
``[!a]``, there are classes (``[[:digit:]]``), and a backslash takes the meaning from what follows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

_CHARACTER = r"\\.|[^\\]"
_BODY = r"\]?+(?:\[:[a-z]+:\]|\\.|[^\]\\])*"
_WILD = re.compile(rf"\[(?:[!^]?+{_BODY}\])?|\\.?|[*?]", re.DOTALL)
_WILD_BUT_BRACKETS = re.compile(r"\\.?|[*?]", re.DOTALL)

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
_NOTHING = "(?!)"


def wild(pattern: str) -> Iterator[re.Match[str]]:
    """The pieces of a pattern that are no plain characters. Behind a bracket that has no end none has one: a line may
    have thousands."""
    kind, at = _WILD, 0
    while (piece := kind.search(pattern, at)) is not None:
        if piece[0] == "[":
            kind = _WILD_BUT_BRACKETS
        else:
            yield piece
        at = piece.end()


def matches(pattern: str, text: str) -> bool:
    """True if the pattern takes the whole text."""
    return any_matches((pattern,), text)


def any_matches(patterns: tuple[str, ...], text: str) -> bool:
    """True if one of the patterns takes the whole text. All are tried at once: a line may have thousands."""
    return _compiled(patterns).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(_translated, patterns)), re.DOTALL)


def _translated(pattern: str) -> str:
    """The first place where what stands between two stars fits is as good as any later one, so that no other is tried:
    a pattern may have many stars."""
    pieces, at = [""], 0
    for piece in wild(pattern):
        pieces[-1] += re.escape(pattern[at : piece.start()])
        if piece[0] == "*":
            pieces.append("")
        else:
            pieces[-1] += _wild(piece[0])
        at = piece.end()
    first, *rest = (*pieces[:-1], pieces[-1] + re.escape(pattern[at:]))
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1] if piece)
    return f"{first}{middle}.*{rest[-1]}" if rest else first


def _wild(piece: str) -> str:
    if piece == "?":
        return "."
    if piece.startswith("\\"):
        return re.escape(piece[1]) if piece[1:] else _NOTHING
    negated = piece[1] in "!^"
    items = [_item(item) for item in _ITEM.finditer(piece[1 + negated : -1])]
    return _NOTHING if None in items else f"[{'^' if negated else ''}{''.join(filter(None, items))}]"


def _item(item: re.Match[str]) -> str | None:
    """None for a class that there is not, or a range that runs backwards: with it a pattern takes nothing."""
    if item["kind"]:
        return _KINDS.get(item["kind"])
    first, last = (item[end][-1] for end in ("first", "last" if item["last"] else "first"))
    return f"\\U{ord(first):08x}-\\U{ord(last):08x}" if first <= last else None
