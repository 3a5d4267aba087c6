# SPDX-License-Identifier: Apache-2.0
"""``hotbank simulate``: a load on a model, under a policy, without one, and as the clairvoyant would have done."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hotbank import __version__, board, kernels
from hotbank.cli import handed, plots
from hotbank.cli.interrupts import heard
from hotbank.cli.screen import is_terminal
from hotbank.cli.terminal import counted, say, say_json, say_over
from hotbank.cli.times import Seconds
from hotbank.documents import EXIT_DONE, EXIT_INTERRUPTED
from hotbank.memory import format_size

if TYPE_CHECKING:
    from hotbank.model import Model
    from hotbank.simulate import BankHistory, Blame, Harm, Report

_EVERY = 1.0  # seconds of wall time between words about how far it is


@click.command("simulate")
@click.argument("board_name", metavar="BOARD|CAPTURE")
@click.option("--workload", metavar="FILE|NAME", help="A workload file, or a shipped one: camera, inodes.")
@click.option(
    "--trace",
    "trace_file",
    type=click.Path(dir_okay=False),
    help="A demand series (CSV, .gz) to replay, or a shipped one: billing02, shard, vm01.",
)
@click.option("--allow-gaps", is_flag=True, help="Hold the demand over samples that the trace lacks.")
@click.option(
    "--policy", default="balance", show_default=True, metavar="NAME|FILE.toml", help="docs/policy.md has them."
)
@click.option(
    "--set", "pairs", multiple=True, metavar="KEY=NUMBER", help="A setting of the policy; guard.KEY of its guard."
)
@click.option("--seconds", type=Seconds(), help="Stop after so much simulated time.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option("--costs", "costs_file", type=click.Path(dir_okay=False), help="What work takes (TOML, docs/model.md).")
@click.option("--html", "page", type=click.Path(dir_okay=False), help="Also write it as a page that stands by itself.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False), metavar="FILE.svg|png", help="Draw it, too.")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
def simulate(
    board_name: str,
    workload: str | None,
    trace_file: str | None,
    allow_gaps: bool,
    policy: str,
    pairs: tuple[str, ...],
    seconds: float | None,
    seed: int,
    costs_file: str | None,
    page: str | None,
    picture: str | None,
    as_json: bool,
) -> int:
    """Try a policy under a workload, a recorded demand, or both; time is simulated.

    The load runs twice: without a policy, which says what it asks for and what goes wrong anyway, and with it. Beside
    both stands the optimum, which knows the future. Says for each bank what was tried, refused and why, pages moved,
    how long it was dark; and who was out when something was killed or refused that would not have been otherwise.
    Ctrl-C ends it early: all of that is then told of the seconds until there, and said to be partial.
    """
    from hotbank import simulate as simulation
    from hotbank.govern import settings
    from hotbank.load import script as scripts
    from hotbank.load import trace as traces

    for path in filter(None, (page, picture)):
        handed.check_writable(path)
    if picture:
        plots.check(picture)
    if workload is None and trace_file is None:
        raise click.UsageError("give --workload, --trace or both")
    load = simulation.Load(
        scripts.load(workload) if workload else None,
        traces.load(trace_file, allow_gaps=allow_gaps) if trace_file else None,
        seed,
    )
    files = {
        "board": board.find(board_name),
        "trace": trace_file and traces.find(trace_file),
        "workload": workload and scripts.find(workload),
    }
    chosen = settings.read(policy, pairs)
    say(f"{load.name} without a policy and with {chosen.name}", err=True)
    until = _Until(load.seconds if seconds is None else seconds)
    with heard(until.wish), closing(until):
        report = simulation.simulate(
            _boot(board_name, seed, costs_file),
            load,
            chosen,
            seconds=seconds,
            manifest=_manifest({name: Path(file) for name, file in files.items() if file}),
            stopped=until.stopped,
        )
    if not as_json:
        say(*_lines(report))
    if page:
        _write_page(page, report)
    if picture:
        from hotbank.cli.simulate_plot import draw

        draw(report, picture)
    if as_json:  # not beside an error: that is a document, too
        say_json(report.document())
    return EXIT_INTERRUPTED if report.partial else EXIT_DONE


class _Until:
    """Until its end, or until Ctrl-C: the first ends it at the next look, a second one at once.

    On a terminal it says how far it is, once that takes over a second. ``length``: seconds.
    """

    def __init__(self, length: float) -> None:
        self._length, self._wished, self._shown = length, False, False
        self._told = time.monotonic()

    def wish(self) -> None:
        """Ctrl-C. Raises KeyboardInterrupt the second time."""
        if self._wished:
            raise KeyboardInterrupt
        self._wished = True

    def stopped(self, at: float) -> bool:
        """See ``simulate``. Raises KeyboardInterrupt where there is nothing yet that could be told."""
        if self._wished and not at:
            raise KeyboardInterrupt
        if is_terminal(sys.stderr) and time.monotonic() - self._told > _EVERY:
            say_over(f"{at:.0f} of {self._length:.0f} s")
            self._told, self._shown = time.monotonic(), True
        return self._wished

    def close(self) -> None:
        """The line is free for what comes."""
        if self._shown:
            say_over("")


def _write_page(path: str, report: Report) -> None:
    from hotbank.web import page

    page.write(path, page.simulation(report.document()))


def _boot(name: str, seed: int, costs_file: str | None) -> Callable[[], Model]:
    """Makes the model of a board, or of a machine that was captured, anew each time."""
    from hotbank.model import clock, named
    from hotbank.model.backend import resources

    costs = clock.load_costs(costs_file) if costs_file else None
    given, source = resources(os.environ), named.find(name)
    return lambda: named.start(source, seed=seed, costs=costs, **given)


def _manifest(files: dict[str, Path]) -> dict[str, Any]:
    """What made the document: this version, the kernel that is modelled, a digest of each file."""
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return {"version": __version__, "kernel": kernels.DEFAULT, "hashes": hashes}


def _lines(report: Report) -> Iterator[str]:
    load, name = report.load, report.settings.name
    yield f"machine   {report.snapshot.machine}, {load.name}, seed {load.seed}, {report.seconds:.0f} s, policy {name}"
    if report.partial:
        yield f"partial   interrupted after {report.seconds:.0f} of {report.asked:.0f} s, of which all this is"
    if report.brought_in:
        yield f"first     {', '.join(report.brought_in)} brought in, which the kernel did not get at boot"
    for bank in report.banks:
        yield from _bank_lines(bank, report.seconds)
    for at, demand, on, off in report.timeline:
        sizes = (f"{format_size(size >> 20 << 20)}" for size in (demand, on, off))
        yield "{:>9.1f} s  {:>6} used, {:>6} in the kernel, {:>6} dark".format(at, *sizes)
    yield _compared(report)
    yield f"without   {_harm(report.baseline)}"
    yield f"with      {_harm(report.harm)}"
    yield from map(_blame, report.blame)


def _bank_lines(bank: BankHistory, end: float) -> Iterator[str]:
    refused = ", ".join(f"{code} {times}" for code, times in sorted(bank.refused.items())) or "none"
    off = bank.seconds_off(end)
    counts = f"{counted(bank.tried, 'removal')} tried, {bank.removed} done, {bank.added} taken back, refused: {refused}"
    work = f"{bank.planned} pages planned, {bank.pages} moved in {bank.busy:.2f} s; dark {off:.0f} s ({off / end:.0%})"
    yield f"{bank.name:<10}{format_size(bank.size)}: {counts}; {work}"
    if not bank.tried:
        yield f"{'':10}never left: {bank.held or 'nothing was looked at'}"


def _compared(report: Report) -> str:
    result, (ours, best) = report.result, report.saved()
    share = "nothing could be saved" if result.share is None else f"{result.share:.1%} of what the optimum saves"
    joules = f"{ours.typical:.3g} J of {best.typical:.3g} J" if best.high else "no joules"
    short, switches = result.shortage_permille, result.switches_per_hour
    return f"saved     {share} ({joules}); {short:.1f} of 1000 looks short; {switches:.1f} switches an hour"


def _harm(harm: Harm) -> str:
    refused, killed = counted(harm.refused_acts, "request"), counted(harm.oom_kills, "process", "es")
    told = f"{refused} refused, {killed} killed for want of memory"
    squeezed = f"; {harm.squeezed} pages of cache had no room, summed over the samples"
    return told + (squeezed if harm.squeezed else "")


def _blame(blame: Blame) -> str:
    what = f"{blame.refused_acts} refused and {blame.oom_kills} killed that would not have been"
    return f"to blame  {', '.join(blame.banks)}, out at {blame.at:.0f} s: {what}"
