# SPDX-License-Identifier: Apache-2.0
"""A bank's saving by played-back meters: the interval holds what is true, and nothing is found where nothing is."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

import hotbank
from hotbank import operate
from hotbank.cli import cli
from hotbank.energy.statistics import interval
from hotbank.errors import Code, HotbankError, Refusal
from hotbank.machine import Meter, Quantity, Reading
from hotbank.measure import Measurement, Windows, measure
from hotbank.memory import Power
from hotbank.session import Session
from hotbank.testing import ScriptedMachine
from meters.played import CHIP, Played

SHORT = Windows(pairs=16, seconds=2, every=1)
VDDQ, DRAM = "hwmon0/ina3221/VDDQ", "intel-rapl:0:0/dram"


def measured(played: Played, windows: Windows = SHORT) -> Measurement:
    return measure(cast("Session", played), "high", windows, seed=played.seed)


@pytest.mark.long
def test_a_hundred_measurements_hold_the_truth_and_find_nothing_without_switching(tmp_path: Path) -> None:
    runs = [measured(Played(tmp_path / str(seed), seed)) for seed in range(100)]
    for at in range(2):
        meters = [run.meters[at] for run in runs]
        assert sum(m.saved.low <= 0.05 <= m.saved.high for m in meters) >= 93
        assert sum(m.null.holds_zero for m in meters) >= 93
        assert sum(m.measurable for m in meters) >= 90  # and it does find what is there
    assert [m.meter for m in runs[0].meters] == [VDDQ, DRAM]
    assert runs[0].temperatures == {"hwmon0/ina3221/temp1": (41.5, 41.5)}


@pytest.mark.parametrize("pairs", [10, 30])
def test_an_interval_holds_what_it_says(pairs: int) -> None:
    """Of skewed differences: 200 trials at 95 % have a standard deviation of 1.5 %."""
    draw = random.Random(7)
    trials = ([draw.expovariate(1) - 1 for _ in range(pairs)] for _ in range(200))
    held = sum(interval(trial, seed).holds_zero for seed, trial in enumerate(trials))
    assert 0.90 <= held / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [random.Random(3).gauss(0, 1) for _ in range(9)]
    assert interval(values, 1) == interval(values, 1)
    assert interval([2.0] * 5, 1).mean == interval([2.0] * 5, 1).low == 2.0


def test_a_meter_that_vanishes_tells_of_the_pairs_that_it_saw(tmp_path: Path) -> None:
    played = Played(tmp_path, 1)
    play, looks = played.play, iter(range(10**6))

    def gone_for_a_while() -> None:
        play()
        if 120 < next(looks) < 150:
            (tmp_path / CHIP / "curr1_input").write_text("")

    played.play = gone_for_a_while  # type: ignore[method-assign]
    vddq, dram = measured(played).meters
    assert 8 <= vddq.pairs < dram.pairs == 16


class Stop(KeyboardInterrupt):
    """Ctrl-C at a given moment."""


@pytest.mark.parametrize("at", [5, 115, 116, 118, 119, 150])
def test_the_bank_is_in_after_ctrl_c(at: int, tmp_path: Path) -> None:
    played = Played(tmp_path, 1)
    play, looks = played.play, iter(range(10**6))

    def interrupted() -> None:
        play()
        if next(looks) == at:
            raise Stop

    played.play = interrupted  # type: ignore[method-assign]
    with pytest.raises(Stop):
        measured(played)
    assert not played.out
    assert played.orders.count("add high") == played.orders.count("remove high")


def test_nothing_leaves_below_the_reserve(tmp_path: Path) -> None:
    played = Played(tmp_path, 1, machine=ScriptedMachine(free=0))
    with pytest.raises(Refusal, match="less than 10%") as caught:
        measured(played)
    assert (caught.value.code, played.orders) == (Code.NO_CAPACITY, [])


def test_a_removal_that_fails_is_an_error_and_the_bank_is_in(tmp_path: Path) -> None:
    played = Played(tmp_path, 1)
    refused = replace(played.remove("high"), exit=1, code=Code.PINNED, fact="a page is pinned")
    played.add("high")
    played.remove = lambda bank: refused  # type: ignore[method-assign]
    with pytest.raises(HotbankError, match="pinned"):
        measured(played)
    assert not played.out


def test_too_few_pairs_and_no_meters(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 5"):
        measured(Played(tmp_path, 1), Windows(pairs=4))
    with hotbank.connect("model:arm-2009", change=True) as machine, pytest.raises(Refusal, match="no meter"):
        measure(machine, "high", Windows(pairs=5))


class Metered(ScriptedMachine):
    """Draws 1 W, and half of it while high's domain is dark."""

    def reading(self) -> Reading:
        watts = 1.0 if self.level is Power.ON else 0.5
        self.clock.time += 0.001
        return replace(super().reading(), meters=(Meter("ddr", Quantity.POWER, watts),))


class Told:
    """In place of a session with such a machine."""

    def __init__(self) -> None:
        self.machine, self.name = Metered(), "told"

    def __getattr__(self, call: str) -> object:
        if call in ("remove", "add"):
            return lambda bank: getattr(operate, call)(self.machine, bank)
        return {"list": self.machine.snapshot, "reading": self.machine.reading, "history": tuple, "close": tuple}[call]


def test_through_a_session_with_its_owner_and_worker() -> None:
    """With the meters in the reading, over the wire; orders are transactions in the journal."""
    with hotbank.connect(Metered(), change=True) as machine:
        (ddr,) = measure(machine, "high", Windows(pairs=5, seconds=1, every=1)).meters
        assert (ddr.saved.mean, ddr.null.mean, ddr.measurable) == (0.5, 0.0, True)
        assert [e.before.verb for e in machine.history()] == ["remove", "add"] * 5
        assert machine.list().bank("high").power is Power.ON  # type: ignore[union-attr]


def test_the_command_says_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    session = cast("Session", Told())
    monkeypatch.setattr("hotbank.session.connect", lambda *_, **__: session)
    arguments = ["energy", "measure", "high", "--pairs", "5", "--seconds", "1"]
    told = CliRunner().invoke(cli, arguments, standalone_mode=False).output
    assert "ddr: 0.5 to 0.5 W less with high out (0.95)" in told
    document = json.loads(CliRunner().invoke(cli, [*arguments, "--json"], standalone_mode=False).stdout)
    assert document["meters"][0]["measurable"] is True
