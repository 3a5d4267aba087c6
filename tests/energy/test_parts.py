# SPDX-License-Identifier: Apache-2.0
"""Shipped DRAM parts against published figures, and the arithmetic of a ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import memspec
from hotbank.energy import Bounds, Dram, Work, break_even, saved, spent
from hotbank.energy.dram import affine
from hotbank.errors import BoardError
from hotbank.memory import Power
from hotbank.memspec import DramState

# mW/GiB: self-refresh, refresh while active, precharge standby, precharge power-down (DRAMPower 4.1, DRAMSys).
PUBLISHED = {
    "micron-2gb-lpddr-333-x16": (12.2, 5.2, 108, 4.3),
    "micron-2gb-lpddr2-1066-s4-x16": (21.1, 21.6, 118, 11.8),
    "micron-4gb-lpddr3-1600-x32": (11.4, 14.3, 98, 4.2),
    "micron-6gb-lpddr4-3200-x16": (1.6, None, 45, 8.4),
    "micron-4gb-ddr4-1866-x8": (61.6, 6.7, 81, 40.8),
}
LPDDR3 = memspec.load("micron-4gb-lpddr3-1600-x32")
PASR = memspec.load("micron-1gb-lpddr-x32")


def _close(found: float, published: float) -> bool:
    """Half a percent, or what the table was rounded by."""
    rounded = 0.5 if isinstance(published, int) else 0.05
    return abs(found - published) <= max(0.005 * published, rounded) + 1e-9


@pytest.mark.parametrize(("name", "row"), PUBLISHED.items())
def test_a_part_takes_what_was_published(name: str, row: tuple[float | None, ...]) -> None:
    part = memspec.load(name)
    found = part.drawn("self_refresh"), part.refresh_power(), part.drawn("standby"), part.drawn("power_down")
    assert all(p is None or _close(f, p) for f, p in zip(found, row, strict=True)), found


def test_refresh_doubles_above_85_degrees() -> None:
    assert LPDDR3.refresh_power(86) == pytest.approx(2 * LPDDR3.refresh_power(85))


@pytest.mark.parametrize(("temperature", "error"), [(85, 0.017), (45, 0.046)])
def test_pasr_is_affine(temperature: int, error: float) -> None:
    fixed, slope = affine(PASR, temperature)
    for share, milliamps in PASR.pasr[temperature].items():
        published = milliamps * 1.8 * 8
        assert fixed + slope * share == pytest.approx(published, rel=error)
        assert PASR.partial_self_refresh(share, temperature) == pytest.approx(published)


def test_masking_most_of_a_device_saves_half() -> None:
    """15/16 masked saves 50 % at 85 degrees and 34 % at 45, not 94."""
    for temperature, expected in ((85, 0.5), (45, 0.34)):
        whole, kept = (PASR.partial_self_refresh(k, temperature) for k in (1.0, 1 / 16))
        assert whole is not None
        assert kept is not None
        assert 1 - kept / whole == pytest.approx(expected, abs=0.005)


PARTS = st.sampled_from(memspec.parts())
DRAMS = st.builds(
    Dram,
    st.lists(PARTS, min_size=1, max_size=3).map(tuple),
    st.floats(0.01, 64),
    st.sampled_from([1.0, 0.5, 0.125]),
    st.sampled_from([25, 45, 85, 95]),
    st.booleans(),
)
SECONDS = st.dictionaries(st.sampled_from(Power), st.floats(0, 1e7))
WORK = st.builds(Work, st.integers(0, 10**9), st.floats(0, 1e5), st.integers(0, 10**5), st.integers(0, 10**9))


@given(DRAMS, SECONDS)
def test_seconds_split_in_two_give_the_same_joules(dram: Dram, seconds: dict[Power, float]) -> None:
    halves = {state: s / 2 for state, s in seconds.items()}
    twice = saved(dram, halves) + saved(dram, halves)
    assert twice.joules.typical == pytest.approx(saved(dram, seconds).joules.typical)
    assert twice.naive == pytest.approx(saved(dram, seconds).naive)


@given(DRAMS, SECONDS, WORK)
def test_twice_the_memory_takes_twice_the_power(dram: Dram, seconds: dict[Power, float], work: Work) -> None:
    double = Dram(dram.parts, 2 * dram.gib, dram.share, dram.temperature, dram.interleaved)
    for one, two in ((dram.power(s), double.power(s)) for s in DramState):
        assert (two.low, two.typical, two.high) == pytest.approx((2 * one.low, 2 * one.typical, 2 * one.high))
    assert saved(double, seconds).joules.high == pytest.approx(2 * saved(dram, seconds).joules.high)
    assert spent(dram, work).low <= spent(dram, work).typical <= spent(dram, work).high


@given(DRAMS, SECONDS)
def test_what_is_interleaved_or_on_saves_nothing(dram: Dram, seconds: dict[Power, float]) -> None:
    interleaved = Dram(dram.parts, dram.gib, dram.share, dram.temperature, interleaved=True)
    assert saved(interleaved, seconds).joules == Bounds(0, 0, 0)
    lit: dict[Power, float] = {state: s for state, s in seconds.items() if state in (Power.ON, Power.UNKNOWN)}
    assert saved(dram, lit).joules == Bounds(0, 0, 0)


@given(PARTS, st.floats(0.01, 64))
def test_no_dark_state_saves_more_than_the_device_takes(part: memspec.Part, gib: float) -> None:
    dram = Dram((part,), gib)
    most = max(dram.power(state).high for state in DramState)
    assert dram.saved(Power.SELF_REFRESH).high <= dram.saved(Power.OFF).high <= most * (1 + 1e-9)


def test_self_refresh_of_a_server_part_may_cost_more_than_it_saves() -> None:
    """DDR4 in power-down takes less than in self-refresh, by its own data sheet."""
    assert Dram((memspec.load("micron-4gb-ddr4-1866-x8"),), 1).saved(Power.SELF_REFRESH).low < 0


def test_placement_is_worth_more_than_prediction() -> None:
    """A full 128 MiB block earns its moving back in seconds to minutes, an empty one at once."""
    ddr4 = Dram((memspec.load("micron-4gb-ddr4-1866-x8"),), 0.125)
    full = break_even(ddr4, Work(pages=32768), Power.OFF)
    assert full is not None
    assert 3 < full < 20
    assert break_even(ddr4, Work(), Power.OFF) == 0
    assert break_even(Dram(ddr4.parts, 0.125, interleaved=True), Work(pages=1), Power.OFF) is None


PART = (Path(__file__).parents[2] / "memspecs" / "micron-1gb-lpddr-x32.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("refresh_interval_us = 15.6627", "refresh_interval_us = 0.0", "refresh_interval_us"),
        ("kept = [1.0, ", "kept = [", "pasr[0].self_refresh"),
        ("[rail.", "[rails.", "rail"),
    ],
)
def test_what_no_power_can_be_told_of_is_refused(old: str, new: str, key: str) -> None:
    assert old in PART
    with pytest.raises(BoardError) as caught:
        memspec.loads(PART.replace(old, new))
    assert key in [mistake.key for mistake in caught.value.mistakes]
