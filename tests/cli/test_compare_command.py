# SPDX-License-Identifier: Apache-2.0
"""``hotbank compare`` as a user meets it, as far as no kernel is booted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compare.model_guest import ModelGuest, with_model_guests
from hotbank.cli import run
from hotbank.compare.operations import Operation
from hotbank.compare.outcome import Outcome

ALL_AT_BOOT = """
name = "all"
arch = "arm64"
block_size = "128M"
[bank.low]
start = 0x40000000
size = "512M"
"""


def test_boards_that_can_not_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = tmp_path / "fixed.toml"
    fixed.write_text(ALL_AT_BOOT, encoding="utf-8")
    for board, said in (("arm-2009", "arch = 'arm'"), (str(fixed), "at_boot = false"), ("nothing", "nothing")):
        assert run(["compare", board]) == 1
        errors = capsys.readouterr().err
        assert said in errors
        assert errors.startswith("hotbank: BAD_BOARD: ")
        assert errors.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--ops", "0"], ["--ops", "many"], ["--seed", "x"], []])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    board = ["virt-arm64"] if arguments else []
    assert run(["compare", *board, *arguments]) == 2
    assert "Usage: hotbank compare" in capsys.readouterr().err


def test_without_qemu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert run(["compare", "virt-arm64", "--ops", "1"]) == 1
    assert "apt-get install qemu-system-arm" in capsys.readouterr().err
    assert not list(tmp_path.glob("hb-*"))


def test_what_it_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with_model_guests(monkeypatch)
    assert run(["compare", "virt-arm64", "--ops", "12", "--seed", "4"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("machine     twins, seed 4, 1 boot, ")
    assert said.out.splitlines()[-1] == "equal"
    assert len(said.err.splitlines()) == 12
    assert run(["compare", "virt-arm64", "--ops", "12", "--seed", "4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["operations"], document["differences"]) == (1, 12, [])


def test_what_was_seen_outlives_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_model_guests(monkeypatch)
    perform, left = ModelGuest.perform, iter(range(5))

    def interrupted(self: ModelGuest, operation: Operation, patience: float) -> Outcome:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return perform(self, operation, patience)

    monkeypatch.setattr(ModelGuest, "perform", interrupted)
    assert run(["compare", "virt-arm64", "--json"]) == 130
    said = capsys.readouterr()
    assert json.loads(said.out)["operations"] == 5
    assert said.err.splitlines()[-1] == "hotbank: INTERRUPTED: after 5 of 150 operations"
