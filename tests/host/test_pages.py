# SPDX-License-Identifier: Apache-2.0
"""Pages all at once against the plain twin, one after the other (page_by_page.py)."""

from __future__ import annotations

from array import array
from itertools import chain, groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from host import page_by_page
from hotbank.host import pages, planes
from hotbank.host.planes import Planes
from hotbank.memory import CODE, KINDS, Kind

MEANT = (
    pages.LRU, pages.SLAB, pages.BUDDY, pages.MMAP, pages.ANON, pages.SWAPCACHE, pages.SWAPBACKED, pages.UPTODATE,
    pages.COMPOUND_HEAD, pages.COMPOUND_TAIL, pages.HUGE, pages.HWPOISON, pages.NOPAGE, pages.THP, pages.OFFLINE,
    pages.ZERO_PAGE, pages.PGTABLE, pages.RESERVED, pages.PRIVATE,
)  # fmt: skip
USED = pages.LRU | pages.UPTODATE
Page = tuple[int, int, int]  # flags, mappings, references

words = st.lists(st.sampled_from(MEANT), max_size=3).map(sum) | st.integers(0, (1 << 64) - 1)
counts = st.integers(0, 3) | st.integers(126, 130) | st.sampled_from([255, 256, 1 << 20])
refs = st.integers(-1, 4) | st.integers(126, 132) | st.sampled_from([-(1 << 31), 256, 1024, (1 << 31) - 1])


@st.composite
def folios(draw: st.DrawFn) -> list[Page]:
    """A large folio whose references are nearly explained."""
    size, whole = draw(st.sampled_from([2, 4, 16])), draw(st.integers(0, 2))
    own = USED | pages.THP | draw(st.sampled_from([0, pages.ANON, pages.ANON | pages.SWAPCACHE, pages.SWAPBACKED]))
    each = [whole + draw(st.integers(0, 2) | st.just(300)) for _ in range(size)]
    cached = size * (not own & pages.ANON or bool(own & pages.SWAPCACHE))
    total = sum(each) - whole * (size - 1) + cached + draw(st.integers(-1, 1))
    tail = pages.COMPOUND_TAIL | draw(st.sampled_from([own, pages.THP]))
    return [(own | pages.COMPOUND_HEAD, each[0], total)] + [(tail, count, 0) for count in each[1:]]


@st.composite
def singles(draw: st.DrawFn) -> list[Page]:
    """A page on an LRU list whose references are nearly explained."""
    own = USED | draw(st.sampled_from([0, pages.ANON, pages.SWAPBACKED, pages.PRIVATE]))
    count = draw(counts)
    return [(own, count, count + (not own & pages.ANON) + bool(own & pages.PRIVATE) + draw(st.integers(-1, 1)))]


anything = st.tuples(words, counts, refs).map(lambda page: [page])
blocks = st.lists(st.one_of(anything, singles(), folios()), max_size=30).map(lambda parts: [*chain(*parts)])


def plane_of(code: str, numbers: list[int]) -> Planes:
    return Planes(array(code, numbers).tobytes(), array(code).itemsize)


@examples(200)
@given(blocks)
def test_all_at_once_is_one_after_the_other(block: list[Page]) -> None:
    agree(block)


def agree(block: list[Page]) -> None:
    """Kinds and pins are those of the twin."""
    flags, mapped, held = ([page[column] for page in block] for column in range(3))
    bulk = [plane_of(code, column) for code, column in zip("QQi", (flags, mapped, held), strict=True)]
    kinds = page_by_page.kinds_of(flags)
    found = pages.kinds_of(bulk[0])
    assert [KINDS[code] for code in found] == kinds
    pages.resolve_unflagged(found, bulk[2])
    assert [KINDS[code] for code in found] == page_by_page.resolved(kinds, held)
    pins = pages.pinned(found, *bulk)
    assert set(planes.indices(planes.number(pins), len(pins))) == page_by_page.pinned(
        page_by_page.resolved(kinds, held), flags, mapped, held
    )


@given(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=20), st.integers(1, 3))
def test_planes_hold_the_numbers(numbers: list[int], spread: int) -> None:
    """Each of them, and what is asked of all: whether it is zero, positive, small."""
    raw = array("i", [word for number in numbers for word in (number, *[7] * (spread - 1))]).tobytes()
    found = Planes(raw, 4, stride=4 * spread)
    assert [found.signed(index) for index in range(found.count)] == numbers
    assert list(planes.plane(found.some(), found.count)) == [number != 0 for number in numbers]
    assert list(planes.plane(found.positive(), found.count)) == [number > 0 for number in numbers]
    small = planes.plane(found.small(), found.count)
    assert list(small) == [number if 0 <= number < 128 else 128 for number in numbers]


@given(st.lists(st.tuples(st.sampled_from([0, 1, 128, 255]), st.integers(1, 5)), max_size=9))
def test_runs(made: list[tuple[int, int]]) -> None:
    codes = b"".join(bytes([code]) * count for code, count in made)
    assert list(planes.runs(codes)) == [(code, len(list(run))) for code, run in groupby(codes)]


@pytest.mark.parametrize(
    ("forgotten", "page"),
    [
        (pages.SWAPCACHE, (USED | pages.ANON | pages.SWAPCACHE, 1, 2)),
        (pages.LRU, (pages.UPTODATE | pages.LRU, 0, 2)),
        (pages.PRIVATE, (USED | pages.PRIVATE, 0, 2)),
        (pages.COMPOUND_TAIL, (USED | pages.COMPOUND_TAIL, 0, 2)),
    ],
)
def test_a_forgotten_bit_is_caught(forgotten: int, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin itself, on a rule that is blind to one of them."""
    agree([page])
    right = Planes.has
    monkeypatch.setattr(Planes, "has", lambda self, mask: right(self, mask & ~forgotten))
    with pytest.raises(AssertionError):
        agree([page])


def test_a_block_of_one_kind_takes_no_step_a_page() -> None:
    """Whatever the pages are: only those that speak against their kind are looked at one by one."""
    count = 1 << 15
    anon = Planes((USED | pages.ANON).to_bytes(8, "little") * count, 8)
    ones = Planes((1).to_bytes(8, "little") * count, 8)
    looked = list[int]()
    ones.at = ones.signed = lambda index: looked.append(index) or 1  # type: ignore[method-assign,func-returns-value]
    assert pages.kinds_of(anon) == bytes([CODE[Kind.ANON]]) * count
    assert not any(pages.pinned(pages.kinds_of(anon), anon, ones, ones))
    assert looked == []


@given(
    st.integers(0, 4).flatmap(lambda top: st.tuples(st.just(top), st.lists(st.booleans(), min_size=1, max_size=100)))
)
def test_free_pages_make_the_largest_blocks_that_they_can(made: tuple[int, list[bool]]) -> None:
    top, free = made
    free += [False] * (-len(free) % (1 << top))
    whole = [0] * (top + 1)
    at = 0
    while at < len(free):
        order = next((o for o in range(top, -1, -1) if at % (1 << o) == 0 and all(free[at : at + (1 << o)])), None)
        whole[order or 0] += order is not None
        at += 1 << (order or 0)
    assert planes.buddies(bytes(free), top) == whole
