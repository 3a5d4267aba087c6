# SPDX-License-Identifier: Apache-2.0
"""Verdicts: the order of reasons, room, what is unknown; and, on models, whether they come true."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from hotbank import board, operate
from hotbank.errors import Code
from hotbank.load import Workload
from hotbank.memory import BlockState, KernelState, Kind
from hotbank.model import Model
from hotbank.operate import Limits
from hotbank.operate.look import surveys_of
from hotbank.operate.targets import resolve
from hotbank.operate.verdict import verdict
from hotbank.testing import PAGES, ScriptedMachine

# Isolation, then the notifier of memory that was there at boot, then migration: offline_pages of mm/memory_hotplug.c
IN_ORDER = (Code.UNMOVABLE, Code.CMA, Code.BOOT_MEMORY, Code.PINNED, Code.HUGETLB, Code.POISONED)


def test_ok_says_what_moves_where() -> None:
    answer = operate.explain(ScriptedMachine(), "high")
    assert (answer.code, answer.needs, answer.room, answer.unknown) == (Code.OK, 400, 10_000, ())
    assert answer.kinds == {Kind.ANON: 400, Kind.FREE: 4 * PAGES - 400}


def test_the_document_is_what_interfaces_pins() -> None:
    machine = ScriptedMachine()
    machine.slots[21].why = Code.PINNED
    document = json.loads(json.dumps(operate.explain(machine, "high").document("m")))
    keys = ["schema", "machine", "target", "code", "evidence", "kinds", "needs", "room", "unknown", "remedy"]
    assert list(document) == keys
    owner = {"pid": 42, "comm": "stubborn", "cgroup": None}
    assert document["evidence"] == [{"pfn": 21 * PAGES + 7, "kind": "anon", "owner": owner}]
    assert document["remedy"]


@pytest.mark.parametrize("first", range(len(IN_ORDER)))
def test_reasons_come_in_the_kernels_order(first: int) -> None:
    """All reasons from the first on are there at once, later ones in earlier blocks."""
    machine = ScriptedMachine()
    for number, why in zip(range(23, 19, -1), IN_ORDER[first:], strict=False):
        if why is Code.BOOT_MEMORY:
            machine.boot_memory_leaves = False
        else:
            machine.slots[number].why = why
    assert operate.explain(machine, "high").code is IN_ORDER[first]


@pytest.mark.parametrize("leaves", [True, False])
def test_of_boot_memory_nobody_is_sent_to_free_a_page_in_vain(leaves: bool) -> None:
    machine = ScriptedMachine(boot_memory_leaves=leaves)
    machine.slots[21].why = Code.UNMOVABLE
    answer = operate.explain(machine, "high")
    assert answer.code is Code.UNMOVABLE
    assert ("was there at boot" in answer.fact) is not leaves


@pytest.mark.parametrize(("free", "code"), [(400, Code.POISONED), (399, Code.NO_CAPACITY)])
def test_a_block_that_can_not_leave_does_not_come_to_miss_its_bad_page(free: int, code: Code) -> None:
    machine = ScriptedMachine(free=free)
    machine.slots[21].why = Code.POISONED
    assert operate.explain(machine, "high").code is code


def test_holes_come_before_everything() -> None:
    machine = ScriptedMachine()
    machine.slots[20].why = Code.UNMOVABLE
    machine.slots[23].holes = True
    assert operate.explain(machine, "high").code is Code.HOLES


def test_a_block_without_a_zone_is_refused_for_that_before_its_holes_are_counted() -> None:
    """So does memory_block_offline, and `list`, which looks at no page, says the same as `explain`."""
    machine = ScriptedMachine()
    machine.slots[23].holes, machine.slots[23].zone = True, "none"
    assert operate.explain(machine, "high").code is Code.MULTI_ZONE


def test_the_zone_that_may_give_unmovable_pages_is_named_where_there_are_two() -> None:
    machine = ScriptedMachine()
    machine.slots[21].zone = "Normal"
    fact = operate.explain(machine, "high").fact
    assert fact.endswith("; zone Normal may give it pages that can't move at any time"), fact
    assert "may give" not in operate.explain(ScriptedMachine(), "high").fact


def test_a_block_that_spans_zones() -> None:
    machine = ScriptedMachine()
    machine.slots[22].zone = "none"
    assert operate.explain(machine, "high").code is Code.MULTI_ZONE


@pytest.mark.parametrize(("free", "code"), [(400, Code.OK), (399, Code.NO_CAPACITY)])
def test_room_to_the_page(free: int, code: Code) -> None:
    machine = ScriptedMachine(free=free)
    answer = operate.explain(machine, "high")
    assert (answer.code, answer.room) == (code, free)


def test_room_in_the_rest_of_the_same_zone_counts() -> None:
    answer = operate.explain(ScriptedMachine(free=0), 21)
    assert answer.code is Code.OK
    assert answer.room == 3 * (PAGES - 100) - 10


def test_reclaimable_pages_are_room_unless_they_leave_themselves() -> None:
    machine = ScriptedMachine(free=0)
    snapshot = machine.snapshot()
    zones = tuple(replace(z, reclaimable=500) for z in snapshot.zones)
    snapshot = replace(snapshot, zones=zones)
    target = resolve(snapshot, "high")
    surveys = surveys_of(machine, snapshot, target.blocks)
    assert verdict(snapshot, surveys, target).room == 990
    files = {n: replace(s, kinds={**s.kinds, Kind.FILE: 100, Kind.ANON: 0}) for n, s in surveys.items()}
    unknown = verdict(snapshot, files, target)
    assert (unknown.needs, unknown.room) == (400, 990), "what may be dirty needs a place"
    clean = verdict(snapshot, {n: replace(s, clean=100) for n, s in files.items()}, target)
    assert (clean.needs, clean.room) == (0, 590), "what is clean is lost to what could be dropped"


@pytest.mark.parametrize(("zone", "room"), [("Movable", 400 - 70), ("Normal", 400 - 30)])
def test_a_kernel_zone_keeps_a_reserve_from_pages_that_could_go_higher(zone: str, room: int) -> None:
    """``lowmem_reserve``: with it unseen, blocks were called free to leave that a real kernel could not empty."""
    machine = ScriptedMachine(free=400)
    for number in range(20, 24):
        machine.slots[number].zone = zone
    snapshot = machine.snapshot()
    normal, movable = snapshot.zones
    normal = replace(normal, free=400, min=0, high=0, reserve_normal=30, reserve_movable=70)
    snapshot = replace(snapshot, zones=(normal, replace(movable, free=0)))
    target = resolve(snapshot, "high")
    surveys = surveys_of(machine, snapshot, target.blocks)
    kinds = {n: replace(s, kinds={**s.kinds, Kind.FREE: 0}) for n, s in surveys.items()}
    assert verdict(snapshot, kinds, target).room == room


def test_what_was_not_seen_is_never_good() -> None:
    machine = ScriptedMachine()
    machine.slots[21].unknown = ("pins",)
    answer = operate.explain(machine, "high")
    assert (answer.code, answer.unknown, answer.impossible) == (Code.PINS_UNKNOWN, ("PINS_UNKNOWN",), False)
    assert operate.remove(machine, "high").exit == 0, "it proves nothing either: it is tried, under a deadline"
    machine = ScriptedMachine(boot_memory_leaves=None)
    machine.slots[21].boot = None  # type: ignore[assignment]
    assert "boot" in operate.explain(machine, "high").unknown


def test_a_bank_that_is_out_or_stuck() -> None:
    machine = ScriptedMachine()
    operate.remove(machine, "high")
    answer = operate.explain(machine, "high")
    assert answer.code is Code.OK
    assert "nothing to do" in answer.fact
    snapshot = ScriptedMachine().snapshot()
    stuck = tuple(replace(b, kernel=KernelState.STUCK) for b in snapshot.banks)
    target = resolve(replace(snapshot, banks=stuck), "high")
    assert verdict(snapshot, {}, target).code is Code.STUCK


def test_the_board_has_the_last_word_on_what_is_movable() -> None:
    assert operate.explain(ScriptedMachine(movable=False), "high").code is Code.NOT_MOVABLE_ZONE
    assert operate.explain(ScriptedMachine(), "low").code is Code.NOT_MOVABLE_ZONE


def test_a_block_of_a_kernel_zone_may_go_while_its_pages_can() -> None:
    machine = ScriptedMachine(free=20_000)
    answer = operate.explain(machine, "memory16")
    assert (answer.code, "zone Normal" in answer.fact) == (Code.OK, True)
    machine.slots[16].why = Code.UNMOVABLE
    assert operate.explain(machine, "memory16").code is Code.UNMOVABLE


# On models: what the verdict said is what then happens.


def _random_model(dice: random.Random) -> Model:
    plan = board.load("arm-2009")
    if dice.random() < 0.3:
        plan = replace(plan, banks=tuple(replace(b, movable=False) for b in plan.banks))
    model = Model.boot(plan, backend="reference", seed=dice.randrange(1000))
    Workload(model, dice.randrange(1000), pages=dice.choice([100, 4000, 20_000])).fill()
    pages = dice.randint(1, 3000)
    pid = model.spawn("victim", anon_pages=pages)
    if dice.random() < 0.4:
        model.pin(pid, dice.randrange(pages))
    if dice.random() < 0.3:
        model.create_inodes(dice.randint(1, 20_000))
    if dice.random() < 0.4:
        model.fill_until(dice.choice([3000, 50_000, 70_000, 100_000]))
    return model


HAPPENS = {
    Code.OK: {(Code.OK, 0)},
    Code.UNMOVABLE: {(Code.UNMOVABLE, 1)},
    Code.PINNED: {(Code.DEADLINE, 1)},
    Code.NO_CAPACITY: {(Code.DEADLINE, 1)},
}


def _comes_true(seed: int) -> None:
    model = _random_model(random.Random(seed))
    answer = operate.explain(model, "high")
    outcome = operate.remove(model, "high", force=True, limits=Limits(total=40, block=10))
    assert (outcome.code, outcome.exit) in HAPPENS[answer.code], outcome.fact
    model.validate()
    assert not model.check_contents()
    states = {b.state for b in model.snapshot().blocks}
    assert states == {BlockState.ONLINE}


@pytest.mark.parametrize("seed", range(30))
def test_the_verdict_comes_true(seed: int) -> None:
    _comes_true(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30, 330))
def test_the_verdict_comes_true_more_often(seed: int) -> None:
    _comes_true(seed)


def test_all_of_that_was_seen() -> None:
    """Guards the guard: the random models above must reach each verdict."""
    models = (_random_model(random.Random(seed)) for seed in range(30))
    assert {operate.explain(m, "high").code for m in models} == set(HAPPENS)
