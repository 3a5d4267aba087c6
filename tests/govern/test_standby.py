# SPDX-License-Identifier: Apache-2.0
"""Banks that stand by: offline with their power on, the last that left; others dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest

from govern.test_runner import Hands, model, run
from hotbank import memspec, operate
from hotbank.errors import Code, KernelError, Refusal
from hotbank.govern.guard import Guard, Outcome
from hotbank.govern.policy import Balance
from hotbank.govern.runner import Governor
from hotbank.govern.standby import Standby
from hotbank.memory import MIB, KernelState, Power
from hotbank.model import Model
from hotbank.operate.targets import resolve_all


@dataclass
class Ours(Hands):
    """With a record of whose banks are out, as a journal has it."""

    ours: dict[str, bool] = field(default_factory=dict)

    def remove(self, banks: Sequence[str]) -> Outcome:
        return self._noted(Hands.remove(self, banks), banks, out=True)

    def add(self, banks: Sequence[str]) -> Outcome:
        return self._noted(Hands.add(self, banks), banks, out=False)

    def taken(self) -> dict[str, bool]:  # type: ignore[override]
        return self.ours

    def _noted(self, done: Outcome, names: Sequence[str], *, out: bool) -> Outcome:
        if done is Outcome.DONE:
            targets = resolve_all(self.machine.snapshot(), list(names))
            self.ours |= {target.bank.name: out for target in targets if target.bank is not None}
        return done


def states(found: Model) -> dict[str, tuple[KernelState, Power]]:
    return {bank.name: (bank.kernel, bank.power) for bank in found.snapshot().banks if bank.name != "low"}


IN = (KernelState.ONLINE, Power.ON)
BY, DARK = (KernelState.OFFLINE, Power.ON), (KernelState.ABSENT, Power.OFF)


@pytest.mark.parametrize(("groups", "idle"), [(1, [BY, DARK]), (2, [BY, BY]), (3, [BY, BY])])
def test_the_last_that_left_stand_by_and_come_back_first(groups: int, idle: list[tuple[KernelState, Power]]) -> None:
    found = model()
    hands = Standby(Ours(found), groups, found.snapshot)
    one = Governor(found, hands, Balance(), Guard(), memspec.named)
    steps = run(found, one, 120)
    assert sorted(states(found).values()) == sorted(idle)
    assert not one.state.paused
    told = {standing.group: standing for standing in steps[-1].standings}
    assert {name for name, standing in told.items() if standing.why} == {
        f"d{number}" for number, bank in enumerate(("one", "two"), 1) if states(found)[bank] == BY
    }
    standing_by = {bank for bank, state in states(found).items() if state == BY}
    eater = found.tasks.spawn("eater")
    first: set[str] = set()
    for _ in range(40):
        found.tasks.grow(eater, 7 * MIB // found.board.page_size)
        one.step()
        first = first or {bank for bank, state in states(found).items() if state == IN}
        found.clock.sleep(2.0)
    assert first
    assert first <= standing_by
    assert set(states(found).values()) == {IN}
    assert not found.tasks.oom_killed


def test_what_stands_by_needs_no_memory_to_come_back() -> None:
    """The kernel has eaten what a memory map would have needed."""
    found = model("cma=0")
    hands = Standby(Ours(found), 1, found.snapshot)
    assert hands.remove(["one"]) is Outcome.DONE
    assert hands.remove(["two"]) is Outcome.DONE
    assert states(found) == {"one": DARK, "two": BY}
    with pytest.raises(KernelError, match="ENOMEM"):
        _eat_all(found)
    assert hands.add(["one"]) is Outcome.FAILED
    assert hands.add(["two"]) is Outcome.DONE


def _eat_all(found: Model) -> None:
    for number in count():
        found.tasks.kernel_alloc(f"eater {number}", 16)


def test_another_hand_that_brings_one_in_is_noticed() -> None:
    found = model()
    one = Governor(found, Standby(Ours(found), 2, found.snapshot), Balance(), Guard(), memspec.named)
    run(found, one, 120)
    assert operate.add(found, "two").exit == 0
    run(found, one, 4)
    assert one.state.paused == "d2 came in by another hand"


def test_what_another_hand_took_offline_never_goes_dark() -> None:
    found = model()
    hands = Standby(Ours(found), 1, found.snapshot)
    assert operate.remove(found, [f"memory{n}" for n in found.snapshot().bank("one").blocks]).exit == 0  # type: ignore[union-attr]
    assert hands.remove(["two"]) is Outcome.DONE
    assert states(found) == {"one": BY, "two": BY}


def test_who_goes_on_after_a_crash_knows_what_stands_by() -> None:
    found = model()
    before = Ours(found)
    Standby(before, 1, found.snapshot).remove(["two"])
    Standby(before, 1, found.snapshot).remove(["one"])
    assert states(found) == {"one": BY, "two": DARK}


def test_one_that_does_not_go_dark_stands_by_until_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found = model()
    ours = Ours(found)
    hands = Standby(ours, 1, found.snapshot)
    hands.remove(["one"])
    with monkeypatch.context() as stuck:
        stuck.setattr(Ours, "remove", _only_blocks)
        assert hands.remove(["two"]) is Outcome.DONE
    assert states(found) == {"one": BY, "two": BY}
    assert hands.add(["two"]) is Outcome.DONE
    assert hands.remove(["two"]) is Outcome.DONE
    assert states(found) == {"one": DARK, "two": BY}


def test_what_happens_to_another_group_says_nothing_of_the_one_that_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It left, whoever is at work when the one before it is to go dark."""
    found = model()
    one = Governor(found, Standby(Ours(found), 1, found.snapshot), Balance(), Guard(), memspec.named)
    monkeypatch.setattr(Ours, "remove", _busy_with_banks)
    deeds = [deed for step in run(found, one, 120) for deed in step.deeds]
    assert [(deed.group, deed.outcome) for deed in deeds] == [("d1", Outcome.DONE), ("d2", Outcome.DONE)]
    assert set(states(found).values()) == {BY}
    assert not one.state.bans


def _busy_with_banks(hands: Ours, banks: Sequence[str]) -> Outcome:
    if not all(name.startswith("memory") for name in banks):
        raise Refusal(Code.BUSY_TRANSACTION, "add two of pid 1 is not finished")
    return hands._noted(Hands.remove(hands, banks), banks, out=True)


def test_what_an_earlier_governor_left_standing_by_goes_dark_where_none_is_to() -> None:
    found = model()
    ours = Ours(found)
    Standby(ours, 1, found.snapshot).remove(["one"])
    assert Standby(ours, 0, found.snapshot).remove(["two"]) is Outcome.DONE
    assert states(found) == {"one": DARK, "two": DARK}


def _only_blocks(hands: Ours, banks: Sequence[str]) -> Outcome:
    if not all(name.startswith("memory") for name in banks):
        return Outcome.FAILED
    return hands._noted(Hands.remove(hands, banks), banks, out=True)
