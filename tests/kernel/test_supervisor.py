# SPDX-License-Identifier: Apache-2.0
"""The machine that is a guest, with a model in the guest's place: what the supervisor itself decides."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from contract import promises
from hotbank import board as boards
from hotbank.board import Board
from hotbank.boards_qemu import dram
from hotbank.boards_qemu.qemu import Qemu
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import KernelError, MachineError, SwitchError
from hotbank.guest import serial
from hotbank.memory import BlockState, KernelState, Online, Power
from hotbank.model import Model
from hotbank.remote import SocketStream
from hotbank.serve.owner import Owner
from patience import HANG

SMALL = Path(__file__).parent / "arm64" / "small.toml"
PLUGGED = SMALL.read_text(encoding="utf-8").replace('route = "driver"', 'route = "virtio-mem"')
assert SMALL.read_text(encoding="utf-8") != PLUGGED


@dataclass
class Guest:
    """What a supervisor sees of QEMU: ports at whose ends a model is served, and a virtio-mem device.

    ``obeys``: whether a wish for a size is followed at all; ``late``: followed only after so many looks at the size.
    """

    model: Model
    obeys: bool = True
    late: int = 0
    at_wish: Callable[[], None] = lambda: None
    wishes: list[int] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)
    waited: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    _size: int = 0
    _ends: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._owner = Owner(self.model)

    @property
    def qmp(self) -> Guest:
        return self

    def connect(self, port: str) -> socket.socket:
        self.connected.append(port)
        self.ended.discard(port)
        ours, theirs = socket.socketpair()
        self._ends.append(theirs)
        if port != serial.RUNNER:
            threading.Thread(target=self._owner.attend, args=(SocketStream(theirs),), daemon=True).start()
        return ours

    def carries(self, port: str, stream: socket.socket | None) -> bool:
        return stream is not None and port not in self.ended

    def wait_open(self, port: str, timeout: float) -> None:
        self.waited.append(port)
        time.sleep(0.02)  # whoever else asks, asks meanwhile

    def last_lines(self, count: int) -> str:
        return "the last line"

    def stop(self) -> None:
        for end in self._ends:
            end.close()

    def execute(self, command: str, **arguments: Any) -> int:
        """``qom-set`` of the size that is wished, ``qom-get`` of that or of the size that is there."""
        if arguments.get("property") == "requested-size" and command == "qom-get":
            return self.wishes[-1] if self.wishes else 0
        if command == "qom-set":
            self.at_wish()
            self.wishes.append(arguments["value"])
        elif self.obeys and self.wishes and self._size != self.wishes[-1]:
            self.late -= 1
            if self.late < 0:
                self.follow(self.wishes[-1])
        return self._size

    def follow(self, size: int) -> None:
        """Have that size."""
        (self.model.add if size else self.model.remove)("high")
        self._size = size


def booted(board: Board, **how: Any) -> Guest:
    """A guest with that board, its banks that are not there at boot out of the kernel."""
    return Guest(Model.boot(board, backend="reference", seed=1), **how)


def supervised(guest: Guest, board: Board, folder: Path) -> Iterator[QemuMachine]:
    """The machine that it is for the host; both are on the model's clock."""
    with QemuMachine(board, cast(Qemu, guest), dram.create(board, folder), clock=guest.model.clock) as machine:
        machine.wait_until_up()
        yield machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[QemuMachine]:
    board = boards.load(SMALL)
    yield from supervised(booted(board), board, tmp_path / "banks")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "banks").mkdir()


def bring_in(machine: QemuMachine) -> None:
    machine.add("high")
    seen = machine.snapshot().bank("high")
    assert seen is not None
    assert seen.kernel in (KernelState.OFFLINE, KernelState.ONLINE)


def test_what_every_machine_promises(machine: QemuMachine) -> None:
    promises.unknown_names_have_one_refusal(machine)
    promises.unknown_blocks_have_one_refusal(machine)
    promises.a_reading_answers(machine)
    promises.time_goes_forward(machine)
    bring_in(machine)
    blocks = machine.snapshot().touching("ddr-high")
    promises.a_survey_counts_every_page(machine, blocks)
    for block in blocks:
        machine.online(block, Online.MOVABLE)
    promises.a_block_goes_offline_and_comes_back(machine, blocks[0])
    promises.a_bank_leaves_and_comes_back(machine, "high")


def test_an_interruption_reaches_the_guest(machine: QemuMachine) -> None:
    bring_in(machine)
    blocks = machine.snapshot().touching("ddr-high")
    for block in blocks:
        machine.online(block, Online.MOVABLE)
    promises.an_interruption_names_the_offline_that_it_ends(machine, blocks[:2])


