# SPDX-License-Identifier: Apache-2.0
"""A figure that is known between two others: data sheets have maxima, and real parts take less."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """``low <= typical <= high``. Addition and scaling are those of intervals; ``typical`` goes along."""

    low: float
    typical: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.typical <= self.high:
            raise ValueError(f"not in order: {self.low}, {self.typical}, {self.high}")

    @classmethod
    def exactly(cls, value: float) -> Bounds:
        """A figure that is known."""
        return cls(value, value, value)

    def __add__(self, other: Bounds) -> Bounds:
        return Bounds(self.low + other.low, self.typical + other.typical, self.high + other.high)

    def __neg__(self) -> Bounds:
        return Bounds(-self.high, -self.typical, -self.low)

    def __sub__(self, other: Bounds) -> Bounds:
        return self + -other

    def __mul__(self, factor: float) -> Bounds:
        scaled = (self.low * factor, self.typical * factor, self.high * factor)
        return Bounds(*(scaled if factor >= 0 else scaled[::-1]))

    __rmul__ = __mul__

    @classmethod
    def total(cls, figures: Iterable[Bounds]) -> Bounds:
        """Their sum; nothing adds up to 0."""
        return sum(figures, ZERO)


ZERO = Bounds(0.0, 0.0, 0.0)
