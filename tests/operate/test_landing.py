# SPDX-License-Identifier: Apache-2.0
"""How many pages move, and how many of them twice: what a plan says against what a model's kernel then migrates."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank import operate
from hotbank.model import Model
from hotbank.operate import Plan
from hotbank.operate.landing import landing
from hotbank.operate.look import migrated
from hotbank.operate.plan import removal
from hotbank.operate.targets import resolve_all
from hotbank.room import leaving_of
from operate.filled import model_of, model_of_banks

BLOCKS = 8
SHARES = st.lists(st.integers(0, 100), min_size=BLOCKS, max_size=BLOCKS)
LEAVING = st.sets(st.integers(0, BLOCKS - 1), min_size=2, max_size=4)


def moved(model: Model, made: Plan) -> int:
    """Pages that the model migrates when the plan is carried out."""
    before = migrated(model)
    told = operate.remove(model, [step.target for step in made.steps])
    after = migrated(model)
    assert told.exit == 0, told
    assert before is not None
    assert after is not None
    return after - before


def leave(shares: list[int], leaving: set[int], run: int, seed: int) -> tuple[Plan, int]:
    """The plan that takes some of the blocks offline, and the pages that really moved; as planned where there is no
    way."""
    model, numbers = model_of(shares, run, random.Random(seed))
    made = operate.plan_remove(model, [numbers[index] for index in leaving])
    return made, made.pages if made.impossible else moved(model, made)


@examples(12)
@given(SHARES, LEAVING, st.sampled_from([8, 16, 64]), st.integers(0, 1000))
def test_a_plan_says_what_will_move(shares: list[int], leaving: set[int], run: int, seed: int) -> None:
    made, really = leave(shares, leaving, run, seed)
    assert made.pages == pytest.approx(really, rel=0.1, abs=2 * run)
    assert sum(step.again for step in made.steps[:1]) == 0, "nothing has moved before the first"


def test_what_moves_twice_is_seen_in_the_count() -> None:
    """Full blocks have small holes, which are filled before anything else: half of them before the last one leaves."""
    made, really = leave([5, 5, 5, 5, 80, 80, 85, 90], {4, 5, 6, 7}, 16, 1)
    once = made.pages - made.again
    assert once < 0.9 * really
    assert made.pages == pytest.approx(really, rel=0.05)


@examples(5)
@given(SHARES, st.sets(st.integers(0, BLOCKS - 1), min_size=4, max_size=4), st.integers(0, 1000))
def test_no_order_moves_much_less_than_the_emptiest_first(shares: list[int], leaving: set[int], seed: int) -> None:
    model, numbers = model_of(shares, 16, random.Random(seed))
    snapshot = model.snapshot()
    blocks = [numbers[index] for index in leaving]
    found = dict(zip(blocks, leaving_of(snapshot, {number: model.survey(number) for number in blocks}), strict=True))

    def again(order: Iterable[int]) -> int:
        return sum(landing(snapshot.zones, {number: found[number] for number in order}, {}).values())

    emptiest_first = again(sorted(blocks, key=lambda number: found[number].to_move))
    best = min(map(again, permutations(blocks)))
    assert emptiest_first <= best + 0.05 * sum(one.to_move for one in found.values()) + 16


def test_what_is_not_known_moves_once() -> None:
    model, numbers = model_of([50] * BLOCKS, 64, random.Random(1))
    snapshot = model.snapshot()
    seen = {number: replace(model.survey(number), buddies=None) for number in numbers[:2]}
    made = removal(snapshot, seen, resolve_all(snapshot, numbers[:2]))
    assert (made.again, made.pages) == (0, sum(survey.to_move for survey in seen.values()))


def test_behind_a_fence_each_page_moves_once() -> None:
    """The same blocks as above, of a bank whose driver can empty them together; the nearly empty one goes first."""
    model, numbers = model_of([5, 5, 5, 5, 80, 1, 85, 90], 16, random.Random(1), route="driver")
    leaving = [numbers[index] for index in (4, 5, 6, 7)]
    in_use = sum(model.survey(number).to_move for number in leaving)
    made, before = operate.plan_remove(model, leaving), migrated(model)
    assert [step.fence for step in made.steps] == [(), (numbers[6], numbers[7]), (numbers[7],), ()]
    elsewhere = replace(model.snapshot(), arch="arm")  # its driver has no fence
    surveys = {number: model.survey(number) for number in leaving}
    assert not any(step.fence for step in removal(elsewhere, surveys, resolve_all(elsewhere, leaving)).steps)
    assert operate.remove(model, leaving).exit == 0
    assert before is not None
    assert (migrated(model) or 0) - before == pytest.approx(made.pages, rel=0.02)
    assert in_use <= made.pages <= 1.02 * in_use


def test_a_fence_that_spares_less_than_it_takes_is_not_put_up() -> None:
    """Full blocks take little, so what leaves lands elsewhere anyhow; nobody holds four blocks for that."""
    model, numbers = model_of([5, 5, 5, 5, 95, 95, 95, 95], 16, random.Random(1), route="driver")
    made, before = operate.plan_remove(model, numbers[4:]), migrated(model)
    assert not any(step.fence for step in made.steps)
    assert operate.remove(model, numbers[4:]).exit == 0
    assert (migrated(model) or 0) - (before or 0) == pytest.approx(made.pages, rel=0.02)


def test_banks_that_leave_together_leave_behind_one_fence() -> None:
    """What leaves the first lands in none of the second; the nearly empty block goes before."""
    shares = {"high": [80, 60, 40, 20], "higher": [70, 1, 30, 10]}
    model, numbers = model_of_banks(shares, 16, random.Random(1), "driver")
    in_use = sum(model.survey(number).to_move for number in numbers)
    made, before = operate.plan_remove(model, list(shares)), migrated(model)
    order = [step.block for step in made.steps if step.block is not None]
    assert order == [numbers[n] for n in (5, 7, 3, 6, 2, 1, 4, 0)]
    assert [len(step.fence) for step in made.steps if step.block is not None] == [0, 6, 5, 4, 3, 2, 1, 0]
    outcome = operate.remove(model, list(shares))
    assert outcome.exit == 0
    assert before is not None
    assert outcome.moved is not None
    assert outcome.moved == (migrated(model) or 0) - before == pytest.approx(made.pages, rel=0.02)
    assert in_use <= outcome.moved <= 1.02 * in_use


def test_a_bank_whose_fence_spares_less_than_it_takes_stays_outside() -> None:
    """Of two that leave together: its blocks are full, and what leaves them lands elsewhere anyhow."""
    shares = {"high": [40, 50, 60, 40], "higher": [99, 99, 99, 99]}
    model, numbers = model_of_banks(shares, 16, random.Random(1), "driver")
    made = operate.plan_remove(model, list(shares))
    behind = {step.block for step in made.steps if step.fence} | {n for step in made.steps for n in step.fence}
    assert behind == set(numbers[:4])
