# SPDX-License-Identifier: Apache-2.0
"""Bytes that somebody printed: acpidump, ``xxd`` (``-p`` too), ``hexdump`` and ``od -A x``, U-Boot's ``md``.

A line is an address, bytes in groups, and what they are as characters; how many bytes, the next address tells. ``*``
stands for lines like the one before it. A dump has no gap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, takewhile

from hotbank.errors import FILE, FormatError
from hotbank.firmware import console
from hotbank.memory import MIB, format_size
from hotbank.numbers import digits

FORM = "dump"
_USUAL = 16  # bytes of a line
_MOST = 64 * MIB  # bytes of a description: a star may stand for any number of lines
_LINE = re.compile(r"\s*(?:0x)?([0-9a-fA-F]{4,16}):?\s+((?:[0-9a-fA-F]{2}){1,16}(?:\s.*)?)")
_END = re.compile(r"[0-9a-fA-F]{4,16}")  # where hexdump and od end
_LIKE_BEFORE = "*"
_TABLE = re.compile(r"(?P<name>[A-Z0-9]{4}) @ 0x[0-9a-fA-F]+\s*")  # acpidump
_BYTES = re.compile(r"(?:[0-9a-fA-F]{2})+")
_DIGITS = 2  # of a byte
_LEAST_PLAIN = 40  # digits of what has no address


@dataclass(frozen=True, slots=True)
class _Row:
    """A line: its address, at most so many bytes as it shows, whether lines like it were left out behind it."""

    at: int
    data: bytes
    squeezed: bool


def shown(data: bytes, table: str, known: Callable[[bytes], bool]) -> bytes:
    """What ``data`` shows: the ACPI table of that name, or the bytes of a dump, in the order in which ``known`` knows
    them; ``data`` itself where it is no dump. Raises FormatError for a dump with a gap, or without that table."""
    if tables := _tables(data):
        if table not in tables:
            raise FormatError(FILE, 0, "tables", f"no {table} among {', '.join(tables)}")
        return _joined(table, tables[table])
    orders = _undone(data)
    return next(filter(known, orders), orders[0] if orders else data)


def _tables(data: bytes) -> Mapping[str, Sequence[str]]:
    """The lines of what acpidump printed, by signature, of several the first; empty for anything else."""
    found, lines = dict[str, list[str]](), list[str]()
    for line in _lines(data):
        heading = _TABLE.fullmatch(line)
        if heading is not None:
            lines = []
            found.setdefault(heading["name"], lines)
        else:
            lines.append(line)
    return found


def _undone(data: bytes) -> tuple[bytes, ...]:
    """The bytes that a dump shows, in each order that it may have them; nothing where ``data`` is none.
    What a console showed before and behind it is not part of it."""
    lines = _lines(data)
    plain = "".join(lines)
    if len(plain) >= _LEAST_PLAIN and all(map(_BYTES.fullmatch, lines)):
        return (bytes.fromhex(plain),)
    found = [at for at, line in enumerate(lines) if _LINE.fullmatch(line)]
    rows = lines[found[0] : found[-1] + 1] if found else ()
    if not rows or not all(row == _LIKE_BEFORE or _LINE.fullmatch(row) for row in rows):
        return ()
    orders = (False, True) if len(next(_groups(rows[0]))) > _DIGITS else (False,)
    behind = takewhile(_is_end, lines[found[-1] + 1 :])
    rows = (*rows, *behind)
    return tuple(_joined(FORM, rows, swapped=order) for order in orders)


def _is_end(line: str) -> bool:
    return line == _LIKE_BEFORE or _END.fullmatch(line) is not None


def _lines(data: bytes) -> Sequence[str]:
    text = "" if b"\0" in data and not console.is_wide(data) else console.text(data)
    return console.lines(text) if text and "\0" not in text else ()


def _joined(name: str, lines: Sequence[str], *, swapped: bool = False) -> bytes:
    """All bytes. ``swapped``: each group has its last byte first, as a little-endian processor prints a number."""
    rows = [*_rows(lines, swapped)]
    if not rows:
        return b""
    if (most := max(row.at for row in rows)) - rows[0].at > _MOST:
        raise FormatError(name, 0, "address", f"{most:#x} is more than {format_size(_MOST)} behind the first: a gap")
    width = rows[1].at - rows[0].at if len(rows) > 1 and not rows[0].squeezed else _USUAL
    last = rows[-1]
    end = _Row(last.at + len(last.data[: width or _USUAL]), b"", False)
    return b"".join(
        _until(row, following.at, width, name, rows[0].at) for row, following in pairwise(chain(rows, [end]))
    )


def _until(row: _Row, end: int, width: int, name: str, first: int) -> bytes:
    length = end - row.at
    part = row.data[: width or _USUAL] if row.squeezed else row.data
    repeated = part * -(-length // len(part)) if row.squeezed and part else part
    if not 0 <= length <= len(repeated):
        there = row.at + len(part)
        raise FormatError(name, there - first, "address", f"{end:#x} where {there:#x} should be: a gap")
    return repeated[:length]


def _rows(lines: Sequence[str], swapped: bool) -> Iterator[_Row]:
    """Those with an address; the last may have no bytes."""
    for line, following in pairwise([*lines, ""]):
        match = _LINE.fullmatch(line)
        if match is None and not _END.fullmatch(line):
            continue
        at = digits(match[1] if match else line, 16, limit=1 << 64) or 0
        parts = (bytes.fromhex(group) for group in _groups(line)) if match else ()
        data = b"".join(part[::-1] if swapped else part for part in parts)
        yield _Row(at, data, following == _LIKE_BEFORE)


def _groups(line: str) -> Iterator[str]:
    """The groups of a line, without the characters behind them where a wider gap than between groups shows these."""
    match = _LINE.fullmatch(line)
    text = match[2].partition("|")[0].strip() if match else ""
    first, gap = re.match(r"(\S*)(\s*)", text).groups()  # type: ignore[union-attr]
    most = max(len(gap), 1) + (len(first) == _DIGITS)  # hexdump -C has a gap in the middle
    for word in re.split(rf"\s{{{most + 1},}}", text)[0].split():
        if len(word) > len(first) or not _BYTES.fullmatch(word):
            return
        yield word
