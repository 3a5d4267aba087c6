# SPDX-License-Identifier: Apache-2.0
"""What ``hotbank auto run --record`` wrote, a JSON line a look (govern/status.py), as a demand series.

A look says what was in use and could not be dropped, and no more: all of it counts as memory of processes, and page
cache as none. The machine is what was in the kernel and what was out. Blind looks say nothing and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hotbank.errors import FormatError
from hotbank.numbers import finite

FORM = "record of looks"


@dataclass(frozen=True, slots=True)
class Look:
    """Seconds since 1970, and bytes: in use, and of the machine."""

    at: float
    used: int
    total: int


def is_record(text: str) -> bool:
    """Whether it may be one."""
    return text.lstrip()[:1] == "{"


def loads(text: str) -> Iterator[Look]:
    """Every look that saw something. Raises FormatError with the line."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and (look := _look(_document(line, number), number)) is not None:
            yield look


def _document(line: str, number: int) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise FormatError(FORM, 0, f"line {number}", "no JSON; was it cut off there?") from e
    if not isinstance(found, dict):
        raise FormatError(FORM, 0, f"line {number}", "not a look")
    return found


def _look(found: Mapping[str, Any], number: int) -> Look | None:
    if found.get("blind"):
        return None
    groups = found.get("groups")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise FormatError(FORM, 0, f"line {number}, groups", "not a list of groups")
    out = sum(_number(group, "size", number) for group in groups if group.get("dark"))
    total = _number(found, "supply", number) + out
    return Look(_number(found, "at", number), round(_number(found, "used", number)), round(total))


def _number(found: Mapping[str, Any], key: str, line: int) -> float:
    value = finite(found.get(key))
    if value is None or value < 0:
        raise FormatError(FORM, 0, f"line {line}, {key}", "no number from 0 to 2**53")
    return value
