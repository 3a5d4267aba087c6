# SPDX-License-Identifier: Apache-2.0
"""The same random operations on a real kernel and on the model of the same machine: where do they disagree?

    report = compare(Wanted("virt-arm64"), operations=150, seed=1)

operations.py   what is done, and the random choice
real.py         the guest in QEMU, with a holder in it that holds, pins and poisons memory
twin.py         the model, seeded anew from a look at the guest before each operation
outcome.py      errno, blocks, zones and migrated pages: what must be equal
rows.py         which of the measured answers were met

A page may come or go between the look and the attempt. An operation that ends otherwise than the model said is RACED
when a second look explains it; all else is a difference, and a bug of the model.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from hotbank import board as boards
from hotbank.board import Board
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.launch import port_of
from hotbank.boards_qemu.parts.packages import Progress, no_progress
from hotbank.compare import twin
from hotbank.compare.operations import Chooser, Operation
from hotbank.compare.outcome import Outcome
from hotbank.compare.real import Real, booted, disk_of
from hotbank.compare.rows import ROWS, Attempt, met
from hotbank.documents import SCHEMA
from hotbank.errors import BoardError, Code, MachineError
from hotbank.machine import BankStatus, Machine, Snapshot
from hotbank.memory import BlockState, KernelState, Zone
from hotbank.routes import removing, route

__all__ = ["ROWS", "Chooser", "Pair", "Report", "Step", "check_sight", "compare"]

MOST_RACES = 0.03  # of all operations: more than that explain nothing
_PATIENCE = 300.0  # seconds for an evacuation that should end
_SIMULATED = 10.0  # seconds of the model's time, in which it moves more than any block holds
_SHORT = 3.0  # seconds for one that the model says would go on for ever
_WORN_AFTER = 40  # operations with kernel memory in a bank, before the machine is booted anew


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: how it ended on the kernel and on the model. ``raced``: a second look explains what differs."""

    number: int
    operation: Operation
    real: Outcome
    modelled: Outcome
    raced: bool = False

    @property
    def differences(self) -> tuple[str, ...]:
        """What differs though no page came or went: the kernel's first, then the model's."""
        return () if self.raced else tuple(self.real.differences(self.modelled))

    @property
    def migrates(self) -> bool:
        """True if the kernel or the model moved pages, and it did not race."""
        return self.operation.evacuates and not self.raced and self.real.migrated + self.modelled.migrated > 0


@dataclass(slots=True)
class Report:
    """All steps of a run. ``boots``: how often the guest was started; ``damaged``: pages whose content was lost."""

    machine: str
    seed: int
    steps: list[Step] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    boots: int = 0
    damaged: int = 0
    seconds: float = 0.0

    @property
    def refused(self) -> int:
        """Operations that the kernel refused."""
        return sum(step.real.errno != 0 for step in self.steps)

    @property
    def raced(self) -> int:
        """Operations that a change of pages explains."""
        return sum(step.raced for step in self.steps)

    @property
    def wrong(self) -> list[Step]:
        """Steps with a difference."""
        return [step for step in self.steps if step.differences]

    @property
    def migrations(self) -> list[Step]:
        """Steps in which pages moved."""
        return [step for step in self.steps if step.migrates]

    @property
    def equal(self) -> bool:
        """True if nothing differs, nothing was lost, and few operations raced."""
        return not self.wrong and not self.damaged and self.raced <= max(1, MOST_RACES * len(self.steps))

    def document(self) -> dict[str, Any]:
        """The JSON of ``hotbank compare --json``."""
        return {
            "schema": SCHEMA["compare"],
            "machine": self.machine,
            "seed": self.seed,
            "operations": len(self.steps),
            "refused": self.refused,
            "raced": self.raced,
            "boots": self.boots,
            "damaged": self.damaged,
            "seconds": round(self.seconds, 1),
            "differences": [
                {"step": s.number, "operation": str(s.operation), "differences": list(s.differences)}
                for s in self.wrong
            ],
            "migrated": [
                {"step": s.number, "kernel": s.real.migrated, "model": s.modelled.migrated} for s in self.migrations
            ],
            "rows": dict(self.rows),
        }


def compare(
    wanted: Wanted,
    operations: int,
    seed: int,
    progress: Progress = no_progress,
    on_step: Callable[[Step], None] = lambda _step: None,
    report: Report | None = None,
) -> Report:
    """Do ``operations`` random operations. ``on_step`` hears of each. ``report``: where to enter them, so that what was
    seen outlives an interruption. Raises BoardError, MachineError."""
    _check(boards.load(boards.find(wanted.board)))
    began = time.monotonic()
    chooser = Chooser(seed)
    report = report or Report(wanted.board, seed)
    try:
        while len(report.steps) < operations:
            _boot(wanted, operations, chooser, report, progress, on_step)
    finally:
        report.seconds = time.monotonic() - began
    return report


