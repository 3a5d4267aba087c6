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
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache

_PIECE_ORDER = 9
_PIECE = 1 << _PIECE_ORDER
_SET, _SET_RUN = re.compile(rb"[^\0]"), re.compile(rb"[^\0]+")


class Planes:
    """``count`` numbers of ``width`` bytes, every ``stride`` bytes of ``raw`` from ``offset`` on, in this machine's
    byte order. A plane that nobody asks for is not made."""

    def __init__(self, raw: bytes, width: int, *, stride: int = 0, offset: int = 0) -> None:
        self._raw, self._width, self._stride, self._start = raw, width, stride or width, offset
        self._planes: list[int | None] = [None] * width
        self.count = max(0, (len(raw) - offset - width) // self._stride + 1)

    @property
    def alike(self) -> bool:
        """True if there are several, and all of them are the same."""
        each = self._raw[: self._stride]
        return self.count > 1 and len(self._raw) == self.count * self._stride and self._raw == each * self.count

    def first(self, count: int) -> Planes:
        """So many of them, from the start."""
        return Planes(self._raw[: count * self._stride], self._width, stride=self._stride, offset=self._start)

    def has(self, mask: int) -> int:
        """Which have any bit of ``mask``."""
        found = 0
        for place in range(self._width):
            bits = mask >> 8 * place & 0xFF
            there = self._of(place, bits) if bits else 0
            while there and bits:
                highest = bits.bit_length() - 1
                found |= (there & _every_with(1 << highest, self.count)) >> highest
                bits -= 1 << highest
        return found

    def packed(self, parts: Iterable[tuple[int, int]]) -> int:
        """One plane of bits of several: those of a mask from the byte at each place."""
        joined = 0
        for place, bits in parts:
            joined |= self._of(place, bits)
        return joined

    def some(self) -> int:
        """Which are not zero."""
        joined = 0
        for place in range(self._width):
            joined |= self._plane(place)
        return not_zero(joined, self.count) if joined else 0

    def positive(self) -> int:
        """Which are above zero, if they have a sign."""
        return self.some() & ~(self._plane(self._width - 1) >> 7)

    def small(self) -> int:
        """A byte for each: the number, or 0x80 where it is no number below 128."""
        first, high = self._plane(0), 0
        for place in range(1, self._width):
            high |= self._plane(place)
        large = first >> 7 & every(self.count) | (not_zero(high, self.count) if high else 0)
        return first & ~(large * 0xFF) | large * 0x80 if large else first

    def at(self, index: int) -> int:
        """One of them, without a sign."""
        return int.from_bytes(self._one(index), sys.byteorder)

    def signed(self, index: int) -> int:
        """One of them, with a sign."""
        return int.from_bytes(self._one(index), sys.byteorder, signed=True)

    def all(self) -> Iterator[int]:
        """Each of them, without a sign."""
        return map(self.at, range(self.count))

    def part(self, start: int, stop: int) -> Sequence[int]:
        """Some of them, without a sign."""
        if self._narrow is None:
            return [self.at(index) for index in range(start, stop)]
        return self._narrow[start:stop]

    @cached_property
    def _narrow(self) -> bytes | None:
        """A byte for each, None where one is not enough."""
        return None if any(self._plane(place) for place in range(1, self._width)) else self._bytes(0)

    def _one(self, index: int) -> bytes:
        start = self._start + index * self._stride
        return self._raw[start : start + self._width]

    def _of(self, place: int, bits: int) -> int:
        """These bits of each byte at a place."""
        return self._plane(place) & _every_with(bits, self.count)

    def _plane(self, place: int) -> int:
        made = self._planes[place]
        if made is None:
            own = self._bytes(place)
            made = self._planes[place] = 0 if own == bytes(self.count) else number(own)
        return made

    def _bytes(self, place: int) -> bytes:
        at = place if sys.byteorder == "little" else self._width - 1 - place
        return self._raw[self._start + at :: self._stride][: self.count]


@lru_cache(maxsize=16)
def every(count: int) -> int:
    """The mask of all."""
    return number(b"\1" * count)


@lru_cache(maxsize=64)
def _every_with(byte: int, count: int) -> int:
    """A plane with that byte for each."""
    return every(count) * byte


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


def parts(mask: int, count: int, whole: int) -> Iterator[range]:
    """The ranges of pages, made of wholes of so many, that every page in the mask lies in; neighbours are one."""
    found = plane(mask, count)
    wanted = bytes(b"\1" in found[at : at + whole] for at in range(0, count, whole))
    for run in _SET_RUN.finditer(wanted):
        yield range(run.start() * whole, min(count, run.end() * whole))


def buddies(free: bytes | bytearray, top: int) -> list[int]:
    """How many free blocks of each order up to ``top`` the pages make, of which 1 is free and 0 is not, if buddies are
    always merged (mm/page_alloc.c, ``__free_one_page``). Page 0 is the first of a block of order ``top``.

    Most of what is free lies in large pieces, and most pieces have nothing free in them: only the rest is worked on
    page by page.
    """
    if top < _PIECE_ORDER or len(free) % _PIECE:
        return _merged(free, top)
    pieces = [free[at : at + _PIECE] for at in range(0, len(free), _PIECE)]
    broken = b"".join(piece for piece in pieces if b"\1" in piece and b"\0" in piece)
    whole = bytes(b"\0" not in piece for piece in pieces)
    return [*_merged(broken, _PIECE_ORDER)[:_PIECE_ORDER], *_merged(whole, top - _PIECE_ORDER)]


def _merged(free: bytes | bytearray, top: int) -> list[int]:
    left, count, found = number(free), len(free), list[int]()
    for order in range(top):
        if not left:
            return [*found, *[0] * (top + 1 - order)]
        codes = plane(left, count >> order)
        pairs = number(codes[::2]) & number(codes[1::2])
        found.append(left.bit_count() - 2 * pairs.bit_count())
        left = pairs
    return [*found, left.bit_count()]


def runs(codes: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """The code of each run of equal ones, and how long it is."""
    start, joined = 0, number(codes)
    for last in indices(joined ^ joined >> 8, len(codes)):
        yield codes[start], last + 1 - start
        start = last + 1
    if start < len(codes):
        yield codes[start], len(codes) - start
