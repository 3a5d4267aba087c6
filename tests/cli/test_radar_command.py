# SPDX-License-Identifier: Apache-2.0
"""``hotbank radar`` as a user meets it, as far as no kernel is booted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from documents import wrong
from hotbank import radar
from hotbank.cli import run
from hotbank.errors import MachineError
from hotbank.radar import RULES, Cell, Matrix

ANSWERED = json.loads((Path(__file__).parents[1] / "data" / "radar.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "words",
    [
        ["--rule", "slabs"],
        ["--kernels", ""],
        ["--kernels", "6.1,,7.3"],
        ["--deadline", "nan"],
        ["--deadline", "0"],
        ["--between", "6.12", "7.3"],
        ["--between", "6.1", "7.3", "--rule", "leaf", "--kernels", "7"],
    ],
)
def test_what_can_not_be_asked(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["radar", *words]) == 2
    assert "Usage: hotbank radar" in capsys.readouterr().err


def sweep(monkeypatch: pytest.MonkeyPatch, *, planted: bool = False, interrupted: bool = False) -> None:
    """Every kernel answers as it did once."""

    def look(_series: object, _rules: object, *, matrix: Matrix, **_: object) -> Matrix:
        matrix.columns = {rule.name: rule.column for rule in RULES.values() if rule.column}
        for cell in ANSWERED["cells"]:
            modelled = "elsewhere" if planted and cell == ANSWERED["cells"][-1] else cell["model"]
            matrix.cells.append(Cell(cell["rule"], cell["kernel"], cell["release"], cell["answer"], modelled))
        if interrupted:
            raise KeyboardInterrupt
        return matrix

    monkeypatch.setattr(radar, "look", look)


def test_a_matrix_within_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(monkeypatch)
    assert run(["radar"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.startswith("frozen-slab:")] == [
        "frozen-slab: EBUSY in 6.12.117, signal in 6.16.12: 9aec2fb0fd5e, 6.14"
    ]


def test_a_difference_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(monkeypatch, planted=True)
    assert run(["radar"]) == 1
    assert "DIFFERENT  page-fallback, 7.3.4: smallest, the model elsewhere; 7.2.12 is as" in capsys.readouterr().out


def test_json_and_an_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(monkeypatch, planted=True, interrupted=True)
    assert run(["radar", "--json"]) == 130
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert wrong(document) == []
    assert len(document["differences"]) == 1


def test_an_error_is_the_only_document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def search(*_: object, matrix: Matrix, **__: object) -> None:
        matrix.cells.append(Cell("leaf", "6.1", "6.1.176", "leaves", "leaves"))
        raise MachineError("7.3 gave no answer")

    monkeypatch.setattr(radar, "search", search)
    assert run(["radar", "--between", "6.1", "7.3", "--rule", "leaf", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "7.3 gave no answer"
    assert run(["radar", "--between", "6.1", "7.3", "--rule", "leaf"]) == 1
    assert "6.1.176  leaves" in capsys.readouterr().out
