# SPDX-License-Identifier: Apache-2.0
"""Numbers of many page frames, worked on together: /proc/kpageflags, kpagecount and arrays of ``struct page`` have one
of fixed width for each (fs/proc/page.c).

A plane has one byte of each number, side by side, and is itself one long number, so that what is done to it is done to
all pages at once: a block of 32,768 costs a few milliseconds without numpy. A mask has 1 in the byte of each page that
it holds for, and 0 in all others.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache

_SET = re.compile(rb"[^\0]")


class Planes:
    """``count`` numbers of ``width`` bytes, every ``stride`` bytes of ``raw`` from ``offset`` on, in this machine's
    byte order."""

    def __init__(self, raw: bytes, width: int, *, stride: int = 0, offset: int = 0) -> None:
        places = range(width) if sys.byteorder == "little" else reversed(range(width))
        self._bytes = [raw[offset + place :: stride or width] for place in places]
        self.count = len(self._bytes[-1])
        zeros = bytes(self.count)
        self._planes = [0 if plane == zeros else number(plane) for plane in self._bytes]

    def has(self, mask: int) -> int:
        """Which have any bit of ``mask``."""
        found = 0
        for place, plane in enumerate(self._planes):
            bits = mask >> 8 * place & 0xFF
            while plane and bits:
                found |= plane >> bits.bit_length() - 1
                bits -= 1 << bits.bit_length() - 1
        return found & every(self.count)

    def some(self) -> int:
        """Which are not zero."""
        joined = 0
        for plane in self._planes:
            joined |= plane
        return not_zero(joined, self.count)

    def positive(self) -> int:
        """Which are above zero, if they have a sign."""
        return self.some() & ~(self._planes[-1] >> 7)

    def small(self) -> int:
        """A byte for each: the number, or 0x80 where it is no number below 128."""
        first, *others = self._planes
        high = 0
        for plane in others:
            high |= plane
        large = first >> 7 & every(self.count) | (not_zero(high, self.count) if high else 0)
        return first & ~(large * 0xFF) | large * 0x80 if large else first

    def __iter__(self) -> Iterator[int]:
        """Each of them, without a sign."""
        return map(self.at, range(self.count))

    def at(self, index: int) -> int:
        """One of them, without a sign."""
        return sum(plane[index] << 8 * place for place, plane in enumerate(self._bytes))

    def signed(self, index: int) -> int:
        """One of them, with a sign."""
        bits = 8 * len(self._bytes)
        return self.at(index) - (self.at(index) >> bits - 1 << bits)

    def part(self, start: int, stop: int) -> Sequence[int]:
        """Some of them, without a sign."""
        if any(self._planes[1:]):
            return [self.at(index) for index in range(start, stop)]
        return self._bytes[0][start:stop]


@lru_cache(maxsize=16)
def every(count: int) -> int:
    """The mask of all."""
    return number(b"\1" * count)


def number(plane: bytes | bytearray) -> int:
    """A plane's bytes as one number, the first page's lowest."""
    return int.from_bytes(plane, "little")


def plane(number: int, count: int) -> bytes:
    """The bytes of a plane."""
    return number.to_bytes(count, "little")


def not_zero(plane: int, count: int) -> int:
    """The mask of the bytes that are not zero: adding 127 carries into the highest bit of each but 0 and 0x80."""
    sevens = every(count) * 0x7F
    return ((plane & sevens) + sevens | plane) >> 7 & every(count)


def indices(mask: int, count: int) -> Iterator[int]:
    """The pages that the bytes of a plane are not zero for, in order."""
    if mask:
        yield from (found.start() for found in _SET.finditer(plane(mask, count)))


def runs(codes: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """The code of each run of equal ones, and how long it is."""
    start, joined = 0, number(codes)
    for last in indices(joined ^ joined >> 8, len(codes)):
        yield codes[start], last + 1 - start
        start = last + 1
    if start < len(codes):
        yield codes[start], len(codes) - start
