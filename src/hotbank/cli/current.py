# SPDX-License-Identifier: Apache-2.0
"""``hotbank up``, ``down`` and ``console``: a machine that lasts between commands, and is current for all shells."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from hotbank import board, kernels, serve
from hotbank.cli import table
from hotbank.cli.context import given
from hotbank.cli.terminal import say, say_json
from hotbank.documents import SCHEMA
from hotbank.errors import Code, MachineError, Refusal
from hotbank.firmware.cmdline import typed

if TYPE_CHECKING:
    import socket

    from hotbank.model.named import Source

_SERIES = re.compile(r"[0-9]+\.[0-9]+(\.[0-9]+)?")
_OF_MODEL, _OF_QEMU = ("description", "seed", "pages", "workload", "faults"), ("modules", "tree", "initrd")
_OF_BOOT = (*_OF_QEMU, "cmdline", "kernel", "description", "run_commands")
_LEAVE = b"\x1d"  # Ctrl-], as telnet and virsh console have it


@click.command("up")
@click.argument("source", metavar="[BOARD|CAPTURE]", required=False)
@click.option("--name", metavar="NAME", default="", help="One of several: -m up:NAME. Without it the current machine.")
@click.option("--qemu", is_flag=True, help="A real kernel in QEMU instead of a model.")
@click.option("--cmdline", metavar="TEXT", help="Kernel command line: in place of the board's, with --qemu after it.")
@click.option(
    "--kernel",
    metavar="VERSION|IMAGE",
    help=f"Model: behave as that release ({kernels.known()}, or newer). "
    "--qemu: that series or release of Debian's kernel, or an Image file.",
)
@click.option("--description", type=click.Path(), help="Model: boot from these firmware bytes (hotbank encode).")
@click.option("--seed", type=int, default=0, show_default=True, help="Model: seed of everything random.")
@click.option(
    "--pages",
    type=click.IntRange(min=0),
    help="Model: pages that processes use. Default: 4000 on a board, no more than there are in a capture.",
)
@click.option(
    "--workload", metavar="FILE|NAME", help="Model: play this workload once; a shipped one is camera or inodes."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice(["pin", "poison", "stall"]),
    help="Model: a page in a bank that may leave is pinned, or bad, or written to a device that does not answer.",
)
@click.option("--modules", type=click.Path(file_okay=False), help="--qemu: lib/modules/VERSION of the Image.")
@click.option(
    "--source",
    "tree",
    metavar="TREE",
    type=click.Path(file_okay=False),
    help="--qemu: the folder that the Image was built in; our driver is built for it there.",
)
@click.option("--initrd", type=click.Path(dir_okay=False), help="--qemu: this initramfs instead of ours.")
@click.option(
    "--run-commands", is_flag=True, help='Run the programs of switch = "command" here; memory follows what they say.'
)
@click.option("-J", "--json", "as_json", is_flag=True, help="What is up as one JSON document.")
def up(
    source: str | None,
    name: str,
    as_json: bool,
    qemu: bool,
    cmdline: str | None,
    kernel: str | None,
    modules: str | None,
    tree: str | None,
    initrd: str | None,
    run_commands: bool,
    **of_model: Any,
) -> None:
    """Start a machine in the background; without BOARD list what is up.

    It becomes the current machine; with --name it is one of several, which -m up:NAME finds. BOARD is a TOML
    file or the name of a shipped board, such as arm-2009 or virt-arm64. With --qemu what is missing (kernel,
    BusyBox, Python for the guest) is fetched through apt into a cache folder; this host's packages stay as they
    are. CAPTURE is what `hotbank capture` wrote: a model goes on from the state of that machine.
    """
    if source is None:
        _check_nothing_given()
        _list(as_json)
        return
    if as_json:
        raise click.UsageError("--json: what is up is a document, and what starts is not; without BOARD it lists")
    from hotbank.model import named  # which `down` starts sooner without

    found = named.find(source)
    _check_effects(found, qemu, run_commands)
    if isinstance(found, board.Board):
        _check_fits(found, of_model["pages"] or 0)
        if not run_commands and (played := _of_commands(found)):
            say(f"switches of {', '.join(played)} are played; --run-commands runs their programs", err=True)
    if qemu:
        own = {"modules": modules, "source": tree, "initrd": initrd, **kernel_option(kernel)}
        record = _in_qemu(source, name, cmdline, run_commands, own)
    else:
        if kernel and (caveat := kernels.kernel(kernel).caveat):
            say(caveat, err=True)
        line = None if cmdline is None else typed(cmdline)
        spec = serve.ModelSpec(source, cmdline=line, kernel=kernel, run_commands=run_commands, **of_model)
        record = serve.serve_in_background(spec, name=name)
    program = f"hotbank -m up:{name}" if name else "hotbank"
    say(f"{record.machine} is up (pid {record.pid}); next: {program} list, {program} explain BANK")


def _check_nothing_given() -> None:
    every = (parameter.name or "" for parameter in click.get_current_context().command.params)
    if stray := given(*(name for name in every if name != "as_json")):
        raise click.UsageError(f"{' and '.join(stray)}: of a machine that starts, and no BOARD is named")


def _list(as_json: bool) -> None:
    machines = [_described(name, record) for name in ("", *serve.names()) if (record := serve.current(name))]
    if as_json:
        say_json({"schema": SCHEMA["up"], "machines": machines})
    elif machines:
        rows = [[m["name"] or "-", m["machine"], str(m["pid"]), "up" if m["answers"] else "silent"] for m in machines]
        say(*table.lines(("NAME", "MACHINE", "PID", "STATE"), rows, right=("PID",)))
    else:
        say("no machine is up; next: hotbank up BOARD")


def _described(name: str, record: serve.Record) -> dict[str, Any]:
    answers = False
    with suppress(MachineError):
        serve.connect(record, name).close()
        answers = True
    known = {"machine": record.machine, "pid": record.pid, "started": record.started, "answers": answers}
    return {"name": name or None, **known}


def _check_effects(source: Source, qemu: bool, run_commands: bool) -> None:
    """Refuse what would have no effect on what is to be started."""
    if not isinstance(source, board.Board):
        if stray := given("qemu", *_OF_BOOT):
            raise click.UsageError(f"{' and '.join(stray)}: of a boot, and a captured machine has booted already")
        return
    if stray := given(*(_OF_MODEL if qemu else _OF_QEMU)):
        where = "of a model, and there is none with --qemu" if qemu else "of a real kernel: --qemu"
        raise click.UsageError(f"{' and '.join(stray)}: {where}")
    if run_commands and not _of_commands(source):
        raise click.UsageError(
            f'--run-commands has an effect only where a domain has switch = "command"; {source.name} has none'
        )


def _of_commands(its: board.Board) -> list[str]:
    """Domains that programs switch."""
    return [domain.name for domain in its.domains if domain.switch == "command"]


def _check_fits(its: board.Board, pages: int) -> None:
    there = its.pages_at_boot
    if pages > there:
        what = f"--pages {pages}: {its.name} has {there} pages at boot"
        raise Refusal(Code.NO_CAPACITY, what, remedy="ask for fewer")


def _in_qemu(
    source: str, name: str, cmdline: str | None, run_commands: bool, own: Mapping[str, str | None]
) -> serve.Record:
    """``own``: the parts that the user gave, as ``Wanted`` calls them."""
    from hotbank import boards_qemu

    options: dict[str, Any] = {"cmdline": cmdline or "", "run_commands": run_commands, **own}
    wanted = boards_qemu.Wanted(source, **options)
    return boards_qemu.up(wanted, progress=lambda line: say(line, err=True), name=name)


def kernel_option(given: str | None) -> dict[str, str]:
    """``--kernel`` as it goes into ``Wanted``: a series of Debian's kernel, else the path of an Image."""
    return {} if given is None else {"series" if _SERIES.fullmatch(given) else "kernel": given}


