# SPDX-License-Identifier: Apache-2.0
"""A small share of each soak, and their oracles tried on planted breaches. ``make soak`` runs the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotbank import operate
from hotbank.errors import Code
from hotbank.machine import Machine
from hotbank.model import Model
from hotbank.operate import Journal, Outcome
from hotbank.serve import job
from mount.mounts import can_mount
from soak import crashes, crowded, cycles
from soak.crowded import Told

SEED = 2009


def quiet(_: str) -> None:
    """Progress is for who waits for hours."""


@pytest.mark.long
def test_an_owner_in_a_crowd() -> None:
    """Too short for memory to have settled: a leak of a crowd like this one would be tens of MiB."""
    report = crowded.soak(10, 2, quiet, flat=24 << 10)
    assert not report.wrong
    assert report.orders.total() >= 2
    assert [kind["connections"] for kind in report.crowd if not kind["connections"]] == []


@pytest.mark.long
def test_some_crashes() -> None:
    report = crashes.soak(8, SEED, quiet, mounts=can_mount())
    assert not report.wrong
    assert report.runs.total() == 8


@pytest.mark.long
def test_some_cycles() -> None:
    report = cycles.soak(30, SEED, quiet)
    assert not report.wrong
    assert report.moved > 0


# Breaches.


def test_an_order_that_is_lost_or_done_twice_is_noticed() -> None:
    told = [Told("remove", "OK", True), Told("add", "DEADLINE", False), Told("add", "OK", True)]
    written = [("remove", "OK"), ("add", "OK")]
    assert crowded.astray(told, written) == []
    assert crowded.astray(told, [("remove", "OK"), ("add", "DEADLINE"), ("add", "OK")]) == []
    for wrong in (written[:1], [*written, written[1]], [written[0], *written], [("remove", "LOST"), written[1]], []):
        assert crowded.astray(told, wrong), wrong


def test_a_row_belongs_to_the_order_that_must_have_one() -> None:
    """Of two that were told the same the first had not begun."""
    told = [Told("remove", "DEADLINE", False), Told("remove", "DEADLINE", True), Told("remove", "OK", True)]
    written = [("remove", "DEADLINE"), ("remove", "OK")]
    assert crowded.astray(told, written) == []
    assert crowded.astray([replace(one, began=True) for one in told], written)


def test_memory_that_grows_and_threads_without_end_are_noticed() -> None:
    fine = crowded.Report(rss=[40_000, 43_000], descriptors=64, threads=10)
    assert crowded._beyond(fine, crowded.FLAT) == []
    for wrong in ({"rss": [40_000, 45_000]}, {"descriptors": 1000}, {"threads": 65}):
        assert crowded._beyond(crowded.Report(**wrong), crowded.FLAT), wrong


def test_a_crash_that_nobody_settles_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that closes the entry and leaves the machine as it is."""

    def forget(machine: Machine, journal: Journal, **_: object) -> Outcome | None:
        left = journal.unfinished()
        if left is not None:
            journal.close(left.id, Code.INTERRUPTED, None)
        return None

    monkeypatch.setattr(job, "recover", forget)
    monkeypatch.setattr(crashes, "draw", lambda *_: crashes.Run("worker", "pair", "remove", (3, "before"), "none"))
    monkeypatch.setattr(crashes, "BOARDS", ("pair",))
    report = crashes.soak(1, SEED, quiet, mounts=False)
    assert len(report.wrong) == 1
    assert "here.before" in report.wrong[0] or "self.before" in report.wrong[0]


@pytest.mark.parametrize("lost", ["content", "power"])
def test_a_page_that_is_lost_is_noticed(monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    if lost == "content":
        monkeypatch.setattr(Model, "check_contents", lambda _: (4711,))
    else:
        monkeypatch.setattr(operate, "add", operate.remove)  # it never comes back
    assert cycles.soak(1, SEED, quiet).wrong
