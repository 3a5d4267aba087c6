# SPDX-License-Identifier: Apache-2.0
"""What will happen if a block or bank is taken away now: pure functions of a snapshot and surveys.

Reasons come in the order in which the kernel would give them (mm/memory_hotplug.c, ``offline_pages``):
holes and zones first (EINVAL), then isolation (mm/page_isolation.c, ``has_unmovable_pages``: EBUSY), then the
notifiers (EPERM for arm64's boot memory), then migration, which has no answer of its own for a pinned page
or for want of room and tries for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hotbank import kernels
from hotbank.documents import SCHEMA
from hotbank.errors import Code
from hotbank.machine import EVIDENCE, Evidence, Owner, Snapshot, Survey
from hotbank.memory import KernelState, Kind, Zone
from hotbank.operate import reasons
from hotbank.operate.targets import Target
from hotbank.room import leaving_of, must_fit, pieces, pools, room

_AT_ISOLATION = (Code.UNMOVABLE, Code.CMA)
_AT_MIGRATION = (Code.PINNED, Code.HUGETLB)
_AT_RETURN = (Code.POISONED,)  # the block leaves, but can't be put online again (EHWPOISON)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer. ``fact``: one line in words.

    ``to_move``: pages to carry elsewhere. ``needs``: those of them that need a place there, which clean page cache does
    not; ``room``: places that there are, never less than ``needs`` of an OK. ``kinds``: pages by kind over all surveyed
    blocks. ``blocked``: pages that can't move, the first of them in ``evidence``. ``unknown``: what the surveys could
    not see.
    """

    target: str
    code: Code
    fact: str
    evidence: tuple[Evidence, ...] = ()
    blocked: int = 0
    kinds: Mapping[Kind, int] = field(default_factory=dict)
    to_move: int = 0
    needs: int = 0
    room: int = 0
    unknown: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def may_move(self) -> int:
        """Pages to carry, if every page that does not show what it holds is one."""
        return self.to_move + self.kinds.get(Kind.UNKNOWN, 0)

    @property
    def impossible(self) -> bool:
        """True if a survey proves that the removal fails. What could not be seen proves nothing."""
        return not reasons.may_go(self.code)

    def document(self, machine: str) -> dict[str, Any]:
        """The JSON of ``hotbank explain --json``."""
        return {
            "schema": SCHEMA["explain"],
            "machine": machine,
            "target": self.target,
            "code": self.code.value,
            "evidence": [_evidence(e) for e in self.evidence],
            "kinds": {kind.value: pages for kind, pages in self.kinds.items()},
            "needs": self.needs,
            "room": self.room,
            "unknown": list(self.unknown),
            "remedy": self.remedy,
        }


def verdict(snapshot: Snapshot, surveys: Mapping[int, Survey], target: Target) -> Verdict:
    """What will happen if the target is taken away now. ``surveys``: of its online blocks, see look.py."""
    case = _Case(snapshot, surveys, target)
    answer = _reason(case)
    return Verdict(
        target.name,
        answer.code,
        answer.fact,
        answer.evidence[:EVIDENCE],
        sum(s.blocked for s in surveys.values()),
        case.kinds(),
        case.to_move,
        case.needs,
        case.room,
        case.unknown,
        reasons.remedy(answer.code),
    )


class _Case:
    """The question, and the numbers that several answers need."""

    def __init__(self, snapshot: Snapshot, surveys: Mapping[int, Survey], target: Target) -> None:
        leaving = leaving_of(snapshot, surveys)
        self.snapshot, self.surveys, self.target, self.leaving = snapshot, surveys, target, leaving
        self.to_move = sum(survey.to_move for survey in surveys.values())
        self.needs, self.room = must_fit(snapshot.zones, leaving), room(snapshot.zones, leaving)
        self.unknown = _unknown(snapshot, surveys)

    def kinds(self) -> dict[Kind, int]:
        """Pages by kind over all blocks."""
        kinds = Counter[Kind]()
        for survey in self.surveys.values():
            kinds.update(survey.kinds)
        return dict(kinds)


