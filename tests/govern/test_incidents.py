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
RETURNS = 2.0  # seconds that a bank's return takes at most, with the look that orders it


@pytest.mark.long
@pytest.mark.parametrize("name", BENCH["NAMES"])
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
