# SPDX-License-Identifier: Apache-2.0
"""``hotbank sweep``: boards, loads, policies, settings and seeds, each against each, or a fleet on paper."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from hotbank.cli.screen import live
from hotbank.cli.terminal import say, say_json
from hotbank.documents import EXIT_DONE, EXIT_FAILED, EXIT_PARTLY

if TYPE_CHECKING:
    from hotbank.sweep.crew import Crew
    from hotbank.sweep.grid import Grid
    from hotbank.sweep.report import Report
    from hotbank.sweep.run import Answer, Failed
    from hotbank.sweep.store import Store

_TENTHS = 10  # parts of a sweep that are told where nothing can be drawn over
Tell = Callable[[int], None]


@click.command("sweep")
@click.argument("file", metavar="FILE.toml", type=click.Path(dir_okay=False))
@click.option(
    "-o", "folder", metavar="DIR", required=True, type=click.Path(file_okay=False), help="Where the rows are kept."
)
@click.option("--jobs", type=click.IntRange(1, 1024), help="Processes of this host; as many as it has processors.")
@click.option("--dask", metavar="ADDRESS", help="The workers of a Dask scheduler (tcp://HOST:8786) instead.")
@click.option("--report", "reporting", is_flag=True, help="Write report.txt, report.svg and report.html there, too.")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
def sweep(file: str, folder: str, jobs: int | None, dask: str | None, reporting: bool, as_json: bool) -> int:
    """Simulate everything against everything, each run once, on all processors or a cluster.

    A run that DIR has is not run again: a sweep that was cut goes on with the same command. DIR/runs.csv has a row
    a run, runs.jsonl all there is to tell of each. docs/scale.md has the keys of FILE, and fleets on paper.
    """
    from hotbank.cli import sweep_report
    from hotbank.sweep import grid
    from hotbank.sweep.store import Store

    if jobs and dask:
        raise click.UsageError("--jobs and --dask exclude each other")
    if reporting:
        sweep_report.check()
    its = grid.load(file)
    with Store(folder) as store:
        report = _carried_out(its, store, lambda: _crew(jobs, dask))
        if reporting:
            sweep_report.write(report, store.folder)
    if as_json:
        say_json(report.document())
    else:
        say(*sweep_report.lines(report))
    return _status(report)


def _status(report: Report) -> int:
    if not report.failed:
        return EXIT_DONE
    return EXIT_PARTLY if report.there else EXIT_FAILED


def _crew(jobs: int | None, dask: str | None) -> Crew:
    from hotbank.sweep.crew import Alone, Processes

    if dask:
        from hotbank.sweep.cluster import Cluster

        return Cluster(dask)
    count = jobs or len(os.sched_getaffinity(0))
    return Processes(count) if count > 1 else Alone()


def _carried_out(its: Grid, store: Store, crew: Callable[[], Crew]) -> Report:
    """What is missing is run; whatever ends it, what was done is kept and written."""
    from hotbank.sweep.crew import carry_out
    from hotbank.sweep.report import report

    missing = [run for run in its.runs if run.name not in store.rows]
    names, failed = [run.name for run in its.runs], list["Failed"]()
    try:
        with _telling(len(missing), len(names)) as tell:

            def keep(answer: Answer) -> None:
                store.keep(answer.rows)
                failed.extend(answer.failed)
                tell(len(answer.rows) + len(answer.failed))

            if missing:
                carry_out(missing, its.contents, crew(), keep)
    finally:
        rows = store.write(names)
        if len(rows) + len(failed) < len(names):
            say(f"{len(rows)} of {len(names)} runs are kept; the same command goes on", err=True)
    return report(its.name, len(names), rows, failed)


@contextmanager
def _telling(missing: int, wanted: int) -> Iterator[Tell]:
    """How far it is, how fast, and how long still: a line drawn over on a terminal, else one for each tenth."""
    began, done = time.monotonic(), 0
    with live(sys.stderr) as area:

        def tell(more: int) -> None:
            nonlocal done
            before, done = done, done + more
            text = _how_far(wanted - missing + done, wanted, done / max(1e-9, time.monotonic() - began), missing - done)
            if area is not None:
                area.show(text)
            elif before * _TENTHS // missing < done * _TENTHS // missing:
                say(text, err=True)

        yield tell


def _how_far(there: int, wanted: int, rate: float, left: int) -> str:
    return f"{there} of {wanted} runs, {rate:.3g} a second, {left / rate:.0f} s left"
