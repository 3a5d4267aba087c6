# SPDX-License-Identifier: Apache-2.0
"""Series of machines whose memory is not all in the columns that a trace names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank import board
from hotbank.govern.settings import Settings
from hotbank.load import trace as traces
from hotbank.load.trace import Replay
from hotbank.model import Model
from hotbank.simulate import Load, simulate

TOTAL, FREE, OTHERS = 132_027_020, 10_274_084, 3_312_000  # a database server, KiB; OTHERS: named and no page cache


def server(pool: int, *, columns: str = "physmem,free,used") -> traces.Trace:
    """An hour of it, ``pool`` KiB being in huge pages."""
    anon = TOTAL - FREE - pool - OTHERS
    numbers = {"physmem": TOTAL, "free": FREE, "used": TOTAL - FREE}
    rows = [f"t_s,{columns},anonpages,cached,bufmem,slabReclaimable,slabUnreclaimable,kernelStack,pageTables"]
    for second in range(0, 3600, 10):
        told = ",".join(str(numbers[name]) for name in columns.split(","))
        rows.append(f"{second},{told},{anon},1500000,60000,800000,800000,32000,120000")
    return traces.loads("\n".join(rows) + "\n", name="server")


@examples(12)
@given(st.integers(0, 56_274), st.sampled_from(["physmem,free,used", "physmem,free", "used,free", "physmem,used"]))
def test_what_no_column_names_is_in_use(huge_pages: int, columns: str) -> None:
    trace = server(huge_pages * 2048, columns=columns)
    assert {sample.unnamed for sample in trace.samples} == {huge_pages * 2048 << 10}
    assert trace.total == TOTAL << 10


def test_nothing_is_made_up_where_a_trace_does_not_say_what_is_free() -> None:
    assert server(2048 * 50_000, columns="physmem").samples[0].unnamed == 0


@examples(6)
@given(st.integers(0, 56_274))
def test_a_pool_of_huge_pages_keeps_its_memory(huge_pages: int) -> None:
    model = Model.boot(board.load("arm-2009"))
    replay = Replay(model, server(huge_pages * 2048))
    demand = replay.step()
    caches = model.tasks.caches
    held = sum(len(caches[name].pages) for name in ("trace unnamed", "trace pinned") if name in caches)
    assert held == demand.unnamed
    replay.step()
    assert replay.failed == 0
    model.validate()


@pytest.mark.parametrize(("huge_pages", "dark"), [(56_274, False), (0, False)])
def test_half_of_a_full_machine_does_not_go_dark(huge_pages: int, dark: bool) -> None:
    load = Load(trace=server(huge_pages * 2048))
    report = simulate(lambda: Model.boot(board.load("arm-2009")), load, Settings(every=10.0))
    assert any(bank.removed for bank in report.banks) == dark
