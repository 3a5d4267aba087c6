# SPDX-License-Identifier: Apache-2.0
"""Reference counts as the bank driver shows them, from made-up trees."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.page_by_page import values
from hotbank.host.bankrefs import BankRefs
from hotbank.host.tree import Tree

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
    refs = made(tmp_path, 100, [1])
    (tmp_path / "sys/class/hotbank/high/refcounts").unlink()
    assert refs is not None
    assert refs.read(100, 1) is None
