# SPDX-License-Identifier: Apache-2.0
"""The DRAM devices behind a bank, and the power that a dark state of theirs saves.

A whole device that is off takes nothing; a share of one that is masked in self-refresh (PASR) leaves the part of the
current that no mask reaches, so the saving is affine in the share and not proportional to it. A range that is
interleaved over all devices saves nothing by leaving.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import linear_regression, median

from hotbank.energy.bounds import ZERO, Bounds
from hotbank.machine import Fitted
from hotbank.memory import Power
from hotbank.memspec import IDLE, MBIT_PER_GIB, DramState, Grade, Part

# What devices of a grade really take, as a factor: published maxima are 0.4 to 0.7 of what parts take (facts of several
# vendors' typical columns); a typical figure near 25 degrees grows with heat and lot.
GRADES = {
    Grade.MAXIMUM: Bounds(0.4, 0.55, 1.0),
    Grade.TYPICAL: Bounds(0.7, 1.0, 1.8),
    Grade.MEASURED: Bounds.exactly(1.0),
}

# Where a part's data sheet has no PASR table: the share of self-refresh current that no mask reaches, from the one that
# is published for two temperatures (MT46H32M32: 0.47 at 85 degrees, 0.65 at 45).
FIXED = Bounds(0.47, 0.56, 0.65)


@dataclass(frozen=True, slots=True)
class Dram:
    """The devices behind a bank. ``parts``: one, or all that they might be. ``gib``: the bank's own size.

    ``share``: how much of its devices the bank is; less than 1 is a PASR segment. ``temperature``: degrees Celsius.
    """

    parts: tuple[Part, ...]
    gib: float
    share: float = 1.0
    temperature: int = 45
    interleaved: bool = False

    def __post_init__(self) -> None:
        if not self.parts or not 0 < self.share <= 1 or self.gib < 0:
            raise ValueError(f"no such memory: {len(self.parts)} parts, {self.gib} GiB, share {self.share}")

    @classmethod
    def of(cls, fitted: Fitted, parts: tuple[Part, ...], gib: float, domain: float, *, interleaved: bool) -> Dram:
        """The devices behind a bank of ``gib`` in a domain of ``domain`` GiB; ``parts``: what ``fitted`` may mean.

        Where one part is meant, a domain smaller than a device for each rank and channel is a segment of these.
        """
        share = fitted.share
        if share is None and len(parts) == 1:
            devices = fitted.ranks * fitted.channels * parts[0].megabits / MBIT_PER_GIB
            share = min(1.0, domain / devices)
        return cls(parts, gib, 1.0 if share is None else share, fitted.temperature, interleaved)

    def power(self, state: DramState) -> Bounds:
        """Milliwatts of the bank with its devices in that state, whatever they may be."""
        drawn = [(part, part.power(state, self.temperature)) for part in self.parts]
        return _over(drawn) * self.gib

    def saved(self, dark: Power) -> Bounds:
        """Milliwatts that a dark state saves against idling, from the least to the most that any idle state takes.

        ``typical`` is against the state in which most controllers leave such a part. Negative where self-refresh takes
        more than idling.
        """
        if self.interleaved or dark in (Power.ON, Power.UNKNOWN):
            return ZERO
        every = [(part, rate) for part in self.parts for idle in IDLE for rate in self._rates(part, idle, dark)]
        usual = [(part, rate) for part in self.parts for rate in self._rates(part, part.idle, dark)]
        bounds, typical = _over(every), _over(usual).typical
        return Bounds(bounds.low, min(max(typical, bounds.low), bounds.high), bounds.high) * self.gib

    def naive(self) -> float:
        """Milliwatts that "power ~ memory online" would have said for any dark state, interleaved or not."""
        idle = DramState.SELF_REFRESH if self.share < 1 else None
        drawn = [(part, part.power(idle or part.idle, self.temperature)) for part in self.parts]
        return _over(drawn).typical * self.gib

    def _rates(self, part: Part, idle: DramState, dark: Power) -> Iterator[float]:
        """Milliwatts per GiB of the bank that it saves against that idle state."""
        on = part.power(idle, self.temperature)
        if dark is Power.SELF_REFRESH:
            yield on - part.power(DramState.SELF_REFRESH)
        elif self.share == 1:
            yield on
        elif idle is DramState.SELF_REFRESH:
            yield from (gain / self.share for gain in self._masked(part))
        else:
            yield part.refresh_power(self.temperature)  # a masked segment is only not refreshed

    def _masked(self, part: Part) -> Iterator[float]:
        """Milliwatts per GiB of the devices that masking the bank saves in self-refresh."""
        whole, kept = (part.partial_self_refresh(k, self.temperature) for k in (1.0, 1.0 - self.share))
        if whole is not None and kept is not None:
            yield whole - kept
            return
        full = part.power(DramState.SELF_REFRESH)
        for fixed in (FIXED.low, FIXED.typical, FIXED.high):
            yield full * (1 - fixed) * self.share


def affine(part: Part, temperature: int) -> tuple[float, float]:
    """Self-refresh in mW/GiB as ``fixed + slope x share kept``: least squares over the part's own table.

    Raises ValueError where it has none for that temperature.
    """
    if temperature not in part.pasr:
        raise ValueError(f"{part.name} has no PASR table for {temperature} degrees")
    shares = list(part.pasr[temperature])
    drawn = [part.partial_self_refresh(share, temperature) or 0.0 for share in shares]
    line = linear_regression(shares, drawn)
    return line.intercept, line.slope


def _over(figures: list[tuple[Part, float]]) -> Bounds:
    """The range of figures of which each holds within its part's grade; typical is the middle one."""
    spread = [
        Bounds(*sorted((f * g.low, f * g.typical, f * g.high))) for part, f in figures for g in (GRADES[part.grade],)
    ]
    return Bounds(min(b.low for b in spread), median(b.typical for b in spread), max(b.high for b in spread))
