# SPDX-License-Identifier: Apache-2.0
"""How a machine starts: a kernel that onlines by itself, a bank that is on from the start, a supply that is watched,
and a machine that stays behind `hotbank up`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hotbank import boards_qemu, operate, serve
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import Emulated
from hotbank.errors import Code, KernelError, MachineError
from hotbank.memory import BlockState, KernelState, Online, Power, Zone
from kernel.kernel_kit import add, guest, remove, span_of

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(300)]

BOARD = str(Path(__file__).with_name("small.toml"))
PL061_DATA = 0x0903_03FC  # all eight lines of QEMU's GPIO block
LINE = 5


def test_a_kernel_that_onlines_by_itself_gets_no_bank_into_a_kernel_zone() -> None:
    with guest(Wanted(BOARD, cmdline="memhp_default_state=online")) as machine:
        assert machine.snapshot().auto_online == Online.ONLINE
        assert (add(machine).code, machine.files["high"].power) == (Code.AUTO_ONLINE, Power.ON)
        machine.add("high")  # past hotbank's own rule: the driver vetoes every kernel zone
        blocks = [b for b in machine.snapshot().blocks if b.range.overlaps(span_of(machine))]
        assert {b.state for b in blocks} == {BlockState.OFFLINE}
        assert add(machine).exit == 0
        assert {b.valid_zones for b in machine.snapshot().blocks if b.range.overlaps(span_of(machine))} == {
            ("Movable",)
        }


def test_a_bank_that_is_on_from_the_start_leaves_and_its_supply_goes_off() -> None:
    """The driver adds it at probe, holds its supply while it is in use, and the line is seen from outside."""
    wanted = Wanted(
        BOARD,
        cmdline="memhp_default_state=online_movable",
        default_on=("high",),
        supplies={"high": LINE},
    )
    with guest(wanted) as machine:
        machine.runner.run("modprobe fixed; until grep -q present /sys/class/hotbank/high/state; do sleep 0.1; done")
        status = machine.snapshot().bank("high")
        assert status is not None
        assert (status.kernel, status.zone) == (KernelState.ONLINE, Zone.MOVABLE)
        assert (supply(machine), line(machine)) == ("on", True)
        with pytest.raises(MachineError):
            machine.runner.run("echo off > /sys/class/hotbank/high/supply")
        assert line(machine)
        assert remove(machine).exit == 0
        assert line(machine)  # the driver lets go only when it is told
        machine.runner.run("echo off > /sys/class/hotbank/high/supply")
        assert (supply(machine), line(machine)) == ("off", False)
        with pytest.raises(KernelError, match="ENXIO"):
            machine.add("high")
        machine.runner.run("echo on > /sys/class/hotbank/high/supply")
        assert (supply(machine), line(machine)) == ("on", True)
        assert add(machine).exit == 0


def supply(machine: Emulated) -> str:
    """What the driver says of the bank's supply."""
    return machine.runner.run("cat /sys/class/hotbank/high/supply").strip()


def line(machine: Emulated) -> bool:
    """The supply's GPIO line, read by QEMU's monitor behind the guest's back."""
    words: dict[str, Any] = {"command-line": f"xp /1xb {PL061_DATA:#x}"}
    said = machine.qemu.qmp.execute("human-monitor-command", **words)
    return bool(int(said.split()[-1], 16) >> LINE & 1)


@contextmanager
def up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[serve.Record]:
    """A machine in the background, as `hotbank up --qemu` makes it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    record = boards_qemu.up(Wanted(BOARD))
    try:
        yield record
    finally:
        serve.down(record)


def test_a_machine_in_the_background(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Served to any client; with a console; gone with all its files when its owner is killed."""
    folder = tmp_path_factory.mktemp("r")
    with up(folder, monkeypatch) as record:
        with serve.connect(record) as machine:
            assert serve.add(machine, "high").exit == 0
            assert serve.remove(machine, "high").power is Power.OFF
        with boards_qemu.console(record) as console:
            console.sendall(b"echo $((6 * 7))\n")
            console.settimeout(10)
            said = b""
            while b"42" not in said:
                said += console.recv(1000)
        (child,) = guests(record.pid)
        os.kill(record.pid, signal.SIGKILL)
        until = time.monotonic() + 5
        while alive(child):
            assert time.monotonic() < until
            time.sleep(0.05)
        with pytest.raises(MachineError, match="does not answer"):
            serve.connect(record)
    with up(folder, monkeypatch) as again, serve.connect(again) as machine:
        assert operate.explain(machine, "high").code is Code.OK


def guests(owner: int) -> set[int]:
    """Process ids of the QEMUs that this process started (proc(5): comm and ppid in ``stat``)."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = stat.read_text().partition(" (")
        except OSError:
            continue
        name, _, fields = rest.rpartition(") ")
        if name.startswith("qemu-system") and int(fields.split()[1]) == owner:
            found.add(int(pid))
    return found


def alive(pid: int) -> bool:
    """True while the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
