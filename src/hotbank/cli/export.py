# SPDX-License-Identifier: Apache-2.0
"""``hotbank export``: what hotbank knows in the forms of other programs: Perfetto, flame graphs, spreadsheets."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hotbank.cli import handed
from hotbank.cli.context import Context, given
from hotbank.cli.journal import states_of
from hotbank.cli.looking import look, machine_of, sysroot_option
from hotbank.cli.screen import is_terminal
from hotbank.cli.terminal import counted, say
from hotbank.cli.times import duration, ticks
from hotbank.errors import Code, FormatError, ProtocolError, Refusal, in_file
from hotbank.export import folded, tables, timeline
from hotbank.export.timeline import Sample, Timeline
from hotbank.export.utf8 import whole
from hotbank.govern.status import Status
from hotbank.machine import Clocks, Reading, Snapshot, Survey, WallClock
from hotbank.operate.targets import resolve_all
from hotbank.report.ledger import FORM
from hotbank.wire import decode

if TYPE_CHECKING:
    from hotbank.session import Session

LOOKS = "looks"  # what a file of them is called in a message
_TABLES = ("journal", "survey", "simulation")
_TAKES: dict[str, tuple[str, ...]] = {  # what has an effect with which form
    "perfetto": ("looks", "length", "every"),
    "folded": ("targets", "sysroot"),
    "survey": ("targets", "sysroot"),
    "simulation": ("simulation",),
}
_ALL = tuple(dict.fromkeys(name for names in _TAKES.values() for name in names))

Made = tuple[bytes, str]  # a file's content, and what it is in words


@click.command("export", short_help="Journal and pages for Perfetto, flame graphs and spreadsheets.")
@click.argument("targets", metavar="[BANK|BLOCK]...", nargs=-1)
@click.option("--perfetto", is_flag=True, help="Perfetto's trace: transactions, steps, power, pressure over time.")
@click.option("--folded", "as_stacks", is_flag=True, help="bank;zone;kind;owner and pages, for any flame graph.")
@click.option("--csv", "table", type=click.Choice(_TABLES), help="Rows: of steps, of blocks, of what was simulated.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), default="-", help="The file; - is standard output, and usual."
)
@click.option("--looks", type=click.Path(dir_okay=False), help="What auto run --record wrote, for --perfetto.")
@click.option(
    "--for", "length", callback=duration, metavar="TIME", help="Read the machine for so long, or until Ctrl-C."
)
@click.option(
    "--every", callback=duration, metavar="TIME", default="1s", show_default=True, help="Time between two readings."
)
@click.option("--simulation", type=click.Path(dir_okay=False), help="What simulate --json printed.")
@sysroot_option
@click.pass_obj
def export(context: Context, /, perfetto: bool, as_stacks: bool, table: str | None, output: str, **asked: Any) -> None:
    """Write what happened, or what memory holds, in the form of another program.

    --perfetto is for ui.perfetto.dev, and has the clocks of the machine's kernel: it can be laid beside an ftrace
    (docs/export.md). --folded and --csv survey look at every page, of all blocks or of those named.
    """
    form = _one_of({"perfetto": perfetto, "folded": as_stacks, table or "csv": table is not None})
    _check(form, asked)
    content, what = _made(context, form, asked)
    _write(output, content)
    _tell(f"wrote     {what}" + ("" if output == "-" else f" into {output}"))


def _one_of(chosen: dict[str, bool]) -> str:
    forms = [form for form, is_chosen in chosen.items() if is_chosen]
    if len(forms) != 1:
        raise click.UsageError("give one of --perfetto, --folded and --csv")
    return forms[0]


def _check(form: str, asked: dict[str, Any]) -> None:
    """An option that would have no effect is an error, and so is one that is missing."""
    stray = given(*(name for name in _ALL if name not in _TAKES.get(form, ())))
    if stray:
        raise click.UsageError(f"{', '.join(stray)}: no effect on this form")
    if asked["length"] is None and given("every"):
        raise click.UsageError("--every has an effect with --for only")
    if form == "simulation" and asked["simulation"] is None:
        raise click.UsageError("--csv simulation needs --simulation FILE")


def _made(context: Context, form: str, asked: dict[str, Any]) -> Made:
    if form == "simulation":
        return _csv(tables.simulation(handed.document(asked["simulation"], FORM)), "moment")
    if form in ("folded", "survey"):
        return _of_pages(context, form, asked["targets"], asked["sysroot"])
    session = context.session(changing=False)
    _tell(f"machine {session.name}")
    if form == "journal":
        return _csv(tables.journal(session.list(), session.history()), "step")
    return _perfetto(session, asked["looks"], asked["length"], asked["every"])


def _tell(line: str) -> None:
    """Standard output may be the file."""
    say(line, err=click.get_current_context().params["output"] == "-")


def _csv(rows: Iterable[tables.Row], noun: str) -> Made:
    written = list(rows)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(written)
    return whole(text.getvalue()).encode(), counted(len(written) - 1, noun)


# Pages.


def _of_pages(context: Context, form: str, names: Sequence[str], sysroot: str | None) -> Made:
    machine = machine_of(context, sysroot)
    snapshot = machine.snapshot()
    _tell(f"machine {snapshot.machine}")
    blocks = _blocks(snapshot, names)
    surveys = look(machine, snapshot, blocks)
    if form == "survey":
        return _csv(tables.survey(snapshot, surveys, blocks), "block")
    return _stacks(snapshot, surveys, blocks)


def _blocks(snapshot: Snapshot, names: Sequence[str]) -> tuple[int, ...]:
    """Of the banks and blocks named; of none named all. Raises Refusal(NO_SUCH_BANK)."""
    if not names:
        return tuple(block.number for block in snapshot.blocks)
    return tuple(number for target in resolve_all(snapshot, names) for number in target.blocks)


def _stacks(snapshot: Snapshot, surveys: Mapping[int, Survey], blocks: Sequence[int]) -> Made:
    counts = folded.stacks(snapshot, surveys, blocks)
    text = "".join(f"{line}\n" for line in folded.lines(counts))
    return text.encode("ascii"), f"{counted(counts.total(), 'page')} of {counted(len(blocks), 'block')}"


# Over time.


def _perfetto(session: Session, looks_file: str | None, length: float | None, every: float) -> Made:
    encode = _encoder()
    if length is not None:
        _tell(f"reading every {every:g} s for {length:g} s; Ctrl-C ends it")
    looks = tuple(read_looks(looks_file)) if looks_file is not None else ()
    readings = readings_of(session, length, every)
    made = _timeline(session, readings, looks)
    return encode(made), f"{counted(len(made.slices), 'slice')}, {counted(len(made.samples), 'sample')}"


def _encoder() -> Any:
    """Raises Refusal without the extra."""
    try:
        from hotbank.export.perfetto import trace
    except ImportError as e:
        remedy = "pip install 'hotbank[trace]'"
        raise Refusal(Code.UNSUPPORTED, "--perfetto needs the package perfetto", remedy=remedy) from e
    return trace


def read_looks(path: str) -> Iterator[Status]:
    """What a governor recorded of itself, look by look. Raises FormatError, OSError."""
    with in_file(path):
        for at, line in handed.lines(path, LOOKS):
            try:
                yield decode(Status, line, "look")
            except ProtocolError as e:
                raise FormatError(LOOKS, at, "look", str(e)) from e


def readings_of(session: Session, length: float | None, every: float) -> list[tuple[float, Reading]]:
    """Each with when it was. Ctrl-C ends them early, and what there is is written."""
    readings = []
    with suppress(KeyboardInterrupt):
        for _ in ticks(WallClock(), every, length or 0.0):
            reading = session.reading()
            readings.append((_real(reading.clocks), reading))
    return readings


def _real(clocks: Clocks | None) -> float:
    return time.time() if clocks is None else clocks.real


def _timeline(session: Session, readings: list[tuple[float, Reading]], looks: Sequence[Status]) -> Timeline:
    snapshot, entries, looks = session.list(), session.history(), [*looks, *_last_look(session, looks)]
    now = readings[-1][0] if readings else time.time()  # by the journal's own clock, which may be far away
    slices = (
        *timeline.of_journal(snapshot, entries, now),
        *timeline.of_states(states_of(entries, snapshot, now)),
        *timeline.of_looks(looks, entries),
    )
    samples: list[Sample] = [*timeline.moved(entries), *timeline.looked(looks)]
    for at, reading in readings:
        samples += timeline.of_reading(at, reading, snapshot.page_size)
    clocks = next((reading.clocks for _, reading in reversed(readings)), None)
    return Timeline(snapshot.machine, slices, tuple(samples), clocks)


def _last_look(session: Session, looks: Sequence[Status]) -> Iterator[Status]:
    """That of whoever governs now, where it was not recorded."""
    with suppress(Refusal):  # nobody owns it, so nobody governs it
        status = session.auto().status
        if status is not None and all(look.at < status.at for look in looks):
            yield status


def _write(path: str, content: bytes) -> None:
    if path != "-":
        Path(path).write_bytes(content)
        return
    if is_terminal(sys.stdout) and b"\0" in content:
        raise click.UsageError("a trace is no text for a terminal: give -o FILE")
    sys.stdout.buffer.write(content)
    sys.stdout.flush()
