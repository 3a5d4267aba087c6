# SPDX-License-Identifier: Apache-2.0
"""`balance` and the guard's look the plain way: every level's patience asked of its past at each look, every set made
anew, one change at a time. What the shipped ones decide is held against these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from hotbank.govern.gaps import Gaps
from hotbank.govern.guard import Guard, State, _another_hand
from hotbank.govern.policy import Balance, Seen, Wish
from hotbank.govern.view import View


@dataclass(frozen=True, slots=True)
class PlainBalance(Balance):
    def decide(self, view: View, state: Seen) -> tuple[Wish, Seen]:
        stays = [group for group in view.groups if group.cost == math.inf]
        leave = tuple(group for group in view.groups if group not in stays)
        bottom = replace(view, fixed=view.fixed + sum(group.inside for group in stays), groups=leave)
        return self._of_levels(bottom, view.total, state)

    def _of_levels(self, view: View, total: int, state: Seen) -> tuple[Wish, Seen]:
        state = self._with_slope(view, state)
        foreseen = view.used + round(self.margin(total, state.slope, state.steepest, state.between))
        starts = list(accumulate((group.size for group in view.groups), initial=view.fixed))
        state = counted(view, state, [foreseen > start for start in starts[:-1]])
        kept = [self._kept(view, state, level) for level in range(len(view.groups))]
        top = max((level + 1 for level, keep in enumerate(kept) if keep), default=0)
        return Wish(max(starts[top], min(foreseen, total)), f"{top} levels"), state

    def _with_slope(self, view: View, state: Seen) -> Seen:
        passed = 0.0 if state.at is None else view.at - state.at
        slope = (view.used - state.used) / passed if passed > 0 else 0.0
        kept = 0.5 ** (passed / self.memory) if self.memory > 0 else 0.0
        steepest = max(slope, state.steepest * kept)
        return replace(state, at=view.at, between=passed, used=view.used, slope=slope, steepest=steepest)

    def _kept(self, view: View, state: Seen, level: int) -> bool:
        since = state.idle[level]
        return since is None or view.at - since < state.gaps[level].patience(view.groups[level].cost, self.trust)


def counted(view: View, state: Seen, needed: Sequence[bool]) -> Seen:
    missing = len(needed) - len(state.idle)
    idle = [*state.idle[: len(needed)], *[None] * missing]
    gaps = [*state.gaps[: len(needed)], *[Gaps() for _ in range(missing)]]
    for level, need in enumerate(needed):
        since = idle[level]
        if need and since is not None:
            gaps[level] = gaps[level].seen(view.at - since)
        idle[level] = None if need else view.at if since is None else since
    return replace(state, idle=tuple(idle), gaps=tuple(gaps))


@dataclass(frozen=True, slots=True)
class PlainGuard(Guard):
    def _looked(self, view: View, state: State) -> State:
        paused = state.paused or _another_hand(view, state)
        there = tuple(name for name in state.ours if name in view.less)
        recent = tuple(at for at in state.taken if at > view.at - 3600.0)
        found = replace(state, expected=tuple(sorted(view.less)), dark=tuple(sorted(view.dark)))
        return replace(found, ours=there, taken=recent, at=view.at, used=view.used, paused=paused)
