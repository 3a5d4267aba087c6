# SPDX-License-Identifier: Apache-2.0
"""Plans: the ordered steps of a removal or an addition with their expected cost. Values; they touch nothing.

Blocks go offline emptiest first: as long as a block of the bank is online, pages of the others may be
migrated into it, and would have to move a second time. Those that a driver empties behind one fence leave in a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from hotbank import kernels
from hotbank.documents import SCHEMA
from hotbank.errors import Code
from hotbank.machine import BankStatus, DomainStatus, Evidence, Snapshot, Survey
from hotbank.memory import SECONDS_PER_PAGE, BlockState, KernelState, Kind, Power, Zone
from hotbank.operate import found, policy, reasons
from hotbank.operate.journal import Before
from hotbank.operate.landing import landing
from hotbank.operate.power import in_use, stays_on
from hotbank.operate.reasons import remedy
from hotbank.operate.targets import Target
from hotbank.operate.verdict import Verdict, verdict
from hotbank.room import Leaving, leaving_of, must_fit, room, vacant
from hotbank.routes import route

# Measured on emulated arm64 boards (128 MiB blocks, an empty one in 10 to 90 ms).
_SECONDS_PER_BLOCK = 0.05
_SECONDS_PER_ADD = 0.05  # and per removal
_SECONDS_PER_SWITCH = 0.1
# A page that is held is cleared first (init_on_alloc, on in Debian's kernels), and given back later.
_SECONDS_PER_HELD = 2e-6
_NEARLY_EMPTY = 1 / 32  # of a block: less to move than it costs to hold the rest


class Action(StrEnum):
    """What one step does."""

    VACATE = "vacate"
    OFFLINE = "offline"
    REMOVE = "remove"
    POWER_OFF = "power-off"
    SELF_REFRESH = "self-refresh"
    KEEP_POWER = "keep-power"
    POWER_ON = "power-on"
    CHECK_POLICY = "check-policy"
    SUSPEND_POLICY = "suspend-policy"
    RESUME_POLICY = "resume-policy"
    ADD = "add"
    ONLINE = "online"


SWITCHING: Mapping[Power, Action] = {
    Power.ON: Action.POWER_ON,
    Power.SELF_REFRESH: Action.SELF_REFRESH,
    Power.OFF: Action.POWER_OFF,
}
EMPTYING = frozenset({Action.VACATE, Action.OFFLINE})
"""What makes pages move."""
REACHES: Mapping[str, Power] = {action: power for power, action in SWITCHING.items()}
_SECONDS: Mapping[str, float] = {
    **dict.fromkeys((Action.ADD, Action.REMOVE), _SECONDS_PER_ADD),
    **dict.fromkeys(REACHES, _SECONDS_PER_SWITCH),
    Action.ONLINE: _SECONDS_PER_BLOCK,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``target``: a block as ``memoryN``, a bank or a domain; of a policy that is set aside and put back its
    word; of memory that is emptied as a whole its node, as ``nodeN``. Expected cost in pages and seconds.

    ``again``: those of the pages that moved before, out of blocks whose turn came earlier (landing.py). ``fact``: why
    it is so, in words, where the action does not say. ``leaving``: what an offline takes along. ``fence``: blocks that
    the machine empties together with it. ``drop``: pages of clean cache that have no room elsewhere.
    """

    action: Action
    target: str
    block: int | None = None
    pages: int = 0
    seconds: float = 0.0
    fact: str = ""
    leaving: Leaving | None = None
    again: int = 0
    fence: tuple[int, ...] = ()
    drop: int = 0


def goes_dark(step: Step) -> bool:
    """True if it takes the power of a domain down."""
    return step.action in REACHES and REACHES[step.action].dark


_CHECK_POLICY = Step(Action.CHECK_POLICY, "auto_online_blocks")


