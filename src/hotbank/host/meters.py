# SPDX-License-Identifier: Apache-2.0
"""Meters of a host: hwmon (power, energy, current times voltage as INA3221 has them), powercap's ``dram``, temperature.

Truth: Documentation/hwmon/sysfs-interface.rst, drivers/hwmon/ina3221.c, drivers/powercap/powercap_sys.c,
drivers/thermal/thermal_sysfs.c. Which channels there are is looked up once, and again when one is gone: a channel that
does not answer is left out of the reading. Of temperatures only those that say something about memory power are read:
of chips that measure power, of DIMMs, and of thermal zones; others may wake a disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hotbank.host.tree import Tree
from hotbank.machine import Meter, Quantity
from hotbank.sysfs import meters as forms
from hotbank.sysfs import names

_DIMMS = ("jc42", "spd5118", "peci_dimmtemp")
_DRAM = "dram"  # the name of a RAPL domain, drivers/powercap/intel_rapl_common.c
_CHANNEL = re.compile(r"(in|curr|power|energy|temp)(\d+)_input")


@dataclass(frozen=True, slots=True)
class _Channel:
    """One meter and the way to ask it; ``ask`` answers None when it is not there."""

    name: str
    quantity: Quantity
    ask: Callable[[], float | None]
    wraps: float | None = None


class Meters:
    """The meters below a root."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._channels: tuple[_Channel, ...] | None = None

    def read(self) -> tuple[Meter, ...]:
        """Every meter that answers, each asked once."""
        channels = self._channels if self._channels is not None else tuple(self._find())
        asked = [(channel, channel.ask()) for channel in channels]
        found = tuple(Meter(c.name, c.quantity, value, c.wraps) for c, value in asked if value is not None)
        self._channels = channels if len(found) == len(channels) else None
        return found

    def _find(self) -> Iterator[_Channel]:
        for chip in self._tree.names(names.HWMON):
            yield from self._chip(f"{names.HWMON}/{chip}", chip)
        for zone in self._tree.names(names.POWERCAP):
            yield from self._rapl(f"{names.POWERCAP}/{zone}", zone)
        for zone in self._tree.names(names.THERMAL):
            if zone.startswith("thermal_zone"):
                kind = self._tree.read(f"{names.THERMAL}/{zone}/type") or "zone"
                yield _Channel(f"{zone}/{kind}", Quantity.TEMPERATURE, self._one(f"{names.THERMAL}/{zone}/temp", 1e-3))

    def _chip(self, folder: str, chip: str) -> Iterator[_Channel]:
        kind = self._tree.read(f"{folder}/name") or "?"
        here = {m[0]: (m[1], m[2]) for file in self._tree.names(folder) if (m := _CHANNEL.fullmatch(file))}
        electric = [_ for what, _ in here.values() if what in ("power", "energy")] or self._pairs(here)
        for file, (what, number) in sorted(here.items()):
            name = f"{chip}/{kind}/{self._label(folder, what, number)}"
            if what == "power":
                yield _Channel(name, Quantity.POWER, self._one(f"{folder}/{file}", 1e-6))
            elif what == "energy":
                yield _Channel(name, Quantity.ENERGY, self._one(f"{folder}/{file}", 1e-6))
            elif what == "temp" and (electric or kind in _DIMMS):
                yield _Channel(name, Quantity.TEMPERATURE, self._one(f"{folder}/{file}", 1e-3))
        if not any(what == "power" for what, _ in here.values()):
            for number in self._pairs(here):
                name = f"{chip}/{kind}/{self._label(folder, 'in', number)}"
                yield _Channel(name, Quantity.POWER, self._product(folder, number))

    @staticmethod
    def _pairs(here: dict[str, tuple[str, str]]) -> list[str]:
        """Numbers of the channels that have a voltage and a current."""
        return sorted(n for what, n in here.values() if what == "curr" and f"in{n}_input" in here)

    def _label(self, folder: str, what: str, number: str) -> str:
        return self._tree.read(f"{folder}/{what}{number}_label") or f"{what}{number}"

    def _rapl(self, folder: str, zone: str) -> Iterator[_Channel]:
        if self._tree.read(f"{folder}/name") == _DRAM:
            most = self._tree.value(f"{folder}/max_energy_range_uj", forms.COUNTER)
            ask = self._one(f"{folder}/energy_uj", 1e-6)
            yield _Channel(f"{zone}/{_DRAM}", Quantity.ENERGY, ask, most * 1e-6 if most else None)

    def _one(self, file: str, unit: float) -> Callable[[], float | None]:
        def ask() -> float | None:
            value = self._tree.value(file, forms.VALUE)
            return None if value is None else value * unit

        return ask

    def _product(self, folder: str, number: str) -> Callable[[], float | None]:
        """Watts from millivolts and milliamperes."""

        def ask() -> float | None:
            volts = self._tree.value(f"{folder}/in{number}_input", forms.VALUE)
            amperes = self._tree.value(f"{folder}/curr{number}_input", forms.VALUE)
            return None if volts is None or amperes is None else volts * amperes * 1e-6

        return ask
