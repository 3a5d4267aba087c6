# SPDX-License-Identifier: Apache-2.0
"""``hotbank serve``: own a machine and let others at it, over a Unix socket or over this process's own pipes."""

from __future__ import annotations

import grp
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hotbank.cli.context import Context
from hotbank.cli.terminal import say
from hotbank.errors import Code, MachineError
from hotbank.host import Host
from hotbank.machine import Machine
from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.remote import FileStream
from hotbank.serve import local, systemd
from hotbank.serve.desk import desk_in
from hotbank.serve.firm import spared
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen, remove_socket

if TYPE_CHECKING:
    from hotbank.govern.settings import Settings

STANDBY = click.IntRange(min=0)  # domains
_LAST_WORDS = 60.0  # seconds of wall time for a transaction to roll back before the end


@click.command("serve", short_help="Own a machine: its lock, its journal, and carrying out what clients ask.")
@click.option("--socket", "path", type=click.Path(dir_okay=False, path_type=Path), help="Where to listen.")
@click.option("--group", metavar="GROUP", help="Members of this group may read; change is for root and this user.")
@click.option(
    "--auto", "policy", metavar="POLICY", help="Govern it too: take banks out and bring them back by a policy."
)
@click.option("--standby", type=STANDBY, metavar="N", help="With --auto: keep the last N domains offline, not dark.")
@click.option("--stdio", is_flag=True, help="Answer on standard input and output, for `-m ssh:HOST`.")
@click.pass_obj
def serve(
    context: Context, path: Path | None, group: str | None, policy: str | None, standby: int | None, stdio: bool
) -> None:
    """Own this host (or the machine of -m): keep its lock and its journal, and carry out what clients order.

    Listens on the socket that systemd hands over; without one on /run/hotbank/socket when root, else in the user's
    runtime folder. What an owner before this one left open is settled first. With --stdio a host that is served already
    is handed on to whoever serves it. With --auto a policy takes banks out and brings them back, by the settings in
    /etc/hotbank/auto.toml (see `hotbank auto`).
    """
    settings = _settings(policy, standby) if policy else None
    if standby is not None and settings is None:
        raise click.UsageError("--standby has an effect with --auto only")
    if stdio and settings:
        raise click.UsageError("--auto: who answers on pipes goes with its client; use `hotbank auto run`")
    if stdio:
        _answer_on_pipes(context)
        return
    readers = _group_id(group) if group is not None else None
    given = systemd.handed_over()
    if given is not None and path is not None:
        raise click.UsageError("--socket: systemd hands a socket over already")
    place = Path(given.getsockname()) if given is not None else path or local.host_socket()
    machine = _machine(context)
    if isinstance(machine, Host):
        owner = local.owner_of(machine, readers=readers)
    else:
        journal, desk = SqliteJournal(f"{place}.journal"), desk_in(place.parent, place.name)
        owner = Owner(machine, journal=journal, readers=readers, desk=desk)
    if settings is not None:
        owner.desk.admit()
    with given or listen(place, readers) as listener:
        governor = _governed(owner, machine, settings)
        _serve(owner, machine.snapshot().machine, place, listener, governor)
    owner.finish(_LAST_WORDS)
    if given is None:
        remove_socket(place)


def _serve(
    owner: Owner, name: str, path: Path, listener: socket.socket, governor: AbstractContextManager[None]
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: owner.stop())
    owner.settle()
    systemd.notify("READY=1")
    say(f"{name} is served at {path}; next: hotbank -m unix:{path} list", err=True)
    with governor:
        owner.serve(listener)
    systemd.notify("STOPPING=1")


def _settings(policy: str, standby: int | None) -> Settings:
    from hotbank.cli.auto import read_settings  # an owner that does not govern stays small without it

    return read_settings(policy, standby=standby)


@contextmanager
def _governed(owner: Owner, machine: Machine, settings: Settings | None) -> Iterator[None]:
    """With a governor at work in this process, until the end."""
    if settings is None:
        yield
        return
    from hotbank.serve.governing import governed

    said = set[str]()

    def once(what: str) -> None:
        """It is looked again and again."""
        if what not in said:
            said.add(what)
            say(f"hotbank: {what}", err=True)

    _holds_out(owner, machine, once)
    here = isinstance(machine, Host)
    with governed(owner, settings, lambda what: once(f"the governor can't work: {what}"), inside=here):
        yield


def _holds_out(owner: Owner, machine: Machine, trouble: Callable[[str], None]) -> None:
    """Have this process last while memory is short, and whoever acts for it be there before that."""
    owner.workers.trouble = trouble
    if what := spared():
        trouble(what)
    if isinstance(machine, Host):
        machine.writers.stand_ready()


def _answer_on_pipes(context: Context) -> None:
    """A client that hangs up stops nothing: this process stays until its transaction is over."""
    served = local.served_host() if context.machine_name is None else None
    if served is not None:
        local.hand_on(served, sys.stdin.fileno(), sys.stdout.fileno())
        return
    machine = _machine(context)
    owner = local.owner_of(machine) if isinstance(machine, Host) else Owner(machine)
    with os.fdopen(os.dup(sys.stdin.fileno()), "rb") as reader, os.fdopen(os.dup(sys.stdout.fileno()), "wb") as writer:
        owner.attend(FileStream(reader, writer))
    owner.wait()


def _machine(context: Context) -> Machine:
    """What is to be owned: something that nobody owns yet."""
    kind, _, name = (context.machine_name or "host").partition(":")
    if kind == "host":
        return Host()
    if kind == "model":
        from hotbank.serve.background import ModelSpec
        from hotbank.serve.daemon import boot

        return boot(ModelSpec(name))
    raise MachineError(
        f"{context.machine_name} has an owner already",
        code=Code.UNSUPPORTED,
        remedy="serve host, model:BOARD or model:CAPTURE",
    )


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise MachineError(
            f"there is no group {name}", code=Code.SYSTEM_ERROR, remedy=f"groupadd --system {name}"
        ) from None
