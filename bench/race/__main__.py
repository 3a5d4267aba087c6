# SPDX-License-Identifier: Apache-2.0
"""Who frees memory fastest: hotbank against what there is, on equal states of a real kernel in QEMU.

Rivals are the order of ``chmem -d`` (util-linux, sys-utils/chmem.c: the highest block first, whatever it holds), and
our driver's ``evict`` where a whole bank is wanted (mm/memory_hotplug.c, ``offline_and_remove_memory``). Both run in
the guest. hotbank looks there, and decides here, as ``hotbank -m`` of a board in QEMU does: its look, its plan and the
removal are all counted. Every run starts from the same snapshot of the machine, and who comes first alternates.

    PYTHONPATH=tests:bench python -m race [--runs N] [--states NAME,...] [--seed N] [--limit SECONDS] [--json FILE]

What an emulator can't show: real parallelism, real caches, and the price of a TLB. Ratios say more than seconds, CPU
seconds (of QEMU, and of hotbank here) more than those of the clock where others use the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from hotbank import operate
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.machine import Survey
from hotbank.memory import BlockState
from hotbank.operate import Limits
from kernel.kernel_kit import guest, lean
from race.guests import FILL, HERE, LOAD, Filled, Snapshots, blocks_of, fill
from race.states import STATES, State

T = TypeVar("T")
R = TypeVar("R")
TICKS = os.sysconf("SC_CLK_TCK")
COUNTERS = ("pgmigrate_success", "workingset_refault_file", "workingset_refault_anon")


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt. ``freed``: blocks; ``seconds``, of which ``look`` at pages; ``cpu``: seconds; ``pages``: moved;
    ``refaults``: pages that were read again when all was looked at afterwards; ``damaged``: runs of pages."""

    state: str
    rival: str
    freed: int
    seconds: float
    cpu: float
    pages: int
    refaults: int
    damaged: int
    look: float = 0.0
    said: str = ""
    planned: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """What a rival says of itself: seconds of its ``look``, why it did not come to its end, and pages it expected."""

    said: str
    look: float = 0.0
    planned: int | None = None


class Timed:
    """A machine whose looks at pages are timed."""

    def __init__(self, machine: QemuMachine) -> None:
        self._machine, self.look = machine, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def survey(self, block: int) -> Survey:
        return self._timed(self._machine.survey, block)

    def glance(self, block: int) -> Survey:
        return self._timed(self._machine.glance, block)

    def count(self, blocks: tuple[int, ...]) -> tuple[Survey, ...]:
        return self._timed(self._machine.count, blocks)

    def _timed(self, look: Callable[[T], R], what: T) -> R:
        began = time.monotonic()
        try:
            return look(what)
        finally:
            self.look += time.monotonic() - began


def chmem(machine: QemuMachine, state: State, limit: float) -> Ended:
    """``chmem -d SIZE``."""
    return _within(machine, highest_first("/sys/devices/system/memory", state.wanted), limit)


def highest_first(folder: str, enough: int) -> str:
    """Its order for a shell: one block after the other from the highest on, until enough are offline; status 1 where
    they never are. One that refuses is passed over."""
    numbers = f"ls {folder} | sed -n 's/^memory\\([0-9]*\\)$/\\1/p' | sort -rn"
    each = f"[ $left -gt 0 ] || break; (echo offline > {folder}/memory$n/state) 2>/dev/null && left=$((left-1))"
    return f"left={enough}; for n in $({numbers}); do {each}; done; [ $left -eq 0 ]"


def evict(machine: QemuMachine, state: State, limit: float) -> Ended:
    """What our driver does in one write."""
    del state
    return _within(machine, "echo evict > /sys/class/hotbank/bank/state", limit)


def _within(machine: QemuMachine, script: str, limit: float) -> Ended:
    job = machine.runner.start(script)
    job.wait_for(limit)
    if job.running:
        job.kill()
        return Ended(f"not in {limit:g} s")
    return Ended("" if job.wait(1).status == 0 else "failed")


def hotbank(machine: QemuMachine, state: State, limit: float) -> Ended:
    """``remove --free SIZE``, or ``remove bank``."""
    timed, limits = Timed(machine), Limits(total=limit, block=limit)
    if state.wanted:
        plan = operate.plan_free(timed, state.wanted * machine.board.block_size).plan
        if not plan.steps:
            return Ended(plan.code.value, timed.look)
        names: Any = [target.name for target in plan.targets]
        told = operate.remove(timed, names, limits=limits, found=plan.found)
    else:
        told = operate.remove(timed, "bank", limits=limits)
    return Ended("" if told.exit == 0 else told.code.value, timed.look, told.planned)


RIVALS: dict[str, Callable[[QemuMachine, State, float], Ended]] = {
    "chmem": chmem,
    "evict": evict,
    "hotbank": hotbank,
}


def run(filled: Filled, state: State, rival: str, limit: float) -> Run:
    """One rival on the state that the guest is in."""
    machine = filled.machine
    blocks, before = online(machine), counters(machine)
    cpu, began = cpu_seconds(machine), time.monotonic()
    ended = RIVALS[rival](machine, state, limit)
    seconds, cpu = time.monotonic() - began, cpu_seconds(machine) - cpu
    moved = counters(machine)["pgmigrate_success"] - before["pgmigrate_success"]
    damaged, after = filled.check(), counters(machine)
    refaults = sum(after[name] - before[name] for name in COUNTERS[1:])
    freed = len(blocks) - len(online(machine))
    told = ended.look, ended.said, ended.planned
    return Run(state.name, rival, freed, seconds, cpu, moved, refaults, damaged, *told)


