# SPDX-License-Identifier: Apache-2.0
"""Small boards as values, a snapshot and its surveys, and the plainest way to choose from them: try every set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from hotbank.errors import Code
from hotbank.machine import BankStatus, Block, DomainStatus, Evidence, Snapshot, Survey, ZoneInfo
from hotbank.memory import BlockState, KernelState, Kind, Power, Range
from hotbank.operate.targets import resolve
from hotbank.operate.verdict import verdict
from hotbank.room import leaving_of, must_fit, room

PAGE, PAGES = 4096, 40  # 40 pages to a block: small numbers shrink well
BLOCK = PAGE * PAGES


@dataclass(frozen=True)
class Made:
    """A board with what its blocks hold, and how many bytes to free of it."""

    snapshot: Snapshot
    surveys: Mapping[int, Survey]
    size: int


@st.composite
def made(draw: st.DrawFn, most: int = 12, *, domains: bool = True) -> Made:
    """A board of up to ``most`` banks of one to three blocks (with ``domains``), or blocks that are banks."""
    spans = draw(
        st.lists(
            st.integers(1, 3 if domains else 1), min_size=draw(st.sampled_from([1, most // 2, most])), max_size=most
        )
    )
    nodes = draw(st.integers(1, 2))
    names = [f"d{n}" for n in range(draw(st.integers(0, 4)))] if domains else []
    banks, blocks, surveys, number = [], [], {}, 8
    for span in spans:
        node = draw(st.sampled_from([*range(nodes), None]))
        zone = draw(st.sampled_from(["Movable", "Movable", "Movable", "Normal", "DMA"]))
        absent = domains and draw(st.integers(0, 9)) == 0
        bank = f"b{number}" if domains else f"memory{number}"
        domain = draw(st.sampled_from([None, *names])) if domains else None
        route = "driver" if domains and draw(st.integers(0, 19)) else "none"
        numbers = tuple(range(number, number + span))
        if not absent:
            for n in numbers:
                state = BlockState.ONLINE if draw(st.integers(0, 9)) else BlockState.OFFLINE
                blocks.append(Block(n, Range.sized(n * BLOCK, BLOCK), state, (zone,), node))
                if state is BlockState.ONLINE:
                    surveys[n] = draw(_surveys(n))
        kernel = KernelState.ABSENT if absent else KernelState.ONLINE
        area = Range.sized(number * BLOCK, span * BLOCK)
        movable = draw(st.integers(0, 19)) > 0
        banks.append(
            BankStatus(bank, area, kernel, Power.ON, numbers, movable=movable, route=route, domain=domain, node=node)
        )
        number += span + draw(st.integers(0, 1))
    found = tuple(draw(_domain(name, banks)) for name in names)
    zones = tuple(draw(_zones(nodes)))
    snapshot = Snapshot("made", "arm", PAGE, BLOCK, "boot", tuple(blocks), zones, tuple(banks), found)
    return Made(snapshot, surveys, BLOCK * draw(st.integers(1, max(1, len(surveys) * 2 // 3))))


@st.composite
def _surveys(draw: st.DrawFn, number: int) -> Survey:
    anon = draw(st.integers(0, PAGES))
    file = draw(st.integers(0, PAGES - anon))
    other = draw(st.sampled_from([0, 0, 0, 1, 5]))
    kinds = {Kind.ANON: anon, Kind.FILE: file, Kind.UNKNOWN: min(other, PAGES - anon - file)}
    kinds[Kind.FREE] = PAGES - sum(kinds.values())
    clean = draw(st.one_of(st.none(), st.integers(0, file)))
    why = draw(st.sampled_from([None] * 30 + [Code.UNMOVABLE, Code.PINNED]))
    blocking = (Evidence(number * PAGES, Kind.SLAB, why),) if why else ()
    return Survey(number, kinds, blocking, len(blocking), boot=True, clean=clean)


@st.composite
def _domain(draw: st.DrawFn, name: str, banks: list[BankStatus]) -> DomainStatus:
    states = draw(
        st.sampled_from(
            [(Power.ON, Power.OFF)] * 3
            + [(Power.ON, Power.SELF_REFRESH, Power.OFF), (Power.ON, Power.SELF_REFRESH), (Power.ON,)]
        )
    )
    mine = tuple(b.name for b in banks if b.domain == name)
    out = all(b.kernel is KernelState.ABSENT for b in banks if b.domain == name)
    power = draw(st.sampled_from([Power.ON, Power.OFF])) if out and Power.OFF in states else Power.ON
    return DomainStatus(name, power, states, mine, "machine", interleaved=draw(st.integers(0, 9)) == 0)


@st.composite
def _zones(draw: st.DrawFn, nodes: int) -> list[ZoneInfo]:
    """Zones whose counters need not agree with the surveys: so they are on a machine that is at work."""
    found = []
    for node in range(nodes):
        for zone in ("DMA", "Normal", "Movable"):
            free = draw(st.integers(0, draw(st.sampled_from([8 * PAGES, PAGES]))))
            low, clean = draw(st.sampled_from([0, 7])), draw(st.integers(0, draw(st.sampled_from([0, PAGES]))))
            kept = draw(st.sampled_from([(0, 0), (0, 30), (20, 50)])) if zone != "Movable" else (0, 0)
            high, cma = low + draw(st.sampled_from([0, 5])), draw(st.sampled_from([0, 0, 3, 20]))
            marks = {"min": low, "low": low, "high": high, "reserve_normal": kept[0], "reserve_movable": kept[1]}
            sizes = (0, PAGES, PAGES, PAGES)
            found.append(ZoneInfo(node, zone, *sizes, free=free, reclaimable=clean, cma_free=min(cma, free), **marks))
    return found


def fewest_pages(made: Made) -> int | None:
    """The fewest pages to move that free ``made.size`` bytes, over every set of banks; None when no set does."""
    able = [bank for bank in made.snapshot.banks if _may_leave(made, bank)]
    costs = [sum(s.to_move + s.kinds.get(Kind.UNKNOWN, 0) for _, s in _own(made, bank)) for bank in able]
    sets = [[i for i in range(len(able)) if mask >> i & 1] for mask in range(1 << len(able))]
    for chosen in sorted(sets, key=lambda chosen: sum(costs[i] for i in chosen)):
        leaving = [able[i] for i in chosen]
        surveys = {n: s for bank in leaving for n, s in _own(made, bank)}
        if sum(_freed(made, leaving)) >= made.size and _fits(made, surveys):
            return sum(costs[i] for i in chosen)
    return None


def _may_leave(made: Made, bank: BankStatus) -> bool:
    own = dict(_own(made, bank))
    return not verdict(made.snapshot, own, resolve(made.snapshot, bank.name)).impossible


def _own(made: Made, bank: BankStatus) -> Iterator[tuple[int, Survey]]:
    first, last = bank.range.start // BLOCK, bank.range.end // BLOCK
    return ((n, s) for n, s in made.surveys.items() if first <= n < last)


def _fits(made: Made, surveys: Mapping[int, Survey]) -> bool:
    leaving = leaving_of(made.snapshot, surveys)
    return must_fit(made.snapshot.zones, leaving) <= room(made.snapshot.zones, leaving)


def _freed(made: Made, leaving: list[BankStatus]) -> Iterator[int]:
    """Bytes that go dark: domains none of whose banks stays; and what leaves without having a domain."""
    names = {bank.name for bank in leaving}
    yield from (BLOCK * sum(1 for _ in _own(made, bank)) for bank in leaving if bank.domain is None)
    for domain in made.snapshot.domains:
        banks = [bank for bank in made.snapshot.banks if bank.domain == domain.name]
        out = all(b.kernel is KernelState.ABSENT or (b.name in names and b.route != "none") for b in banks)
        if out and Power.OFF in domain.states and domain.power is not Power.OFF and not domain.interleaved:
            yield sum(bank.range.size for bank in banks)


def crowded() -> Made:
    """Thirty pages to move and room for 29: a zone of the kernel's keeps 30 pages from those of Movable, and would give
    them to those of a kernel zone, of which there are none in the set that the size needs."""
    files = {9: 4, 10: 19, 13: 7, 14: 0, 21: 0, 23: 6}
    zones = {n: "Normal" if n == 23 else "Movable" for n in files}
    online = [Block(n, Range.sized(n * BLOCK, BLOCK), BlockState.ONLINE, (zones[n],), 0) for n in files]
    gone = [Block(n, Range.sized(n * BLOCK, BLOCK), BlockState.OFFLINE, ("Movable",), 0) for n in (11, 12, 22)]
    surveys = {n: Survey(n, {Kind.FILE: held, Kind.FREE: PAGES - held}, boot=True) for n, held in files.items()}
    banks = {9: (2, True), 11: (2, False), 13: (1, True), 14: (1, True), 21: (1, False), 22: (2, True)}
    states = {11: KernelState.OFFLINE, 22: KernelState.PARTIAL}
    clean = {(0, "DMA"): 11, (0, "Normal"): 18, (0, "DMA32"): 17}
    kept = {(0, "DMA32"): 30}
    sizes = (0, PAGES, PAGES, PAGES)
    pairs = [(0, name) for name in ("DMA", "DMA32", "Normal", "Movable")]
    return Made(
        Snapshot(
            "crowded",
            "arm",
            PAGE,
            BLOCK,
            "boot",
            tuple(sorted(online + gone, key=lambda b: b.number)),
            tuple(
                ZoneInfo(*pair, *sizes, reclaimable=clean.get(pair, 0), reserve_movable=kept.get(pair, 0))
                for pair in pairs
            ),
            tuple(
                BankStatus(
                    f"b{n}",
                    Range.sized(n * BLOCK, span * BLOCK),
                    states.get(n, KernelState.ONLINE),
                    Power.ON,
                    tuple(range(n, n + span)),
                    movable=movable,
                    domain="d0" if n == 21 else None,
                    node=0,
                )
                for n, (span, movable) in banks.items()
            ),
            (DomainStatus("d0", Power.ON, (Power.ON, Power.OFF), ("b21",), "machine", interleaved=True),),
        ),
        surveys,
        4 * BLOCK,
    )
