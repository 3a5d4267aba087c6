# SPDX-License-Identifier: Apache-2.0
"""Which banks to take so that a given size is freed by moving the fewest pages. Touches nothing.

What leaves as one is an *offer*: all banks of a power domain (half of a domain saves nothing), a bank without a
domain, or a block where no board names banks. Choosing offers is a covering knapsack with one more condition: what
has to move must fit into what stays (verdict.py, ``must_fit`` and ``room_for``, over the union of what leaves).
A set that does not fit never fits with more in it, and room is a sum of maxima, so it is one linear limit for each
way to take the maxima (``_limits``). Under one limit the minimum is found by branch and bound with a Lagrangian
bound (``_Search``); offers of one size, as blocks are, make that bound exact, and then it is the greedy choice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, product
from math import gcd, lcm

from hotbank.errors import Code
from hotbank.machine import DomainStatus, Snapshot, Survey, ZoneInfo
from hotbank.memory import KernelState, Kind, Power, Zone, format_size
from hotbank.operate.plan import Action, Plan, Step, domain_of, lowest_power, removal
from hotbank.operate.reasons import remedy
from hotbank.operate.targets import Target, block_numbers
from hotbank.operate.verdict import lies_in, must_fit, room_for, spare_in, verdict, zones_for
from hotbank.routes import route

EFFORT = 4_000_000  # steps of a choice, a few seconds; then the best that was found is given, and what is proven of it
_SCALE = 1 << 10  # prices of room are fractions of this denominator


@dataclass(frozen=True, slots=True)
class Offer:
    """What leaves as one. ``size``: bytes that go dark, or leave the kernel where there is no domain.

    ``surveys``: of its online blocks. ``targets``: its banks that are in the kernel.
    """

    name: str
    size: int
    targets: tuple[Target, ...]
    surveys: Mapping[int, Survey]

    @property
    def pages(self) -> int:
        """Pages that have to move."""
        return sum(s.to_move for s in self.surveys.values())


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

    ``size``: bytes freed. ``at_least``: no choice moves fewer pages; equal to ``plan.pages`` unless the search was
    cut short.
    """

    plan: Plan
    size: int
    given_up: tuple[GivenUp, ...]
    at_least: int


def choose(snapshot: Snapshot, surveys: Mapping[int, Survey], size: int) -> Choice:
    """The plan that frees at least ``size`` bytes and moves the fewest pages. ``surveys``: of all online blocks."""
    offers, given_up = offers_of(snapshot, surveys)
    chosen, at_least = cheapest(snapshot, offers, size)
    if chosen is None:
        return Choice(_no_way(snapshot, offers, given_up, size), 0, given_up, 0)
    targets = [target for offer in chosen for target in offer.targets]
    plan = together(snapshot, surveys, targets)
    return Choice(plan, sum(offer.size for offer in chosen), given_up, at_least)


def together(snapshot: Snapshot, surveys: Mapping[int, Survey], targets: Sequence[Target]) -> Plan:
    """One removal of several banks and blocks: all blocks offline, emptiest first, then the banks out, then dark."""
    taken = {t.bank.name for t in targets if t.bank is not None and t.name == t.bank.name}
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


def _judged(snapshot: Snapshot, leaving: Mapping[int, Survey], plan: Plan, parts: Sequence[Plan]) -> Plan:
    """Parts that can leave one by one must fit into what stays together."""
    needs, room = must_fit(leaving), room_for(snapshot, leaving)
    if plan.impossible or len(parts) == 1:
        return plan
    if needs > room:
        return replace(plan, code=Code.NO_CAPACITY, fact=_no_room(needs, room), remedy=remedy(Code.NO_CAPACITY))
    return replace(plan, fact=f"{plan.pages} pages to move, room for {room}") if plan.code is Code.OK else plan


def _no_room(needs: int, room: int) -> str:
    return f"{needs} pages have to move and the memory that stays has room for {room}"


_ORDER = {Action.OFFLINE: 0, Action.REMOVE: 1}


