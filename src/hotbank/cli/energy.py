# SPDX-License-Identifier: Apache-2.0
"""``hotbank energy``: what banks saved by being dark, as bounds, and what that cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from hotbank import memspec
from hotbank.board import Board
from hotbank.cli import handed, table
from hotbank.cli.context import Context
from hotbank.cli.groups import Group
from hotbank.cli.terminal import say, say_json
from hotbank.cli.times import date
from hotbank.energy import Bounds
from hotbank.energy.statistics import LEAST
from hotbank.errors import FormatError
from hotbank.machine import BankStatus, Snapshot
from hotbank.memory import Power
from hotbank.report.ledger import (
    FORM,
    METERED,
    Account,
    Ledger,
    Metered,
    of_journal,
    of_simulation,
    read_measurement,
)
from hotbank.report.states import DARK

if TYPE_CHECKING:  # what only measuring needs
    from hotbank.measure import Measured, Measurement, Windows

_SECONDS = click.FloatRange(min=0, min_open=True)
_COLUMNS = ("BANK", "SPAN", "DARK", "UNKNOWN", "SAVED", "TYPICAL", "NAIVE", "COST", "BREAK-EVEN")


@click.group(
    "energy",
    cls=Group,
    invoke_without_command=True,
    short_help="What banks saved by being dark, as bounds, and its cost.",
)
@click.option(
    "--simulation", type=click.Path(dir_okay=False, exists=True), help="What `hotbank simulate --json` printed."
)
@click.option("--board", "board_name", metavar="BOARD", help="The board that was simulated, where its name is no file.")
@click.option(
    "--measured",
    "measurements",
    type=click.Path(dir_okay=False, exists=True),
    multiple=True,
    metavar="FILE",
    help="What `hotbank energy measure --json` printed of a bank; may be given for each.",
)
@click.option("--plot", "picture", type=click.Path(dir_okay=False), metavar="FILE.svg|png", help="Draw it, too.")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
def energy(
    ctx: click.Context,
    simulation: str | None,
    board_name: str | None,
    measurements: tuple[str, ...],
    picture: str | None,
    as_json: bool,
) -> None:
    """What each bank saved by being dark, in joules, and what moving its pages and waking it cost.

    From the journal of the current machine, or from a simulation. Figures are bounds: the least and the most that the
    DRAM part's data sheet allows; NAIVE is what "power goes with the memory that is online" would have said. BREAK-EVEN
    is how long a full bank must stay dark to pay for its own moving. What was measured of a bank (--measured) stands
    beside what its data sheet says. docs/energy.md says more.
    """
    if ctx.invoked_subcommand is not None:
        return
    if board_name is not None and simulation is None:
        raise click.UsageError("--board has an effect with --simulation only")
    context = ctx.find_object(Context) or Context(None)
    ledger = _of_machine(context) if simulation is None else _of_simulation(simulation, board_name)
    ledger = ledger.with_meters(dict(map(_measurement, measurements)))
    if not as_json:
        say(*_lines(ledger))
    if picture is not None:
        from hotbank.cli.energy_plot import draw

        draw(ledger, picture)
    if as_json:  # not beside an error: that is a document, too
        say_json(ledger.document())


@energy.command("measure")
@click.argument("bank")
@click.option(
    "--pairs", type=click.IntRange(min=LEAST), default=30, show_default=True, help="Pairs in each of two runs."
)
@click.option("--seconds", type=_SECONDS, default=10.0, show_default=True, help="Length of a window.")
@click.option("--every", type=_SECONDS, default=1.0, show_default=True, help="Seconds from look to look.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the resampling.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
def measure(ctx: click.Context, bank: str, pairs: int, seconds: float, every: float, seed: int, as_json: bool) -> None:
    """Measure what taking BANK out saves, by the machine's own meters.

    Keep the load as it is meanwhile. A null run without switching, then the bank goes out and in, again and again; each
    meter answers with an interval in watts, or "not measurable here". The bank is in at the end, also after Ctrl-C.
    """
    from hotbank import measure as measuring

    if any(ctx.parent.params.values() if ctx.parent is not None else ()):
        raise click.UsageError("options of hotbank energy have no effect on energy measure; put them behind measure")
    session = (ctx.find_object(Context) or Context(None)).session(changing=True)
    windows = measuring.Windows(pairs, seconds, every)
    say(f"machine {session.name}", *([] if as_json else [_duration_line(windows)]), err=as_json)
    found = measuring.measure(session, bank, windows, seed=seed, on_pair=lambda run, pair: _progress(run, pair, pairs))
    if as_json:
        say_json(found.document())
    else:
        say(*_measured(found))


def _duration_line(windows: Windows) -> str:
    return f"about {4 * windows.pairs * windows.seconds:.0f} s: {windows.pairs} pairs without switching, as many with"


def _progress(run: str, pair: int, pairs: int) -> None:
    """A line for each tenth of a run."""
    if (pair + 1) * 10 // pairs != pair * 10 // pairs:
        say(f"{run} {pair + 1}/{pairs}", err=True)


def _measured(found: Measurement) -> Iterator[str]:
    for meter in found.meters:
        saved, null = meter.saved, meter.null
        span = f"{saved.low:.4g} to {saved.high:.4g} W less with {found.bank} out ({saved.confidence:.3g})"
        yield f"{meter.meter}: {span if meter.measurable else f'not measurable here: {_why_not(meter)}'}"
        yield f"  mean {saved.mean:.4g} W of {meter.pairs} pairs; without switching {null.low:.4g} to {null.high:.4g} W"
    for name, (low, high) in found.temperatures.items():
        yield f"temperature {name}: {low:.1f} to {high:.1f} °C"
    if not found.meters:
        yield "not measurable here: no meter answered throughout"


def _why_not(meter: Measured) -> str:
    saved = meter.saved
    if saved.holds_zero:
        return f"the interval {saved.low:.4g} to {saved.high:.4g} W holds 0"
    return "without switching it finds a difference as well: the load or the temperature changed"


def ledger_of(snapshot: Snapshot, context: Context) -> Ledger:
    """What the journal of the machine in that snapshot tells, until now."""
    history = context.session(changing=False).history()
    return of_journal(snapshot, history, time.time(), memspec.named)


def _of_machine(context: Context) -> Ledger:
    return ledger_of(context.session(changing=False).list(), context)


def _of_simulation(path: str, board_name: str | None) -> Ledger:
    from hotbank import board

    document = handed.document(path, FORM)
    try:
        name = board_name or str(document["manifest"]["board"])
    except (KeyError, TypeError) as e:
        raise FormatError(FORM, 0, path, f"is not what hotbank simulate --json prints: {e!r}") from e
    return of_simulation(document, _described(board.load(name)), memspec.named)


def _measurement(path: str) -> tuple[str, Metered | None]:
    return read_measurement(handed.document(path, METERED))


def _described(board: Board) -> Snapshot:
    """A machine of that board with nothing in its kernel."""
    return Snapshot(
        board.name,
        board.arch,
        board.page_size,
        board.block_size,
        boot_id="",
        banks=tuple(BankStatus.of(bank.name, bank.range, (), Power.ON, domain=bank.domain) for bank in board.banks),
        domains=tuple(board.status(domain, Power.ON) for domain in board.domains),
    )


def _lines(ledger: Ledger) -> Iterator[str]:
    yield f"machine     {ledger.machine}, {_span(ledger)}"
    for account in ledger.accounts:
        yield f"dram        {account.bank}: {account.part or 'any part'} at {account.dram.temperature} °C"
    if not ledger.accounts:
        yield "dram        no bank is in a power domain, so nothing can be saved"
        return
    rows = [_row(account) for account in ledger.accounts]
    yield from table.lines(_COLUMNS, rows, right=_COLUMNS[1:], spare=("NAIVE", "SPAN"))
    net = ledger.net()
    yield f"net         {joules(net)}, typically {net.typical:.3g} J: saved less cost"
    for account in ledger.accounts:
        if account.metered is not None and account.measured is not None:
            yield f"measured    {account.bank} {joules(account.measured)} by {account.metered.meter}"
        if account.dram.interleaved:
            yield f"            {account.bank} is interleaved: its leaving saves nothing"
    yield f"not counted {'; '.join(ledger.not_counted)}"


def _span(ledger: Ledger) -> str:
    if not ledger.since:
        return f"{ledger.until:.0f} s simulated"
    began, ended = map(date, (ledger.since, ledger.until))
    return f"from {began} to {ended}"


def _row(account: Account) -> tuple[str, ...]:
    seconds, saved = account.seconds, account.saved
    dark = sum(s for power, s in seconds.items() if power in DARK)
    unknown = seconds.get(Power.UNKNOWN, 0.0)
    even = account.break_even
    return (
        account.bank,
        f"{sum(seconds.values()):.0f} s",
        f"{dark:.0f} s",
        f"{unknown:.0f} s",
        joules(saved.joules),
        f"{saved.joules.typical:.3g} J",
        f"{saved.naive:.3g} J",
        joules(account.cost.total),
        "never" if even is None else f"{even:.3g} s",
    )


def joules(figure: Bounds) -> str:
    """The least and the most."""
    return f"{figure.low:.3g} to {figure.high:.3g} J"
