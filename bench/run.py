# SPDX-License-Identifier: Apache-2.0
"""How fast the model's compiled page frames are, as ratios to C within one run.

The baseline is a buddy allocator with the kernel's own data layout (buddy_kernel_layout.c), built here with
``cc -O2``; buddy_compact.c is the same allocator as a structure of arrays, so that a slowed baseline would show.
All allocators carry out the same operations on 4 GiB of frames and must answer with the same pfns. Each row is run
in alternating pairs on one pinned core and timed by the thread's CPU clock; the ratio is the median over the pairs,
with the lowest and the highest beside it. All sides use small pages, or with ``--huge`` all use huge ones.

    python bench/run.py [--pairs N] [--cpu N] [--huge] [--check]

``--check`` exits with 1 when a median misses its goal.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hotbank.memory import GIB, KIB, MIB, Kind
from hotbank.model.compiled import CompiledFrames
from hotbank.model.frames import NO_FRAME, MigrateType, Shape

PAGE = 4 * KIB
FRAMES = 4 * GIB // PAGE
OPERATIONS = 1_000_000  # pairs of one free and one allocation
BATCH = 16384
RANKED = 16 * GIB // PAGE
BLOCK = 128 * MIB // PAGE
NEAR = 1.2  # times what compact C takes with mixed orders
PR_SET_THP_DISABLE = 41  # include/uapi/linux/prctl.h
HERE = Path(__file__).resolve().parent

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]


class Allocator(Protocol):
    """4 GiB of frames in one movable zone, and batches of operations on it.

    ``held`` has the first frame of each slot's block, NO_FRAME where there is none; ``orders`` each slot's order.
    """

    def reset(self) -> None:
        """All frames free."""

    def take(self, held: Words, orders: Bytes) -> float:
        """Allocate a block into each slot. Returns seconds, as the others do."""

    def give(self, held: Words, orders: Bytes) -> float:
        """Free the block of each slot."""

    def churn(self, held: Words, orders: Bytes, picks: Words) -> float:
        """For each pick, free the slot's block and allocate another."""

    def runs(self, held: Words, orders: Bytes, picks: Words) -> float:
        """The same in runs: free the blocks of BATCH picks, then allocate as many."""


def timed(call: Callable[..., object], *arguments: object) -> float:
    """Seconds of this thread's CPU time."""
    start = time.thread_time_ns()
    call(*arguments)
    return (time.thread_time_ns() - start) / 1e9


class C:
    """One of the C files here, built and loaded."""

    def __init__(self, name: str, folder: Path) -> None:
        library = folder / f"{name}.so"
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-Wall", "-fPIC", "-shared", "-o", library, HERE / f"{name}.c"], check=True)
        self._c = ctypes.CDLL(str(library))
        self._c.row_scan.restype = ctypes.c_size_t

    def reset(self) -> None:
        self._c.row_init(ctypes.c_uint32(FRAMES))

    def take(self, held: Words, orders: Bytes) -> float:
        return timed(self._c.row_take, _pointer(held), _pointer(orders), _size(held))

    def give(self, held: Words, orders: Bytes) -> float:
        return timed(self._c.row_give, _pointer(held), _pointer(orders), _size(held))

    def churn(self, held: Words, orders: Bytes, picks: Words) -> float:
        return timed(self._c.row_churn, _pointer(held), _pointer(orders), _pointer(picks), _size(picks))

    def runs(self, held: Words, orders: Bytes, picks: Words) -> float:
        batch = ctypes.c_size_t(BATCH)
        return timed(self._c.row_runs, _pointer(held), _pointer(orders), _pointer(picks), _size(picks), batch)

    def scan(self, state: Bytes) -> int:
        return int(self._c.row_scan(_pointer(state), _size(state)))


