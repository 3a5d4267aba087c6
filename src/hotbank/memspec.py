# SPDX-License-Identifier: Apache-2.0
"""DRAM parts: currents by state, as a data sheet has them, and the power of a GiB that follows.

Power of a device is the sum of current times voltage over its rails, a GiB is 8192 Mbit of devices (the arithmetic of
DRAMPower and of JEDEC's IDD definitions, JESD79 and JESD209). Refresh adds ``(IDD5 - IDD2N) x tRFC / tREFI``, twice as
much above 85 degrees. Partial array self-refresh (PASR) is looked up in the part's own table.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hotbank import keys
from hotbank.errors import BoardError
from hotbank.keys import Key, Keys

if TYPE_CHECKING:
    from pathlib import Path

MBIT_PER_GIB = 8192
_SHORTEST = 0.001  # microseconds between two refreshes; real parts have 0.98 to 15.6
HOT = 85  # degrees Celsius above which a part refreshes twice as often
TYPES = ("LPDDR", "LPDDR2", "LPDDR3", "LPDDR4", "LPDDR5", "DDR2", "DDR3", "DDR4", "DDR5")


class Grade(StrEnum):
    """What a part's currents are: guaranteed limits, what most parts take, or what somebody measured."""

    MAXIMUM = "maximum"
    TYPICAL = "typical"
    MEASURED = "measured"


class DramState(StrEnum):
    """What a device does while nobody accesses it."""

    STANDBY = "standby"  # precharged, clock running, refreshed
    POWER_DOWN = "power-down"  # precharged, CKE low, refreshed
    SELF_REFRESH = "self-refresh"
    OFF = "off"  # deep power-down, or the rail is off


IDLE = (DramState.STANDBY, DramState.POWER_DOWN, DramState.SELF_REFRESH)


@dataclass(frozen=True, slots=True)
class Rail:
    """Currents of one supply in mA, the voltage in V."""

    volts: float
    standby: float = 0.0
    power_down: float = 0.0
    refresh: float = 0.0
    self_refresh: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """One DRAM device.

    ``temperature``: of its currents, in degrees Celsius. ``idle``: the state in which most controllers leave it.
    ``refresh_interval`` and ``refresh`` (tREFI, tRFC) in seconds. ``pasr``: by temperature, mA of self-refresh on the
    first rail by the share of the array that is kept.
    """

    name: str
    type: str
    megabits: int
    width: int
    grade: Grade
    temperature: int
    source: str
    licence: str
    idle: DramState
    refresh_interval: float
    refresh: float
    rails: tuple[Rail, ...]
    pasr: Mapping[int, Mapping[float, float]] = field(default_factory=dict)

    def power(self, state: DramState, temperature: int | None = None) -> float:
        """Milliwatts per GiB in that state, refresh included where the controller does it."""
        if state is DramState.OFF:
            return 0.0
        if state is DramState.SELF_REFRESH:
            return self.drawn("self_refresh")
        column = "standby" if state is DramState.STANDBY else "power_down"
        return self.drawn(column) + self.refresh_power(temperature)

    def drawn(self, column: str) -> float:
        """Milliwatts per GiB by one column of currents."""
        return self._per_gib(sum(rail.volts * getattr(rail, column) for rail in self.rails))

    def refresh_power(self, temperature: int | None = None) -> float:
        """Milliwatts per GiB that refreshing adds to standby or power-down."""
        rate = self.refresh / self.refresh_interval * (2 if (temperature or 0) > HOT else 1)
        busy = (rail.volts * max(0.0, rail.refresh - rail.standby) for rail in self.rails)
        return self._per_gib(sum(busy) * rate)

    def partial_self_refresh(self, kept: float, temperature: int) -> float | None:
        """Milliwatts per GiB with only that share of the array kept: between two rows of the table of the next higher
        temperature. None where the data sheet has no table."""
        table = self._pasr_at(temperature)
        if table is None:
            return None
        rows = sorted(table.items())
        return self._per_gib(self.rails[0].volts * _between(rows, kept))

    def _pasr_at(self, temperature: int) -> Mapping[float, float] | None:
        hotter = [t for t in sorted(self.pasr) if t >= temperature] or sorted(self.pasr)[-1:]
        return self.pasr[hotter[0]] if hotter else None

    def _per_gib(self, milliwatts: float) -> float:
        return milliwatts * MBIT_PER_GIB / self.megabits


