# SPDX-License-Identifier: Apache-2.0
"""Times as people give them and read them."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from hotbank.numbers import decimal

_LONGEST = 1e9  # seconds, 31 years


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
