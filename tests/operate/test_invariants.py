# SPDX-License-Identifier: Apache-2.0
"""Invariants 1 to 3 under every single fault, and the checker itself on planted breaches."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest

from hotbank import operate
from hotbank.errors import EHWPOISON, Code, HotbankError, KernelError, MachineError
from hotbank.machine import DomainStatus, Machine
from hotbank.memory import KernelState, Online, Power
from hotbank.operate import Limits, Outcome, power, rollback, steps
from hotbank.operate.rollback import Rollback
from hotbank.operate.steps import Done, Steps
from hotbank.operate.transaction import Transaction
from hotbank.testing import CALLS, ScriptedMachine, Watched, acted, breaches, places, raising, switch_error

ERRNOS = (
    errno.EINVAL,
    errno.EBUSY,
    errno.EPERM,
    errno.EINTR,
    errno.ENOMEM,
    errno.EEXIST,
    errno.E2BIG,
    errno.ENOENT,
    errno.ENODEV,
    errno.EOPNOTSUPP,
    errno.EIO,
    EHWPOISON,
)
FAULTS: dict[str, Exception] = {errno.errorcode.get(n, str(n)): KernelError(n, "a call") for n in ERRNOS}
FAULTS |= {"switch": switch_error(), "machine": MachineError("gone")}
LIMITS = Limits(total=10, block=5, grace=1)


def order(verb: str, machine: Machine) -> Outcome:
    act = operate.remove if verb == "remove" else operate.add
    return act(machine, "high", limits=LIMITS)


VETOED, SET_ASIDE = ("driver", "offline"), ("kmem", "online")  # routes and policies: what keeps banks out of Normal


def prepared(verb: str, way: tuple[str, str] = VETOED) -> ScriptedMachine:
    """A machine on which the verb has everything to do."""
    machine = ScriptedMachine(route=way[0], auto_online=way[1])
    if verb == "add":
        assert operate.remove(machine, "high").exit == 0
    return machine


def calls_of(verb: str, way: tuple[str, str]) -> list[tuple[str, int]]:
    """Each call that the verb makes, as name and how many of that name came before."""
    watched = Watched(prepared(verb, way))
    assert order(verb, watched).exit == 0
    return [(name, nth) for name in CALLS for nth in range(watched.calls.count(name))]


@pytest.mark.parametrize("way", [VETOED, SET_ASIDE], ids=" ".join)
@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", ["remove", "add"])
def test_every_call_may_fail_with_everything(verb: str, fault: str, forever: bool, way: tuple[str, str]) -> None:
    for call, nth in calls_of(verb, way):
        machine = prepared(verb, way)
        before = places(machine)
        watched = Watched(machine)
        watched.fail(call, nth, raising(FAULTS[fault]), forever=forever)
        where = f"{call} {nth} with {fault}"
        try:
            outcome = order(verb, watched)
        except HotbankError:
            assert not acted(watched), f"{where}: an error instead of an outcome, after acting"
            continue
        assert not machine.lost, where
        assert not breaches(before, machine, watched, outcome), where
        healed = outcome.exit == 0
        assert healed or (outcome.code is not Code.OK and outcome.fact), f"{where}: no reason named"
        assert outcome.exit in (0, 1, 64), where
        if outcome.exit == 64:
            assert outcome.unrestored or "auto_online_blocks" in outcome.fact, f"{where}: nothing named"
            assert forever, f"{where}: one fault alone is always healed"


@pytest.mark.parametrize("verb", ["remove", "add"])
@pytest.mark.parametrize("lie", [Power.ON, Power.OFF, Power.SELF_REFRESH, Power.UNKNOWN])
def test_a_switch_whose_status_lies(verb: str, lie: Power) -> None:
    machine = prepared(verb)
    before = places(machine)
    watched = Watched(machine)
    watched.lie("power", lie)
    outcome = order(verb, watched)
    known_to_be_on = verb == "add" and lie is Power.ON  # the one lie that nobody can see through
    if not known_to_be_on:
        assert not machine.lost
        assert not breaches(before, machine, watched, outcome)
    assert outcome.exit == 0 or outcome.code in (Code.SWITCH_FAILED, Code.POWER_UNKNOWN)


@pytest.mark.parametrize("verb", ["remove", "add"])
def test_a_switch_that_does_nothing_and_says_nothing(verb: str) -> None:
    machine = prepared(verb)
    before = places(machine)
    watched = Watched(machine)
    watched.lie("set_power", None)
    outcome = order(verb, watched)
    assert not breaches(before, machine, watched, outcome)
    assert (outcome.code, outcome.exit) == (Code.SWITCH_FAILED, 1)


@pytest.mark.parametrize("call", ["online", "offline", "add", "remove"])
@pytest.mark.parametrize("verb", ["remove", "add"])
def test_a_machine_that_says_done_and_did_nothing(verb: str, call: str) -> None:
    machine = prepared(verb)
    before = places(machine)
    watched = Watched(machine)
    watched.lie(call, None)
    outcome = order(verb, watched)
    assert not machine.lost
    assert not breaches(before, machine, watched, outcome)
    if call in watched.calls:
        assert outcome.exit in (1, 64)
        assert outcome.code is Code.RACED


@pytest.mark.parametrize("when", range(12))
@pytest.mark.parametrize("verb", ["remove", "add"])
def test_an_interruption_rolls_back(verb: str, when: int) -> None:
    machine = prepared(verb)
    before, level = places(machine), machine.level
    watched = Watched(machine)
    asked = iter(range(100))
    limits = LIMITS
    act: Callable[..., Outcome] = operate.remove if verb == "remove" else operate.add
    outcome = act(watched, "high", limits=limits, interrupted=lambda: next(asked) >= when)
    if outcome.exit == 0:
        assert when >= 6, "it must have had its six steps"
        return
    assert (outcome.code, outcome.exit) == (Code.INTERRUPTED, 130)
    assert not breaches(before, machine, watched, outcome)
    assert places(machine) == before
    assert machine.level is level


@pytest.mark.parametrize("why", [Code.PINNED, Code.UNMOVABLE, Code.POISONED, Code.CMA, Code.HUGETLB])
def test_nothing_is_attempted_that_is_proven_impossible(why: Code) -> None:
    machine = ScriptedMachine()
    machine.slots[22].why = why
    watched = Watched(machine)
    outcome = operate.remove(watched, "high")
    assert (outcome.code, outcome.exit) == (why, 1)
    assert outcome.evidence[0].why is why
    assert not acted(watched)


@pytest.mark.parametrize("first", [Code.POISONED, Code.PINNED])
def test_a_bad_page_keeps_its_bank_even_from_force(first: Code) -> None:
    """Whatever other reason comes first; its block alone too, because the bank could then be removed without a look."""
    machine = ScriptedMachine()
    machine.slots[22].why = Code.POISONED
    machine.slots[21].why = first
    watched = Watched(machine)
    assert operate.explain(watched, "high").code is first
    for target in ("high", "memory22"):
        outcome = operate.remove(watched, target, force=True)
        assert (outcome.code, outcome.exit) == (Code.POISONED, 1)
    assert not acted(watched)


# The checker on planted breaches: each takes out one guard and must be caught.


def _never_asks(machine: Machine, domain: str) -> DomainStatus:
    found = machine.snapshot().domain(domain)
    assert found is not None
    return found


def test_catches_power_off_under_another_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = ScriptedMachine(others={"mate": "ddr"})
    watched = Watched(machine)
    plan = operate.plan_remove(watched, "high")
    planted = [step for step in plan.steps if step.action is not operate.Action.KEEP_POWER]
    off = operate.Step(operate.Action.POWER_OFF, "ddr")
    careless = replace(plan, steps=(*planted, off), code=Code.OK)
    outcome = Transaction(watched, careless, journal=operate.MemoryJournal()).run()
    assert outcome.code is Code.DOMAIN_IN_USE, "a careless plan alone does no harm"
    assert not watched.breaches

    machine = ScriptedMachine(others={"mate": "ddr"}, interlock=False)
    watched = Watched(machine)
    monkeypatch.setattr(power, "confirm_out", _never_asks)
    outcome = Transaction(watched, careless, journal=operate.MemoryJournal()).run()
    assert "mate in the kernel" in watched.breaches
    assert machine.lost == ["mate"]
    assert breaches({}, machine, watched, outcome)


def test_catches_power_off_without_asking_again(monkeypatch: pytest.MonkeyPatch) -> None:
    status = DomainStatus("ddr", Power.ON, (Power.ON, Power.OFF), ("high",))
    monkeypatch.setattr(power, "confirm_out", lambda machine, domain: status)
    monkeypatch.setattr(Steps, "_remove", lambda self, step: self._machine.remove(step.target) or Done())
    watched = Watched(ScriptedMachine())
    operate.remove(watched, "high")
    assert "power off without asking again" in watched.breaches


def test_catches_a_bank_that_is_added_in_the_dark(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = prepared("add")
    watched = Watched(machine)
    monkeypatch.setattr(steps, "switch_on", lambda machine, domain: None)
    outcome = operate.add(watched, "high")
    assert breaches({}, machine, watched, outcome)
    assert machine.lost == ["high added in the dark"]


def test_catches_a_lost_rollback(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = ScriptedMachine()
    before, watched = places(machine), Watched(machine)
    watched.fail("offline", 2, raising(FAULTS["EBUSY"]))
    monkeypatch.setattr(Rollback, "run", lambda self, touched: ())
    outcome = operate.remove(watched, "high")
    assert outcome.exit == 1
    assert len(breaches(before, machine, watched, outcome)) == 2


def test_catches_a_wrong_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> tuple[list[str], Outcome]:
        machine = ScriptedMachine()
        before, watched = places(machine), Watched(machine)
        watched.fail("offline", 2, raising(FAULTS["EBUSY"]))
        outcome = operate.remove(watched, "high")
        return breaches(before, machine, watched, outcome), outcome

    monkeypatch.setattr(rollback, "_words", lambda zone: (Online.KERNEL,))
    found, outcome = run()
    assert outcome.exit == 64, "a wrong zone is noticed and named"
    assert not found
    monkeypatch.setattr(rollback, "_is_back", lambda block, was: block.state is was.state)
    found, outcome = run()
    assert outcome.exit == 1
    assert len(found) == 2
    assert "Normal" in found[0]


def test_catches_an_attempt_at_the_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = ScriptedMachine()
    machine.slots[22].why = Code.UNMOVABLE
    watched = Watched(machine)
    monkeypatch.setattr(Transaction, "_without_acting", lambda self: None)
    operate.remove(watched, "high")
    assert acted(watched)


@pytest.mark.parametrize("states", [(Power.ON, Power.OFF), (Power.ON, Power.SELF_REFRESH, Power.OFF)])
def test_a_bank_that_comes_in_right_before_the_switch_keeps_the_power_on(states: tuple[Power, ...]) -> None:
    """The machine itself refuses then, and whoever asks again sees why."""
    machine = ScriptedMachine(others={"mate": "ddr"}, states=states)
    operate.remove(machine, "mate")
    watched = Watched(machine)
    watched.fail("set_power", 0, lambda: machine.add("mate"))
    outcome = operate.remove(watched, "high")
    assert (outcome.code, outcome.exit, outcome.kernel) == (Code.DOMAIN_IN_USE, 0, KernelState.ABSENT)
    assert machine.level is Power.ON
    assert not machine.lost


def test_a_bank_that_comes_in_while_the_power_goes_is_no_success() -> None:
    machine = ScriptedMachine(others={"mate": "ddr"}, interlock=False)
    assert operate.remove(machine, "mate").code is Code.DOMAIN_IN_USE
    watched = Watched(machine)
    watched.fail("set_power", 0, lambda: machine.add("mate"))
    outcome = operate.remove(watched, "high")
    assert (outcome.code, outcome.exit) == (Code.LOST, 1)
    assert "it is on again; what was in it is lost" in outcome.fact
    assert machine.level is Power.ON
    assert machine.snapshot().bank("high").kernel is KernelState.ONLINE  # type: ignore[union-attr]
