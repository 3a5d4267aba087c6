# SPDX-License-Identifier: Apache-2.0
"""Pages as the bank driver shows them, from made-up trees."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.loads import BLOCK, LOADS, PAGES, host_with, with_counts, with_driver
from host.page_by_page import values
from hotbank.host.bankpages import BankPages, BankRefs
from hotbank.host.tree import Tree
from hotbank.machine import Buddies
from hotbank.memory import Kind

PAGE = 4096


def made(root: Path, first: int, counts: list[int], span: str | None = None, cut: int | None = None) -> BankRefs | None:
    """A driver's folder with one bank from page frame ``first`` on."""
    folder = root / "sys/class/hotbank/high"
    folder.mkdir(parents=True, exist_ok=True)
    last = (first + len(counts)) * PAGE - 1
    (folder / "range").write_text(span if span is not None else f"{first * PAGE:#010x}-{last:#010x}\n")
    (folder / "refcounts").write_bytes(struct.pack(f"={len(counts)}i", *counts)[:cut])
    return BankRefs.open(Tree(root), PAGE)


@given(data=st.data(), counts=st.lists(st.integers(-1, 1 << 30), min_size=1, max_size=40))
def test_any_part_of_a_bank(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, counts: list[int]) -> None:
    root = tmp_path_factory.mktemp("tree")
    refs = made(root, 100, counts)
    assert refs is not None
    start = data.draw(st.integers(0, len(counts) - 1))
    pages = data.draw(st.integers(1, len(counts) - start))
    assert values(refs.read(100 + start, pages)) == counts[start : start + pages]
    assert refs.read(99, 1) is None
    assert refs.read(100 + start, len(counts) - start + 1) is None


def test_no_driver_and_no_sense_in_its_words(tmp_path: Path) -> None:
    assert BankRefs.open(Tree(tmp_path), PAGE) is None
    assert made(tmp_path, 100, [1], span="from here to there") is None


def test_a_file_that_ends_early_or_is_gone(tmp_path: Path) -> None:
    for cut in (0, 4, 6):
        refs = made(tmp_path, 100, [1, 2, 3], cut=cut)
        assert refs is not None
        assert refs.read(100, 3) is None
    made(tmp_path, 100, [1])
    (tmp_path / "sys/class/hotbank/high/refcounts").unlink()
    assert BankRefs.open(Tree(tmp_path), PAGE) is None


@pytest.mark.parametrize("zones", ["Movable", "Normal"])
@pytest.mark.parametrize("load", LOADS)
def test_the_driver_alone_says_what_the_kernels_files_say(load: str, zones: str, tmp_path: Path) -> None:
    host = host_with(tmp_path, load, zones=zones)
    by_kernel = host.survey(BLOCK), host.pages(BLOCK)
    with_driver(tmp_path, load)
    for name in ("kpageflags", "kpagecount", "kcore"):
        (tmp_path / "proc" / name).unlink()
    assert (host.survey(BLOCK), host.pages(BLOCK)) == by_kernel


def test_the_driver_is_asked_where_the_kernel_shows_no_references(tmp_path: Path) -> None:
    """And not where it shows all, nor by a glance, which wants flags alone."""
    host = host_with(tmp_path, "a third in use, single pages")
    glance, survey = host.glance(BLOCK), host.survey(BLOCK)
    with_driver(tmp_path, "sixteen pages pinned")
    assert host.survey(BLOCK) == survey
    (tmp_path / "proc/kcore").unlink()
    assert host.survey(BLOCK).blocked == 16
    assert host.glance(BLOCK) == glance


def test_pages_that_can_be_read_no_longer_are_unknown(tmp_path: Path) -> None:
    host = host_with(tmp_path, "sixteen pages pinned")
    file = with_driver(tmp_path, "sixteen pages pinned")
    file.write_bytes(file.read_bytes()[:-1])
    (tmp_path / "proc/kcore").unlink()
    survey = host.survey(BLOCK)
    assert survey.kinds == {Kind.UNKNOWN: PAGES}
    assert "pins" in survey.unknown


