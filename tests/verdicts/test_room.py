# SPDX-License-Identifier: Apache-2.0
"""The one arithmetic of room: its rules on small zones, and what verdict, choice and an offline rely on, by property.

That a kernel agrees is asked of the model's (tests/model/test_room.py) and of real ones (tests/kernel/arm64).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import room
from hotbank.machine import Block, Survey, ZoneInfo
from hotbank.memory import BlockState, Kind, Range
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
    assert Leaving.of(block, Survey(8, kinds)) == Leaving("Normal", 0, 40, 30, 30, 10, 20)


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
    assert (there - must_fit(leaving) >= spare) == (must_fit(leaving) <= room.room(zones, leaving))


@given(made())
def test_a_block_that_fits_as_a_whole_fits_whatever_is_in_it(board: Made) -> None:
    """So that a transaction need not look at a block again where there is room for a full one."""
    zones = board.snapshot.zones
    for one in leaving_of(board.snapshot, board.surveys):
        if one.pages <= room.room(zones, (one.whole,)):
            assert one.must_fit <= room.room(zones, (one,))


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
