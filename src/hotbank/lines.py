# SPDX-License-Identifier: Apache-2.0
"""On which line of a TOML text each key stands, which ``tomllib`` does not tell.

Statements are told apart here (https://toml.io/en/v1.0.0), since only strings, comments and brackets can hide a line
end; what a statement names, ``tomllib`` itself is asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

_TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}'''
    r"""|'{3}.*?'{3,5}"""
    r'''|"(?:\\.|[^"\\\n])*"'''
    r"""|'[^'\n]*'"""
    r"|\#[^\n]*|[\[\]{}\n]|[^\[\]{}\"'#\n]+|.",
    re.DOTALL,
)
_DEPTH = {"[": 1, "{": 1, "]": -1, "}": -1}


def of_keys(text: str) -> Mapping[str, int]:
    """The line, from 1 on, of each table and key of a valid TOML text by its whole name: ``bank.low.start``, and
    ``growth[1].rate`` in the second ``[[growth]]``, of which ``growth`` is the first."""
    import tomllib

    found: dict[str, int] = {}
    table, arrays = "", Counter[str]()
    for line, statement in _statements(text):
        name = _name(tomllib.loads(statement))
        if statement.startswith("[["):
            table = f"{name}[{arrays[name]}]"
            arrays[name] += 1
            found.setdefault(name, line)
        elif statement.startswith("["):
            table = name
        for key in _with_parents(table if statement.startswith("[") else f"{table}.{name}".lstrip(".")):
            found.setdefault(key, line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement, with 0 for its value, and the line on which it begins."""
    line = start = 1
    depth, parts = 0, list[str]()
    for token in [*_TOKEN.findall(text), "\n"]:
        depth += _DEPTH.get(token, 0)
        line += token.count("\n")
        if token == "\n" and not depth:
            if statement := _head(parts).strip():
                yield start, statement
            start, parts = line, []
        elif not token.startswith("#"):
            parts.append(token)


def _head(parts: list[str]) -> str:
    """Without the value, which can be as deep as a whole file may be."""
    for at, part in enumerate(parts):
        key, equals, _ = part.partition("=")
        if equals and part[0] not in "\"'":
            return f"{''.join(parts[:at])}{key}= 0"
    return "".join(parts)


def _name(value: Any) -> str:
    """What a statement names: the one key of the table that it makes, and the one below that, and so on."""
    names = []
    while isinstance(value, dict) and len(value) == 1:
        ((name, value),) = value.items()
        names.append(name)
    return ".".join(names)


def _with_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]
