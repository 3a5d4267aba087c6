# SPDX-License-Identifier: Apache-2.0
"""``hotbank compare`` as a user meets it, as far as no kernel is booted."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotbank.cli import run

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