def _pointer(words: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(words.ctypes.data)


def _size(words: npt.NDArray[Any]) -> ctypes.c_size_t:
    return ctypes.c_size_t(words.size)


class Compiled:
    """The model's compiled backend through its public interface: zones, migratetypes, kinds and owners in place."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._frames = CompiledFrames(Shape(FRAMES))
        self._zone = self._frames.add_zone()
        self._frames.attach(self._zone, 0, FRAMES)
        self._frames.release(0, FRAMES)

    def take(self, held: Words, orders: Bytes) -> float:
        each = np.arange(held.size, dtype=np.uint32)
        return timed(self._churn, held, orders, each)

    give = take  # a slot that is empty is filled, one that is not is emptied

    def churn(self, held: Words, orders: Bytes, picks: Words) -> float:
        twice = picks.repeat(2)
        return timed(self._churn, held, orders, twice)

    def runs(self, held: Words, orders: Bytes, picks: Words) -> float:
        return timed(self._churn_runs, held, orders, picks)

    def _churn_runs(self, held: Words, orders: Bytes, picks: Words) -> None:
        for batch in range(0, picks.size, BATCH):
            chosen = picks[batch : batch + BATCH]
            self._churn(held, orders, chosen)
            self._churn(held, orders, chosen)

    def _churn(self, held: Words, orders: Bytes, picks: Words) -> None:
        self._frames.churn(self._zone, MigrateType.MOVABLE, Kind.ANON, held.data, orders.data, picks.data)


# Rows: each starts from free frames, carries out the same operations on any allocator, and returns the nanoseconds
# of one operation and the frames that were held at the end, which must be the same everywhere.

Answer = tuple[float, Words]


def bulk(allocator: Allocator) -> Answer:
    """Allocate 90 % of the frames one by one."""
    held, orders = _slots(FRAMES * 9 // 10), np.zeros(FRAMES * 9 // 10, np.uint8)
    seconds = allocator.take(held, orders)
    return 1e9 * seconds / held.size, held


def random_free(allocator: Allocator) -> Answer:
    """Free 90 % of the frames in random order."""
    _, held = bulk(allocator)
    held = np.random.default_rng(1).permutation(held)
    shuffled = held.copy()
    seconds = allocator.give(held, np.zeros(held.size, np.uint8))
    return 1e9 * seconds / held.size, shuffled


def order0_churn(allocator: Allocator) -> Answer:
    """Half of the frames in use; a random one is freed, another allocated."""
    random = np.random.default_rng(2)
    held, orders = _slots(FRAMES // 2), np.zeros(FRAMES // 2, np.uint8)
    allocator.take(held, orders)
    held = random.permutation(held)
    picks = random.integers(0, held.size, OPERATIONS, np.uint32)
    seconds = allocator.churn(held, orders, picks)
    return 1e9 * seconds / (2 * picks.size), held


def mixed_churn(allocator: Allocator) -> Answer:
    """A third of the frames in use by blocks of orders 0 to 9; a random one is freed, another allocated."""
    held, orders, random = _mixed(allocator)
    picks = random.integers(0, held.size, OPERATIONS, np.uint32)
    seconds = allocator.churn(held, orders, picks)
    return 1e9 * seconds / (2 * picks.size), held


def mixed_runs(allocator: Allocator) -> Answer:
    """The same in runs: BATCH blocks are freed, then as many allocated."""
    held, orders, random = _mixed(allocator)
    rounds = -(-OPERATIONS // held.size)  # whole permutations: no run has a slot twice
    picks = np.concatenate([random.permutation(held.size).astype(np.uint32) for _ in range(rounds)])
    seconds = allocator.runs(held, orders, picks)
    return 1e9 * seconds / (2 * picks.size), held


def _mixed(allocator: Allocator) -> tuple[Words, Bytes, np.random.Generator]:
    random = np.random.default_rng(3)
    held = _slots(FRAMES // 8)
    orders = random.choice(np.array([0, 1, 2, 3, 9], np.uint8), held.size, p=[0.8075, 0.1, 0.06, 0.03, 0.0025])
    allocator.take(held, orders)
    return held, orders, random


def _slots(count: int) -> Words:
    return np.full(count, NO_FRAME, np.uint32)


@dataclass(frozen=True)
class Row:
    """``goal``: the highest ratio to the baseline that is good enough, None where there is no goal."""

    name: str
    run: Callable[[Allocator], Answer]
    goal: float | None = None


ROWS = (
    Row("mixed orders", mixed_churn, 0.35),
    Row("random single-frame frees", random_free, 0.35),
    Row("order-0 churn at 50 %", order0_churn, 0.40),
    Row("order-0 allocations", bulk),
    Row("mixed orders, frees and allocations in runs", mixed_runs),
)


@dataclass(frozen=True)
class Pairs:
    """Times of two sides over alternating pairs, in the unit that the row prints."""

    base: tuple[float, ...]
    other: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """other / base, ascending."""
        return sorted(o / b for b, o in zip(self.base, self.other, strict=True))

    @property
    def ratio(self) -> float:
        """The median."""
        return statistics.median(self.ratios)


def alternate(base: Callable[[], float], other: Callable[[], float], pairs: int) -> Pairs:
    """Run both sides ``pairs`` times, the one that goes first changing from pair to pair."""
    times: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 else (1, 0):
            times[side].append((base, other)[side]())
    return Pairs(tuple(times[0]), tuple(times[1]))


def compare(row: Row, base: Allocator, other: Allocator, pairs: int) -> Pairs:
    """One row on two allocators; raises SystemExit when they answer with different frames."""

    def run(allocator: Allocator) -> float:
        allocator.reset()
        nanoseconds, held = row.run(allocator)
        answers.append(held)
        if not np.array_equal(answers[0], held):
            raise SystemExit(f"{row.name}: the allocators gave different frames")
        return nanoseconds

    answers: list[Words] = []
    run(base), run(other)  # the first run builds, loads and touches everything
    return alternate(lambda: run(base), lambda: run(other), pairs)


def rank(c: C, pairs: int) -> Pairs:
    """All blocks of 16 GiB by their free frames, against a bare scan of the state bytes, in microseconds."""
    frames = CompiledFrames(Shape(RANKED))
    zone = frames.add_zone()
    frames.attach(zone, 0, RANKED)
    frames.release(0, RANKED)
    random = np.random.default_rng(4)
    held = frames.alloc(zone, 0, MigrateType.MOVABLE, RANKED, Kind.ANON)
    frames.free(random.permutation(np.array(held, np.uint32))[: RANKED // 2].tolist())
    state = np.full(RANKED, 0x80, np.uint8)

    def by_occupancy() -> list[int]:
        free = frames.free_in(BLOCK)
        return sorted(range(len(free)), key=free.__getitem__)

    by_occupancy()
    return alternate(lambda: 1e6 * timed(c.scan, state), lambda: 1e6 * timed(by_occupancy), pairs)


def report(name: str, pairs: Pairs, unit: str, goal: float | None = None) -> bool:
    """Print a row. False when its goal is missed."""
    ratios, met = pairs.ratios, goal is None or pairs.ratio <= goal
    base, other = statistics.median(pairs.base), statistics.median(pairs.other)
    verdict = "" if goal is None else f"  goal {goal:5.2f}  {'met' if met else 'MISSED'}"
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"{name:44} {base:8.1f} {other:8.1f} {unit:3} {pairs.ratio:6.2f}  ({spread}){verdict}")
    return met


def main() -> int:
    """Run all rows and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7, help="pairs of runs for each row (default 7)")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="the core to run on")
    parser.add_argument("--huge", action="store_true", help="let all sides use huge pages")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a goal is missed")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.cpu})
    if not options.huge and ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0):
        raise SystemExit("this kernel can't keep huge pages from a process; try --huge")
    met = []
    with tempfile.TemporaryDirectory() as folder:
        kernel, compact = C("buddy_kernel_layout", Path(folder)), C("buddy_compact", Path(folder))
        compiled = Compiled()
        print(f"{'':44} {'base':>8} {'other':>8}     median ratio (lowest to highest of {options.pairs} pairs)")
        for row in ROWS:
            met.append(report(row.name, compare(row, kernel, compiled, options.pairs), "ns", row.goal))
            report("  C, compact / C, kernel layout", compare(row, kernel, compact, options.pairs), "ns")
        near = compare(ROWS[0], compact, compiled, options.pairs)
        met.append(report("mixed orders, compiled / C, compact", near, "ns", NEAR))
        met.append(report("ranking the blocks of 16 GiB / a bare scan", rank(kernel, options.pairs), "us", 10.0))
    return int(options.check and not all(met))


if __name__ == "__main__":
    sys.exit(main())
