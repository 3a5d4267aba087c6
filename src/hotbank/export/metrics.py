# SPDX-License-Identifier: Apache-2.0
"""A machine as Prometheus's metrics, made from what was asked of it without walking a page (extra ``metrics``).

Names by Prometheus's conventions: base units, ``_total`` for what only grows, one label for one question. A state is a
series for each state that there is, 1 for the one that holds. What a machine can't tell has no series.
Truth: prometheus.io/docs/practices/naming.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hotbank.energy import Bounds, Cost
from hotbank.errors import HotbankError
from hotbank.export.utf8 import whole
from hotbank.govern.status import Governed
from hotbank.machine import Quantity, Reading, Snapshot
from hotbank.memory import BlockState, KernelState, Power
from hotbank.operate import Entry
from hotbank.report.ledger import Ledger

_Labels = Mapping[str, str]
_Series = Iterable[tuple[_Labels, float]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was asked of a machine. ``ledger``: None where its DRAM is not known; ``governed``: where nobody owns it."""

    snapshot: Snapshot
    reading: Reading
    entries: Sequence[Entry]
    ledger: Ledger | None
    governed: Governed | None


class Scrape(Collector):
    """Asks at each scrape, one at a time. ``ask``: raises HotbankError when the machine does not answer; ``trouble``:
    told of that."""

    def __init__(self, ask: Callable[[], Seen], trouble: Callable[[HotbankError], None]) -> None:
        self._ask, self._trouble, self._lock = ask, trouble, threading.Lock()

    @property
    def registry(self) -> CollectorRegistry:
        """What Prometheus's own library serves and writes: this alone, nothing of this process."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def collect(self) -> Iterator[Metric]:
        """All metrics, all of one moment."""
        with self._lock:
            yield from families(self._seen())

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: who registers asks no machine."""
        return iter(())

    def _seen(self) -> Seen | None:
        try:
            return self._ask()
        except HotbankError as e:
            self._trouble(e)
            return None


def families(seen: Seen | None) -> Iterator[Metric]:
    """All metrics; of a machine that does not answer, that it does not."""
    yield _gauge("machine_up", "Whether the machine answers", [({}, seen is not None)])
    if seen is not None:
        yield from _of_snapshot(seen.snapshot)
        yield from _of_reading(seen.reading, seen.snapshot.page_size)
        yield from _of_ledger(seen.ledger)
        yield from _of_journal(seen.entries)
        yield from _of_governor(seen.governed)


def _gauge(name: str, what: str, series: _Series) -> Metric:
    return _filled(GaugeMetricFamily(f"hotbank_{name}", f"{what}."), series)


def _counter(name: str, what: str, series: _Series) -> Metric:
    return _filled(CounterMetricFamily(f"hotbank_{name}", f"{what}."), series)


def _filled(family: Metric, series: _Series) -> Metric:
    suffix = "_total" if family.type == "counter" else ""
    for labels, value in series:
        family.add_sample(family.name + suffix, {name: whole(text) for name, text in labels.items()}, value)
    return family


def _one_of(labels: _Labels, states: type[StrEnum], holds: StrEnum) -> Iterator[tuple[_Labels, float]]:
    return (({**labels, "state": state.value}, state is holds) for state in states)


# What there is.


def _of_snapshot(now: Snapshot) -> Iterator[Metric]:
    banks = [bank for bank in now.banks if not bank.is_a_block]  # which a board names; of the others there may be many
    counts = Counter(block.state for block in now.blocks)
    machine = {"machine": now.machine, "arch": now.arch}
    yield _gauge("machine_info", "Which machine it is", [(machine, 1)])
    yield _gauge("blocks", "Memory blocks by state", [({"state": state.value}, counts[state]) for state in BlockState])
    yield _gauge("block_size_bytes", "Size of a memory block", [({}, now.block_size)])
    yield _gauge("bank_size_bytes", "Size of a bank", [({"bank": bank.name}, bank.range.size) for bank in banks])
    used = [({"bank": bank.name}, bank.used * now.page_size) for bank in banks if bank.used is not None]
    yield _gauge("bank_used_bytes", "Memory of a bank in use", used)
    within = [each for bank in banks for each in _one_of({"bank": bank.name}, KernelState, bank.kernel)]
    yield _gauge("bank_kernel_state", "Where a bank stands in the kernel: 1 for the state that holds", within)
    powers = [each for bank in banks for each in _one_of({"bank": bank.name}, Power, bank.power)]
    yield _gauge("bank_power_state", "Power of a bank: 1 for the state that holds", powers)


