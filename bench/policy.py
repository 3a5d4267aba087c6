# SPDX-License-Identifier: Apache-2.0
"""What the governor's policies save of what could be saved, on real memory series.

What is measured, on which series, and the goals stand in policy.toml, which is older than the policies. Two tables:
a demand that comes in steps, each met by what was decided at the sample before; and the same samples joined by straight
lines, looked at every 2 s, where what is ordered is there half a second later. Every policy passes the guard.
Nothing is random; the spread is over starts, each a sixteenth of a bank further up in the banks.

    python bench/policy.py [--starts N] [--check]

``--check`` exits with 1 when ``balance`` misses a goal on the steps.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hotbank import memspec
from hotbank.govern.policy import Balance, Policy, Reserve
from hotbank.govern.replay import Park, Result, Series, replay
from hotbank.load import trace
from hotbank.sweep import paper
from hotbank.sweep.run import RETURNING

HERE = Path(__file__).resolve().parent
TRACES = HERE.parent / "tests/data/traces"
RULES: Mapping[str, Any] = tomllib.loads((HERE / "policy.toml").read_text("utf-8"))
GOAL, TUNED_ON, REPORTED = RULES["goal"], RULES["series"]["tuning"], RULES["series"]["reported"]
PERIOD = 2.0
POLICIES: dict[str, Policy] = {
    "reserve": Reserve(),
    "balance": Balance(),
    "balance, deterministic": Balance(trust=1.0),
}


def series(name: str) -> tuple[int, Series]:
    """Bytes of the machine, and its demand."""
    found = trace.load(TRACES / f"{name}.csv.gz", allow_gaps=True)
    return found.total, [(sample.seconds, sample.used) for sample in found.samples]


def park(total: int, *, shift: float = 0.0, lines: bool = False) -> Park:
    """Equal banks that may all leave, ``shift`` of a bank above memory that never does."""
    there = paper.park(total, RULES["banks"], memspec.load(RULES["part"]), lift=shift)
    return paper.looked_at(there, PERIOD if lines else None, RETURNING)


def run(name: str, policy: Policy, starts: int, *, lines: bool = False) -> list[Result]:
    """The series under the policy, from each start."""
    total, demand = series(name)
    return [replay(demand, park(total, shift=start / 16, lines=lines), policy) for start in range(starts)]


def show(name: str, results: list[Result], seconds: float) -> None:
    first, shares = results[0], [r.share for r in results if r.share is not None]
    spread = f"{min(shares):.3f}-{max(shares):.3f}" if shares else "nothing to save"
    share = "-" if first.share is None else f"{first.share:.3f}"
    short = f"{first.shortage_permille:.1f} (at most {max(r.shortage_permille for r in results):.1f})"
    print(f"  {name:<29}{share:>6} {spread:>16}{short:>20}{first.switches_per_hour:>8.1f}{seconds:>8.2f}")


def table(title: str, policy: Policy, starts: int, *, lines: bool) -> bool:
    """Print a policy's rows; True if all goals are met."""
    print(f"{title}, {'straight lines' if lines else 'steps'}")
    print(f"  {'series':<29} share    over starts  short, permille  per hour   CPU s")
    shares, met = [], True
    for name in (*TUNED_ON, *REPORTED):
        began = time.process_time()
        results = run(name, policy, starts, lines=lines)
        show(("" if name in TUNED_ON else "* ") + name, results, (time.process_time() - began) / starts)
        shares += [results[0].share] if results[0].share is not None else []
        met &= results[0].shortage_permille <= GOAL["shortage_permille"]
    print(f"  mean share {statistics.mean(shares):.3f}   (* only reported, never tuned on)\n")
    return met and min(shares) >= GOAL["share_each"] and statistics.mean(shares) >= GOAL["share_mean"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=1, help="starts, each a sixteenth of a bank further up")
    parser.add_argument("--check", action="store_true", help="exit with 1 where balance misses a goal")
    args = parser.parse_args()
    met = {
        (title, lines): table(title, policy, args.starts, lines=lines)
        for lines in (False, True)
        for title, policy in POLICIES.items()
    }
    for (title, lines), good in met.items():
        print(f"{title}, {'straight lines' if lines else 'steps'}: goals {'met' if good else 'missed'}")
    return int(args.check and not met["balance", False])


if __name__ == "__main__":
    sys.exit(main())
