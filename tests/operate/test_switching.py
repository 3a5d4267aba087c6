# SPDX-License-Identifier: Apache-2.0
"""A power switch turned by an order: a row in the journal, its events, and a crash at every write of it."""

from __future__ import annotations

import pytest

from hotbank import operate
from hotbank.errors import Code, HotbankError, KernelError, Refusal, SwitchError
from hotbank.memory import Power
from hotbank.operate import Event, MemoryJournal
from hotbank.testing import ScriptedMachine, raising, switch_error
from operate.mortal import Mortal, crash
from operate.test_doors import IN, _comes_in_the_dark, absent, scripted

STATES = (Power.ON, Power.SELF_REFRESH, Power.OFF)


def at(level: Power) -> ScriptedMachine:
    """Nothing of the domain in, its power at that level, and all states allowed."""
    machine = scripted(absent)
    machine.states = STATES
    machine.levels["ddr"] = level
    return machine


@pytest.mark.parametrize("found", STATES)
@pytest.mark.parametrize("want", STATES)
def test_it_is_turned_and_written_down(found: Power, want: Power) -> None:
    machine, journal, events = at(found), MemoryJournal(), list[Event]()
    outcome = operate.switch(machine, "ddr", want, journal=journal, on_event=events.append)
    assert (outcome.code, outcome.exit, outcome.power, machine.level) == (Code.OK, 0, want, want)
    if found is want:
        assert (journal.entries(), events) == ((), [])
        return
    (entry,) = journal.entries()
    assert (entry.before.verb, entry.before.targets, entry.code) == ("power", ("ddr",), Code.OK)
    assert [(d.name, d.power) for d in entry.before.domains] == [("ddr", found)]
    assert [row.code for row in entry.rows] == [Code.OK]
    assert [event.event for event in events] == ["step", "done"]
    assert events[-1].exit == 0


REFUSED = {
    "no such domain": ("drr", Power.ON, Code.NO_SUCH_BANK),
    "a state that its board does not list": ("ddr", Power.SELF_REFRESH, Code.SWITCH_FAILED),
    "no state": ("ddr", Power.UNKNOWN, Code.SWITCH_FAILED),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_refused_is_not_begun(why: str) -> None:
    domain, want, code = REFUSED[why]
    machine, journal = scripted(absent), MemoryJournal()
    with pytest.raises(HotbankError) as caught:
        operate.switch(machine, domain, want, journal=journal)
    assert (caught.value.code, journal.entries(), machine.level) == (code, (), Power.ON)


@pytest.mark.parametrize("state", IN, ids=lambda state: state.__name__)
def test_nothing_goes_dark_under_memory(state: object) -> None:
    machine, journal = scripted(state), MemoryJournal()  # type: ignore[arg-type]
    with pytest.raises(Refusal) as caught:
        operate.switch(machine, "ddr", Power.OFF, journal=journal)
    assert (caught.value.code, journal.entries(), machine.level) == (Code.DOMAIN_IN_USE, (), Power.ON)


@pytest.mark.parametrize("error", [switch_error(), KernelError(5, "the switch")], ids=lambda e: type(e).__name__)
def test_a_switch_that_fails_ends_the_transaction_with_its_code(error: Exception) -> None:
    machine, journal = scripted(absent), MemoryJournal()
    machine.at_switch = raising(error)
    with pytest.raises(HotbankError) as caught:
        operate.switch(machine, "ddr", Power.OFF, journal=journal)
    (entry,) = journal.entries()
    assert entry.code is caught.value.code
    assert entry.rows[0].code is caught.value.code


def test_memory_that_came_in_is_lost_and_written_down() -> None:
    machine, journal = scripted(absent), MemoryJournal()
    machine.at_switch = lambda: _comes_in_the_dark(machine)
    with pytest.raises(SwitchError):
        operate.switch(machine, "ddr", Power.OFF, journal=journal)
    assert ([entry.code for entry in journal.entries()], machine.level) == ([Code.LOST], Power.ON)


def test_one_transaction_at_a_time() -> None:
    machine, journal = scripted(absent), MemoryJournal()
    journal.begin(operate.Before("remove", ("high",), "boot-1"))
    with pytest.raises(Refusal) as caught:
        operate.switch(machine, "ddr", Power.OFF, journal=journal)
    assert (caught.value.code, machine.level) == (Code.BUSY_TRANSACTION, Power.ON)


@pytest.mark.parametrize("write", range(2))
@pytest.mark.parametrize("after_writing", [False, True])
@pytest.mark.parametrize("found", STATES)
@pytest.mark.parametrize("want", STATES)
def test_a_crash_in_its_middle_is_settled(
    write: int, after_writing: bool, found: Power, want: Power, monkeypatch: pytest.MonkeyPatch
) -> None:
    if found is want:
        return
    machine, journal = at(found), Mortal(write, after_writing=after_writing)
    crash(monkeypatch, lambda: operate.switch(machine, "ddr", want, journal=journal))
    outcome = operate.recover(machine, journal)
    assert outcome is not None
    assert (outcome.code, outcome.open, machine.level) == (Code.INTERRUPTED, False, found)
    assert journal.unfinished() is None


@pytest.mark.parametrize("write", range(2))
@pytest.mark.parametrize("state", IN, ids=lambda state: state.__name__)
def test_recovery_of_it_darkens_nothing_that_came_in_since(
    write: int, state: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found dark, ordered on, and died; then somebody brought memory in."""
    machine, journal = at(Power.OFF), Mortal(write, after_writing=True)
    crash(monkeypatch, lambda: operate.switch(machine, "ddr", Power.ON, journal=journal))
    machine = scripted(state)  # type: ignore[arg-type]
    before = {number: slot.state for number, slot in machine.slots.items()}
    operate.recover(machine, journal)
    assert (machine.level, machine.lost) == (Power.ON, [])
    assert {number: slot.state for number, slot in machine.slots.items()} == before
