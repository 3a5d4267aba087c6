# SPDX-License-Identifier: Apache-2.0
"""What each bank saved by being dark and what that cost: from a journal, or from what a simulation printed.

A domain's seconds are those of each of its banks. Pages that a transaction moved are shared by its banks alike; what a
journal does not know (refaults) is named as not counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from hotbank.documents import SCHEMA
from hotbank.energy import NOT_COUNTED, Bounds, Cost, Dram, Saved, Work, break_even, costs, saved
from hotbank.errors import BoardError, Code, FormatError
from hotbank.keys import moment, whole
from hotbank.machine import Snapshot, no_such
from hotbank.memory import GIB, Power
from hotbank.memspec import Part
from hotbank.numbers import finite
from hotbank.operate import Action, Entry
from hotbank.report.states import Now, Stretch, made, seconds_by_state, stretches

FORM, METERED = "simulation", "measurement"
REFAULTS = "pages that had to be read again"
_HOT_PLUG = (Action.ADD, Action.REMOVE, Action.ONLINE)  # keep a processor busy beyond the moving of pages

Parts = Callable[[str | None], tuple[Part, ...]]


@dataclass(frozen=True, slots=True)
class Metered:
    """Watts that less was drawn with a bank as dark as it gets, by the meter of that name."""

    meter: str
    watts: Bounds


@dataclass(frozen=True, slots=True)
class Account:
    """One bank. ``states``: when it was in which; ``dark``: the darkest that it can reach; ``full``: pages of it.

    ``metered``: what a meter said of it, None where nobody has measured it or no meter could tell.
    """

    bank: str
    part: str | None
    dram: Dram
    dark: Power
    states: tuple[Stretch, ...]
    work: Work
    full: int
    metered: Metered | None = None

    @property
    def measured(self) -> Bounds | None:
        """Joules by the meter: of the time in that state in which it was measured."""
        return None if self.metered is None else self.metered.watts * self.seconds.get(self.dark, 0.0)

    @property
    def seconds(self) -> Mapping[Power, float]:
        """Seconds by state."""
        return seconds_by_state(self.states)

    @property
    def saved(self) -> Saved:
        """Joules that its dark time saved."""
        return saved(self.dram, self.seconds)

    @property
    def cost(self) -> Cost:
        """Joules that its leaving and coming back took."""
        return costs(self.dram, self.work)

    @property
    def break_even(self) -> float | None:
        """Seconds in the dark that pay for moving a full bank out and waking it; None where nothing ever does."""
        return break_even(self.dram, Work(pages=self.full, wakes=1), self.dark)

    def document(self) -> dict[str, Any]:
        """The JSON of one bank."""
        cost, joules = self.cost, self.saved
        return {
            "bank": self.bank,
            "part": self.part,
            "temperature": self.dram.temperature,
            "interleaved": self.dram.interleaved,
            "seconds": {power.value: round(s, 6) for power, s in self.seconds.items()},
            "saved_j": _bounds(joules.joules) | {"naive": round(joules.naive, 6)},
            "cost_j": {"pages": _bounds(cost.pages), "wake": _bounds(cost.wake), "cpu": _bounds(cost.cpu)},
            "measured_j": self._measured_document(),
            "break_even_s": None if self.break_even is None else round(self.break_even, 6),
        }

    def _measured_document(self) -> dict[str, Any] | None:
        if self.metered is None or self.measured is None:
            return None
        return {"meter": self.metered.meter, **_bounds(self.measured)}


@dataclass(frozen=True, slots=True)
class Ledger:
    """All banks that have a power domain. ``since``, ``until``: seconds since 1970, or from a simulation's start."""

    machine: str
    since: float
    until: float
    accounts: tuple[Account, ...]
    not_counted: tuple[str, ...]

    def net(self) -> Bounds:
        """Joules saved less what that cost."""
        return Bounds.total(account.saved.joules - account.cost.total for account in self.accounts)

    def with_meters(self, metered: Mapping[str, Metered | None]) -> Ledger:
        """The same with what was measured, by bank. Raises Refusal(NO_SUCH_BANK)."""
        names = [account.bank for account in self.accounts]
        for unknown in metered.keys() - set(names):
            raise no_such(self.machine, "bank with a power domain", unknown, names)
        return replace(self, accounts=tuple(replace(a, metered=metered.get(a.bank)) for a in self.accounts))

    def document(self) -> dict[str, Any]:
        """The JSON of ``hotbank energy``."""
        return {
            "schema": SCHEMA["energy"],
            "machine": self.machine,
            "since": self.since,
            "until": self.until,
            "banks": [account.document() for account in self.accounts],
            "not_counted": list(self.not_counted),
        }


def read_measurement(document: Mapping[str, Any]) -> tuple[str, Metered | None]:
    """The bank, and its watts by the meter with the narrowest interval, of what ``hotbank energy measure --json``
    printed; None where no meter could tell. Raises FormatError."""
    try:
        told = [(m["meter"], m["saved_w"]) for m in document["meters"] if m["measurable"] is True]
        found = [Metered(str(name), Bounds(*(_watts(w[end]) for end in ("low", "mean", "high")))) for name, w in told]
        return str(document["bank"]), min(found, key=lambda m: m.watts.high - m.watts.low, default=None)
    except (KeyError, TypeError, ValueError) as e:
        raise FormatError(METERED, 0, "document", f"is not what hotbank energy measure --json prints: {e!r}") from e


