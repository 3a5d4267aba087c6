# SPDX-License-Identifier: Apache-2.0
"""The list of clean pages against a plain one: every page in one row, the oldest first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotbank.model.lru import Handle, Lru

ZONES = range(3)
ACTS = st.lists(st.tuples(st.sampled_from(("add", "discard", "behind")), st.sampled_from(ZONES), st.integers(1, 4)))


@given(ACTS, st.sets(st.sampled_from(ZONES)), st.integers(0, 20))
def test_the_oldest_of_any_zones_are_those_of_one_row(
    acts: list[tuple[str, int, int]], zones: set[int], pages: int
) -> None:
    lru, row, fresh = Lru(), list[tuple[int, Handle]](), 1
    for act, zone, count in acts:
        if act == "add":
            handles = [Handle(number) for number in range(fresh, fresh + count)]
            lru.add(zone, handles)
            row += [(zone, handle) for handle in handles]
            fresh += count
            continue
        some = row[zone::count]
        row = [page for page in row if page not in some]
        if act == "discard":
            gone = list(lru.discard([*(handle for _, handle in some), Handle(fresh)]))
            assert [(zone, handle) for zone, group in gone for handle in group] == some
        else:
            lru.put_behind(handle for _, handle in some)
            row += some
    assert list(lru) == [handle for _, handle in row]
    assert lru.oldest(zones, pages) == [handle for zone, handle in row if zone in zones][:pages]
    assert lru.pages(zones) == sum(zone in zones for zone, _ in row)
