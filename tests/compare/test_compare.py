# SPDX-License-Identifier: Apache-2.0
"""The comparison itself, with a model in place of the kernel: equals are found equal, and every breach is found."""

from __future__ import annotations

import errno
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import cast

import pytest

from compare.model_guest import ModelGuest
from hotbank import board
from hotbank.boards_qemu import Wanted
from hotbank.compare import ROWS, Chooser, Pair, Report, check_sight, real, twin
from hotbank.compare.operations import Operation, Verb
from hotbank.compare.outcome import Outcome
from hotbank.compare.real import Real
from hotbank.errors import BoardError, KernelError, MachineError
from hotbank.machine import Snapshot
from hotbank.memory import BlockState, Online, Zone
from hotbank.model import Model
from hotbank.model.alloc import ZoneState
from hotbank.model.hotplug import MemoryHotplug
from hotbank.model.migrate import Migration
from hotbank.model.zoning import MemoryBlock, Zoning

ROUTES = {"driver": "cma=0 movablecore=24M", "kmem": "cma=0", "virtio-mem": "cma=0"}


def run(route: str, seed: int, operations: int = 100, cmdline: str | None = None) -> Report:
    """As compare() does, on models."""
    report, chooser = Report("twins", seed), Chooser(seed)
    while len(report.steps) < operations:
        guest = ModelGuest(route, cmdline or ROUTES[route])
        report.boots += 1
        chooser.restarted()
        report.steps += Pair(cast(Real, guest), chooser, report).steps(operations)
        report.damaged += guest.ask("damaged")
    return report


@pytest.mark.parametrize("route", ROUTES)
def test_a_model_equals_its_twin(route: str) -> None:
    report = run(route, 1)
    assert [(str(s.operation), s.differences) for s in report.wrong] == []
    assert report.equal
    assert report.raced == 0
    assert report.refused >= 0.15 * len(report.steps)


@pytest.mark.long
def test_the_choice_meets_nearly_every_row() -> None:
    """Poison, which this guest leaves out, is for the real one."""
    rows = sum((run(route, 7, 300).rows for route in ROUTES), Counter[str]())
    assert ROWS.keys() - rows.keys() == {"online, poisoned pages: EHWPOISON"}


def test_what_is_there_for_good_is_neither_added_nor_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As DIMMs on a kernel without modules, whose notifiers can't be told to say no either."""
    monkeypatch.setattr(Chooser, "restarted", partialmethod(Chooser.restarted, vetoes=False))
    right = ModelGuest.__init__

    def plugged(self: ModelGuest, *words: str) -> None:
        right(self, *words)
        self.model.add("high")

    monkeypatch.setattr(ModelGuest, "__init__", plugged)
    report = run("probe", 1, 60, cmdline="cma=0 movablecore=24M")
    done = {step.operation.verb for step in report.steps}
    assert not done & {Verb.ADD, Verb.REMOVE}
    assert not any(step.operation.veto for step in report.steps)
    assert [(str(s.operation), s.differences) for s in report.wrong] == []


def test_a_seed_fixes_the_operations() -> None:
    first, second = ([str(step.operation) for step in run("driver", 5, 40).steps] for _ in range(2))
    assert first == second
    assert first != [str(step.operation) for step in run("driver", 6, 40).steps]


# Breaches: the twin, and not the guest, gets a wrong rule.

Breach = Callable[[pytest.MonkeyPatch], None]


def wrong_errno(patch: pytest.MonkeyPatch) -> None:
    right = MemoryHotplug._start_offline

    def wrong(self: MemoryHotplug, number: int, what: str) -> MemoryBlock:
        try:
            return right(self, number, what)
        except KernelError as e:
            raise KernelError(errno.EAGAIN if e.errno == errno.EBUSY else e.errno, what) from e

    patch.setattr(MemoryHotplug, "_start_offline", wrong)


def swapped_zone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Zoning, "_kernel_zone", lambda _self, _block: Zone.DMA32)


def span_never_shrinks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ZoneState, "shrink", lambda _self, _start, _end: None)


def state_forgotten(patch: pytest.MonkeyPatch) -> None:
    right = MemoryHotplug._online

    def wrong(self: MemoryHotplug, number: int, how: Online) -> None:
        right(self, number, how)
        self.blocks[number].state = BlockState.GOING_OFFLINE

    patch.setattr(MemoryHotplug, "_online", wrong)


def veto_unheard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryHotplug, "_notify", lambda _self, _action, _number, _what: None)


