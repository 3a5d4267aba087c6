# SPDX-License-Identifier: Apache-2.0
"""Looks, decides and has it carried out, again and again: the loop around policy and guard.

It is given eyes (what can be read of a machine) and hands (what takes banks out and brings them back), and one step of
it is one look. What it can't see it does not decide; after a blind look everything is looked at anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hotbank.errors import Code, HotbankError
from hotbank.govern.banks import Bunch, Parts, bunches, needed_to_return, view
from hotbank.govern.guard import Act, Guard, Outcome, State
from hotbank.govern.policy import Policy, Wish
from hotbank.govern.status import Deed, Standing
from hotbank.govern.view import View
from hotbank.machine import Reading, Snapshot
from hotbank.numbers import finite

SETTLES = 60.0  # seconds in which it shows whether what left is missed
# Somebody else is at work, or who is ordered is about to end: it says nothing of the bank.
_NOBODYS_FAULT = (Code.BUSY_TRANSACTION, Code.NO_MACHINE)


class Eyes(Protocol):
    """What is read of a machine."""

    def reading(self) -> Reading:
        """How it feels; cheap."""

    def snapshot(self) -> Snapshot:
        """Its banks and domains."""


class Hands(Protocol):
    """What is done to a machine: Outcome.DONE if it was done wholly. ``taken``: banks that a governor moved last, by
    the machine's own record: True where it took them out, False where it brought them back; None where nothing is
    recorded."""

    def remove(self, banks: Sequence[str]) -> Outcome:
        """Out, and dark."""

    def add(self, banks: Sequence[str]) -> Outcome:
        """On, and back in."""

    def taken(self) -> Mapping[str, bool] | None:
        """What is to be brought back, whoever of us took it, and what was."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one look came to. ``blind``: why nothing could be seen; then there is no ``view`` and nothing is done.
    ``standings``: as it is now."""

    at: float
    view: View | None
    wish: Wish | None
    deeds: tuple[Deed, ...]
    standings: tuple[Standing, ...]
    blind: str = ""


@dataclass(slots=True)
class _Seen:
    """What is known from the last snapshot."""

    bunches: tuple[Bunch, ...]
    page_size: int
    managed: int
    guard: Guard
    stale: bool = False


class Governor:
    """One machine under one policy. ``state``: what the guard knew before a restart. ``owner``: bytes that whoever
    carries out orders takes at most on that machine, while it does. ``dry``: decides and does nothing; what it would
    have taken counts as taken, so that its story goes on.
    """

    def __init__(
        self,
        eyes: Eyes,
        hands: Hands,
        policy: Policy,
        guard: Guard,
        parts: Parts,
        *,
        state: State | None = None,
        owner: int = 0,
        dry: bool = False,
    ) -> None:
        self._eyes, self._hands, self._policy, self.guard, self._parts = eyes, hands, policy, guard, parts
        self.state, self._owner = state or guard.begin(), owner
        self._knows: Any = None
        self._begun = False
        self._seen: _Seen | None = None
        self._refaults: int | None = None
        self._dry: set[str] | None = set() if dry else None
        self._missed: dict[str, tuple[float, int]] = {}

    def pause(self, why: str) -> None:
        """Take nothing until ``resume``; what was taken still comes back when it is needed."""
        self.state = replace(self.state, paused=why)

    def resume(self) -> None:
        """Decide again, whatever another hand has done meanwhile."""
        self.state = replace(self.state, paused="", expected=None)
        self._seen = None

    def step(self, *, pressed: bool = False) -> Step:
        """One look, and what follows from it. Errors of the machine make it blind; others are raised. ``pressed``: the
        kernel has said that tasks wait for memory, whatever the averages say yet."""
        try:
            now = self._look()
        except HotbankError as e:
            self._seen = None
            return Step(self.state.at or 0.0, None, None, (), (), blind=str(e))
        now = replace(now, pressed=True) if pressed else now
        self._recollect(now)
        wish = self._wished(now)
        assert self._seen is not None  # there was a look
        decision = self._seen.guard.decide(now, wish, self.state)
        self.state = decision.state
        deeds = (*(self._carried_out(act, now) for act in decision.acts), *self._regretted(now))
        return Step(now.at, now, wish, deeds, tuple(self._standings(now, decision.held, deeds)))

    def _wished(self, now: View) -> Wish:
        """What the policy wishes. One that fails, or wishes for no amount, gets what is there: nothing leaves, and what
        the guard misses comes back all the same."""
        try:
            if not self._begun:
                self._knows, self._begun = self._policy.begin(), True
            wish, knows = self._policy.decide(now, self._knows)
            keep, foreseen = _bytes(wish.keep), _bytes(wish.foreseen)
            wished = Wish(keep, str(wish.why), foreseen)
        except Exception as e:  # it is anybody's, and whatever it does, who governs must bring back what is missed
            return Wish(now.supply, f"as it is: the policy failed ({type(e).__name__}: {e})")
        self._knows = knows
        return wished

    def _look(self) -> View:
        reading = self._eyes.reading()
        managed = reading.managed
        if self._seen is None or self._seen.stale or self._seen.managed != managed:
            snapshot = self._eyes.snapshot()
            found = bunches(snapshot, self._parts)
            reserve = needed_to_return(snapshot, [bunch.group for bunch in found], self._owner)
            self._seen = _Seen(found, snapshot.page_size, managed, self._guarding(reserve))
        seen, refaulted = self._seen, self._refaulted(reading.refaults)
        groups = [bunch.group for bunch in seen.bunches]
        now = view(reading, seen.page_size, groups, refaulted)
        return now if self._dry is None else _as_if(now, self._dry)

    def _guarding(self, reserve: int) -> Guard:
        """The guard, with the reserve that the next return needs, if that is more."""
        return self.guard if reserve <= self.guard.reserve else replace(self.guard, reserve=reserve)

    def _recollect(self, now: View) -> None:
        """Where banks are not as they were left, the machine's record says which of them are ours after all.

        An order of ours may have been carried out although nobody told us, or one before us may have given it. What
        came in and was not brought back by one of us stays ours for this look, so that the guard sees another hand.
        """
        if self.state.expected is not None and set(self.state.expected) == now.less:
            return
        taken = self._hands.taken() if self._dry is None and self._seen is not None else None
        if taken is None or self._seen is None:
            return
        ours = self._of(bank for bank, out in taken.items() if out) & now.less
        settled = now.dark | self._of(bank for bank, out in taken.items() if not out)
        known = tuple(name for name in self.state.ours if name in ours or name not in settled)
        state = replace(self.state, ours=(*known, *sorted(ours - set(known))))
        if state.expected is not None:  # what we did is nobody else's hand
            done = ours & now.dark
            expected, dark = set(state.expected) | done, set(state.dark) | done
            state = replace(state, expected=tuple(sorted(expected)), dark=tuple(sorted(dark)))
        self.state = state

    def _of(self, banks: Iterable[str]) -> set[str]:
        """The groups that any of these banks are in."""
        assert self._seen is not None  # there was a look
        named = set(banks)
        return {bunch.group.name for bunch in self._seen.bunches if named.intersection(bunch.banks)}

    def _refaulted(self, refaults: int | None) -> int:
        """Pages read again since the look before; none where that is not told."""
        before, self._refaults = self._refaults, refaults
        return 0 if before is None or refaults is None else max(0, refaults - before)

    def _standings(self, now: View, held: Mapping[str, str], deeds: Iterable[Deed]) -> Iterator[Standing]:
        assert self._seen is not None  # there was a look
        moved = {deed.group: deed for deed in deeds}
        for bunch, group in zip(self._seen.bunches, now.groups, strict=True):
            deed, dark, why = moved.get(group.name), group.dark, bunch.why or held.get(group.name, "")
            if deed is not None and deed.outcome in (Outcome.FAILED, Outcome.PUT_OFF):
                why = f"{deed.why}, but it {'failed' if deed.outcome is Outcome.FAILED else 'was put off'}"
            elif deed is not None:
                dark, why = deed.dark, deed.why
            ours = group.name in self.state.ours
            yield Standing(group.name, bunch.banks, group.size, dark, ours, _from_dark(bunch) if dark else why)

    def _carried_out(self, act: Act, now: View, wholly: Outcome = Outcome.DONE) -> Deed:
        """Have it done; ``wholly``: what it comes to then."""
        done = self._done(act)
        outcome = wholly if done is Outcome.DONE else done
        self.state = self.guard.told(
            self.state, act, outcome, now.at, self._since(now) if done is Outcome.DONE else 0.0
        )
        self._missed.pop(act.group, None)
        if act.dark and outcome is Outcome.DONE:
            self._missed[act.group] = (now.at + SETTLES, 0)
        return Deed(act.group, act.dark, act.why, outcome)

    def _since(self, look: View) -> float:
        """Seconds from a look until now; 0 where nobody can tell, or nothing is really done."""
        if self._dry is None:
            with suppress(HotbankError):
                return self._eyes.reading().at - look.at
        return 0.0

    def _done(self, act: Act) -> Outcome:
        assert self._seen is not None  # there was a look
        if self._dry is not None:
            (self._dry.add if act.dark else self._dry.discard)(act.group)
            return Outcome.DONE
        banks = next(bunch.banks for bunch in self._seen.bunches if bunch.group.name == act.group)
        self._seen.stale = True
        try:
            return self._hands.remove(banks) if act.dark else self._hands.add(banks)
        except HotbankError as e:
            return Outcome.PUT_OFF if e.code in _NOBODYS_FAULT else Outcome.FAILED

    def _regretted(self, now: View) -> Iterator[Deed]:
        """What left lately and is missed: half of its size was read again since. It comes back, and is banned."""
        sizes = {group.name: group.size for group in now.groups}
        for name, (until, missed) in tuple(self._missed.items()):
            missed += now.refaulted
            self._missed[name] = (until, missed)
            if missed >= sizes[name] // 2 and name in self.state.ours:
                yield self._carried_out(Act(name, False, "what left is read again"), now, Outcome.USELESS)
            elif now.at >= until:
                del self._missed[name]


def _bytes(wished: object) -> int:
    number = finite(wished)
    if number is None:
        raise ValueError(f"{wished!r:.40} is no number of bytes")
    return round(number)


def _from_dark(bunch: Bunch) -> str:
    return "stands by: offline, with its power on" if bunch.stands_by else ""


def _as_if(found: View, dark: set[str]) -> View:
    """The look that it would be, were these out."""
    groups = tuple(replace(g, dark=g.dark or g.name in dark) for g in found.groups)
    return replace(found, groups=groups)
