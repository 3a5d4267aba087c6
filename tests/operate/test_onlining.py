# SPDX-License-Identifier: Apache-2.0
"""Banks that come in where the kernel's policy is to put added memory anywhere: set aside, and put back as it was."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from hotbank import operate
from hotbank.errors import Code, KernelError, MachineError
from hotbank.memory import BlockState, KernelState, Power
from hotbank.operate import Event, MemoryJournal, Outcome
from hotbank.operate.journal import GOVERNOR
from hotbank.operate.onlining import Aside
from hotbank.operate.recovery import closed
from hotbank.serve.governing import still_taken
from hotbank.testing import Faulty, ScriptedMachine, Watched, breaches, places, raising, switch_error
from operate.mortal import Mortal, crash

WORDS = ["online", "online_kernel"]
POLICIES = pytest.mark.parametrize("policy", WORDS)
OPEN_ROUTES = pytest.mark.parametrize("route", ["kmem", "virtio-mem"])  # their drivers veto no zone
VERBS = pytest.mark.parametrize("verb", ["remove", "add"])


def machine_for(verb: str, route: str = "kmem", policy: str = "online") -> ScriptedMachine:
    """A machine on which the verb has everything to do."""
    machine = ScriptedMachine(route=route, auto_online=policy)
    if verb == "add":
        assert operate.remove(machine, "high").exit == 0
    return machine


def order(verb: str, machine: Faulty, **options: object) -> Outcome:
    act = operate.remove if verb == "remove" else operate.add
    return act(machine, "high", **options)  # type: ignore[arg-type]


@OPEN_ROUTES
@POLICIES
def test_out_and_back_in(route: str, policy: str) -> None:
    machine = ScriptedMachine(route=route, auto_online=policy)
    before = places(machine)
    for verb in ("remove", "add"):
        watched = Watched(machine)
        outcome = order(verb, watched)
        assert (outcome.code, outcome.exit) == (Code.OK, 0)
        assert not breaches(before, machine, watched, outcome)
        assert watched.calls.count("set_auto_online") == 2
        assert machine.auto_online == policy
    assert places(machine) == before


@POLICIES
def test_a_driver_that_vetoes_kernel_zones_needs_nothing_done(policy: str) -> None:
    machine = ScriptedMachine(auto_online=policy)
    before, watched = places(machine), Watched(machine)
    watched.fail("set_power", 0, raising(switch_error()))
    watched.fail("set_power", 1, raising(switch_error()))
    assert operate.remove(watched, "high").code is Code.SWITCH_FAILED
    assert places(machine) == before
    assert operate.remove(watched, "high").exit == 0
    assert operate.add(watched, "high").exit == 0
    assert places(machine) == before
    assert not watched.breaches
    assert "set_auto_online" not in watched.calls


def test_a_block_alone_stays_in_the_kernel_so_nothing_would_be_added() -> None:
    watched = Watched(ScriptedMachine(route="kmem", auto_online="online"))
    assert operate.remove(watched, 21).exit == 0
    assert "set_auto_online" not in watched.calls


@VERBS
@OPEN_ROUTES
def test_a_policy_that_can_not_be_set_aside_stops_it(verb: str, route: str) -> None:
    """Before the bank is out, too: a later step could fail, and it could not come back."""
    machine = machine_for(verb, route)
    before, watched = places(machine), Watched(machine)
    watched.fail("set_auto_online", 0, raising(KernelError(errno.EROFS, "auto_online_blocks")), forever=True)
    outcome = order(verb, watched)
    assert (outcome.code, outcome.exit, outcome.remedy) == (Code.AUTO_ONLINE, 1, operate.remedy(Code.AUTO_ONLINE))
    assert "EROFS" in outcome.fact
    assert not {"add", "remove"} & set(watched.calls)
    assert not breaches(before, machine, watched, outcome)
    assert places(machine) == before


@VERBS
def test_a_machine_that_says_done_and_did_nothing(verb: str) -> None:
    machine = machine_for(verb)
    watched = Watched(machine)
    watched.lie("set_auto_online", None)
    outcome = order(verb, watched)
    assert (outcome.code, outcome.exit) == (Code.AUTO_ONLINE, 1)
    assert outcome.fact == "auto_online_blocks was set to online_movable and is online"
    assert not {"add", "remove"} & set(watched.calls)


@VERBS
def test_what_was_done_counts_as_done_though_the_policy_stays(verb: str) -> None:
    """A governor has to know what it took, and a client whose worker died how it ended."""
    machine, journal = machine_for(verb), MemoryJournal()
    watched = Watched(machine)
    watched.fail("set_auto_online", 1, raising(KernelError(errno.EPERM, "auto_online_blocks")), forever=True)
    assert order(verb, watched, journal=journal, cause=GOVERNOR).exit == 64
    assert still_taken(reversed(journal.entries()), machine.boot_id) == {"high": verb == "remove"}
    assert closed(journal.entries()[-1], machine.snapshot()).exit == 64


@VERBS
def test_what_could_not_begin_was_not_done(verb: str) -> None:
    machine, journal = machine_for(verb), MemoryJournal()
    watched = Watched(machine)
    watched.fail("set_auto_online", 0, raising(KernelError(errno.EROFS, "auto_online_blocks")), forever=True)
    assert order(verb, watched, journal=journal, cause=GOVERNOR).exit == 1
    assert still_taken(reversed(journal.entries()), machine.boot_id) == {}
    assert closed(journal.entries()[-1], machine.snapshot()).exit == 1


@VERBS
def test_a_policy_that_does_not_go_back_is_named(verb: str) -> None:
    machine = machine_for(verb)
    watched = Watched(machine)
    watched.fail("set_auto_online", 1, raising(KernelError(errno.EPERM, "auto_online_blocks")), forever=True)
    outcome = order(verb, watched)
    assert (outcome.code, outcome.exit) == (Code.AUTO_ONLINE, 64)
    assert outcome.kernel is (KernelState.ABSENT if verb == "remove" else KernelState.ONLINE), "the rest was done"
    assert "auto_online_blocks was online and stays online_movable: " in outcome.fact
    assert outcome.remedy == "echo online > /sys/devices/system/memory/auto_online_blocks"
    assert not breaches(places(machine), machine, watched, outcome)


def test_nor_after_a_failure() -> None:
    machine = machine_for("remove")
    before, watched = places(machine), Watched(machine)
    watched.fail("remove", 0, raising(KernelError(errno.EBUSY, "remove")))
    watched.fail("set_auto_online", 1, raising(KernelError(errno.EPERM, "auto_online_blocks")), forever=True)
    outcome = order("remove", watched)
    assert (outcome.code, outcome.exit, outcome.unrestored) == (Code.RACED, 64, ())
    assert "auto_online_blocks was online and stays online_movable: " in outcome.fact
    assert outcome.remedy.endswith("; echo online > /sys/devices/system/memory/auto_online_blocks")
    assert places(machine) == before


def test_a_machine_that_does_not_say_leaves_it_to_recovery() -> None:
    """It is silent just when the policy is to go back, and answers afterwards."""
    machine, journal = machine_for("remove"), MemoryJournal()
    watched = Watched(machine)
    watched.fail("remove", 0, raising(KernelError(errno.EBUSY, "remove")))
    silent = raising(MachineError("no answer", code=Code.NO_MACHINE))
    watched.fail("set_auto_online", 1, silent)
    watched.fail("set_auto_online", 2, silent)
    outcome = order("remove", watched, journal=journal)
    assert (outcome.code, outcome.exit, outcome.open) == (Code.RACED, 64, True)
    assert outcome.remedy.endswith("; hotbank recover")
    assert operate.recover(machine, journal) is not None
    assert machine.auto_online == "online"


@VERBS
def test_who_sets_another_one_meanwhile_keeps_it(verb: str) -> None:
    machine = machine_for(verb)
    watched = Watched(machine)
    watched.fail("power", 0, lambda: setattr(machine, "auto_online", "online_kernel"))
    watched.fail(verb, 0, lambda: setattr(machine, "auto_online", "offline"))
    outcome = order(verb, watched)
    assert outcome.exit == 0
    assert outcome.fact.endswith("auto_online_blocks was set to offline meanwhile and stays so")
    assert machine.auto_online == "offline"


@OPEN_ROUTES
def test_one_that_became_unsafe_since_the_plan_is_looked_at_again(route: str) -> None:
    machine = ScriptedMachine(route=route)
    before, watched = places(machine), Watched(machine)
    watched.fail("offline", 3, lambda: setattr(machine, "auto_online", "online"))
    outcome = operate.remove(watched, "high")
    assert (outcome.code, outcome.exit) == (Code.AUTO_ONLINE, 1)
    assert "remove" not in watched.calls
    assert places(machine) == before
    machine.auto_online = "offline"
    assert operate.remove(machine, "high").exit == 0
    watched = Watched(machine)
    watched.fail("set_power", 0, lambda: setattr(machine, "auto_online", "online"))
    outcome = operate.add(watched, "high")
    assert (outcome.code, outcome.exit, machine.level) == (Code.AUTO_ONLINE, 1, Power.OFF)
    assert "add" not in watched.calls


@OPEN_ROUTES
@POLICIES
@pytest.mark.parametrize("found", ["offline", *WORDS])
def test_a_rollback_sets_it_aside_too(route: str, policy: str, found: str) -> None:
    """Whether it was so from the beginning, or became so meanwhile: as whoever set it last has it, it stays."""
    machine = ScriptedMachine(route=route, auto_online=found, states=(Power.ON, Power.OFF))
    before, watched = places(machine), Watched(machine)

    def switch_fails() -> None:
        machine.auto_online = policy
        raise switch_error()

    watched.fail("set_power", 0, switch_fails)
    outcome = operate.remove(watched, "high")
    assert (outcome.code, outcome.exit, outcome.unrestored) == (Code.SWITCH_FAILED, 1, ())
    assert (places(machine), machine.auto_online) == (before, policy)
    assert not breaches(before, machine, watched, outcome)


@OPEN_ROUTES
def test_a_rollback_that_can_not_adds_nothing(route: str) -> None:
    """Kernel pages could settle in it between the addition and the moment at which it is set right."""
    machine, events = ScriptedMachine(route=route, states=(Power.ON, Power.OFF)), list[Event]()
    watched = Watched(machine)

    def switch_fails() -> None:
        machine.auto_online = "online"
        raise switch_error()

    watched.fail("set_power", 0, switch_fails)
    watched.fail("set_auto_online", 0, raising(KernelError(errno.EROFS, "auto_online_blocks")), forever=True)
    outcome = operate.remove(watched, "high", on_event=events.append)
    assert (outcome.code, outcome.exit) == (Code.SWITCH_FAILED, 64)
    assert (outcome.unrestored, outcome.kernel) == ((20, 21, 22, 23), KernelState.ABSENT)
    assert "add" not in watched.calls
    assert {e.code for e in events if e.event == "rollback" and e.step == "suspend-policy"} == {Code.AUTO_ONLINE}


# A process that dies.


def _writes(verb: str) -> int:
    journal = Mortal(-1, after_writing=True)
    assert order(verb, Watched(machine_for(verb)), journal=journal).exit == 0
    return journal.writes


@VERBS
@pytest.mark.parametrize("after_writing", [False, True])
def test_recovery_puts_it_back_wherever_its_owner_died(
    monkeypatch: pytest.MonkeyPatch, verb: str, after_writing: bool
) -> None:
    for at in range(_writes(verb)):
        machine, journal = machine_for(verb), Mortal(at, after_writing=after_writing)
        before = places(machine)
        crash(monkeypatch, lambda m=machine, j=journal: order(verb, Watched(m), journal=j))  # type: ignore[misc]
        outcome = operate.recover(watched := Watched(machine), journal)
        assert outcome is not None, at
        assert not outcome.unrestored, at
        assert machine.auto_online == "online", at
        assert not breaches(before, machine, watched, outcome), at


def test_recovery_leaves_what_somebody_set_since(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, journal = _killed_between(monkeypatch)
    machine.auto_online = "online_kernel"
    outcome = operate.recover(Watched(machine), journal)
    assert outcome is not None
    assert outcome.fact.endswith("auto_online_blocks was set to online_kernel meanwhile and stays so")
    assert machine.auto_online == "online_kernel"


def test_recovery_names_what_it_can_not_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, journal = _killed_between(monkeypatch)
    watched = Watched(machine)
    watched.fail("set_auto_online", 0, raising(KernelError(errno.EROFS, "auto_online_blocks")), forever=True)
    outcome = operate.recover(watched, journal)
    assert outcome is not None
    assert outcome.exit == 64
    assert "auto_online_blocks was online and stays online_movable" in outcome.fact


@pytest.mark.parametrize("damage", ["", "its acts are noise"])
def test_an_entry_that_can_not_be_read_may_have_set_one_aside(monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    machine, journal = _killed_between(monkeypatch)
    journal._entries[-1] = replace(journal._entries[-1], damage=damage)
    outcome = operate.recover(Watched(machine), journal)
    assert outcome is not None
    assert ("auto_online_blocks is online_movable and may have been another" in outcome.fact) is bool(damage)
    assert (machine.auto_online == "online") is not bool(damage)


def test_after_a_boot_there_is_nothing_to_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, journal = _killed_between(monkeypatch)
    machine.boot_id = "boot-2"
    outcome = operate.recover(watched := Watched(machine), journal)
    assert outcome is not None
    assert outcome.code is Code.SUPERSEDED
    assert "set_auto_online" not in watched.calls


def _killed_between(monkeypatch: pytest.MonkeyPatch) -> tuple[ScriptedMachine, MemoryJournal]:
    """An addition whose process died with the policy set aside."""
    for at in range(_writes("add")):
        machine, journal = machine_for("add"), Mortal(at, after_writing=True)
        crash(monkeypatch, lambda m=machine, j=journal: order("add", Watched(m), journal=j))  # type: ignore[misc]
        if machine.auto_online == "online_movable":
            return machine, journal
    raise AssertionError("nowhere")


# The oracle on planted breaches.


def test_catches_a_bank_that_is_added_under_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Aside, "suspend", lambda self, journaled: None)
    monkeypatch.setattr("hotbank.operate.policy.danger", lambda snapshot, what: "")
    machine = machine_for("remove")
    for number in range(20, 24):
        machine.slots[number].state = BlockState.OFFLINE
    machine.remove("high")
    order("add", watched := Watched(machine))
    assert watched.breaches == ["high added while auto_online_blocks is online"]


def test_catches_a_policy_that_is_not_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Aside, "resume", lambda self, journaled: "")
    machine = ScriptedMachine(route="kmem", auto_online="online")
    before = places(machine)
    outcome = order("remove", watched := Watched(machine))
    assert breaches(before, machine, watched, outcome) == ["auto_online_blocks was online and is online_movable"]
