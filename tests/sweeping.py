# SPDX-License-Identifier: Apache-2.0
"""Runs for tests of sweeps, importable by workers: one that counts how often it was begun and may kill who does it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotbank.errors import Code, Refusal
from hotbank.govern.settings import Settings
from hotbank.sweep.run import Choice, Contents, File, Row, Run

SWEEP = """
policies = ["balance", "reserve"]
seeds = [1, 2]

[settings.balance]
guess = [0.25, 0.5]
guard.hourly = [2, 60]

[machine.small]
count = {count}
trace = "day.csv"
banks = 4
part = "micron-4gb-lpddr3-1600-x32"
"""


def write_sweep(folder: Path, count: int = 20, samples: int = 40) -> Path:
    """A sweep over ``count`` machines on paper, ten runs each, beside the demand that they share."""
    rows = [f"{60 * n},1048576,{100000 + 60000 * (n * n % 11)},5000" for n in range(samples)]
    (folder / "day.csv").write_text("\n".join(["t_s,physmem,anonpages,cached", *rows, ""]))
    (folder / "many.toml").write_text(SWEEP.format(count=count))
    return folder / "many.toml"


@dataclass(frozen=True, slots=True)
class Odd:
    """A subject that kills its process the first ``deadly`` times, or is refused. What was begun stands in ``log``."""

    number: int
    log: str
    deadly: int = 0
    refused: bool = False

    @property
    def label(self) -> Mapping[str, Any]:
        return {"subject": "odd", "member": self.number, "load": "none"}

    @property
    def files(self) -> Sequence[File]:
        return ()

    def document(self) -> dict[str, Any]:
        return {"odd": self.number}

    def tried(self, settings: Settings, seed: int, contents: Contents) -> tuple[Row, Row | None]:
        with Path(self.log).open("a") as log:
            log.write(f"{self.number}\n")
        if begun(self.log).count(self.number) <= self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.refused:
            raise Refusal(Code.UNSUPPORTED, "not this one")
        return {"number": self.number}, None


def begun(log: str) -> list[int]:
    """The numbers of the runs in the order in which they were begun."""
    return [*map(int, Path(log).read_text().split())]


def odd_runs(folder: Path, count: int, **deadly: int) -> list[Run]:
    """So many; ``deadly``: by ``n`` and the number, how often it kills."""
    choice = Choice("balance", (), Settings())
    return [Run(Odd(n, str(folder / "log"), deadly.get(f"n{n}", 0)), choice, 0) for n in range(count)]
