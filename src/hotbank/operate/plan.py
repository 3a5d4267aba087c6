# SPDX-License-Identifier: Apache-2.0
"""Plans: the ordered steps of a removal or an addition with their expected cost. Values; they touch nothing.

Blocks go offline emptiest first: as long as a block of the bank is online, pages of the others may be
migrated into it, and would have to move a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from hotbank.errors import Code
from hotbank.machine import BankStatus, DomainStatus, Snapshot, Survey
from hotbank.memory import SECONDS_PER_PAGE, BlockState, KernelState, Online, Power, Zone
from hotbank.operate import reasons
from hotbank.operate.reasons import remedy
from hotbank.operate.targets import Target
from hotbank.operate.verdict import SCHEMA, Verdict, verdict
from hotbank.room import Leaving, leaving_of, must_fit, room
from hotbank.routes import route

# Measured on emulated arm64 boards (128 MiB blocks, an empty one in 10 to 90 ms).
_SECONDS_PER_BLOCK = 0.05
_SECONDS_PER_ADD = 0.05
_SECONDS_PER_SWITCH = 0.1


class Action(StrEnum):
    """What one step does."""

    OFFLINE = "offline"
    REMOVE = "remove"
    POWER_OFF = "power-off"
    SELF_REFRESH = "self-refresh"
    KEEP_POWER = "keep-power"
    POWER_ON = "power-on"
    CHECK_POLICY = "check-policy"
    ADD = "add"
    ONLINE = "online"


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``target``: a block as ``memoryN``, a bank or a domain. Expected cost in pages and seconds.

    ``fact``: why it is so, in words, where the action does not say. ``leaving``: what an offline takes along.
    """

    action: Action
    target: str
    block: int | None = None
    pages: int = 0
    seconds: float = 0.0
    fact: str = ""
    leaving: Leaving | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """``verb``: ``remove`` or ``add``. ``code``: OK, or why it can't be done; ``fact`` and ``remedy`` in words.

    A plan whose code is OK and that has no steps has nothing to do.
    """

    machine: str
    verb: str
    target: str
    banks: tuple[str, ...]
    blocks: tuple[int, ...]
    steps: tuple[Step, ...]
    code: Code
    fact: str = ""
    remedy: str = ""
    verdict: Verdict | None = None

    @property
    def pages(self) -> int:
        """Pages expected to move."""
        return sum(step.pages for step in self.steps)

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
            "schema": SCHEMA,
            "machine": self.machine,
            "banks": list(self.banks),
            "blocks": list(self.blocks),
            "pages": self.pages,
            "seconds": round(self.seconds, 6),
            "steps": [{"step": step.action.value, "target": step.target} for step in self.steps],
            "code": self.code.value,
        }


def removal(snapshot: Snapshot, surveys: Mapping[int, Survey], target: Target) -> Plan:
    """The plan that takes a bank out, or one block offline. ``surveys``: of its online blocks."""
    answer = verdict(snapshot, surveys, target)
    code, fact = answer.code, answer.fact
    if not answer.impossible and snapshot.pending is not None:
        code, fact = Code.CANCEL_PENDING, reasons.still_held(snapshot.pending)
    steps = _offline_steps(snapshot, surveys, target)
    if target.bank is not None and target.whole:
        steps += _leave_steps(snapshot, target.bank)
    kept = next((s for s in steps if s.action is Action.KEEP_POWER), None)
    if code is Code.OK and kept is not None:
        code, fact = Code.DOMAIN_IN_USE, kept.fact
    banks = (target.bank.name,) if target.bank is not None else ()
    return Plan(snapshot.machine, "remove", target.name, banks, target.blocks, steps, code, fact, remedy(code), answer)


def together(snapshot: Snapshot, surveys: Mapping[int, Survey], targets: Sequence[Target]) -> Plan:
    """One removal of several banks and blocks: all blocks offline, emptiest first, then the banks out, then dark."""
    taken = {t.bank.name for t in targets if t.bank is not None and t.whole}
    banks = (replace(b, kernel=KernelState.ABSENT) if b.name in taken else b for b in snapshot.banks)
    after = replace(snapshot, banks=tuple(banks))
    parts = [removal(after, {n: surveys[n] for n in t.blocks if n in surveys}, t) for t in targets]
    plan = joined(parts)
    plan = replace(plan, steps=_in_order(plan.steps))
    return _judged(snapshot, {n: surveys[n] for n in plan.blocks if n in surveys}, plan, parts)


