# SPDX-License-Identifier: Apache-2.0
"""The guard's promises, whatever a policy wishes and whatever happens to a machine; and breaches that are caught."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from effort import examples
from hotbank.govern import guard as module
from hotbank.govern.guard import Act, Guard, Outcome, State
from hotbank.govern.policy import Wish
from hotbank.govern.view import Group, Kernel, View

FIXED, RESERVE = 10, 2
GUARD = Guard(reserve=RESERVE, hourly=4, ban=50.0, longest=400.0, memory=math.inf)
GROUPS = (Group("a", 4, cost=20.0), Group("b", 4, cost=5.0), Group("c", 8, cost=0.0), Group("d", 4, cost=math.inf))


@dataclass(frozen=True)
class Moment:
    """What happens between two looks. ``other``: a group that another hand switches. ``ends``: what acts come to.
    ``own``: what the kernel uses itself, and ``room``: what its zones have left; None: nobody can tell."""

    passed: float
    used: int
    keep: int
    pressed: bool | None = None
    other: str | None = None
    ends: Outcome = Outcome.DONE
    own: int = 0
    room: int | None = None
    foreseen: int = 0

    @property
    def kernel(self) -> Kernel | None:
        return None if self.room is None else Kernel(self.own, self.room)


MOMENTS = st.lists(
    st.builds(
        Moment,
        st.sampled_from((1.0, 2.0, 10.0, 60.0, 700.0)),
        st.integers(0, 30),
        st.integers(-5, 60),
        st.sampled_from((None, False, False, True)),
        st.sampled_from((None, None, None, None, "a", "c")),
        st.sampled_from((Outcome.DONE, Outcome.DONE, Outcome.DONE, Outcome.FAILED, Outcome.USELESS)),
        st.integers(0, 6),
        st.none() | st.integers(0, FIXED),
        st.sampled_from((0, 0, 15, 25)),
    ),
    max_size=25,
)


@dataclass
class World:
    """A machine without pages. ``theirs``: groups that another hand took. Each look is checked as it is made."""

    guard: Guard = GUARD
    groups: tuple[Group, ...] = GROUPS
    at: float = 0.0
    state: State = field(default_factory=State)
    theirs: set[str] = field(default_factory=set)
    taken: list[tuple[float, str]] = field(default_factory=list)
    returned: dict[str, float] = field(default_factory=dict)
    bans: dict[str, tuple[float, float]] = field(default_factory=dict)
    own: list[int] = field(default_factory=list)
    strangers: bool = False

    def live(self, moment: Moment) -> None:
        self.at += moment.passed
        if moment.other is not None:
            self._switch(moment.other, not self._group(moment.other).dark)
            self._by_another(moment.other)
        self.own += [moment.own] if moment.kernel else []
        view = View(self.at, FIXED, self.groups, moment.used, pressed=moment.pressed, kernel=moment.kernel)
        decision = self.guard.decide(view, Wish(moment.keep, "a whim", moment.foreseen), self.state)
        self._check(view, decision.acts, moment)
        self.state = decision.state
        assert {act.group for act in decision.acts}.isdisjoint(decision.held)
        for act in decision.acts:
            self._carry_out(act, moment.ends)

    def _group(self, name: str) -> Group:
        return next(group for group in self.groups if group.name == name)

    def _switch(self, name: str, dark: bool) -> None:
        self.groups = tuple(replace(g, dark=dark) if g.name == name else g for g in self.groups)

    def _by_another(self, name: str) -> None:
        """A hand before the first look is nobody's, and who brings in what another hand took undoes nothing of ours."""
        group = self._group(name)
        self.strangers |= self.state.at is not None and (group.dark or name not in self.theirs)
        (self.theirs.add if self._group(name).dark else self.theirs.discard)(name)

    def _check(self, view: View, acts: tuple[Act, ...], moment: Moment) -> None:
        takes, backs = [a for a in acts if a.dark], [a for a in acts if not a.dark]
        ours = [g for g in view.groups if g.dark and g.name not in self.theirs]
        growth = max(max(self.own) - moment.own, moment.own - min(self.own)) if moment.kernel else 0
        beside = max(moment.used, moment.foreseen if growth and moment.room else 0)
        needed = beside + RESERVE + min(moment.room or 0, growth)
        short = needed > view.supply
        assert {act.group for act in backs} <= {group.name for group in ours}, "never what another hand took"
        if short or moment.pressed:
            assert not takes, "neither below the reserve nor under pressure"
        if moment.pressed and ours:
            assert backs, "it gets better at each look under pressure"
        if short:
            regained = view.supply + sum(self._group(a.group).size for a in backs)
            assert regained >= needed or len(backs) == len(ours), "what is missing comes back at once"
        left = view.supply - sum(self._group(a.group).size for a in takes)
        assert not takes or left >= max(needed, moment.keep), "enough is left"
        if takes and moment.room is not None:
            kernels = min(moment.room, left - moment.used)
            assert kernels >= RESERVE + growth, "what moves leaves the kernel's zones what they need"
        for act in takes:
            self._check_take(self._group(act.group))

    def _check_take(self, group: Group) -> None:
        assert not self.strangers, "paused since another hand was seen"
        assert not group.dark
        assert group.cost < math.inf, "being dark would save nothing"
        assert self.at - self.returned.get(group.name, -math.inf) >= group.cost, "it earns its return first"
        assert self.at >= self.bans.get(group.name, (0.0, 0.0))[0], "banned"

    def _carry_out(self, act: Act, ends: Outcome) -> None:
        self.state = self.guard.told(self.state, act, ends, self.at)
        if ends is not Outcome.DONE:
            seconds = min(400.0, 2 * self.bans[act.group][1]) if act.group in self.bans else 50.0
            self.bans[act.group] = (self.at + seconds, seconds)
        if ends is Outcome.FAILED:
            return
        self._switch(act.group, act.dark)
        if act.dark:
            self.taken.append((self.at, act.group))
            recent = [at for at, _ in self.taken if at > self.at - 3600]
            assert len(recent) <= GUARD.hourly, "so many in an hour and no more"
        else:
            self.returned[act.group] = self.at