@click.command("down")
@click.argument("running", metavar="[NAME]", default="")
@click.option("--all", "every", is_flag=True, help="All that are up.")
def down(running: str, every: bool) -> None:
    """End the current machine, or the one that was given that NAME. What it held is gone."""
    if running and every:
        raise click.UsageError(f"--all: {running} is one of them")
    from hotbank import boards_qemu

    for name in [name for name in ("", *serve.names()) if serve.current(name)] if every else [running]:
        record = serve.recorded(name)
        ended = serve.down(record, name)
        boards_qemu.clear()  # also after a machine that was killed before this one
        say(f"{record.machine} is down" if ended else f"{record.machine} was gone already; its record is cleared")


@click.command("console")
@click.argument("running", metavar="[NAME]", default="")
def console(running: str) -> None:
    """Open a shell in the guest of the current machine or the NAME's (a board in QEMU). Ctrl-] leaves it."""
    from hotbank import boards_qemu

    with boards_qemu.console(serve.recorded(running)) as stream:
        say("connected; Ctrl-] leaves" + _fitting(), err=True)
        with _raw_terminal():
            stream.sendall(b"\n")
            _relay(stream)


def _fitting() -> str:
    """A serial line does not tell how large a terminal is. Nothing is typed for the user: something may run there."""
    if not sys.stdin.isatty():
        return ""
    size = os.get_terminal_size(sys.stdin.fileno())
    return f"; `stty rows {size.lines} cols {size.columns}` fits the guest's lines to this window"


def _relay(stream: socket.socket) -> None:
    """Between the terminal and the guest, until either ends or Ctrl-] is typed."""
    keyboard = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([stream, keyboard], [], [])
        if stream in ready:
            data = stream.recv(4096)
            if not data:
                return
            os.write(sys.stdout.fileno(), data)
        if keyboard in ready:
            typed = os.read(keyboard, 4096)
            stream.sendall(typed.partition(_LEAVE)[0])
            if not typed or _LEAVE in typed:
                return


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Keys go to the guest one by one; the terminal is put back afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    old = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, old)
