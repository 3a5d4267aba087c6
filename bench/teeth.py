# SPDX-License-Identifier: Apache-2.0
"""Teeth of random height and length on `arm-2009`, samples a minute, a tenth of them slab: processes that are killed
with a policy and without, and what is saved. docs/policy.md has the dated result.

    python bench/teeth.py [--seeds N] [KEY=VALUE...]
"""

from __future__ import annotations

import argparse
import random

from hotbank import board
from hotbank.govern import settings
from hotbank.load.trace import Sample, Trace
from hotbank.memory import MIB
from hotbank.model import Model
from hotbank.simulate import Load, simulate

BOARD, TOTAL, MINUTES = "arm-2009", 512 * MIB, 120
LOW, LEAST, MOST = 0.12, 0.4, 0.8  # shares of the machine: when it is calm, and at the tops


def teeth(seed: int) -> Trace:
    """Up in 3 to 20 minutes, down at once, calm for 2 to 15."""
    chance, use = random.Random(seed), list[float]()
    while len(use) < MINUTES:
        up, calm = chance.randint(3, 20), chance.randint(2, 15)
        top = chance.uniform(LEAST, MOST)
        use += [LOW + (top - LOW) * minute / up for minute in range(up)] + [LOW] * calm
    return Trace(f"teeth {seed}", TOTAL, tuple(_sample(minute, share) for minute, share in enumerate(use[:MINUTES])))


def _sample(minute: int, share: float) -> Sample:
    return Sample(60.0 * minute, int(share * TOTAL * 0.9), 0, 0, 0, int(share * TOTAL * 0.1), 0, 0, 0)


def main() -> None:
    """Print a line a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("pairs", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    chosen = settings.read("balance", given.pairs)
    print("seed  killed  without  saved  switches")
    for seed in range(1, given.seeds + 1):
        report = simulate(lambda: Model.boot(board.load(BOARD)), Load(trace=teeth(seed)), chosen)
        killed, without, share = report.harm.oom_kills, report.baseline.oom_kills, report.result.share
        print(f"{seed:>4}  {killed:>6}  {without:>7}  {share or 0:>5.3f}  {report.banks[0].removed:>8}", flush=True)


if __name__ == "__main__":
    main()