def _boot(
    wanted: Wanted,
    operations: int,
    chooser: Chooser,
    report: Report,
    progress: Progress,
    on_step: Callable[[Step], None],
) -> None:
    """One boot of the guest, until there are enough operations or it must be booted anew."""
    with booted(wanted, progress) as real:
        check_sight(real.machine)
        report.machine, report.boots = real.machine.board.name, report.boots + 1
        chooser.restarted(vetoes=real.vetoes)
        for step in Pair(real, chooser, report).steps(operations):
            report.steps.append(step)
            on_step(step)
        report.damaged += int(real.ask("damaged"))


def _check(board: Board) -> None:
    disk_of(board)
    dimms = port_of(board).DIMMS
    if not any(not bank.at_boot and (dimms or route(bank.route).removes) for bank in board.banks):
        routes = ", ".join(removing())
        raise BoardError("bank", None, f"one must have at_boot = false and a route of {routes}, or be a DIMM")


def check_sight(machine: Machine) -> None:
    """A model that starts from half a look would be blamed for the other half. Raises MachineError.

    A block with holes tells nothing: /proc/kcore ends at each, and the kernel refuses to empty it before it looks.
    """
    online = [block.number for block in machine.snapshot().blocks if block.state is BlockState.ONLINE]
    whole = next((survey for survey in map(machine.survey, online) if not survey.holes), machine.survey(online[0]))
    unseen = sorted({"kinds", "pins"} & set(whole.unknown))
    if unseen:
        raise MachineError(
            f"the guest's kernel does not show {' and '.join(unseen)} of its pages",
            code=Code.UNSUPPORTED,
            remedy="give one with CONFIG_PROC_KCORE and CONFIG_PROC_PAGE_MONITOR",
        )


class Pair:
    """One boot of the guest, and the models beside it."""

    def __init__(self, real: Real, chooser: Chooser, report: Report) -> None:
        self._real, self._chooser, self._report = real, chooser, report
        self._worn = 0

    def steps(self, operations: int) -> Iterator[Step]:
        """Steps until there are enough, or until the guest must be booted anew."""
        now = self._real.snapshot()
        self._looks = twin.Looks(frozenset(block.number for block in now.blocks if self._real.holes(block.number)))
        for block in now.blocks:
            self._look(now, block.number)
        while len(self._report.steps) < operations and not self._worn_out(now):
            step = self._step(now)
            now = step.real.after
            yield step

    def _step(self, before: Snapshot) -> Step:
        operation = self._chooser.next(before)
        modelled, patience = self._predict(before, operation)
        real = self._real.perform(operation, patience)
        self._report.rows.update(met(Attempt(operation, before, real.errno)))
        raced = bool(list(real.differences(modelled))) and self._explained(before, operation, real, modelled)
        return Step(len(self._report.steps), operation, real, modelled, raced)

    def _predict(self, before: Snapshot, operation: Operation) -> tuple[Outcome, float]:
        """What the model says, and how long the kernel may take. A page that stands in the way must do so twice."""
        modelled = self._modelled(before, operation)
        if operation.evacuates and modelled.errno in (errno.EBUSY, errno.EINTR):
            modelled = self._modelled(before, operation)
        return modelled, _SHORT if modelled.errno == errno.EINTR else _PATIENCE

    def _modelled(self, before: Snapshot, operation: Operation) -> Outcome:
        self._looks.drop_but(before)
        if operation.evacuates and operation.block is not None:
            self._look(before, operation.block)
        return twin.perform(self._looks.model(before), operation, _SIMULATED)

    def _look(self, now: Snapshot, number: int) -> None:
        block = now.block(number)
        if block is not None and block.state is not BlockState.OFFLINE:
            self._looks.keep(self._real.pages(number))

    def _explained(self, before: Snapshot, operation: Operation, real: Outcome, modelled: Outcome) -> bool:
        """True if a look after the attempt makes the model say what the kernel did. Only a refusal leaves the pages
        to look at again, but those that had moved by then do not move twice; a wrong count alone is never excused."""
        if not operation.evacuates or not real.errno or real.errno == modelled.errno:
            return False
        again = replace(self._modelled(before, operation), migrated=real.migrated)
        return not list(real.differences(again))

    def _worn_out(self, now: Snapshot) -> bool:
        """True if a bank can't become whole again: half removed, or with kernel memory in it for some time."""
        banks = [bank for bank in now.banks if not bank.at_boot]
        self._worn += any(_has_kernel_memory(now, bank) for bank in banks)
        return any(bank.kernel is KernelState.STUCK for bank in banks) or self._worn > _WORN_AFTER


def _has_kernel_memory(now: Snapshot, bank: BankStatus) -> bool:
    online = [b for b in now.blocks if b.number in bank.blocks and b.state is BlockState.ONLINE]
    return any(block.zone != Zone.MOVABLE for block in online)
