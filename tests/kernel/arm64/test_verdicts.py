# SPDX-License-Identifier: Apache-2.0
"""What the verdict says of a block is what a real arm64 kernel then does, reason included, in random states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import pytest

from hotbank import kernels
from hotbank.errors import Code
from hotbank.machine import Snapshot, Survey
from hotbank.memory import Zone
from hotbank.operate.targets import Target, resolve
from hotbank.operate.verdict import Verdict, verdict
from kernel.kernel_kit import KERNEL
from kernel.states import CLASSES, Trial, false, goes_round, matrix, promised, trials

FEW, MORE, MANY = 150 if KERNEL else 100, 200, 600
REFUSING, RIGHT = 0.3, 0.95
GOES_ROUND = kernels.kernel(KERNEL or kernels.DEFAULT).frozen_slab

pytestmark = pytest.mark.kernel


def enough(found: list[Trial]) -> bool:
    """True if so many verdicts came true, with the right reason."""
    return sum(trial.true for trial in found) >= RIGHT * len(found)


def telling(found: list[Trial]) -> bool:
    """True if so many blocks refused, and attempts of each class are among them."""
    refusing = sum(trial.happened is not Code.OK for trial in found)
    return refusing >= REFUSING * len(found) and {trial.kind for trial in found} == set(CLASSES) and slabs_of(found)


def slabs_of(found: list[Trial]) -> bool:
    """True if a block was among them that this kernel would try to empty until a signal, or it refuses all slabs."""
    return not GOES_ROUND or any(goes_round(trial.said) for trial in found)


@pytest.fixture(scope="module")
def found() -> list[Trial]:
    """Attempts that all tests of this file share; some more if chance made too few that tell something."""
    attempts = trials()
    found = list(islice(attempts, FEW))
    while not telling(found) and len(found) < MORE:
        found.append(next(attempts))
    return found


def test_verdicts_come_true(found: list[Trial]) -> None:
    judge(found)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_verdicts_come_true_in_many_states() -> None:
    judge(list(islice(trials(1000), MANY)))


def judge(found: list[Trial]) -> None:
    """The matrix is worth something, and the verdict is good."""
    print("\n".join([*matrix(found), *false(found)]))
    assert telling(found)
    assert enough(found)
    assert not any(trial.overdue for trial in found)
    assert sum(trial.trivial is (trial.happened is Code.OK) for trial in found) < 0.75 * len(found)


def _no_pins(snapshot: Snapshot, surveys: dict[int, Survey], target: Target) -> Verdict:
    kept = {n: tuple(e for e in s.blocking if e.why is not Code.PINNED) for n, s in surveys.items()}
    return verdict(snapshot, {n: replace(s, blocking=kept[n]) for n, s in surveys.items()}, target)


def _anything_moves(snapshot: Snapshot, surveys: dict[int, Survey], target: Target) -> Verdict:
    kept = {n: tuple(e for e in s.blocking if e.why is not Code.UNMOVABLE) for n, s in surveys.items()}
    return verdict(snapshot, {n: replace(s, blocking=kept[n]) for n, s in surveys.items()}, target)


def _room_without_end(snapshot: Snapshot, surveys: dict[int, Survey], target: Target) -> Verdict:
    zones = tuple(replace(zone, free=zone.managed) for zone in snapshot.zones)
    return verdict(replace(snapshot, zones=zones), surveys, target)


def _kernel_zones_stay(snapshot: Snapshot, surveys: dict[int, Survey], target: Target) -> Verdict:
    said = verdict(snapshot, surveys, target)
    zones = {block.valid_zones[0] for block in snapshot.blocks if block.number in target.blocks}
    return said if zones == {Zone.MOVABLE} else replace(said, code=Code.UNMOVABLE)


def _slabs_are_refused(snapshot: Snapshot, surveys: dict[int, Survey], target: Target) -> Verdict:
    return verdict(snapshot, {n: replace(s, endless=False) for n, s in surveys.items()}, target)


BREACHES = [_no_pins, _anything_moves, _room_without_end, _kernel_zones_stay]
BREACHES += [_slabs_are_refused] if GOES_ROUND else []


@pytest.mark.parametrize("breach", BREACHES, ids=lambda b: b.__name__.strip("_"))
def test_a_wrong_verdict_is_noticed(breach: Callable[..., Verdict], found: list[Trial]) -> None:
    """Judged by those attempts alone on which it says something else, however few chance has made."""
    judged = [replace(t, said=breach(t.snapshot, {t.block: t.survey}, resolve(t.snapshot, t.block))) for t in found]
    changed = [now for now, before in zip(judged, found, strict=True) if promised(now.said) != promised(before.said)]
    assert changed
    assert not enough(changed)
