# SPDX-License-Identifier: Apache-2.0
"""Journal → how long each power domain was in which state. All the time from the first entry on is given to one state.

A state holds between two moments at which the journal knows it, within one boot. ``unknown`` is what nobody can vouch
for: from the last sign of a boot to the first sign of the next (the machine may have been down), between two looks that
disagree without an act of ours (another hand), and after an act whose result was never written or was a failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hotbank.errors import Code, Finding, Severity
from hotbank.machine import Snapshot
from hotbank.memory import Power
from hotbank.operate import Entry, Row
from hotbank.operate.plan import REACHES

DARK = tuple(power for power in Power if power.dark)

_CLOCK_SET = 1_577_836_800.0  # 2020: what is stamped earlier than others was stamped by a clock that nobody had set


@dataclass(frozen=True, slots=True)
class Stretch:
    """From ``began`` to ``ended``, in seconds since 1970, a domain was in that state."""

    began: float
    ended: float
    power: Power

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Now:
    """The machine at the end of the span: seconds since 1970, its boot, and the power of its domains."""

    at: float
    boot_id: str
    powers: Mapping[str, Power] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Sign:
    """A moment at which the machine was up, and the domains' power as it was ``seen``, or as an act ``made`` it."""

    at: float
    boot: str
    seen: Mapping[str, Power] = field(default_factory=dict)
    made: Mapping[str, Power] = field(default_factory=dict)


def stretches(entries: Sequence[Entry], now: Now) -> dict[str, tuple[Stretch, ...]]:
    """For each domain in the journal or on the machine: its states, one after the other without a gap, from the first
    entry until now. A clock that was set back stands still until it has caught up."""
    signs = _in_order([*_signs(entries), _Sign(now.at, now.boot_id, seen=now.powers)])
    names = {name: None for sign in signs for name in (*sign.seen, *sign.made)}
    return {name: tuple(_merged(_states(name, signs))) for name in names}


def left(entries: Iterable[Entry], boot_id: str) -> dict[str, Power]:
    """The state of each domain that the journal knows last, in that boot. ``entries``: the oldest first. Without those
    for which nobody can vouch, and without any while a transaction is open."""
    known, open_ = dict[str, Power](), False
    for entry in entries:
        open_ = entry.code is None
        for sign in _signs([entry] if entry.before.boot_id == boot_id else []):
            known |= {**sign.seen, **sign.made}
    return {} if open_ else {name: power for name, power in known.items() if power is not Power.UNKNOWN}


def turned(snapshot: Snapshot, entries: Iterable[Entry]) -> Iterator[Finding]:
    """Domains that are not as the journal left them: another hand turned their switch, or it does not keep its word."""
    for name, power in left(entries, snapshot.boot_id).items():
        now = snapshot.domain(name)
        if now is not None and now.power not in (power, Power.UNKNOWN):
            what = f"domain {name} is {now.power}, and the journal has left it {power}: another hand was at its switch"
            help_ = f"hotbank power {name} {power} turns it back; see who else has it"
            yield Finding("SWITCH_TURNED", Severity.HURTS, what, help_)


def seconds_by_state(states: Iterable[Stretch]) -> dict[Power, float]:
    """Seconds in each state that occurs."""
    spent: Counter[Power] = Counter()
    for stretch in states:
        spent[stretch.power] += stretch.seconds  # type: ignore[assignment]  # typed for whole numbers
    return dict(spent)


def dark_seconds(seconds: Mapping[Power, float]) -> float:
    """Of seconds by state those off or in self-refresh."""
    return sum(seconds.get(power, 0.0) for power in DARK)


def made(row: Row) -> Power | None:
    """The state that an act brought its domain to, ``unknown`` where it failed or its result was never written; None
    for one that turned no switch."""
    reached = REACHES.get(row.step)
    if reached is None or row.code is Code.DOMAIN_IN_USE:
        return None
    return reached if row.code is Code.OK else Power.UNKNOWN


def _signs(entries: Iterable[Entry]) -> Iterator[_Sign]:
    for entry in entries:
        boot = entry.before.boot_id
        yield _Sign(entry.began, boot, seen={domain.name: domain.power for domain in entry.before.domains})
        for row in entry.rows:
            yield from _signs_of_act(row, boot)
        if entry.ended is not None and entry.code is not Code.SUPERSEDED:  # which a later boot wrote
            yield _Sign(entry.ended, boot)


def _signs_of_act(row: Row, boot: str) -> Iterator[_Sign]:
    power = made(row)
    if power is Power.UNKNOWN:
        yield _Sign(row.began, boot, made={row.target: Power.UNKNOWN})
        return
    yield _Sign(row.began, boot)
    at = row.began if row.ended is None else row.ended
    yield _Sign(at, boot, made={} if power is None else {row.target: power})


def _in_order(signs: Sequence[_Sign]) -> list[_Sign]:
    """Times that never go back: the order of the journal is right, whatever somebody did to the clock."""
    at = next((sign.at for sign in signs if sign.at >= _CLOCK_SET), signs[0].at)
    ordered = []
    for sign in signs:
        at = max(at, sign.at)
        ordered.append(_Sign(at, sign.boot, sign.seen, sign.made))
    return ordered


def _states(domain: str, signs: Sequence[_Sign]) -> Iterator[Stretch]:
    power, since, last = Power.UNKNOWN, signs[0].at, signs[0]
    for sign in signs:
        seen, made = sign.seen.get(domain), sign.made.get(domain)
        if sign.boot != last.boot:
            yield Stretch(since, last.at, power)
            yield Stretch(last.at, sign.at, Power.UNKNOWN)
            power, since = seen or made or Power.UNKNOWN, sign.at
        elif seen is not None or made is not None:
            yield Stretch(since, sign.at, power if seen in (None, power) else Power.UNKNOWN)
            power, since = seen or made or Power.UNKNOWN, sign.at
        last = sign
    yield Stretch(since, last.at, power)


def _merged(states: Iterable[Stretch]) -> Iterator[Stretch]:
    """Without empty ones, and neighbours of one state as one."""
    open_: Stretch | None = None
    for stretch in states:
        if stretch.ended == stretch.began:
            continue
        if open_ is not None and open_.power is stretch.power:
            open_ = Stretch(open_.began, stretch.ended, stretch.power)
            continue
        if open_ is not None:
            yield open_
        open_ = stretch
    if open_ is not None:
        yield open_
