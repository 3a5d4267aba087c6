# SPDX-License-Identifier: Apache-2.0
"""Which banks to take so that a given size is freed by moving the fewest pages. Touches nothing.

A page that does not show what it holds counts as one to move: what was seen comes first.

What leaves as one is an *offer*: all banks of a power domain (half of a domain saves nothing), a bank without a
domain, or a block where no board names banks. Choosing offers is a covering knapsack (knapsack.py) with one more
condition: what has to move must fit into what stays (room.py, over the union of what leaves). A set that does not fit
never fits with more in it, and room is a sum of maxima, so it is one linear limit for each way to take the maxima
(``_limits``). Of several nodes that are left each has its limits, and a set that is within those of one is held
against the others when it is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd

from hotbank.errors import Code
from hotbank.machine import DomainStatus, Snapshot, Survey, ZoneInfo
from hotbank.memory import BlockState, KernelState, Power, format_size
from hotbank.operate.knapsack import NEVER, Effort, Fits, Found, Item, anything, cheapest, least_room
from hotbank.operate.plan import Plan, removal
from hotbank.operate.reasons import INTERLEAVED, no_room, remedy
from hotbank.operate.targets import Target, bank_target, block_target
from hotbank.operate.verdict import verdict
from hotbank.room import Bound, Leaving, bounds, leaving_of, must_fit, places, room, zone_room
from hotbank.routes import route

_LIMIT_COST = 16  # pages of room that are added up in the time of one step
EFFORT = 4_000_000  # steps of a choice, a few seconds; then the best that was found is given, and what is proven of it


@dataclass(frozen=True, slots=True)
class Offer:
    """What leaves as one. ``size``: bytes that go dark, or leave the kernel where there is no domain.

    ``leaving``: its online blocks. ``targets``: its banks that are in the kernel.
    """

    name: str
    size: int
    targets: tuple[Target, ...]
    leaving: tuple[Leaving, ...]

    @property
    def pages(self) -> int:
        """Pages that have to move, or may have to."""
        return sum(one.may_move for one in self.leaving)


@dataclass(frozen=True, slots=True)
class GivenUp:
    """What was not considered, and why: ``code`` and one line in words."""

    name: str
    size: int
    code: Code
    why: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to "free so much". ``plan``: of all that was chosen; without steps when there is no way.

    ``size``: bytes freed. ``at_least``: no choice moves fewer pages, unseen ones counted; equal to ``plan.may_move``
    unless the search was cut short.
    """

    plan: Plan
    size: int
    given_up: tuple[GivenUp, ...]
    at_least: int


def choose(snapshot: Snapshot, surveys: Mapping[int, Survey], size: int) -> Choice:
    """The plan that frees at least ``size`` bytes and moves the fewest pages. ``surveys``: of all online blocks."""
    offers, given_up = offers_of(snapshot, surveys)
    chosen, at_least = fewest_pages(snapshot, offers, size)
    if chosen is None:
        return Choice(_no_way(snapshot, offers, given_up, size), 0, given_up, 0)
    targets = [target for offer in chosen for target in offer.targets]
    plan = removal(snapshot, surveys, targets)
    if plan.impossible:  # as a whole: the kernel holds a block, say
        return Choice(replace(plan, steps=()), 0, given_up, at_least)
    return Choice(plan, sum(offer.size for offer in chosen), given_up, at_least)


# What can be chosen from


def offers_of(snapshot: Snapshot, surveys: Mapping[int, Survey]) -> tuple[tuple[Offer, ...], tuple[GivenUp, ...]]:
    """Everything that can leave and saves something, and what can't or doesn't, with the reason."""
    offers: list[Offer] = []
    given_up: list[GivenUp] = []
    targets = _targets(snapshot)
    grouped: dict[str, list[Target]] = {}
    for target in targets:
        domain = target.bank.domain if target.bank is not None else None
        grouped.setdefault(f"domain {domain}" if domain else target.name, []).append(target)
    for name, group in grouped.items():
        found = _offer(snapshot, surveys, name, group)
        if isinstance(found, Offer):
            offers.append(found)
        elif found is not None:
            given_up.append(found)
    offers.sort(key=lambda offer: Bound.of(offer.leaving).kernel)  # at equal cost the safer
    return tuple(offers), tuple(given_up)


