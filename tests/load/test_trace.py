# SPDX-License-Identifier: Apache-2.0
"""Demand series: what is refused, and that a replay has exactly the pages that the series asks for."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank import board
from hotbank.errors import FormatError
from hotbank.load import trace as traces
from hotbank.load.trace import Replay, Sample, Trace
from hotbank.memory import KINDS, Kind
from hotbank.model import Model

DATA = Path(__file__).parents[1] / "data" / "traces"
LAPTOP = DATA / "brolley-t530_2018-04-16_10s.csv.gz"
VM = DATA / "vm01_2018-06-05_60s.csv.gz"
HEADER = "t_s,physmem,anonpages,cached,dirty\n"
ROWS = ["0,1000,10,20,1", "10,1000,11,20,1", "20,1000,12,20,1", "30,1000,13,20,1"]


def text(*rows: str, header: str = HEADER) -> str:
    return header + "\n".join(rows) + "\n"


def test_a_real_trace() -> None:
    trace = traces.load(LAPTOP)
    assert (trace.name, len(trace.samples), trace.total) == (
        "brolley-t530_2018-04-16_10s",
        1629,
        7860812 << 10,
    )
    with gzip.open(LAPTOP, "rt") as file:
        row = list(csv.DictReader(file))[700]
    assert trace.samples[700].anon == int(row["anonpages"]) << 10
    assert trace.samples[700].shmem + trace.samples[700].cache == (int(row["cached"]) + int(row["bufmem"])) << 10
    assert 16_000 < trace.seconds < 17_000


@pytest.mark.parametrize(
    ("rows", "line", "problem"),
    [
        ([*ROWS, "90,1000,14,20,1"], "line 6", "gap of 60 s"),
        ([*ROWS, "40,1000,,20,1"], "line 6, anonpages", "missing"),
        ([*ROWS, "40,1000"], "line 6, anonpages", "missing"),
        ([*ROWS, "40,1000,many,20,1"], "line 6, anonpages", "'many' is no number"),
        ([*ROWS, "40,1000,-1,20,1"], "line 6, anonpages", "'-1' is no number from 0"),
        ([*ROWS, "40,1000,nan,20,1"], "line 6, anonpages", "'nan' is no number"),
        ([*ROWS, "40,1000,inf,20,1"], "line 6, anonpages", "'inf' is no number"),
        ([*ROWS, "30,1000,14,20,1"], "line 6, t_s", "does not follow"),
        ([*ROWS, "25,1000,14,20,1"], "line 6, t_s", "25 does not follow 30"),
        (ROWS[:1], "samples", "at least 2"),
        (["0,0,0,0,0", "1,0,0,0,0"], "physmem", "no memory"),
    ],
)
def test_what_is_wrong_with_a_trace_is_said(rows: list[str], line: str, problem: str) -> None:
    assert len(traces.loads(text(*ROWS)).samples) == 4
    with pytest.raises(FormatError) as caught:
        traces.loads(text(*rows))
    assert line in str(caught.value)
    assert problem in str(caught.value)


def test_gaps_can_be_allowed() -> None:
    trace = traces.loads(text(*ROWS, "90,1000,14,20,1"), allow_gaps=True)
    assert [sample.seconds for sample in trace.samples] == [0, 10, 20, 30, 90]


@pytest.mark.parametrize("header", ["t_s,anonpages\n", "t_s,used,anonpages,cached,dirty\n", "t_s," * 5 + "\n"])
def test_columns_that_are_missing(header: str) -> None:
    with pytest.raises(FormatError, match="no column"):
        traces.loads(text(*ROWS, header=header))


@pytest.mark.parametrize("cut", [0, 1, 10, 1000, 60000])
def test_a_file_cut_short(cut: int, tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(VM.read_bytes()[:cut])
    with pytest.raises(FormatError):
        traces.load(tmp_path / "t.csv.gz")


@examples(50)
@given(data=st.text(max_size=200))
def test_any_text_is_a_trace_or_an_error(data: str) -> None:
    with suppress(FormatError):
        assert len(traces.loads(data).samples) > 1


# Replay


def kinds(model: Model) -> Counter[Kind]:
    counts = model.frames.count(0, model.frames.shape.frames)
    return Counter({KINDS[code]: pages for code, pages in counts.items() if code < len(KINDS)})


def exact(model: Model, replay: Replay) -> None:
    """Play one sample and count frames: the model has what was there at boot and what the sample asks for."""
    boot = {kind: count - _held(model, kind) for kind, count in kinds(model).items()}
    squeezed = replay.squeezed
    demand = replay.step()
    found = kinds(model)
    short = replay.squeezed - squeezed
    assert found[Kind.ANON] == demand.anon
    pinned = len(model.contents.long_pins)
    assert found[Kind.SHMEM] == demand.shmem + pinned
    assert found[Kind.FILE] == demand.clean + demand.dirty - short
    assert found[Kind.SLAB] == boot[Kind.SLAB] + demand.slab + demand.slab_reclaimable
    assert found[Kind.KERNEL] + pinned == boot[Kind.KERNEL] + demand.stacks + demand.unnamed
    assert found[Kind.PAGE_TABLE] == max(demand.tables, 1 + -(-demand.anon // 512))


def _held(model: Model, kind: Kind) -> int:
    """Pages of the kind that the replay holds so far."""
    caches = [c for name, c in model.tasks.caches.items() if name.startswith("trace") and c.holder.kind is kind]
    return sum(len(cache.pages) for cache in caches)


def test_every_sample_is_there_page_by_page() -> None:
    model = Model.boot(board.load("arm-2009"))
    replay = Replay(model, traces.load(VM))
    for _ in range(120):
        exact(model, replay)
    assert (replay.failed, model.tasks.oom_killed) == (0, [])
    model.validate()


@pytest.mark.long
def test_the_laptops_whole_day_is_there_page_by_page() -> None:
    model = Model.boot(board.load("arm-2009"))
    replay = Replay(model, traces.load(LAPTOP))
    while not replay.done:
        exact(model, replay)
    assert replay.failed == 0
    model.validate()
    assert model.check_contents() == ()


def test_a_replay_is_due_on_the_models_clock() -> None:
    model = Model.boot(board.load("arm-2009"))
    replay = Replay(model, traces.load(VM)).start()
    assert replay.next == 1
    model.clock.sleep(600.5)
    assert replay.next == 11
    replay.stop()
    model.clock.sleep(600)
    assert replay.next == 11


def test_demand_beyond_memory_squeezes_the_cache_and_then_kills() -> None:
    def sample(seconds: float, anon: int, cache: int) -> Sample:
        return Sample(seconds, anon, 0, cache, 0, 0, 0, 0, 0)

    model = Model.boot(board.load("arm-2009"))
    trace = Trace("t", 100, (sample(0, 50, 45), sample(1, 80, 45), sample(2, 150, 0), sample(3, 10, 10)))
    replay = Replay(model, trace)
    for _ in range(2):
        exact(model, replay)
    assert replay.squeezed > 0
    assert model.tasks.oom_killed == []
    replay.step()
    assert (len(model.tasks.oom_killed), replay.failed) == (1, 1)
    exact(model, replay)
    model.validate()