def test_an_interruption_ends_an_offline_that_runs_in_the_guest(tmp_path: Path) -> None:
    board = boards.load(SMALL)
    guest = booted(board)
    for machine in supervised(guest, board, tmp_path / "banks"):
        bring_in(machine)
        block = machine.snapshot().touching("ddr-high")[0]
        machine.online(block, Online.MOVABLE)
        pid = guest.model.spawn("pinner", anon_pages=64)
        guest.model.pin(pid, guest.model.place(pid, block)[0])
        deadline = machine.clock.now() + 1e6
        with ThreadPoolExecutor(1) as pool:
            offline = pool.submit(promises.refused, partial(machine.offline, block, deadline), errno.EINTR)
            while promises.state(machine, block)[0] is not BlockState.GOING_OFFLINE:
                time.sleep(0.01)
            machine.interrupt(block, deadline)
            offline.result(60)
        assert promises.state(machine, block)[0] is BlockState.ONLINE
        assert machine.clock.now() < deadline


def test_power_under_memory(machine: QemuMachine) -> None:
    """One block offline in the kernel is enough; when it is gone the bank goes dark."""
    bring_in(machine)
    promises.power_stays_under_memory(machine, "ddr-high")
    promises.empty(machine, "high")
    machine.set_power("ddr-high", Power.OFF)
    assert (machine.power("ddr-high"), machine.files["high"].resident) == (Power.OFF, 0)


def test_a_guest_that_is_asked_for_memory_keeps_its_power(tmp_path: Path) -> None:
    """It has none yet, and may add it right after the look."""
    board = boards.loads(PLUGGED)
    guest = booted(board, obeys=False)
    for machine in supervised(guest, board, tmp_path / "banks"):
        guest.wishes.append(machine.files["high"].size)
        promises.refused(partial(machine.set_power, "ddr-high", Power.OFF), errno.EBUSY)
        assert machine.power("ddr-high") is Power.ON
        guest.wishes.append(0)
        machine.set_power("ddr-high", Power.OFF)
        assert machine.power("ddr-high") is Power.OFF


def test_without_the_interlock_the_bank_goes_dark_under_memory(
    machine: QemuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test itself, on a supervisor that asks nobody."""
    bring_in(machine)
    monkeypatch.setattr("hotbank.gate.refuse_dark", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        promises.power_stays_under_memory(machine, "ddr-high")


def test_a_guest_with_another_board_can_not_vouch_for_a_domain(tmp_path: Path) -> None:
    text = SMALL.read_text(encoding="utf-8").replace("ddr-high", "ddr-other")
    for machine in supervised(booted(boards.loads(text)), boards.load(SMALL), tmp_path / "banks"):
        with pytest.raises(SwitchError, match="knows no power domain ddr-high"):
            machine.set_power("ddr-high", Power.OFF)
        assert machine.power("ddr-high") is Power.ON


def test_a_guest_that_does_not_unplug_is_left_as_it_was(tmp_path: Path) -> None:
    """The wish is taken back, and the machine waits until the guest has followed."""
    board = boards.loads(PLUGGED)
    guest = booted(board)
    for machine in supervised(guest, board, tmp_path / "banks"):
        guest.obeys = False
        began = machine.clock.now()
        with pytest.raises(KernelError, match="did not reach 268435456 bytes in 60 s") as caught:
            machine.add("high")
        assert caught.value.errno == errno.EAGAIN
        assert guest.wishes == [268435456, 0]
        assert machine.clock.now() - began == pytest.approx(60, abs=1)


@pytest.mark.parametrize("follows", [True, False])
def test_a_wish_taken_back_is_waited_for(tmp_path: Path, follows: bool) -> None:
    """A guest that plugs just when the wish is taken back, and then goes back late or never."""
    board = boards.loads(PLUGGED)
    guest = booted(board)
    for machine in supervised(guest, board, tmp_path / "banks"):
        guest.obeys = False

        def too_late(of: Guest = guest) -> None:
            if of.wishes:
                of.follow(of.wishes[-1])
                of.obeys, of.late = follows, 50

        guest.at_wish = too_late
        with pytest.raises(KernelError) as caught:
            machine.add("high")
        assert ("nor did it come back to 0: it has 268435456" in str(caught.value)) is not follows
        seen = machine.snapshot().bank("high")
        assert seen is not None
        assert (seen.kernel is KernelState.ABSENT) is follows


def test_the_machine_talks_to_nobody_before_it_is_waited_for(tmp_path: Path) -> None:
    board = boards.load(SMALL)
    guest = booted(board)
    with QemuMachine(board, cast(Qemu, guest), dram.create(board, tmp_path / "banks")) as machine:
        assert guest.connected == []
        machine.wait_until_up()
        assert guest.connected == [serial.RUNNER, serial.READ]  # the runner's first: it does not wait for anybody


def test_there_is_one_runner_whoever_asks_first(machine: QemuMachine) -> None:
    guest = cast(Guest, machine.qemu)
    with ThreadPoolExecutor(8) as pool:
        runners = {id(found) for found in pool.map(lambda _: machine.runner, range(8))}
    assert len(runners) == 1
    assert guest.waited.count(serial.RUNNER) == 1


def test_a_runner_that_ended_has_a_successor(machine: QemuMachine) -> None:
    guest = cast(Guest, machine.qemu)
    first = machine.runner
    waits = first.start("sleep 60")
    guest.ended.add(serial.RUNNER)
    assert machine.runner is not first
    assert machine.runner is machine.runner
    with pytest.raises(MachineError, match="went away"):
        waits.wait(HANG)
