# SPDX-License-Identifier: Apache-2.0
"""What any policy has to pass before a bank is switched.

* Below the reserve nothing is taken, and what the governor took comes back, at once, paused or not.
* The kernel's own memory has its zones alone, and what moves there stays there: they keep the reserve, and room for it
  to be what it was lately, or to grow as much again.
* Under pressure nothing is taken, and something comes back at each look until the pressure is over.
* A bank that came back stays until it has earned what leaving and coming back cost; so much is taken in an hour, and no
  more.
* What failed or did not help is banned, for twice as long each time.
* Another hand's work is noticed: the governor pauses, and never touches what it did not take itself.

All of it is a pure function of the look, the wish and a state that is a value: a restart hands it on, a blind governor
decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from hotbank.govern.policy import Wish
from hotbank.govern.view import Group, Kernel, View

_HOUR = 3600.0


class Outcome(StrEnum):
    """What came of an act."""

    DONE = "done"
    FAILED = "failed"
    PUT_OFF = "put off"  # somebody else was at work: nothing was learnt
    USELESS = "useless"  # done, but what was gained was lost again at once


@dataclass(frozen=True, slots=True)
class Act:
    """Take a group out, or bring it back, and why."""

    group: str
    dark: bool
    why: str


@dataclass(frozen=True, slots=True)
class Ban:
    """Not before that moment; and for how long the ban was."""

    until: float
    seconds: float


@dataclass(frozen=True, slots=True)
class State:
    """What the guard knows, groups by name.

    ``ours``: those that the governor took. ``expected``: those of which anything should be out, ``dark``: those of
    which all should; None before the first look. ``returned``: when one came back last. ``taken``: when any was taken,
    in the last hour. ``used``: of the look before, at ``at``. ``takes``: seconds from the look that orders a return
    until it is there, as it went lately; before any, those of the first leaving. ``paused``: why nothing is taken;
    empty where it may be. ``kernel``: the least and the most that the kernel's own memory was lately, in bytes; None
    where nobody could tell.
    """

    ours: tuple[str, ...] = ()
    expected: tuple[str, ...] | None = None
    dark: tuple[str, ...] = ()
    returned: Mapping[str, float] = field(default_factory=dict)
    taken: tuple[float, ...] = ()
    bans: Mapping[str, Ban] = field(default_factory=dict)
    at: float | None = None
    used: int = 0
    takes: float = 0.0
    paused: str = ""
    kernel: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, in order; and per group that stays in, why it does."""

    acts: tuple[Act, ...]
    held: Mapping[str, str]
    state: State


