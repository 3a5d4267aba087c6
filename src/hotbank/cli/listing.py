# SPDX-License-Identifier: Apache-2.0
"""``hotbank list``: banks and blocks as they stand, without looking at a page unless asked to.

Columns are data, as in lsmem. Nothing here imports rich: the command starts fast on a small board.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Generic, TypeVar

import click

from hotbank.cli import lsmem, screen, table
from hotbank.cli.context import Context
from hotbank.cli.lsmem import human
from hotbank.cli.terminal import say, say_drawn, say_json, say_text
from hotbank.documents import SCHEMA
from hotbank.errors import Code
from hotbank.host import Host
from hotbank.machine import BankStatus, Block, Machine, Snapshot, Survey
from hotbank.memory import BlockState, Kind, Range
from hotbank.operate.reasons import may_go
from hotbank.operate.targets import Target, bank_target, block_target
from hotbank.operate.verdict import verdict

_NO_USE = frozenset({Kind.FREE, Kind.HOLE, Kind.UNKNOWN, Kind.UNPLUGGED})
_T = TypeVar("_T", BankStatus, Block)


@dataclass(frozen=True, slots=True)
class Row(Generic[_T]):
    """A bank or a block with what surveys and the verdict say of it.

    ``used``: pages in use, ``share``: the part of them that migration can carry; None when not looked at.
    ``code``: the verdict, None where only a look at the pages could tell.
    """

    item: _T
    used: int | None
    share: float | None
    code: Code | None


@dataclass(frozen=True, slots=True)
class Listing:
    """All that ``list`` shows. ``saved``: by bank, joules in words, where they were asked for."""

    snapshot: Snapshot
    banks: tuple[Row[BankStatus], ...]
    blocks: tuple[Row[Block], ...]
    saved: Mapping[str, str] = field(default_factory=dict)

    def bank_of(self, block: Block) -> str | None:
        """The bank that the block lies in, or None."""
        return bank.name if (bank := self.snapshot.bank_at(block.number)) is not None else None

    @property
    def banks_are_blocks(self) -> bool:
        """True where no board names banks, so that a table of banks would say everything twice."""
        return all(bank.is_a_block for bank in self.snapshot.banks)


def look(machine: Machine, *, used: bool) -> Listing:
    """The machine's banks and blocks; ``used`` surveys every block that is online."""
    snapshot = machine.snapshot()
    online = [b.number for b in snapshot.blocks if b.state is not BlockState.OFFLINE]
    surveys = _surveys(machine, snapshot, online) if used else {n: Survey.of_none(n) for n in online}
    blocks = {b.number: _row(snapshot, surveys, b, block_target(snapshot, b.number)) for b in snapshot.blocks}
    banks = (_bank_row(snapshot, surveys, bank, blocks) for bank in snapshot.banks)
    return Listing(snapshot, tuple(banks), tuple(blocks.values()))


def _surveys(machine: Machine, snapshot: Snapshot, blocks: Sequence[int]) -> Mapping[int, Survey]:
    from hotbank.operate.look import surveys_of  # without --used nobody looks, and the list starts sooner

    return surveys_of(machine, snapshot, blocks)


def _bank_row(
    snapshot: Snapshot, surveys: Mapping[int, Survey], bank: BankStatus, blocks: Mapping[int, Row[Block]]
) -> Row[BankStatus]:
    """A bank that is one block under its own name, as on every host without a board, has the block's verdict."""
    if bank.is_a_block:
        block = blocks[bank.blocks[0]]
        return Row(bank, block.used, block.share, block.code)
    return _row(snapshot, surveys, bank, bank_target(snapshot, bank))


