# SPDX-License-Identifier: Apache-2.0
"""How much memory to keep: pure functions of a look and of what was seen before.

`reserve` keeps a share of the machine free and waits a fixed time. `balance` treats each group of banks as a ski rental
(gaps.py), and foresees by the demand's own slope what the way back will take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import Any, Protocol

from hotbank.govern.gaps import Gaps
from hotbank.govern.view import Group, View


@dataclass(frozen=True, slots=True)
class Wish:
    """Bytes that should stay in the kernel, and why. ``foreseen``: what may be used before more could be there; 0: no
    more than now."""

    keep: int
    why: str
    foreseen: int = 0


class Policy(Protocol):
    """Any policy: where it begins, and what it wishes. What it knows is a value of its own making."""

    def begin(self) -> Any:
        """What it knows before the first look."""

    def decide(self, view: View, state: Any) -> tuple[Wish, Any]:
        """Its wish, and what it knows now."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Keeps what is used, ``headroom`` (share of the machine) beside it, and what that was at any time of the last
    ``patience`` seconds."""

    headroom: float = 0.05
    patience: float = 35.0

    def begin(self) -> tuple[tuple[float, int], ...]:
        """Nothing wanted yet."""
        return ()

    def decide(self, view: View, state: tuple[tuple[float, int], ...]) -> tuple[Wish, tuple[tuple[float, int], ...]]:
        """The most that was wanted lately. ``state``: times, and what was wanted then, falling."""
        wanted = view.used + round(self.headroom * view.total)
        recent = [(at, most) for at, most in state if at >= view.at - self.patience and most > wanted]
        now = (*recent, (view.at, wanted))
        return Wish(now[0][1], f"{self.headroom:.0%} of the machine beside what is used"), now


Idle = tuple[float | None, ...]
"""Since when each level is idle; None: it is needed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What `balance` remembers: the last look and the seconds ``between`` it and the one before, the rise then and the
    steepest lately (bytes a second), and per level since when it is idle (None: it is needed) and the gaps it had."""

    at: float | None = None
    between: float = 0.0
    used: int = 0
    slope: float = 0.0
    steepest: float = 0.0
    idle: Idle = ()
    gaps: tuple[Gaps, ...] = ()


@dataclass(frozen=True, slots=True)
class Balance:
    """One ski rental per level of demand.

    ``returning``: seconds that a return takes. ``floor``: share of the machine that stays free at any rate. ``memory``:
    seconds in which the steepest rise is half forgotten. ``guess``: how much of the steepest rise to be ready for;
    ``foresight``: how much of the last one.
    ``trust``: see gaps.py; 1 is the deterministic rule that is never worse than twice the clairvoyant.
    """

    returning: float = 0.5
    floor: float = 0.001
    memory: float = 900.0
    guess: float = 0.75
    foresight: float = 1.0
    trust: float = 0.25

    def begin(self) -> Seen:
        """Nothing seen."""
        return Seen()

    def decide(self, view: View, state: Seen) -> tuple[Wish, Seen]:
        """Keep each level that is needed by the demand as foreseen, or was so until less than its patience ago."""
        passed, slope, steepest = self._risen(view, state)
        foreseen = view.used + round(self.margin(view.total, slope, steepest, passed))
        levels, bottom = _levels(view)
        starts = list(accumulate((group.size for group in levels), initial=bottom))
        idle, gaps = _counted(view.at, state, [foreseen > start for start in starts[:-1]])
        top = self._top(view.at, levels, idle, gaps)
        wish = Wish(max(starts[top], min(foreseen, view.total)), _why(view.at, idle, top), foreseen)
        return wish, Seen(view.at, passed, view.used, slope, steepest, idle, gaps)

    def margin(self, total: int, slope: float, steepest: float, between: float) -> float:
        """Bytes to have beside what is used, of ``total``: see Seen."""
        rise = max(self.foresight * slope, self.guess * steepest, 0.0)
        return self.floor * total + rise * (between + self.returning)

    def _risen(self, view: View, state: Seen) -> tuple[float, float, float]:
        """Seconds since the last look, the slope since then, and the steepest lately."""
        passed = 0.0 if state.at is None else view.at - state.at
        slope = (view.used - state.used) / passed if passed > 0 else 0.0
        kept = 0.5 ** (passed / self.memory) if self.memory > 0 else 0.0
        return passed, slope, max(slope, state.steepest * kept)

    def _top(self, at: float, levels: Sequence[Group], idle: Idle, gaps: Sequence[Gaps]) -> int:
        """Levels that are kept: those up to the highest that is needed, or was so until less than its patience ago."""
        for level in reversed(range(len(levels))):
            since = idle[level]
            if since is None or gaps[level].lasts(at - since, levels[level].cost, self.trust):
                return level + 1
        return 0


def _levels(view: View) -> tuple[list[Group], int]:
    """The groups that may leave, and the bytes below them: what never does is used first, wherever it stands."""
    stays = [group for group in view.groups if group.cost == inf]
    return [group for group in view.groups if group.cost < inf], view.fixed + sum(group.inside for group in stays)


def _counted(at: float, state: Seen, needed: Sequence[bool]) -> tuple[Idle, tuple[Gaps, ...]]:
    """Each level's idleness begun, gone on or ended. A level that was not there before begins as needed."""
    if needed == [since is None for since in state.idle]:
        return state.idle, state.gaps
    missing = len(needed) - len(state.idle)
    idle = [*state.idle[: len(needed)], *[None] * missing]
    gaps = [*state.gaps[: len(needed)], *[Gaps() for _ in range(missing)]]
    for level, need in enumerate(needed):
        since = idle[level]
        if need and since is not None:
            gaps[level] = gaps[level].seen(at - since)
        idle[level] = None if need else at if since is None else since
    return tuple(idle), tuple(gaps)


def _why(at: float, idle: Idle, top: int) -> str:
    """In words. ``top``: levels that are kept."""
    since = idle[top - 1] if top else None
    if since is None:
        return "what is used, and what it may grow by before more is there"
    return f"nothing has needed the last of it for {at - since:.0f} s, and its return would cost more"
