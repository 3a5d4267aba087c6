# SPDX-License-Identifier: Apache-2.0
"""What two processes are worth to a sweep, and what a machine on paper costs a day.

The same runs alone and by two processes, each with its results kept: wall time, and processor time of all processes. On
a machine with others at work wall times say little; processor time still says what two processes could be worth at best
on two idle processors: twice what it takes alone, by what it takes with two.

    python bench/sweep.py [--machines N] [--runs N] [--check]

``--check`` exits with 1 when the best ratio of wall times misses the goal.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from hotbank.sweep.crew import Alone, Crew, Processes, carry_out
from hotbank.sweep.grid import Grid, load
from hotbank.sweep.store import Store

GOAL = 1.7
FLEET = """
policies = ["balance", "reserve"]
[machine.small]
count = {count}
trace = "vm01"
size = "8G"
banks = 8
part = "micron-4gb-ddr4-2400-x8"
"""


def swept(its: Grid, crew: Crew) -> tuple[float, float]:
    """Seconds of wall time, and of processor time of this process and its children."""
    began, spent = time.perf_counter(), _spent()
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        carry_out(its.runs, its.contents, crew, lambda answer: store.keep(answer.rows))
        assert len(store.write(run.name for run in its.runs)) == len(its.runs)
    return time.perf_counter() - began, _spent() - spent


def _spent() -> float:
    return sum(os.times()[:4])


def main() -> int:
    """Print the rows; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "fleet.toml")
        file.write_text(FLEET.format(count=options.machines))
        its = load(file)
    best = 0.0
    for _ in range(options.runs):
        (alone, one), (wall, two) = swept(its, Alone()), swept(its, Processes(2))
        best = max(best, alone / wall)
        print(f"{len(its.runs)} runs alone: {alone:6.1f} s, processor {one:6.1f} s, {one / len(its.runs):.3f} s a run")
        print(f"by two processes: {wall:6.1f} s, processor {two:6.1f} s; ratio {alone / wall:.2f}, 2 x {one / two:.2f}")
    return int(options.check and best < GOAL)


if __name__ == "__main__":
    sys.exit(main())