def _between(rows: list[tuple[float, float]], at: float) -> float:
    """Straight lines between the rows; beyond either end the nearest one goes on."""
    pairs = list(pairwise(rows)) or [(rows[0], rows[0])]
    (x0, y0), (x1, y1) = next((pair for pair in pairs if at <= pair[1][0]), pairs[-1])
    return y0 if x0 == x1 else y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def find(name: str | os.PathLike[str]) -> Path:
    """The path of a part: a file, or the name of one that is shipped. Raises BoardError."""
    return keys.find("memspec", name)


def load(name: str | os.PathLike[str]) -> Part:
    """A part by its name, or from a file. Raises BoardError."""
    path = find(name)
    return loads(keys.read("memspec", path), str(path))


def loads(text: str, file: str = "") -> Part:
    """A part from TOML text; ``file``: its name, for messages. Raises BoardError."""
    return _part(keys.table("memspec", text, file=file, schema=_TABLES))


def parts() -> tuple[Part, ...]:
    """All shipped parts, by name."""
    files = (file for home in keys.shipped("memspecs") for file in home.glob("*.toml"))
    return tuple(load(file) for file in sorted(files, key=lambda file: file.name))


def named(name: str | None) -> tuple[Part, ...]:
    """What devices of that name may be: the part, every shipped part of a type such as ``LPDDR3``, all for None.

    Raises BoardError.
    """
    if name is not None and name not in TYPES:
        return (load(name),)
    found = tuple(part for part in parts() if name in (None, part.type))
    if not found:
        known = ", ".join(sorted({part.type for part in parts()}))
        raise BoardError("memspec", name, f"no part of that type is shipped; known: {known}")
    return found


def _part(table: Keys) -> Part:
    rails = [rail.read(_TABLES["rail"]) for _, rail in table.tables("rail")]
    pasr = [_pasr(row) for row in table.arrays("pasr")]
    given = table.read(_TABLES[""])
    if not rails:
        table.note("rail", None, "at least one [rail.NAME] must be given")
    table.check()
    return Part(
        refresh_interval=given.pop("refresh_interval_us") * 1e-6,
        refresh=given.pop("refresh_ns") * 1e-9,
        rails=tuple(Rail(**rail) for rail in rails),
        pasr={row["temperature"]: dict(zip(row["kept"], row["self_refresh"], strict=True)) for row in pasr},
        **given,
    )


def _pasr(table: Keys) -> dict[str, Any]:
    row = table.read(_TABLES["pasr"])
    if None not in row.values() and len(row["kept"]) != len(row["self_refresh"]):
        table.note(
            "self_refresh", row["self_refresh"], f"must have a current for each of the {len(row['kept'])} of kept"
        )
    return row


def _grade(value: object) -> Grade:
    return Grade(keys.one_of(tuple(Grade))(value))


def _idle(value: object) -> DramState:
    return DramState(keys.one_of(IDLE)(value))


def _interval(value: object) -> float:
    """Microseconds; what is refreshed without a pause has no power that can be told."""
    interval = keys.amount(value)
    if interval < _SHORTEST:
        raise ValueError(f"must be microseconds, {_SHORTEST:g} or more")
    return interval


def _amounts(value: object) -> list[float]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of numbers")
    return [keys.amount(item) for item in value]


_TABLES: Mapping[str, tuple[Key, ...]] = {
    "": (
        Key("name", keys.text, needed=True),
        Key("type", keys.one_of(TYPES), needed=True),
        Key("megabits", keys.count, needed=True),
        Key("width", keys.count, needed=True),
        Key("grade", _grade, needed=True),
        Key("temperature", keys.whole, needed=True),
        Key("source", keys.text, needed=True),
        Key("licence", keys.text, needed=True),
        Key("idle", _idle, needed=True),
        Key("refresh_interval_us", _interval, needed=True),
        Key("refresh_ns", keys.amount, needed=True),
    ),
    "rail": (
        Key("volts", keys.amount, needed=True),
        *(Key(current, keys.amount, 0.0) for current in ("standby", "power_down", "refresh", "self_refresh")),
    ),
    "pasr": (
        Key("temperature", keys.whole, needed=True),
        Key("kept", _amounts, needed=True),
        Key("self_refresh", _amounts, needed=True),
    ),
}
"""Every key of a part's file, by the kind of its table; ``""``: above all tables."""