@dataclass(frozen=True, slots=True)
class _Answer:
    """Why not, or OK."""

    code: Code
    fact: str
    evidence: tuple[Evidence, ...] = ()


def _unknown(snapshot: Snapshot, surveys: Mapping[int, Survey]) -> tuple[str, ...]:
    """Views that were missing, pins under their reason code, because that is what they put in doubt."""
    missing = {Code.PINS_UNKNOWN.value if view == "pins" else view for s in surveys.values() for view in s.unknown}
    if snapshot.boot_memory_leaves is not True and any(s.boot is None for s in surveys.values()):
        missing.add("boot")
    return tuple(sorted(missing))


def _reason(case: _Case) -> _Answer:
    """The first that speaks against it, in the order in which the kernel would come to it."""
    held = _held(case)
    if held is not None:
        return held
    if not case.surveys:
        return _Answer(Code.OK, f"{case.target.name}: nothing to do, no block of it is online")
    checks: tuple[Callable[[_Case], _Answer | None], ...] = (
        _shape,
        _at_isolation,
        _boot,
        _leaf,
        _board,
        _at_migration,
        _gigantic,
        _room,
        _at_return,
        _pins,
    )
    answers = (check(case) for check in checks)
    return next((answer for answer in answers if answer is not None), None) or _can_leave(case)


def _held(case: _Case) -> _Answer | None:
    bank, pending = case.target.bank, case.snapshot.pending
    if bank is not None and bank.kernel is KernelState.STUCK:
        return _Answer(Code.STUCK, reasons.stuck(bank.name))
    if pending is not None and pending in case.target.blocks:
        return _Answer(Code.CANCEL_PENDING, reasons.still_held(pending))
    return None


def _shape(case: _Case) -> _Answer | None:
    """memory_block_offline wants one zone before offline_pages counts holes; both are EINVAL."""
    for number in case.surveys:
        block = case.snapshot.block(number)
        if block is not None and block.valid_zones == ("none",):
            return _Answer(Code.MULTI_ZONE, f"memory{number} spans several zones (valid_zones is none)")
    for number, survey in case.surveys.items():
        if survey.holes:
            return _Answer(Code.HOLES, f"memory{number} has holes: part of it is no memory")
    return None


def _at_isolation(case: _Case) -> _Answer | None:
    """The kernel looks at the pages before it asks the notifiers; whoever frees them should know that it helps
    nothing where boot memory never leaves."""
    pages, boot = _pages(case, _AT_ISOLATION), _boot(case)
    return replace(pages, fact=f"{pages.fact}; and {boot.fact}") if pages is not None and boot is not None else pages


def _at_migration(case: _Case) -> _Answer | None:
    return _pages(case, _AT_MIGRATION)


def _gigantic(case: _Case) -> _Answer | None:
    """Blocks that have a place for their gigantic pages one by one need not have it together."""
    for pool in pools(case.leaving):
        if pool.gigantic and pool.free is not None and pool.fresh:
            evidence = tuple(Evidence(pfn, Kind.HUGETLB, Code.HUGETLB) for pfn in sorted(pool.first))
            return _Answer(Code.HUGETLB, reasons.no_huge_page(pool, case.snapshot.page_size), evidence)
    return None


def _at_return(case: _Case) -> _Answer | None:
    return _pages(case, _AT_RETURN)


def _pages(case: _Case, stage: tuple[Code, ...]) -> _Answer | None:
    for code in stage:
        evidence = tuple(e for s in case.surveys.values() for e in s.blocking if e.why is code)
        if evidence:
            first, number = evidence[0], next(n for n, s in case.surveys.items() if evidence[0] in s.blocking)
            fact = f"memory{number}: pfn {first.pfn:#x} is {first.kind}{_by(first.owner)}: {_why(first)}"
            return _Answer(code, fact + _round(case, code), evidence)
    return None