def joined(parts: Sequence[Plan]) -> Plan:
    """One plan of several, in their order, each step once; its reason is the first that any of them has."""
    doubtful = [part for part in parts if part.code is not Code.OK]
    first = min(doubtful or parts, key=lambda part: not part.impossible)
    return replace(
        first,
        target=", ".join(dict.fromkeys(part.target for part in parts)),
        banks=tuple(dict.fromkeys(name for part in parts for name in part.banks)),
        blocks=tuple(dict.fromkeys(n for part in parts for n in part.blocks)),
        steps=tuple(dict.fromkeys(step for part in parts for step in part.steps)),
        verdict=first.verdict if len(parts) == 1 else None,
    )


def _judged(snapshot: Snapshot, surveys: Mapping[int, Survey], plan: Plan, parts: Sequence[Plan]) -> Plan:
    """Parts that can leave one by one must fit into what stays together."""
    if plan.impossible or len(parts) == 1:
        return plan
    leaving = leaving_of(snapshot, surveys)
    needs, there = must_fit(leaving), room(snapshot.zones, leaving)
    if needs > there:
        code = Code.NO_CAPACITY
        return replace(plan, code=code, fact=reasons.no_room(needs, there), remedy=remedy(code))
    return replace(plan, fact=reasons.fits(plan.pages, needs, there)) if plan.code is Code.OK else plan


_ORDER = {Action.OFFLINE: 0, Action.REMOVE: 1}


