# SPDX-License-Identifier: Apache-2.0
"""The oldest kernel of the table, the usual one and the newest: each rule on a guest and on the model of its row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotbank import kernels, radar
from hotbank.kernels import KERNELS
from hotbank.radar import RULES, Cell, Matrix

pytestmark = pytest.mark.kernel

ASKED = (KERNELS[0].release, kernels.DEFAULT, KERNELS[-1].release)


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    """All rules of all of them; what a guest came out of so that it tells nothing is asked once more."""
    matrix = radar.look(ASKED)
    return replace(matrix, cells=[cell if cell.real is not None else asked_again(cell) for cell in matrix.cells])


def asked_again(cell: Cell) -> Cell:
    """The answer of another guest."""
    (again,) = radar.look([cell.series], [cell.rule]).cells
    return again


def test_the_model_says_what_each_kernel_does(matrix: Matrix) -> None:
    assert matrix.unheard == {}
    assert [(cell.rule, cell.release, cell.why) for cell in matrix.cells if cell.real is None] == []
    assert [(cell.rule, cell.release, cell.real, cell.modelled) for cell in matrix.differences] == []
    assert len(matrix.cells) == len(ASKED) * len(RULES)


def test_every_rule_that_the_table_has_change_was_seen_to_change(matrix: Matrix) -> None:
    assert {change.rule for change in matrix.changes} == {rule.name for rule in RULES.values() if rule.column}
    assert all(change.explained for change in matrix.changes)


def test_a_wrong_cell_of_the_table_would_be_found(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(KERNELS[-1], frozen_slab=False)
    monkeypatch.setattr(kernels, "KERNELS", (*KERNELS[:-1], wrong))
    again = [replace(cell, modelled=RULES[cell.rule].modelled(cell.release)) for cell in matrix.cells]
    assert [(cell.rule, cell.series) for cell in Matrix(again).differences] == [("frozen-slab", ASKED[-1])]