def online(machine: QemuMachine) -> list[int]:
    """Those of the ten that are."""
    ours = set(blocks_of(machine))
    return [b.number for b in machine.snapshot().blocks if b.number in ours and b.state is not BlockState.OFFLINE]


def counters(machine: QemuMachine) -> dict[str, int]:
    """Of /proc/vmstat."""
    rows = (line.split() for line in machine.runner.run("cat /proc/vmstat").splitlines())
    return {name: int(value) for name, value in rows if name in COUNTERS}


def cpu_seconds(machine: QemuMachine) -> float:
    """Of QEMU with its guest, and of this process."""
    words = Path(f"/proc/{machine.qemu.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS + time.process_time()


def least(machine: QemuMachine, state: State) -> int:
    """Pages that must move at least, if nobody's choice is asked: those of the cheapest blocks that can leave."""
    bank = machine.board.bank("bank")
    surveys = {number: machine.survey(number) for number in online(machine)}
    if not state.wanted:
        assert bank is not None
        size = machine.board.block_size
        return sum(s.to_move for n, s in surveys.items() if bank.range.start <= n * size < bank.range.end)
    return sum(sorted(s.to_move for s in surveys.values() if not s.blocked)[: state.wanted])


@contextmanager
def fresh(board: str, series: str | None, cmdline: str) -> Iterator[tuple[QemuMachine, Snapshots]]:
    """A guest that has just booted, kept as the snapshot ``fresh``."""
    files = {"opt/fill.py": FILL, "opt/load.py": LOAD}
    with guest(lean(Wanted(str(HERE / board), series=series, files=files, cmdline=cmdline))) as machine:
        machine.runner.run("mount -o remount,noatime /mnt; echo never > /sys/kernel/mm/transparent_hugepage/enabled")
        snapshots = Snapshots(machine, machine.qemu.folder)
        snapshots.save("fresh")
        yield machine, snapshots


def race(machine: QemuMachine, snapshots: Snapshots, state: State, args: argparse.Namespace) -> tuple[list[Run], int]:
    """All runs on one state, and the pages that must move at least."""
    rivals = ["chmem" if state.wanted else "evict", "hotbank"]
    found: list[Run] = []
    snapshots.load("fresh")
    filled = fill(machine, state, args.seed)
    floor = least(machine, state)
    snapshots.save("state")
    for number in range(args.runs):
        for rival in rivals if number % 2 == 0 else reversed(rivals):
            snapshots.load("state")
            found.append(run(filled, state, rival, args.limit))
            print(f"  {number + 1:>3} {line(found[-1])}", file=sys.stderr, flush=True)
    snapshots.drop("state")
    return found, floor


def line(one: Run) -> str:
    look = f", look {one.look:.2f} s" if one.look else ""
    bad = f", {one.damaged} DAMAGED" if one.damaged else ""
    pages = f"{one.pages} pages" + (f" of {one.planned}" if one.planned is not None else "")
    words = f"{one.rival:<8} {one.freed} blocks  {one.seconds:6.2f} s{look}  {one.cpu:6.2f} s CPU  {pages}"
    return f"{words}, {one.refaults} refaults{bad}  {one.said}".rstrip()


def table(state: State, runs: list[Run], floor: int) -> Iterator[str]:
    """Medians, with the lowest and the highest of the seconds."""
    yield f"{state.name}: {state.words}; at least {floor} pages have to move"
    for rival in dict.fromkeys(one.rival for one in runs):
        own = [one for one in runs if one.rival == rival]
        seconds, done = sorted(one.seconds for one in own), sum(not one.said for one in own)
        middle = {
            name: statistics.median(getattr(one, name) for one in own) for name in ("cpu", "pages", "refaults", "look")
        }
        spread = f"{statistics.median(seconds):.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f})"
        cost = f"look {middle['look']:.2f} s  CPU {middle['cpu']:.2f} s  {middle['pages']:.0f} pages"
        yield f"  {rival:<8} done {done} of {len(own)}  {spread}  {cost}  {middle['refaults']:.0f} refaults"


def chosen(names: str) -> list[State]:
    """The states of these names, for argparse."""
    known = {state.name: state for state in STATES}
    if unknown := set(names.split(",")) - known.keys():
        raise argparse.ArgumentTypeError(f"no state {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def by_guest(states: Sequence[State], series: str | None) -> dict[tuple[str, str | None, str], list[State]]:
    """By what boots: board, series of the kernel, and its command line."""
    found: dict[tuple[str, str | None, str], list[State]] = {}
    for state in states:
        found.setdefault((state.board, state.series or series, state.cmdline), []).append(state)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="pairs on each state")
    parser.add_argument("--states", type=chosen, default=STATES, metavar="NAME,...", help="which of them")
    parser.add_argument("--seed", type=int, default=1, help="of the states")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a run is ended")
    parser.add_argument("--series", help="of Debian's kernel, where the state asks for none")
    parser.add_argument("--json", type=Path, help="a file for all runs")
    args = parser.parse_args()
    everything = []
    for boots, states in by_guest(args.states, args.series).items():
        with fresh(*boots) as (machine, snapshots):
            for state in states:
                runs, floor = race(machine, snapshots, state, args)
                print("\n".join(table(state, runs, floor)), flush=True)
                everything += [asdict(one) for one in runs]
    if args.json:
        args.json.write_text(json.dumps(everything, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
