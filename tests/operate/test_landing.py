# SPDX-License-Identifier: Apache-2.0
"""How many pages move, and how many of them twice: what a plan says against what a model's kernel then migrates."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank import operate
from hotbank.board import Bank, Board
from hotbank.memory import MIB, Online, Range
from hotbank.model import Model
from hotbank.operate import Plan
from hotbank.operate.look import migrated
from hotbank.operate.plan import removal
from hotbank.operate.targets import resolve_all

BLOCK, BLOCKS = 8 * MIB, 8
SHARES = st.lists(st.integers(0, 100), min_size=BLOCKS, max_size=BLOCKS)
LEAVING = st.sets(st.integers(0, BLOCKS - 1), min_size=2, max_size=4)


def model_of(shares: Sequence[int], run: int, dice: random.Random) -> tuple[Model, list[int]]:
    """A model with movable blocks in use by so many percent, in runs of so many pages; the blocks' numbers."""
    high = Bank("high", Range.sized(0x60000000, BLOCKS * BLOCK), movable=True, at_boot=False, route="kmem")
    banks = (Bank("low", Range.sized(0x40000000, 512 * MIB)), high)
    model = Model.boot(Board("landing", "arm64", block_size=BLOCK, describe="dtb", banks=banks), backend="reference")
    model.set_auto_online("offline")
    model.add("high")
    numbers = [block.number for block in model.snapshot().blocks if high.range.contains(block.range)]
    for number in numbers:
        model.online(number, Online.MOVABLE)
    fill(model, dict(zip(numbers, shares, strict=True)), run, dice)
    return model, numbers


def fill(model: Model, shares: dict[int, int], run: int, dice: random.Random) -> None:
    """Take all of the blocks, a process for each run, and end those that are too many."""
    inside: dict[int, list[int]] = {number: [] for number in shares}
    for _ in range(BLOCKS * BLOCK // 4096 // run):
        pid = model.spawn("load", anon_pages=run)
        block = next((number for number in shares if len(model.place(pid, number)) == run), None)
        inside.get(block or 0, [pid]).append(pid)
    too_many = [pid for number, pids in inside.items() for pid in kept_from(pids, shares[number], dice)]
    dice.shuffle(too_many)
    for pid in too_many:
        model.exit(pid)


def kept_from(pids: list[int], share: int, dice: random.Random) -> list[int]:
    """Those that end so that so many percent stay."""
    return dice.sample(pids, len(pids) - len(pids) * share // 100)


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


def test_what_is_not_known_moves_once() -> None:
    model, numbers = model_of([50] * BLOCKS, 64, random.Random(1))
    snapshot = model.snapshot()
    seen = {number: replace(model.survey(number), buddies=None) for number in numbers[:2]}
    made = removal(snapshot, seen, resolve_all(snapshot, numbers[:2]))
    assert (made.again, made.pages) == (0, sum(survey.to_move for survey in seen.values()))
