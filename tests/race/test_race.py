# SPDX-License-Identifier: Apache-2.0
"""What the race on guests decides by itself: the states, chmem's order, which runs of pages stay, and the table."""

from __future__ import annotations

import mmap
import random
import subprocess
from argparse import ArgumentTypeError
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from race.__main__ import Run, chosen, highest_first, table
from race.states import STATES, State

from race import fill

PAGES = 64  # of a block
TWICE = State("twice", "a state for a test", lambda _: [], 4)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
@given(seed=st.integers(0, 1 << 32))
def test_what_leaves_a_state_has_room_in_what_stays(state: State, seed: int) -> None:
    shares = state.shares(random.Random(seed))
    assert shares == state.shares(random.Random(seed))
    assert len(shares) == 10
    leaving = sorted(shares)[: state.wanted] if state.wanted else shares[6:]
    staying = sorted(shares)[state.wanted :] if state.wanted else shares[:6]
    assert sum(leaving) <= sum(100 - share for share in staying)


def test_a_state_that_there_is_not_is_refused_before_a_guest_boots() -> None:
    assert [state.name for state in chosen("half,full bank")] == ["half", "full bank"]
    with pytest.raises(ArgumentTypeError, match="no state hlaf; known: full bank, half"):
        chosen("half,hlaf")


def refusing(folder: Path, blocks: range, refused: set[int]) -> list[int]:
    """A folder of blocks; those that refuse can't be written."""
    for number in blocks:
        state = folder / f"memory{number}" / "state"
        state.parent.mkdir()
        state.mkdir() if number in refused else state.write_text("online\n")
    (folder / "block_size_bytes").write_text("8000000\n")
    return list(blocks)


@pytest.mark.parametrize(
    ("refused", "enough", "gone", "status"),
    [
        (set(), 2, {11, 10}, 0),
        ({11, 9}, 2, {10, 8}, 0),
        ({8, 9, 10}, 2, {11}, 1),
    ],
)
def test_chmem_takes_the_highest_that_does_not_refuse(
    tmp_path: Path, refused: set[int], enough: int, gone: set[int], status: int
) -> None:
    blocks = refusing(tmp_path, range(8, 12), refused)
    assert subprocess.run(["sh", "-c", highest_first(str(tmp_path), enough)], check=False).returncode == status
    writable = (number for number in blocks if number not in refused)
    assert {n for n in writable if (tmp_path / f"memory{n}/state").read_text() == "offline\n"} == gone


def test_a_run_of_pages_belongs_to_the_block_that_holds_all_of_it() -> None:
    across = range(PAGES - 8, PAGES + 8)
    frames = array("Q", [*range(fill.RUN), *across, *range(PAGES, PAGES + fill.RUN)])
    assert fill.sorted_by_block(frames, {"pages": PAGES}) == {0: [0], -1: [fill.RUN], 1: [2 * fill.RUN]}


@given(first=st.integers(0, 100), second=st.integers(0, 100), seed=st.integers(0, 99))
def test_a_block_keeps_its_share_and_others_keep_nothing(first: int, second: int, seed: int) -> None:
    runs = {number: [fill.RUN * (4 * at + number) for at in range(4)] for number in (7, 8, 9)}
    asked = {"first": 8, "pages": PAGES, "shares": [first, second]}
    with mmap.mmap(-1, 24 * fill.RUN * fill.PAGE) as held:
        kept = fill.keep(held, {number: list(own) for number, own in runs.items()}, asked, random.Random(seed))
    assert {number: len(own) for number, own in kept.items()} == {7: 0, 8: 4 * first // 100, 9: 4 * second // 100}
    assert all(set(own) <= set(runs[number]) for number, own in kept.items())


def test_a_page_that_is_not_what_was_written_is_counted() -> None:
    words = memoryview(bytearray(4 * fill.RUN * fill.PAGE)).cast("Q")
    words[:: fill.PAGE // 8] = array("Q", range(1, 4 * fill.RUN + 1))
    kept = {8: [0, 2 * fill.RUN], 9: [3 * fill.RUN]}
    assert fill.check(words, kept, 0) == 0
    words[fill.RUN * fill.PAGE // 8] = 0  # in none that stay
    assert fill.check(words, kept, 0) == 0
    words[(3 * fill.RUN + 5) * fill.PAGE // 8] = 7
    assert fill.check(words, kept, 0) == 1


def one(rival: str, seconds: float, said: str = "") -> Run:
    return Run("twice", rival, 4, seconds, 2 * seconds, 1000, 3, 0, seconds / 10, said)


def test_the_table_has_medians_and_says_who_did_not_come_to_its_end() -> None:
    runs = [
        one("chmem", 60.0, "not in 60 s"),
        one("hotbank", 1.0),
        one("hotbank", 5.0),
        one("chmem", 2.0),
        one("hotbank", 2.0),
    ]
    head, chmem, hotbank = table(TWICE, runs, 900)
    assert head == "twice: a state for a test; at least 900 pages have to move"
    assert "done 1 of 2  31.00 s (2.00 to 60.00)  look 3.10 s  CPU 62.00 s  1000 pages  3 refaults" in chmem
    assert "done 3 of 3  2.00 s (1.00 to 5.00)  look 0.20 s  CPU 4.00 s" in hotbank
