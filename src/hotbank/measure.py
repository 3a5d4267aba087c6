# SPDX-License-Identifier: Apache-2.0
"""What a bank's leaving saves by the machine's own meters: A/B/A at a load that somebody else keeps fixed.

A pair is half a window with the bank in, one with it out, half a one with it in again: what the mean of both halves
differs from the one between them, so that a drift in a straight line falls out. No window is shared by two pairs, so
that these are independent. The same windows without switching are the null run: where it finds a difference, the load
or the temperature made it. Banks leave and return by a session, as for everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from hotbank.documents import EXIT_DONE, SCHEMA
from hotbank.energy.statistics import LEAST, Interval, interval
from hotbank.errors import Code, MachineError, Refusal
from hotbank.machine import Meter, Quantity, Reading, Snapshot
from hotbank.operate import Outcome
from hotbank.operate.reasons import remedy
from hotbank.session import Session

RESERVE = 0.10  # share of managed memory that must be free or clean page cache once the bank is out
_CONFIDENCE = 0.95
_PATIENCE, _ASK_EVERY = 60.0, 0.25  # seconds on the machine's clock


@dataclass(frozen=True, slots=True)
class Windows:
    """How long to look: ``pairs`` of windows of ``seconds`` each, a look every ``every`` seconds."""

    pairs: int = 30
    seconds: float = 10.0
    every: float = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One meter. ``saved``: watts that less was drawn with the bank out; ``null``: the same without switching."""

    meter: str
    saved: Interval
    null: Interval
    pairs: int

    @property
    def measurable(self) -> bool:
        """Whether this meter can tell that the bank was out."""
        return not self.saved.holds_zero and self.null.holds_zero

    def document(self) -> dict[str, Any]:
        """The JSON of one meter."""
        watts = {name: _watts(found) for name, found in (("saved_w", self.saved), ("null_w", self.null))}
        return {"meter": self.meter, "pairs": self.pairs, **watts, "measurable": self.measurable}


def _watts(found: Interval) -> dict[str, float]:
    return {"low": found.low, "mean": found.mean, "high": found.high, "confidence": found.confidence}


@dataclass(frozen=True, slots=True)
class Measurement:
    """All meters, and the least and highest temperature by sensor in degrees Celsius."""

    machine: str
    bank: str
    windows: Windows
    meters: tuple[Measured, ...]
    temperatures: Mapping[str, tuple[float, float]]

    def document(self) -> dict[str, Any]:
        """The JSON of ``hotbank energy measure``."""
        return {
            "schema": SCHEMA["measure"],
            "machine": self.machine,
            "bank": self.bank,
            "seconds": self.windows.seconds,
            "meters": [meter.document() for meter in self.meters],
            "temperatures": {name: {"low": low, "high": high} for name, (low, high) in self.temperatures.items()},
        }


def measure(
    machine: Session,
    bank: str,
    windows: Windows | None = None,
    *,
    seed: int = 0,
    on_pair: Callable[[str, int], None] | None = None,
) -> Measurement:
    """Measure one bank that is in. ``on_pair`` hears of each pair of the ``null`` run and of the ``switching`` one.

    The bank is in again when this ends, however it ends. Raises Refusal(UNSUPPORTED) without a meter of power or
    energy, Refusal(NO_CAPACITY) where less than the reserve would be left, Refusal or MachineError for a removal that
    did not come about, ValueError for few pairs.
    """
    look = windows or Windows()
    if look.pairs < LEAST:
        raise ValueError(f"{look.pairs} pairs, at least {LEAST} are needed")
    run = _Run(machine, bank, look)
    tell = on_pair or (lambda *_: None)
    run.refuse_without_meters()
    null = run.differences(lambda: None, lambda: None, lambda pair: tell("null", pair))
    with run.brought_back():
        switched = run.differences(run.take_out, run.bring_in, lambda pair: tell("switching", pair))
    meters = tuple(_measured(switched, null, seed))
    return Measurement(machine.name, bank, look, meters, run.temperatures)


Differences = Mapping[str, Sequence[float]]


def _measured(switched: Differences, null: Differences, seed: int) -> Iterator[Measured]:
    """The meters that answered throughout; the more of them, the wider each one's interval."""
    both = [n for n in switched if min(len(switched[n]), len(null.get(n, ()))) >= LEAST]
    confidence = 1 - (1 - _CONFIDENCE) / max(1, len(both))
    for name in both:
        saved, unswitched = (interval(run[name], seed, confidence) for run in (switched, null))
        yield Measured(name, saved, unswitched, len(switched[name]))