def staying(snapshot: Snapshot) -> dict[int, Survey]:
    """Online blocks that can't leave whatever they hold, which need no look to be given up: of banks that the board
    does not call movable, and boot memory of a kernel that keeps it."""
    found = dict[int, Survey]()
    for target in _targets(snapshot):
        online = (b for n in target.blocks if (b := snapshot.block(n)) and b.state is not BlockState.OFFLINE)
        unseen = {block.number: Survey.of_none(block.number) for block in online}
        bank = target.bank
        if bank is not None and (bank.is_a_block or not bank.movable) and verdict(snapshot, unseen, target).impossible:
            found |= unseen
    return found


def _targets(snapshot: Snapshot) -> list[Target]:
    if snapshot.banks:
        return [bank_target(snapshot, bank) for bank in snapshot.banks]
    return [block_target(snapshot, block.number) for block in snapshot.blocks]


def _offer(
    snapshot: Snapshot, surveys: Mapping[int, Survey], name: str, group: Sequence[Target]
) -> Offer | GivenUp | None:
    """The group as an offer, or why not; None where nothing of it is left to free."""
    bank = group[0].bank
    domain = snapshot.domain_of(bank) if bank is not None else None
    own = {n: surveys[n] for target in group for n in target.blocks if n in surveys}
    if domain is None:
        size, inside = len(own) * snapshot.block_size, tuple(group)
    else:
        size = 0 if domain.power is Power.OFF else sum(t.bank.range.size for t in group if t.bank is not None)
        inside = tuple(t for t in group if t.bank is not None and t.bank.kernel is not KernelState.ABSENT)
    if not size:
        return None
    reason = _saves_nothing(domain, inside) or _stays(snapshot, own, inside)
    if reason is not None:
        return GivenUp(name, size, *reason)
    return Offer(name, size, inside or tuple(group[:1]), leaving_of(snapshot, own))


def _saves_nothing(domain: DomainStatus | None, inside: Sequence[Target]) -> tuple[Code, str] | None:
    if domain is None:
        return None
    if domain.interleaved:
        return Code.UNSUPPORTED, INTERLEAVED
    lowest = domain.darkest
    if lowest is not Power.OFF:
        return Code.UNSUPPORTED, "never off: " + (f"{lowest} only" if lowest is not Power.ON else "no switch")
    tied = next((t.name for t in inside if t.bank is not None and not route(t.bank.route).removes), None)
    return (Code.UNSUPPORTED, f"{tied} has no route out of the kernel, so it stays on") if tied else None


def _stays(snapshot: Snapshot, surveys: Mapping[int, Survey], inside: Sequence[Target]) -> tuple[Code, str] | None:
    for target in inside:
        own = {n: surveys[n] for n in target.blocks if n in surveys}
        answer = verdict(snapshot, own, target)
        if answer.impossible:
            return answer.code, answer.fact
    if any("kinds" in s.unknown for s in surveys.values()):
        return Code.PINS_UNKNOWN, "what its pages hold can't be seen here, and so not what it costs"
    leaving = leaving_of(snapshot, surveys)
    needs, there = must_fit(snapshot.zones, leaving), room(snapshot.zones, leaving)
    return (Code.NO_CAPACITY, no_room(needs, there)) if needs > there else None


# The fewest pages


