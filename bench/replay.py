# SPDX-License-Identifier: Apache-2.0
"""How fast the model replays a real demand series page by page, and what ``hotbank simulate`` takes to start.

The series: 4.5 hours of a machine with 8 GiB (tests/data/traces), on a board of 8 GiB in frames of 4 KiB, each
anonymous, cached, slab or page-table page a frame of its own. Goal: 2,000 times real time. The same replay at a
sixteenth of the size says what does not depend on pages. Start times are those of fresh processes.

    python bench/replay.py [--runs N] [--cpu N] [--check]

``--check`` exits with 1 when the median misses the goal.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from hotbank import board
from hotbank.load import trace as traces
from hotbank.load.trace import Replay, Trace
from hotbank.model import Model

GOAL = 2000
SERIES = Path(__file__).resolve().parents[1] / "tests/data/traces/brolley-t530_2018-04-16_10s.csv.gz"
BOARD = 'name="laptop"\narch="arm64"\nblock_size="128M"\n[bank.all]\nstart="1G"\nsize="{}"\n'
STARTS = {
    "hotbank --version": ["--version"],
    "simulate, one second": ["simulate", "arm-2009", "--workload", "inodes", "--seconds", "1"],
}


def replayed(size: str, trace: Trace) -> float:
    """Seconds of this thread's CPU time for the whole series. Checks the books afterwards."""
    model = Model.boot(board.loads(BOARD.format(size)), backend="compiled")
    replay = Replay(model, trace)
    start = time.thread_time()
    replay.run()
    taken = time.thread_time() - start
    model.validate()
    assert replay.failed == 0, f"{replay.failed} requests were refused"
    return taken


def started(arguments: list[str]) -> float:
    """Seconds of wall time of one command."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "hotbank", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Print the rows; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    trace = traces.load(SERIES)
    replayed("512M", trace)  # whatever is compiled is compiled now
    medians = {}
    for size in ("8G", "512M"):
        ratios = [trace.seconds / replayed(size, trace) for _ in range(options.runs)]
        medians[size] = statistics.median(ratios)
        spread = f"{min(ratios):.0f} to {max(ratios):.0f}"
        print(f"replay, {size:>4}      {medians[size]:8.0f} x real time   ({spread}; goal for 8G: {GOAL})")
    for name, arguments in STARTS.items():
        times = [started(arguments) for _ in range(options.runs)]
        print(f"start, {name:<22} {statistics.median(times):6.2f} s   ({min(times):.2f} to {max(times):.2f})")
    return int(options.check and medians["8G"] < GOAL)


if __name__ == "__main__":
    sys.exit(main())
