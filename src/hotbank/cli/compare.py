# SPDX-License-Identifier: Apache-2.0
"""``hotbank compare``: the same random operations on a real kernel in QEMU and on the model of the same board."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from hotbank.cli import handed
from hotbank.cli.current import kernel_option
from hotbank.cli.terminal import counted, say, say_json
from hotbank.errors import Code

if TYPE_CHECKING:
    from hotbank.compare import Report, Step


@click.command(
    "compare", short_help="The same random operations on a real kernel and on the model: where do they differ?"
)
@click.argument("board_name", metavar="BOARD")
@click.option("--ops", type=click.IntRange(min=1), default=150, show_default=True, help="How many operations.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice of operations.")
@click.option("--cmdline", metavar="TEXT", default="", help="Kernel command line, after the board's own.")
@click.option("--kernel", metavar="VERSION|IMAGE", help="That series of Debian's kernel, or an Image file.")
@click.option("--modules", type=click.Path(file_okay=False), help="lib/modules/VERSION of the Image.")
@click.option(
    "--source", metavar="TREE", type=click.Path(file_okay=False), help="The folder that the Image was built in."
)
@click.option("--html", "page", type=click.Path(dir_okay=False), help="Also write it as a page that stands by itself.")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
def compare(board_name: str, ops: int, seed: int, page: str | None, as_json: bool, **options: Any) -> int:
    """Do the same random operations to a real kernel in QEMU and to the model, and say where they disagree.

    Before each operation the model starts anew from what the guest's blocks, zones and pages are. Errno, states,
    valid_zones, zone spans and the number of migrated pages must then be equal. RACED: a page came or went between
    the look and the attempt. Exit status 1 if anything differs; docs/fidelity.md says what is compared.
    """
    from hotbank import compare as comparison
    from hotbank.boards_qemu import Wanted
    from hotbank.documents import EXIT_INTERRUPTED

    if page:
        handed.check_writable(page)
    options |= kernel_option(options.pop("kernel"))

    def show(step: Step) -> None:
        say(_step_line(step, ops), err=True)

    report = comparison.Report(board_name, seed)
    try:
        comparison.compare(Wanted(board_name, **options), ops, seed, lambda line: say(line, err=True), show, report)
    except KeyboardInterrupt:
        say(f"hotbank: {Code.INTERRUPTED}: after {len(report.steps)} of {ops} operations", err=True)
        return EXIT_INTERRUPTED
    finally:
        if report.steps:  # an interrupted comparison has found something, too
            if page:
                _write_page(page, report)
            _print(report, ops, as_json)
    return int(not report.equal)


def _print(report: Report, operations: int, as_json: bool) -> None:
    if as_json:
        say_json(report.document())
        return
    for line in _lines(report, operations):
        say(line)


def _write_page(path: str, report: Report) -> None:
    from hotbank.web import page

    page.write(path, page.comparison(report.document()))


def _step_line(step: Step, operations: int) -> str:
    """``  12/150  state memory13 offline: 0, 2107 pages moved``"""
    moved = f", {step.real.migrated} pages moved" if step.real.migrated else ""
    raced = f", {Code.RACED}" if step.raced else ""
    wrong = "".join(f"; kernel, not model: {difference}" for difference in step.differences)
    return f"{step.number + 1:>5}/{operations}  {step.operation}: {step.real.answer}{moved}{raced}{wrong}"


def _migrated(report: Report) -> str:
    moved = report.migrations
    kernel, model = sum(s.real.migrated for s in moved), sum(s.modelled.migrated for s in moved)
    worst = max((abs(s.real.migrated - s.modelled.migrated) for s in moved), default=0)
    return f"{kernel} pages in {len(moved)} operations, the model {model}; at most {worst} apart"


def _lines(report: Report, operations: int) -> Iterator[str]:
    whole = len(report.steps) == operations
    done = f"{len(report.steps)}{'' if whole else f' of {operations}'}"
    yield f"machine     {report.machine}, seed {report.seed}, {counted(report.boots, 'boot')}, {report.seconds:.0f} s"
    yield f"operations  {done}, {report.refused} refused by the kernel, {report.raced} {Code.RACED}"
    yield f"migrated    {_migrated(report)}"
    yield f"content     {report.damaged} pages damaged"
    yield f"rows        {len(report.rows)} kinds of answers met"
    for name, times in sorted(report.rows.items()):
        yield f"  {times:>4}  {name}"
    for step in report.wrong:
        yield f"DIFFERENT   step {step.number}, {step.operation}: {'; '.join(step.differences)}"
    yield (
        ("equal" if whole else "equal so far")
        if report.equal
        else f"not equal: {counted(len(report.wrong), 'operation')}"
    )
