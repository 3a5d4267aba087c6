# SPDX-License-Identifier: Apache-2.0
"""What the verdict says of a block is what the model's kernel then does, reason included, in random states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import pytest

from hotbank.errors import Code
from hotbank.machine import Snapshot, Survey
from hotbank.operate.targets import Target
from hotbank.operate.verdict import Verdict, verdict
from verdicts import states
from verdicts.states import CLASSES, Trial, matrix, trials

FEW, MANY = 200, 2000


def false(found: list[Trial]) -> list[str]:
    """The trials that came out otherwise than was said."""
    return [f"seed {t.seed}, {t.kind}: {t.said.fact}; happened {t.happened}" for t in found if not t.true]


@pytest.mark.long
def test_every_verdict_comes_true() -> None:
    found = list(islice(trials(), FEW))
    assert false(found) == []
    assert {t.kind for t in found} == set(CLASSES)
    assert {t.happened for t in found} >= {
        *(Code.OK, Code.UNMOVABLE, Code.BOOT_MEMORY, Code.PINNED, Code.POISONED),
        *(Code.NO_CAPACITY, Code.HOLES, Code.MULTI_ZONE),
    }
    assert sum(t.trivial is (t.happened is Code.OK) for t in found) < FEW * 3 // 4, "the trivial rule would do"


@pytest.mark.long
def test_what_can_not_be_seen_is_never_said_to_be_good() -> None:
    found = list(islice(trials(blind=True), FEW // 2))
    assert false(found) == []
    assert Code.OK not in {t.said.code for t in found}
    pinned = {t.happened for t in found if t.said.code is Code.PINS_UNKNOWN}
    assert pinned == {Code.OK, Code.PINNED}, "blindness costs nothing but certainty about pins"


@pytest.mark.slow
@pytest.mark.parametrize("blind", [False, True])
def test_every_verdict_comes_true_in_two_thousand_states(blind: bool) -> None:
    found = list(islice(trials(blind=blind), MANY))
    print("\n".join(matrix(found)))
    assert false(found) == []


def _no_pins(snapshot: Snapshot, surveys: dict[int, Survey], target: Target) -> Verdict:
    blocking = {n: tuple(e for e in s.blocking if e.why is not Code.PINNED) for n, s in surveys.items()}
    return verdict(snapshot, {n: replace(s, blocking=blocking[n]) for n, s in surveys.items()}, target)


def _boot_memory_leaves(snapshot: Snapshot, surveys: dict[int, Survey], target: Target) -> Verdict:
    return verdict(replace(snapshot, boot_memory_leaves=True), surveys, target)


def _room_for_one_more(snapshot: Snapshot, surveys: dict[int, Survey], target: Target) -> Verdict:
    zones = tuple(replace(z, free=z.free + 1) for z in snapshot.zones)
    return verdict(replace(snapshot, zones=zones), surveys, target)


BREACHES = (_no_pins, _boot_memory_leaves, _room_for_one_more)


@pytest.mark.long
@pytest.mark.parametrize("breach", BREACHES, ids=lambda b: b.__name__.strip("_"))
def test_a_wrong_verdict_is_noticed(breach: Callable[..., Verdict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "verdict", breach)
    assert any(not t.true for t in islice(trials(), 2 * FEW))
