# SPDX-License-Identifier: Apache-2.0
"""A model by name: of a board or of a capture, and no boot where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotbank.board import Board
from hotbank.errors import Code, Refusal
from hotbank.memory import MIB
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


def test_a_model_of_each_stands_alike(captured: Path) -> None:
    first, second = (named.start(named.find(name), backend="reference") for name in ("arm-2009", captured))
    assert isinstance(first, Model)
    assert [bank.kernel for bank in first.snapshot().banks] == [bank.kernel for bank in second.snapshot().banks]


def test_what_a_boot_takes_is_refused_for_what_has_booted(captured: Path) -> None:
    with pytest.raises(Refusal, match="cmdline, kernel: a captured machine has booted already") as refused:
        named.start(named.find(captured), {"cmdline": "quiet", "kernel": "6.12", "description": None})
    assert refused.value.code is Code.UNSUPPORTED
