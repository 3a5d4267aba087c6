# SPDX-License-Identifier: Apache-2.0
"""Guests in the state that somebody wants memory from, and back in the very same state for the next who wants it.

QEMU keeps the whole machine (migration/savevm.c, ``snapshot-save``) in a file beside it, which is asked for by QMP
alone. The disk is no part of that: nobody writes to it once a state is made.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import MachineError
from hotbank.guest import serial
from hotbank.memory import MIB, Online
from patience import HANG, until
from race.states import State

HERE = Path(__file__).resolve().parent
FILL = (HERE / "fill.py").read_text(encoding="utf-8")
LOAD = (HERE.parents[1] / "tests/kernel/guest_load.py").read_text(encoding="utf-8")
INODES, LEFT = 60_000, 40  # files without content; MiB of other memory that is free when they are made
PAGE, PATIENCE = 4096, 20.0  # bytes; seconds for a guest that was just loaded
END_AGENT = """p=$(grep -l 'guest[.]agent' /proc/[0-9]*/cmdline 2>/dev/null); p=${p%/cmdline}; kill ${p#/proc/}
while [ -d $p ]; do sleep 0.1; done"""


class Snapshots:
    """States of one guest, by name."""

    def __init__(self, machine: QemuMachine, folder: Path) -> None:
        self._machine, self._qmp = machine, machine.qemu.qmp
        self._numbers = itertools.count()
        path = str(folder / "states")
        self._job("blockdev-create", options={"driver": "file", "filename": path, "size": 0})
        self._node("states-file", driver="file", filename=path)
        self._job("blockdev-create", options={"driver": "qcow2", "file": "states-file", "size": MIB})
        self._node("states", driver="qcow2", file="states-file")

    def save(self, tag: str) -> None:
        """Keep the machine as it is, while its agent waits for somebody: whoever is loaded in the middle of a talk
        goes on with it, and nobody hears that."""
        self._machine.runner.run(END_AGENT)
        for port in (serial.CHANGE, serial.READ):
            self._machine.qemu.wait_open(port, HANG)
        self._job("snapshot-save", tag=tag, vmstate="states", devices=["states"])

    def load(self, tag: str) -> None:
        """Be that machine again, running and answering. Whoever is at this end of a port is hung up (QEMU's
        hw/char/virtio-serial-bus.c, ``guest_reset``), and connects anew."""
        self._job("snapshot-load", tag=tag, vmstate="states", devices=["states"])
        until(self._answers, "the guest, after it was loaded", pause=0.2)
        self._warm()

    def _warm(self) -> None:
        """The agent that was there before had looked at blocks and written to files; this one is made anew."""
        seen = self._machine.snapshot()
        self._machine.survey(seen.blocks[0].number)
        self._machine.reading()
        self._machine.set_auto_online(seen.auto_online)

    def _answers(self) -> bool:
        try:
            self._machine.snapshot()
            return self._machine.runner.run("echo here", timeout=PATIENCE) == "here\n"
        except (MachineError, OSError):
            return False

    def drop(self, tag: str) -> None:
        """Forget it."""
        self._job("snapshot-delete", tag=tag, devices=["states"])

    def _node(self, name: str, **arguments: Any) -> None:
        self._qmp.execute("blockdev-add", **{"node-name": name, **arguments})

    def _job(self, command: str, **arguments: Any) -> None:
        name = f"job{next(self._numbers)}"
        self._qmp.execute(command, timeout=HANG, **{"job-id": name, **arguments})
        while (job := self._status(name))["status"] != "concluded":
            time.sleep(0.02)
        self._qmp.execute("job-dismiss", id=name)
        if "error" in job:
            raise RuntimeError(f"QEMU: {command}: {job['error']}")

    def _status(self, name: str) -> dict[str, Any]:
        jobs: list[dict[str, Any]] = self._qmp.execute("query-jobs", timeout=HANG)
        return next(job for job in jobs if job["id"] == name)


@dataclass
class Filled:
    """A guest in a state. ``held``: pages in use, by block."""

    machine: QemuMachine
    held: dict[int, int]

    def check(self) -> int:
        """Pages that are not what was written, now."""
        run = self.machine.runner.run
        run(
            "rm -f /run/checked; kill -USR1 $(cat /run/fill.pid); until [ -e /run/checked ]; do sleep 0.1; done",
            timeout=HANG,
        )
        return int(run("cat /run/checked"))


def blocks_of(machine: QemuMachine) -> list[int]:
    """The numbers of the ten blocks."""
    size = machine.board.block_size
    spans = [bank.range for bank in machine.board.banks if not bank.at_boot]
    return sorted(number for span in spans for number in range(span.start // size, span.end // size))


def _add(machine: QemuMachine) -> None:
    """The ten blocks are there, offline."""
    machine.set_auto_online("offline")
    for bank in machine.board.banks:
        if not bank.at_boot:
            machine.add(bank.name)


def _bring(machine: QemuMachine, state: State) -> None:
    """All but those of a kernel zone online and Movable; known as a bank only where that is wanted."""
    for index, number in enumerate(blocks_of(machine)):
        if index not in state.kernel:
            machine.online(number, Online.MOVABLE)
    if state.wanted:
        machine.runner.run(f"rm /etc/hotbank/board.toml; {END_AGENT}")
        until(lambda: machine.snapshot().bank("pool") is None)


@contextmanager
def _little_left(machine: QemuMachine) -> Iterator[None]:
    """What was there at boot is in use, but for so much that page tables need."""
    free = int(machine.runner.run("awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo"))
    with _load(machine, f"anon:{free - LEFT}"):
        yield


def _with_slab(machine: QemuMachine, state: State) -> None:
    """The blocks of a kernel zone online; slab comes into them and nothing else, since little other memory is left."""
    for index in state.kernel:
        machine.online(blocks_of(machine)[index], Online.KERNEL)
    machine.runner.run("mount -o remount,nr_inodes=0 /tmp")
    with _load(machine, f"inodes:{INODES}"):
        pass


@contextmanager
def _load(machine: QemuMachine, words: str) -> Iterator[None]:
    """Memory that is taken by guest_load.py, until the end of the ``with``; files stay."""
    job = machine.runner.start(f"exec python3 -S /opt/load.py {words}")
    machine.runner.run("until [ -e /run/load ]; do sleep 0.1; done; rm /run/load", timeout=HANG)
    yield
    job.kill()
    job.wait(HANG)


def fill(machine: QemuMachine, state: State, seed: int) -> Filled:
    """Put the guest into the state; everything settled."""
    _add(machine)
    with _little_left(machine) if state.kernel else nullcontext():
        _bring(machine, state)
        held = _filled(machine, state, seed)
        if state.kernel:
            _with_slab(machine, state)
    machine.runner.run("sync; sleep 1")
    return Filled(machine, held)


def _filled(machine: QemuMachine, state: State, seed: int) -> dict[int, int]:
    """Pages in use, by block."""
    run, blocks = machine.runner.run, blocks_of(machine)
    pages = machine.board.block_size // PAGE
    asked = {
        "seed": seed,
        "first": blocks[0],
        "pages": pages,
        "shares": state.shares(random.Random(seed)),
        "pinned": [blocks[number] for number in state.pinned],
        "take": (len(blocks) - len(state.kernel)) * machine.board.block_size // MIB - 8,
        "cache": state.cache,
        "node": 1 if state.own_node else None,
    }
    machine.runner.start(f"echo $$ > /run/fill.pid; exec python3 -S /opt/fill.py '{json.dumps(asked)}'")
    run("until [ -e /run/fill ]; do sleep 0.2; done", timeout=HANG)
    return {int(block): count for block, count in json.loads(run("cat /run/fill")).items()}
