# SPDX-License-Identifier: Apache-2.0
"""Rows for a spreadsheet: the first has the names of the columns. What is not known is an empty cell.

Times are seconds, since 1970 or since a simulation began; sizes bytes; pages those of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hotbank.errors import FormatError
from hotbank.export.timeline import bank_of
from hotbank.keys import moment, whole
from hotbank.machine import Snapshot, Survey
from hotbank.memory import Kind
from hotbank.operate import Entry
from hotbank.report.ledger import FORM

Cell = str | int | float | None
Row = tuple[Cell, ...]

_JOURNAL = (
    "transaction",
    "verb",
    "targets",
    "cause",
    "result",
    "step",
    "target",
    "bank",
    "began",
    "ended",
    "code",
    "errno",
)
_SURVEY = ("block", "start", "size", "bank", "state", "zone", "boot", "blocked", "clean", *Kind)
_SIMULATION = ("t", "demand", "on", "bytes_off")


def journal(snapshot: Snapshot, entries: Iterable[Entry]) -> Iterator[Row]:
    """A row for each step of each transaction."""
    yield _JOURNAL
    for entry in entries:
        before = entry.before
        said = (entry.id, before.verb, before.target, before.cause, entry.code)
        for row in entry.rows:
            bank = bank_of(snapshot, entry, row)
            yield (*said, row.step, row.target, bank, row.began, row.ended, row.code, row.errno)


def survey(snapshot: Snapshot, surveys: Mapping[int, Survey], blocks: Sequence[int]) -> Iterator[Row]:
    """A row for each block that the kernel has; pages by kind where somebody looked."""
    yield _SURVEY
    for number in blocks:
        block, bank, found = snapshot.block(number), snapshot.bank_at(number), surveys.get(number)
        if block is None:
            continue
        where = (
            number,
            block.range.start,
            block.range.size,
            None if bank is None else bank.name,
            block.state,
            block.zone,
        )
        seen = (None,) * 3 if found is None else (_flag(found.boot), found.blocked, found.clean)
        kinds = (None if found is None or not found.kinds else found.kinds.get(kind, 0) for kind in Kind)
        yield (*where, *seen, *kinds)


def _flag(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def simulation(document: Mapping[str, Any]) -> Iterator[Row]:
    """The timeline of what ``hotbank simulate --json`` printed. Raises FormatError where it is none."""
    yield _SIMULATION
    try:
        for point in document["timeline"]:
            yield moment(point["t"]), *(whole(point[name]) for name in _SIMULATION[1:])
    except (KeyError, TypeError, ValueError) as e:
        raise FormatError(FORM, 0, "document", f"is not what hotbank simulate --json prints: {e!r}") from e
