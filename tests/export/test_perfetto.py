# SPDX-License-Identifier: Apache-2.0
"""A journal and a governor's looks as Perfetto's trace, parsed back by Perfetto's own protobuf."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from export.perfetto_reader import BOOTTIME, MONOTONIC, REALTIME, Read, read
from host import captured_trees
from hotbank import board, operate
from hotbank.cli.export import read_looks, readings_of
from hotbank.errors import KernelError
from hotbank.export import timeline
from hotbank.export.perfetto import trace
from hotbank.export.timeline import Timeline
from hotbank.govern.settings import Settings
from hotbank.govern.status import Status
from hotbank.host import Host
from hotbank.machine import Clocks, Meter, Migrated, Pressure, Quantity, Reading, Snapshot, ZoneInfo
from hotbank.model import Model
from hotbank.operate import Entry, MemoryJournal
from hotbank.serve.client import RemoteOwner
from hotbank.serve.desk import desk_in
from hotbank.serve.governing import Governing
from hotbank.serve.local import attached
from hotbank.serve.owner import Owner
from hotbank.session import connect
from hotbank.testing import Faulty, ScriptedMachine, raising
from hotbank.wire import encode

NS = 10**9


def told(snapshot: Snapshot, entries: Sequence[Entry], looks: Sequence[Status] = (), now: float = 1e6) -> Read:
    """What a trace shows of them."""
    slices = (*timeline.of_journal(snapshot, entries, now), *timeline.of_looks(looks, entries))
    return read(trace(Timeline(snapshot.machine, slices, tuple(timeline.moved(entries)))))


@dataclass
class Ticking:
    """Seconds since 1970 that go on with each question."""

    at: float = 1.7e9

    def __call__(self) -> float:
        self.at += 0.125
        return self.at


def wrong(snapshot: Snapshot, entries: Sequence[Entry], shown: Read) -> list[str]:
    """Steps and transactions that are no slice of their own with their start, end and bank."""
    steps = iter(shown.on(timeline.STEPS))
    faults = []
    for entry in entries:
        banks = {bank.name for bank in entry.before.banks}
        for row in entry.rows:
            step = next(steps, None)
            if step is None or step.name != f"{row.step} {row.target}":
                faults.append(f"{row.step} {row.target}: {step}")
                continue
            if step.began != round(row.began * NS) or (row.ended is not None and step.ended != round(row.ended * NS)):
                faults.append(f"{step.name}: from {step.began} to {step.ended}")
            if not row.step.endswith("policy") and not banks.issuperset({step.notes.get("bank")}):
                faults.append(f"{step.name}: bank {step.notes.get('bank')}")
    orders = [f"{e.before.verb} {e.before.target}" for e in entries]
    if [order.name for order in shown.on(timeline.TRANSACTIONS)] != orders:
        faults.append(f"transactions: {orders}")
    return faults


def journaled(call: str = "", nth: int = 0) -> tuple[ScriptedMachine, MemoryJournal]:
    """A bank out and in; the nth such call fails."""
    machine, journal = ScriptedMachine(), MemoryJournal(now=Ticking())
    faulty = Faulty(machine)
    if call:
        faulty.fail(call, nth, raising(KernelError(errno.EBUSY, call)))
    for verb in (operate.remove, operate.add):
        verb(faulty, "high", journal=journal)
    return machine, journal


@pytest.mark.parametrize("call", ["", "offline", "remove", "set_power", "add", "online"])
@pytest.mark.parametrize("nth", [0, 1])
def test_each_step_is_a_slice_with_its_start_end_and_bank(call: str, nth: int) -> None:
    machine, journal = journaled(call, nth)
    entries = journal.entries()
    assert any(entry.rows for entry in entries)
    assert wrong(machine.snapshot(), entries, told(machine.snapshot(), entries)) == []


def test_a_transaction_whose_process_died_before_its_first_step_is_a_slice() -> None:
    machine, journal = journaled()
    before = journal.entries()[0].before
    journal.begin(before)
    entries = journal.entries()
    assert not entries[-1].rows
    shown = told(machine.snapshot(), entries, now=1.8e9)
    assert wrong(machine.snapshot(), entries, shown) == []
    assert shown.on(timeline.TRANSACTIONS)[-1].ended == 18 * 10**17


@pytest.mark.parametrize("at", [-1.0, -1e300, 1e300])
def test_a_moment_that_no_trace_has_is_as_near_as_it_gets(at: float) -> None:
    (shown,) = read(trace(Timeline("m", (timeline.Slice(timeline.Track("t"), "s", at, at),)))).slices
    assert shown.began == shown.ended == (0 if at < 0 else 18 * 10**18)


def test_the_oracle_sees_a_step_that_is_late_or_of_another_bank_or_gone() -> None:
    """Planted."""
    machine, journal = journaled()
    snapshot, entries = machine.snapshot(), journal.entries()
    first = entries[0]
    for rows in (
        first.rows[1:],
        (replace(first.rows[0], began=first.rows[0].began + 1e-6), *first.rows[1:]),
        (replace(first.rows[0], target="memory0"), *first.rows[1:]),
    ):
        planted = told(snapshot, (replace(first, rows=rows), *entries[1:]))
        assert wrong(snapshot, entries, planted)
    elsewhere = replace(first.before, banks=())
    assert wrong(snapshot, (replace(first, before=elsewhere), *entries[1:]), told(snapshot, entries))


def test_what_was_open_when_its_process_died_ends_with_what_is_known_next() -> None:
    machine, journal = journaled()
    first, second = journal.entries()
    cut = replace(first, rows=(*first.rows[:2], replace(first.rows[2], code=None, ended=None)), code=None, ended=None)
    shown = told(machine.snapshot(), (cut, second))
    assert shown.on(timeline.TRANSACTIONS)[0].ended == round(second.began * NS)
    assert shown.on(timeline.STEPS)[2].ended == round(second.began * NS)
    alone = told(machine.snapshot(), (cut,), now=first.began + 60)
    assert alone.on(timeline.TRANSACTIONS)[0].ended == round((first.began + 60) * NS)


def test_pages_moved_add_up() -> None:
    machine, journal = journaled()
    counted = told(machine.snapshot(), journal.entries()).counters["pages moved"]
    assert counted[0][1] == 0
    assert counted[-1] == (round((journal.entries()[-1].ended or 0) * NS), machine.moved)


def test_a_wish_leads_to_its_transaction_and_that_to_its_steps(tmp_path: Path) -> None:
    """A governor takes a bank and brings it back; the steps of each share the flow of what wished it."""
    model = Model.boot(board.load("arm-2009"), backend="reference", seed=1)
    owner = Owner(model, journal=MemoryJournal(), desk=desk_in(tmp_path, "m"))
    with closing(attached(owner)) as remote:
        governing = Governing(remote, RemoteOwner(remote), Settings(every=2.0))
        looks = []
        for _ in range(80):
            looks.append(governing.look())
            model.clock.sleep(2.0)
        entries, file = RemoteOwner(remote).history(), tmp_path / "looks"
        file.write_text("".join(f"{json.dumps(encode(look))}\n" for look in looks))  # as `auto run --record` does
        assert tuple(read_looks(str(file))) == tuple(looks)
        shown = told(remote.snapshot(), entries, looks)
    deeds = [deed for deed in shown.on(timeline.DEEDS) if deed.notes["outcome"] == "done"]
    assert deeds
    ordered = {order.flows: order for order in shown.on(timeline.TRANSACTIONS)}
    for deed in deeds:
        order = ordered[deed.flows]
        steps = [step for step in shown.on(timeline.STEPS) if step.flows == deed.flows]
        assert order.notes["cause"] == "governor"
        assert deed.began <= order.began <= steps[0].began
        assert {step.notes["transaction"] for step in steps} == {order.notes["transaction"]}
    assert len({deed.flows for deed in deeds}) == len(deeds)
    assert all(wish.name.startswith("keep ") for wish in shown.on(timeline.WISHES))


READING = Reading(
    5.0,
    (ZoneInfo(0, "Normal", 0, 100, 100, 100, free=7, reclaimable=2),),
    Pressure(1.5, 0.25, 10, 5),
    refaults=3,
    migrated=Migrated(9, 1),
    meters=(Meter("rail", Quantity.POWER, 0.5),),
    clocks=Clocks(1.7e9, 100.0, 250.5),
)


def test_readings_are_counters_and_the_kernels_clocks_are_told_before_them() -> None:
    samples = tuple(timeline.of_reading(1.7e9, READING, 4096))
    data = trace(Timeline("m", (), samples, READING.clocks))
    shown = read(data)
    assert {track: values[0][1] for track, values in shown.counters.items()} == {
        "free": 7 * 4096, "clean page cache": 2 * 4096, "PSI memory some, 10 s": 1.5, "PSI memory full, 10 s": 0.25,
        "refaults": 3, "pages migrated": 9, "power rail": 0.5,
    }  # fmt: skip
    assert shown.clocks == {REALTIME: 17 * 10**17, MONOTONIC: 100 * NS, BOOTTIME: 2505 * NS // 10}
    kinds = [packet.WhichOneof("data") for packet in Trace.FromString(data).packet]
    assert kinds.index("clock_snapshot") < kinds.index("track_event")


def test_a_running_kernel_tells_its_clocks_and_another_has_none(tmp_path: Path) -> None:
    before, told, after = Clocks.now(), Host().reading().clocks, Clocks.now()
    assert told is not None
    for clock in ("real", "monotonic", "boot"):
        assert getattr(before, clock) <= getattr(told, clock) <= getattr(after, clock)
    assert Host(captured_trees.gaps().at(tmp_path)).reading().clocks is None
    assert Model.boot(board.load("arm-2009"), backend="reference", seed=1).reading().clocks is None


def test_what_a_machine_cannot_tell_is_no_counter() -> None:
    assert {s.track.name for s in timeline.of_reading(0.0, Reading(0.0), 4096)} == {"free", "clean page cache"}


def test_two_machines_in_one_file_keep_their_tracks_apart() -> None:
    machine, journal = journaled()
    slices = tuple(timeline.of_journal(machine.snapshot(), journal.entries(), 0.0))
    both = read(trace(Timeline("one", slices)) + trace(Timeline("two", slices)))
    flows = [slice_.flows for slice_ in both.on(timeline.TRANSACTIONS)]
    assert len(set(flows)) == len(flows) == 4


def test_ctrl_c_ends_the_readings_and_what_there_is_is_kept() -> None:
    machine = Faulty(ScriptedMachine())
    machine.fail("reading", 2, raising(KeyboardInterrupt()))
    assert len(readings_of(connect(machine), 60.0, 0.001)) == 2


HOSTILE = "\ud800;\x1b[2J\n\U0010ffff \udc80"


def test_a_name_that_is_no_text_is_shown_all_the_same() -> None:
    slice_ = timeline.Slice(timeline.Track(HOSTILE), HOSTILE, 1.0, 2.0, {"why": HOSTILE})
    (shown,) = read(trace(Timeline(HOSTILE, (slice_,)))).slices
    assert shown.name == shown.track == shown.notes["why"] == "\\ud800;\x1b[2J\n\U0010ffff \\udc80"
