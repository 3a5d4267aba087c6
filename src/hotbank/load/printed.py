# SPDX-License-Identifier: Apache-2.0
"""Tables that tools print for people, as rows by the names of their headers: ``sar -r``, ``sadf -d``, ``free -s``.

A header counts until the next one; words around it are in the language of whoever ran the tool.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hotbank.errors import FormatError
from hotbank.load import stamps
from hotbank.memory import KIB, MIB, format_size
from hotbank.numbers import decimal

_HOUR, _DAY = 3600, 86_400
_FILE = "Linux "  # how each begins that sar reads
_CLOCK = re.compile(r"([0-9]{1,2})[:.時时시] ?([0-9]{2})[:.分분] ?([0-9]{2})(?![0-9])[秒초]?")  # %X of glibc's locales
_HALVES = {  # %p, without points and spaces
    **dict.fromkeys(("am", "上午", "午前", "오전", "πμ"), 0),
    **dict.fromkeys(("pm", "下午", "午後", "오후", "μμ"), 12),
}
_SIZE = re.compile(r"(\d+(?:[.,]\d+)?)(B|[KMGTP](?:i?B?)?)?", re.ASCII)
_FIRST = "kbmemfree"  # which every table of memory has, and no other
_UNITS = {"B": 1 / KIB, "K": 1, "M": KIB, "G": KIB**2, "T": KIB**3, "P": KIB**4}
_COUNTED = (1 / KIB, 1, KIB, KIB**2, *(1000**power / KIB for power in (1, 2, 3)))  # KiB: free -b -k -m -g --kilo ...
_BY_PLACE = ("total", "used", "free", "shared", "buff/cache", "available")
_WIDE = ("total", "used", "free", "shared", "buffers", "cache", "available")  # -w
_PAGE, _LEAST_BYTES = 4 * KIB, 512 * MIB
_LEAST = 128 * MIB


@dataclass(frozen=True, slots=True)
class Sample:
    """What a line says, by the names that sysstat's JSON or ``free`` have; its time, None where it has none."""

    when: float | None
    values: Mapping[str, float]


def sar(text: str) -> Iterator[Sample]:
    """``sar -r`` with or without ``-S``, of any version; ``sadf -d``. Raises FormatError for two machines."""
    return _sadf(text) if ";" in text and _FIRST in text else _sar(text)


def _sar(text: str) -> Iterator[Sample]:
    """Lines have the time of day only: where it goes back, a day has begun, or summer time has ended."""
    names, at, day, last, same_file = list[str](), 0, 0, 0.0, False
    for line in text.splitlines():
        words = line.split()
        same_file = same_file and not line.startswith(_FILE)
        if not words or number(words[-1]) is None:
            at = words.index(_FIRST) if _FIRST in words else 0
            names = words[at:] if at else names if len(words) < 3 else []
        elif names and (clock := _of_day(words[:at])) is not None:
            day += 0 if clock >= last else _HOUR if same_file and last - clock < _HOUR else _DAY
            last, same_file = clock, True
            yield Sample(day + clock, _known(names, words[at:]))


def _of_day(words: list[str]) -> float | None:
    """Seconds since midnight, in 24 hours or with a word for the half of the day beside."""
    text = " ".join(words)
    match = _CLOCK.search(text)
    if match is None:
        return None
    hour, minute, second = map(int, match.groups())
    beside = re.sub(r"[. ]", "", text[: match.start()] + text[match.end() :]).casefold()
    half = _HALVES.get(beside)
    return ((hour if half is None else hour % 12 + half) * 60 + minute) * 60 + second


def _sadf(text: str) -> Iterator[Sample]:
    names, hosts = list[str](), set[str]()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.lstrip("# ").split(";")]
        if "timestamp" in cells:
            names = cells if _FIRST in cells else []
        elif names and len(cells) == len(names):
            row = dict(zip(names, cells, strict=True))
            hosts.add(row.get("hostname", ""))
            if len(hosts) > 1:
                raise FormatError("sar", text.find(line), "hostname", f"{len(hosts)}, and a series is of one machine")
            yield Sample(stamps.seconds(row["timestamp"]), _known(names, cells))


def _known(names: list[str], words: list[str]) -> dict[str, float]:
    """By the names of sysstat's JSON; what is no column of memory is left out."""
    found = zip(names, map(number, words), strict=False)
    columns = ((name, value) for name, value in found if name.startswith(("kb", "%")) and value is not None)
    return {f"{name[1:]}-percent" if name[0] == "%" else name[2:]: value for name, value in columns}


def free(text: str, total: float | None) -> Iterator[Sample]:
    """``free -s``, with lines between that have the time, or none. ``total``: KiB of the machine, which tells what
    ``-m``, ``-g`` and ``-b`` count in. Raises FormatError where nobody can know."""
    names, when = list[str](), None
    for line in text.splitlines():
        words = line.split()
        sizes = [size for word in words[1:] if (size := _size(word)) is not None]
        if names and len(sizes) >= len(_BY_PLACE) - 1 and len(sizes) == len(words) - 1:
            values = dict(zip(names, sizes, strict=False))
            unit = 1 if _SIZE.fullmatch(words[1])[2] else _unit(values, total)  # type: ignore[index]
            yield Sample(when, {name: size * unit for name, size in values.items()})
            names, when = [], None
        elif (stamp := stamps.seconds(line)) is not None:
            when = stamp
        elif len(words) >= len(_BY_PLACE) and not sizes:
            names = _header(words)


def _header(words: list[str]) -> list[str]:
    """The names that are known; of another language by their places, as free of procps 3.3.10 and later has them."""
    named = "total" in words and "free" in words
    by_place = _BY_PLACE if "/" in words[4] else _WIDE if len(words) == len(_WIDE) else ()
    return words if named else [*by_place]


def _unit(values: Mapping[str, float], total: float | None) -> float:
    """KiB of what the numbers count. Without the total, whole pages throughout are bytes (``-b``)."""
    told = values["total"]
    if total is not None:
        return min(_COUNTED, key=lambda unit: abs(told * unit - total))
    if told >= _LEAST_BYTES and all(value % _PAGE == 0 for value in values.values()):
        return 1 / KIB
    if told * KIB >= _LEAST:
        return 1
    size = format_size(round(told) * KIB)
    raise FormatError("free", 0, "total", f"{size}, if it counts in KiB: give --memory, which tells its unit")


def _size(word: str) -> float | None:
    """KiB of ``15Gi``, or the number itself."""
    match = _SIZE.fullmatch(word)
    value = number(match[1]) if match else None
    return None if match is None or value is None else value * _UNITS[(match[2] or "K")[0]]


def number(word: str) -> float | None:
    """With a point or a comma for the decimals."""
    return decimal(word.replace(",", "."))
