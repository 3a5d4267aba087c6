# SPDX-License-Identifier: Apache-2.0
"""What is decided, and what is remembered, is the same as by the plain twins, look by look."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from govern.plainly import PlainBalance, PlainGuard
from hotbank import memspec
from hotbank.govern.guard import Act, Guard, Outcome, State
from hotbank.govern.policy import Balance, Wish
from hotbank.govern.replay import Park, Series
from hotbank.govern.view import Group, View
from hotbank.load import trace
from hotbank.sweep import paper

TRACES = Path(__file__).resolve().parents[1] / "data/traces"
PART = "micron-4gb-lpddr3-1600-x32"


def decided(demand: Series, park: Park, policy: Balance, guard: Guard) -> list[tuple[int, tuple[Act, ...], State]]:
    """At each look: what to keep, what is done, and what the guard knows then."""
    groups, knows, watch, found = park.groups, policy.begin(), guard.begin(), []
    for at, used in demand:
        view = View(at, park.fixed, groups, used)
        wish, knows = policy.decide(view, knows)
        decision = guard.decide(view, Wish(wish.keep, "the same words"), watch)
        watch = decision.state
        for act in decision.acts:
            groups = tuple(replace(g, dark=act.dark) if g.name == act.group else g for g in groups)
            watch = guard.told(watch, act, Outcome.DONE, at)
        found.append((wish.keep, decision.acts, watch))
    return found


@pytest.mark.parametrize("series", sorted(path.name for path in TRACES.glob("*.csv.gz")))
def test_every_look_at_a_recorded_demand(series: str) -> None:
    found = trace.load(TRACES / series, allow_gaps=True)
    demand = [(sample.seconds, sample.used) for sample in found.samples]
    park = paper.park(found.total, 8, memspec.load(PART))
    assert decided(demand, park, Balance(), Guard()) == decided(demand, park, PlainBalance(), PlainGuard())


GROUPS = st.lists(st.builds(Group, st.just("g"), st.integers(1, 9), cost=st.sampled_from((0.0, 5.0, 40.0, math.inf))))
DEMAND = st.lists(st.tuples(st.sampled_from((0.0, 0.5, 3.0, 30.0, 4000.0)), st.integers(0, 60)), min_size=1)


@examples(200)
@given(GROUPS, DEMAND, st.sampled_from((0.0, 0.25, 1.0, 3.0)), st.sampled_from((0.0, 5.0, 900.0)))
def test_every_look_at_any_demand(
    groups: list[Group], stretches: list[tuple[float, int]], trust: float, memory: float
) -> None:
    at, demand = 0.0, []
    for seconds, used in stretches:
        at += seconds
        demand.append((at, used))
    park = Park(3, tuple(replace(group, name=f"g{number}") for number, group in enumerate(groups)))
    ours, plain = Balance(trust=trust, memory=memory), PlainBalance(trust=trust, memory=memory)
    assert decided(demand, park, ours, Guard(hourly=5)) == decided(demand, park, plain, PlainGuard(hourly=5))
