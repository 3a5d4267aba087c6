# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows is what a pipe gets: every line, whole or broken between words, in order, and nothing else."""

from __future__ import annotations

from functools import cache

import pytest

from hotbank.cli.screen import wrapped
from terminal import pictures, screens
from terminal.screens import COMMANDS


@cache
def _piped(name: str, columns: int) -> tuple[str, ...]:
    return tuple(screens.steady(screens.piped(COMMANDS[name], columns)))


@cache
def _seen(name: str, columns: int, **changes: str) -> tuple[list[str], bytes]:
    return screens.seen(COMMANDS[name], columns, changes)


def _wrong(name: str, columns: int, **changes: str) -> tuple[list[str], bytes]:
    shown, came = _seen(name, columns, **changes)
    assert all(len(line) <= columns for line in shown)
    return screens.missing(_piped(name, columns), screens.steady(shown)), came


@pytest.mark.long
@pytest.mark.parametrize(("name", "columns"), [("demo", 100), ("demo", 200), *((name, 80) for name in COMMANDS)])
def test_a_terminal_shows_what_a_pipe_gets(name: str, columns: int) -> None:
    assert _wrong(name, columns)[0] == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["list", "zones", "energy"])
def test_no_row_of_a_table_is_broken_on_80_columns(name: str) -> None:
    shown, _ = _seen(name, 80)
    rows = [line for line in _piped(name, 80) if "  " in line.strip() and not line.startswith(("net", "dram"))]
    assert [row for row in rows if row.split() not in [line.split() for line in screens.steady(shown)]] == []
    assert any(len(row) > 76 for row in rows) or name == "energy", "the pipe's table is a wide one"


@pytest.mark.long
def test_colour_is_left_out_where_it_is_not_wanted() -> None:
    wrong, came = _wrong("demo", 80, NO_COLOR="1")
    assert wrong == []
    assert b"\x1b[3" not in came


@pytest.mark.long
@pytest.mark.parametrize("name", ["demo", "remove"])
def test_a_dumb_terminal_gets_no_control_sequence(name: str) -> None:
    wrong, came = _wrong(name, 80, TERM="dumb")
    assert wrong == []
    assert b"\x1b" not in came


@pytest.mark.long
def test_the_map_is_drawn_over_in_place() -> None:
    _, came = _wrong("demo", 100)
    assert came.count(b"pages moved") > 20
    assert b"\x1b[1A" in came


@pytest.mark.long
@pytest.mark.parametrize("name", pictures.PICTURES)
def test_the_pictures_show_what_is_shown_today(name: str) -> None:
    picture, kept = pictures.PICTURES[name], (pictures.FOLDER / f"{name}.svg").read_text()
    today = pictures.content(pictures.drawn(picture, *_seen(picture.command, pictures.COLUMNS)))
    assert pictures.content(kept) == today, pictures.AGAIN
    assert len(set(today[1])) > 3, "a map has colours"


def test_the_judge_sees_a_swallowed_and_a_cut_line() -> None:
    piped = ["explain   PINNED: so much is pinned", "content   fine"]
    assert screens.missing(piped, ["explain   PINNED: so much", "          is pinned", "content   fine"]) == []
    assert screens.missing(piped, ["explain   PINNED: so mu", "ch is pinned", "content   fine"])
    assert screens.missing(piped, ["content   fine"])
    assert screens.missing(piped, [*piped, "content   fine"])


def test_what_follows_hangs_beside_its_label() -> None:
    assert list(wrapped("explain   one two three four five", 30)) == ["explain   one two three four", "          five"]
    assert list(wrapped("given up  one two three four five", 30)) == ["given up  one two three four", "          five"]
    assert list(wrapped("   0.000  step", 80)) == ["   0.000  step"]
    assert list(wrapped("", 80)) == [""]
    assert list(wrapped("a/very/long/word more", 6)) == ["a/very/long/word", "more"]
