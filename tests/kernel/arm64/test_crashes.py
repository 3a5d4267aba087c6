# SPDX-License-Identifier: Apache-2.0
"""The guest's agent, and the owner's worker, killed before and after every act of a removal and an addition."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotbank import boards_qemu, operate, serve
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import Emulated
from hotbank.machine import Machine
from hotbank.memory import BlockState, KernelState, Power
from hotbank.operate import Event, MemoryJournal
from kernel.kernel_kit import LIMITS, add, complaints, guest, remove

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]

BOARD = str(Path(__file__).with_name("small.toml"))
KILL_AGENT = "kill -9 $(ps | awk '/[b]oards_qemu.agent/ {print $1}')"
MOMENTS = ("step", "progress")  # before an act, and after it


@pytest.fixture(scope="module")
def machine() -> Iterator[Emulated]:
    """A guest whose bank is out of the kernel."""
    with guest(Wanted(BOARD)) as booted:
        yield booted
        assert complaints(booted) == []


class Strike:
    """Hears events and kills at the n-th moment."""

    def __init__(self, number: int, kill: Callable[[], object]) -> None:
        self._left, self._kill = number, kill
        self.struck = False

    def __call__(self, event: Event) -> None:
        if event.event in MOMENTS and not self.struck:
            self._left -= 1
            if self._left < 0:
                self.struck = True
                self._kill()


def check_consistent(machine: Machine) -> None:
    """All of the bank in ZONE_MOVABLE or nothing of it, and power wherever there is a block."""
    snapshot = machine.snapshot()
    status = snapshot.bank("high")
    assert status is not None
    blocks = [snapshot.block(number) for number in status.blocks]
    assert status.kernel in (KernelState.ONLINE, KernelState.ABSENT), blocks
    assert all(b is not None and b.state is BlockState.ONLINE and b.valid_zones == ("Movable",) for b in blocks)
    assert status.power is Power.ON or status.kernel is KernelState.ABSENT
    assert snapshot.pending is None


def strike_everywhere(attempt: Callable[[str, int], bool], verb: str) -> int:
    """Attempt the verb with a kill at each moment, until a whole run saw none; how many there were."""
    number = 0
    while attempt(verb, number):
        number += 1
    return number


def test_the_agent_killed_at_every_moment(machine: Emulated) -> None:
    verbs = {"remove": operate.remove, "add": operate.add}

    def attempt(verb: str, number: int) -> bool:
        (add if verb == "remove" else remove)(machine)
        check_consistent(machine)
        journal = MemoryJournal()
        strike = Strike(number, lambda: machine.runner.run(KILL_AGENT))
        verbs[verb](machine, "high", limits=LIMITS, journal=journal, on_event=strike)
        operate.recover(machine, journal)
        assert journal.unfinished() is None
        check_consistent(machine)
        return strike.struck

    assert strike_everywhere(attempt, "remove") >= 8
    assert strike_everywhere(attempt, "add") >= 8


def test_the_worker_killed_at_every_moment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))
    verbs = {"remove": serve.remove, "add": serve.add}
    record = boards_qemu.up(Wanted(BOARD))

    def attempt(verb: str, number: int) -> bool:
        with serve.connect(record) as machine:
            (serve.add if verb == "remove" else serve.remove)(machine, "high", limits=LIMITS)
            check_consistent(machine)
            strike = Strike(number, lambda: os.kill(worker_of(record.pid), signal.SIGKILL))
            verbs[verb](machine, "high", limits=LIMITS, on_event=strike)
            serve.recover(machine)
            check_consistent(machine)
            return strike.struck

    try:
        assert strike_everywhere(attempt, "remove") >= 8
        assert strike_everywhere(attempt, "add") >= 8
    finally:
        serve.down(record)


def worker_of(owner: int) -> int:
    """The owner's worker, by its parent and its command line."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(") ")[2].split()[1])
            words = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == owner and b"hotbank.serve.worker" in words:
            return int(stat.parent.name)
    raise AssertionError("there is no worker")
