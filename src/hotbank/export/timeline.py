# SPDX-License-Identifier: Apache-2.0
"""What happened to a machine, as slices and samples on one axis of time, CLOCK_REALTIME of whoever keeps its journal.

A slice is something that took time: a transaction, a step of it, a state of a power domain, a governor's wish. A sample
is what a number was at a moment. What led to what shares a ``flow``: a deed, the transaction that it was, its steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hotbank.govern.guard import Outcome
from hotbank.govern.status import Deed, Status
from hotbank.machine import Clocks, Quantity, Reading, Snapshot
from hotbank.memory import block_named, format_size
from hotbank.operate import Entry, Row
from hotbank.operate.journal import GOVERNOR
from hotbank.report.states import Stretch

TRANSACTIONS, STEPS, WISHES, DEEDS = "transactions", "steps", "wishes", "deeds"
BYTES, PAGES, PERCENT = "bytes", "pages", "%"


@dataclass(frozen=True, slots=True)
class Track:
    """A line of its own. ``unit``: of its samples; empty for one of slices."""

    name: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """Something on a track from ``began`` to ``ended``, seconds since 1970; None: it is a moment.

    ``flow``: shared by what led to each other, None where nothing did. ``notes``: more about it, by name.
    """

    track: Track
    name: str
    began: float
    ended: float | None = None
    notes: Mapping[str, str | int] = field(default_factory=dict)
    flow: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What a number was at a moment, seconds since 1970."""

    track: Track
    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that is known. ``clocks``: one moment by the clocks of the machine's kernel, None where it has none."""

    machine: str
    slices: tuple[Slice, ...] = ()
    samples: tuple[Sample, ...] = ()
    clocks: Clocks | None = None


# Of a journal.


def of_journal(snapshot: Snapshot, entries: Sequence[Entry], now: float) -> Iterator[Slice]:
    """Each transaction and each of its steps. What was open when its process died ends with what is known next."""
    ends = {one.id: after.began for one, after in pairwise(entries)}
    for entry in entries:
        if not entry.is_sign:
            ended = _or(entry.ended, ends.get(entry.id, now))
            yield _transaction(entry, ended)
            yield from _steps(snapshot, entry, ended)


def _or(known: float | None, else_: float) -> float:
    return else_ if known is None else known


def flow_of(entry: Entry) -> int:
    """The flow of a transaction: of 0, which is nobody's, there is none."""
    return entry.id + 1


def _transaction(entry: Entry, ended: float) -> Slice:
    before = entry.before
    notes = _told(
        code=entry.code,
        cause=before.cause,
        planned_pages=before.planned,
        moved_pages=entry.moved,
        banks=", ".join(bank.name for bank in before.banks),
        transaction=entry.id,
        pid=entry.pid,
    )
    return Slice(Track(TRANSACTIONS), f"{before.verb} {before.target}", entry.began, ended, notes, flow_of(entry))


def _steps(snapshot: Snapshot, entry: Entry, ended: float) -> Iterator[Slice]:
    ends = [*(row.began for row in entry.rows), ended][1:]
    for row, next_ in zip(entry.rows, ends, strict=True):
        notes = _told(bank=bank_of(snapshot, entry, row), code=row.code, errno=row.errno, transaction=entry.id)
        name = f"{row.step} {row.target}"
        yield Slice(Track(STEPS), name, row.began, _or(row.ended, next_), notes, flow_of(entry))


def bank_of(snapshot: Snapshot, entry: Entry, row: Row) -> str | None:
    """The banks that a step was about: the one that it names, the one of its block, those of its domain."""
    banks = {bank.name: bank.domain for bank in entry.before.banks}
    if row.target in banks:
        return row.target
    number, domain = block_named(row.target), snapshot.domain(row.target)
    if domain is None and number is not None and (bank := snapshot.bank_at(number)) is not None:
        return bank.name
    known = [name for name, its in banks.items() if its == row.target] or (domain.banks if domain is not None else ())
    return ", ".join(known) or None