class _Run:
    def __init__(self, machine: Session, bank: str, windows: Windows) -> None:
        self._machine, self._bank, self._windows = machine, bank, windows
        self._out = False
        self.temperatures: dict[str, tuple[float, float]] = {}

    def refuse_without_meters(self) -> None:
        if not any(meter.quantity is not Quantity.TEMPERATURE for meter in self._machine.reading().meters):
            what = f"{self._machine.name} has no meter of power or energy that may be read"
            raise Refusal(Code.UNSUPPORTED, what, remedy="docs/energy.md names those that hotbank reads")

    def differences(
        self, leave: Callable[[], None], come: Callable[[], None], on_pair: Callable[[int], None]
    ) -> dict[str, list[float]]:
        """By meter, one difference in watts for each pair in which it answered."""
        found: dict[str, list[float]] = {}
        for pair in range(self._windows.pairs):
            before = self._window(self._windows.seconds / 2)
            leave()
            between = self._window(self._windows.seconds)
            come()
            after = self._window(self._windows.seconds / 2)
            for name in before.keys() & between.keys() & after.keys():
                found.setdefault(name, []).append((before[name] + after[name]) / 2 - between[name])
            on_pair(pair)
        return dict(sorted(found.items()))

    def _window(self, seconds: float) -> dict[str, float]:
        """Mean watts by meter over that time."""
        clock, readings = self._machine.machine.clock, [self._machine.reading()]
        end = readings[0].at + seconds
        while (now := clock.now()) < end:
            clock.sleep(min(self._windows.every, end - now))
            readings.append(self._machine.reading())
        for meter in (m for reading in readings for m in reading.meters if m.quantity is Quantity.TEMPERATURE):
            low, high = self.temperatures.get(meter.name, (meter.value, meter.value))
            self.temperatures[meter.name] = min(low, meter.value), max(high, meter.value)
        return watts(readings)

    def take_out(self) -> None:
        refuse_below_reserve(self._machine.list(), self._machine.reading(), self._bank)
        self._out = True
        _or_raise(self._machine.remove(self._bank))

    def bring_in(self) -> None:
        _or_raise(self._machine.add(self._bank))
        self._out = False

    @contextmanager
    def brought_back(self) -> Iterator[None]:
        """Whatever ends it, Ctrl-C too: the bank comes in."""
        try:
            yield
        finally:
            if self._out:
                self._settle()
                self.bring_in()

    def _settle(self) -> None:
        """Wait for the end of a removal that was interrupted and is being rolled back."""
        clock = self._machine.machine.clock
        until = clock.now() + _PATIENCE
        while any(entry.code is None for entry in self._machine.history()[-1:]) and clock.now() < until:
            clock.sleep(_ASK_EVERY)


def watts(readings: Sequence[Reading]) -> dict[str, float]:
    """Mean watts of each meter over readings in their order: of a power its mean, of a counter what it counted.

    Without the meters that did not answer each time, and those that began again without saying where they wrap.
    """
    found = {}
    for meter in readings[0].meters:
        series = [m for reading in readings for m in reading.meters if m.name == meter.name]
        if len(series) != len(readings) or meter.quantity is Quantity.TEMPERATURE:
            continue
        mean = _mean(meter, series, readings[-1].at - readings[0].at)
        if mean is not None:
            found[meter.name] = mean
    return found


def _mean(meter: Meter, series: Sequence[Meter], seconds: float) -> float | None:
    if meter.quantity is Quantity.POWER:
        return fmean(m.value for m in series)
    joules = [_counted(a.value, b.value, a.wraps) for a, b in pairwise(series)]
    known = [j for j in joules if j is not None]
    return sum(known) / seconds if seconds > 0 and len(known) == len(joules) else None


def _counted(before: float, after: float, wraps: float | None) -> float | None:
    """Joules between two looks at a counter that began again at most once; None where it can't be told."""
    if after >= before:
        return after - before
    return None if wraps is None else after + wraps - before


def refuse_below_reserve(now: Snapshot, reading: Reading, bank: str) -> None:
    """Refusal(NO_CAPACITY) where, without the bank, less than ``RESERVE`` of what is managed is free or clean cache."""
    found = now.bank(bank)
    pages = found.range.size // now.page_size if found is not None else 0
    managed = sum(zone.managed for zone in reading.zones) - pages
    left = reading.free + reading.clean - pages
    if left < RESERVE * managed:
        what = (
            f"{bank} stays: without it {left} of {managed} pages would be free or clean cache, less than {RESERVE:.0%}"
        )
        raise Refusal(Code.NO_CAPACITY, what, remedy=remedy(Code.NO_CAPACITY))


def _or_raise(outcome: Outcome) -> None:
    if outcome.exit != EXIT_DONE:
        raise MachineError(outcome.fact, code=outcome.code, remedy=outcome.remedy)
