# SPDX-License-Identifier: Apache-2.0
"""A demand against banks, without pages: what a policy behind the guard would have saved, and when it was short.

The policy looks and sees the demand of that moment; what it brings back is there ``returning`` seconds later, and takes
power at once. Between two samples the demand is a straight line and the policy looks every ``period`` seconds; or it
comes in steps, all of a sample at its moment, and the policy looks at samples only, so that each rise meets what was
decided before it. A sample is short if at any moment up to it, since the one before, there was more demand than memory.
A machine ends as it began, with everything in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf

from hotbank.govern.guard import Guard, Outcome
from hotbank.govern.optimum import Bill, Level, Stretch, optimum
from hotbank.govern.policy import Policy
from hotbank.govern.view import Group, View

Series = Sequence[tuple[float, int]]  # seconds and bytes, in order
"""A demand; where a moment stands twice, it jumps."""


@dataclass(frozen=True, slots=True)
class Park:
    """The memory, and how it is looked at. ``fixed`` bytes never leave. ``returning``: seconds until a bank is there,
    below ``period``. ``period``: seconds between looks at a demand of straight lines; None for one of steps.
    """

    fixed: int
    groups: tuple[Group, ...]
    period: float | None = None
    returning: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it; byte-seconds. ``optimum``: the clairvoyant's bill for the demand, as far as it was met."""

    bill: Bill
    optimum: Bill
    always_on: float
    samples: int
    short: int
    switches: int
    seconds: float

    @property
    def share(self) -> float | None:
        """What was saved of what could have been; None where nothing could. Who fills banks in another order than the
        board's may do better than the optimum, which does not: then the clairvoyant does the same."""
        possible = self.always_on - min(self.optimum.total, self.bill.total)
        return (self.always_on - self.bill.total) / possible if possible > 0 else None

    @property
    def shortage_permille(self) -> float:
        """Samples that were short, of a thousand."""
        return 1000 * self.short / self.samples if self.samples else 0.0

    @property
    def switches_per_hour(self) -> float:
        """Banks that left or came back."""
        return self.switches / self.seconds * 3600 if self.seconds else 0.0


def replay(demand: Series, park: Park, policy: Policy, guard: Guard | None = None) -> Result:
    """Run the demand. Raises ValueError for fewer than two samples."""
    if len(demand) < 2:
        raise ValueError("a demand has at least two samples")
    return _Run(park, policy, guard or Guard()).through(demand)


@dataclass(frozen=True, slots=True)
class Tick:
    """From one look to the next. Bytes: wanted at the look; at the most until what is ordered then is there, and
    afterwards. ``sample``: the number of the one that it belongs to."""

    at: float
    seconds: float
    seen: int
    early: int
    late: int
    sample: int


def steps(demand: Series) -> Iterator[Tick]:
    """A look at each sample, which holds until the next."""
    for number, ((at, wanted), (upto, _)) in enumerate(pairwise(demand)):
        yield Tick(at, upto - at, wanted, wanted, wanted, number)
    at, wanted = demand[-1]
    yield Tick(at, 0.0, wanted, wanted, wanted, len(demand) - 1)


def lines(demand: Series, period: float, returning: float) -> Iterator[Tick]:
    """A look every ``period`` seconds, straight lines between samples."""
    course = _Course(demand)
    at, end, place = demand[0][0], demand[-1][0], 0
    while at < end:
        upto = min(at + period, end)
        back, inside = min(at + returning, upto), []
        while demand[place][0] < upto:
            inside.append(demand[place])
            place += 1
        edge = course.at(back)
        early = [course.at(at), edge, *(wanted for when, wanted in inside if when <= back)]
        late = [edge, course.at(upto), *(wanted for when, wanted in inside if when > back)]
        yield Tick(at, upto - at, early[0], max(early), max(late), place)
        at = upto


class _Course:
    """What is wanted at a moment between samples; moments are asked in order, but for the last few."""

    def __init__(self, demand: Series) -> None:
        self._demand, self._place = demand, 0

    def at(self, when: float) -> int:
        place = self._place
        while place and self._demand[place][0] > when:
            place -= 1
        while place + 2 < len(self._demand) and self._demand[place + 1][0] <= when:
            place += 1
        self._place = place
        (t0, d0), (t1, d1) = self._demand[place], self._demand[place + 1]
        if t0 == t1:
            return d1
        return round(d0 + (d1 - d0) * (when - t0) / (t1 - t0))


class _Run:
    def __init__(self, park: Park, policy: Policy, guard: Guard) -> None:
        self._park, self._policy, self._guard = park, policy, guard
        self._stays = park.fixed + sum(group.size for group in park.groups if group.cost == inf)
        self._groups = park.groups
        self._knows, self._watch = policy.begin(), guard.begin()
        self._bill, self._switches = Bill(), 0
        self._met: list[Stretch] = []

    def through(self, demand: Series) -> Result:
        park, short = self._park, set[int]()
        for tick in steps(demand) if park.period is None else lines(demand, park.period, park.returning):
            before, after = self._look(tick)
            if tick.early > before or tick.late > after:
                short.add(tick.sample)
            self._met.append(Stretch(tick.seconds, min(max(tick.early, tick.late), after)))
            self._bill += Bill(on=(after - self._stays) * tick.seconds)
        self._bill += Bill(returns=sum(g.cost * g.size for g in self._groups if g.dark))
        seconds = demand[-1][0] - demand[0][0]
        levels = [Level(group.size, group.cost) for group in park.groups if group.cost < inf]
        all_on = sum(level.size for level in levels) * seconds
        best = optimum(self._met, self._stays, levels)
        return Result(self._bill, best, all_on, len(demand), len(short), self._switches, seconds)

    def _look(self, tick: Tick) -> tuple[int, int]:
        """Memory until what was ordered is there, and from then on."""
        view = View(tick.at, self._park.fixed, self._groups, tick.seen)
        wish, self._knows = self._policy.decide(view, self._knows)
        decision = self._guard.decide(view, wish, self._watch)
        self._watch = decision.state
        for act in decision.acts:
            self._switches += 1
            self._groups = tuple(replace(g, dark=act.dark) if g.name == act.group else g for g in self._groups)
            if not act.dark:
                group = next(g for g in self._groups if g.name == act.group)
                self._bill += Bill(returns=group.cost * group.size)
            self._watch = self._guard.told(self._watch, act, Outcome.DONE, tick.at)
        after = View(tick.at, self._park.fixed, self._groups, tick.seen).supply
        taken = sum(g.size for g in self._groups if g.dark and g.name not in view.dark)
        return view.supply - taken, after
