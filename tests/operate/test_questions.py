# SPDX-License-Identifier: Apache-2.0
"""How often an order asks its machine: each question takes a guest, or a machine far away, its time."""

from __future__ import annotations

from collections import Counter

import pytest

from hotbank import board
from hotbank.errors import Code
from hotbank.machine import Ability, Block, Survey
from hotbank.model import Model
from hotbank.operate import Limits, look, plan_free, remove
from hotbank.operate.capacity import spare_for
from hotbank.testing import Faulty


class Asked(Faulty):
    """A model with a driver that counts, and whoever asks is counted."""

    @property
    def can(self) -> frozenset[Ability]:
        return super().can | {Ability.COUNT, Ability.BLOCK}

    def count(self, blocks: tuple[int, ...]) -> tuple[Survey, ...]:
        self.calls.append("count")
        surveys = (self.machine.survey(block) for block in blocks)
        return tuple(survey for survey in surveys if not survey.blocked and not survey.unknown)

    def block(self, number: int) -> Block | None:
        self.calls.append("block")
        return self.machine.snapshot().block(number)

    def since(self) -> Counter[str]:
        """What was asked since the last time."""
        asked = Counter(self.calls)
        self.calls.clear()
        return asked


def asked() -> Asked:
    return Asked(Model.boot(board.load("arm-2009"), backend="reference", seed=1))


def test_a_removal_lists_all_blocks_once_until_they_are_offline() -> None:
    """One count for all, no survey; a reading before the first block and one after each; one block after each. The
    policy before and after, the bank that is out, its domain and the end want a list each."""
    machine = asked()
    blocks = len(machine.machine.snapshot().present(machine.machine.snapshot().banks[-1]))
    assert remove(machine, "high").exit == 0
    questions = machine.since()
    assert (questions["count"], questions["survey"], questions["glance"]) == (1, 0, 0)
    assert questions["snapshot"] == 1 + 5
    assert (questions["offline"], questions["block"], questions["reading"]) == (blocks, blocks, blocks + 1)


def test_a_block_that_may_have_no_room_is_counted_where_that_is_enough() -> None:
    machine = asked()
    high, low = (machine.machine.snapshot().banks[at].blocks[0] for at in (-1, 0))
    for block in (high, low):
        spare_for(machine, block)
    questions = machine.since()
    assert (questions["count"], questions["survey"]) == (2, 1)


def test_a_choice_asks_for_the_list_and_the_counts_alone() -> None:
    machine = asked()
    choice = plan_free(machine, 256 << 20)
    questions = machine.since()
    assert questions["snapshot"] == questions["count"] == 1
    seen = {name: times for name, times in questions.items() if name in ("survey", "glance")}
    assert choice.plan.code is Code.OK
    assert seen == {"survey": 2}  # of the other bank, where the kernel has pages


def test_counting_ends_when_there_is_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question takes all the time that an order has."""
    monkeypatch.setattr(look, "_AT_ONCE", 1)
    machine = asked()
    right = machine.count

    def slow(blocks: tuple[int, ...]) -> tuple[Survey, ...]:
        machine.clock.sleep(20.0)
        return right(blocks)

    monkeypatch.setattr(machine, "count", slow)
    outcome = remove(machine, "high", limits=Limits(total=10.0))
    assert (outcome.code, outcome.exit) == (Code.DEADLINE, 1)
    questions = machine.since()
    assert (questions["count"], questions["survey"], questions["offline"]) == (1, 0, 0)