def _round(case: _Case, code: Code) -> str:
    """What isolation passes over is found out by nobody: the kernel goes round. One block that is refused at once ends
    it for all."""
    blocked = [s for s in case.surveys.values() if any(e.why is code for e in s.blocking)]
    if not all(survey.endless for survey in blocked):
        return ""
    row = kernels.row_of(case.snapshot.release)
    shrinks = code is Code.UNMOVABLE and row is not None and not row.keeps_slab
    return f", and {reasons.GOES_ROUND}{f'; {reasons.LIKELY_STAYS}' if shrinks else ''}"


_WHY = {
    Code.UNMOVABLE: "the kernel can't move it",
    Code.CMA: "it is in a CMA area, which can't be isolated",
    Code.HUGETLB: "no page of its size is free where it could go",
    Code.PINNED: "pinned, so migration would try for ever",
    Code.POISONED: "a bad page, with which the block could not come back",
}
_UNBACKED = "the hypervisor has it, and the driver that holds it does not let go"


def _why(evidence: Evidence) -> str:
    return _UNBACKED if evidence.kind is Kind.UNBACKED else _WHY[evidence.why]


def _by(owner: Owner | None) -> str:
    if owner is None:
        return ""
    names = [f"pid {owner.pid}" if owner.pid is not None else "", owner.comm or "", owner.cgroup or ""]
    return " of " + " ".join(n for n in names if n) if any(names) else ""


def _boot(case: _Case) -> _Answer | None:
    if case.snapshot.boot_memory_leaves is not False:
        return None
    bank = case.target.bank
    for number, survey in case.surveys.items():
        there = survey.boot if survey.boot is not None else bank is not None and bank.at_boot
        if there:
            fact = f"memory{number} was there at boot, and {case.snapshot.arch} never lets it go"
            return _Answer(Code.BOOT_MEMORY, fact)
    return None


def _leaf(case: _Case) -> _Answer | None:
    for number, survey in case.surveys.items():
        if survey.leaf:
            return _Answer(Code.VETO, reasons.leaf(f"memory{number}", survey.leaf))
    return None


def _board(case: _Case) -> _Answer | None:
    """The board's word on a whole bank. A single block, in whatever zone, may go if its pages can."""
    bank = case.target.bank
    if bank is None or bank.movable or not case.target.whole or bank.is_a_block:
        return None
    return _Answer(Code.NOT_MOVABLE_ZONE, f"the board does not call {bank.name} movable")


def _room(case: _Case) -> _Answer | None:
    if case.needs > case.room:
        return _Answer(Code.NO_CAPACITY, reasons.no_room(case.needs, case.room))
    for pool in pools(case.leaving):
        there = pieces(case.snapshot.zones, case.leaving, pool.pages)
        if not pool.gigantic and pool.fresh > there:
            return _Answer(Code.NO_CAPACITY, reasons.no_pieces(pool, case.snapshot.page_size, there))
    return None


def _pins(case: _Case) -> _Answer | None:
    if Code.PINS_UNKNOWN.value not in case.unknown:
        return None
    if "kinds" in case.unknown:
        return _Answer(Code.PINS_UNKNOWN, "neither what its pages hold nor their pins can be seen here")
    unseen = case.kinds().get(Kind.UNKNOWN, 0)
    contents = f"{unseen} pages do not show what they hold, and " if unseen else ""
    return _Answer(Code.PINS_UNKNOWN, f"nothing seen speaks against it, but {contents}pins can't be seen here")


def _can_leave(case: _Case) -> _Answer:
    blocks = (case.snapshot.block(number) for number in case.target.blocks)
    zones = {block.zone for block in blocks if block is not None and block.zone is not None} - {Zone.MOVABLE}
    fact = f"{case.target.name} can leave: {reasons.fits(case.to_move, case.needs, case.room)}"
    if zones:
        names, verb = " and ".join(sorted(zones)), "zone" if len(zones) == 1 else "zones"
        fact += f"; {verb} {names} may give it pages that can't move at any time"
    return _Answer(Code.OK, fact)


def _evidence(evidence: Evidence) -> dict[str, Any]:
    owner = evidence.owner
    who = None if owner is None else {"pid": owner.pid, "comm": owner.comm, "cgroup": owner.cgroup}
    return {"pfn": evidence.pfn, "kind": evidence.kind.value, "owner": who}
