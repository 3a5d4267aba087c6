# SPDX-License-Identifier: Apache-2.0
"""What asks a machine what its blocks hold: a snapshot, and surveys of those that are online. Looking at a block means
looking at each of its pages, which takes time on a large machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from math import inf
from typing import Any, Protocol, cast

from hotbank.errors import HotbankError
from hotbank.machine import Glancing, Machine, Reading, Snapshot, Survey, can_count, each_glance, each_survey
from hotbank.memory import BlockState, Kind
from hotbank.operate.targets import resolve
from hotbank.operate.verdict import Verdict, verdict

How = Callable[[Any, Snapshot, Iterable[int]], Mapping[int, Survey]]
_FRESH = 1.0  # seconds
_AT_ONCE = 64  # blocks in one question, which must not take long
Look = Callable[[Machine, Snapshot, Iterable[int], How], Mapping[int, Survey]]


def surveys_of(machine: Machine, snapshot: Snapshot, blocks: Iterable[int]) -> dict[int, Survey]:
    """Surveys of those of the blocks that are online; the others hold nothing that would have to move."""
    return {seen.block: seen for seen in each_survey(machine, _online(snapshot, blocks))}


def counted(machine: Machine, snapshot: Snapshot, blocks: Iterable[int], until: float = inf) -> dict[int, Survey]:
    """Surveys of those of the blocks that are online and about which a count says all that an order has to know: it
    looks at no page. The others want a look. ``until``: on the machine's clock, from when on none is counted."""
    if not can_count(machine):
        return {}
    there = tuple(_online(snapshot, blocks))
    parts = (there[at : at + _AT_ONCE] for at in range(0, len(there), _AT_ONCE))
    in_time = takewhile(lambda _: until == inf or machine.clock.now() < until, parts)
    return {seen.block: seen for part in in_time for seen in machine.count(part)}


def survey_now(machine: Machine, block: int) -> Survey:
    """The survey of one online block, by a count where that says all."""
    found = machine.count((block,)) if can_count(machine) else ()
    return found[0] if found else machine.survey(block)


def in_silence(machine: Machine, snapshot: Snapshot, blocks: Iterable[int], how: How) -> Mapping[int, Survey]:
    """A look that tells nobody how far it is."""
    return how(machine, snapshot, blocks)


def glances_at(machine: Glancing, snapshot: Snapshot, blocks: Iterable[int]) -> dict[int, Survey]:
    """The same by a glance: no block costs more, and nothing more speaks against it, than its survey would say."""
    return {seen.block: _at_best(seen) for seen in each_glance(machine, _online(snapshot, blocks))}


def _online(snapshot: Snapshot, blocks: Iterable[int]) -> Iterator[int]:
    return (n for n in blocks if (b := snapshot.block(n)) and b.state is not BlockState.OFFLINE)


def _at_best(glance: Survey) -> Survey:
    """Without the pages that do not show what they hold: seen better they may be free, and cost nothing."""
    if "kinds" in glance.unknown:
        return glance
    return replace(glance, kinds={kind: pages for kind, pages in glance.kinds.items() if kind is not Kind.UNKNOWN})


def explain(machine: Machine, target: str | int) -> Verdict:
    """What would happen if the bank or block were taken away now. Raises Refusal(NO_SUCH_BANK)."""
    snapshot = machine.snapshot()
    what = resolve(snapshot, target)
    return verdict(snapshot, surveys_of(machine, snapshot, what.blocks), what)


class Felt(Protocol):
    """What says how a machine feels."""

    def reading(self) -> Reading:
        """See Machine."""
        ...


class Between:
    """How a machine feels, and what it is, between two acts of one who acts again and again: asked once, for a look at
    counters takes a guest as long as an empty block, and a list of its blocks three times as long; and again after
    ``acted``, or where that was a while ago."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._last: dict[str, tuple[float, Any]] = {}

    def reading(self) -> Reading:
        """See Machine."""
        return cast("Reading", self._fresh("reading", self._machine.reading))

    def snapshot(self) -> Snapshot:
        """See Machine."""
        return cast("Snapshot", self._fresh("snapshot", self._machine.snapshot))

    def acted(self) -> None:
        """What was read is over."""
        self._last.clear()

    def _fresh(self, what: str, ask: Callable[[], Any]) -> Any:
        now = self._machine.clock.now()
        asked, answer = self._last.get(what, (-inf, None))
        if now - asked > _FRESH:
            answer = ask()
            self._last[what] = now, answer
        return answer


def migrated(machine: Felt) -> int | None:
    """Pages that the machine has migrated since it booted; None where it does not count, or does not answer."""
    try:
        counted = machine.reading().migrated
    except HotbankError:
        return None
    return None if counted is None else counted.success