def test_what_is_asked_of_frames_that_were_read_is_of_the_same_moment(tmp_path: Path) -> None:
    file, first = with_driver(tmp_path, "sixteen pages pinned"), BLOCK * PAGES
    (bank,) = BankPages.all(Tree(tmp_path), PAGE)
    seen = bank.flags(range(first + 20_000, first + 20_100))
    file.write_bytes(bytes(16 * PAGES))
    inside, beyond = range(first + 20_010, first + 20_016), range(first + 20_090, first + 20_101)
    assert set(seen.all()) != {0}
    assert values(bank.refs(inside)) == [2] * len(inside)
    assert values(bank.refs(beyond)) == values(bank.counts(beyond)) == [0] * len(beyond)
    bank.close()


BUDDYINFO = "Node 0, zone  Movable " + " ".join(["9"] * 11) + "\n"


@pytest.mark.parametrize("load", LOADS)
def test_a_count_is_the_survey_or_says_nothing(load: str, tmp_path: Path) -> None:
    """All that a survey says, where every page is free or can move; else nothing, and the pages have to be read."""
    host = host_with(tmp_path, load)
    with_counts(tmp_path, load)
    survey = host.survey(BLOCK)
    told = survey.kinds.keys() <= {Kind.FREE, Kind.ANON, Kind.SHMEM, Kind.FILE} and not survey.blocked
    assert host.count((BLOCK, BLOCK + 1)) == ((survey,) if told else ())
    assert told == (load in list(LOADS)[:2])


def test_a_count_says_in_what_pieces_free_pages_are(tmp_path: Path) -> None:
    host = host_with(tmp_path, "a third in use, single pages")
    with_counts(tmp_path, "a third in use, single pages")
    (tmp_path / "proc/buddyinfo").write_text(BUDDYINFO)
    (counted,) = host.count((BLOCK,))
    assert counted.buddies == Buddies((5,) * 11, (9,) * 11)


@pytest.mark.parametrize("words", [{"form": 2}, {"held": 1}, {"movable": PAGES - 1}, {"movable": 0}])
def test_a_count_that_leaves_a_doubt_is_none(words: dict[str, int], tmp_path: Path) -> None:
    """A page that may be held, memory that is not all there, a kernel zone, a driver that counts in another form."""
    load = "a third in use, single pages"
    host = host_with(tmp_path, load)
    with_counts(tmp_path, load, **words)
    assert host.count((BLOCK,)) == ()


def test_a_count_reads_nothing_of_pages(tmp_path: Path) -> None:
    """What shows pages is not even there; a file that ends early, or is none, counts nothing."""
    load = "a third in use, single pages"
    host, file = host_with(tmp_path, load), with_counts(tmp_path, load)
    for name in ("kpageflags", "kpagecount", "kcore"):
        (tmp_path / "proc" / name).unlink()
    (counted,) = host.count((BLOCK,))
    assert counted.unknown == ()
    file.write_bytes(file.read_bytes()[:-1])
    assert host.count((BLOCK,)) == ()
    file.unlink()
    assert host.count((BLOCK,)) == ()


@pytest.mark.parametrize("bad", [0, 4])
def test_where_a_page_is_bad_all_are_looked_at(bad: int, tmp_path: Path) -> None:
    """A free block is counted without a look at what lies inside of it."""
    load = "a third in use, single pages"
    host = host_with(tmp_path, load)
    with_counts(tmp_path, load)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal:  131072 kB\nHardwareCorrupted: {bad:>5} kB\n")
    assert len(host.count((BLOCK,))) == (not bad)


def test_a_block_is_counted_once_however_often_it_is_named(tmp_path: Path) -> None:
    """Who may only read can make nobody count for ever; a block that can't be is none."""
    load = "a third in use, single pages"
    host = host_with(tmp_path, load)
    with_counts(tmp_path, load)
    assert [seen.block for seen in host.count((-1, BLOCK, 1 << 70, BLOCK))] == [BLOCK]