def pages_counted_twice(patch: pytest.MonkeyPatch) -> None:
    right = Migration._move

    def wrong(self: Migration, handles: list[int], gfp: object) -> int:
        moved = right(self, handles, gfp)  # type: ignore[arg-type]
        self.success += moved
        return moved

    patch.setattr(Migration, "_move", wrong)


def refusals_counted_wrong(patch: pytest.MonkeyPatch) -> None:
    """A wrong count is no race, whatever the pages do."""
    right = MemoryHotplug._start_offline

    def wrong(self: MemoryHotplug, number: int, what: str) -> MemoryBlock:
        self.migration.success += 50_000
        return right(self, number, what)

    patch.setattr(MemoryHotplug, "_start_offline", wrong)


def policy_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Model, "set_auto_online", lambda _self, _word: None)


def stuck_forgotten(patch: pytest.MonkeyPatch) -> None:
    right = Model.remove

    def wrong(self: Model, bank: str) -> None:
        try:
            right(self, bank)
        finally:
            self._parts.stuck.clear()

    patch.setattr(Model, "remove", wrong)


BREACHES: tuple[Breach, ...] = (
    wrong_errno,
    swapped_zone,
    span_never_shrinks,
    state_forgotten,
    veto_unheard,
    pages_counted_twice,
    refusals_counted_wrong,
    policy_forgotten,
    stuck_forgotten,
)
ON_KMEM = (swapped_zone, pages_counted_twice, stuck_forgotten)


@pytest.mark.parametrize("breach", BREACHES, ids=lambda b: b.__name__)
def test_a_breach_is_found(breach: Breach, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the twin answers, its rule is wrong; the guest's own answers are right."""
    right = twin.perform

    def wrong(model: Model, operation: Operation, patience: float) -> Outcome:
        with monkeypatch.context() as patch:
            breach(patch)
            return right(model, operation, patience)

    monkeypatch.setattr("hotbank.compare.twin.perform", wrong)
    monkeypatch.setattr("compare.model_guest.twin", _Right(right))
    monkeypatch.setattr(Chooser, "_daring", lambda *_: 0.5)
    report = run("kmem" if breach in ON_KMEM else "driver", 1)
    assert report.wrong


class _Right:
    """The guest's way to do things, without the breach."""

    def __init__(self, perform: Callable[..., Outcome]) -> None:
        self.perform = perform


def test_a_page_that_comes_between_is_a_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that a second look explains is no difference, and is counted apart."""
    real = ModelGuest.perform

    def hasty(self: ModelGuest, operation: Operation, patience: float) -> Outcome:
        if operation.evacuates and operation.block in self.model.hotplug.blocks:
            self.pin_a_page((operation.block or 0,))
        return real(self, operation, patience)

    monkeypatch.setattr(ModelGuest, "perform", hasty)
    report = run("kmem", 2, 40)
    assert report.raced > 0
    assert [(str(s.operation), s.differences) for s in report.wrong] == []


def test_holes_that_pages_do_not_tell_are_known() -> None:
    """What firmware keeps of a block looks reserved to the kernel; it refuses such a block before it looks at pages."""
    now = ModelGuest("driver").snapshot()
    offline = Operation(Verb.STATE, now.blocks[-1].number, word="offline")
    whole, with_holes = (
        twin.perform(twin.Looks(frozenset(numbers)).model(now), offline, 1.0).errno
        for numbers in ((), (now.blocks[-1].number,))
    )
    assert (whole, with_holes) == (errno.EPERM, errno.EINVAL)


def test_the_next_operation_begins_where_the_last_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at a real machine is dear: one before the first operation, and one after each."""
    looks: list[Snapshot] = []
    real = ModelGuest.snapshot

    def counted(self: ModelGuest) -> Snapshot:
        looks.append(real(self))
        return looks[-1]

    monkeypatch.setattr(ModelGuest, "snapshot", counted)
    report = run("driver", 1, 30)
    assert len(looks) == report.boots


def test_a_kernel_that_hides_pins_is_not_compared() -> None:
    check_sight(Model.boot(board.load("arm-2009")))
    with pytest.raises(MachineError, match="does not show pins of its pages"):
        check_sight(Model.boot(board.load("arm-2009"), kcore=False))


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a comparison that failed nor by one that was killed before it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "hb-cmp-killed").mkdir()
    (tmp_path / "hb-cmp-killed" / "disk").touch()
    with pytest.raises(BoardError), real.booted(Wanted("no-such-board")):
        pass
    assert os.listdir(tmp_path) == []