def _in_order(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Each step once: as long as a block is online, pages of the others may move into it, so all go offline first."""
    once = dict.fromkeys(steps)
    return tuple(sorted(once, key=lambda s: (_ORDER.get(s.action, 2), s.pages, s.block or 0)))


def too_late(snapshot: Snapshot, target: Target, fact: str) -> Plan:
    """The plan of a removal that has no time left to be planned."""
    banks, code = (target.bank.name,) if target.bank is not None else (), Code.DEADLINE
    words = f"remove {target.name}: {fact}"
    return Plan(snapshot.machine, "remove", target.name, banks, target.blocks, (), code, words, remedy(code))


def addition(snapshot: Snapshot, target: Target) -> Plan:
    """The plan that brings a bank in, or one block online, all of it Movable."""
    code, fact = _add_verdict(snapshot, target)
    blocks = _blocks_to_be(snapshot, target)
    steps = _return_steps(target) + _online_steps(snapshot, blocks)
    if not any(s.action in (Action.ADD, Action.ONLINE) for s in steps):
        steps = ()
    banks = (target.bank.name,) if target.bank is not None else ()
    return Plan(snapshot.machine, "add", target.name, banks, blocks, steps, code, fact, remedy(code))


def domain_of(snapshot: Snapshot, bank: BankStatus) -> DomainStatus | None:
    """The power domain of a bank, None where it has none."""
    return snapshot.domain(bank.domain) if bank.domain is not None else None


def policy_is_safe(snapshot: Snapshot) -> bool:
    """True if memory that is added comes up offline or Movable, never in a kernel zone."""
    return snapshot.auto_online in ("offline", Online.MOVABLE)


def others_in_kernel(snapshot: Snapshot, domain: DomainStatus, bank: str) -> tuple[str, ...]:
    """Banks other than ``bank`` that are in the domain and not out of the kernel."""
    mates = (snapshot.bank(name) for name in domain.banks if name != bank)
    return tuple(m.name for m in mates if m is not None and m.kernel is not KernelState.ABSENT)


def _offline_steps(snapshot: Snapshot, surveys: Mapping[int, Survey], target: Target) -> tuple[Step, ...]:
    blocks = [b for n in target.blocks if (b := snapshot.block(n)) and b.state is not BlockState.OFFLINE]
    leaving = {block.number: Leaving.of(block, surveys[block.number]) for block in blocks}
    emptiest_first = sorted(leaving, key=lambda n: (leaving[n].to_move, n))
    return tuple(_offline_step(n, leaving[n]) for n in emptiest_first)


def _offline_step(number: int, leaving: Leaving) -> Step:
    seconds = _SECONDS_PER_BLOCK + leaving.to_move * SECONDS_PER_PAGE
    return Step(Action.OFFLINE, f"memory{number}", number, leaving.to_move, seconds, leaving=leaving)


def _leave_steps(snapshot: Snapshot, bank: BankStatus) -> tuple[Step, ...]:
    """Out of the kernel and into the dark. A bank without a route out ends at offline."""
    if not route(bank.route).removes:
        return ()
    out: tuple[Step, ...] = ()
    if bank.kernel is not KernelState.ABSENT:
        out = (Step(Action.REMOVE, bank.name, seconds=_SECONDS_PER_ADD),)
    return out + _dark_steps(snapshot, bank)


def _dark_steps(snapshot: Snapshot, bank: BankStatus) -> tuple[Step, ...]:
    domain = domain_of(snapshot, bank)
    if domain is None:
        return ()
    lowest = lowest_power(domain)
    if lowest is Power.ON or domain.power is lowest:
        return ()
    if others_in_kernel(snapshot, domain, bank.name):
        return (Step(Action.KEEP_POWER, domain.name, fact=_shared(snapshot, domain, bank)),)
    action = Action.POWER_OFF if lowest is Power.OFF else Action.SELF_REFRESH
    return (Step(action, domain.name, seconds=_SECONDS_PER_SWITCH),)


def lowest_power(domain: DomainStatus) -> Power:
    """The state that saves most among those that the board allows."""
    return next(p for p in (Power.OFF, Power.SELF_REFRESH, Power.ON) if p in domain.states or p is Power.ON)


def _shared(snapshot: Snapshot, domain: DomainStatus, bank: BankStatus) -> str:
    others = ", ".join(others_in_kernel(snapshot, domain, bank.name))
    return f"domain {domain.name} stays on: {others} in the kernel"


def _blocks_to_be(snapshot: Snapshot, target: Target) -> tuple[int, ...]:
    """All blocks that the bank has when it is in the kernel."""
    if target.bank is not None and target.whole:
        return tuple(snapshot.blocks_of(target.bank))
    return target.blocks


def _return_steps(target: Target) -> tuple[Step, ...]:
    steps: tuple[Step, ...] = ()
    bank = target.bank
    if bank is not None and bank.domain is not None:
        steps += (Step(Action.POWER_ON, bank.domain, seconds=_SECONDS_PER_SWITCH),)
    if bank is not None and bank.kernel is KernelState.ABSENT:
        steps += (
            Step(Action.CHECK_POLICY, "auto_online_blocks"),
            Step(Action.ADD, bank.name, seconds=_SECONDS_PER_ADD),
        )
    return steps


def _online_steps(snapshot: Snapshot, blocks: tuple[int, ...]) -> tuple[Step, ...]:
    waiting = [n for n in blocks if (b := snapshot.block(n)) is None or b.state is not BlockState.ONLINE]
    return tuple(Step(Action.ONLINE, f"memory{n}", n, seconds=_SECONDS_PER_BLOCK) for n in waiting)


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
        return _absent_verdict(snapshot, bank)
    return Code.OK, ""


def _absent_verdict(snapshot: Snapshot, bank: BankStatus) -> tuple[Code, str]:
    if not route(bank.route).enters:
        return Code.UNSUPPORTED, f"{bank.name} is out of the kernel and has no route to return by"
    if not policy_is_safe(snapshot):
        return Code.AUTO_ONLINE, f"auto_online_blocks is {snapshot.auto_online}: {bank.name} could get a kernel zone"
    return Code.OK, ""


def _in_kernel_zone(snapshot: Snapshot, blocks: tuple[int, ...]) -> int | None:
    present = [b for n in blocks if (b := snapshot.block(n)) is not None and b.state is BlockState.ONLINE]
    return next((b.number for b in present if b.zone != Zone.MOVABLE), None)
