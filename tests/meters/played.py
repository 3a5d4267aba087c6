# SPDX-License-Identifier: Apache-2.0
"""A machine whose meters are files that are played back: a known difference between in and out, under noise."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from host.captured_trees import write
from hotbank import operate
from hotbank.host.meters import Meters
from hotbank.host.tree import Tree
from hotbank.machine import Reading, Snapshot
from hotbank.memory import Power
from hotbank.operate import Entry, Outcome
from hotbank.testing import ScriptedMachine

CHIP, RAPL = "sys/class/hwmon/hwmon0", "sys/class/powercap/intel-rapl:0:0"
WRAPS = 20_000_000  # microjoules: every few pairs
DONE = operate.remove(ScriptedMachine(), "high")


@dataclass
class Played:
    """In place of a session: orders only turn a switch, readings come from files through the host's own reader.

    ``saved``: watts that less is drawn while the bank is out. ``noise``: standard deviation of a look, in watts.
    """

    root: Path
    seed: int
    saved: float = 0.05
    noise: float = 0.04
    machine: ScriptedMachine = field(default_factory=ScriptedMachine)
    name: str = "played"
    orders: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._draw, self._joules, self._last = random.Random(self.seed), 0.0, self.machine.clock.now()
        write(self.root, {f"{CHIP}/name": "ina3221\n", f"{CHIP}/in1_label": "VDDQ\n", f"{CHIP}/temp1_input": "41500\n"})
        write(self.root, {f"{CHIP}/in1_input": "1100\n", f"{CHIP}/curr1_input": "0\n", f"{RAPL}/energy_uj": "0\n"})
        write(self.root, {f"{RAPL}/name": "dram\n", f"{RAPL}/max_energy_range_uj": f"{WRAPS}\n"})
        self.meters, self._bare = Meters(Tree(self.root)), self.machine.reading()

    @property
    def out(self) -> bool:
        return self.machine.level is not Power.ON

    def reading(self) -> Reading:
        self.play()
        return replace(self._bare, at=self.machine.clock.now(), meters=self.meters.read())

    def play(self) -> None:
        """What the kernel would show now: 1 W, less what is saved, drifting upward by 1 mW a minute."""
        now = self.machine.clock.now()
        watts = 1 + now / 60_000 - (self.saved if self.out else 0)
        self._joules += (now - self._last) * (watts + self._draw.gauss(0, self.noise))
        self._last = now
        amperes = round((watts + self._draw.gauss(0, self.noise)) / 1.1 * 1000)
        counter = round(self._joules * 1e6) % WRAPS
        anew(self.root / CHIP / "curr1_input", f"{amperes}\n")
        anew(self.root / RAPL / "energy_uj", f"{counter}\n")

    def list(self) -> Snapshot:
        return self.machine.snapshot()

    def history(self) -> tuple[Entry, ...]:
        return ()

    def remove(self, bank: str) -> Outcome:
        self.orders.append(f"remove {bank}")
        self.machine.levels["ddr"] = Power.OFF
        return DONE

    def add(self, bank: str) -> Outcome:
        self.orders.append(f"add {bank}")
        self.machine.levels["ddr"] = Power.ON
        return DONE


def anew(path: Path, text: str) -> None:
    """Another file of that name: one that is cut and written again waits 5 ms for an ext4 disk (auto_da_alloc)."""
    path.unlink()
    path.write_text(text)