def _told(**notes: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in notes.items() if value not in (None, "")}


def of_states(states: Mapping[str, Iterable[Stretch]]) -> Iterator[Slice]:
    """The power of each domain: a slice for each state that it was in."""
    for domain, stretches in states.items():
        for stretch in stretches:
            yield Slice(Track(f"power {domain}"), stretch.power, stretch.began, stretch.ended)


def moved(entries: Iterable[Entry]) -> Iterator[Sample]:
    """Pages that transactions moved, all together, where each of them ended."""
    total, track = 0, Track("pages moved", PAGES)
    for entry in entries:
        if not entry.is_sign and entry.ended is not None:
            yield Sample(track, entry.began, total)
            total += entry.moved or 0
            yield Sample(track, entry.ended, total)


# Of a governor's looks.


def of_looks(looks: Sequence[Status], entries: Sequence[Entry]) -> Iterator[Slice]:
    """What a governor wished, from look to look, and what it did about it, at the moment at which that began."""
    for look, after in pairwise([*looks, None]):
        if look is None:
            continue
        until = look.at + look.period if after is None else after.at
        name = f"blind: {look.blind}" if look.blind else f"keep {format_size(look.keep)}: {look.wish}"
        yield Slice(Track(WISHES), name, look.at, until, _told(policy=look.policy, dry="dry run" if look.dry else ""))
        yield from (_deed(look, deed, entries) for deed in look.deeds)


def _deed(look: Status, deed: Deed, entries: Sequence[Entry]) -> Slice:
    entry = None if look.dry or deed.outcome is Outcome.PUT_OFF else _ordered(look, deed, entries)
    name = f"{'take' if deed.dark else 'bring back'} {deed.group}"
    at, flow = (look.at, None) if entry is None else (entry.began, flow_of(entry))
    return Slice(Track(DEEDS), name, at, None, _told(why=deed.why, outcome=deed.outcome), flow)


def _ordered(look: Status, deed: Deed, entries: Sequence[Entry]) -> Entry | None:
    """The transaction that a deed was: the last of a governor that did that with these banks before it told so."""
    banks = next((standing.banks for standing in look.groups if standing.group == deed.group), ())
    verb = "remove" if deed.dark else "add"
    return next((e for e in reversed(entries) if _is(e, verb, banks) and e.began <= look.at), None)


def _is(entry: Entry, verb: str, banks: tuple[str, ...]) -> bool:
    before = entry.before
    return before.cause == GOVERNOR and before.verb == verb and set(before.targets) == set(banks)


def looked(looks: Iterable[Status]) -> Iterator[Sample]:
    """What a governor saw: memory in use, in the kernel, and to be kept."""
    for look in looks:
        if not look.blind:
            for name, value in (("used", look.used), ("in the kernel", look.supply), ("to be kept", look.keep)):
                yield Sample(Track(name, BYTES), look.at, value)


# Of readings.


def of_reading(at: float, reading: Reading, page_size: int) -> Iterator[Sample]:
    """What a machine felt at that moment, in seconds since 1970. What it can't tell has no sample."""
    yield Sample(Track("free", BYTES), at, reading.free * page_size)
    yield Sample(Track("clean page cache", BYTES), at, reading.clean * page_size)
    if reading.pressure is not None:
        yield Sample(Track("PSI memory some, 10 s", PERCENT), at, reading.pressure.some_avg10)
        yield Sample(Track("PSI memory full, 10 s", PERCENT), at, reading.pressure.full_avg10)
    if reading.refaults is not None:
        yield Sample(Track("refaults", PAGES), at, reading.refaults)
    if reading.migrated is not None:
        yield Sample(Track("pages migrated", PAGES), at, reading.migrated.success)
    for meter in reading.meters:
        yield Sample(Track(f"{_METERED[meter.quantity]} {meter.name}", meter.quantity), at, meter.value)


_METERED: Mapping[Quantity, str] = {
    Quantity.POWER: "power",
    Quantity.ENERGY: "energy",
    Quantity.TEMPERATURE: "temperature",
}