def fewest_pages(snapshot: Snapshot, offers: Sequence[Offer], size: int) -> tuple[tuple[Offer, ...] | None, int]:
    """The offers of ``size`` bytes or more that move the fewest pages and fit into what stays; None if none do.

    Beside them the number of pages that no choice stays below: the same number, unless a search was cut short.
    """
    unit = gcd(*(offer.size for offer in offers)) or 1
    need, effort = -(-size // unit), Effort(EFFORT)
    # Mostly there is room for anything: then one search without a limit is all.
    anyhow = cheapest(_boundless(offers).items(offers, unit), need, NEVER, _too_much(offers), effort)
    found = anyhow
    if anyhow.taken is not None and not _fits(snapshot, [offers[i] for i in anyhow.taken]):
        found = _within_limits(snapshot, offers, unit, need, anyhow, effort)
    if found.taken is None:
        return None, 0
    return _without_spare([offers[i] for i in sorted(found.taken)], size), found.at_least


def _too_much(offers: Sequence[Offer]) -> int:
    return sum(offer.pages for offer in offers) + 1


def _fits(snapshot: Snapshot, chosen: Sequence[Offer]) -> bool:
    leaving = [one for offer in chosen for one in offer.leaving]
    return must_fit(snapshot.zones, leaving) <= room(snapshot.zones, leaving)


def _within_limits(
    snapshot: Snapshot, offers: Sequence[Offer], unit: int, need: int, anyhow: Found, effort: Effort
) -> Found:
    """The best under each way to take the maxima; ``anyhow``: the best if there were room for everything."""
    best, fits = Found(None, _too_much(offers), NEVER), _fitting(snapshot, offers)
    for limit in _limits(snapshot, offers, effort):
        found = cheapest(limit.items(offers, unit), need, limit.room, best.cost, effort, fits)
        at_least = min(best.at_least, found.at_least)
        best = replace(found if found.taken is not None else best, at_least=at_least)
    proven = best.at_least if effort.left > 0 else 0  # a way that was not tried may be cheaper
    return replace(best, at_least=min(best.cost, max(proven, anyhow.at_least)))


def _without_spare(chosen: Sequence[Offer], size: int) -> tuple[Offer, ...]:
    """Nothing that the size does not need: offers without a page to move come along unnoticed."""
    spare, kept = sum(offer.size for offer in chosen) - size, []
    for offer in sorted(chosen, key=lambda o: (-o.pages, o.size)):
        if offer.size <= spare:
            spare -= offer.size
        else:
            kept.append(offer.name)
    return tuple(offer for offer in chosen if offer.name in set(kept))


def _most(snapshot: Snapshot, offers: Sequence[Offer]) -> int | None:
    """The most bytes that can leave at once, by bisection; None where it takes too long to say."""
    unit, effort = gcd(*(offer.size for offer in offers)) or 1, Effort(EFFORT)
    fitting = _fitting(snapshot, offers)
    low, high = 0, sum(offer.size for offer in offers) // unit
    while low < high:
        middle = (low + high + 1) // 2
        limits = _limits(snapshot, offers, effort)
        fits = (least_room(limit.items(offers, unit), middle, limit.room, effort, fitting).taken for limit in limits)
        low, high = (middle, high) if any(taken is not None for taken in fits) else (low, middle - 1)
    return low * unit if effort.left > 0 else None


# What stays has room: a sum of maxima, as one linear limit for each way to take them


@dataclass(frozen=True, slots=True)
class _Limit:
    """``takes``: pages of room that each offer needs, None for offers that this way leaves out.

    Offers whose ``takes`` sum to ``room`` or less fit; and offers that fit are within one of the limits.
    """

    takes: tuple[int | None, ...]
    room: int

    def items(self, offers: Sequence[Offer], unit: int) -> list[Item]:
        """The offers that this way allows, as items of a knapsack."""
        both = zip(offers, self.takes, strict=True)
        return [Item(i, o.size // unit, o.pages, take) for i, (o, take) in enumerate(both) if take is not None]


def _boundless(offers: Sequence[Offer]) -> _Limit:
    return _Limit((0,) * len(offers), NEVER)


def _limits(snapshot: Snapshot, offers: Sequence[Offer], effort: Effort) -> Iterator[_Limit]:
    """All ways, as far as the effort reaches: by where the pages that leave come from, and each zone's maxima.

    They are made one by one, because the zones of many nodes make more of them than there is time, or memory.
    """
    must = [places(snapshot.zones, offer.leaving) for offer in offers]
    for bound, inside in _bounds(snapshot, offers):
        zones = [zone for zone in snapshot.zones if bound.takes(zone)]
        for ways in product(*(list(_ways(zone, bound, offers)) for zone in zones)):
            if effort.left <= 0:
                return
            effort.left -= len(zones) * len(offers) // _LIMIT_COST
            takes = (sum(parts) for parts in zip(must, *(take for _, take in ways), strict=True))
            taken = tuple(t if i else None for t, i in zip(takes, inside, strict=True))
            yield _Limit(taken, sum(there for there, _ in ways))


def _bounds(snapshot: Snapshot, offers: Sequence[Offer]) -> Iterator[tuple[Bound, tuple[bool, ...]]]:
    """Each bound that a set of offers can have, and which offers it allows.

    Under the bound of both, any set may be judged: it is the narrowest, so what fits under it fits.
    """
    own = [Bound.of(offer.leaving) for offer in offers]
    for away in _left(snapshot, offers):
        yield Bound(kernel=False, high=True, away=away), tuple(not bound.kernel for bound in own)
        if any(bound.kernel for bound in own):
            yield Bound(kernel=True, high=False, away=away), tuple(not bound.high for bound in own)
            yield Bound(kernel=True, high=True, away=away), (True,) * len(own)


def _left(snapshot: Snapshot, offers: Sequence[Offer]) -> list[int | None]:
    """The nodes that offers leave for others."""
    leaving = [one for offer in offers for one in offer.leaving]
    return [bound.away for bound in bounds(snapshot.zones, leaving)]


def _fitting(snapshot: Snapshot, offers: Sequence[Offer]) -> Fits:
    """What a limit does not say of a set that leaves several nodes: that it fits under the bound of each."""
    if len(_left(snapshot, offers)) == 1:
        return anything
    return lambda taken: _fits(snapshot, [offers[number] for number in taken])


def _ways(zone: ZoneInfo, bound: Bound, offers: Sequence[Offer]) -> Iterator[tuple[int, tuple[int, ...]]]:
    here = [[one for one in offer.leaving if one.lies_in(zone)] for offer in offers]
    free = [sum(one.free for one in own) for own in here]
    clean = [sum(one.clean for one in own) for own in here]
    return zone_room(zone, bound).ways(free, clean)


# When nothing does


def _no_way(snapshot: Snapshot, offers: Sequence[Offer], given_up: Sequence[GivenUp], size: int) -> Plan:
    able = sum(offer.size for offer in offers)
    if able >= size:
        code, fact = Code.NO_CAPACITY, "nothing was found whose pages fit into the memory that stays"
        most = _most(snapshot, offers)
        fact = fact if most is None else f"the memory that stays has room for the pages of {format_size(most)} at most"
    else:
        code = _most_of(given_up)
        fact = f"only {format_size(able)} can leave" if able else "nothing here can leave"
        fact += " and save power" if any(part.code is Code.UNSUPPORTED for part in given_up) else ""
        fact += ", as far as can be seen" if code is Code.PINS_UNKNOWN else ""
    help_ = remedy(code) if code is Code.NO_CAPACITY else "ask for less; what is given up is named with its reason"
    return Plan(snapshot.machine, "remove", format_size(size), (), (), code, fact, help_)


def _most_of(given_up: Sequence[GivenUp]) -> Code:
    """The reason that keeps the most bytes."""
    sizes = Counter[Code]()
    for part in given_up:
        sizes[part.code] += part.size
    return sizes.most_common(1)[0][0] if sizes else Code.UNSUPPORTED
