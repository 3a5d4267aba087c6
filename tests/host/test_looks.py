# SPDX-License-Identifier: Apache-2.0
"""A look at a whole block against the plain twin, and what it reads for that, counted."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from itertools import chain, groupby, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counted import calls
from host import page_by_page
from host.captured_trees import Made, MadeBlock, kcore, words
from host.loads import BLOCK, LOADS, PAGES, host_with
from hotbank.errors import Code, MachineError
from hotbank.host import Host, pages, planes
from hotbank.host.kcore import RefCounts
from hotbank.host.planes import Planes
from hotbank.host.tree import Tree
from hotbank.host.views import Sample, Views
from hotbank.machine import EVIDENCE
from hotbank.memory import IMMOVABLE_KINDS, MIB

SPAN = range(BLOCK * PAGES, (BLOCK + 1) * PAGES)
FOLIO = 512  # pages in the largest folio that moves, of 4 KiB each


@pytest.mark.parametrize("load", LOADS)
def test_a_survey_says_what_the_twin_says(load: str, tmp_path: Path) -> None:
    host = host_with(tmp_path, load, zones="Normal")
    kinds, pins = page_by_page.look(host.tree, SPAN)
    survey, taken = host.survey(BLOCK), host.pages(BLOCK)
    assert survey.kinds == Counter(kinds)
    assert [e.pfn for e in survey.blocking if e.why is Code.PINNED] == sorted(pins)[:EVIDENCE]
    assert survey.blocked == len(pins) + sum(kind in IMMOVABLE_KINDS for kind in kinds)
    assert taken.runs == tuple((kind, len(list(run))) for kind, run in groupby(kinds))
    assert taken.pinned == tuple(sorted(pins))


@pytest.mark.parametrize("last", ["kpageflags", "kpagecount", "kcore"])
def test_a_look_for_which_there_is_no_descriptor_keeps_none(
    last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, opened = host_with(tmp_path, next(iter(LOADS))), Tree.open

    def full(tree: Tree, name: str) -> int | None:
        if name == f"proc/{last}":
            raise MachineError("Too many open files")
        return opened(tree, name)

    monkeypatch.setattr(Tree, "open", full)
    before = os.listdir("/proc/self/fd")
    for _ in range(2):
        with pytest.raises(MachineError, match="Too many open files"):
            host.survey(BLOCK)
    assert os.listdir("/proc/self/fd") == before


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[range]:
    """The frames whose references are read, in order."""
    asked, right = list[range](), RefCounts.read

    def counting(refs: RefCounts, pfn: int, count: int) -> Planes | None:
        asked.append(range(pfn, pfn + count))
        return right(refs, pfn, count)

    monkeypatch.setattr(RefCounts, "read", counting)
    return asked


@pytest.mark.parametrize(
    ("load", "again"),
    [
        ("a third in use, single pages", []),
        ("page cache in large folios", []),
        ("sixteen pages pinned", [range(SPAN.start + 39 * FOLIO, SPAN.start + 40 * FOLIO)]),
    ],
)
def test_only_what_spoke_against_its_block_is_looked_at_again(
    load: str, again: list[range], tmp_path: Path, read: list[range]
) -> None:
    host_with(tmp_path, load).survey(BLOCK)
    assert read == [SPAN, *again]


@pytest.mark.parametrize(("zones", "looks"), [("Movable", 1), ("Normal", 2)])
def test_the_kernels_pages_speak_against_a_kernel_zone_alone(
    zones: str, looks: int, tmp_path: Path, read: list[range]
) -> None:
    host_with(tmp_path, "a kernel zone", zones=zones).survey(BLOCK)
    assert sum(map(len, read)) == looks * PAGES


def test_many_blocks_are_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what a look at each says, and opens each file once, but for the two of each block."""
    numbers, flags = range(1, 9), [pages.BUDDY] * 128 + [pages.SLAB] * 128
    files: dict[str, str | bytes] = {
        "proc/kpageflags": words(flags * 9),
        "proc/kpagecount": words([0] * 256 * 9),
        "proc/kcore": kcore(dict.fromkeys(range(256 * 9), 1), pages=256 * 9),
        "proc/kpagecgroup": words([0] * 256 * 9),
        "proc/iomem": "00000000-008fffff : System RAM\n",
    }
    host = Host(Made(tuple(MadeBlock(n, zones="Normal") for n in numbers), MIB, files).at(tmp_path))
    alone, opened, right = [host.survey(n) for n in numbers], Counter[str](), os.open

    def counting(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        opened[os.path.relpath(path, tmp_path)] += 1
        return right(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", counting)
    assert list(host.surveys(numbers)) == alone
    assert max(opened.values()) == 1
    assert sum(not re.search(r"memory/memory\d", path) for path in opened) < 16


def test_no_step_is_taken_a_page(tmp_path: Path) -> None:
    """Whatever single pages a block holds, a look makes a few hundred calls, and not one for each."""
    for load in ("a third in use, single pages", "sixteen pages pinned", "a kernel zone"):
        host = host_with(tmp_path / load, load)
        host.survey(BLOCK)
        assert calls(lambda host=host: host.survey(BLOCK)) < 1500  # type: ignore[misc]


@given(st.sets(st.integers(0, 99)), st.integers(1, 40))
def test_parts_are_all_that_lie_in_a_whole_with_one_of_them(chosen: set[int], whole: int) -> None:
    mask = planes.number(bytes(index in chosen for index in range(100)))
    found = list(planes.parts(mask, 100, whole))
    touched = {index // whole for index in chosen}
    assert list(chain(*found)) == [index for index in range(100) if index // whole in touched]
    assert all(left.stop < right.start for left, right in pairwise(found))


def test_a_second_look_that_finds_nothing_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one whose answer is not heeded would be noticed."""
    host = host_with(tmp_path, "sixteen pages pinned")
    assert host.survey(BLOCK).blocked == len(page_by_page.look(host.tree, SPAN)[1]) == 16
    right = Views.sample
    monkeypatch.setattr(Views, "sample", lambda views, span: _without_pins(right(views, span), span != SPAN))
    assert host.survey(BLOCK).blocked == 0


def _without_pins(sample: Sample, gone: bool) -> Sample:
    return replace(sample, pins=bytearray(len(sample.span))) if gone else sample


def test_a_second_look_that_sees_no_references_leaves_pins_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, right, looks = host_with(tmp_path, "sixteen pages pinned"), RefCounts.read, list[int]()

    def once(refs: RefCounts, pfn: int, count: int) -> Planes | None:
        looks.append(pfn)
        return right(refs, pfn, count) if len(looks) == 1 else None

    monkeypatch.setattr(RefCounts, "read", once)
    survey = host.survey(BLOCK)
    assert len(looks) > 1
    assert "pins" in survey.unknown
