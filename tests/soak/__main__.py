# SPDX-License-Identifier: Apache-2.0
"""``python -m soak``: three soaks one after the other, as long as they are told to; status 1 when anything was wrong.

An owner in a crowd, crashes, and a bank that leaves and returns under a workload. ``make soak`` runs it.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from typing import Protocol

from mount.mounts import can_mount
from soak import crashes, crowded, cycles

_FEW = 10  # of what was wrong: one thing that goes wrong early may be followed by many


class Report(Protocol):
    """What a soak came to."""

    wrong: list[str]


def main(words: list[str]) -> int:
    """Run what the words ask for; the exit status."""
    given = _arguments().parse_args(words)
    say(f"seed {given.seed}")
    wrong = 0
    if given.minutes:
        seconds = 60 * given.minutes
        wrong += _told("crowd", lambda: crowded.soak(seconds, seconds / 4, say))
    if given.crashes:
        wrong += _told("crashes", lambda: crashes.soak(given.crashes, given.seed, say, mounts=can_mount()))
    if given.cycles:
        wrong += _told("cycles", lambda: cycles.soak(given.cycles, given.seed, say))
    return 1 if wrong else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="of wall time in a crowd (60)")
    parser.add_argument("--crashes", type=int, default=2000, help="runs in which somebody dies (2000)")
    parser.add_argument("--cycles", type=int, default=100_000, help="times that a bank leaves and returns (100000)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    return parser


def _told(name: str, soak: Callable[[], Report]) -> int:
    """Run one; how much was wrong."""
    report = soak()
    say(f"{name}: {report}")
    for what in report.wrong[:_FEW]:
        say(f"{name}: WRONG: {what}")
    return len(report.wrong)


def say(text: str) -> None:
    """Progress, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
