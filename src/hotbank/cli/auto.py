# SPDX-License-Identifier: Apache-2.0
"""``hotbank auto``: let a policy take banks out while nobody needs them, and bring them back before anyone does."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from hotbank.cli import table
from hotbank.cli.context import Context
from hotbank.cli.groups import Group
from hotbank.cli.serve import STANDBY
from hotbank.cli.terminal import say, say_json
from hotbank.cli.times import date
from hotbank.documents import EXIT_INTERRUPTED
from hotbank.errors import Code, Refusal
from hotbank.govern import settings
from hotbank.govern.guard import Outcome
from hotbank.govern.settings import Settings
from hotbank.govern.status import Deed, Governed, Orders, Standing, Status
from hotbank.host.trigger import Trigger
from hotbank.memory import MIB, format_size
from hotbank.serve.firm import spared
from hotbank.serve.rest import Rest
from hotbank.wire import encode

if TYPE_CHECKING:
    from hotbank.session import Session

CONFIG = Path("/etc/hotbank/auto.toml")
_json = click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")


@click.group("auto", cls=Group)
def auto() -> None:
    """Let a policy take banks out while nobody needs them, and bring them back in time.

    Every policy passes the same guard: it takes nothing below the reserve or under pressure, gives back first, bans
    what failed, and pauses when another hand moves banks (docs/policy.md).
    """


@auto.command("run")
@click.argument("policy", metavar="[NAME|FILE]", required=False)
@click.option(
    "--set", "given", multiple=True, metavar="KEY=VALUE", help="One setting: trust=1, guard.hourly=12, every=5."
)
@click.option("--standby", type=STANDBY, metavar="N", help="Keep the last N domains that left offline, not dark.")
@click.option("--dry-run", is_flag=True, help="Decide and tell, and touch nothing.")
@click.option(
    "--record", type=click.Path(dir_okay=False, path_type=Path), help="Append each look to this file, as JSON lines."
)
@click.option("-J", "--json", "as_json", is_flag=True, help="Each look as JSON, one a line.")
@click.pass_obj
def run(
    context: Context,
    policy: str | None,
    given: tuple[str, ...],
    standby: int | None,
    dry_run: bool,
    record: Path | None,
    as_json: bool,
) -> int:
    """Govern the machine until Ctrl-C, by a policy: balance, reserve, one of your own, or a TOML file of settings.

    Nothing said, it goes by /etc/hotbank/auto.toml where that is there, else by balance. What is out stays out when it
    ends, and is the next one's to bring back. On -m host the board file has to say `auto = true`.
    """
    chosen = read_settings(policy, given, standby)
    machine = context.session(changing=not dry_run)
    tell = _telling(machine.name if as_json else None)
    with ExitStack() as stack:
        file = stack.enter_context(record.open("a", encoding="ascii")) if record else None
        try:
            rest = Rest(Trigger.of() if machine.here else None)
            governor = machine.governing(chosen, dry=dry_run, pressed=rest.pressed)
            governor.begin()
            stack.callback(governor.leave)  # also where it is told to nobody any more that it has begun
            if machine.here and machine.is_ours and not dry_run and (trouble := spared()):
                say(f"hotbank: {trouble}", err=True)
            if not as_json:
                doing = " and touches nothing" if dry_run else ""
                say(f"machine {machine.name}", f"{chosen.name} looks every {chosen.every:g} s{doing}; Ctrl-C ends it")
            governor.run(rest.sleep, lambda status: _told(status, tell, file))
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
    return 0


def read_settings(policy: str | None, given: tuple[str, ...] = (), standby: int | None = None) -> Settings:
    """By name or file; nothing said: the file in /etc where that is there, else `balance`. Raises BoardError."""
    read = settings.read(policy or (str(CONFIG) if CONFIG.exists() else "balance"), given)
    return read if standby is None else replace(read, standby=standby)


def _told(status: Status, tell: Callable[[Status], None], file: IO[str] | None) -> None:
    tell(status)
    if file is not None:
        file.write(json.dumps(encode(status)) + "\n")
        file.flush()


def _telling(machine: str | None) -> Callable[[Status], None]:
    """Each look at that machine as JSON; without one what was done, and what has changed about why nothing is."""
    said: list[str] = []

    def tell(status: Status) -> None:
        if machine is not None:
            say_json(Governed(status, Orders(), alive=True).document(machine))
            return
        for deed in status.deeds:
            say(f"{_clock(status.at)} {_deed(deed, status.dry)}")
        now = f"blind: {status.blind}" if status.blind else ""
        now = now or (f"paused: {status.state.paused}" if status.state.paused else "")
        if now and said != [now]:
            say(f"{_clock(status.at)} {now}")
        said[:] = [now]

    return tell


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _deed(deed: Deed, dry: bool) -> str:
    act, done = ("take", "took") if deed.dark else ("bring back", "brought back")
    if deed.outcome is Outcome.PUT_OFF:
        return f"put off to {act} {deed.group}: somebody else is at work"
    if deed.outcome is Outcome.FAILED:
        return f"could not {act} {deed.group} ({deed.why}); hotbank history says why"
    return f"{f'would {act}' if dry else done} {deed.group} ({deed.why})"


@auto.command("status")
@_json
@click.pass_obj
def status(context: Context, as_json: bool) -> None:
    """What governs the machine, and what keeps each bank in or out."""
    machine = context.session(changing=False)
    known = _governed(machine)
    if as_json:
        say_json(known.document(machine.name))
        return
    named = "host" if machine.here else context.machine_name
    say(*_status(known, f"hotbank -m {shlex.quote(named)} auto run" if named else "hotbank auto run"))


def _governed(machine: Session) -> Governed:
    """Whom nobody owns nobody governs: an answer, and no failure."""
    try:
        return machine.auto()
    except Refusal as e:
        if e.code is not Code.UNSUPPORTED:
            raise
        return Governed(None, Orders(), alive=False)


def _status(known: Governed, start: str) -> Iterator[str]:
    told = known.status
    if told is None:
        yield "nobody governs this machine"
        yield f"paused    {known.paused}" if known.paused else f"start one with `{start}`"
        return
    dead = "" if known.alive else ", gone"
    yield f"policy    {told.policy}{', dry run' if told.dry else ''}, pid {told.pid}{dead}, last look {date(told.at)}"
    if known.paused:
        yield f"paused    {known.paused}; hotbank auto resume"
    if told.blind:
        yield f"blind     {told.blind}"
        return
    yield f"memory    {_mib(told.used)} used of {_mib(told.supply)} in the kernel"
    yield f"wish      to keep {_mib(told.keep)}: {told.wish}"
    rows = [[_banks(group), format_size(group.size), _where(group), group.why or "-"] for group in told.groups]
    yield from table.lines(["DOMAIN", "SIZE", "STATE", "WHY IT STAYS IN"], rows)


def _banks(group: Standing) -> str:
    own = ", ".join(group.banks)
    return group.group if own == group.group else f"{group.group} ({own})"


def _where(group: Standing) -> str:
    if not group.dark:
        return "in"
    return "out" if group.ours else "out, by another hand"


def _mib(size: int) -> str:
    return f"{round(size / MIB)} MiB"


@auto.command("pause")
@click.argument("why", required=False, default="asked for")
@click.pass_obj
def pause(context: Context, why: str) -> None:
    """Have the governor take nothing, for the reason WHY, until `auto resume`; a restart does not end it.

    What it took still comes back when it is needed.
    """
    machine = context.session(changing=True)
    machine.pause_auto(why)
    say(f"machine {machine.name}", f"paused: {why}")


@auto.command("resume")
@click.pass_obj
def resume(context: Context) -> None:
    """Have the governor go on, whatever paused it: who typed `auto pause`, or another hand's work."""
    machine = context.session(changing=True)
    machine.resume_auto()
    say(f"machine {machine.name}", "resumed")
