# SPDX-License-Identifier: Apache-2.0
"""Moments as people and tools write them beside what they record.

Of names of time zones nobody knows which they are: it is the clock on the wall of one machine, and only differences
count.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from hotbank.numbers import decimal

_LONGEST = 80  # characters
_IN_SECONDS = 1e11  # later than year 5000; a greater number counts milliseconds, or less
_AROUND = re.compile(r"^[\W_]*(?:(?:zzz|date|time|timestamp|ts)\b\W*)?|[\W_]+$", re.IGNORECASE)
_ZONE = re.compile(r"(?<=:[0-9][0-9]) +(?:[A-Z]{2,5}|UTC[+-][0-9]{1,2}(?::[0-9][0-9])?)$")
_FORMS = ("%Y/%m/%d %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S")
_CLOCK = re.compile(
    r"(?<![0-9])(?P<time>[0-9]{1,2}:[0-9][0-9]:[0-9][0-9])(?:[.,][0-9]+)?(?: ?(?P<half>[AP]M)\b)?", re.IGNORECASE
)
_YEAR = re.compile(r"(?<![0-9])(?:19|20)[0-9][0-9](?![0-9])")
_DAYS = (  # in some languages a day of the week begins as a month does
    re.compile(r"(?<![0-9:])(?P<day>[0-9]{1,2})\.? (?P<name>[^\W\d_]{3,9})"),
    re.compile(r"(?P<name>[^\W\d_]{3,9})\.? +(?P<day>[0-9]{1,2})(?![0-9:])"),
)
_NUMBERED = re.compile(r"(?P<month>[0-9]{1,2})[月월] *(?P<day>[0-9]{1,2})[日일]")
_MONTHS = (  # as they begin in languages that Debian's installer offers most
    *(("jan", "ene", "gen"), ("feb", "fév", "fev"), ("mar", "mär", "mrt"), ("apr", "avr", "abr")),
    *(("may", "mai", "maj", "mei", "mag"), ("jun", "juin", "giu"), ("jul", "juil", "lug"), ("aug", "aoû", "ago")),
    *(("sep", "set"), ("oct", "okt", "ott", "out"), ("nov",), ("dec", "dez", "déc", "dic")),
)
_NO_YEAR = "2000"  # which has all days


def seconds(text: str) -> float | None:
    """Seconds since 1970, from those, from a date and time as date(1), a log or a mail has it; or since the machine's
    boot, from /proc/uptime. None for any other text."""
    text = text.strip()
    numbers = [decimal(word) for word in text.split()]
    if numbers and None not in numbers:
        return _scaled(numbers[0] or 0.0) if len(numbers) <= 2 else None
    if len(text) > _LONGEST:
        return None
    bare = _AROUND.sub("", text)
    if bare != text and (number := decimal(bare)) is not None:
        return _scaled(number)
    for reading in (datetime.fromisoformat, _of_a_form, _of_words, parsedate_to_datetime):
        for spelled in (text, _ZONE.sub("", bare)):
            with suppress(ValueError, TypeError, OverflowError, IndexError):
                when = reading(spelled)
                return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return None


def _scaled(number: float) -> float:
    while number > _IN_SECONDS:
        number /= 1000
    return number


def _of_a_form(text: str) -> datetime:
    for form in _FORMS:
        with suppress(ValueError):
            return datetime.strptime(text, form)
    raise ValueError(text)


def _of_words(text: str) -> datetime:
    """``Sat Nov 28 16:22:21 UTC 2026``, ``Sa 28. Nov 16:22:21 CET 2026``, ``Nov 28 16:22:21``. Raises ValueError."""
    clock = _CLOCK.search(text)
    if clock is None:
        raise ValueError(text)
    year, half = _YEAR.search(text), clock["half"] or ""
    numbered = _NUMBERED.search(text)
    days = (match for kind in _DAYS for match in kind.finditer(text))
    named = next(filter(None, map(_month_and_day, days)), (0, 0))
    month, day = numbered.group("month", "day") if numbered else named
    form = "%Y %m %d %I:%M:%S %p" if half else "%Y %m %d %H:%M:%S"
    return datetime.strptime(f"{year[0] if year else _NO_YEAR} {month} {day} {clock['time']} {half}".rstrip(), form)


def _month_and_day(match: re.Match[str]) -> tuple[int, int] | None:
    name, day = match["name"].casefold(), int(match["day"])
    fits = ((len(begin), number) for number, all_ in enumerate(_MONTHS, 1) for begin in all_ if name.startswith(begin))
    longest = max(fits, default=None)
    return (longest[1], day) if longest else None
