# SPDX-License-Identifier: Apache-2.0
"""``hotbank fleet``: many machines asked the same, as one table, or ordered the same, with an eye on the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hotbank.cli import table
from hotbank.cli.groups import Group
from hotbank.cli.plan import size_option
from hotbank.cli.screen import live
from hotbank.cli.terminal import counted, say, say_json, visible
from hotbank.cli.times import Seconds, date
from hotbank.documents import EXIT_DONE, together
from hotbank.errors import Code, Refusal
from hotbank.memory import format_size

if TYPE_CHECKING:
    from hotbank.fleet.asking import Reply
    from hotbank.fleet.inventory import Member
    from hotbank.fleet.journal import Begun, Journal

Cells = Callable[[Sequence[Mapping[str, Any]]], Sequence[str]]
_FEW = 5  # machines that are named
_HEADINGS = ("MACHINE", "DOMAIN", "CODE")


@dataclass(frozen=True, slots=True)
class _Fleet:
    """Who is asked, and how. ``everybody``: the whole inventory; ``chosen``: those of ``--only``."""

    path: Path
    everybody: tuple[Member, ...]
    chosen: tuple[Member, ...]
    forks: int
    timeout: float
    as_json: bool


@click.group("fleet", cls=Group)
@click.option(
    "-i", "inventory", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A list of machines."
)
@click.option("--only", multiple=True, metavar="NAME", help="This machine or group alone; may be given again.")
@click.option("--forks", type=click.IntRange(1, 1024), default=32, show_default=True, help="Machines at a time.")
@click.option("--timeout", type=Seconds(), default=10.0, show_default=True, help="Seconds for a machine's word.")
@click.option("-J", "--json", "as_json", is_flag=True, help="A JSON document a machine, one a line.")
@click.pass_context
def fleet(
    context: click.Context, inventory: Path, only: tuple[str, ...], forks: int, timeout: float, as_json: bool
) -> None:
    """Ask many machines the same, or change them, over your own ssh and its configuration.

    The inventory is a plain list of machines, or TOML with groups and failure domains (docs/scale.md). A machine that
    does not answer costs its timeout and nothing else. Ends with 0 where all went well, 1 where nothing did, else 64.
    """
    from hotbank.fleet import inventory as inventories

    everybody = inventories.load(inventory)
    context.obj = _Fleet(inventory, everybody, inventories.only(everybody, only), forks, timeout, as_json)


def _asked(its: _Fleet, words: Sequence[str], headings: Sequence[str], cells: Cells, right: Sequence[str] = ()) -> int:
    from hotbank.fleet.asking import ask

    with _telling(its) as heard:
        replies = ask(its.chosen, words, forks=its.forks, timeout=its.timeout, heard=heard)
    if not its.as_json:
        say(*_table(replies, headings, cells, right))
    return together([reply.exit for reply in replies])


@contextmanager
def _telling(its: _Fleet) -> Iterator[Callable[[Reply], None]]:
    """Each reply as JSON as it comes; on a terminal how many have come, and who has not while they are few."""
    waiting = dict.fromkeys(member.name for member in its.chosen)
    with live(sys.stderr) as area:

        def heard(reply: Reply) -> None:
            del waiting[reply.member.name]
            if its.as_json:
                say_json(reply.document())
            if area is not None:
                still = f", waiting for {', '.join(waiting)}" if 0 < len(waiting) <= _FEW else ""
                area.show(visible(f"{len(its.chosen) - len(waiting)} of {len(its.chosen)} answered{still}"))

        yield heard


def _table(replies: Iterable[Reply], headings: Sequence[str], cells: Cells, right: Sequence[str]) -> Iterable[str]:
    rows = [_row(reply, headings, cells) for reply in replies]
    well = sum(row[2] == Code.OK for row in rows)
    yield from table.lines([*_HEADINGS, *headings, "WHY"], rows, right=right)
    yield f"{counted(len(rows), 'machine')}, {well} well"


def _row(reply: Reply, headings: Sequence[str], cells: Cells) -> list[str]:
    its = cells(reply.documents) if reply.answered is not None else ["-" for _ in headings]
    return [reply.member.name, reply.member.domain or "-", reply.code.value, *its, reply.message or "-"]


@fleet.command("list")
@click.pass_obj
def list_(its: _Fleet) -> int:
    """What each machine has: banks, memory in the kernel, memory that is dark."""

    def cells(found: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        banks = found[-1]["banks"]
        dark = [bank for bank in banks if bank["power"] in ("off", "self-refresh")]
        inside = sum(bank["size"] for bank in banks if bank["kernel"] == "online")
        return f"{len(banks)}", format_size(inside), format_size(sum(bank["size"] for bank in dark))

    numbers = ("BANKS", "IN", "DARK")
    return _asked(its, ["list", "--json"], numbers, cells, numbers)


@fleet.command("explain")
@click.argument("targets", metavar="[BANK|BLOCK]...", nargs=-1)
@click.pass_obj
def explain(its: _Fleet, targets: tuple[str, ...]) -> int:
    """What would happen if these banks or blocks, or any block, were taken away on each machine now."""

    def cells(found: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        codes = [verdict["code"] for verdict in found if "code" in verdict]
        return (", ".join(f"{codes.count(code)} {code}" for code in dict.fromkeys(codes)) or "-",)

    return _asked(its, ["explain", "--json", *(_named(targets) if targets else ["--all"])], ["VERDICTS"], cells)


@fleet.command("plan")
@click.argument("targets", metavar="[BANK|BLOCK]...", nargs=-1)
@size_option("Choose the banks of each: so much is to be freed.")
@click.pass_obj
def plan(its: _Fleet, targets: tuple[str, ...], size: int | None) -> int:
    """Which banks each machine would take, and at what cost; touches nothing."""

    def cells(found: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        made = found[-1]
        return ", ".join(made["banks"]) or "-", f"{made['pages']}", f"{made['seconds']:.2f}"

    return _asked(
        its, ["plan", "--json", *_what(targets, size)], ["BANKS", "PAGES", "SECONDS"], cells, ["PAGES", "SECONDS"]
    )


def _what(targets: Sequence[str], size: int | None) -> list[str]:
    if bool(targets) is (size is not None):
        raise click.UsageError("name banks or blocks, or give --free SIZE")
    return _named(targets) if size is None else ["--free", str(size)]


def _named(targets: Sequence[str]) -> list[str]:
    """As words that no name among them can make an option of."""
    return ["--", *targets]


@fleet.command("energy")
@click.pass_obj
def energy(its: _Fleet) -> int:
    """What the dark banks of each machine saved, and what that cost, in joules."""

    def cells(found: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        banks = found[-1]["banks"]
        saved = (sum(bank["saved_j"][key] for bank in banks) for key in ("low", "typical", "high"))
        cost = sum(part["typical"] for bank in banks for part in bank["cost_j"].values())
        return (*(f"{joules:.3g}" for joules in saved), f"{cost:.3g}")

    numbers = ("LOW-J", "SAVED-J", "HIGH-J", "COST-J")
    return _asked(its, ["energy", "--json"], numbers, cells, numbers)


@fleet.command("history")
@click.pass_obj
def history(its: _Fleet) -> int:
    """How many transactions each machine had, how many failed, and the last one."""

    def cells(found: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        entries = found[-1]["transactions"]
        failed = f"{sum(found[-1]['failures'].values())}"
        if not entries:
            return "0", failed, "-"
        last = entries[-1]
        what = f"{date(last['began'])} {last['before']['verb']} {' '.join(last['before']['targets'])}"
        return f"{len(entries)}", failed, f"{what}: {last['code'] or 'open'}"

    return _asked(its, ["history", "--json"], ["DONE", "FAILED", "LAST"], cells, ["DONE", "FAILED"])


@fleet.group("auto", cls=Group)
def auto() -> None:
    """What governs each machine; have the governors take nothing, or go on."""


@auto.command("status")
@click.pass_obj
def auto_status(its: _Fleet) -> int:
    """What governs each machine, and whether it is paused."""

    def cells(found: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        status, paused = found[-1].get("status"), found[-1].get("paused")
        policy = status["policy"] if isinstance(status, Mapping) else "nobody"
        return policy, paused or "-"

    return _asked(its, ["auto", "status", "--json"], ["POLICY", "PAUSED"], cells)


_journal = click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where it is written who was asked what; beside the inventory without it.",
)
_stop = click.option("--stop-after", type=click.IntRange(1), metavar="N", help="Ask nobody else after so many failed.")


@fleet.command("remove")
@click.argument("targets", metavar="[BANK|BLOCK]...", nargs=-1)
@size_option("Choose the banks of each: so much is to be freed on each machine.")
@click.option(
    "--dark", type=click.IntRange(1), metavar="K", help="At most so many machines of a failure domain dark at a time."
)
@_stop
@_journal
@click.pass_obj
def remove(
    its: _Fleet,
    targets: tuple[str, ...],
    size: int | None,
    dark: int | None,
    stop_after: int | None,
    journal: Path | None,
) -> int:
    """Take banks out on each machine, by its own owner, with its own plan and rollback.

    A machine that is dark already, or does not answer, counts for --dark. Who goes on after a crash (`fleet resume`)
    asks no machine twice.
    """
    words = _what(targets, size)
    return _ordered(its, journal, stop_after, lambda book: book.begin("remove", words, _names(its), dark))


@fleet.command("add")
@click.argument("targets", metavar="[BANK|BLOCK]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Everything that may return.")
@_stop
@_journal
@click.pass_obj
def add(its: _Fleet, targets: tuple[str, ...], every: bool, stop_after: int | None, journal: Path | None) -> int:
    """Bring banks back on each machine."""
    if bool(targets) is every:
        raise click.UsageError("name banks or blocks, or give --all")
    words = ["--all"] if every else _named(targets)
    return _ordered(its, journal, stop_after, lambda book: book.begin("add", words, _names(its), None))


@fleet.command("resume")
@_stop
@_journal
@click.pass_obj
def resume(its: _Fleet, stop_after: int | None, journal: Path | None) -> int:
    """Go on with the last order, if it is not done: whoever was asked is not asked again."""

    def last(book: Journal) -> Begun:
        if (begun := book.open) is None:
            raise Refusal(Code.UNSUPPORTED, "no order is open", remedy="hotbank fleet -i INVENTORY history")
        return begun

    return _ordered(its, journal, stop_after, last)


def _names(its: _Fleet) -> list[str]:
    return [member.name for member in its.chosen]


def _ordered(its: _Fleet, path: Path | None, stop: int | None, begin: Callable[[Journal], Begun]) -> int:
    from hotbank.fleet.journal import Journal
    from hotbank.fleet.orders import Terms, carry_out

    def heard(reply: Reply) -> None:
        if its.as_json:
            say_json(reply.document())
        else:
            say(f"{reply.member.name}: {reply.code}" + (f": {reply.message}" if reply.message else ""))

    with Journal(path or its.path.with_name(f"{its.path.name}.journal")) as book:
        begun = begin(book)
        try:
            replies = carry_out(its.everybody, begun, book, Terms(its.forks, its.timeout, stop), heard)
        except KeyboardInterrupt:
            say("hotbank: what was ordered goes on; hotbank fleet -i INVENTORY resume asks what came of it", err=True)
            raise
    done = sum(reply.exit == EXIT_DONE for reply in replies)
    if not its.as_json:
        what = " ".join(word for word in begun.words if word != "--")
        say(f"{begun.verb} {what}: done on {done} of {counted(len(replies), 'machine')}")
    return together([reply.exit for reply in replies])


def _handed_on(its: _Fleet, words: Sequence[str]) -> int:
    return _asked(its, words, [], lambda _: ())


@auto.command("pause")
@click.argument("why", required=False, default="asked for")
@click.pass_obj
def auto_pause(its: _Fleet, why: str) -> int:
    """Have the governor of each machine take nothing, for the reason WHY, until `auto resume`."""
    return _handed_on(its, ["auto", "pause", *_named([why])])


@auto.command("resume")
@click.pass_obj
def auto_resume(its: _Fleet) -> int:
    """Have the governor of each machine go on."""
    return _handed_on(its, ["auto", "resume"])