@dataclass(frozen=True, slots=True)
class Guard:
    """Settings: the same for every policy.

    ``reserve``: bytes that stay free at any rate: the memory map and page tables of what returns next, and what the
    owner itself needs at most. ``returning``: seconds until what is ordered is there, or what it took lately where that
    is more; ``foresight``: how much of the last rise to expect again until then. ``hourly``: groups taken in an hour at
    most. ``ban``: seconds of the first ban; ``longest`` of the last. ``memory``: seconds in which half of what the
    kernel's own memory was lately is forgotten.
    """

    reserve: int = 0
    returning: float = 0.5
    foresight: float = 1.0
    hourly: int = 60
    ban: float = 120.0
    longest: float = 86400.0
    memory: float = 21600.0

    def begin(self) -> State:
        """What is known before the first look."""
        return State()

    def decide(self, view: View, wish: Wish, state: State) -> Decision:
        """What of the wish may be done now. Raises nothing and does nothing."""
        least, state = self.least(view, state), self._looked(view, state)
        least += self._for_the_kernel(view, wish, state, least)
        back = self._back(view, wish, state, least)
        if back:
            return Decision(back, {}, state)
        return self._taken(view, wish, state, least)

    def _taken(self, view: View, wish: Wish, state: State, least: int) -> Decision:
        """From the top, as many as may leave."""
        acts: list[Act] = []
        held: dict[str, str] = {}
        left, room = view.supply, self.hourly - len(state.taken)
        for group in _from_the_top([group for group in view.groups if not group.dark]):
            why = self._held(group, view, state) or self._wanted(left - group.size, wish, least)
            why = why or self._crowded(left - group.size, view, state)
            why = why or ("" if len(acts) < room else f"{self.hourly} were taken in the last hour")
            if why:
                held[group.name] = why
            else:
                acts.append(Act(group.name, True, f"{_size(left - max(least, wish.keep))} more than are to be kept"))
                left -= group.size
        return Decision(tuple(acts), held, state)

    def told(self, state: State, act: Act, outcome: Outcome, at: float, took: float = 0.0) -> State:
        """With what came of an act. ``took``: seconds from the look that ordered it; 0 where nobody knows."""
        if outcome is Outcome.PUT_OFF:
            return state
        if outcome is not Outcome.DONE:
            state = self._banned(state, act.group, at)
        if outcome is Outcome.FAILED:
            return state
        expected, dark = set(state.expected or ()), set(state.dark)
        if act.dark:
            ours = (*(name for name in state.ours if name != act.group), act.group)
            now = replace(state, expected=_names(expected | {act.group}), dark=_names(dark | {act.group}))
            return replace(now, takes=state.takes or took, ours=ours, taken=(*state.taken, at))
        return replace(
            state,
            ours=tuple(name for name in state.ours if name != act.group),
            expected=_names(expected - {act.group}),
            dark=_names(dark - {act.group}),
            returned={**state.returned, act.group: at},
            takes=max(took, state.takes / 2),
        )

    def least(self, view: View, state: State) -> int:
        """Bytes below which nothing is taken: what is used, what it grows by before more is there, the reserve, and
        what is free and can't be a part of that."""
        passed = 0.0 if state.at is None else view.at - state.at
        rise = max(0.0, (view.used - state.used) / passed) if passed > 0 else 0.0
        foreseen = round(self.foresight * rise * (passed + max(self.returning, state.takes)))
        return view.used + view.lent + self.reserve + foreseen

    def _for_the_kernel(self, view: View, wish: Wish, state: State, least: int) -> int:
        """Bytes more that are to be there, so that what the policy foresees leaves its zones what the kernel's own
        memory may grow by. No more of that than they have room for: what lies there already no return brings out."""
        growth = 0 if view.kernel is None else min(view.kernel.room, _growth(view.kernel, state.kernel))
        return growth and growth + max(0, wish.foreseen + view.lent + self.reserve - least)

    def _lately(self, view: View, state: State) -> tuple[int, int] | None:
        """The least and the most of the kernel's own memory, both nearing what it is now as time goes by."""
        if view.kernel is None:
            return state.kernel
        used, passed = view.kernel.used, 0.0 if state.at is None else view.at - state.at
        kept = 0.5 ** (passed / self.memory) if self.memory > 0 else 0.0
        low, high = (used + round((bound - used) * kept) for bound in state.kernel or (used, used))
        return min(low, used), max(high, used)

    def _looked(self, view: View, state: State) -> State:
        less, dark = _names(view.less), _names(view.dark)
        as_left = (less, dark) == (state.expected, state.dark)
        return State(
            ours=tuple(name for name in state.ours if name in view.less),
            expected=less,
            dark=dark,
            returned=state.returned,
            taken=tuple(at for at in state.taken if at > view.at - _HOUR),
            bans=state.bans,
            at=view.at,
            used=view.used,
            takes=state.takes,
            paused=state.paused or ("" if as_left else _another_hand(view, state)),
            kernel=self._lately(view, state),
        )

    def _back(self, view: View, wish: Wish, state: State, least: int) -> tuple[Act, ...]:
        """What returns: the last that left first, as many as are missing; under pressure one more than none."""
        missing = max(least, min(wish.keep, view.total)) - view.supply
        why = "less than the reserve is free" if least > view.supply else wish.why
        acts: list[Act] = []
        for name in reversed(state.ours):
            if missing <= 0 and (acts or not view.pressed):
                break
            acts.append(Act(name, False, why if missing > 0 else "tasks wait for memory"))
            missing -= next(g.size - g.inside for g in view.groups if g.name == name)
        return tuple(acts)

    def _held(self, group: Group, view: View, state: State) -> str:
        """What speaks against taking a group, whatever is wanted; empty for nothing."""
        ban, back = state.bans.get(group.name), state.returned.get(group.name)
        if state.paused:
            return f"paused: {state.paused}"
        if view.pressed:
            return "tasks wait for memory"
        if group.name in view.less:
            return "part of it is out already"
        if group.cost == math.inf:
            return "being dark would save nothing"
        if ban is not None and view.at < ban.until:
            return f"banned for {ban.until - view.at:.0f} s more"
        if back is not None and view.at - back < group.cost:
            return f"it came back, and pays for that in {group.cost - (view.at - back):.0f} s"
        return ""

    def _wanted(self, left: int, wish: Wish, least: int) -> str:
        """Whether what would be left is too little."""
        if left < least:
            return f"{_size(least - left)} more free, and it could leave"
        return f"the policy keeps it: {wish.why}" if left < wish.keep else ""

    def _crowded(self, left: int, view: View, state: State) -> str:
        """Whether what moves, beyond what other Movable memory takes, would leave the kernel's zones too little."""
        if view.kernel is None:
            return ""
        keep = min(view.kernel.room, left - view.used - view.lent)
        needed = self.reserve + _growth(view.kernel, state.kernel)
        return "" if keep >= needed else f"kernel zones would keep {_size(keep)}; {_size(needed)} are to stay"

    def _banned(self, state: State, name: str, at: float) -> State:
        before = state.bans.get(name)
        seconds = self.ban if before is None else min(self.longest, 2 * before.seconds)
        return replace(state, bans={**state.bans, name: Ban(at + seconds, seconds)})


def _growth(kernel: Kernel, span: tuple[int, int] | None) -> int:
    """Bytes: to the most that there was lately, or as much again as it has grown since the least."""
    low, high = span or (kernel.used, kernel.used)
    return max(high - kernel.used, kernel.used - low)


def _from_the_top(groups: Sequence[Group]) -> Iterator[Group]:
    """The last first, as demand is thought to fill them from the first; of those of one size the cheapest first, since
    they are worth the same."""
    cheapest = sorted(groups, key=lambda group: (group.cost, group.name))
    alike = {size: iter([group for group in cheapest if group.size == size]) for size in {g.size for g in groups}}
    return (next(alike[group.size]) for group in reversed(groups))


def _another_hand(view: View, state: State) -> str:
    """What somebody else did since the last look that argues with the governor: brought in what it had taken, or took
    something out; empty for nothing. Who brings in what was dark before, as a unit does at boot, argues with nobody."""
    if state.expected is None:
        return ""
    came, went = set(state.ours) & set(state.dark) - view.dark, view.less - set(state.expected)
    words = [f"{name} came in by another hand" for name in sorted(came)]
    words += [f"{name} went out by another hand" for name in sorted(went)]
    return ", ".join(words)


def _names(groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(groups))


def _size(count: int) -> str:
    return f"{max(1, round(count / (1 << 20)))} MiB"