@dataclass(frozen=True, slots=True)
class Plan:
    """``verb``: ``remove`` or ``add``. ``code``: OK, or why it can't be done; ``fact`` and ``remedy`` in words.

    ``target``: what it is about, in words. ``verdicts``: those that a removal was planned by, one for each target.
    ``found``: what it was made of. ``paced_by``: transactions of this machine that its seconds go by;
    ``between``: the seconds if it is as quick, or as slow, as its last ones. A plan whose code is OK and that has no
    steps has nothing to do.
    """

    machine: str
    verb: str
    target: str
    targets: tuple[Target, ...]
    steps: tuple[Step, ...]
    code: Code
    fact: str = ""
    remedy: str = ""
    verdicts: tuple[Verdict, ...] = ()
    found: Before | None = None
    paced_by: int = 0
    between: tuple[float, float] | None = None

    @property
    def banks(self) -> tuple[str, ...]:
        """Banks that it takes or brings, and those that its blocks are in."""
        return tuple(dict.fromkeys(target.bank.name for target in self.targets if target.bank is not None))

    @property
    def leaving(self) -> tuple[str, ...]:
        """Banks that it takes out of the kernel; all else that it takes ends at offline."""
        return tuple(bank.name for bank in _leaving(self.targets)) if self.verb == "remove" else ()

    @property
    def blocks(self) -> tuple[int, ...]:
        """Numbers of the blocks that it takes or brings."""
        return tuple(dict.fromkeys(number for target in self.targets for number in target.blocks))

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Pages that speak against it, by the verdict that decided."""
        return next((answer.evidence for answer in self.verdicts if answer.code is self.code), ())

    @property
    def pages(self) -> int:
        """Pages expected to move; one that moves twice counts twice."""
        return sum(step.pages for step in self.steps)

    @property
    def again(self) -> int:
        """Those of them that move a second time."""
        return sum(step.again for step in self.steps)

    @property
    def may_move(self) -> int:
        """The same, if every page that does not show what it holds is one."""
        return sum(step.leaving.may_move for step in self.steps if step.leaving is not None)

    @property
    def seconds(self) -> float:
        """Expected duration."""
        return sum(step.seconds for step in self.steps)

    @property
    def impossible(self) -> bool:
        """True if carrying it out is proven to fail."""
        return not reasons.may_go(self.code)

    def document(self) -> dict[str, Any]:
        """The JSON of ``hotbank plan --json``."""
        return {
            "schema": SCHEMA["plan"],
            "machine": self.machine,
            "verb": self.verb,
            "targets": [target.name for target in self.targets],
            "banks": list(self.banks),
            "blocks": list(self.blocks),
            "pages": self.pages,
            "again": self.again,
            "seconds": round(self.seconds, 6),
            "between": None if self.between is None else [round(seconds, 6) for seconds in self.between],
            "steps": [_step_document(step) for step in self.steps],
            "code": self.code.value,
            "found": found.document(self.found) if self.found is not None else None,
        }


def _step_document(step: Step) -> dict[str, Any]:
    fence = {"fence": list(step.fence)} if step.fence else {}
    drop = {"drop": step.drop} if step.drop else {}
    return {"step": step.action.value, "target": step.target, **fence, **drop}


def removal(snapshot: Snapshot, surveys: Mapping[int, Survey], targets: Sequence[Target]) -> Plan:
    """The plan that takes banks out and blocks offline, together. ``surveys``: of all their online blocks.

    Nodes that lose their last memory are emptied first, as a whole; then all blocks go offline, emptiest first, those
    behind one fence in a row; then each bank out, once it is sure that it could be put back into Movable; then each
    domain dark whose last bank that was.
    """
    answers = tuple(verdict(snapshot, _own(surveys, target), target) for target in targets)
    steps = (*_offline_steps(snapshot, surveys, targets), *_out_steps(snapshot, targets))
    code, fact = _removal_verdict(snapshot, answers, steps)
    fact = "; ".join([fact, *_undone(snapshot, steps)]) if code is Code.OK else fact
    names, there = _names(targets), _found(snapshot, "remove", targets)
    return Plan(snapshot.machine, "remove", names, tuple(targets), steps, code, fact, remedy(code), answers, there)


def too_late(snapshot: Snapshot, targets: Sequence[Target], fact: str) -> Plan:
    """The plan of a removal that has no time left to be planned."""
    names, code = _names(targets), Code.DEADLINE
    fact = f"remove {names}: {fact}"
    there = _found(snapshot, "remove", targets)
    return Plan(snapshot.machine, "remove", names, tuple(targets), (), code, fact, remedy(code), found=there)


def addition(snapshot: Snapshot, targets: Sequence[Target]) -> Plan:
    """The plan that brings banks in and blocks online, all of it Movable.

    The power of each domain first; then each bank in; then their blocks.
    """
    answers = (_add_verdict(snapshot, target) for target in targets)
    code, fact = next((answer for answer in answers if answer[0] is not Code.OK), (Code.OK, ""))
    whole = tuple(replace(target, blocks=_blocks_to_be(snapshot, target)) for target in targets)
    steps, there = _addition_steps(snapshot, whole), _found(snapshot, "add", targets)
    return Plan(snapshot.machine, "add", _names(targets), whole, steps, code, fact, remedy(code), found=there)


def _found(snapshot: Snapshot, verb: str, targets: Sequence[Target]) -> Before:
    powers = {domain.name: domain.power for domain in snapshot.domains}
    return found.find(snapshot, verb, targets, lambda name: powers.get(name, Power.UNKNOWN))


def _names(targets: Sequence[Target]) -> str:
    return ", ".join(target.name for target in targets)


# Out.


def _own(surveys: Mapping[int, Survey], target: Target) -> dict[int, Survey]:
    return {n: surveys[n] for n in target.blocks if n in surveys}


def _removal_verdict(snapshot: Snapshot, answers: Sequence[Verdict], steps: Sequence[Step]) -> tuple[Code, str]:
    """Why it can't be done, or what is doubtful about it; what can leave one by one has to fit together as well."""
    refused = next((answer for answer in answers if answer.impossible), None)
    if refused is not None:
        return refused.code, refused.fact
    if snapshot.pending is not None:
        return Code.CANCEL_PENDING, reasons.still_held(snapshot.pending)
    fact = answers[0].fact
    if len(answers) > 1:
        leaving = tuple(step.leaving for step in steps if step.leaving is not None)
        needs, there = must_fit(snapshot.zones, leaving), room(snapshot.zones, leaving)
        if needs > there:
            return Code.NO_CAPACITY, reasons.no_room(needs, there)
        fact = reasons.fits(sum(one.to_move for one in leaving), needs, there)
    return _doubts(answers, steps, fact)