def _in_order(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Each step once: as long as a block is online, pages of the others may move into it, so all go offline first."""
    once = dict.fromkeys(steps)
    return tuple(sorted(once, key=lambda s: (_ORDER.get(s.action, 2), s.pages, s.block or 0)))


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
    offers.sort(key=lambda offer: Zone.MOVABLE not in zones_for(snapshot, offer.surveys))  # at equal cost the safer
    return tuple(offers), tuple(given_up)


def _targets(snapshot: Snapshot) -> list[Target]:
    present = {b.number for b in snapshot.blocks}
    if not snapshot.banks:
        return [Target(f"memory{n}", None, (n,)) for n in sorted(present)]
    return [
        Target(bank.name, bank, tuple(n for n in block_numbers(snapshot, bank) if n in present))
        for bank in snapshot.banks
    ]


def _offer(
    snapshot: Snapshot, surveys: Mapping[int, Survey], name: str, group: Sequence[Target]
) -> Offer | GivenUp | None:
    """The group as an offer, or why not; None where nothing of it is left to free."""
    bank = group[0].bank
    domain = domain_of(snapshot, bank) if bank is not None else None
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
    return Offer(name, size, inside or tuple(group[:1]), own)


def _saves_nothing(domain: DomainStatus | None, inside: Sequence[Target]) -> tuple[Code, str] | None:
    if domain is None:
        return None
    if domain.interleaved:
        return Code.UNSUPPORTED, "interleaved: its ranges are spread over all chips, so their leaving saves nothing"
    lowest = lowest_power(domain)
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
    needs, room = must_fit(surveys), room_for(snapshot, surveys)
    if needs > room:
        return Code.NO_CAPACITY, _no_room(needs, room)
    return None


def _no_way(snapshot: Snapshot, offers: Sequence[Offer], given_up: Sequence[GivenUp], size: int) -> Plan:
    able = sum(offer.size for offer in offers)
    if able >= size:
        code, fact = Code.NO_CAPACITY, "the pages of so much do not fit into the memory that stays"
        most = _most(snapshot, offers)
        fact = fact if most is None else f"the memory that stays has room for the pages of {format_size(most)} at most"
    else:
        code = _most_of(given_up)
        fact = f"only {format_size(able)} can leave" if able else "nothing here can leave"
        fact += ", as far as can be seen" if code is Code.PINS_UNKNOWN else ""
    return Plan(snapshot.machine, "remove", format_size(size), (), (), (), code, fact, remedy(code))


def _most_of(given_up: Sequence[GivenUp]) -> Code:
    """The reason that keeps the most bytes."""
    sizes = Counter[Code]()
    for part in given_up:
        sizes[part.code] += part.size
    return sizes.most_common(1)[0][0] if sizes else Code.UNSUPPORTED


# The fewest pages


def cheapest(snapshot: Snapshot, offers: Sequence[Offer], size: int) -> tuple[tuple[Offer, ...] | None, int]:
    """The offers of ``size`` bytes or more that move the fewest pages and fit into what stays; None if none do.

    Beside them the number of pages that no choice stays below: the same number, unless a search was cut short.
    """
    unit = gcd(*(offer.size for offer in offers)) or 1
    need, below = -(-size // unit), sum(offer.pages for offer in offers) + 1
    effort = _Effort(EFFORT)
    anyhow = _search(_items(offers, unit, (0,) * len(offers)), need, _NEVER, 0, below, effort)
    if anyhow.taken is None or _fits(snapshot, [offers[i] for i in anyhow.taken]):
        found = anyhow
    else:
        found = _under_limits(snapshot, offers, unit, need, anyhow, effort)
    if found.taken is None:
        return None, 0
    return _without_spare([offers[i] for i in sorted(found.taken)], size), found.at_least


def _fits(snapshot: Snapshot, chosen: Sequence[Offer]) -> bool:
    leaving = {n: survey for offer in chosen for n, survey in offer.surveys.items()}
    return must_fit(leaving) <= room_for(snapshot, leaving)


def _under_limits(
    snapshot: Snapshot, offers: Sequence[Offer], unit: int, need: int, anyhow: _Found, effort: _Effort
) -> _Found:
    """The best under each way to take the maxima; ``anyhow``: the best if there were room for everything."""
    best = _Found(None, sum(offer.pages for offer in offers) + 1, _NEVER)
    for limit in _limits(snapshot, offers):
        found = _under(_items(offers, unit, limit.takes), need, limit.room, best.cost, effort)
        at_least = min(best.at_least, found.at_least if effort.left > 0 else anyhow.at_least)
        best = replace(found if found.taken is not None else best, at_least=at_least)
        if effort.left <= 0:
            break
    return replace(best, at_least=min(best.cost, max(best.at_least, anyhow.at_least)))


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
    """The most bytes that can leave at once; None where it takes too long to say."""
    unit = gcd(*(offer.size for offer in offers)) or 1
    effort = _Effort(EFFORT)
    low, high = 0, sum(offer.size for offer in offers) // unit
    while low < high:
        middle = (low + high + 1) // 2
        if any(
            _least_room(_items(offers, unit, limit.takes), middle, limit.room, effort).taken is not None
            for limit in _limits(snapshot, offers)
            if effort.left > 0
        ):
            low = middle
        else:
            high = middle - 1
    return low * unit if effort.left > 0 else None


# What stays has room: a sum of maxima, as one linear limit for each way to take them


@dataclass(frozen=True, slots=True)
class _Limit:
    """``takes``: pages of room that each offer needs, None for offers that this way leaves out.

    Offers whose ``takes`` sum to ``room`` or less fit; and offers that fit are within one of the limits.
    """

    takes: tuple[int | None, ...]
    room: int


@dataclass(frozen=True, slots=True)
class _ZoneRoom:
    """A zone's part of ``room_for``: ``max(0, spare - free that leaves + max(0, cache - cache that leaves))``."""

    spare: int
    cache: int
    free: tuple[int, ...]
    clean: tuple[int, ...]

    def ways(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The terms that can be the maximum for some choice: room, and what each offer takes of it."""
        nothing = (0,) * len(self.free)
        if not any(self.free) and not any(self.clean):
            yield max(0, self.spare + max(0, self.cache)), nothing
            return
        yield self.spare + self.cache, tuple(f + c for f, c in zip(self.free, self.clean, strict=True))
        left = self.cache - sum(self.clean)
        if left < 0:
            yield self.spare, self.free
        if self.spare - sum(self.free) + max(0, left) < 0:
            yield 0, nothing


def _zone_room(snapshot: Snapshot, zone: ZoneInfo, offers: Sequence[Offer], allowed: frozenset[Zone]) -> _ZoneRoom:
    free, clean = [0] * len(offers), [0] * len(offers)
    for i, offer in enumerate(offers):
        for number, survey in offer.surveys.items():
            block = snapshot.block(number)
            if block is not None and lies_in(block, zone):
                free[i] += survey.kinds.get(Kind.FREE, 0)
                clean[i] += survey.clean if survey.clean is not None else survey.kinds.get(Kind.FILE, 0)
    return _ZoneRoom(spare_in(zone, allowed), zone.reclaimable, tuple(free), tuple(clean))


def _limits(snapshot: Snapshot, offers: Sequence[Offer]) -> Iterator[_Limit]:
    """All ways: with blocks of kernel zones among what leaves and without, and each zone's maxima."""
    must = [must_fit(offer.surveys) for offer in offers]
    kernel = tuple(Zone.MOVABLE not in zones_for(snapshot, offer.surveys) for offer in offers)
    for out in dict.fromkeys(((False,) * len(offers), kernel)):
        staying = [n for offer, o in zip(offers, out, strict=True) if not o for n in offer.surveys]
        allowed = zones_for(snapshot, staying)
        rooms = [_zone_room(snapshot, zone, offers, allowed) for zone in snapshot.zones if zone.zone in allowed]
        for ways in product(*(list(room.ways()) for room in rooms)):
            takes = (sum(parts) for parts in zip(must, *(take for _, take in ways), strict=True))
            yield _Limit(tuple(None if o else t for t, o in zip(takes, out, strict=True)), sum(r for r, _ in ways))


# Branch and bound under one limit


@dataclass(frozen=True, slots=True)
class _Item:
    """An offer on the way into a knapsack. ``size`` in common units, ``cost`` and ``takes`` in pages."""

    number: int
    size: int
    cost: int
    takes: int


@dataclass(frozen=True, slots=True)
class _Found:
    """The cheapest that a search came upon, None where there is nothing; what nothing stays below."""

    taken: tuple[int, ...] | None
    cost: int
    at_least: int


_NEVER = 1 << 62
_Taken = tuple[int, "_Taken"] | None


def _items(offers: Sequence[Offer], unit: int, takes: Sequence[int | None]) -> list[_Item]:
    parts = zip(offers, takes, strict=True)
    return [_Item(i, o.size // unit, o.pages, t) for i, (o, t) in enumerate(parts) if t is not None]


@dataclass(slots=True)
class _Effort:
    """Steps that are left; no search takes all of them, so that the next one can still begin."""

    left: int


def _under(items: Sequence[_Item], need: int, room: int, below: int, effort: _Effort) -> _Found:
    """The cheapest items of ``need`` units or more that take ``room`` at most and cost less than ``below``."""
    without_regard = _search(items, need, _NEVER, 0, below, effort)
    if without_regard.taken is None or _takes(items, without_regard.taken) <= room:
        return without_regard
    least = _least_room(items, need, room, effort)
    if least.taken is None:
        return _Found(None, below, _NEVER if least.at_least > room else without_regard.at_least)
    cost = sum(item.cost for item in items if item.number in set(least.taken))
    found = _search(items, need, room, _price(items, need, room, effort), min(below, cost), effort)
    at_least = max(found.at_least, without_regard.at_least)
    if found.taken is None and cost < below:
        return _Found(least.taken, cost, at_least)
    return _Found(found.taken, found.cost, at_least)


def _least_room(items: Sequence[_Item], need: int, room: int, effort: _Effort) -> _Found:
    """Items of ``need`` units that take the least room, if that is ``room`` or less."""
    return _search([_Item(i.number, i.size, i.takes, 0) for i in items], need, _NEVER, 0, room + 1, effort)


def _takes(items: Sequence[_Item], taken: Sequence[int]) -> int:
    chosen = set(taken)
    return sum(item.takes for item in items if item.number in chosen)


class _Priced:
    """Items by what a unit of them costs when a page of room costs ``price / _SCALE`` pages of moving."""

    def __init__(self, items: Sequence[_Item], price: int) -> None:
        def weight(item: _Item) -> int:
            return item.cost * _SCALE + item.takes * price

        whole = lcm(*(item.size for item in items))
        self.items = sorted(items, key=lambda item: weight(item) * (whole // item.size))
        self.weights = [weight(item) for item in self.items]
        self._sizes = [0, *accumulate(item.size for item in self.items)]
        self._sums = [0, *accumulate(self.weights)]

    def least(self, at: int, need: int) -> int | None:
        """The least weight of ``need`` units from the items at ``at`` and on, the last one cut; None: too few."""
        end = self._sizes[at] + need
        if end > self._sizes[-1]:
            return None
        last = bisect_left(self._sizes, end)
        whole = self._sums[last - 1] - self._sums[at]
        return whole + self.weights[last - 1] * (end - self._sizes[last - 1]) // self.items[last - 1].size

    def taken(self, need: int) -> int:
        """Room that the cheapest ``need`` units take, the last item whole."""
        last = bisect_left(self._sizes, need)
        return sum(item.takes for item in self.items[:last])


def _price(items: Sequence[_Item], need: int, room: int, effort: _Effort) -> int:
    """The price of room with the highest Lagrangian bound, by bisection on what is then taken."""
    low, high = 0, _SCALE
    while high < _NEVER and _Priced(items, high).taken(need) > room:
        low, high = high, high * 4
    while high - low > 1:
        effort.left -= len(items)
        middle = (low + high) // 2
        low, high = (middle, high) if _Priced(items, middle).taken(need) > room else (low, middle)
    return high


def _search(items: Sequence[_Item], need: int, room: int, price: int, below: int, effort: _Effort) -> _Found:
    """Depth first, the cheapest item first; a branch ends where its bound is not below the best that is known."""
    priced = _Priced(items, price)
    best: _Taken = None
    floor: int | None = None
    open_: list[tuple[int, int, int, int, int, _Taken]] = [(0, need, 0, 0, 0, None)]
    steps = limit = max(effort.left * 3 // 4, 4 * len(items))
    while open_ and steps:
        steps -= 1
        at, left, cost, takes, weight, taken = open_.pop()
        if left <= 0:
            if cost < below:
                best, below = taken, cost
            continue
        least = priced.least(at, left)
        if least is None:
            continue
        bound = -((room * price - weight - least) // _SCALE)
        floor = bound if floor is None else floor
        if bound >= below:
            continue
        item = priced.items[at]
        open_.append((at + 1, left, cost, takes, weight, taken))
        if takes + item.takes <= room:
            entry = (item.number, taken)
            added = weight + priced.weights[at]
            open_.append((at + 1, left - item.size, cost + item.cost, takes + item.takes, added, entry))
    effort.left -= limit - steps + len(items)
    at_least = min(below, floor or 0) if open_ else below
    return _Found(tuple(_numbers(best)) if best is not None else None, below, at_least)


def _numbers(taken: _Taken) -> Iterator[int]:
    while taken is not None:
        number, taken = taken
        yield number
