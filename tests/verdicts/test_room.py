# SPDX-License-Identifier: Apache-2.0
"""The one arithmetic of room: its rules on small zones, and what verdict, choice and an offline rely on, by property.

That a kernel agrees is asked of the model's (tests/model/test_room.py) and of real ones (tests/kernel/arm64).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from hotbank import room
from hotbank.errors import Code, Refusal
from hotbank.machine import Ability, Block, Reading, Snapshot, Survey, ZoneInfo
from hotbank.memory import BlockState, Kind, Range
from hotbank.operate import capacity
from hotbank.operate.targets import resolve
from hotbank.operate.verdict import verdict
from hotbank.room import Leaving, ZoneRoom, leaving_of, must_fit
from verdicts.made_boards import PAGES, Made, made


def zone(name: str, free: int, node: int = 0, **more: int) -> ZoneInfo:
    """A zone with so many free pages."""
    return ZoneInfo(node, name, 0, 60000, 60000, 60000, free=free, **more)


@pytest.mark.parametrize(("origin", "fits"), [("Movable", 60000 + 1900), ("HighMem", 61900), ("Normal", 1900)])
def test_pages_of_a_kernel_zone_find_no_room_in_movable(origin: str, fits: int) -> None:
    """They may go to kernel zones only, so what is free elsewhere does not keep the OOM killer away."""
    zones = (zone("Normal", 2000, high=100), zone("Movable", 60000, high=100))
    assert room.room(zones, (Leaving(origin),)) == fits


def test_a_zone_that_is_not_known_counts_as_the_kernels() -> None:
    zones = (zone("Normal", 2000), zone("Movable", 60000), zone("Device", 500))
    assert room.room(zones, (Leaving(None),)) == 2000


@pytest.mark.parametrize(
    ("reserve", "cma", "fits"),
    [(0, 0, 1900), (1900, 1900, 0), (1901, 0, 0), (50, 50, 1850), (0, 60, 1840), (0, 1901, 1800)],
)
def test_what_a_zone_keeps_is_no_room(reserve: int, cma: int, fits: int) -> None:
    """``lowmem_reserve``, and free pages that only movable ones can have; not both of them twice.

    Of what is left, CMA's are half at most, since movable pages take those first as soon as they are more.
    """
    zones = (zone("Normal", 2000, high=100, reserve_normal=reserve, cma_free=cma),)
    assert room.room(zones, (Leaving("Normal"),)) == fits


def test_what_the_reserve_holds_back_need_not_be_held_again() -> None:
    zones = (zone("Normal", 2000, min=50, high=100, reserve_movable=30),)
    assert room.room(zones, (Leaving("Movable"),)) == 1900
    assert room.capacity(zones, (Leaving("Movable"),)) == 1920
    zones = (replace(zones[0], reserve_movable=70),)
    assert room.room(zones, (Leaving("Movable"),)) == room.capacity(zones, (Leaving("Movable"),)) == 1880


def test_several_blocks_meet_the_narrowest_of_their_bounds() -> None:
    zones = (zone("Normal", 2000, reserve_normal=10, reserve_movable=500), zone("Movable", 60000))
    low, high = Leaving("Normal"), Leaving("Movable")
    assert room.room(zones, (low,)) == 1990
    assert room.room(zones, (high,)) == 61500
    assert room.room(zones, (low, high)) == 1500


def test_page_cache_is_clean_only_where_somebody_knows() -> None:
    block = Block(8, Range(0, 4096 * PAGES), BlockState.ONLINE, ("Normal",), 0)
    kinds = {Kind.ANON: 10, Kind.FILE: 20, Kind.FREE: 10}
    assert Leaving.of(block, Survey(8, kinds, clean=15)) == Leaving("Normal", 0, 40, 30, 15, 10, 15)
    assert Leaving.of(block, Survey(8, kinds)) == Leaving("Normal", 0, 40, 30, 30, 10, 0)


PAIRS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans()), min_size=1, max_size=6)


@given(st.integers(-60, 200), st.integers(0, 120), PAIRS)
def test_a_zone_in_linear_terms_is_the_same_zone(above: int, clean: int, parts: list[tuple[int, int, bool]]) -> None:
    """For every choice the greatest term is what is left; a term that can't be the greatest may be missing."""
    own = ZoneRoom(above, clean)
    chosen = [i for i, (_, _, taken) in enumerate(parts) if taken]
    left = own.left(sum(parts[i][0] for i in chosen), sum(parts[i][1] for i in chosen))
    ways = own.ways([free for free, _, _ in parts], [cache for _, cache, _ in parts])
    assert max(there - sum(takes[i] for i in chosen) for there, takes in ways) == left