def _undone(snapshot: Snapshot, steps: Sequence[Step]) -> list[str]:
    """What can't be done about nodes as a whole that lose their last memory, where it would help."""
    leaving = {step.block: step for step in steps if step.action is Action.OFFLINE and step.block is not None}
    nodes = vacant(snapshot, leaving) if any(step.pages for step in leaving.values()) else ()
    return [reasons.block_by_block(node.number) for node in nodes if not node.moves]


def _doubts(answers: Sequence[Verdict], steps: Sequence[Step], fact: str) -> tuple[Code, str]:
    doubtful = next((answer for answer in answers if answer.code is not Code.OK), None)
    if doubtful is not None:
        return doubtful.code, doubtful.fact
    kept = [step.fact for step in steps if step.action is Action.KEEP_POWER]
    return Code.DOMAIN_IN_USE if kept else Code.OK, "; ".join([fact, *kept])


def _offline_steps(snapshot: Snapshot, surveys: Mapping[int, Survey], targets: Sequence[Target]) -> tuple[Step, ...]:
    numbers = dict.fromkeys(n for target in targets for n in target.blocks)
    blocks = [b for n in numbers if (b := snapshot.block(n)) and b.state is not BlockState.OFFLINE]
    own = {block.number: surveys[block.number] for block in blocks}
    leaving = dict(zip(own, leaving_of(snapshot, own), strict=True))
    emptiest_first = {n: leaving[n] for n in sorted(leaving, key=lambda n: (leaving[n].may_move, n))}
    emptied = _vacating_steps(snapshot, own, emptiest_first)
    by_bank = _emptied_together(snapshot, targets, emptiest_first, {step.target for step in emptied})
    together = _worth_it(snapshot, by_bank, emptiest_first)
    in_order, fences = _in_order(together, emptiest_first), _fences(together)
    again = landing(snapshot.zones, in_order, fences)
    gone = _gone_before(emptied, own, in_order)
    steps = (_offline_step(n, one, again[n], fences.get(n, ()), gone[n]) for n, one in in_order.items())
    return (*emptied, *steps)


