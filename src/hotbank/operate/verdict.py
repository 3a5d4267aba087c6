# SPDX-License-Identifier: Apache-2.0
"""What will happen if a block or bank is taken away now: pure functions of a snapshot and surveys.

Reasons come in the order in which the kernel would give them (mm/memory_hotplug.c, ``offline_pages``):
holes and zones first (EINVAL), then isolation (mm/page_isolation.c, ``has_unmovable_pages``: EBUSY), then the
notifiers (EPERM for arm64's boot memory), then migration, which has no answer of its own for a pinned page
or for want of room and tries for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hotbank.errors import Code
from hotbank.machine import BankStatus, Block, Evidence, Owner, Snapshot, Survey, ZoneInfo
from hotbank.memory import KernelState, Kind, Zone
from hotbank.operate.reasons import remedy
from hotbank.operate.targets import Target

SCHEMA = 1
_EVIDENCE = 16
_KERNEL = frozenset({Zone.DMA, Zone.DMA32, Zone.NORMAL})
_HIGH = frozenset({Zone.HIGHMEM, Zone.MOVABLE})
_MIGRATABLE = _KERNEL | _HIGH
_AT_ISOLATION = (Code.UNMOVABLE, Code.CMA, Code.HUGETLB)
_AT_MIGRATION = (Code.PINNED,)
_AT_RETURN = (Code.POISONED,)  # the block leaves, but can't be put online again (EHWPOISON)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer. ``needs``: pages to carry elsewhere; ``room``: pages that fit there; ``fact``: one line in words.

    ``kinds``: pages by kind over all surveyed blocks. ``blocked``: pages that can't move, the first of them
    in ``evidence``. ``unknown``: what the surveys could not see.
    """

    target: str
    code: Code
    fact: str
    evidence: tuple[Evidence, ...] = ()
    blocked: int = 0
    kinds: Mapping[Kind, int] = field(default_factory=dict)
    needs: int = 0
    room: int = 0
    unknown: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def impossible(self) -> bool:
        """True if a survey proves that the removal fails. What could not be seen proves nothing."""
        return self.code not in (Code.OK, Code.PINS_UNKNOWN)

    def document(self, machine: str) -> dict[str, Any]:
        """The JSON of ``hotbank explain --json``."""
        return {
            "schema": SCHEMA,
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
    kinds = Counter[Kind]()
    for survey in surveys.values():
        kinds.update(survey.kinds)
    needs = sum(s.to_move for s in surveys.values())
    room = room_for(snapshot, surveys)
    unknown = _unknown(snapshot, surveys)
    code, fact, evidence = _reason(snapshot, surveys, target, needs, room, unknown)
    blocked = sum(s.blocked for s in surveys.values())
    help_ = remedy(code)
    return Verdict(target.name, code, fact, evidence[:_EVIDENCE], blocked, dict(kinds), needs, room, unknown, help_)


def room_for(snapshot: Snapshot, surveys: Mapping[int, Survey]) -> int:
    """Pages that the memory which stays can take: down to each zone's min watermark, once its clean cache is dropped.

    A zone gives ``max(0, free - min - reserve + clean page cache)``, free pages and cache without what lies in the
    leaving blocks (mm/page_alloc.c, ``__zone_watermark_ok``; mm/vmscan.c reclaims for ``__GFP_RETRY_MAYFAIL``).
    """
    allowed = zones_for(snapshot, surveys)
    return sum(_room_in(zone, snapshot, surveys, allowed) for zone in snapshot.zones if zone.zone in allowed)


def spare_in(zone: ZoneInfo, allowed: frozenset[Zone]) -> int:
    """Free pages that a zone gives to pages which may go to the allowed zones; below 0 it has first to get some."""
    return zone.free - zone.min - (zone.reserve_movable if Zone.MOVABLE in allowed else zone.reserve_normal)


def zones_for(snapshot: Snapshot, blocks: Iterable[int]) -> frozenset[Zone]:
    """Zones that take the pages of all these blocks.

    Pages of a kernel zone can only go to kernel zones (mm/memory_hotplug.c, ``do_migrate_range``), so one such block
    leaves Movable and HighMem out.
    """
    return _MIGRATABLE if all(_zone(snapshot, n) in _HIGH for n in blocks) else _KERNEL


def must_fit(surveys: Mapping[int, Survey]) -> int:
    """Pages that need a place elsewhere. Clean page cache needs none: where there is no room for it, it is dropped."""
    return sum(s.to_move - (s.clean or 0) for s in surveys.values())


def _room_in(zone: ZoneInfo, snapshot: Snapshot, surveys: Mapping[int, Survey], allowed: frozenset[Zone]) -> int:
    leaving = [s for n, s in surveys.items() if (b := snapshot.block(n)) and lies_in(b, zone)]
    spare = spare_in(zone, allowed) - sum(s.kinds.get(Kind.FREE, 0) for s in leaving)
    clean = zone.reclaimable - sum(s.clean if s.clean is not None else s.kinds.get(Kind.FILE, 0) for s in leaving)
    return max(0, spare + max(0, clean))


def _zone(snapshot: Snapshot, number: int) -> str | None:
    block = snapshot.block(number)
    return block.valid_zones[0] if block is not None and block.valid_zones else None


def lies_in(block: Block, zone: ZoneInfo) -> bool:
    """True if an online block is in the zone, as far as its node is known."""
    return zone.zone in block.valid_zones[:1] and (block.node is None or block.node == zone.node)


def _unknown(snapshot: Snapshot, surveys: Mapping[int, Survey]) -> tuple[str, ...]:
    """Views that were missing, pins under their reason code, because that is what they put in doubt."""
    missing = {Code.PINS_UNKNOWN.value if view == "pins" else view for s in surveys.values() for view in s.unknown}
    if snapshot.boot_memory_leaves is not True and any(s.boot is None for s in surveys.values()):
        missing.add("boot")
    return tuple(sorted(missing))


_Answer = tuple[Code, str, tuple[Evidence, ...]]


def _reason(
    snapshot: Snapshot,
    surveys: Mapping[int, Survey],
    target: Target,
    needs: int,
    room: int,
    unknown: tuple[str, ...],
) -> _Answer:
    held = _held(snapshot, target)
    if held is not None:
        return held
    if not surveys:
        return Code.OK, f"{target.name}: nothing to do, no block of it is online", ()
    boot = _boot(snapshot, surveys, target)
    checks = (
        _shape(snapshot, surveys),
        _with_boot(_pages(surveys, _AT_ISOLATION), boot),
        boot,
        _board(target),
        _pages(surveys, _AT_MIGRATION),
        _room(must_fit(surveys), room),
        _pages(surveys, _AT_RETURN),
        _pins(unknown),
    )
    first = next((answer for answer in checks if answer is not None), None)
    return first or _can_leave(snapshot, target, needs, room)


def _held(snapshot: Snapshot, target: Target) -> _Answer | None:
    if target.bank is not None and target.bank.kernel is KernelState.STUCK:
        return Code.STUCK, f"{target.bank.name} is stuck: half out of the kernel until the next boot", ()
    if snapshot.pending is not None and snapshot.pending in target.blocks:
        return Code.CANCEL_PENDING, f"memory{snapshot.pending} is still held by a cancelled offline", ()
    return None


def _shape(snapshot: Snapshot, surveys: Mapping[int, Survey]) -> _Answer | None:
    for number, survey in surveys.items():
        if survey.holes:
            return Code.HOLES, f"memory{number} has holes: part of it is no memory", ()
    for number in surveys:
        block = snapshot.block(number)
        if block is not None and block.valid_zones == ("none",):
            return Code.MULTI_ZONE, f"memory{number} spans several zones (valid_zones is none)", ()
    return None


def _pages(surveys: Mapping[int, Survey], stage: tuple[Code, ...]) -> _Answer | None:
    for code in stage:
        evidence = tuple(e for s in surveys.values() for e in s.blocking if e.why is code)
        if evidence:
            first, number = evidence[0], next(n for n, s in surveys.items() if evidence[0] in s.blocking)
            fact = f"memory{number}: pfn {first.pfn:#x} is {first.kind}{_by(first.owner)}: {_WHY[code]}"
            return code, fact, evidence
    return None


_WHY = {
    Code.UNMOVABLE: "the kernel can't move it",
    Code.CMA: "it is in a CMA area, which can't be isolated",
    Code.HUGETLB: "a huge page that can't migrate",
    Code.PINNED: "pinned, so migration would try for ever",
    Code.POISONED: "a bad page, with which the block could not come back",
}


def _by(owner: Owner | None) -> str:
    if owner is None:
        return ""
    names = [f"pid {owner.pid}" if owner.pid is not None else "", owner.comm or "", owner.cgroup or ""]
    return " of " + " ".join(n for n in names if n) if any(names) else ""


def _boot(snapshot: Snapshot, surveys: Mapping[int, Survey], target: Target) -> _Answer | None:
    if snapshot.boot_memory_leaves is not False:
        return None
    for number, survey in surveys.items():
        there = survey.boot if survey.boot is not None else target.bank is not None and target.bank.at_boot
        if there:
            return Code.BOOT_MEMORY, f"memory{number} was there at boot, and {snapshot.arch} never lets it go", ()
    return None


def _with_boot(pages: _Answer | None, boot: _Answer | None) -> _Answer | None:
    """The kernel looks at the pages first; whoever frees them should know that it helps nothing."""
    if pages is None or boot is None:
        return pages
    code, fact, evidence = pages
    return code, f"{fact}; and {boot[1]}", evidence


def _board(target: Target) -> _Answer | None:
    """The board's word on a whole bank. A single block, in whatever zone, may go if its pages can."""
    bank = target.bank
    if bank is None or bank.movable or target.name != bank.name or _is_a_block(bank):
        return None
    return Code.NOT_MOVABLE_ZONE, f"the board does not call {bank.name} movable", ()


def _is_a_block(bank: BankStatus) -> bool:
    """True for the banks of a machine without a board: each is one block under the block's own name."""
    return len(bank.blocks) == 1 and bank.name == f"memory{bank.blocks[0]}"


def _can_leave(snapshot: Snapshot, target: Target, needs: int, room: int) -> _Answer:
    zones = {b.valid_zones[0] for n in target.blocks if (b := snapshot.block(n)) and b.valid_zones}
    fact = f"{target.name} can leave: {needs} pages to move, room for {room}"
    if zones - {Zone.MOVABLE}:
        fact += f"; zone {sorted(zones)[0]} may give it pages that can't move at any time"
    return Code.OK, fact, ()


def _room(pages: int, room: int) -> _Answer | None:
    if pages <= room:
        return None
    return Code.NO_CAPACITY, f"{pages} pages have to move and the memory that stays has room for {room}", ()


def _pins(unknown: tuple[str, ...]) -> _Answer | None:
    if Code.PINS_UNKNOWN.value not in unknown:
        return None
    if "kinds" in unknown:
        return Code.PINS_UNKNOWN, "neither what its pages hold nor their pins can be seen here", ()
    return Code.PINS_UNKNOWN, "nothing seen speaks against it, but pins can't be seen here", ()


def _evidence(evidence: Evidence) -> dict[str, Any]:
    owner = evidence.owner
    who = None if owner is None else {"pid": owner.pid, "comm": owner.comm, "cgroup": owner.cgroup}
    return {"pfn": evidence.pfn, "kind": evidence.kind.value, "owner": who}
