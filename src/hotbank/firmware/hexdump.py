# SPDX-License-Identifier: Apache-2.0
"""Bytes that somebody printed: acpidump, ``xxd``, ``hexdump -C``, ``md`` and ``md.b`` of U-Boot.

A line is an address, up to 16 bytes in groups, and what they are as characters. A dump has no gap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from hotbank.errors import FormatError
from hotbank.firmware import console
from hotbank.numbers import digits

FORM = "dump"
_MOST = 16  # bytes of a line
_LINE = re.compile(r"\s*(?:0x)?([0-9a-fA-F]{4,16}):?\s+((?:[0-9a-fA-F]{2}){1,4}(?:\s.*)?)")
_END = re.compile(r"[0-9a-fA-F]{7,16}")  # where hexdump ends
_TABLE = re.compile(r"(?P<name>[A-Z0-9]{4}) @ 0x[0-9a-fA-F]+\s*")  # acpidump
_TEXT = re.compile(rb"[\t\n\r\f -~]*")
_BYTES = re.compile(r"(?:[0-9a-fA-F]{2})+")
_WORD = 8  # digits of a group of U-Boot's md, in the order of the processor


def tables(data: bytes) -> Mapping[str, bytes]:
    """What acpidump printed, by signature; empty for anything else. Raises FormatError for a dump with a gap."""
    found, lines = dict[str, list[str]](), list[str]()
    for line in console.lines(data.decode("latin-1")) if _is_text(data) else ():
        heading = _TABLE.fullmatch(line)
        if heading is not None:
            lines = found.setdefault(heading["name"], [])
        else:
            lines.append(line)
    return {name: _joined(name, own) for name, own in found.items()}


def undone(data: bytes) -> tuple[bytes, ...]:
    """The bytes that a dump shows, in each order that it may have them; nothing where ``data`` is none.

    Raises FormatError for a dump with a gap.
    """
    lines = console.lines(data.decode("latin-1")) if _is_text(data) else []
    if lines and _END.fullmatch(lines[-1]):
        del lines[-1]
    if not lines or not all(map(_LINE.fullmatch, lines)):
        return ()
    orders = (False, True) if any(len(group) == _WORD for group in _groups(lines[0])) else (False,)
    return tuple(_joined(FORM, lines, swapped=order) for order in orders)


def _is_text(data: bytes) -> bool:
    return _TEXT.fullmatch(data) is not None


def _joined(name: str, lines: Sequence[str], *, swapped: bool = False) -> bytes:
    whole, first = bytearray(), None
    for line in filter(_LINE.fullmatch, lines):
        at = digits(line.strip().removeprefix("0x").partition(" ")[0].rstrip(":"), 16, limit=1 << 64) or 0
        first = at if first is None else first
        if at - first != len(whole):
            raise FormatError(name, len(whole), "address", f"{at:#x} where {first + len(whole):#x} should be: a gap")
        for group in _groups(line):
            part = bytes.fromhex(group)
            whole += part[::-1] if swapped else part
    return bytes(whole)


def _groups(line: str) -> Iterator[str]:
    """The bytes of a line, without the characters behind them: as many as there may be, of one width."""
    match = _LINE.fullmatch(line)
    shown = match[2].partition("|")[0].strip() if match else ""
    width = len(shown.split()[0]) if shown else 2
    words = re.split(r" {3,}|\t" if width == 2 else r" {2,}|\t", shown)[0].split()
    for word in words[: _MOST * 2 // width]:
        if len(word) > width or not _BYTES.fullmatch(word):
            return
        yield word
