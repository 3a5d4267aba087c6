# SPDX-License-Identifier: Apache-2.0
"""``hotbank trace``: what this host's memory holds every few seconds, or what another tool recorded, as the series that
``simulate`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from hotbank.cli import handed
from hotbank.cli.context import Context
from hotbank.cli.groups import Group
from hotbank.cli.terminal import say
from hotbank.cli.times import duration, ticks
from hotbank.errors import Code, MachineError, Refusal, in_file
from hotbank.host.tree import Tree
from hotbank.machine import Clock, WallClock
from hotbank.memory import KIB, parse_size
from hotbank.regular import read_regular
from hotbank.sysfs import meminfo, names
from hotbank.sysfs.meminfo import PCP_NAMES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_LARGEST = 256 << 20  # bytes


def _kib(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_size(value) // KIB
    except ValueError as e:
        raise click.BadParameter(str(e)) from e


class _Tool(click.ParamType):  # type: ignore[type-arg]  # Debian 12 has click 8.1, where it is no generic
    """A tool whose recordings are read. What knows them loads the model, which ``record`` does without."""

    name = "tool"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return _tools().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        return _tools().shell_complete(ctx, param, incomplete)


def _tools() -> click.Choice[str]:
    from hotbank.load.imports import FORMS

    return click.Choice(FORMS)


@click.group("trace", cls=Group, short_help="Record what this host's memory holds over time.")
def trace() -> None:
    """Series of what a machine's memory holds, for hotbank simulate --trace."""


@trace.command("record")
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="The file, a CSV.")
@click.option(
    "--every", callback=duration, metavar="TIME", default="10s", show_default=True, help="Time between two samples."
)
@click.option("--for", "length", callback=duration, metavar="TIME", help="Stop after so long; without it at Ctrl-C.")
@click.pass_obj
def record(context: Context, output: str, every: float, length: float | None) -> None:
    """Write what this host's memory holds every so often until Ctrl-C. Needs no root and changes nothing.

    Each sample is in the file when it is taken, so what is there is whole whatever ends this.
    """
    if context.machine_name not in (None, "host"):
        what = f"{context.machine_name} is not this host, whose /proc/meminfo is recorded"
        raise Refusal(Code.UNSUPPORTED, what, remedy="run hotbank trace record on that machine")
    say("machine host")
    with open(output, "w", encoding="ascii") as file:
        count = write(file, Tree("/"), WallClock(), every, length)
    say(f"recorded {count} samples in {output}")


@trace.command("import")
@click.option("--from", "form", type=_Tool(), metavar="TOOL", required=True, help="The tool that wrote it.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="The file, a CSV.")
@click.option("--every", callback=duration, metavar="TIME", help="Time between samples, where they have none.")
@click.option(
    "--memory", callback=_kib, metavar="SIZE", help="The machine's memory, where nothing tells (vmstat, free -m)."
)
def import_(form: str, file: str, output: str, every: float | None, memory: int | None) -> None:
    """Make a series of what another tool recorded, in FILE or (-) on standard input, and say what was dropped.

    sar: sadf -j -- -r ALL, or what sar -r prints. pmrep: pmrep -o csv mem.physmem mem.util. vmstat: vmstat -w. free:
    free -s. prometheus: the JSON of a range query of one machine's node_memory_*. meminfo: /proc/meminfo again and
    again, each after a line with the time.
    """
    from hotbank.load import imports

    with in_file(file):
        data = handed.contents(file) if file == handed.STDIN else read_regular(file, _LARGEST)
        series = imports.read(form, data.decode("utf-8", "replace"), imports.Known(every, memory))
    Path(output).write_text(series.text(), encoding="ascii")
    say(f"imported {len(series.rows)} samples into {output}")
    if series.lost:
        say(f"lost      {series.lost} samples that lacked something, or came twice")
    if series.dropped:
        say(f"dropped   {', '.join(series.dropped)}")
    say(*(f"note      {remark}" for remark in series.remarks))


def _put(file: TextIO, line: str) -> None:
    file.write(f"{line}\n")
    file.flush()


def write(file: TextIO, tree: Tree, clock: Clock, every: float, length: float | None) -> int:
    """Write samples until ``length`` seconds are over, or until Ctrl-C; how many. Raises MachineError."""
    _put(file, ",".join(("t_s", *PCP_NAMES)))
    count = 0
    try:
        for at in ticks(clock, every, length):
            _put(file, row(at, _lines(tree)))
            count += 1
    except KeyboardInterrupt:
        if count < 2:  # fewer are no series
            raise
    return count


def row(at: float, lines: Mapping[str, int]) -> str:
    """One line of the file: seconds since the first, then KiB; a line that this kernel has not is 0."""
    return ",".join((f"{at:.3f}", *(str(lines.get(line, 0)) for line in PCP_NAMES.values())))


def _lines(tree: Tree) -> Mapping[str, int]:
    lines = tree.value(names.MEMINFO, meminfo.LINES)
    if not lines or "MemTotal" not in lines:
        raise MachineError(f"{tree.path(names.MEMINFO)} can't be read", code=Code.SYSTEM_ERROR, remedy="mount /proc")
    return lines
