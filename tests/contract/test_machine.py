# SPDX-License-Identifier: Apache-2.0
"""What the Machine protocol promises, over every machine that can be made anew and changed."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest

from contract import promises
from contract.promises import empty, refused, state
from hotbank import board
from hotbank.errors import CancelPending, Code, SwitchError
from hotbank.host import Host
from hotbank.load import Workload
from hotbank.machine import Machine, Snapshot
from hotbank.memory import BlockState, Kind, Power
from hotbank.model import Model, WallClock
from hotbank.remote import Remote, SocketStream
from hotbank.serve.owner import Owner
from mount.mounts import mounted, needs_fuse
from patience import ended


@dataclass(frozen=True)
class Bench:
    """A machine with the arm-2009 board, and the model behind it, on which a test can put things into the way."""

    machine: Machine
    model: Model


def _direct(model: Model) -> Iterator[Machine]:
    yield model


def _remote(model: Model) -> Iterator[Machine]:
    ours, theirs = socket.socketpair()
    owner = threading.Thread(target=Owner(model).attend, args=(SocketStream(theirs),))
    owner.start()
    with Remote(SocketStream(ours)) as machine:
        yield machine
    ended(owner)


@dataclass(frozen=True)
class _Switch:
    """A host's switch for the model's domain: what a command or a regulator is on a board."""

    model: Model

    def status(self) -> Power:
        return self.model.power("ddr-high")

    def turn(self, want: Power) -> None:
        self.model.set_power("ddr-high", want)


def _host(model: Model) -> Iterator[Machine]:
    """Host, on the files of a mounted model."""
    with mounted(model) as root:
        yield Host(root, board.load("arm-2009"), switches={"ddr-high": _Switch(model)})


MACHINES: dict[str, Callable[[Model], Iterator[Machine]]] = {"model": _direct, "remote": _remote, "host": _host}
PARAMS = ["model", "remote", pytest.param("host", marks=[pytest.mark.long, pytest.mark.referee, needs_fuse])]


@pytest.fixture(params=PARAMS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    clock = WallClock() if request.param == "host" else None
    model = Model.boot(board.load("arm-2009"), backend="reference", seed=1, clock=clock)
    Workload(model, 1, pages=2000).fill()
    for machine in MACHINES[request.param](model):
        yield Bench(machine, model)
    model.validate()


@pytest.fixture
def machine(bench: Bench) -> Machine:
    return bench.machine


def high(snapshot: Snapshot) -> tuple[int, ...]:
    bank = snapshot.bank("high")
    assert bank is not None
    return bank.blocks


def test_a_snapshot_is_consistent_and_changes_nothing(machine: Machine) -> None:
    snapshot = machine.snapshot()
    assert snapshot == machine.snapshot()
    assert [b.number for b in snapshot.blocks] == sorted({b.number for b in snapshot.blocks})
    for block in snapshot.blocks:
        assert block.range.size == snapshot.block_size
        assert block.range.start == block.number * snapshot.block_size
        assert block.valid_zones
    for bank in snapshot.banks:
        assert all(snapshot.block(n) is not None for n in bank.blocks)
        assert bank.domain is None or snapshot.domain(bank.domain) is not None
    for domain in snapshot.domains:
        assert all(snapshot.bank(name) is not None for name in domain.banks)
    spans = sorted((z.start_pfn, z.start_pfn + z.spanned) for z in snapshot.zones)
    assert all(lower[1] <= upper[0] for lower, upper in pairwise(spans))
    assert all(z.free <= z.managed <= z.present <= z.spanned for z in snapshot.zones)


def test_a_survey_counts_every_page(machine: Machine) -> None:
    snapshot = machine.snapshot()
    surveys = promises.a_survey_counts_every_page(machine, [block.number for block in snapshot.blocks])
    for block, survey in zip(snapshot.blocks, surveys, strict=True):
        used = sum(n for kind, n in survey.kinds.items() if kind not in (Kind.FREE, Kind.HOLE))
        assert block.used in (None, used)
    assert snapshot == machine.snapshot()


def test_what_there_is_not_has_one_refusal(machine: Machine) -> None:
    promises.unknown_names_have_one_refusal(machine)
    promises.unknown_blocks_have_one_refusal(machine)


def test_the_clock_goes_forward(machine: Machine) -> None:
    promises.time_goes_forward(machine)


def test_offline_and_online(machine: Machine) -> None:
    promises.a_block_goes_offline_and_comes_back(machine, high(machine.snapshot())[1])


def test_a_fence_keeps_no_block_from_anything(machine: Machine) -> None:
    promises.a_fence_keeps_no_block_from_anything(machine, high(machine.snapshot())[1:3])


def test_an_interruption_names_the_offline_that_it_ends(machine: Machine) -> None:
    promises.an_interruption_names_the_offline_that_it_ends(machine, high(machine.snapshot())[1:3])


def test_an_unmovable_page_is_busy(bench: Bench) -> None:
    machine, low = bench.machine, bench.machine.snapshot().bank("low")
    assert low is not None
    blocked = [n for n in low.blocks if bench.model.survey(n).blocked]
    before = machine.snapshot()
    refused(lambda: machine.offline(blocked[0], machine.clock.now() + 60), errno.EBUSY)
    assert machine.snapshot() == before


def _pinned_block(bench: Bench) -> tuple[int, int]:
    """A block of the bank with a pinned page, and the pin."""
    pid = bench.model.spawn("pinner", anon_pages=64)
    number = next(n for n in high(bench.model.snapshot()) if bench.model.place(pid, n))
    return number, bench.model.pin(pid, bench.model.place(pid, number)[0])


def test_at_the_deadline_the_block_is_back(bench: Bench) -> None:
    block, pin = _pinned_block(bench)
    before = state(bench.machine, block)
    began = bench.machine.clock.now()
    refused(lambda: bench.machine.offline(block, began + 2), errno.EINTR)
    assert began + 2 <= bench.machine.clock.now() <= began + 3
    assert state(bench.machine, block) == before
    survey = bench.machine.survey(block)
    assert Code.PINNED in {e.why for e in survey.blocking} or "pins" in survey.unknown
    bench.model.unpin(pin)
    bench.machine.offline(block, bench.machine.clock.now() + 60)


def test_a_block_that_the_kernel_does_not_let_go(bench: Bench) -> None:
    bench.model.write_file("disk", 5000)
    bench.model.stall_writeback("disk", 5000)
    surveys = {n: bench.model.survey(n) for n in high(bench.machine.snapshot())}
    block = max(surveys, key=lambda n: surveys[n].kinds.get(Kind.FILE, 0))
    with pytest.raises(CancelPending) as caught:
        bench.machine.offline(block, bench.machine.clock.now() + 1)
    assert caught.value.code is Code.CANCEL_PENDING
    snapshot = bench.machine.snapshot()
    assert snapshot.pending == block
    assert state(bench.machine, block)[0] is BlockState.GOING_OFFLINE
    bench.model.end_writeback("disk")
    assert bench.machine.snapshot().pending is None
    assert state(bench.machine, block) == (BlockState.ONLINE, "Movable")


def test_out_of_the_kernel_and_back(machine: Machine) -> None:
    promises.a_bank_leaves_and_comes_back(machine, "high")


def test_a_bank_without_a_route(machine: Machine) -> None:
    refused(lambda: machine.remove("low"), errno.EOPNOTSUPP)


def test_the_onlining_policy(machine: Machine) -> None:
    promises.a_policy_is_what_was_written(machine)


def test_power(machine: Machine) -> None:
    empty(machine, "high")
    for want in (Power.OFF, Power.ON, Power.SELF_REFRESH, Power.ON):
        machine.set_power("ddr-high", want)
        assert machine.power("ddr-high") is want
        status = machine.snapshot().domain("ddr-high")
        assert status is not None
        assert status.power is want
    promises.only_states_of_the_board(machine, "ddr-high")


def test_power_stays_while_the_kernel_has_a_block(machine: Machine) -> None:
    promises.power_stays_under_memory(machine, "ddr-high")
    bank = promises.bank_of(machine, "high")
    promises.take_offline(machine, bank.blocks)
    promises.power_stays_under_memory(machine, "ddr-high")


def test_a_switch_that_fails(bench: Bench) -> None:
    empty(bench.machine, "high")
    empty(bench.machine, "high")
    bench.model.switch_faults["ddr-high"] = "fails"
    with pytest.raises(SwitchError) as caught:
        bench.machine.set_power("ddr-high", Power.SELF_REFRESH)
    assert caught.value.code is Code.SWITCH_FAILED
    assert bench.machine.power("ddr-high") is Power.ON


def test_a_reading_answers(machine: Machine) -> None:
    promises.a_reading_answers(machine)


def test_a_reading_counts_what_moves(bench: Bench) -> None:
    machine, before = bench.machine, bench.machine.reading()
    assert before.free == sum(zone.free for zone in before.zones) > 0
    moved = sum(bench.model.survey(block).to_move for block in high(machine.snapshot()))
    empty(machine, "high")
    after = machine.reading()
    assert before.migrated is not None
    assert after.migrated is not None
    assert after.migrated.success - before.migrated.success >= moved > 0
    assert after.at >= before.at
