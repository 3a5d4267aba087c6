# SPDX-License-Identifier: Apache-2.0
"""A node that loses its last memory: emptied as a whole before its blocks go, on a model of two nodes."""

from __future__ import annotations

from dataclasses import replace
from errno import EINTR

import pytest

from hotbank import operate
from hotbank.board import Bank, Board
from hotbank.errors import Code, KernelError
from hotbank.machine import Reading
from hotbank.memory import MIB, KernelState, Kind, Online, Range
from hotbank.model import Model
from hotbank.operate import Action, Plan
from hotbank.testing import Faulty
from model.test_room import TWO_NODES

NEW, OLD = "7.3", "6.12"


THREE_NODES = replace(TWO_NODES, banks=(*TWO_NODES.banks, Bank("more", Range.sized(0x60000000, 128 * MIB), node=2)))


def two_nodes(kernel: str, board: Board = TWO_NODES) -> tuple[Model, list[int]]:
    """A model with memory on two nodes, or more, and the blocks of the second, which is a bank."""
    model = Model.boot(board, kernel=kernel, backend="compiled")
    model.set_auto_online("offline")
    model.add("high")
    blocks = [block.number for block in model.snapshot().blocks if block.node == 1]
    for block in blocks:
        model.online(block, Online.MOVABLE)
    return model, blocks


def in_use(kernel: str, held: int = 12_000, cached: int = 0) -> tuple[Model, list[int]]:
    """The same: what processes hold, and clean cache, lies on the second node; the first has no room for all of it."""
    model, blocks = two_nodes(kernel)
    filler = model.spawn("filler", anon_pages=_free(model.reading(), 0) - 6_000)
    model.spawn("user", anon_pages=held)
    model.read_file("cache", cached)
    model.shrink(filler, held)
    return model, blocks


def _free(reading: Reading, node: int) -> int:
    return sum(zone.free for zone in reading.zones if zone.node == node)


def kinds(model: Model, blocks: list[int], kind: Kind) -> int:
    return sum(model.survey(block).kinds.get(kind, 0) for block in blocks)


def steps(plan: Plan) -> list[Action]:
    return [step.action for step in plan.steps]


def test_what_processes_hold_moves_and_unmapped_cache_stays() -> None:
    model, blocks = in_use(NEW, cached=1000)
    held, cached = kinds(model, blocks, Kind.ANON), kinds(model, blocks, Kind.FILE)
    before = model.reading().migrated
    found = model.vacate(blocks[0], model.clock.now() + 60)
    after = model.reading().migrated
    assert before is not None
    assert after is not None
    assert held > 4000
    assert (found.dropped, after.success - before.success) == (0, held)
    assert (kinds(model, blocks, Kind.ANON), kinds(model, blocks, Kind.FILE)) == (0, cached)
    model.validate()
    assert model.check_contents() == ()


def test_the_other_node_with_the_most_room_takes_each_process() -> None:
    """Of three nodes: the last has the most room for the first process, and less than the first for the second."""
    model, blocks = two_nodes(NEW, THREE_NODES)
    filler = model.spawn("filler", anon_pages=_free(model.reading(), 0) - 3_000)
    users = [model.spawn("user", anon_pages=pages) for pages in (14_000, 12_000)]
    assert kinds(model, blocks, Kind.ANON) > 22_000
    model.shrink(filler, _free(model.reading(), 2) - 7_000 - _free(model.reading(), 0))
    before = [_free(model.reading(), node) for node in (0, 2)]
    assert before[1] - 14_000 < before[0] < before[1]
    there = [sum(len(model.place(pid, block)) for block in blocks) for pid in users]
    model.vacate(blocks[0], model.clock.now() + 60)
    assert kinds(model, blocks, Kind.ANON) == 0
    taken = [was - _free(model.reading(), node) for was, node in zip(before, (0, 2), strict=True)]
    assert taken == pytest.approx(there[::-1], abs=64)
    model.validate()


@pytest.mark.parametrize(("kernel", "dropped"), [(NEW, 500), (OLD, 0)])
def test_only_so_much_cache_is_dropped_as_is_asked_for(kernel: str, dropped: int) -> None:
    model, blocks = in_use(kernel, cached=3000)
    cached = kinds(model, blocks, Kind.FILE)
    assert model.vacate(blocks[0], model.clock.now() + 60, drop=500).dropped == dropped
    assert kinds(model, blocks, Kind.FILE) == cached - dropped


