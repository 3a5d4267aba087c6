# SPDX-License-Identifier: Apache-2.0
"""The guest's agent, the owner's worker, and the owner itself, killed at every moment of a removal and an addition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract.deadly import points
from hotbank import boards_qemu, operate, serve
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.dram import home
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code, MachineError
from hotbank.machine import Machine
from hotbank.memory import BlockState, KernelState, Power
from hotbank.operate import Event, MemoryJournal
from kernel.kernel_kit import LIMITS, add, alive, children_of, complaints, guest, lean, remove
from patience import until

pytestmark = pytest.mark.kernel

SMALL = lean(Wanted(str(Path(__file__).with_name("small.toml"))))
KILL_AGENT = "kill -9 $(ps | awk '/[g]uest.agent/ {print $1}')"
MOMENTS = ("step", "progress")  # before an act, and after it


@pytest.fixture(scope="module")
def machine() -> Iterator[QemuMachine]:
    """A guest whose bank is out of the kernel."""
    with guest(SMALL) as booted:
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


def test_the_agent_killed_at_every_moment(machine: QemuMachine) -> None:
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
    record = boards_qemu.up(SMALL)

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


# The writes of a transaction on a bank of two blocks: each intent, and each result.
WRITES = ["begin", *["intend", "result"] * 4, "close"]
Point = tuple[str, int, str]
EVERYWHERE: list[Point] = [(verb, *point) for verb in ("remove", "add") for point in points(WRITES)]
FEW: list[Point] = [
    ("remove", 5, "after"),  # about to take the bank out
    ("remove", 8, "before"),  # dark, and nobody wrote it down
    ("add", 2, "before"),  # powered, and nobody wrote it down
    ("add", 6, "before"),  # one of the blocks is online
]


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime folder of machines whose owner dies where ``HOTBANK_DIES`` says."""
    base = tmp_path_factory.mktemp("r")
    start = serve.start_in_background

    def start_deadly(module: str, spec: dict[str, Any], **named: Any) -> serve.Record:
        return start("kernel.arm64.deadly_supervisor", spec, **named)

    monkeypatch.setattr(serve, "start_in_background", start_deadly)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    monkeypatch.setenv("HOTBANK_DIES", "")
    return base / "hotbank"


def test_the_supervisor_killed_in_a_transaction(deadly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    die_at_each(FEW, deadly, monkeypatch)


@pytest.mark.slow
def test_the_supervisor_killed_at_every_write(deadly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nowhere else is there a write: one more, and the transaction comes to its end."""
    die_at_each(EVERYWHERE, deadly, monkeypatch)
    for verb in ("remove", "add"):
        with pytest.raises(AssertionError, match="it lives"):
            die_at_each([(verb, len(WRITES), "before")], deadly, monkeypatch)


def die_at_each(where: list[Point], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die at each point, one machine for each; the next one settles what is left, and leaves nothing of the dead."""
    pids, died = list[int](), None
    for number, point in enumerate(where):
        monkeypatch.setenv("HOTBANK_DIES", " ".join(map(str, point)))
        with downed_if_it_fails(boards_qemu.up(SMALL), pids) as record:
            check_fresh(record, died)
            assert left_by(pids, folder) == ["banks", "console", "guest", "sock"]
            die(record, point[0])
        check_silent(record)
        died = point
        if number % 4 == 1:
            assert "was gone already" in hotbank("down").stdout
            assert left_by(pids, folder) == []
    monkeypatch.setenv("HOTBANK_DIES", "")
    with downed_if_it_fails(boards_qemu.up(SMALL), pids) as record:
        check_fresh(record, died)
    assert serve.down(record)
    assert left_by(pids, folder) == []


@contextmanager
def downed_if_it_fails(record: serve.Record, pids: list[int]) -> Iterator[serve.Record]:
    """The machine, whose owner's pid is noted down; ended when a check fails."""
    pids.append(record.pid)
    try:
        yield record
    except BaseException:
        serve.down(record)
        raise


def die(record: serve.Record, verb: str) -> None:
    """Carry out the verb until the owner dies of it, and QEMU and the worker with it."""
    children = children_of(record.pid)
    with serve.connect(record) as machine:
        if verb == "remove":
            assert serve.add(machine, "high", limits=LIMITS).exit == 0
        orders = {"remove": serve.remove, "add": serve.add}
        children |= children_of(record.pid)
        with pytest.raises(MachineError):
            raise AssertionError(f"it lives: {orders[verb](machine, 'high', limits=LIMITS)}")
    until(lambda: not any(map(alive, children)))


def check_silent(record: serve.Record) -> None:
    """What a user meets then: an error with a remedy, from each command, and never this host instead."""
    for words in (["list"], ["recover"], ["history"], ["remove", "high"]):
        said = hotbank(*words)
        assert (said.returncode, said.stdout) == (1, ""), said
        assert f"small-arm64 (pid {record.pid}) does not answer" in said.stderr
        assert "hotbank down" in said.stderr


def check_fresh(record: serve.Record, died: Point | None) -> None:
    """A machine from the start: what the one before it left open is closed, and its power is on."""
    with serve.connect(record) as machine:
        check_consistent(machine)
        status = machine.snapshot().bank("high")
        assert status is not None
        assert (status.kernel, status.power) == (KernelState.ABSENT, Power.ON)
        entries = serve.history(machine)
        assert all(entry.code is not None for entry in entries)
        entries = tuple(entry for entry in entries if not entry.is_sign)
        if died is not None and died[1:] != (0, "before"):  # before the first write there is nothing to close
            assert (entries[-1].before.verb, entries[-1].code) == (died[0], Code.SUPERSEDED)
            assert len(entries[-1].rows) == sum(name == "intend" for name in WRITES[: died[1] + (died[2] == "after")])
        assert serve.recover(machine) is None


def left_by(pids: list[int], folder: Path) -> list[str]:
    """What the machines of these owners have on this host, each as often as it is there."""
    base, prefix = home()
    there = {
        "banks": [path for pid in pids for path in base.glob(f"{prefix}{pid}.*")],
        "console": list(folder.glob("*.console")),
        "guest": list(folder.glob("guest-*")),
        "sock": list(folder.glob("*.sock")),
    }
    return [name for name, paths in there.items() for _ in paths]


def hotbank(*words: str) -> subprocess.CompletedProcess[str]:
    """The command, as a user runs it."""
    return subprocess.run([sys.executable, "-m", "hotbank", *words], capture_output=True, text=True)


def worker_of(owner: int) -> int:
    """The owner's worker, by its command line."""
    for pid in children_of(owner):
        if b"hotbank.serve.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("there is no worker")
