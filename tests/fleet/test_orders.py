# SPDX-License-Identifier: Apache-2.0
"""Orders to a fleet that is only told: whatever machines do and whenever the operator dies, no failure domain has more
dark than it may, and nobody is ordered twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotbank.errors import Code
from hotbank.fleet import asking, orders
from hotbank.fleet.asking import Reply
from hotbank.fleet.inventory import Member
from hotbank.fleet.journal import Begun, Journal
from hotbank.fleet.orders import Terms, carry_out

# What a machine does when it is ordered; "lost": it does it, and nobody hears; "unheard": it never hears of it.
WAYS = ("ok", "fails", "lost", "unheard", "silent", "slow")
MACHINES = st.lists(
    st.tuples(st.sampled_from(WAYS), st.booleans(), st.integers(0, 3)), min_size=1, max_size=10
)  # way, dark before, turns of the loop that an answer takes


class _Died(BaseException):
    """The operator's process is gone."""


@dataclass
class Told:
    """A fleet. ``dies``: before which call. ``most``: of each failure domain, dark or leaving at the same moment."""

    ways: Mapping[str, tuple[str, bool, int]]
    domains: Mapping[str, str]
    dies: int | None = None
    calls: int = 0
    dark: set[str] = field(default_factory=set)
    leaving: Counter[str] = field(default_factory=Counter)
    entries: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    most: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.dark = {name for name, (_, dark, _) in self.ways.items() if dark}
        self.entries = {name: [] for name in self.ways}
        self._count()

    async def asked(self, member: Member, words: Sequence[str], timeout: float, *, more: float = 0.0) -> Reply:
        self.calls += 1
        if self.calls == self.dies:
            raise _Died
        way, _, turns = self.ways[member.name]
        for _ in range(turns):
            await asyncio.sleep(0)
        if way == "silent":
            return Reply(member, Code.NO_MACHINE, 1, "no answer", certain=False)
        if words[0] == "list":
            on = "off" if member.name in self.dark else "on"
            return Reply(member, Code.OK, documents=({"banks": [{"kernel": "online", "power": on, "domain": "d"}]},))
        if words[0] == "history":
            return self._history(member)
        return await self._removed(member, way, turns)

    def _history(self, member: Member) -> Reply:
        for entry in self.entries[member.name]:
            entry["looks"] -= 1
            if entry["ended"] is None and entry["looks"] < 0:
                entry["ended"], entry["code"] = 1.0, "OK"
                self._gone(member.name)
        return Reply(member, Code.OK, documents=({"transactions": [dict(e) for e in self.entries[member.name]]},))

    async def _removed(self, member: Member, way: str, turns: int) -> Reply:
        if way == "unheard":
            return Reply(member, Code.NO_MACHINE, 1, "lost", certain=False)
        entry = {"id": len(self.entries[member.name]), "before": {"verb": "remove"}, "ended": None, "looks": 2}
        self.entries[member.name].append(entry)
        self.leaving[member.name] = 1
        self._count()
        for _ in range(turns):
            await asyncio.sleep(0)
        if way == "slow":
            return Reply(member, Code.NO_MACHINE, 1, "no answer in time", certain=False)
        entry |= {"ended": 1.0, "code": "NO_CAPACITY" if way == "fails" else "OK"}
        if way == "fails":
            del self.leaving[member.name]
            return Reply(member, Code.NO_CAPACITY, 1, "no room")
        self._gone(member.name)
        return Reply(member, Code.NO_MACHINE if way == "lost" else Code.OK, int(way == "lost"), certain=way != "lost")

    def _gone(self, name: str) -> None:
        del self.leaving[name]
        self.dark.add(name)
        self._count()

    def _count(self) -> None:
        now = Counter(self.domains[name] for name in self.dark | self.leaving.keys())
        self.most |= now


def carried(told: Told, members: Sequence[Member], begun: Begun, journal: Journal, forks: int) -> list[Reply]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders, "asked", told.asked)
        patch.setattr(asking, "asked", told.asked)
        patch.setattr(orders, "_AGAIN", 0.0)
        return carry_out(members, begun, journal, Terms(forks=forks), lambda _: None)


@example([("slow", False, 0), ("ok", False, 0), ("ok", False, 0)], 1, 4, 99, False)  # at work, and its list says on
@example([("slow", False, 0), ("ok", False, 0), ("ok", False, 0)], 1, 4, 99, True)
@given(MACHINES, st.integers(1, 3), st.integers(1, 4), st.integers(1, 30), st.booleans())
def test_no_more_dark_than_may_be_and_nobody_ordered_twice(
    tmp_path_factory: pytest.TempPathFactory,
    machines: list[tuple[str, bool, int]],
    most: int,
    forks: int,
    dies: int,
    anew: bool,
) -> None:
    """Whether the next operator goes on or gives an order of his own."""
    members = [Member(f"m{n}", f"ssh:m{n}", domain=f"rack{n % 2}") for n in range(len(machines))]
    domains = {member.name: member.domain for member in members}
    told = Told(dict(zip(domains, machines, strict=True)), domains, dies)
    before = Counter(domains[name] for name in told.dark)
    path = tmp_path_factory.mktemp("fleet") / "journal"
    with suppress(_Died), Journal(path) as journal:
        carried(told, members, journal.begin("remove", ["high"], list(domains), most), journal, forks)
    told.dies = None
    with Journal(path) as journal:
        begun = journal.begin("remove", ["high"], list(domains)[::-1], most) if anew else journal.open
        if begun is not None:
            carried(told, members, begun, journal, forks)
    for domain in set(domains.values()):
        assert told.most[domain] <= max(most, before[domain])
    assert all(len(entries) <= 1 + anew for entries in told.entries.values())


def test_one_dark_too_many_is_seen() -> None:
    """The oracle itself, on a course that looks at nobody."""
    members = [Member(f"m{n}", f"ssh:m{n}") for n in range(3)]
    told = Told({member.name: ("ok", False, 1) for member in members}, dict.fromkeys((m.name for m in members), ""))

    async def all_ordered() -> None:
        await asyncio.gather(*(told.asked(member, ["remove"], 1.0) for member in members))

    asyncio.run(all_ordered())
    assert told.most[""] == 3