def test_nothing_moves_that_would_leave_less_than_is_to_be_spared() -> None:
    model, blocks = in_use(NEW)
    held = kinds(model, blocks, Kind.ANON)
    model.vacate(blocks[0], model.clock.now() + 60, spare=1 << 20)
    assert kinds(model, blocks, Kind.ANON) == held


def test_the_plan_empties_the_node_first_and_no_page_twice() -> None:
    model, blocks = in_use(NEW)
    held = kinds(model, blocks, Kind.ANON)
    plan = operate.plan_remove(model, "high")
    assert steps(plan)[:3] == [Action.VACATE, Action.OFFLINE, Action.OFFLINE]
    assert (plan.steps[0].target, plan.steps[0].pages, plan.steps[0].drop) == ("node1", held, 0)
    assert plan.pages == sum(model.survey(block).to_move for block in blocks)
    assert all(step.fence == () for step in plan.steps)
    assert Action.VACATE not in steps(operate.plan_remove(model, f"memory{blocks[0]}"))
    outcome = operate.remove(model, "high")
    assert (outcome.code, outcome.exit, outcome.kernel) == (Code.OK, 0, KernelState.ABSENT)
    assert outcome.moved == outcome.planned == plan.pages
    model.validate()
    assert model.check_contents() == ()


def test_cache_that_has_no_room_is_dropped_where_the_kernel_can_do_it() -> None:
    """And told: how much, and what was read again by then. Where the kernel can't, the bank stays."""
    model, blocks = in_use(NEW, cached=14_000)
    plan = operate.plan_remove(model, "high")
    assert plan.code is Code.OK
    assert 0 < plan.steps[0].drop < kinds(model, blocks, Kind.FILE)
    outcome = operate.remove(model, "high")
    assert (outcome.code, outcome.kernel) == (Code.OK, KernelState.ABSENT)
    assert f"node1: {plan.steps[0].drop} pages of {plan.steps[0].drop} of clean cache were dropped" in outcome.fact
    assert "0 pages of cache were read again since" in outcome.fact
    model.validate()
    old, _ = in_use(OLD, cached=14_000)
    assert operate.plan_remove(old, "high").code is Code.NO_CAPACITY


@pytest.mark.parametrize(("drops", "moves", "first"), [(False, False, Action.OFFLINE), (False, True, Action.VACATE)])
def test_a_machine_that_may_not_move_says_so_and_goes_block_by_block(drops: bool, moves: bool, first: Action) -> None:
    model, _ = in_use(NEW)
    seen = model.snapshot()
    able = tuple(replace(node, drops=drops, moves=moves) for node in seen.nodes)
    machine = Faulty(model)
    machine.lie("snapshot", replace(seen, nodes=able))
    plan = operate.plan_remove(machine, "high")
    assert steps(plan)[0] is first
    assert ("node 1 is emptied block by block alone" in plan.fact) is not moves


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interruption_leaves_pages_moved_and_nothing_else(when: str) -> None:
    model, blocks = in_use(NEW)
    machine = Faulty(model)
    if when == "before":
        machine.fail("vacate", 0, _interrupted)
    outcome = operate.remove(machine, "high", interrupted=lambda: when == "after" and "vacate" in machine.calls)
    assert outcome.code is Code.INTERRUPTED
    assert "offline" not in machine.calls
    assert outcome.kernel is KernelState.ONLINE
    assert (kinds(model, blocks, Kind.ANON) == 0) is (when == "after")
    model.validate()


@pytest.mark.parametrize("held", [0, 12_000])
def test_one_that_is_interrupted_before_it_begins_does_nothing(held: int) -> None:
    """Whether a process is there or not: who is told that it came to its end goes on."""
    model, blocks = two_nodes(NEW)
    filler = model.spawn("filler", anon_pages=_free(model.reading(), 0) - 3000)
    model.spawn("user", anon_pages=held)
    model.read_file("cache", 3000)
    model.tasks.exit(filler)
    there, deadline = [kinds(model, blocks, kind) for kind in (Kind.FILE, Kind.ANON)], model.clock.now() + 60
    model.interrupt(blocks[0], deadline)
    with pytest.raises(KernelError, match="EINTR"):
        model.vacate(blocks[0], deadline, drop=500)
    assert [kinds(model, blocks, kind) for kind in (Kind.FILE, Kind.ANON)] == there


def _interrupted() -> None:
    raise KernelError(EINTR, "vacate node 1")
