# SPDX-License-Identifier: Apache-2.0
"""Published loops that hurt machines, restated, and our policies behind the guard, on the incidents that they caused.

The loops are restated from their public descriptions, scaled to the machine of workloads/incidents/board.toml and run
without any guard, as they were; what they wish for is done, bank by bank. In incident 4 another hand brings back
whatever is out at each look. In 7 all wish for a machine that is smaller than what is used, and the loop's limit comes
first.

    python bench/incidents.py [NAME...]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hotbank import board, operate
from hotbank.govern.banks import view as view_of
from hotbank.govern.guard import Act, Decision, Guard, State
from hotbank.govern.policy import Balance, Policy, Reserve, Wish
from hotbank.govern.settings import Settings
from hotbank.govern.view import View
from hotbank.load import script
from hotbank.memory import MIB, KernelState
from hotbank.model import Model
from hotbank.simulate import Load, Report, simulate

INCIDENTS = Path(__file__).resolve().parents[1] / "workloads/incidents"
NAMES = ("liveness", "idle-loop", "working-set", "two-hands", "burst", "sawtooth", "shrink")
SMALLER = 384 * MIB  # what the machine is to be in incident 7


@dataclass(frozen=True, slots=True)
class Balloon:
    """A balloon loop: a look every 5 s; with more than 384 MiB of 4 GiB free it takes up to 256 MiB, with less than
    192 MiB available it gives as much back; 1 GiB is kept. In steps, whatever is missing."""

    def begin(self) -> int | None:
        """Nothing taken."""
        return None

    def decide(self, view: View, state: int | None) -> tuple[Wish, int | None]:
        """``state``: the size it aims at."""
        goal, unit = view.supply if state is None else state, view.total // 64
        free = view.supply - view.used
        if free < 3 * unit:
            goal = min(view.total, goal + 4 * unit)
        elif free > 6 * unit:
            goal = max(view.total // 4, goal - min(4 * unit, free - 6 * unit))
        return Wish(goal, "balloon"), goal


@dataclass(frozen=True, slots=True)
class UsedAndALittle:
    """A loop of a desktop machine: what is used and 256 MiB of 4 GiB, every 5 s."""

    def begin(self) -> None:
        """Knows nothing."""

    def decide(self, view: View, state: None) -> tuple[Wish, None]:  # noqa: ARG002
        """Follows what is used."""
        return Wish(min(view.total, view.used + view.total // 16), "used and a little"), None


@dataclass(frozen=True, slots=True)
class Watermarks:
    """The first rule of `hotbank simulate`: every 10 s, below 10 % free one bank back; where 20 % would be free without
    one, three looks in a row, it is taken."""

    bank: int = 128 * MIB

    def begin(self) -> int:
        """No calm look yet."""
        return 0

    def decide(self, view: View, calm: int) -> tuple[Wish, int]:
        """One bank at a time."""
        free, less = view.supply - view.used, view.supply - self.bank
        if free < 0.1 * view.supply:
            return Wish(min(view.total, view.supply + self.bank), "short"), 0
        calm = calm + 1 if less > view.fixed and less - view.used >= 0.2 * less else 0
        return (Wish(less, "calm"), 0) if calm >= 3 else (Wish(view.supply, "as it is"), calm)


@dataclass(frozen=True, slots=True)
class Smaller:
    """Wants the machine to be so small, whatever is used."""

    def begin(self) -> None:
        """Knows nothing."""

    def decide(self, view: View, state: None) -> tuple[Wish, None]:  # noqa: ARG002
        """Always the same."""
        return Wish(SMALLER, "a smaller machine"), None


@dataclass(frozen=True)
class Unguarded(Guard):
    """Does what is wished, and asks nothing."""

    def decide(self, view: View, wish: Wish, state: State) -> Decision:
        """As many banks in or out as the wish says."""
        left, acts = view.supply, list[Act]()
        for group in view.groups:
            if group.dark and left < wish.keep:
                acts.append(Act(group.name, False, wish.why))
                left += group.size
        for group in view.groups:
            if not group.dark and not acts and left - group.size >= wish.keep:
                acts.append(Act(group.name, True, wish.why))
                left -= group.size
        return Decision(tuple(acts), {}, self._looked(view, state))


@dataclass(frozen=True)
class Bare(Settings):
    """Settings without a guard."""

    def guarded(self) -> Guard:
        """None to speak of."""
        return Unguarded()


@dataclass(frozen=True)
class Watched:
    """A policy, and what it saw: when, bytes used and bytes there. ``hand``: what somebody else does at each look."""

    policy: Policy
    hand: Callable[[], None]
    seen: list[tuple[float, int, int]] = field(default_factory=list)

    def begin(self) -> Any:
        """As the policy."""
        return self.policy.begin()

    def decide(self, view: View, state: Any) -> tuple[Wish, Any]:
        """As the policy."""
        self.seen.append((view.at, view.used, view.supply))
        self.hand()
        return self.policy.decide(view, state)


OURS: Mapping[str, Settings] = {
    "balance": Settings("balance", Balance()),
    "reserve": Settings("reserve", Reserve()),
}
LOOPS: Mapping[str, Settings] = {
    "balloon": Bare("balloon", Balloon(), every=5.0),
    "used and a little": Bare("used and a little", UsedAndALittle(), every=5.0),
    "watermarks": Bare("watermarks", Watermarks(), every=10.0),
}
SHRINKING: Mapping[str, Settings] = {
    "smaller, guarded": Settings("smaller", Smaller()),
    "limit first": Bare("limit first", Smaller(), every=5.0),
}


def policies(name: str) -> Mapping[str, Settings]:
    """Those that an incident is played with."""
    return SHRINKING if name == "shrink" else {**OURS, **LOOPS}


def rival(model: Model) -> None:
    """Brings in whatever is out, as a rule of udev does."""
    for bank in model.snapshot().banks:
        if bank.kernel is KernelState.ABSENT:
            operate.add(model, bank.name)


def limit_first(model: Model) -> None:
    """Lowers the limit before anything is moved, so that the machine kills until what is used fits."""
    while view_of(model.reading(), model.board.page_size, ()).used > SMALLER and model.tasks.kill():
        pass


def hand_of(name: str, settings: Settings) -> Callable[[Model], None]:
    """Who else is at work in an incident."""
    if name == "two-hands":
        return rival
    return limit_first if name == "shrink" and isinstance(settings, Bare) else lambda _: None


@dataclass(frozen=True, slots=True)
class Lived:
    """What an incident came to. ``killed``: processes, ``refused``: requests, both beyond what happens without anybody;
    ``short``: the longest time in seconds with less than ``spare`` bytes free; ``again``: bytes of page cache that were
    dropped and read again; ``switches``: how many; ``net``: what was saved less what switching was worth, as a share of
    what all banks take."""

    killed: int
    refused: int
    short: float
    again: int
    switches: int
    net: float


def live(name: str, settings: Settings, spare: int = 4 * MIB) -> Lived:
    """One incident under one policy."""
    load, plan = Load(script.load(INCIDENTS / f"{name}.toml")), board.load(INCIDENTS / "board.toml")
    hand, booted = hand_of(name, settings), list[Model]()
    watched = Watched(settings.policy, lambda: hand(booted[-1]))

    def boot() -> Model:
        booted.append(Model.boot(plan, backend="reference"))
        return booted[-1]

    report = simulate(boot, load, replace(settings, policy=watched))
    return _lived(report, watched, settings.every, spare)


def _lived(report: Report, watched: Watched, every: float, spare: int) -> Lived:
    longest = run = 0
    for _, used, supply in watched.seen:
        run = run + 1 if supply - used < spare else 0
        longest = max(longest, run)
    harm, alone, result = report.harm, report.baseline, report.result
    net = (result.always_on - result.bill.total) / result.always_on
    refused = harm.refused_acts - alone.refused_acts
    again = (harm.refaults - alone.refaults) * report.snapshot.page_size
    return Lived(harm.oom_kills - alone.oom_kills, refused, longest * every, again, result.switches, net)


def main() -> int:
    """Print the table."""
    print("incident    policy             killed refused  short s  again, MiB  switches  net saved")
    for name in sys.argv[1:] or NAMES:
        for policy, settings in policies(name).items():
            it = live(name, settings)
            row = f"{it.killed:>6} {it.refused:>7} {it.short:>8.0f} {it.again / MIB:>11.0f}"
            print(f"{name:<11} {policy:<18} {row} {it.switches:>9} {it.net:>10.1%}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
