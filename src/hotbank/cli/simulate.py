# SPDX-License-Identifier: Apache-2.0
"""``hotbank simulate``: a workload or a recorded demand on a model, and what taking banks out would have saved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from hotbank import board
from hotbank.cli.terminal import say, say_json
from hotbank.cli.times import Seconds
from hotbank.memory import format_size

if TYPE_CHECKING:
    from hotbank.simulate import BankHistory, Report


@click.command("simulate")
@click.argument("board_name", metavar="BOARD")
@click.option("--workload", metavar="FILE|NAME", help="A workload file, or a shipped one: camera, inodes.")
@click.option("--trace", "trace_file", type=click.Path(dir_okay=False), help="A demand series (CSV, .gz) to replay.")
@click.option("--allow-gaps", is_flag=True, help="Hold the demand over samples that the trace lacks.")
@click.option("--seconds", type=Seconds(), help="Stop after so much simulated time.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option("--costs", "costs_file", type=click.Path(dir_okay=False), help="What work takes (TOML, docs/model.md).")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
def simulate(
    board_name: str,
    workload: str | None,
    trace_file: str | None,
    allow_gaps: bool,
    seconds: float | None,
    seed: int,
    costs_file: str | None,
    as_json: bool,
) -> None:
    """Try banks out under a workload, a recorded demand, or both; time is simulated.

    Movable banks are taken out while memory is plenty and brought back when it gets short (docs/model.md has the
    rule). Says for each bank what was tried, refused and why, pages moved, and how long it was dark.
    """
    from hotbank import simulate as simulation
    from hotbank.load import script as scripts
    from hotbank.load import trace as traces
    from hotbank.model import Model, clock
    from hotbank.model.backend import resources

    if workload is None and trace_file is None:
        raise click.UsageError("give --workload, --trace or both")
    script = scripts.load(workload) if workload else None
    trace = traces.load(trace_file, allow_gaps=allow_gaps) if trace_file else None
    costs = clock.load_costs(costs_file) if costs_file else None
    model = Model.boot(board.load(board_name), seed=seed, costs=costs, **resources(os.environ))
    report = simulation.simulate(model, script=script, trace=trace, seed=seed, seconds=seconds)
    if as_json:
        say_json(report.document())
        return
    say(*_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"machine   {report.machine}, {report.workload}, seed {report.seed}, {report.seconds:.0f} s"
    for bank in report.banks:
        yield _bank_line(bank, report.seconds)
    for when, off in report.timeline:
        yield f"{when:>9.1f} s  {format_size(off)} off"
    yield f"workload  {report.refused_acts} requests refused, {report.oom_kills} processes killed for want of memory"
    if report.squeezed:
        yield f"cache     {report.squeezed} pages asked for had no room, summed over the samples"


def _bank_line(bank: BankHistory, end: float) -> str:
    refused = ", ".join(f"{code} {times}" for code, times in sorted(bank.refused.items())) or "none"
    off = bank.seconds_off(end)
    counts = f"{bank.tried} removals tried, {bank.removed} done, {bank.added} taken back, refused: {refused}"
    work = f"{bank.planned} pages planned, {bank.pages} moved in {bank.busy:.2f} s; off {off:.0f} s ({off / end:.0%})"
    return f"{bank.name:<10}{format_size(bank.size)}: {counts}; {work}"
