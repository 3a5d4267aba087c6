# SPDX-License-Identifier: Apache-2.0
"""Incidents that published loops caused: nobody dies of ours, and the loops fail on the same model.

`python bench/incidents.py` runs all of them under all policies and loops; here each incident has ours and one loop.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

BENCH: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "bench/incidents.py"), run_name="incidents")
BANKS, LITTLE = 6, "used and a little"
RETURNS = 2.0  # seconds that a bank's return takes at most, with the look that orders it


@pytest.mark.long
@pytest.mark.parametrize("name", ["liveness", "idle-loop", "burst", "sawtooth"])
def test_nobody_dies_of_ours(name: str) -> None:
    lived = BENCH["live"](name, BENCH["OURS"]["balance"])
    assert (lived.killed, lived.refused) == (0, 0)
    assert lived.short <= RETURNS
    assert lived.switches <= 2 * BENCH["OURS"]["balance"].guarded().hourly
    assert lived.net > 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "loop"),
    [("liveness", "balloon"), ("idle-loop", "used and a little"), ("burst", "watermarks"), ("sawtooth", "balloon")],
)
def test_the_loops_kill_on_the_same_model(name: str, loop: str) -> None:
    assert BENCH["live"](name, BENCH["LOOPS"][loop]).killed > 0


@pytest.mark.long
def test_a_working_set_is_not_thrown_out_for_ever() -> None:
    """What leaves is missed once: it comes back and is banned. The loop has the cache read again as long as it runs."""
    ours, loop = (
        BENCH["live"]("working-set", BENCH[of][name]) for of, name in (("OURS", "balance"), ("LOOPS", LITTLE))
    )
    assert (ours.killed, ours.refused) == (0, 0)
    assert 2 * ours.again <= loop.again


@pytest.mark.long
def test_two_hands_do_not_undo_each_other() -> None:
    """It pauses when what it took came in by another hand; the loop takes it again and again."""
    ours, loop = (BENCH["live"]("two-hands", BENCH[of][name]) for of, name in (("OURS", "balance"), ("LOOPS", LITTLE)))
    assert ours.switches <= BANKS
    assert loop.switches >= 8 * BANKS


@pytest.mark.long
def test_a_smaller_machine_is_no_reason_to_kill() -> None:
    """What does not fit does not leave; the loop's limit comes before anything has moved."""
    ours, loop = (BENCH["live"]("shrink", BENCH["SHRINKING"][name]) for name in ("smaller, guarded", "limit first"))
    assert (ours.killed, ours.refused) == (0, 0)
    assert loop.killed > 0