def _in_order(together: tuple[int, ...], emptiest_first: Mapping[int, Leaving]) -> dict[int, Leaving]:
    """What leaves together leaves one right after the other: a fence is there as long as nothing else leaves."""
    return {n: emptiest_first[n] for first in emptiest_first for n in (together if first in together else (first,))}


def _fences(together: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """The blocks that are still to leave behind the same fence as that one."""
    return {n: together[at + 1 :] for at, n in enumerate(together)}


def _worth_it(
    snapshot: Snapshot, by_bank: Sequence[Collection[int]], leaving: Mapping[int, Leaving]
) -> tuple[int, ...]:
    """Of all banks behind one fence the blocks of those where that spares more than it takes, in the order in which
    they leave: pages that would move twice, against all that are held."""
    together = _among(by_bank, leaving)
    if len(together) < 2:
        return ()
    alone = landing(snapshot.zones, leaving, {})
    behind = landing(snapshot.zones, _in_order(together, leaving), _fences(together))

    def spares(bank: Collection[int]) -> bool:
        held = sum(leaving[n].pages for n in bank)
        return sum(alone[n] - behind[n] for n in bank) * SECONDS_PER_PAGE > held * _SECONDS_PER_HELD

    return _among([bank for bank in by_bank if spares(bank)], leaving)


def _among(by_bank: Iterable[Collection[int]], leaving: Iterable[int]) -> tuple[int, ...]:
    together = {n for bank in by_bank for n in bank}
    return tuple(n for n in leaving if n in together)


def _vacating_steps(
    snapshot: Snapshot, surveys: Mapping[int, Survey], leaving: Mapping[int, Leaving]
) -> tuple[Step, ...]:
    """What is done about nodes as a whole whose last memory leaves, where enough of it is in use, or some of it has no
    room."""
    steps, dropping = list[Step](), _without_room(snapshot, tuple(leaving.values()))
    for node in vacant(snapshot, leaving):
        there = {n: one for n, one in leaving.items() if one.node == node.number}
        drop = min(dropping, sum(one.clean for one in there.values())) if node.drops else 0
        pages = sum(surveys[n].kinds.get(Kind.ANON, 0) for n in there) if node.moves else 0
        if drop or pages > sum(one.pages for one in there.values()) * _NEARLY_EMPTY:
            dropping -= drop
            steps.append(_vacating_step(node.number, there, pages, drop))
    return tuple(steps)


def _without_room(snapshot: Snapshot, leaving: Sequence[Leaving]) -> int:
    """Pages that would move if they could: clean cache that has to be dropped."""
    return max(0, sum(one.to_move for one in leaving) - room(snapshot.zones, leaving)) if leaving else 0


def _vacating_step(node: int, leaving: Mapping[int, Leaving], pages: int, drop: int) -> Step:
    """``pages``: what processes certainly have mapped; other pages may be, or wait for their block's offline."""
    first, one = next(iter(leaving.items()))
    there = Leaving(one.zone, one.node)
    seconds = offline_seconds(0, pages)
    return Step(Action.VACATE, f"node{node}", first, pages, seconds, leaving=there, drop=drop)


def _gone_before(
    emptied: Iterable[Step], surveys: Mapping[int, Survey], leaving: Mapping[int, Leaving]
) -> dict[int, int]:
    """Pages of each block that are no more there when its turn comes, since its node was emptied."""
    gone = dict.fromkeys(leaving, 0)
    for step in emptied:
        drop = step.drop
        for number, one in leaving.items():
            if f"node{one.node}" == step.target:
                gone[number] = (surveys[number].kinds.get(Kind.ANON, 0) if step.pages else 0) + min(drop, one.clean)
                drop -= min(drop, one.clean)
    return gone


def _emptied_together(
    snapshot: Snapshot, targets: Sequence[Target], leaving: Mapping[int, Leaving], emptied: Collection[str]
) -> list[set[int]]:
    """The blocks of each bank that its driver can empty behind a fence; nearly empty ones go before, by themselves. A
    node that is emptied as a whole needs none: what leaves it lands on another."""
    if not kernels.arch(snapshot.arch).evacuates:
        return []
    full = {n for n, one in leaving.items() if one.may_move > one.pages * _NEARLY_EMPTY}
    full -= {n for n, one in leaving.items() if f"node{one.node}" in emptied}
    there: dict[str, set[int]] = {}
    for target in targets:
        if target.bank is not None and route(target.bank.route).fences:
            there.setdefault(target.bank.name, set()).update(target.blocks)
    return [full & blocks for blocks in there.values()]


def _offline_step(number: int, leaving: Leaving, again: int, fence: tuple[int, ...], gone: int) -> Step:
    pages = leaving.to_move + again - gone
    seconds = offline_seconds(1, pages) + (leaving.pages * _SECONDS_PER_HELD if fence else 0)
    return Step(Action.OFFLINE, f"memory{number}", number, pages, seconds, leaving=leaving, again=again, fence=fence)


def offline_seconds(blocks: int, pages: int) -> float:
    """Reckoned seconds of taking so many blocks offline and moving so many pages."""
    return blocks * _SECONDS_PER_BLOCK + pages * SECONDS_PER_PAGE


def step_seconds(step: str) -> float:
    """Reckoned seconds of any other step."""
    return _SECONDS.get(step, 0.0)


def _reckoned(action: Action, target: str, block: int | None = None) -> Step:
    return Step(action, target, block, seconds=step_seconds(action))


def _leaving(targets: Sequence[Target]) -> list[BankStatus]:
    """Whole banks with a route out of the kernel; all else ends at offline."""
    return [t.bank for t in targets if t.bank is not None and t.whole and route(t.bank.route).removes]


def _out_steps(snapshot: Snapshot, targets: Sequence[Target]) -> tuple[Step, ...]:
    there = [bank for bank in _leaving(targets) if bank.kernel is not KernelState.ABSENT]
    before, after = _policy_steps(snapshot, there)
    removes = (_reckoned(Action.REMOVE, bank.name) for bank in there)
    return (*before, *removes, *_dark_steps(snapshot, targets), *after)


def _policy_steps(snapshot: Snapshot, coming: Sequence[BankStatus]) -> tuple[Sequence[Step], Sequence[Step]]:
    """What is done about the kernel's policy before those banks come in, or could have to, and afterwards."""
    if not any(policy.needs_policy(bank) for bank in coming):
        return (), ()
    if not policy.danger(snapshot, "memory"):
        return (_CHECK_POLICY,), ()
    word = snapshot.auto_online
    return (Step(Action.SUSPEND_POLICY, word),), (Step(Action.RESUME_POLICY, word),)


def _dark_steps(snapshot: Snapshot, targets: Sequence[Target]) -> tuple[Step, ...]:
    leaving = _leaving(targets)
    domains = [domain for bank in leaving if (domain := snapshot.domain_of(bank)) is not None]
    by_name = {domain.name: domain for domain in domains}
    names = {bank.name for bank in leaving}
    steps = (_dark_step(snapshot, domain, names) for domain in by_name.values())
    return tuple(step for step in steps if step is not None)


def _dark_step(snapshot: Snapshot, domain: DomainStatus, leaving: Collection[str]) -> Step | None:
    if domain.darkest is Power.ON or domain.power is domain.darkest:
        return None
    others = in_use(snapshot, domain.name, besides=leaving)
    if others:
        return Step(Action.KEEP_POWER, domain.name, fact=stays_on(domain.name, others))
    return _reckoned(SWITCHING[domain.darkest], domain.name)


# In.


def _blocks_to_be(snapshot: Snapshot, target: Target) -> tuple[int, ...]:
    """All blocks that the bank has when it is in the kernel."""
    if target.bank is not None and target.whole:
        return tuple(snapshot.blocks_of(target.bank))
    return target.blocks


def _addition_steps(snapshot: Snapshot, targets: Sequence[Target]) -> tuple[Step, ...]:
    returning = [t.bank for t in targets if t.bank is not None and t.bank.kernel is KernelState.ABSENT]
    onlines = _online_steps(snapshot, dict.fromkeys(n for target in targets for n in target.blocks))
    if not returning and not onlines:
        return ()
    domains = dict.fromkeys(t.bank.domain for t in targets if t.bank is not None and t.bank.domain is not None)
    power = [_reckoned(Action.POWER_ON, domain) for domain in domains]
    before, after = _policy_steps(snapshot, returning)
    adds = [_reckoned(Action.ADD, bank.name) for bank in returning]
    return (*power, *before, *adds, *after, *onlines)


def _online_steps(snapshot: Snapshot, blocks: Iterable[int]) -> tuple[Step, ...]:
    waiting = [n for n in blocks if (b := snapshot.block(n)) is None or b.state is not BlockState.ONLINE]
    return tuple(_reckoned(Action.ONLINE, f"memory{n}", n) for n in waiting)


def _add_verdict(snapshot: Snapshot, target: Target) -> tuple[Code, str]:
    bank = target.bank
    if snapshot.pending is not None:
        return Code.CANCEL_PENDING, reasons.still_held(snapshot.pending)
    if bank is not None and bank.kernel is KernelState.STUCK:
        return Code.STUCK, reasons.stuck(bank.name)
    wrong = _in_kernel_zone(snapshot, _blocks_to_be(snapshot, target))
    if wrong is not None:
        return Code.NOT_MOVABLE_ZONE, f"memory{wrong} is online in a kernel zone already"
    if bank is not None and bank.kernel is KernelState.ABSENT:
        return _absent_verdict(bank)
    return _presence_verdict(snapshot, target)


def _presence_verdict(snapshot: Snapshot, target: Target) -> tuple[Code, str]:
    """A route brings a bank in whole, so no step brings one block of a bank that is in."""
    missing = next((n for n in _blocks_to_be(snapshot, target) if snapshot.block(n) is None), None)
    if missing is None:
        return Code.OK, ""
    return Code.UNSUPPORTED, f"memory{missing} of {target.name} is not in the kernel and the rest is: remove it first"


def _absent_verdict(bank: BankStatus) -> tuple[Code, str]:
    if not route(bank.route).enters:
        return Code.UNSUPPORTED, f"{bank.name} is out of the kernel and has no route to return by"
    return Code.OK, ""


def _in_kernel_zone(snapshot: Snapshot, blocks: tuple[int, ...]) -> int | None:
    present = [b for n in blocks if (b := snapshot.block(n)) is not None and b.state is BlockState.ONLINE]
    return next((b.number for b in present if b.zone != Zone.MOVABLE), None)
