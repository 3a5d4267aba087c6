# SPDX-License-Identifier: Apache-2.0
"""Where the map is drawn: every block once, within the screen, found again under the mouse and by the arrow keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank.cli.seen.panels import sparkline
from hotbank.cli.seen.tiles import Layout, Part
from hotbank.machine import BankStatus, Block, Snapshot
from hotbank.memory import BlockState, Power, Range
from hotbank.report.cells import Map
from verdicts.made_boards import Made, made

SIZE = 1 << 12


def drawn_of(blocks: int) -> Map:
    there = [Block(n, Range.sized(n * SIZE, SIZE), BlockState.ONLINE, ("Movable",), 0) for n in range(3, 3 + blocks)]
    banks = (BankStatus.of("all", Range.sized(3 * SIZE, blocks * SIZE), there, Power.ON),) if blocks else ()
    return Map.of(Snapshot("host", "any", SIZE, SIZE, "boot", tuple(there), (), banks))


def of_made(case: Made) -> Map:
    return Map.of(case.snapshot)


maps = st.one_of(made(8).map(of_made), st.sampled_from([1, 4, 32, 64, 300]).map(drawn_of))


@examples(40)
@given(maps, st.integers(40, 200), st.integers(4, 60))
def test_every_block_is_drawn_and_found_again(drawn: Map, width: int, height: int) -> None:
    layout = Layout.of(drawn, width, height)
    homes = [spot for row in layout.rows if row.part in (Part.NAMES, Part.SIGNS) for spot in row.spots]
    assert sorted(spot.cell.block for spot in homes) == [cell.block for cell in drawn.cells]
    for y, row in enumerate(layout.rows):
        for spot in row.spots:
            assert 0 <= spot.x < spot.x + spot.width <= width
            assert all(layout.cell_at(x, y) is spot.cell for x in (spot.x, spot.x + spot.width - 1))
    assert layout.cell_at(0, len(layout.rows)) is None


@examples(40)
@given(maps, st.integers(40, 200), st.integers(4, 60))
def test_arrow_keys_reach_every_line(drawn: Map, width: int, height: int) -> None:
    layout = Layout.of(drawn, width, height)
    block: int | None = next(cell.block for cell in drawn.cells)
    lines = []
    while block is not None:
        lines.append(layout.line_of(block))
        below = layout.beyond(block, 1)
        assert below is None or layout.beyond(below, -1) is not None
        block = below
    assert lines == [y for y, row in enumerate(layout.rows) if row.part in (Part.NAMES, Part.SIGNS)]


def test_what_fits_is_drawn_as_large_as_it_fits() -> None:
    few, many = drawn_of(8), drawn_of(600)
    heights = [len(Layout.of(few, 100, height).rows) for height in (3, 5, 8, 60)]
    assert heights == [3, 5, 8, 10]
    assert {row.part for row in Layout.of(many, 100, 20).rows} == {Part.TITLE, Part.SIGNS}


def test_a_sparkline_is_as_high_as_its_share() -> None:
    assert sparkline([None, 0.0, 1.0, 8.0, 9.0, 16.0, 99.0], 16.0) == ["    ▁██", "  ▁████"]
