# SPDX-License-Identifier: Apache-2.0
"""What a simulated day takes: a demand in samples a minute on virt-arm64 under `balance`, which looks every 10 s.

``simulate`` plays the day twice, page by page, without the policy and with it. The reference plays it twice on models
of the same board and looks at nothing. Both run in this process, in turn, and what counts is its CPU time; the ratio is
the median over the pairs and says what 17,280 looks, the decisions, pages that leave a bank and a cache with less room
cost beside the demand itself. Goals: the day in 2 s on a quiet machine, and at most twice the reference.

    python bench/day.py [--pairs N] [--check]

``--check`` exits with 1 when the ratio misses its goal.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hotbank import board
from hotbank.govern.settings import read
from hotbank.load import trace as traces
from hotbank.load.trace import Replay
from hotbank.model import Model
from hotbank.simulate import Load, simulate

SERIES = Path(__file__).resolve().parents[1] / "tests/data/traces/vm01_2018-06-05_60s.csv.gz"
SECONDS, RATIO = 2.0, 2.0


def spent(act: Callable[[], object]) -> float:
    """Seconds of this process's CPU time."""
    before = time.process_time()
    act()
    return time.process_time() - before


def main() -> int:
    """Print the row; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3, help="pairs of runs (default 3)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the ratio misses its goal")
    options = parser.parse_args()
    plan, series, settings = board.load("virt-arm64"), traces.load(SERIES), read("balance", ["every=10"])

    def day() -> None:
        simulate(lambda: Model.boot(plan), Load(trace=series), settings)

    def pages() -> None:
        for _ in range(2):
            model = Model.boot(plan)
            Replay(model, series).start()
            model.clock.sleep(series.seconds)

    pages()  # whatever is compiled is compiled now
    pairs = [(spent(pages), spent(day)) for _ in range(options.pairs)]
    base, mine = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(other / reference for reference, other in pairs)
    print(f"a day, looks every 10 s  {mine:6.2f} s  (goal {SECONDS:g})   its pages alone, twice {base:6.2f} s")
    print(f"ratio  {ratio:6.2f}  goal {RATIO:g}  ({options.pairs} pairs)")
    return int(options.check and ratio > RATIO)


if __name__ == "__main__":
    sys.exit(main())
