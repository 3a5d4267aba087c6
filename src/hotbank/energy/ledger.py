# SPDX-License-Identifier: Apache-2.0
"""Seconds by state, pages moved and wakes → joules saved and joules spent, as bounds.

Costs of moving: 0.3 to 0.7 µJ of DRAM a page for reading and writing it (LPDDR3 to DDR4, burst currents), and about
1 µJ of processor. Waking a device that was off takes its training at full idle power; refresh resumes by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hotbank.energy.bounds import Bounds
from hotbank.energy.dram import Dram
from hotbank.memory import Power
from hotbank.memspec import DramState

NOT_COUNTED = (
    "memory controller and PHY",
    "losses of the voltage regulators",
    "reads and writes of whoever uses the memory",
    "what less page cache costs elsewhere, beyond the refaults that were counted",
)


@dataclass(frozen=True, slots=True)
class Rates:
    """What work costs. Joules a page moved, watts of a busy processor, seconds of a wake, joules a refault."""

    page: Bounds
    cpu_watts: Bounds
    wake_seconds: Bounds
    refault: Bounds


USUAL = Rates(
    page=Bounds(0.8e-6, 1.5e-6, 2.7e-6),
    cpu_watts=Bounds(0.0, 1.0, 5.0),  # seconds are known as wall time, of which it may have slept any
    wake_seconds=Bounds(200e-6, 1e-3, 100e-3),
    refault=Bounds(1e-6, 50e-6, 1e-3),
)


@dataclass(frozen=True, slots=True)
class Work:
    """What leaving and coming back took. ``cpu_seconds``: of a processor beyond the moving, at most."""

    pages: int = 0
    cpu_seconds: float = 0.0
    wakes: int = 0
    refaults: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.pages + other.pages,
            self.cpu_seconds + other.cpu_seconds,
            self.wakes + other.wakes,
            self.refaults + other.refaults,
        )


@dataclass(frozen=True, slots=True)
class Saved:
    """Joules that were not spent on a bank, and what "power ~ memory online" would have said."""

    joules: Bounds
    naive: float

    def __add__(self, other: Saved) -> Saved:
        return Saved(self.joules + other.joules, self.naive + other.naive)


def saved(dram: Dram, seconds: Mapping[Power, float]) -> Saved:
    """What a bank's dark time saved. ``seconds``: how long it was in each state; unknown power saves nothing."""
    dark = {state: s for state, s in seconds.items() if state.dark}
    joules = Bounds.total(dram.saved(state) * (s * 1e-3) for state, s in dark.items())
    return Saved(joules, dram.naive() * sum(dark.values()) * 1e-3)


@dataclass(frozen=True, slots=True)
class Cost:
    """Joules of leaving and coming back: pages moved, wakes, processor, refaults."""

    pages: Bounds
    wake: Bounds
    cpu: Bounds
    refaults: Bounds

    @property
    def total(self) -> Bounds:
        """All of them."""
        return self.pages + self.wake + self.cpu + self.refaults


def costs(dram: Dram, work: Work, rates: Rates = USUAL) -> Cost:
    """What leaving and coming back cost, item by item."""
    idle = dram.power(DramState.STANDBY) * 1e-3
    wake = Bounds(*(w * s for w, s in zip(_sides(idle), _sides(rates.wake_seconds), strict=True)))
    return Cost(
        pages=rates.page * work.pages,
        wake=wake * work.wakes,
        cpu=rates.cpu_watts * work.cpu_seconds,
        refaults=rates.refault * work.refaults,
    )


def spent(dram: Dram, work: Work, rates: Rates = USUAL) -> Bounds:
    """Joules that leaving and coming back cost."""
    return costs(dram, work, rates).total


def break_even(dram: Dram, work: Work, dark: Power, rates: Rates = USUAL) -> float | None:
    """Seconds after which a dark bank has earned what the work costs, by typical figures; None where it never does."""
    watts = dram.saved(dark).typical * 1e-3
    return spent(dram, work, rates).typical / watts if watts > 0 else None


def _sides(bounds: Bounds) -> tuple[float, float, float]:
    return bounds.low, bounds.typical, bounds.high