def lived(moments: list[Moment], guard: Guard = GUARD) -> bool:
    """True if nothing was broken."""
    world = World(guard)
    try:
        for moment in moments:
            world.live(moment)
    except AssertionError:
        return False
    return True


@examples(500)
@given(MOMENTS)
def test_no_policy_breaks_a_promise(moments: list[Moment]) -> None:
    world = World()
    for moment in moments:
        world.live(moment)


def _patched(name: str, value: object) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(module, name, value)


def _method(name: str, value: object) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(Guard, name, value)


BREACHES = {
    "blind to other hands": _patched("_another_hand", lambda *_: ""),
    "takes whatever it is": _method("_held", lambda *_: ""),
    "leaves too little": _method("_wanted", lambda *_: ""),
    "forgets bans": _method("_banned", lambda _, state, *__: state),
    "brings nothing back": _method("_back", lambda *_: ()),
    "forgets what is used": _method("least", lambda *_: 0),
    "crowds the kernel's zones": _method("_crowded", lambda *_: ""),
    "forgets what the kernel had": _method("_lately", lambda *_: None),
    "lets what comes fill the kernel's zones": _method("_for_the_kernel", lambda *_: 0),
}


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES)
def test_a_breach_is_found(breach: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    breach(monkeypatch)
    assert found(GUARD)


def test_a_guard_that_takes_more_in_an_hour_is_found() -> None:
    assert found(replace(GUARD, hourly=99))


def found(guard: Guard) -> bool:
    try:
        find(
            MOMENTS,
            lambda moments: not lived(moments, guard),
            settings=settings(examples(2000), phases=[Phase.generate], database=None),
        )
    except NoSuchExample:
        return False
    return True


def test_a_pause_holds_what_is_in_and_still_brings_back() -> None:
    state = replace(State(), paused="asked for", ours=("c",), expected=("c",))
    groups = tuple(replace(g, dark=g.name == "c") for g in GROUPS)
    calm = GUARD.decide(View(1.0, FIXED, groups, 0), Wish(0, "a whim"), state)
    assert calm.acts == ()
    assert calm.held["b"] == "paused: asked for"
    tight = GUARD.decide(View(2.0, FIXED, groups, 21), Wish(0, "a whim"), calm.state)
    assert [(act.group, act.dark) for act in tight.acts] == [("c", False)]


def test_another_hand_is_named() -> None:
    state = GUARD.decide(View(1.0, FIXED, GROUPS, 0), Wish(99, "all"), State()).state
    groups = tuple(replace(g, dark=g.name == "a") for g in GROUPS)
    assert GUARD.decide(View(2.0, FIXED, groups, 0), Wish(0, "a whim"), state).state.paused == (
        "a went out by another hand"
    )


def test_who_brings_in_what_was_dark_before_argues_with_nobody() -> None:
    groups = tuple(replace(g, dark=g.name == "a") for g in GROUPS)
    state = GUARD.decide(View(1.0, FIXED, groups, 0), Wish(99, "all"), State()).state
    assert not GUARD.decide(View(2.0, FIXED, GROUPS, 0), Wish(99, "all"), state).state.paused


def test_what_holds_a_bank_in_is_said_in_bytes_and_seconds() -> None:
    groups = (Group("a", 512 << 20, cost=20.0),)
    decision = GUARD.decide(View(0.0, 1 << 30, groups, 1144 << 20), Wish(0, "a whim"), State())
    assert decision.held == {"a": "120 MiB more free, and it could leave"}
    back = GUARD.told(State(), Act("a", False, "needed"), Outcome.DONE, 0.0)
    assert GUARD.decide(View(5.0, 1 << 30, groups, 0), Wish(0, "a whim"), back).held == {
        "a": "it came back, and pays for that in 15 s"
    }


def test_zones_of_the_kernel_that_are_full_keep_a_bank_in_and_say_so() -> None:
    """20 MiB it used lately and 5 now: as much is to stay, whatever Movable memory has room for."""
    groups, mib = (Group("a", 512 << 20, cost=20.0),), 1 << 20
    looks = (
        View(at, 1 << 30, groups, 100 * mib, kernel=Kernel(own, 9 * mib))
        for at, own in ((0.0, 20 * mib), (9.0, 5 * mib))
    )
    state = State()
    for view in looks:
        decision = GUARD.decide(view, Wish(0, "a whim"), state)
        state = decision.state
    assert decision.held == {"a": "kernel zones would keep 9 MiB; 15 MiB are to stay"}
    assert state.kernel == (5 * mib, 20 * mib)


def test_half_of_what_the_kernel_had_is_forgotten_in_time() -> None:
    state = State(at=0.0, kernel=(0, 100))
    later = Guard(memory=60.0).decide(View(60.0, FIXED, GROUPS, 0, kernel=Kernel(40, 9)), Wish(0, "a whim"), state)
    assert later.state.kernel == (20, 70)


def test_how_long_a_return_takes_is_learnt_first_from_the_first_leaving() -> None:
    """A rise of 3 a second, looked at every 2 s: room for as many more seconds as it took."""
    told, rising = GUARD.told, View(2.0, FIXED, GROUPS, 6)
    left = told(State(at=0.0, used=0), Act("a", True, ""), Outcome.DONE, 0.0, 7.0)
    back = told(left, Act("a", False, ""), Outcome.DONE, 0.0, 1.0)
    again = told(back, Act("a", False, ""), Outcome.DONE, 0.0, 5.0)
    found = [GUARD.least(rising, state) for state in (State(at=0.0, used=0), left, back, again)]
    assert found == [6 + RESERVE + round(3 * (2 + seconds)) for seconds in (0.5, 7.0, 3.5, 5.0)]
