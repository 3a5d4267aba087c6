# SPDX-License-Identifier: Apache-2.0
"""What all grammars draw from: numbers and words that decoders get wrong, documents with a branch changed, and values
of any type that crosses a wire, made from the type itself."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from random import Random
from typing import Any

from hotbank.errors import Code, HotbankError, KernelError, Refusal

BITS = (0, 1, 7, 8, 12, 15, 16, 21, 24, 30, 31, 32, 33, 40, 47, 52, 53, 62, 63, 64, 65, 128)
NUMBERS = (
    "-1",
    "-0",
    "+1",
    "0x",
    "0b1",
    "1_000",
    "00",
    "1e5",
    "1.5",
    "1e308",
    "-1e308",
    "5e-324",
    "nan",
    "inf",
    "9" * 25,
)
WORDS = (
    "",
    " ",
    "\0",
    "\x1b[2J",
    "\x9b",
    "\u202e",
    "\u0664",
    "²",
    "ﬁ",
    "a" * 300,
    "memory4",
    "4",
    "/x",
    "..",
    "%s",
    "\ud800",
)
HUGE = "9" * 5000


class Raw(str):
    """Written into a document as it is: a number of any form, or what is none."""

    __slots__ = ()


def number(rng: Random) -> int:
    """Mostly near a power of two, where fields end."""
    return (1 << rng.choice(BITS)) + rng.choice((-1, 0, 0, 1, rng.randrange(1 << 12)))


def numeral(rng: Random) -> str:
    """A number as somebody may write it."""
    value = number(rng)
    plain = (str(value), hex(value), f"{value:x}", f"{value:o}", f"{value:#o}")
    return rng.choice((*plain, *plain, *NUMBERS, HUGE if rng.random() < 0.1 else "0"))


def some(rng: Random, make: Callable[[Random], Any], most: int) -> list[Any]:
    """None to ``most`` of them; few most of the time."""
    return [make(rng) for _ in range(rng.choice((0, 1, 1, 2, 3, most)))]


# Text of lines and numbers


def reworded(rng: Random, text: str, words: Sequence[str] = WORDS) -> str:
    """Some of its numbers and words replaced, and some of its lines left out, doubled or swapped."""
    lines = text.splitlines(keepends=True)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(lines)) if lines else 0
        kind = rng.randrange(5)
        if kind == 0:
            del lines[at : at + 1]
        elif kind == 1:
            lines[at:at] = lines[at : at + 1] * rng.choice((1, 2, 50))
        elif kind == 2 and len(lines) > 1:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif lines:
            lines[at] = _reworded_line(rng, lines[at], words)
    return "".join(lines)


def _reworded_line(rng: Random, line: str, words: Sequence[str]) -> str:
    parts = line.split(" ")
    at = rng.randrange(len(parts))
    end = "\n" if parts[at].endswith("\n") else ""
    parts[at] = rng.choice((numeral(rng), rng.choice(words), parts[at][: len(parts[at]) // 2])) + end
    return " ".join(parts)


# Documents, as TOML and JSON have them


def grown(rng: Random, tree: Any, keys: Sequence[str]) -> Any:
    """The document with up to four changes somewhere in it. ``keys``: names that mean something there."""
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        tree = _changed(rng, tree, keys)
    return tree


def _changed(rng: Random, tree: Any, keys: Sequence[str]) -> Any:
    if isinstance(tree, dict) and tree and rng.random() < 0.8:
        key = rng.choice([*tree])
        kind = rng.randrange(6)
        if kind == 0:
            return {k: v for k, v in tree.items() if k != key}
        if kind == 1:
            return tree | {rng.choice(keys): tree[key]}
        return tree | {key: _changed(rng, tree[key], keys)}
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        at = rng.randrange(len(tree))
        return rng.choice(
            ([*tree, tree[at]], [*tree[:at], *tree[at + 1 :]], [*tree[:at], _changed(rng, tree[at], keys)])
        )
    return leaf(rng, tree)


def leaf(rng: Random, old: Any) -> Any:
    """Something else in the place of ``old``."""
    hostile: list[Any] = [Raw(numeral(rng)), rng.choice(WORDS), number(rng), -1, True, 0.5, [], {}, [old], {"a": old}]
    return rng.choice([*hostile, nested(rng)])


def nested(rng: Random) -> Raw:
    """Lists in lists, at times more than any reader likes."""
    depth = rng.choice((3, 50, 5000))
    return Raw("[" * depth + "]" * depth)


def json_text(tree: Any) -> str:
    """The document as JSON, with what is Raw as it is."""
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, Mapping):
        return "{" + ",".join(f"{json.dumps(key)}:{json_text(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list | tuple):
        return "[" + ",".join(map(json_text, tree)) + "]"
    return json.dumps(tree)


def toml_text(tree: Mapping[str, Any]) -> str:
    """The document as TOML, one line a key."""
    return "".join(f"{_toml_key(key)} = {_toml(value)}\n" for key, value in tree.items())


def _toml(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_key(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _toml_key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


# What crosses a wire


def document_of(rng: Random, hint: Any, harm: float = 0.02) -> Any:
    """A document that ``wire.decode`` reads as ``hint``, with every part of it replaced with probability ``harm``."""
    if rng.random() < harm:
        return leaf(rng, None)
    hint = getattr(hint, "__supertype__", hint)
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return document_of(rng, rng.choice(inside), harm)
    if origin is tuple:
        kinds = [inside[0]] * rng.choice((0, 1, 1, 2, 9)) if inside[1:] == (Ellipsis,) else inside
        return [document_of(rng, kind, harm) for kind in kinds]
    if origin is not None and issubclass(origin, Mapping):
        return {str(plain(rng, inside[0])): document_of(rng, inside[1], harm) for _ in range(rng.randrange(3))}
    if hint is HotbankError:
        return error_of(rng, harm)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return {f.name: document_of(rng, hints[f.name], harm) for f in dataclasses.fields(hint)}
    return plain(rng, hint)


def plain(rng: Random, hint: Any) -> Any:
    """A leaf: a word of an enumeration, a number, a text."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return rng.choice([*hint]).value
    made: dict[Any, Callable[[], Any]] = {
        int: lambda: rng.choice((0, 1, 4, 16, 64, number(rng))),
        float: lambda: rng.choice((0.0, 1, 0.25, 1e9, float(number(rng)))),
        bool: lambda: rng.random() < 0.5,
        str: lambda: rng.choice(("high", "memory4", "Movable", "", rng.choice(WORDS))),
    }
    return made[hint]() if hint in made else None


def error_of(rng: Random, harm: float) -> Any:
    """An error as it crosses the wire."""
    refusal = Refusal(rng.choice([*Code]), rng.choice(WORDS[1:]), remedy=rng.choice(WORDS))
    kernel = KernelError(rng.choice((0, 4, 16, 133, 4095, number(rng))), "memory4", detail=rng.choice(WORDS))
    chosen: HotbankError = rng.choice((refusal, kernel))
    fields = ("message", "remedy") if isinstance(chosen, Refusal) else ("errno", "what", "detail")
    document: dict[str, Any] = {"type": type(chosen).__name__, "code": chosen.code.value}
    document |= {name: getattr(chosen, name) for name in fields}
    return {key: leaf(rng, value) if rng.random() < harm else value for key, value in document.items()}
