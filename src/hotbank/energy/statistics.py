# SPDX-License-Identifier: Apache-2.0
"""Paired differences of a measured power, and the interval that holds their mean.

The bootstrap-t interval (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 12): resampled means in units
of their own standard error, so that it holds what it says for thirty pairs as well.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

LEAST = 5  # pairs below which resampling tells nothing
_TIMES = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the interval that holds the true one with ``confidence``."""

    low: float
    mean: float
    high: float
    confidence: float

    @property
    def holds_zero(self) -> bool:
        """True where nothing was measured."""
        return self.low <= 0 <= self.high


def interval(differences: Sequence[float], seed: int, confidence: float = 0.95) -> Interval:
    """Of at least ``LEAST`` independent differences. The same seed gives the same interval. Raises ValueError."""
    if len(differences) < LEAST:
        raise ValueError(f"{len(differences)} differences, at least {LEAST} are needed")
    mean, error = _mean_and_error(differences)
    if error == 0:
        return Interval(mean, mean, mean, confidence)
    draw, size = random.Random(seed), len(differences)
    drawn = (_mean_and_error(draw.choices(differences, k=size)) for _ in range(_TIMES))
    ratios = sorted((m - mean) / e for m, e in drawn if e > 0)
    tail = round((1 - confidence) / 2 * len(ratios))
    return Interval(mean - ratios[-1 - tail] * error, mean, mean - ratios[tail] * error, confidence)


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    size = len(values)
    mean = sum(values) / size
    return mean, sqrt(sum((value - mean) ** 2 for value in values) / (size - 1) / size)
