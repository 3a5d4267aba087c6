# SPDX-License-Identifier: Apache-2.0
"""The oldest kernel of the table, the usual one and the newest: each rule on a guest and on the model of its row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hotbank import kernels, radar
from hotbank.kernels import KERNELS
from hotbank.radar import RULES, Matrix

pytestmark = pytest.mark.kernel

ANSWERED = json.loads((Path(__file__).parents[2] / "data" / "radar.json").read_text(encoding="utf-8"))
ABOUT = [
    name for name in RULES if any(cell["rule"] == name for cell in ANSWERED["cells"])
]  # those that were answered once
ASKED = (KERNELS[0].release, kernels.DEFAULT, KERNELS[-1].release)


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    """All of them about all rules."""
    return radar.look(ASKED, ABOUT)


def test_the_model_says_what_each_kernel_does(matrix: Matrix) -> None:
    assert matrix.unheard == {}
    assert [(cell.rule, cell.release, cell.why) for cell in matrix.cells if cell.real is None] == []
    assert [(cell.rule, cell.release, cell.real, cell.modelled) for cell in matrix.differences] == []
    assert len(matrix.cells) == len(ASKED) * len(ABOUT)


def test_every_rule_that_the_table_has_change_was_seen_to_change(matrix: Matrix) -> None:
    assert {change.rule for change in matrix.changes} == {name for name in ABOUT if RULES[name].column}
    assert all(change.explained for change in matrix.changes)


def test_a_wrong_cell_of_the_table_would_be_found(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(KERNELS[-1], frozen_slab=False)
    monkeypatch.setattr(kernels, "KERNELS", (*KERNELS[:-1], wrong))
    again = [replace(cell, modelled=RULES[cell.rule].modelled(cell.release)) for cell in matrix.cells]
    assert [(cell.rule, cell.series) for cell in Matrix(again).differences] == [("frozen-slab", ASKED[-1])]
