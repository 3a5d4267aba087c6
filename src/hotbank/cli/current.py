# SPDX-License-Identifier: Apache-2.0
"""``hotbank up``, ``down`` and ``console``: a machine that lasts between commands, and is current for all shells."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from hotbank import board, kernels, serve
from hotbank.cli.context import given
from hotbank.cli.terminal import say
from hotbank.errors import Code, MachineError, Refusal
from hotbank.firmware.cmdline import typed

if TYPE_CHECKING:
    import socket

    from hotbank.model.named import Source

_SERIES = re.compile(r"[0-9]+\.[0-9]+(\.[0-9]+)?")
_OF_MODEL, _OF_QEMU = ("description", "seed", "pages", "workload", "faults"), ("modules", "initrd")
_OF_BOOT = (*_OF_QEMU, "cmdline", "kernel", "description", "run_commands")
_LEAVE = b"\x1d"  # Ctrl-], as telnet and virsh console have it


@click.command("up")
@click.argument("name", metavar="BOARD|CAPTURE")
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
@click.option("--initrd", type=click.Path(dir_okay=False), help="--qemu: this initramfs instead of ours.")
@click.option(
    "--run-commands", is_flag=True, help='Run the programs of switch = "command" here; memory follows what they say.'
)
def up(
    name: str,
    qemu: bool,
    cmdline: str | None,
    kernel: str | None,
    modules: str | None,
    initrd: str | None,
    run_commands: bool,
    **of_model: Any,
) -> None:
    """Start a machine in the background and make it the current one.

    BOARD is a TOML file or the name of a shipped board, such as arm-2009 or virt-arm64. With --qemu what is missing
    (kernel, BusyBox, Python for the guest) is fetched through apt into a cache folder; this host's packages stay
    as they are. CAPTURE is what `hotbank capture` wrote: a model goes on from the state of that machine.
    """
    from hotbank.model import named  # which `down` starts sooner without

    source = named.find(name)
    _check_effects(source, qemu, run_commands)
    if isinstance(source, board.Board):
        _check_fits(source, of_model["pages"] or 0)
    if qemu:
        record = _in_qemu(name, cmdline, kernel, modules, initrd, run_commands)
    else:
        if kernel and (caveat := kernels.kernel(kernel).caveat):
            say(caveat, err=True)
        line = None if cmdline is None else typed(cmdline)
        spec = serve.ModelSpec(name, cmdline=line, kernel=kernel, run_commands=run_commands, **of_model)
        record = serve.serve_in_background(spec)
    say(f"{record.machine} is up (pid {record.pid}); next: hotbank list, hotbank explain BANK")


def _check_effects(source: Source, qemu: bool, run_commands: bool) -> None:
    """Refuse what would have no effect on what is to be started."""
    if not isinstance(source, board.Board):
        if stray := given("qemu", *_OF_BOOT):
            raise click.UsageError(f"{' and '.join(stray)}: of a boot, and a captured machine has booted already")
        return
    if stray := given(*(_OF_MODEL if qemu else _OF_QEMU)):
        where = "of a model, and there is none with --qemu" if qemu else "of a real kernel: --qemu"
        raise click.UsageError(f"{' and '.join(stray)}: {where}")
    if run_commands and not any(domain.switch == "command" for domain in source.domains):
        raise click.UsageError(
            f'--run-commands has an effect only where a domain has switch = "command"; {source.name} has none'
        )


def _check_fits(its: board.Board, pages: int) -> None:
    there = its.pages_at_boot
    if pages > there:
        what = f"--pages {pages}: {its.name} has {there} pages at boot"
        raise Refusal(Code.NO_CAPACITY, what, remedy="ask for fewer")


def _in_qemu(
    name: str,
    cmdline: str | None,
    kernel: str | None,
    modules: str | None,
    initrd: str | None,
    run_commands: bool,
) -> serve.Record:
    from hotbank import boards_qemu

    options: dict[str, Any] = {
        "cmdline": cmdline or "",
        "modules": modules,
        "initrd": initrd,
        "run_commands": run_commands,
    }
    options |= kernel_option(kernel)
    wanted = boards_qemu.Wanted(name, **options)
    return boards_qemu.up(wanted, progress=lambda line: say(line, err=True))


def kernel_option(given: str | None) -> dict[str, str]:
    """``--kernel`` as it goes into ``Wanted``: a series of Debian's kernel, else the path of an Image."""
    return {} if given is None else {"series" if _SERIES.fullmatch(given) else "kernel": given}


@click.command("down")
def down() -> None:
    """End the current machine. What it held is gone."""
    from hotbank import boards_qemu

    record = _current()
    ended = serve.down(record)
    boards_qemu.clear()  # also after a machine that was killed before this one
    say(f"{record.machine} is down" if ended else f"{record.machine} was gone already; its record is cleared")


@click.command("console")
def console() -> None:
    """Open a shell in the current machine's guest (a board in QEMU). Ctrl-] leaves it."""
    from hotbank import boards_qemu

    with boards_qemu.console(_current()) as stream:
        say("connected; Ctrl-] leaves", err=True)
        with _raw_terminal():
            stream.sendall(b"\n")
            _relay(stream)


def _current() -> serve.Record:
    record = serve.current()
    if record is None:
        raise MachineError("no machine is up", remedy="hotbank up BOARD starts one")
    return record


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
