# SPDX-License-Identifier: Apache-2.0
"""Times as people give them and read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from hotbank.machine import Clock
from hotbank.numbers import decimal

_LONGEST = 1e9  # seconds, 31 years
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Seconds(click.ParamType):  # type: ignore[type-arg]  # Debian 12 has click 8.1, where it is no generic
    """More than 0 seconds, 31 years at most."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = value if isinstance(value, float) else decimal(str(value))
        if found is None or not 0 < found <= _LONGEST:
            self.fail(f"{value!r} is no number of seconds above 0 and up to 1e9", param, ctx)
        return found


def date(seconds: float) -> str:
    """Seconds since 1970 as a date in UTC; a time that no calendar has as it is."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return f"{seconds:g} s"


def duration(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Seconds above 0, from a number with s, m, h or d, or without. Raises BadParameter."""
    found = None if value is None else re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value)
    seconds = (decimal(found[1]) or 0.0) * _UNITS[found[2]] if found else 0.0
    if value is not None and seconds <= 0:
        raise click.BadParameter(f"{value!r} is no duration such as 10s, 5m or 1d")
    return None if value is None else seconds


def ticks(clock: Clock, every: float, length: float | None) -> Iterator[float]:
    """Seconds since the first, on a grid: a late sample makes the next no later. Points that have passed, while this
    was stopped or the machine slept, are left out. ``length``: seconds until the last; None: there is none."""
    began, number = clock.now(), 0
    while length is None or number * every <= length:
        clock.sleep(max(0.0, began + number * every - clock.now()))
        yield clock.now() - began
        number = max(number, int((clock.now() - began) // every)) + 1
