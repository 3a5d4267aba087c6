# SPDX-License-Identifier: Apache-2.0
"""The map on a screen: every block once, in a line that fits, in signs that are explained below it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import board
from hotbank.cli import bankmap, run
from hotbank.machine import BankStatus, Block, Snapshot, Survey
from hotbank.memory import BlockState, Kind, Power, Range, format_size
from hotbank.model import Model
from hotbank.operate.look import surveys_of
from hotbank.report.cells import Map
from verdicts.made_boards import Made, made

WORDS = {"off", "self-refresh", "out", "offline"}


def drawn(memory: Map, columns: int) -> list[str]:
    """The lines without their styles."""
    return ["".join(text for text, _ in line) for line in bankmap.lines(memory, columns)]


def blocks_of(bars: list[str]) -> list[str]:
    """What stands between the bars of all lines that have some."""
    return [cell for line in bars if line.startswith("|") for cell in line.strip("|").split("|")]


def host(blocks: int) -> Map:
    """A machine without a board, every second block free and the others not looked at."""
    there = [Block(n, Range.sized(n << 27, 1 << 27), BlockState.ONLINE, ("Normal",), 0) for n in range(blocks)]
    banks = tuple(BankStatus.of(f"memory{b.number}", b.range, [b], Power.ON) for b in there)
    surveys = {n: Survey(n, {Kind.FREE: 1 << 15}) for n in range(0, blocks, 2)}
    return Map.of(Snapshot("host", "any", 4096, 1 << 27, "boot", tuple(there), (), banks), surveys)


@given(made(), st.integers(40, 200))
def test_every_block_stands_once_and_fits(case: Made, columns: int) -> None:
    memory = Map.of(case.snapshot, case.surveys)
    lines = drawn(memory, columns)
    cells = blocks_of(lines)
    assert len(cells) == len(list(memory.cells))
    assert len({len(cell) for cell in cells}) == 1
    assert all(len(line) <= columns for line in lines if line.startswith(("|", " ")))
    told = {sign.split(" ")[0] for sign in lines[-1].split("  ")}
    assert {sign for cell in cells if cell.strip() not in WORDS for sign in cell} - {" "} <= told | {"_", "-", "o"}


@pytest.mark.parametrize(("columns", "width"), [(200, 48), (80, 18), (40, 8)])
def test_it_is_as_wide_as_the_screen(columns: int, width: int) -> None:
    model = Model.boot(board.load("arm-2009"))
    snapshot = model.snapshot()
    memory = Map.of(snapshot, surveys_of(model, snapshot, [block.number for block in snapshot.blocks]))
    lines = drawn(memory, columns)
    assert lines[0] == "low  256M  Normal  online  power on"
    assert {len(cell) for cell in blocks_of(lines)} == {width}
    assert ("16: 0x40000000" in lines[1]) is (width > 13)
    assert lines[1].split()[0] in ("16:", "16")


@pytest.mark.parametrize(("blocks", "columns"), [(192, 80), (8192, 200), (100, 30)])
def test_many_blocks_are_a_sign_each(blocks: int, columns: int) -> None:
    lines = drawn(host(blocks), columns)
    rows = [re.fullmatch(r"0x[0-9a-f]+  ([.?]+)", line) for line in lines[1:-1]]
    signs = "".join(row[1] for row in rows if row)
    assert all(rows)
    assert signs == "".join(".?"[n % 2] for n in range(blocks))
    assert all(len(line) <= columns for line in lines)
    assert lines[0] == f"memory0–{blocks - 1}  {format_size(blocks << 27)}  Normal"
    assert lines[-1] == "? not seen  . free"


def test_what_is_out_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    model = Model.boot(board.load("arm-2009"))
    for number in range(20, 24):
        model.offline(number, model.clock.now() + 60)
    assert "|     offline      |" in drawn(Map.of(model.snapshot()), 80)[5]
    model.remove("high")
    assert "|       out        |" in drawn(Map.of(model.snapshot()), 80)[5]
    model.set_power("ddr-high", Power.OFF)
    assert "|       off        |" in drawn(Map.of(model.snapshot()), 80)[5]


def test_list_draws_it_and_nothing_beside(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["-m", "model:arm-2009", "list", "--map"]) == 0
    assert len(blocks_of(capsys.readouterr().out.splitlines())) == 8
    for stray in ("--json", "--used", "--lsmem", "-b"):
        assert run(["-m", "model:arm-2009", "list", "--map", stray]) == 2


def _light(colour: int) -> float:
    """Relative luminance (WCAG 2) of one of xterm's colours from 16 on."""
    steps = (0, 95, 135, 175, 215, 255)
    cube = colour - 16
    rgb = [8 + 10 * (colour - 232)] * 3 if colour >= 232 else [steps[cube // n % 6] for n in (36, 6, 1)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_signs_read_on_a_ground_of_their_own_on_dark_and_light_screens() -> None:
    memory = Map.of(Snapshot("none", "any", 4096, 1 << 27, "boot"))
    assert drawn(memory, 80) == []
    for _, name, style in (*bankmap.SIGNS.values(), bankmap.DARK, bankmap.OUT, bankmap.OFFLINE):
        assert style.fg is not None, name
        assert style.bg is not None, name
        lights = sorted((_light(style.fg), _light(style.bg)))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) > 4.5, name