def _of_reading(reading: Reading, page_size: int) -> Iterator[Metric]:
    zones = [({"node": str(zone.node), "zone": zone.zone}, zone) for zone in reading.zones]
    yield _gauge("zone_free_bytes", "Free memory of a zone", [(at, z.free * page_size) for at, z in zones])
    yield _gauge("zone_managed_bytes", "Memory that a zone manages", [(at, z.managed * page_size) for at, z in zones])
    clean = [(at, z.reclaimable * page_size) for at, z in zones]
    yield _gauge("zone_clean_cache_bytes", "Clean page cache of a zone, which reclaim could drop", clean)
    yield from _of_counters(reading)
    for quantity, make, name, what in _METERS:
        shown = [({"meter": m.name}, m.value) for m in reading.meters if m.quantity is quantity]
        yield make(name, what, shown)


_METERS = (
    (Quantity.POWER, _gauge, "meter_power_watts", "What a meter of power shows"),
    (Quantity.ENERGY, _counter, "meter_energy_joules", "What a meter of energy has counted"),
    (Quantity.TEMPERATURE, _gauge, "meter_temperature_celsius", "What a meter of temperature shows"),
)


def _of_counters(reading: Reading) -> Iterator[Metric]:
    pressure, refaults, migrated = reading.pressure, reading.refaults, reading.migrated
    shares = () if pressure is None else (("some", pressure.some_total), ("full", pressure.full_total))
    stalled = [({"share": share}, micros / 1e6) for share, micros in shares]
    yield _counter("pressure_stalled_seconds", "Time in which some, or all, tasks waited for memory", stalled)
    again = () if refaults is None else (refaults,)
    yield _counter("refaulted_pages", "Pages that had to be read again", [({}, pages) for pages in again])
    moves = () if migrated is None else (("success", migrated.success), ("fail", migrated.fail))
    tried = [({"result": result}, pages) for result, pages in moves]
    yield _counter("migrated_pages", "Pages that the kernel moved, or failed to, whoever asked", tried)


# What it came to.


def _of_ledger(ledger: Ledger | None) -> Iterator[Metric]:
    if ledger is None:
        return
    accounts = [({"bank": account.bank}, account) for account in ledger.accounts]
    spent = [({**at, "state": power.value}, s) for at, a in accounts for power, s in a.seconds.items()]
    yield _counter("bank_power_seconds", "Time that a bank's power was in a state, since the journal began", spent)
    saved = [each for at, account in accounts for each in _bounds(at, account.saved.joules)]
    yield _counter("bank_saved_joules", "Energy that a bank's dark time saved, by its data sheet", saved)
    cost = [each for at, account in accounts for each in _items(at, account.cost)]
    yield _counter("bank_cost_joules", "Energy that a bank's leaving and coming back took", cost)
    even = [(at, account.break_even) for at, account in accounts if account.break_even is not None]
    yield _gauge("bank_break_even_seconds", "Time in the dark that pays for moving a full bank out", even)


def _items(labels: _Labels, cost: Cost) -> Iterator[tuple[_Labels, float]]:
    for item, figure in (("pages", cost.pages), ("wake", cost.wake), ("cpu", cost.cpu)):
        yield from _bounds({**labels, "item": item}, figure)


def _bounds(labels: _Labels, figure: Bounds) -> Iterator[tuple[_Labels, float]]:
    for bound in ("low", "typical", "high"):
        yield {**labels, "bound": bound}, getattr(figure, bound)


def _of_journal(entries: Sequence[Entry]) -> Iterator[Metric]:
    done = [entry for entry in entries if not entry.is_sign]
    ends = Counter((e.before.verb, e.before.cause, e.code.value) for e in done if e.code is not None)
    by = [({"verb": verb, "cause": cause, "code": code}, n) for (verb, cause, code), n in sorted(ends.items())]
    yield _counter("transactions", "Transactions that ended, by verb, who ordered them and reason code", by)
    yield _gauge("transactions_open", "Transactions that have not ended", [({}, sum(e.code is None for e in done))])
    moved = sum(entry.moved or 0 for entry in done)
    yield _counter("transactions_moved_pages", "Pages that transactions moved", [({}, moved)])
    last = done[-1:]
    began = "When the last transaction began"
    yield _gauge("last_transaction_timestamp_seconds", began, [({}, entry.began) for entry in last])


def _of_governor(governed: Governed | None) -> Iterator[Metric]:
    if governed is None:
        return
    status, orders = governed.status, governed.orders
    paused = bool(orders.paused or (status is not None and status.state.paused))
    yield _gauge("governor_up", "Whether a governor looks at the machine", [({}, governed.alive)])
    yield _gauge("governor_paused", "Whether it may take nothing", [({}, paused)])
    if status is not None:
        yield _gauge("governor_blind", "Whether it could see nothing at its last look", [({}, bool(status.blind))])
        yield _gauge("governor_last_look_timestamp_seconds", "When it looked last", [({}, status.at)])
        yield _gauge("governor_used_bytes", "Memory in use as it saw it", [({}, status.used)])
        yield _gauge("governor_keep_bytes", "Memory that its policy wishes to keep", [({}, status.keep)])
