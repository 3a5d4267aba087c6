# SPDX-License-Identifier: Apache-2.0
"""The loop on a model: what breathes, what fails, what another hand does, and what can't be seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise
from math import nan
from types import SimpleNamespace
from typing import Any

import pytest

from hotbank import board, memspec, operate
from hotbank.errors import Code, MachineError, Refusal
from hotbank.govern.banks import view
from hotbank.govern.guard import Guard, Outcome
from hotbank.govern.policy import Balance, Wish
from hotbank.govern.runner import Governor, Step
from hotbank.govern.view import Kernel, View
from hotbank.machine import Reading, Snapshot, ZoneInfo
from hotbank.memory import MIB, KernelState, Power, parse_size
from hotbank.model import Model
from hotbank.model.frames import Frames

BOARD = """
name = "pair"
arch = "arm64"
block_size = "32M"
[bank.low]
start = "1G"
size = "256M"
[bank.one]
start = "2G"
size = "64M"
movable = true
at_boot = false
route = "driver"
domain = "d1"
[bank.two]
start = "2112M"
size = "64M"
movable = true
at_boot = false
route = "driver"
domain = "d2"
[domain.d1]
states = ["on", "off"]
switch = "machine"
part = "micron-4gb-lpddr3-1600-x32"
[domain.d2]
states = ["on", "off"]
switch = "machine"
part = "micron-4gb-lpddr3-1600-x32"
"""
GUARD = Guard()


@dataclass
class Hands:
    """Orders as a person gives them; ``broken``: none is carried out."""

    machine: Model
    broken: bool = False

    def remove(self, banks: Sequence[str]) -> Outcome:
        return self._done(operate.remove, banks)

    def add(self, banks: Sequence[str]) -> Outcome:
        return self._done(operate.add, banks)

    def taken(self) -> None:
        return

    def _done(self, change: Callable[..., operate.Outcome], banks: Sequence[str]) -> Outcome:
        if self.broken or change(self.machine, banks, cause="governor").exit != 0:
            return Outcome.FAILED
        return Outcome.DONE


def model(cmdline: str = "") -> Model:
    found = Model.boot(board.loads(BOARD), cmdline=cmdline)
    for bank in ("one", "two"):
        assert operate.add(found, bank).exit == 0
    return found


def governor(found: Model, **named: object) -> Governor:
    return Governor(found, Hands(found), Balance(), GUARD, memspec.named, **named)  # type: ignore[arg-type]


def run(found: Model, one: Governor, seconds: float) -> list[Step]:
    steps, until = [], found.clock.now() + seconds
    while found.clock.now() < until:
        steps.append(one.step())
        found.clock.sleep(2.0)
    return steps


def dark(found: Model) -> set[str]:
    return {domain.name for domain in found.snapshot().domains if domain.power is Power.OFF}


def test_what_the_kernel_has_room_for_lies_in_its_zones_and_is_not_lent() -> None:
    normal = ZoneInfo(0, "Normal", 0, 900, 900, 900, free=100, cma_free=30, reclaimable=7)
    movable = ZoneInfo(0, "Movable", 900, 900, 900, 900, free=500, cma_free=50, reclaimable=60)
    reading = Reading(0.0, (normal, movable), kernel=11)
    assert view(reading, 4096, ()).kernel == Kernel(11 * 4096, 77 * 4096)
    assert view(replace(reading, kernel=None), 4096, ()).kernel is None


@pytest.mark.parametrize("cma", ["0", "32M", "64M"])
def test_what_is_free_for_cma_alone_brings_no_bank_back(cma: str) -> None:
    """The kernel eats all but the reserve, with no rise to foresee: what is missed then comes in."""
    found = model(f"cma={cma}")
    one = Governor(found, Hands(found), Balance(), Guard(foresight=0.0), memspec.named)
    run(found, one, 120)
    assert dark(found) == {"d1", "d2"}
    for number in count():
        found.tasks.kernel_alloc(f"eater {number}", 64)
        found.clock.sleep(2.0)
        deeds = one.step().deeds
        if deeds:
            break
    assert [(deed.dark, deed.outcome, deed.why) for deed in deeds] == [
        (False, Outcome.DONE, "less than the reserve is free")
    ]
    assert found.reading().lent * found.board.page_size == parse_size(cma)


@pytest.mark.parametrize("code", [Code.BUSY_TRANSACTION, Code.NO_MACHINE])
def test_an_order_that_could_not_be_given_says_nothing_of_the_bank(code: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    found = model()
    one = governor(found)

    def refuse(*_: object) -> Outcome:
        raise Refusal(code, "not now")

    with monkeypatch.context() as while_nobody_answers:
        while_nobody_answers.setattr(Hands, "remove", refuse)
        run(found, one, 60)
    assert not one.state.bans
    run(found, one, 60)
    assert dark(found) == {"d1", "d2"}


def test_banks_leave_when_idle_and_are_back_before_they_are_needed() -> None:
    found = model()
    one = governor(found)
    run(found, one, 120)
    assert dark(found) == {"d1", "d2"}
    eater = found.tasks.spawn("eater")
    for _ in range(40):  # 7 MiB in every two seconds, up to 280
        found.tasks.grow(eater, 7 * MIB // found.board.page_size)
        one.step()
        assert found.free() + found.reclaimable() > 0
        found.clock.sleep(2.0)
    assert not found.tasks.oom_killed
    assert dark(found) == set()
    found.tasks.shrink(eater, 197 * MIB // found.board.page_size)
    run(found, one, 300)
    assert dark(found) == {"d1", "d2"}
    found.validate()


def test_the_kernels_word_brings_a_bank_back_before_any_average_tells() -> None:
    found = model()
    one = governor(found)
    run(found, one, 120)
    before = dark(found)
    one.step(pressed=True)
    assert len(before - dark(found)) == 1


def test_a_look_walks_over_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the machine is page cache: nothing is asked of any frame, look after look."""
    found = model()
    found.read_file("cache", 100 * MIB // found.board.page_size)
    one, asked = governor(found), list[str]()
    run(found, one, 4)
    for name in ("count", "find", "holds", "kind", "migratetype", "zone", "owner", "content", "free_in"):
        monkeypatch.setattr(found.allocator.frames, name, _counted(found.allocator.frames, name, asked))
    assert not any(step.deeds for step in run(found, one, 20))
    assert asked == []
    found.allocator.frames.count(0, 1)
    assert asked == ["count"], "it would have been seen"


def _counted(frames: Frames, name: str, asked: list[str]) -> Callable[..., Any]:
    """The method of that name, which is noted each time."""
    call = getattr(frames, name)

    def counted(*arguments: Any) -> Any:
        asked.append(name)
        return call(*arguments)

    return counted


@dataclass
class _Slow(Hands):
    """Bringing a bank back takes its time."""

    def add(self, banks: Sequence[str]) -> Outcome:
        self.machine.clock.sleep(6.0)
        return Hands.add(self, banks)


def test_a_slow_way_back_is_begun_earlier_the_next_time() -> None:
    """A rise of 2 MiB/s: after one return that took 6 s, as much more is kept free as grows in that time."""
    found = model()
    one = Governor(found, _Slow(found), Balance(), GUARD, memspec.named)
    run(found, one, 120)
    eater, lefts = found.tasks.spawn("eater"), list[int]()
    while len(lefts) < 2:
        found.tasks.grow(eater, 4 * MIB // found.board.page_size)
        left = found.free()
        if any(not deed.dark for deed in one.step().deeds):
            lefts.append(left * found.board.page_size)
        found.clock.sleep(2.0)
    assert lefts[1] - lefts[0] >= 8 * MIB
    assert not found.tasks.oom_killed


def test_what_fails_is_banned_for_twice_as_long_each_time() -> None:
    found = model()
    one = governor(found)
    assert isinstance(one._hands, Hands)
    one._hands.broken = True
    steps = run(found, one, 1000)
    tried = [step.at for step in steps for deed in step.deeds if deed.group == "d1"]
    waits = [later - at for at, later in pairwise(tried)]
    assert 3 <= len(tried) <= 5
    assert all(later >= 1.9 * wait for wait, later in pairwise(waits))
    assert {deed.outcome for step in steps for deed in step.deeds} == {Outcome.FAILED}


def test_another_hand_pauses_it_and_is_not_argued_with() -> None:
    found = model()
    one = governor(found)
    run(found, one, 120)
    operate.add(found, "one")
    steps = run(found, one, 200)
    assert one.state.paused == "d1 came in by another hand"
    assert dark(found) == {"d2"}
    assert steps[-1].standings[0].why == "paused: d1 came in by another hand"
    one.resume()
    run(found, one, 120)
    assert dark(found) == {"d1", "d2"}


def test_a_restart_goes_on_where_it_was() -> None:
    found = model()
    before = governor(found)
    run(found, before, 120)
    before.pause("asked for")
    after = governor(found, state=before.state)
    eater = found.tasks.spawn("eater")
    found.tasks.grow(eater, found.free() - 6 * MIB // found.board.page_size)
    run(found, after, 20)
    assert dark(found) != {"d1", "d2"}, "what it took comes back, paused or not"
    found.tasks.shrink(eater, len(found.tasks.process(eater).pages))
    run(found, after, 400)
    assert after.state.paused == "asked for"


def test_who_returns_after_a_crash_without_a_state_touches_nothing_that_is_dark() -> None:
    found = model()
    run(found, governor(found), 120)
    after = governor(found)
    eater = found.tasks.spawn("eater")
    found.tasks.grow(eater, found.free() - 6 * MIB // found.board.page_size)
    run(found, after, 20)
    assert dark(found) == {"d1", "d2"}


def test_the_blind_decide_nothing_and_look_anew() -> None:
    found = model()
    eyes = _Lidded(found)
    one = Governor(eyes, Hands(found), Balance(), GUARD, memspec.named)
    eyes.shut = True
    steps = run(found, one, 100)
    assert all(step.blind == "nobody answers" and not step.deeds for step in steps)
    assert dark(found) == set()
    eyes.shut = False
    run(found, one, 120)
    assert dark(found) == {"d1", "d2"}


@dataclass
class _Lidded:
    machine: Model
    shut: bool = False

    def reading(self) -> Reading:
        if self.shut:
            raise MachineError("nobody answers", remedy="")
        return self.machine.reading()

    def snapshot(self) -> Snapshot:
        return self.machine.snapshot()


def test_a_dry_run_tells_the_story_and_touches_nothing() -> None:
    found = model()
    steps = run(found, governor(found, dry=True), 120)
    assert [deed.group for step in steps for deed in step.deeds] == ["d1", "d2"]
    assert {bank.kernel for bank in found.snapshot().banks} == {KernelState.ONLINE}


def test_what_is_read_again_comes_back_and_is_banned() -> None:
    found = model()
    eyes = _Refaulting(found)
    one = Governor(eyes, Hands(found), Balance(), GUARD, memspec.named)
    while not dark(found):
        run(found, one, 2)
    eyes.more = 50 * MIB // found.board.page_size
    step = one.step()
    assert ("what left is read again", Outcome.USELESS) in [(deed.why, deed.outcome) for deed in step.deeds]
    assert one.state.bans


@dataclass
class _Refaulting(_Lidded):
    more: int = 0

    def reading(self) -> Reading:
        return replace(self.machine.reading(), refaults=self.more)


@dataclass(frozen=True)
class _Hostile:
    """Wishes for nothing, always."""

    def begin(self) -> None:
        return None

    def decide(self, view: View, state: None) -> tuple[Wish, None]:
        return Wish(-1, "out with all of it"), None


@pytest.mark.parametrize("used", [25, 100, 175])
def test_a_hostile_policy_takes_no_more_than_the_guard_allows(used: int) -> None:
    found = model()
    one = Governor(found, Hands(found), _Hostile(), GUARD, memspec.named)
    found.tasks.grow(found.tasks.spawn("eater"), used * MIB // found.board.page_size)
    run(found, one, 200)
    assert not found.tasks.oom_killed
    assert (found.free() + found.reclaimable()) * found.board.page_size >= 6 * MIB


PAIRED = BOARD.replace('domain = "d2"', 'domain = "d1"').partition("[domain.d2]")[0]


def paired() -> Model:
    found = Model.boot(board.loads(PAIRED))
    assert operate.add(found, ["one", "two"]).exit == 0
    return found


def test_a_person_who_takes_half_of_a_domain_is_noticed_and_keeps_it() -> None:
    found = paired()
    one = governor(found)
    one.step()
    operate.remove(found, "one")
    steps = run(found, one, 200)
    assert one.state.paused == "d1 went out by another hand"
    one.resume()
    steps = run(found, one, 200)
    assert steps[-1].standings[0].why == "part of it is out already"
    found.tasks.grow(found.tasks.spawn("eater"), found.free() - 6 * MIB // found.board.page_size)
    run(found, one, 20)
    kernel = {bank.name: bank.kernel for bank in found.snapshot().banks}
    assert (kernel["one"], kernel["two"]) == (KernelState.ABSENT, KernelState.ONLINE)


def test_a_person_who_brings_half_of_it_back_is_noticed_and_the_rest_comes_when_it_is_needed() -> None:
    found = paired()
    one = governor(found)
    run(found, one, 120)
    assert dark(found) == {"d1"}
    operate.add(found, "one")
    run(found, one, 20)
    assert one.state.paused == "d1 came in by another hand"
    found.tasks.grow(found.tasks.spawn("eater"), found.free() - 6 * MIB // found.board.page_size)
    run(found, one, 20)
    assert {bank.kernel for bank in found.snapshot().banks} == {KernelState.ONLINE}


def test_blocks_that_a_person_takes_offline_are_not_counted_as_there() -> None:
    found = model()
    one = governor(found)
    before = one.step().view
    found.offline(found.snapshot().bank("one").blocks[0], 10.0)  # type: ignore[union-attr]
    after = one.step().view
    assert before is not None
    assert after is not None
    assert before.supply - after.supply == pytest.approx(32 * MIB, abs=MIB)
    assert one.state.paused == "d1 went out by another hand"


def test_memory_of_no_length_is_allowed() -> None:
    found = model()
    one = Governor(found, Hands(found), Balance(memory=0.0), GUARD, memspec.named)
    run(found, one, 120)
    assert dark(found) == {"d1", "d2"}


@dataclass(frozen=True)
class Failing:
    """A policy that takes all it may, and from some moment on answers with something else."""

    answer: Callable[[], Any]
    since: float = 100.0

    def begin(self) -> None:
        if self.since == 0:
            self.answer()

    def decide(self, view: View, state: None) -> tuple[Wish, None]:
        return (Wish(0, "all") if view.at < self.since else self.answer()), state


def fails() -> Any:
    raise RuntimeError("no idea")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (fails, "RuntimeError: no idea"),
        (lambda: Wish(nan, "nothing"), "nan is no number"),  # type: ignore[arg-type]
        (lambda: Wish(0, "nothing", nan), "nan is no number"),  # type: ignore[arg-type]
        (lambda: Wish("4 GiB", "all"), "'4 GiB' is no number"),  # type: ignore[arg-type]
        (lambda: None, "AttributeError"),
        (lambda: SimpleNamespace(keep=0), "AttributeError"),
    ],
)
def test_what_is_missed_comes_back_though_the_policy_fails(answer: Callable[[], Any], said: str) -> None:
    found = model()
    one = Governor(found, Hands(found), Failing(answer), GUARD, memspec.named)
    run(found, one, 100)
    assert dark(found) == {"d1", "d2"}
    service = found.tasks.spawn("service")
    for _ in range(45):  # 225 MiB in all, more than there is while both are dark
        found.tasks.grow(service, 5 * MIB // found.board.page_size)
        last = run(found, one, 2)[-1]
    assert dark(found) != {"d1", "d2"}
    assert last.wish is not None
    assert said in last.wish.why
    assert not found.tasks.oom_killed


def test_a_policy_that_can_not_even_begin_takes_nothing() -> None:
    found = model()
    steps = run(found, Governor(found, Hands(found), Failing(fails, since=0.0), GUARD, memspec.named), 60)
    assert dark(found) == set()
    assert not any(step.deeds for step in steps)
