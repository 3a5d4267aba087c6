# SPDX-License-Identifier: Apache-2.0
"""``decode``, ``encode`` and ``zones`` as commands: output, JSON, exit codes."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hotbank.cli import run
from zones import captured_boots

ZONES = captured_boots.DATA


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("form", ["atags", "dtb", "srat", "cmdline"])
def test_encode_then_decode(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out"
    assert run(["encode", "arm-2009", f"--{form}", "-o", str(file)]) == 0
    assert "not carried: power domains (ddr-high)" in capsys.readouterr().err
    document = _json(capsys, "decode", str(file))
    assert (document["schema"], document["format"]) == (1, form)
    wanted = [(0x40000000, 256 << 20, False), (0x50000000, 256 << 20, True)]
    assert [(r["start"], r["size"], r["hotpluggable"]) for r in document["regions"]] == wanted
    assert run(["decode", str(file)]) == 0
    assert "0x50000000  0x5fffffff  256M  hot-pluggable" in capsys.readouterr().out


def test_decode_reads_standard_input_and_gzip(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = (ZONES / "padded-1MiB.dtb.gz").read_bytes()
    for data in (packed, gzip.decompress(packed)):
        stdin = io.TextIOWrapper(io.BytesIO(data))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert [r["size"] for r in _json(capsys, "decode", "-")["regions"]] == [1 << 30]


def test_decode_shows_a_bank_that_is_not_there_at_boot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "board.dtb"
    run(["encode", "virt-arm64", "--dtb", "-o", str(file)])
    capsys.readouterr()
    assert [b["bank"] for b in _json(capsys, "decode", str(file))["banks"]] == ["high"]


def test_zones_json_has_the_agreed_shape(capsys: pytest.CaptureFixture[str]) -> None:
    case = ZONES / "6.12.95" / "numa2-movablecore512-2g"
    line = (case / "cmdline").read_text().strip()
    document = _json(
        capsys, "zones", "--dtb", str(case / "guest.dtb"), "--cmdline", line, "--iomem", str(case / "iomem")
    )
    assert set(document) == {"schema", "zones", "blocks", "warnings"}
    assert document["zones"][1] == {
        "node": 0,
        "zone": "Movable",
        "start_pfn": 458752,
        "spanned": 65536,
        "present": 65536,
    }
    assert document["blocks"][-1] == {"block": 23, "valid_zones": ["Movable"]}
    assert [w["code"] for w in document["warnings"]] == ["BOOT_MEMORY"]


@pytest.mark.parametrize("strategy", ["mainline", "adjust", "banks"])
def test_zones_of_a_board(strategy: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = _json(capsys, "zones", "--board", "arm-2009", "--strategy", strategy)
    assert [(z["zone"], z["start_pfn"]) for z in document["zones"]] == [("Normal", 0x40000), ("Movable", 0x50000)]
    assert [b["block"] for b in document["blocks"]] == list(range(16, 24))


def test_zones_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zones", "--board", "virt-arm64"]) == 0
    out = capsys.readouterr().out
    assert "8-15    DMA" in out
    assert "NOT_AT_BOOT: bank high" in out


def test_appended_tree_refuses_too_many_banks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    banks = "".join(f'[bank.b{n}]\nstart = {(64 + 2 * n) << 24}\nsize = "16M"\n' for n in range(17))
    board = tmp_path / "many.toml"
    board.write_text(f'name = "many"\narch = "arm"\nblock_size = "64M"\n{banks}')
    out = str(tmp_path / "out")
    assert run(["encode", str(board), "--atags", "--appended", "1", "-o", out]) == 0
    capsys.readouterr()
    assert run(["encode", str(board), "--atags", "--appended", "2", "-o", out]) == 1
    assert "UNSUPPORTED: 17 banks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["decode", "/nowhere"], 1, "/nowhere"),
        (["decode", "{junk}"], 1, "junk at offset 0x0, magic"),
        (["decode", "{cut}"], 1, "cut: device tree at offset 0x4, totalsize"),
        (["decode", "{dtb}", "--vendor", "htc"], 2, "'htc' is not"),
        (["encode", "no-such-board"], 1, "BAD_BOARD"),
        (["encode", "arm-2009", "--dtb", "--appended", "1"], 2, "--appended goes with --atags"),
        (["encode", "arm-2009", "--atags", "--base", "{dtb}"], 1, "UNSUPPORTED"),
        (["zones"], 2, "exactly one of"),
        (["zones", "--dtb", "{dtb}", "--board", "arm-2009"], 2, "exactly one of"),
        (["zones", "--atags", "{dtb}"], 1, "this is dtb, not atags"),
        (["zones", "--dtb", "{dtb}", "--kernel", "2.6"], 2, "no rules for kernel '2.6'"),
        (["zones", "--dtb", "{dtb}", "--block-size", "7x"], 2, "--block-size"),
        (["zones", "--dtb", "{dtb}", "--block-size", "3M"], 1, "NOT_ALIGNED"),
    ],
)
def test_bad_input_is_one_line_and_a_status(
    arguments: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blob = (ZONES / "6.12.95" / "plain-1g" / "guest.dtb").read_bytes()
    files = {"junk": b"\0\1\2\3" * 9, "cut": blob[:-100], "dtb": blob}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert run([a.format(**{name: tmp_path / name for name in files}) for a in arguments]) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err
    if status == 1:
        assert captured.err.count("\n") == 1


def test_output_for_a_pipe_is_the_bytes_themselves(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["encode", "arm-2009"]) == 0
    assert capfdbinary.readouterr().out[4:8] == bytes.fromhex("01004154")


BOARD = 'name = "b"\nblock_size = "128M"\ncmdline = "root=日本 é"\n[bank.a]\nstart = 0x40000000\nsize = "128M"\n'


@pytest.mark.parametrize("form", ["atags", "dtb", "cmdline"])
def test_a_command_line_is_its_bytes(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.toml").write_text(BOARD, encoding="utf-8")
    file = tmp_path / "out"
    assert run(["encode", str(tmp_path / "b.toml"), f"--{form}", "-o", str(file)]) == 0
    assert "root=日本 é".encode() in file.read_bytes()
    assert run(["decode", str(file)]) == 0
    assert "root=日本 é" in capsys.readouterr().out
    for line in ("movablecore=64M root=日本", "movablecore=64M \udcff"):  # as argv has bytes that are no UTF-8
        zones = _json(capsys, "zones", "--board", str(tmp_path / "b.toml"), "--cmdline", line)["zones"]
        assert zones[-1]["zone"] == "Movable"


def test_decode_shows_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "line"
    file.write_bytes(b"mem=64M@0 x=\xc2\x9b2J\ty")
    assert run(["decode", str(file)]) == 0
    assert "x=\\x9b2J\\ty" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("zones", "--dtb", "-", "--iomem", "-"),
        ("zones", "--board", "virt-arm64", "--block-size", "1" + "0" * 4000),
        ("zones", "--board", "virt-arm64", "--block-size", "9" * 5000),
    ],
)
def test_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    blob = (ZONES / "6.12.95" / "plain-1g" / "guest.dtb").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(blob)))
    assert run([*arguments]) == 2
    assert "Error: " in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "12M"])
def test_a_block_size_that_no_kernel_has(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zones", "--board", "virt-arm64", "--block-size", size]) == 1
    assert "NOT_ALIGNED" in capsys.readouterr().err


def test_closed_standard_input_and_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run(["decode", "-"]) == 2
    assert "standard input is closed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdout", None)
    assert run(["encode", "virt-arm64"]) == 2
    assert run(["zones", "--board", "virt-arm64"]) == 0


def test_a_boards_own_tree_serves_as_its_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first.dtb", tmp_path / "second.dtb"
    assert run(["encode", "virt-arm64", "-o", str(first)]) == 0
    assert run(["encode", "virt-arm64", "--base", str(first), "-o", str(second)]) == 0
    capsys.readouterr()
    assert _json(capsys, "decode", str(first)) == _json(capsys, "decode", str(second))
