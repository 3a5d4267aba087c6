# SPDX-License-Identifier: Apache-2.0
"""Meters below a root: what they say, when they wrap, vanish or go below 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.captured_trees import write
from hotbank.host.meters import Meters
from hotbank.host.tree import Tree
from hotbank.machine import Meter, Quantity, Reading
from hotbank.measure import watts

HWMON = "sys/class/hwmon"
FILES = {
    f"{HWMON}/hwmon0/name": "ina3221\n",
    f"{HWMON}/hwmon0/in1_label": "VDD_DDR\n",
    f"{HWMON}/hwmon0/in1_input": "1100\n",
    f"{HWMON}/hwmon0/curr1_input": "-20\n",
    f"{HWMON}/hwmon0/in4_input": "3\n",  # a shunt's voltage: without a current it is no power
    f"{HWMON}/hwmon1/name": "meter\n",
    f"{HWMON}/hwmon1/power1_input": "2500000\n",
    f"{HWMON}/hwmon1/energy1_input": "7000000\n",
    f"{HWMON}/hwmon1/in1_input": "1000\n",  # of a chip that measures power by itself
    f"{HWMON}/hwmon1/curr1_input": "2500\n",
    f"{HWMON}/hwmon1/temp1_input": "45125\n",
    f"{HWMON}/hwmon2/name": "jc42\n",
    f"{HWMON}/hwmon2/temp1_input": "38000\n",
    f"{HWMON}/hwmon3/name": "drivetemp\n",
    f"{HWMON}/hwmon3/temp1_input": "30000\n",
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "1\n",
    "sys/class/powercap/intel-rapl:0:1/name": "dram\n",
    "sys/class/powercap/intel-rapl:0:1/energy_uj": "5000000\n",
    "sys/class/powercap/intel-rapl:0:1/max_energy_range_uj": "65532610987\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "52000\n",
    "sys/class/thermal/cooling_device0/type": "fan\n",
}


def test_each_meter_in_its_unit(tmp_path: Path) -> None:
    found = {m.name: (m.quantity.value, m.value, m.wraps) for m in Meters(Tree(write(tmp_path, FILES))).read()}
    assert found == {
        "hwmon0/ina3221/VDD_DDR": ("W", pytest.approx(-0.022), None),
        "hwmon1/meter/power1": ("W", 2.5, None),
        "hwmon1/meter/energy1": ("J", 7.0, None),
        "hwmon1/meter/temp1": ("°C", pytest.approx(45.125), None),
        "hwmon2/jc42/temp1": ("°C", 38.0, None),
        "intel-rapl:0:1/dram": ("J", 5.0, pytest.approx(65532.610987)),
        "thermal_zone0/cpu-thermal": ("°C", 52.0, None),
    }


def test_no_meters(tmp_path: Path) -> None:
    assert Meters(Tree(tmp_path)).read() == ()


@pytest.mark.parametrize("text", ["", "N/A\n", "1.5\n", "--3\n"])
def test_a_sensor_that_vanishes_and_comes_back(text: str, tmp_path: Path) -> None:
    meters = Meters(Tree(write(tmp_path, FILES)))
    before = meters.read()
    write(tmp_path, {f"{HWMON}/hwmon1/power1_input": text})
    assert [m.name for m in meters.read()] == [m.name for m in before if m.name != "hwmon1/meter/power1"]
    write(tmp_path, {f"{HWMON}/hwmon1/power1_input": "2500000\n"})
    assert meters.read() == before


def readings(quantity: Quantity, *values: float | None, wraps: float | None = None) -> list[Reading]:
    """A look every two seconds; None: the meter did not answer."""
    meters = [() if value is None else (Meter("m", quantity, value, wraps),) for value in values]
    return [Reading(2.0 * at, meters=shown) for at, shown in enumerate(meters)]


@pytest.mark.parametrize(
    ("looks", "mean"),
    [
        (readings(Quantity.POWER, 1, 2, 6), 3),
        (readings(Quantity.POWER, -1, 1, -3), -1),  # what is below 0 counts as well, else noise around 0 would not
        (readings(Quantity.POWER, 1, None, 3), None),
        (readings(Quantity.ENERGY, 10, 14, 22), 3),
        (readings(Quantity.ENERGY, 90, 98, 6, wraps=100), 4),
        (readings(Quantity.ENERGY, 90, 98, 6), None),  # it began again, and nobody knows from where
        (readings(Quantity.ENERGY, 90), None),
        (readings(Quantity.TEMPERATURE, 40, 41), None),
    ],
)
def test_mean_power_of_a_window(looks: list[Reading], mean: float | None) -> None:
    assert watts(looks).get("m") == (mean if mean is None else pytest.approx(mean))