def _row(snapshot: Snapshot, surveys: Mapping[int, Survey], item: _T, target: Target) -> Row[_T]:
    own = {n: surveys[n] for n in target.blocks if n in surveys}
    code = verdict(snapshot, own, target).code
    kinds = [s.kinds for s in own.values()]
    if any(not k for k in kinds):
        return Row(item, None, None, None if may_go(code) and own else code)
    used = sum(pages for k in kinds for kind, pages in k.items() if kind not in _NO_USE)
    movable = sum(s.to_move for s in own.values())
    return Row(item, used, movable / used if used else None, code)


def document(listing: Listing) -> dict[str, Any]:
    """The JSON of ``hotbank list --json``."""
    return {
        "schema": SCHEMA["list"],
        "machine": listing.snapshot.machine,
        "banks": [_bank_document(row) for row in listing.banks],
        "blocks": [_block_document(row, listing.bank_of(row.item)) for row in listing.blocks],
    }


def _bank_document(row: Row[BankStatus]) -> dict[str, Any]:
    bank = row.item
    return {
        "bank": bank.name,
        "start": bank.range.start,
        "size": bank.range.size,
        "kernel": bank.kernel.value,
        "power": bank.power.value,
        "at_boot": bank.at_boot,
        "movable": bank.movable,
        "route": bank.route,
        "domain": bank.domain,
        "zone": bank.zone,
        "node": bank.node,
        "used": bank.used if row.used is None else row.used,
        "blocks": list(bank.blocks),
        "code": row.code.value if row.code else None,
    }


def _block_document(row: Row[Block], bank: str | None) -> dict[str, Any]:
    block = row.item
    return {
        "block": block.number,
        "start": block.range.start,
        "size": block.range.size,
        "state": block.state.value,
        "valid_zones": list(block.valid_zones),
        "node": block.node,
        "bank": bank,
        "used": block.used if row.used is None else row.used,
    }


@dataclass(frozen=True, slots=True)
class Line(Generic[_T]):
    """One row of a table on its way to text. ``more``: blocks behind this one of which all is the same."""

    row: Row[_T]
    listing: Listing
    in_bytes: bool
    more: int = 0

    @property
    def item(self) -> _T:
        """The bank or block."""
        return self.row.item

    @property
    def range(self) -> Range:
        """Of all that the line stands for."""
        return Range.sized(self.item.range.start, self.item.range.size * (1 + self.more))

    @property
    def size(self) -> str:
        """Size of the range."""
        return self._size(self.range.size)

    @property
    def used(self) -> str:
        """Memory in use, or a dash when nobody looked."""
        pages = self.item.used if self.row.used is None else self.row.used
        return "-" if pages is None else self._size(pages * (1 + self.more) * self.listing.snapshot.page_size)

    @property
    def movable(self) -> str:
        """The part of it that migration can carry."""
        return "-" if self.row.share is None else f"{self.row.share:.0%}"

    def _size(self, size: int) -> str:
        return str(size) if self.in_bytes else human(size)