@given(made(), st.data())
def test_a_set_that_has_no_room_has_none_with_more_in_it(board: Made, data: st.DataObject) -> None:
    """What the choice of the cheapest set rests on."""
    leaving = leaving_of(board.snapshot, board.surveys)
    more = [one for one in leaving if data.draw(st.booleans())]
    few = [one for one in more if data.draw(st.booleans())]
    assert room.room(board.snapshot.zones, more) <= room.room(board.snapshot.zones, few)


@given(made())
def test_what_has_room_leaves_the_spare_and_what_has_not_does_not(board: Made) -> None:
    """An offline that was begun with room is not ended for want of it, unless others take memory meanwhile."""
    zones, leaving = board.snapshot.zones, leaving_of(board.snapshot, board.surveys)
    there, spare = room.capacity(zones, leaving), room.spare(zones, leaving)
    assert 0 <= spare <= there
    assert (there - must_fit(zones, leaving) >= spare) == (must_fit(zones, leaving) <= room.room(zones, leaving))


@given(made())
def test_a_block_that_fits_as_a_whole_fits_whatever_is_in_it(board: Made) -> None:
    """So that a transaction need not look at a block again where there is room for a full one."""
    zones = board.snapshot.zones
    for one in leaving_of(board.snapshot, board.surveys):
        if one.pages <= room.room(zones, (one.whole,)):
            assert must_fit(zones, (one,)) <= room.room(zones, (one,))


class Still:
    """A machine on which nothing happens."""

    can = frozenset[Ability]()

    def __init__(self, board: Made) -> None:
        self._board = board

    def snapshot(self) -> Snapshot:
        return self._board.snapshot

    def survey(self, block: int) -> Survey:
        return self._board.surveys[block]

    def reading(self) -> Reading:
        return Reading(0.0, self._board.snapshot.zones)


def one_word(board: Made) -> bool:
    """Of every block, what the verdict says of room is what the transaction says before its offline."""
    for number, survey in board.surveys.items():
        block = board.snapshot.block(number)
        assert block is not None
        said = verdict(board.snapshot, {number: survey}, resolve(board.snapshot, number)).code
        try:
            capacity.spare_for(Still(board), number, Leaving.of(block, survey))  # type: ignore[arg-type]
            begun = True
        except Refusal:
            begun = False
        if said in (Code.OK, Code.NO_CAPACITY) and begun is not (said is Code.OK):
            return False
    return True


@given(made())
def test_what_the_verdict_allows_is_begun_and_what_it_forbids_is_not(board: Made) -> None:
    assert one_word(board)


def test_a_second_arithmetic_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As there was one once: a machine could be OK to the verdict, and then refuse."""
    own = room.room

    def other(zones: Iterable[ZoneInfo], leaving: Sequence[Leaving]) -> int:
        return own([replace(zone, min=zone.low + zone.high) for zone in zones], leaving)

    monkeypatch.setattr(capacity, "room", SimpleNamespace(room=other, spare=room.spare, must_fit=room.must_fit))
    assert find(made(), lambda board: not one_word(board), settings=settings(phases=(Phase.generate,)))


@pytest.mark.parametrize("free", [32_000, 36_000])
def test_a_block_that_fits_is_begun_although_a_full_one_would_not(free: int) -> None:
    """24,000 pages to move and room for them; the block itself has more pages than there is room."""
    blocks = (Block(8, Range.sized(1 << 30, 128 << 20), BlockState.ONLINE, ("Movable",), 0),)
    zones = (zone("Normal", free, min=1000, low=1200, high=1500), zone("Movable", 8_768, min=600, low=700, high=800))
    surveys = {8: Survey(8, {Kind.ANON: 24_000, Kind.FREE: 8_768}, boot=False)}
    board = Made(Snapshot("one", "any", 4096, 128 << 20, "boot", blocks, zones, boot_memory_leaves=True), surveys, 1)
    assert verdict(board.snapshot, surveys, resolve(board.snapshot, 8)).code is Code.OK
    assert one_word(board)


@given(made())
def test_no_verdict_is_ok_that_needs_more_than_there_is_room(board: Made) -> None:
    """The number that is told is the number that was compared; clean page cache is not in it."""
    snapshot = board.snapshot
    for name in [bank.name for bank in snapshot.banks]:
        target = resolve(snapshot, name)
        own = {n: board.surveys[n] for n in target.blocks if n in board.surveys}
        said = verdict(snapshot, own, target)
        if not said.impossible:
            assert said.needs <= said.room
        document = said.document("made")
        assert (document["needs"], document["room"]) == (said.needs, said.room)
        assert said.to_move == sum(s.to_move for s in own.values()) >= said.needs
