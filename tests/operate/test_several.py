# SPDX-License-Identifier: Apache-2.0
"""Several banks in one transaction: all or none, each domain dark with its last bank, one entry in the journal."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import board, operate
from hotbank.errors import Code, HotbankError, KernelError
from hotbank.machine import Machine, Snapshot
from hotbank.memory import BlockState, KernelState, Power
from hotbank.model import Model
from hotbank.operate import Before, Event, Limits, MemoryJournal, Outcome, recovery
from hotbank.testing import CALLS, ScriptedMachine, Watched, acted, breaches, places, raising
from operate.mortal import Mortal, crash

ONE_DOMAIN = {"mate": "ddr"}
TWO_DOMAINS = {"far": "ddr2"}
OTHERS = pytest.mark.parametrize("others", [ONE_DOMAIN, TWO_DOMAINS], ids=["one-domain", "two-domains"])
VERBS = pytest.mark.parametrize("verb", ["remove", "add"])


def names(machine: ScriptedMachine) -> list[str]:
    return ["high", *machine.others]


def order(verb: str, machine: Machine, targets: list[str], **options: object) -> Outcome:
    act: Callable[..., Outcome] = operate.remove if verb == "remove" else operate.add
    return act(machine, targets, **options)


def prepared(verb: str, others: dict[str, str]) -> ScriptedMachine:
    """A machine on which the verb has everything to do."""
    machine = ScriptedMachine(others=others)
    if verb == "add":
        assert operate.remove(machine, names(machine)).exit == 0
    return machine


def kernels(machine: ScriptedMachine) -> set[KernelState]:
    return {bank.kernel for bank in machine.snapshot().banks if bank.name != "low"}


@OTHERS
def test_they_leave_and_return_together(others: dict[str, str]) -> None:
    machine, journal = ScriptedMachine(others=others), MemoryJournal()
    before = places(machine)
    out = order("remove", machine, names(machine), journal=journal)
    assert (out.code, out.exit, out.kernel, out.power) == (Code.OK, 0, KernelState.ABSENT, Power.OFF)
    assert (out.targets, out.planned, out.moved, out.freed) == (("high", *others), 500, 500, 320 << 20)
    assert set(machine.levels.values()) == {Power.OFF}
    back = order("add", machine, names(machine), journal=journal)
    assert (back.code, back.exit, back.kernel, back.power) == (Code.OK, 0, KernelState.ONLINE, Power.ON)
    assert places(machine) == before
    assert not machine.lost
    assert [entry.before.targets for entry in journal.entries()] == [("high", *others)] * 2


@OTHERS
def test_all_blocks_first_then_all_banks_then_each_domain_once(others: dict[str, str]) -> None:
    machine = ScriptedMachine(others=others)
    machine.slots[20].pages = 300
    machine.slots[24].pages = 50
    steps = [(step.action.value, step.target) for step in operate.plan_remove(machine, names(machine)).steps]
    offlines = [("offline", f"memory{n}") for n in (24, 21, 22, 23, 20)]
    dark = [("power-off", domain) for domain in machine.levels]
    assert steps == [*offlines, ("remove", "high"), ("remove", *others), *dark]


@OTHERS
def test_power_once_then_policy_then_each_bank_then_their_blocks(others: dict[str, str]) -> None:
    machine = prepared("add", others)
    steps = [(step.action.value, step.target) for step in operate.plan_add(machine, names(machine)).steps]
    on = [("power-on", domain) for domain in machine.levels]
    onlines = [("online", f"memory{n}") for n in (20, 21, 22, 23, 24)]
    assert steps == [*on, ("add", "high"), ("add", *others), *onlines]
    machine.route = "kmem"
    steps = [(step.action.value, step.target) for step in operate.plan_add(machine, names(machine)).steps]
    assert steps == [*on, ("check-policy", "auto_online_blocks"), ("add", "high"), ("add", *others), *onlines]
    machine.auto_online = "online"
    steps = [(step.action.value, step.target) for step in operate.plan_add(machine, names(machine)).steps]
    suspend, resume = ("suspend-policy", "online"), ("resume-policy", "online")
    assert steps == [*on, suspend, ("add", "high"), ("add", *others), resume, *onlines]


@OTHERS
def test_one_of_which_is_pinned_all_are_back(others: dict[str, str]) -> None:
    machine = ScriptedMachine(others=others)
    machine.slots[24].why = Code.PINNED
    before, watched = places(machine), Watched(machine)
    refused = order("remove", watched, names(machine))
    assert (refused.code, refused.exit, refused.evidence[0].why) == (Code.PINNED, 1, Code.PINNED)
    assert not acted(watched)
    forced = order("remove", watched, names(machine), force=True)
    assert (forced.code, forced.exit) == (Code.DEADLINE, 1)
    assert places(machine) == before
    assert set(machine.levels.values()) == {Power.ON}
    assert not breaches(before, machine, watched, forced)


@OTHERS
@VERBS
@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
def test_every_call_may_fail(verb: str, others: dict[str, str], forever: bool) -> None:
    watched = Watched(prepared(verb, others))
    assert order(verb, watched, ["high", *others]).exit == 0
    points = [(name, nth) for name in CALLS for nth in range(watched.calls.count(name))]
    for call, nth in points:
        machine = prepared(verb, others)
        before, watched = places(machine), Watched(machine)
        watched.fail(call, nth, raising(KernelError(errno.EBUSY, "a call")), forever=forever)
        try:
            outcome = order(verb, watched, ["high", *others])
        except HotbankError:
            assert not acted(watched)
            continue
        assert not machine.lost, (call, nth)
        assert not breaches(before, machine, watched, outcome), (call, nth)
        if outcome.exit == 0:
            assert kernels(machine) == {KernelState.ABSENT if verb == "remove" else KernelState.ONLINE}
        elif not outcome.unrestored:
            assert places(machine) == before, (call, nth)


def test_a_mate_that_stays_keeps_the_power_and_is_no_failure() -> None:
    machine = ScriptedMachine(others={"mate": "ddr", "far": "ddr2"})
    plan = operate.plan_remove(machine, ["high", "far"])
    assert (plan.code, plan.impossible) == (Code.DOMAIN_IN_USE, False)
    outcome = order("remove", machine, ["high", "far"])
    assert (outcome.code, outcome.exit, outcome.kernel) == (Code.DOMAIN_IN_USE, 0, KernelState.ABSENT)
    words = "high, far are out of the kernel, domain ddr2 is off; domain ddr stays on while mate is in use"
    assert outcome.fact == words
    assert machine.levels == {"ddr": Power.ON, "ddr2": Power.OFF}
    last = order("remove", machine, ["mate"])
    assert (last.code, last.fact) == (Code.OK, "mate is out of the kernel, domain ddr is off")


def test_a_bank_and_its_block_are_one_target() -> None:
    machine = ScriptedMachine(others=ONE_DOMAIN)
    plan = operate.plan_remove(machine, ["memory21", "high", 24, "24", "high"])
    assert [target.name for target in plan.targets] == ["high", "memory24"]
    assert len({step.target for step in plan.steps}) == len(plan.steps)


def test_a_bank_and_a_block_of_another() -> None:
    machine = ScriptedMachine(others=ONE_DOMAIN)
    outcome = order("remove", machine, ["mate", "memory21"])
    assert outcome.fact == "mate is out of the kernel, memory21 is offline; domain ddr stays on while high is in use"
    assert machine.slots[21].state is BlockState.OFFLINE
    assert order("add", machine, ["mate", "memory21"]).exit == 0
    assert places(machine) == places(ScriptedMachine(others=ONE_DOMAIN))


def test_what_fits_one_by_one_has_to_fit_together() -> None:
    machine = ScriptedMachine(others=ONE_DOMAIN, free=450)
    for name in ("high", "mate"):
        assert not operate.plan_remove(machine, name).impossible
    watched = Watched(machine)
    outcome = order("remove", watched, ["high", "mate"])
    assert outcome.code is Code.NO_CAPACITY
    assert not acted(watched)


@pytest.mark.parametrize("bad", [22, 24])
def test_a_bad_page_in_any_of_them_keeps_them_all_in(bad: int) -> None:
    machine = ScriptedMachine(others=ONE_DOMAIN)
    machine.slots[bad].why = Code.POISONED
    watched = Watched(machine)
    assert order("remove", watched, ["high", "mate"], force=True).code is Code.POISONED
    assert not acted(watched)


@OTHERS
def test_the_policy_is_looked_at_again_before_each_bank(others: dict[str, str]) -> None:
    """Somebody sets it after the plan was made: what came in is taken out again, and his word stays."""

    class Reset(ScriptedMachine):
        def add(self, bank: str) -> None:
            super().add(bank)
            self.auto_online = "online"

    machine = Reset(others=others, route="kmem", auto_online="online_movable")
    assert operate.remove(machine, names(machine)).exit == 0
    before, watched = places(machine), Watched(machine)
    outcome = order("add", watched, names(machine))
    assert (outcome.code, outcome.exit) == (Code.AUTO_ONLINE, 1)
    assert watched.calls.count("add") == 1
    assert (places(machine), machine.auto_online) == (before, "online")
    assert not breaches(before, machine, watched, outcome)


@OTHERS
def test_partly_kept(others: dict[str, str]) -> None:
    machine = ScriptedMachine(others=others)
    watched = Watched(machine)
    watched.fail("remove", 1, raising(KernelError(errno.EBUSY, "remove")))
    outcome = order("remove", watched, names(machine), keep_partial=True)
    assert (outcome.exit, outcome.kernel, outcome.unrestored) == (64, None, ())
    assert machine.level is (Power.ON if others == ONE_DOMAIN else Power.OFF), "dark where its last bank is out"
    assert not watched.breaches
    assert order("remove", machine, names(machine)).exit == 0, "and the rest can follow later"
    assert set(machine.levels.values()) == {Power.OFF}


@OTHERS
@VERBS
@pytest.mark.parametrize("when", range(14))
def test_an_interruption_brings_all_back(verb: str, others: dict[str, str], when: int) -> None:
    machine = prepared(verb, others)
    before, levels, watched = places(machine), dict(machine.levels), Watched(machine)
    asked = iter(range(100))
    outcome = order(verb, watched, names(machine), interrupted=lambda: next(asked) >= when)
    if outcome.exit == 0:
        assert when >= 8, "it must have had all its steps"
        return
    assert (outcome.code, outcome.exit) == (Code.INTERRUPTED, 130)
    assert not breaches(before, machine, watched, outcome)
    assert (places(machine), machine.levels) == (before, levels)


def test_a_bank_that_comes_in_keeps_its_domain_on_whatever_else_leaves() -> None:
    machine = ScriptedMachine(others={"far": "ddr2", "friend": "ddr2"})
    operate.remove(machine, "friend")
    watched = Watched(machine)
    watched.fail("remove", 0, lambda: machine.add("friend"))
    outcome = order("remove", watched, ["far", "memory21"])
    assert (outcome.code, outcome.exit) == (Code.DOMAIN_IN_USE, 0)
    assert machine.slots[21].state is BlockState.OFFLINE


# Crashes, at every point.


def settled(
    monkeypatch: pytest.MonkeyPatch, verb: str, others: dict[str, str], at: int, *, after: bool
) -> tuple[bool, list[str]]:
    """Whether there was such a point, and what is wrong after a crash there and a recovery."""
    machine, journal = prepared(verb, others), Mortal(at, after_writing=after)
    before, levels = places(machine), dict(machine.levels)
    try:
        crash(monkeypatch, lambda: order(verb, machine, names(machine), journal=journal))
    except pytest.fail.Exception:
        return False, []
    watched = Watched(machine)
    outcome = operate.recover(watched, journal)
    wrong = [*watched.breaches, *machine.lost, *breaches(before, machine, watched, outcome)]
    if verb == "remove" and kernels(machine) == {KernelState.ABSENT}:
        wrong += ["out, and not dark"] if set(machine.levels.values()) != {Power.OFF} else []
    elif (places(machine), machine.levels) != (before, levels):
        wrong.append("neither out nor back")
    return True, wrong


def all_points(monkeypatch: pytest.MonkeyPatch, verb: str, others: dict[str, str]) -> list[str]:
    """What is wrong after a crash at any point, before a write or after it."""
    wrong: list[str] = []
    for after in (False, True):
        at = 0
        while (there := settled(monkeypatch, verb, others, at, after=after))[0]:
            wrong += there[1]
            at += 1
        assert at == 2 * (5 + 2 + len({"ddr", *others.values()})), "intent and result of each act"
    return wrong


@OTHERS
@VERBS
def test_recovery_after_a_crash_at_any_point(
    verb: str, others: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all_points(monkeypatch, verb, others) == []


def test_catches_a_recovery_that_goes_forward_halfway(monkeypatch: pytest.MonkeyPatch) -> None:
    def any_out(snapshot: Snapshot, before: Before) -> bool:
        banks = [snapshot.bank(bank.name) for bank in before.banks]
        return any(bank is not None and bank.kernel is KernelState.ABSENT for bank in banks)

    monkeypatch.setattr(recovery, "_all_out", any_out)
    assert "neither out nor back" in all_points(monkeypatch, "remove", TWO_DOMAINS)


BOARDS = Path(__file__).parents[1] / "contract"


@pytest.mark.parametrize("name", ["pair", "apart"])
def test_one_of_which_is_pinned_on_a_model(name: str) -> None:
    model = Model.boot(board.load(str(BOARDS / f"{name}.toml")), backend="reference", seed=1)
    pid = model.spawn("stubborn", anon_pages=3000)
    movable = [n for bank in model.snapshot().banks if bank.movable for n in bank.blocks]
    model.pin(pid, next(pages[0] for n in movable if (pages := model.place(pid, n))))
    before, watched = places(model), Watched(model)
    outcome = operate.remove(watched, ["high", "mate"], force=True, limits=Limits(total=9, block=2))
    assert (outcome.code, outcome.exit, outcome.evidence[0].why) == (Code.DEADLINE, 1, Code.PINNED)
    assert places(model) == before
    assert {domain.power for domain in model.snapshot().domains} == {Power.ON}
    assert not breaches(before, model, watched, outcome)
    model.validate()
    assert not model.check_contents()


# Any machine, any targets, anything that goes wrong.

states = st.lists(st.sampled_from(["in", "offline", "out", "dark"]), min_size=3, max_size=3)
asked = st.lists(st.sampled_from(["high", "mate", "far", "memory21", "memory24"]), min_size=1, max_size=4)
faults = st.none() | st.tuples(st.sampled_from(CALLS), st.integers(0, 12), st.booleans())


def set_up(machine: ScriptedMachine, wanted: list[str]) -> None:
    """Each bank as wanted; a domain is dark only if all of it is out, by who set it up or by the removal itself."""
    for name, state in zip(("high", "mate", "far"), wanted, strict=True):
        numbers = [n for n, slot in machine.slots.items() if slot.bank == name]
        for number in numbers if state != "in" else ():
            machine.offline(number, 1e9)
        if state in ("out", "dark"):
            machine.remove(name)
        if state == "dark" and not machine.snapshot().touching(machine.domain_of[name]):
            machine.set_power(machine.domain_of[name], Power.OFF)


@given(st.sampled_from(["remove", "add"]), states, asked, faults)
def test_all_or_nothing_whatever_goes_wrong(
    verb: str, wanted: list[str], targets: list[str], fault: tuple[str, int, bool] | None
) -> None:
    machine = ScriptedMachine(others={"mate": "ddr", "far": "ddr2"})
    set_up(machine, wanted)
    before, watched = places(machine), Watched(machine)
    if fault is not None:
        watched.fail(fault[0], fault[1], raising(KernelError(errno.EIO, "a call")), forever=fault[2])
    try:
        outcome = order(verb, watched, targets)
    except HotbankError:
        assert not acted(watched)
        assert places(machine) == before
        return
    assert not machine.lost
    assert not breaches(before, machine, watched, outcome)
    if outcome.exit == 0:
        wanted_now = KernelState.ABSENT if verb == "remove" else KernelState.ONLINE
        whole = [bank for bank in machine.snapshot().banks if bank.name in targets]
        assert {bank.kernel for bank in whole} <= {wanted_now}


# What moved, and what was to move.


def shrinking(machine: ScriptedMachine, pages: int) -> Callable[[], None]:
    """A process that frees its memory between the plan and the first offline."""

    def shrink() -> None:
        for number in (20, 21, 22, 23):
            machine.slots[number].pages = pages

    return shrink


def test_pages_that_moved_are_counted_and_not_the_planned_ones() -> None:
    machine, journal, events = ScriptedMachine(), MemoryJournal(), list[Event]()
    watched = Watched(machine)
    watched.fail("offline", 0, shrinking(machine, 10))
    outcome = operate.remove(watched, "high", journal=journal, on_event=events.append)
    assert (outcome.planned, outcome.moved) == (400, 40)
    entry = journal.entries()[-1]
    assert (entry.before.planned, entry.moved) == (400, 40)
    assert (events[-1].total, events[-1].moved) == (400, 40)


def test_the_counters_are_read_once_between_two_blocks() -> None:
    """For what has moved and for the room that is left: a look takes as long as an empty block."""
    watched = Watched(ScriptedMachine())
    operate.remove(watched, "high")
    assert (watched.calls.count("offline"), watched.calls.count("reading")) == (4, 4 + 1)


def test_counters_that_were_read_a_while_ago_are_read_again() -> None:
    watched = Watched(ScriptedMachine())
    operate.remove(watched, "high", on_event=lambda event: watched.clock.sleep(2.0 if event.event == "step" else 0.0))
    assert watched.calls.count("reading") == 2 * 4


def test_pages_that_moved_before_a_failure_are_counted() -> None:
    machine = ScriptedMachine()
    watched = Watched(machine)
    watched.fail("offline", 2, raising(KernelError(errno.EBUSY, "offline")))
    assert operate.remove(watched, "high").moved == 200


def test_a_machine_that_does_not_count_says_so() -> None:
    machine, journal = ScriptedMachine(counts=False), MemoryJournal()
    outcome = operate.remove(machine, "high", journal=journal)
    assert (outcome.exit, outcome.planned, outcome.moved) == (0, 400, None)
    assert journal.entries()[-1].moved is None


# What nobody expected.


@VERBS
def test_blocks_that_an_unexpected_error_left_behind_are_for_recover(verb: str) -> None:
    machine, journal = prepared(verb, ONE_DOMAIN), MemoryJournal()
    before, watched = places(machine), Watched(machine)
    fails, heals = ("offline", "online") if verb == "remove" else ("online", "offline")
    watched.fail(fails, 2, raising(OSError("the disk is gone")))
    watched.fail(heals, 0, raising(KernelError(errno.EIO, heals)), forever=True)
    with pytest.raises(OSError, match="disk"):
        order(verb, watched, ["high", "mate"], journal=journal)
    assert places(machine) != before
    assert journal.unfinished() is not None
    watched.heal()
    outcome = operate.recover(watched, journal)
    assert outcome is not None
    assert outcome.unrestored == ()
    assert places(machine) == before
    assert journal.unfinished() is None


def test_an_unexpected_error_that_was_undone_closes_the_entry() -> None:
    machine, journal = ScriptedMachine(), MemoryJournal()
    before, watched = places(machine), Watched(machine)
    watched.fail("offline", 2, raising(OSError("the disk is gone")))
    with pytest.raises(OSError, match="disk"):
        operate.remove(watched, "high", journal=journal)
    assert places(machine) == before
    assert journal.entries()[-1].code is Code.INTERRUPTED