def _or_dash(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


BANK_COLUMNS: dict[str, Callable[[Line[BankStatus]], str]] = {
    "BANK": lambda line: line.item.name,
    "RANGE": lambda line: str(line.range),
    "SIZE": lambda line: line.size,
    "KERNEL": lambda line: line.item.kernel.value,
    "POWER": lambda line: line.item.power.value,
    "ZONE": lambda line: _or_dash(line.item.zone),
    "NODE": lambda line: _or_dash(line.item.node),
    "USED": lambda line: line.used,
    "MOVABLE": lambda line: line.movable,
    "VERDICT": lambda line: _or_dash(line.row.code),
    "ROUTE": lambda line: line.item.route,
    "DOMAIN": lambda line: _or_dash(line.item.domain),
    "BLOCKS": lambda line: ",".join(map(str, line.item.blocks)) or "-",
    "SAVED": lambda line: _or_dash(line.listing.saved.get(line.item.name)),
}
BLOCK_COLUMNS: dict[str, Callable[[Line[Block]], str]] = {
    "BLOCK": lambda line: table.numbers(line.item.number, line.more),
    "RANGE": lambda line: str(line.range),
    "SIZE": lambda line: line.size,
    "STATE": lambda line: line.item.state.value,
    "ZONES": lambda line: "/".join(line.item.valid_zones) or "-",
    "NODE": lambda line: _or_dash(line.item.node),
    "BANK": lambda line: _or_dash(line.listing.bank_of(line.item)),
    "USED": lambda line: line.used,
    "MOVABLE": lambda line: line.movable,
    "VERDICT": lambda line: _or_dash(line.row.code),
}
_ORDER = "BLOCK BANK RANGE SIZE STATE KERNEL POWER ZONES ZONE NODE USED MOVABLE VERDICT ROUTE DOMAIN BLOCKS SAVED"
ALL_COLUMNS = tuple(_ORDER.split())
_RIGHT = frozenset({"SIZE", "NODE", "USED", "MOVABLE", "BLOCK", "SAVED"})
_WHEN_ASKED = frozenset({"ROUTE", "DOMAIN", "BLOCKS", "SAVED"})
_ADDED_UP = frozenset({"BLOCK", "RANGE", "SIZE"})
_OF_BANKS, _OF_BLOCKS = BANK_COLUMNS.keys() - BLOCK_COLUMNS.keys(), BLOCK_COLUMNS.keys() - BANK_COLUMNS.keys()


def tables(
    listing: Listing,
    chosen: Sequence[str],
    *,
    in_bytes: bool = False,
    headings: bool = True,
    every_block: bool = False,
) -> str:
    """Banks, then blocks, each with those of the chosen columns that it has; what both have is of the banks.

    Neighbouring blocks of which these columns say the same are one line, unless every block is asked for.
    """
    parts = []
    twice = listing.banks_are_blocks
    of_blocks = twice or not _OF_BLOCKS.isdisjoint(chosen)
    if not twice and not (of_blocks and _OF_BANKS.isdisjoint(chosen)):
        lines = [Line(row, listing, in_bytes) for row in listing.banks]
        names = [name for name in chosen if name in BANK_COLUMNS]
        parts.append(_table(names, [[BANK_COLUMNS[n](line) for n in names] for line in lines], headings))
    names = [
        name
        for name in chosen
        if of_blocks and name in BLOCK_COLUMNS and not (name == "BANK" and twice and "BLOCK" in chosen)
    ]
    each = [Line(row, listing, in_bytes) for row in listing.blocks]
    lines_ = each if every_block else _folded(each, names)
    parts.append(_table(names, [[BLOCK_COLUMNS[n](line) for n in names] for line in lines_], headings))
    return "\n".join(part for part in parts if part)


def _folded(lines: Sequence[Line[Block]], names: Sequence[str]) -> Iterator[Line[Block]]:
    """Neighbours that are the same as one line."""
    said = [BLOCK_COLUMNS[name] for name in names if name not in _ADDED_UP]

    def alike(numbered: tuple[int, Line[Block]]) -> tuple[object, ...]:
        at, line = numbered
        return line.item.number - at, *(cell(line) for cell in said)

    for _, run in groupby(enumerate(lines), alike):
        (_, first), *more = run
        yield replace(first, more=len(more))


def _table(names: list[str], rows: list[list[str]], headings: bool) -> str:
    return "".join(f"{line}\n" for line in table.lines(names, rows, right=_RIGHT, shown=headings))


_ONLY_LSMEM = "only with --lsmem"


@click.command("list", short_help="Banks and blocks: state, power, zone, use, verdict.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-o", "--columns", "--output", "columns", metavar="LIST", help="Columns to print, separated by commas.")
@click.option("-b", "--bytes", "in_bytes", is_flag=True, help="Print sizes in bytes.")
@click.option("-n", "--noheadings", is_flag=True, help="Print no headings.")
@click.option(
    "-s", "--sysroot", metavar="DIR", type=click.Path(exists=True, file_okay=False), help="Read the tree at DIR."
)
@click.option("--used", is_flag=True, help="Look at every page of every block: use, movable share, full verdict.")
@click.option("--map", "as_map", is_flag=True, help="Draw the memory, bank by bank, with what its pages hold.")
@click.option("--lsmem", "like_lsmem", is_flag=True, help="Print what lsmem prints, with its options.")
@click.option("-P", "--pairs", is_flag=True, help=f"key=value output, {_ONLY_LSMEM}.")
@click.option("-r", "--raw", is_flag=True, help=f"Raw output, {_ONLY_LSMEM}.")
@click.option(
    "-a", "--all", "every_block", is_flag=True, help="One line for each block; else neighbours that are alike are one."
)
@click.option("-S", "--split", metavar="LIST", help=f"Columns that divide ranges, or none; {_ONLY_LSMEM}.")
@click.option("--output-all", is_flag=True, help=f"All columns, {_ONLY_LSMEM}.")
@click.option(
    "--summary", is_flag=False, flag_value="only", metavar="[WHEN]", help=f"never, always or only; {_ONLY_LSMEM}."
)
def list_(sysroot: str | None, like_lsmem: bool, as_map: bool, used: bool, **options: Any) -> None:
    """List banks and memory blocks.

    Without --used and --map no page is looked at: a verdict then appears only where the state, the zone or the boot
    already decides. With them, every block that is online is surveyed, which needs root on a host.

    Neighbouring blocks of which all columns say the same are one line; --all has a line for each, as --json has.
    """
    if as_map:
        _refuse_beside_map(options, like_lsmem or used)
        say_drawn(*_drawn(_machine(sysroot)))
        return
    if like_lsmem:
        form = _lsmem_format(options)
        say_text(lsmem.render(lsmem.blocks_of(_machine(sysroot), newer=_as_newer_lsmem()), form))
        return
    _refuse_lsmem_options(options)
    if options["as_json"] and options["columns"] is not None:
        raise click.UsageError("--columns is of the table; --json has all of it, for jq to choose from")
    columns, named = options["columns"], _named(options["columns"])
    listing = look(_machine(sysroot), used=used)
    if options["as_json"]:
        say_json(document(listing))
    else:
        chosen = named if columns and not columns.startswith("+") else usual(listing) + named
        if "SAVED" in chosen and sysroot is None:
            listing = replace(listing, saved=_saved(listing.snapshot))
        whole = not columns and not options["noheadings"]
        say(*([f"machine {listing.snapshot.machine}"] if whole else []))
        text = tables(
            listing,
            chosen,
            in_bytes=options["in_bytes"],
            headings=not options["noheadings"],
            every_block=options["every_block"],
        )
        say_text(text)
        say(*([*_totals(listing.snapshot), *_unseen(listing)] if whole else []))


def _totals(snapshot: Snapshot) -> Iterator[str]:
    """How much memory is in which state, by blocks; what banks have outside the kernel is out."""
    sizes = Counter(str(block.state) for block in snapshot.blocks)
    sizes["out"] = sum(len(snapshot.blocks_of(bank)) - len(snapshot.present(bank)) for bank in snapshot.banks)
    parts = (f"{human(blocks * snapshot.block_size)} {state}" for state, blocks in sizes.items() if blocks)
    yield f"total {', '.join(parts) or 'no memory'}"


def _unseen(listing: Listing) -> Iterator[str]:
    """Verdicts that come before any look, where pages may hold a reason that the kernel would come to sooner."""
    verdicts = [(row.code, row.used) for row in listing.banks] + [(row.code, row.used) for row in listing.blocks]
    if any(code is not None and used is None for code, used in verdicts):
        yield "no page was looked at: explain and list --used do, and may find another reason first"


def _drawn(machine: Machine) -> Iterator[screen.Line]:
    from hotbank.cli import bankmap  # none of these is needed by a plain list, which starts sooner without them
    from hotbank.cli.looking import look as look_at
    from hotbank.report.cells import Map

    snapshot = machine.snapshot()
    surveys = look_at(machine, snapshot, [block.number for block in snapshot.blocks])
    return bankmap.lines(Map.of(snapshot, surveys), screen.columns())


def _saved(snapshot: Snapshot) -> Mapping[str, str]:
    """By bank, what its dark time has saved so far; its journal is read for that alone."""
    from hotbank.cli.energy import joules, ledger_of

    context = click.get_current_context().find_object(Context) or Context(None)
    return {account.bank: joules(account.saved.joules) for account in ledger_of(snapshot, context).accounts}


def _machine(sysroot: str | None) -> Machine:
    if sysroot is not None:
        return Host(sysroot)
    context = click.get_current_context().find_object(Context) or Context(None)
    return context.machine(changing=False)


def _named(text: str | None) -> tuple[str, ...]:
    """The columns named in ``-o``. Raises UsageError."""
    names = tuple(name.upper() for name in text.removeprefix("+").split(",")) if text is not None else ()
    for name in names:
        if name not in ALL_COLUMNS:
            raise click.UsageError(f"no column {name}; columns: {', '.join(ALL_COLUMNS)}")
    return names


def usual(listing: Listing) -> tuple[str, ...]:
    """The columns that say something about this machine."""
    hidden = set(_WHEN_ASKED)
    if len({block.node for block in listing.snapshot.blocks} - {None}) < 2:
        hidden.add("NODE")
    if any(row.used is None and row.item.used is None for row in listing.blocks):
        hidden.add("USED")
    if all(row.share is None for row in listing.blocks):
        hidden.add("MOVABLE")
    return tuple(name for name in ALL_COLUMNS if name not in hidden)


def _refuse_beside_map(options: Mapping[str, Any], table: bool) -> None:
    if table or any(options.values()):
        raise click.UsageError("--map is drawn, and takes no other option than --sysroot")


def _as_newer_lsmem() -> bool:
    """Unless the one that is installed is older."""
    import subprocess  # for --lsmem only

    try:
        done = subprocess.run(["lsmem", "--version"], capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return lsmem.newer(done.stdout)


def _refuse_lsmem_options(options: Mapping[str, Any]) -> None:
    for name, option in (("pairs", "-P"), ("raw", "-r"), ("output_all", "--output-all")):
        if options[name]:
            raise click.UsageError(f"{option} works {_ONLY_LSMEM}")
    for name in ("split", "summary"):
        if options[name] is not None:
            raise click.UsageError(f"--{name} works {_ONLY_LSMEM}")


def _lsmem_format(options: Mapping[str, Any]) -> lsmem.Format:
    kinds = [kind for kind in ("json", "pairs", "raw") if options["as_json" if kind == "json" else kind]]
    summary = options["summary"]
    if len(kinds) > 1:
        raise _refused("mutually exclusive arguments: --json --pairs --raw")
    if options["every_block"] and options["split"] is not None:
        raise _refused("mutually exclusive arguments: --split --all")
    if summary not in (None, "never", "always", "only"):
        raise _refused("unsupported --summary argument")
    if kinds and summary == "only":
        raise _refused("options --{raw,json,pairs} and --summary=only are mutually exclusive")
    try:
        columns = lsmem.columns(options["columns"])
        split = lsmem.split(options["split"])
    except lsmem.BadArgumentError as e:
        raise _refused(str(e)) from e
    return lsmem.Format(
        kind=kinds[0] if kinds else "table",
        columns=lsmem.ALL_COLUMNS if options["output_all"] and options["columns"] is None else columns,
        split=split,
        every_block=options["every_block"],
        in_bytes=options["in_bytes"],
        headings=not options["noheadings"],
        summary=summary or "always",
    )


def _refused(message: str) -> click.ClickException:
    """lsmem's own exit status for bad arguments is 1, and so is a ClickException's."""
    return click.ClickException(message)