def _watts(value: object) -> float:
    found = finite(value)
    if found is None:
        raise ValueError(f"{value!r} is no number")
    return found


def _bounds(figure: Bounds) -> dict[str, float]:
    return {"low": round(figure.low, 6), "typical": round(figure.typical, 6), "high": round(figure.high, 6)}


def of_journal(snapshot: Snapshot, entries: Sequence[Entry], at: float, parts: Parts) -> Ledger:
    """The machine's ledger until ``at``, in seconds since 1970. ``parts`` as memspec.named; raises BoardError."""
    powers = {domain.name: domain.power for domain in snapshot.domains}
    states = stretches(entries, Now(at, snapshot.boot_id, powers))
    work = _work(entries)
    accounts = tuple(
        replace(account, states=states.get(domain, ()), work=work[account.bank, domain])
        for domain, account in _accounts(snapshot, parts)
    )
    spans = [stretch for account in accounts for stretch in account.states]
    since, until = min((s.began for s in spans), default=at), max((s.ended for s in spans), default=at)
    return Ledger(snapshot.machine, since, until, accounts, (*NOT_COUNTED, REFAULTS))


def of_simulation(document: Mapping[str, Any], snapshot: Snapshot, parts: Parts) -> Ledger:
    """The ledger of what ``hotbank simulate --json`` printed; ``snapshot``: of the board that it was about.

    Raises FormatError where the document is none of these, BoardError.
    """
    try:
        end, banks = moment(document["seconds"]), {bank["bank"]: bank for bank in document["policy"]["banks"]}
        told = [(account, banks[account.bank]) for _, account in _accounts(snapshot, parts) if account.bank in banks]
        accounts = tuple(replace(a, states=tuple(_simulated(b, end)), work=_simulated_work(b)) for a, b in told)
        return Ledger(f"model:{document['manifest']['board']}", 0.0, end, accounts, (*NOT_COUNTED, REFAULTS))
    except (KeyError, TypeError, ValueError) as e:
        raise FormatError(FORM, 0, "document", f"is not what hotbank simulate --json prints: {e!r}") from e


def _accounts(snapshot: Snapshot, parts: Parts) -> Iterator[tuple[str, Account]]:
    """An account without a history for each bank that has a domain."""
    for domain in snapshot.domains:
        banks = [bank for name in domain.banks if (bank := snapshot.bank(name)) is not None]
        whole, devices = sum(bank.range.size for bank in banks) / GIB, parts(domain.dram.part)
        for bank in banks:
            gib, pages = bank.range.size / GIB, bank.range.size // snapshot.page_size
            try:
                dram = Dram.of(domain.dram, devices, gib, whole, interleaved=domain.interleaved)
            except (ValueError, ZeroDivisionError) as e:  # an owner elsewhere may say what no board file may
                raise BoardError(f"domain.{domain.name}", domain.dram.part, str(e)) from e
            yield domain.name, Account(bank.name, domain.dram.part, dram, domain.darkest, (), Work(), pages)


def _work(entries: Iterable[Entry]) -> Mapping[tuple[str, str], Work]:
    """By bank and domain."""
    done: defaultdict[tuple[str, str], Work] = defaultdict(Work)
    for entry in entries:
        banks = [(bank.name, bank.domain) for bank in entry.before.banks if bank.domain is not None]
        for number, (name, domain) in enumerate(banks):
            done[name, domain] += _work_of(entry, domain, number, len(banks))
    return done


def _work_of(entry: Entry, domain: str, number: int, banks: int) -> Work:
    """The share of an entry's work that falls to the bank of that number of so many."""
    each, rest = divmod(entry.moved or 0, banks)
    ok = [row for row in entry.rows if row.code is Code.OK]
    busy = sum(max(0.0, (row.ended or row.began) - row.began) for row in ok if row.step in _HOT_PLUG)
    return Work(pages=each + (number < rest), cpu_seconds=busy / banks, wakes=_wakes(entry, domain))


def _wakes(entry: Entry, domain: str) -> int:
    """How often it went on that was not on: who adds a bank asks for power, whether it is there or not."""
    found = next((before.power for before in entry.before.domains if before.name == domain), Power.UNKNOWN)
    powers = (power for row in entry.rows if row.target == domain and (power := made(row)) is not None)
    return sum(now is Power.ON and was is not Power.ON for was, now in pairwise((found, *powers)))


def _simulated(bank: Mapping[str, Any], end: float) -> Iterator[Stretch]:
    at = 0.0
    for began, ended, power in bank["dark"]:
        yield Stretch(at, moment(began), Power.ON)
        yield Stretch(moment(began), moment(ended), Power(power))
        at = moment(ended)
    yield Stretch(at, end, Power.ON)


def _simulated_work(bank: Mapping[str, Any]) -> Work:
    return Work(pages=whole(bank["pages"]), wakes=whole(bank["added"]))
