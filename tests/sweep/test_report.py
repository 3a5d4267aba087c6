# SPDX-License-Identifier: Apache-2.0
"""Spread against the standard library, the Pareto front and shifts by property, the page by a parser."""

from __future__ import annotations

import json
import statistics
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents import wrong
from hotbank.cli import run, sweep_report
from hotbank.sweep.paper import scaled, shifted
from hotbank.sweep.report import Spread, report
from sweeping import write_sweep

VALUES = st.lists(st.floats(0, 1000), min_size=1, max_size=30)
POINTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8)
DEMANDS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99)), min_size=2, max_size=20)


def row(policy: str, watts: float = 1.0, permille: float = 0.0, member: int | None = 0) -> dict[str, Any]:
    figures = {"seconds": 10.0, "looks": 1000, "short": permille, "shortage_permille": permille, "saved_j": 10 * watts}
    figures |= {"share_saved": 0.1, "share_possible": 0.2, "share_of_optimum": 0.5, "optimum_j": 100.0}
    return {"subject": "s", "member": member, "policy": policy, "settings": [], "figures": figures}


@given(VALUES)
def test_spread_is_what_statistics_says(values: list[float]) -> None:
    found = Spread.of(values)
    assert found.mean == statistics.fmean(values)
    assert (found.least, found.most) == (min(values), max(values))
    for share, value in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        assert sum(each <= value for each in values) >= share * len(values)
        assert sum(each < value for each in values) < share * len(values)


@given(POINTS)
def test_the_front_is_who_nobody_beats(points: list[tuple[int, int]]) -> None:
    its = report("r", len(points), [row(str(n), watts, short) for n, (watts, short) in enumerate(points)])
    front = {int(line.policy) for line in its.lines if line.best}
    assert front
    for n, (watts, short) in enumerate(points):
        beaten = any((w >= watts and s <= short and (w, s) != (watts, short)) for w, s in points)
        assert (n in front) is not beaten


def test_a_fleet_adds_up() -> None:
    its = report("r", 4, [row("p", 2.0, 0.0, 0), row("p", 4.0, 100.0, 1)])
    found = its.fleet(its.lines[0])
    assert found["watts"] == 2.0 + 4.0
    assert found["kwh_a_year"] == pytest.approx(6.0 * 24 * 365.25 / 1000)
    assert (found["short_at_once"], found["ever_short"]) == (0.1, 1.0)


@given(DEMANDS, st.floats(0, 1))
def test_a_shift_keeps_what_was_wanted_and_for_how_long(steps: list[tuple[int, int]], share: float) -> None:
    at, demand = 0, []
    for seconds, wanted in steps:
        demand.append((float(at), wanted))
        at += seconds
    moved = shifted(demand, share * demand[-1][0])
    assert Counter(wanted for _, wanted in moved) == Counter(wanted for _, wanted in demand)
    assert moved[0][0] == 0.0
    gaps = Counter(b - a for (a, _), (b, _) in pairwise(demand))
    assert sum(((Counter(b - a for (a, _), (b, _) in pairwise(moved))) - gaps).values()) <= 1  # around the end
    assert all(a < b for (a, _), (b, _) in pairwise(moved))
    assert shifted(demand, 0.0) == demand
    assert [wanted for _, wanted in scaled(demand, 2)] == [2 * wanted for _, wanted in demand]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]


@pytest.mark.long
def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", str(write_sweep(tmp_path, count=2)), "-o", str(tmp_path / "o"), "--jobs", "1"]
    assert run([*words, "--report", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert wrong(document) == []
    rows = [json.loads(line) for line in (tmp_path / "o/runs.jsonl").read_text().splitlines()]
    assert [fault for each in rows for fault in wrong(each)] == []
    assert document["wanted"] == document["there"] == len(rows) == 20
    assert run(words) == 0
    assert (tmp_path / "o/report.txt").read_text() == capsys.readouterr().out
    ET.fromstring((tmp_path / "o/report.svg").read_text())
    page = _Page()
    page.feed((tmp_path / "o/report.html").read_text())
    assert page.tags["svg"] == page.tags["table"] == 1
    assert all(link.startswith("#") for link in page.links)  # needs nothing beside it


def test_what_a_sweep_is_called_is_text_in_the_page() -> None:
    its = report("<script>", 1, [row("<b>")])
    page = sweep_report.page(its, "<svg></svg>")
    assert "<script>" not in page
    assert "<b>" not in page


def test_a_name_with_dollars_is_no_formula(tmp_path: Path) -> None:
    sweep_report.write(report("s", 1, [row("we$^$ird")]), tmp_path)
    assert (tmp_path / "report.svg").is_file()


def test_a_report_that_cannot_be_drawn_is_told_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(["sweep", str(write_sweep(tmp_path, count=1)), "-o", str(tmp_path / "o"), "--report"]) == 1
    assert not (tmp_path / "o").exists()
