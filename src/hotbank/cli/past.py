# SPDX-License-Identifier: Apache-2.0
"""What was done to a machine, as text: a table of transactions that fits the screen, and one of them with its steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from hotbank.cli import table
from hotbank.cli.progress import names_within, said
from hotbank.cli.screen import columns
from hotbank.cli.terminal import counted
from hotbank.cli.times import date
from hotbank.errors import Code
from hotbank.operate import Entry, remedy
from hotbank.operate.journal import PERSON
from hotbank.operate.pace import Foretold, foretold

_COLUMNS = ("N", "BEGAN", "VERB", "TARGET", "RESULT", "SECONDS", "EXPECTED", "PLANNED", "MOVED", "STEPS")
_SPARED = ("EXPECTED", "PLANNED")  # where the screen is too narrow, in that order
_RIGHT = frozenset({"N", "SECONDS", "EXPECTED", "PLANNED", "MOVED", "STEPS"})
_SHORTEST = 8  # columns that targets have at least
_STEPS = ("AFTER", "STEP", "TARGET", "RESULT", "SECONDS")


def lines(entries: tuple[Entry, ...]) -> Iterator[str]:
    """The table, and what it comes to."""
    told = foretold(entries)
    names, rows = _fitting([_row(entry, told.get(entry.id)) for entry in entries], [e.before.targets for e in entries])
    yield from table.lines(names, rows, right=_RIGHT, shown=bool(rows))
    ends = Counter(said(e.code) for e in entries if e.code is not None)
    summary = ", ".join(f"{count} {code}" for code, count in ends.most_common()) or "none yet"
    yield f"{counted(len(entries), 'transaction')}: {summary}; {sum(e.moved or 0 for e in entries)} pages moved"
    yield from _by_others(entries)
    yield from _off_by(told.values())
    if found := failures(entries):
        yield "failures: " + ", ".join(f"{count} {code}" for code, count in found.items())
    yield from (f"transaction {e.id} is open: {_what_to_do(e)}" for e in entries if e.code is None)


def whole(entry: Entry, told: Foretold | None) -> Iterator[str]:
    """One transaction, with each of its steps."""
    row, before = _row(entry, told), entry.before
    who = "by hand" if before.cause == PERSON else f"by the {before.cause}"
    yield f"transaction {entry.id}: {before.verb} {before.target}".rstrip()
    yield f"machine   {before.machine or '-'}"
    yield f"began     {row['BEGAN']}, {who}, process {entry.pid}"
    yield f"result    {row['RESULT']}"
    yield f"seconds   {row['SECONDS']}, expected {row['EXPECTED']}"
    yield f"pages     {row['PLANNED']} planned, {row['MOVED']} moved"
    if entry.damage:
        yield f"damage    {entry.damage}"
    steps = [
        (
            f"{step.began - entry.began:.2f}",
            step.step,
            step.target,
            str(step.code or "-"),
            "-" if step.ended is None else f"{step.ended - step.began:.2f}",
        )
        for step in entry.rows
    ]
    yield from table.lines(_STEPS, steps, right=("AFTER", "SECONDS"), shown=bool(steps))


def failures(entries: Iterable[Entry]) -> dict[str, int]:
    """Reasons of what did not come about, the most frequent first."""
    codes = (e.code.value for e in entries if e.code not in (None, Code.OK, Code.DOMAIN_IN_USE, Code.SUPERSEDED))
    return dict(Counter(codes).most_common())


def _row(entry: Entry, told: Foretold | None) -> dict[str, str]:
    """All columns but the targets."""
    return {
        "N": str(entry.id),
        "BEGAN": date(entry.began),
        "VERB": entry.before.verb,
        "TARGET": "",
        "RESULT": said(entry.code or _open_because(entry)),
        "SECONDS": "open" if entry.ended is None else "-" if entry.seconds is None else f"{entry.seconds:.2f}",
        "EXPECTED": "-" if told is None else f"{told.expected:.2f}",
        "PLANNED": str(entry.before.planned),
        "MOVED": "-" if entry.moved is None else str(entry.moved),
        "STEPS": str(len(entry.rows)),
    }


def _fitting(
    rows: Sequence[dict[str, str]], targets: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The columns that the screen has room for, and their rows; targets take what the others leave."""
    names, spared, wanted = list(_COLUMNS), list(_SPARED), max([_SHORTEST, *(len(", ".join(each)) for each in targets)])
    room = _room(names, rows)
    while room < min(wanted, 2 * _SHORTEST) and spared:
        names.remove(spared.pop(0))
        room = _room(names, rows)
    for row, each in zip(rows, targets, strict=True):
        row["TARGET"] = names_within(each, max(room, _SHORTEST))
    return names, [[row[name] for name in names] for row in rows]


def _room(names: Sequence[str], rows: Sequence[dict[str, str]]) -> int:
    """Columns of the screen that the others leave to the targets."""
    others = [name for name in names if name != "TARGET"]
    return columns() - table.width(others, [[row[name] for name in others] for row in rows]) - len(table.NARROW_GAP)


def _by_others(entries: Iterable[Entry]) -> Iterator[str]:
    """Transactions that no person ordered."""
    causes = dict[str, list[str]]()
    for entry in entries:
        if entry.before.cause != PERSON:
            causes.setdefault(entry.before.cause, []).append(str(entry.id))
    for cause, numbers in causes.items():
        yield f"by the {cause}: {names_within(numbers, columns() - len(cause) - len('by the : '))}"


def _off_by(told: Iterable[Foretold]) -> Iterator[str]:
    """How far off the expectations were, in parts of what was expected."""
    errors = sorted(abs(one.ratio - 1) for one in told)
    if errors:
        middle, count = errors[len(errors) // 2], counted(len(errors), "transaction")
        yield f"expected seconds: off by {middle:.0%} in the middle, {errors[-1]:.0%} at most, in {count} after others"


def _open_because(entry: Entry) -> Code:
    """Why a transaction is not over: the kernel holds a block, or it is being done, or its process died."""
    if entry.damage:
        return Code.DAMAGED
    held = any(row.code is Code.CANCEL_PENDING for row in entry.rows[-1:])
    return Code.CANCEL_PENDING if held else Code.BUSY_TRANSACTION


def _what_to_do(entry: Entry) -> str:
    code = _open_because(entry)
    return "hotbank recover closes it, or says what is half-way" if code is Code.DAMAGED else remedy(code)
