# SPDX-License-Identifier: Apache-2.0
"""``python -m microscope``: our bank driver under a kernel that looks for its mistakes; status 1 when it finds one.

A debug kernel is built (an hour on a slow machine, then kept), and on it run: the fault walk over each operation of the
driver; drivers with mistakes planted in them, which must be found; and the driver's own tests. ``make microscope``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from hotbank.boards_qemu.supervisor import QemuMachine
from microscope import guests, kernel, walks
from patience import HANG

SUITE = ("test_supply.py", "test_refusals.py", "test_batches.py")
_FEW = 10  # of what was wrong: one thing that goes wrong early may be followed by many


def main(words: list[str]) -> int:
    """Run what the words ask for; the exit status."""
    given = _arguments().parse_args(words)
    image, tree = (given.kernel, given.source) if given.kernel else kernel.built(say)
    wrong = 0
    if given.operations:
        wrong += _walk(image, tree, given.operations)
    if given.breaches:
        wrong += sum(not _found(image, tree, breach) for breach in guests.BREACHES)
    if given.suite:
        wrong += _suite(image, tree)
    return 1 if wrong else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="microscope", description=__doc__)
    parser.add_argument("--kernel", type=Path, help="this Image instead of ours, with --source")
    parser.add_argument("--source", type=Path, help="the folder that it was built in")
    operations = "operations to walk (all); none: no walk"
    parser.add_argument("--operations", type=_names, default=walks.OPERATIONS, help=operations)
    parser.add_argument("--no-breaches", dest="breaches", action="store_false", help="plant no mistakes")
    parser.add_argument("--no-suite", dest="suite", action="store_false", help="leave the driver's tests out")
    return parser


def _names(words: str) -> tuple[str, ...]:
    names = tuple(name for name in words.split(",") if name != "none")
    if unknown := set(names) - set(walks.OPERATIONS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose from {', '.join(walks.OPERATIONS)}")
    return names


def _walk(image: Path, tree: Path, operations: tuple[str, ...]) -> int:
    """How much was wrong."""
    wrong = 0
    with guests.booted(image, tree) as machine:
        ask = asking(machine)
        wrong += _told("instruments", [f"{name} is off" for name in walks.blind(ask)])
        say("operation   denied sites      kB    wrong  answers by errno")
        for operation in operations:
            done = walks.walk(ask, guests.BANK, operation)
            say(done.line())
            wrong += _told(operation, done.wrong)
        wrong += _told("instruments", [f"{name} went off" for name in walks.blind(ask)])
    return wrong


def _found(image: Path, tree: Path, breach: guests.Breach) -> bool:
    with guests.booted(image, tree, breach) as machine:
        done = walks.walk(asking(machine), guests.BANK, breach.operation, breach.first, walks.STRIDE)
    seen = [what for what in done.wrong if breach.seen in what]
    say(f"planted: {breach.name}: {f'found: {seen[0]}' if seen else f'NOT FOUND in {done.wrong}'}")
    return bool(seen)


def _suite(image: Path, tree: Path) -> int:
    """The driver's own tests, in guests on that kernel."""
    tests = [str(Path(__file__).parents[1] / "kernel/arm64" / name) for name in SUITE]
    environment = {**os.environ, "HOTBANK_TEST_KERNEL": str(image), "HOTBANK_TEST_SOURCE": str(tree)}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:benchmark", *tests]
    return subprocess.run(argv, env=environment, check=False).returncode


def asking(machine: QemuMachine) -> walks.Ask:
    """Commands in that guest."""
    return partial(machine.runner.run, timeout=10 * HANG)


def _told(what: str, wrong: list[str]) -> int:
    for line in wrong[:_FEW]:
        say(f"{what}: WRONG: {line}")
    return len(wrong)


def say(text: str) -> None:
    """Progress, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
