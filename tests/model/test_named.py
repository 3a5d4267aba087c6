# SPDX-License-Identifier: Apache-2.0
"""A model by name: of a board or of a capture, and no boot where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hotbank.board import Board
from hotbank.errors import Code, Refusal
from hotbank.memory import GIB, MIB, Range
from hotbank.model import Model, capture, named


@pytest.fixture
def captured(tmp_path: Path) -> Path:
    model = named.start(named.find("arm-2009"), backend="reference", seed=3)
    capture.save(capture.take(model), tmp_path / "a.gz")
    return tmp_path / "a.gz"


def test_a_board_and_its_capture_are_of_one_size(captured: Path) -> None:
    board, again = named.find("arm-2009"), named.find(captured)
    assert isinstance(board, Board)
    assert not isinstance(again, Board)
    assert named.size(board) == named.size(again) == 512 * MIB


def test_a_small_machine_is_kept_in_plain_python_unless_somebody_says_otherwise() -> None:
    """Which needs a fifth of the time to start; a large one is left to the fastest there is."""
    board = named.find("arm-2009")
    assert isinstance(board, Board)
    large = replace(board, banks=tuple(replace(b, range=Range.sized(b.range.start, 4 * GIB)) for b in board.banks))
    assert named.given(board, {})["backend"] == "reference"
    assert named.given(large, {})["backend"] is None
    assert named.given(board, {"HOTBANK_BACKEND": "compiled"})["backend"] == "compiled"


def test_a_model_of_each_stands_alike(captured: Path) -> None:
    first, second = (named.start(named.find(name), backend="reference") for name in ("arm-2009", captured))
    assert isinstance(first, Model)
    assert [bank.kernel for bank in first.snapshot().banks] == [bank.kernel for bank in second.snapshot().banks]


def test_what_a_boot_takes_is_refused_for_what_has_booted(captured: Path) -> None:
    with pytest.raises(Refusal, match="cmdline, kernel: a captured machine has booted already") as refused:
        named.start(named.find(captured), {"cmdline": "quiet", "kernel": "6.12", "description": None})
    assert refused.value.code is Code.UNSUPPORTED
