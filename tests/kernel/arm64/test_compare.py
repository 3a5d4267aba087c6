# SPDX-License-Identifier: Apache-2.0
"""500 random operations on real kernels and on models that start from them: the same errno, states, zones, spans and
migrated pages, by each route."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from hotbank import kernels
from hotbank.boards_qemu import Wanted
from hotbank.compare import ROWS, Report, compare
from kernel.kernel_kit import KERNEL, lean

pytestmark = pytest.mark.kernel

BOARDS = Path(__file__).parent / "compare"
OPERATIONS = 167
# Those that the kernel has (docs/arm64.md): make compare KERNEL=6.16 ROUTES=kmem,virtio-mem. dimm needs no modules.
ROUTES = os.environ.get("ROUTES", "driver,kmem,virtio-mem").split(",")
SPLIT = "movablecore=136M"  # boot memory that could be isolated, which the kernel vetoes, and a block of two zones
SEEDS = (1, 2, 3)
OF_OUR_DRIVER = {"online, our driver keeps it out of a kernel zone: EPERM"}
NOT_OF_DIMMS = re.compile("add|remove|a block that is not there|.*a notifier says no")  # they are there for good

FURTHER = 9  # shorter runs at most, if chance left an answer out


def run(seed: int, operations: int) -> Report:
    """That many operations, by the route whose turn it is; its line of docs/fidelity.md is printed."""
    route = ROUTES[(seed - 1) % len(ROUTES)]
    cmdline = SPLIT if route == ROUTES[0] else ""
    report = compare(lean(Wanted(str(BOARDS / f"{route}.toml"), series=KERNEL, cmdline=cmdline)), operations, seed)
    counts = (len(report.steps), report.refused, len(report.wrong), report.raced)
    print(f"| {seed} | `{route}` | {KERNEL or kernels.DEFAULT} | {' | '.join(map(str, counts))} |")
    return report


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    """One run for each seed, each by another route."""
    return [run(seed, OPERATIONS) for seed in SEEDS]


def test_nothing_differs(reports: list[Report]) -> None:
    assert sum(len(report.steps) for report in reports) >= 500
    assert [(r.machine, s.number, str(s.operation), s.differences) for r in reports for s in r.wrong] == []
    assert all(report.equal for report in reports)


def test_few_races_and_many_refusals(reports: list[Report]) -> None:
    for report in reports:
        assert report.raced <= 0.03 * len(report.steps)
        assert report.refused >= 0.15 * len(report.steps)


def test_pages_move_as_the_model_says(reports: list[Report]) -> None:
    """Enough of them that a wrong count would show."""
    moved = [step for report in reports for step in report.migrations]
    assert sum(step.real.migrated > 5000 for step in moved) >= 5
    assert all(step.real.migrated > 0 for step in moved if step.modelled.migrated > 256)


def test_every_measured_answer_was_met(reports: list[Report]) -> None:
    rows = sum((report.rows for report in reports), Counter[str]())
    possible = ROWS.keys() - (set() if "driver" in ROUTES else OF_OUR_DRIVER)
    possible -= {row for row in ROWS if NOT_OF_DIMMS.match(row)} if ROUTES == ["dimm"] else set()
    for seed in range(len(SEEDS) + 1, len(SEEDS) + 1 + FURTHER):
        if not rows.keys() >= possible:
            report = run(seed, OPERATIONS // 2)
            assert report.equal
            rows += report.rows
    assert rows.keys() == possible
