# SPDX-License-Identifier: Apache-2.0
"""What a look at memory costs: a survey of one block of 128 MiB beside the plain twin of the tests, which goes page by
page, and ``explain --all`` of this host beside ``dd`` of the same file.

A block is files in a temporary folder, as a kernel would show them; survey and twin run in turn in this process, and
what counts is its CPU time. The commands are fresh processes with Python's compiled files in place, in turn as well.
Ratios are medians over the pairs. Goals: a survey takes at most a tenth of what the twin takes; ``explain --all`` at
most 0.3 s of user CPU, and in total at most 1.3 times what dd takes.

    python bench/look.py [--pairs N] [--check]

``--check`` exits with 1 when a block misses its goal.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from host import page_by_page  # noqa: E402
from host.loads import BLOCK, LOADS, PAGES, host_with  # noqa: E402

FLAGS, LEAST, USER, TOTAL = "/proc/kpageflags", 10.0, 0.3, 1.3


def spent(act: Callable[[], object]) -> float:
    """Seconds of this process's CPU time."""
    before = time.process_time()
    act()
    return time.process_time() - before


def block(load: str, root: Path, pairs: int) -> bool:
    """Print a row; whether it met the goal."""
    host = host_with(root, load)
    span = range(BLOCK * PAGES, (BLOCK + 1) * PAGES)

    def survey() -> float:
        return spent(lambda: host.survey(BLOCK))

    def twin() -> float:
        return spent(lambda: page_by_page.look(host.tree, span))

    survey(), twin()
    both = [(survey(), twin()) for _ in range(pairs)]
    mine, other = (1e3 * statistics.median(column) for column in zip(*both, strict=True))
    ratio = statistics.median(b / a for a, b in both)
    print(f"{load:30} {mine:8.2f} ms {other:8.1f} ms  {ratio:6.1f} times  goal {LEAST:g}")
    return ratio >= LEAST


def process(argv: Sequence[str]) -> tuple[float, float]:
    """User and all seconds of CPU time of one process."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user = after.ru_utime - before.ru_utime
    return user, user + after.ru_stime - before.ru_stime


def here(pairs: int) -> None:
    """Print the row of this host."""
    ours = [sys.executable, "-m", "hotbank", "-m", "host", "explain", "--all"]
    copy = ["dd", f"if={FLAGS}", "of=/dev/null", "bs=256k"]
    process(ours)
    found = [(*process(ours), process(copy)[1]) for _ in range(pairs)]
    user, total, base = (statistics.median(column) for column in zip(*found, strict=True))
    ratio = statistics.median(mine / other for _, mine, other in found)
    print(f"explain --all of this host: {user:.2f} s user (goal {USER:g}), {total:.2f} s in all; dd {base:.2f} s")
    print(f"in all / dd {ratio:6.2f}  goal {TOTAL:g}")


def rows(pairs: int) -> Iterator[bool]:
    """Print a row for each load."""
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        print(f"{'one block of 128 MiB':30} {'survey':>11} {'twin':>11}")
        for number, load in enumerate(LOADS):
            yield block(load, Path(folder, str(number)), pairs)


def main() -> int:
    """Print the rows; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs for each row (default 5)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a block misses its goal")
    options = parser.parse_args()
    met = list(rows(options.pairs))
    if os.access(FLAGS, os.R_OK):
        here(options.pairs)
    return int(options.check and not all(met))


if __name__ == "__main__":
    sys.exit(main())
