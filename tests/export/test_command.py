# SPDX-License-Identifier: Apache-2.0
"""``hotbank export`` on a served machine: each form, into a file or to standard output; what it refuses."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from export.owners import served_model
from export.perfetto_reader import read
from hotbank import cli
from hotbank.export import timeline

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``unix:PATH`` of a served model with a bank out."""
    with served_model(tmp_path_factory.mktemp("owner")) as where:
        assert cli.run(["-m", where, "remove", "high"]) == 0
        yield where


@pytest.fixture
def run(served: str, capfd: pytest.CaptureFixture[str]) -> Run:
    """An export of it: exit status and standard error."""

    def run(*words: str) -> tuple[int, str]:
        status = cli.run(["-m", served, "export", *words])
        return status, capfd.readouterr().err

    return run


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_trace_has_what_the_history_has(
    run: Run, served: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trace"
    assert run("--perfetto", "-o", str(file), "--for", "0.2s", "--every", "0.1s")[0] == 0
    shown = read(file.read_bytes())
    assert cli.run(["-m", served, "history", "--json"]) == 0
    told = json.loads(capfd.readouterr().out.splitlines()[-1])["transactions"]
    steps = [f"{row['step']} {row['target']}" for entry in told for row in entry["rows"]]
    assert [slice_.name for slice_ in shown.on(timeline.STEPS)] == steps
    assert [slice_.name for slice_ in shown.on("power ddr-high")][-1] == "off"
    assert len(shown.counters["free"]) == 3
    assert shown.counters["pages moved"][-1][1] == sum(entry["moved"] for entry in told)


def test_rows_of_a_journal(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "steps.csv"
    assert run("--csv", "journal", "-o", str(file)) == (0, "")
    steps = rows(file)
    assert [(row["verb"], row["bank"], row["code"]) for row in steps] == [("remove", "high", "OK")] * len(steps)
    assert steps[-1]["step"] == "power-off"
    assert all(float(row["ended"]) >= float(row["began"]) for row in steps)


def test_pages_of_a_bank_and_of_a_block(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    for named, blocks in (("low", 4), ("memory16", 1)):
        assert cli.run(["-m", "model:arm-2009", "export", "--folded", named]) == 0
        said = capfd.readouterr()
        assert sum(int(line.rpartition(" ")[2]) for line in said.out.splitlines()) == blocks * 16384
        assert f"wrote     {blocks * 16384} pages of {blocks} block" in said.err
    status, said_ = run("--folded", "nosuch")
    assert status == 1
    assert "NO_SUCH_BANK" in said_


def test_rows_of_a_simulation(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    point = {"t": 2.5, "demand": 5, "on": 9, "bytes_off": 0}
    simulated, file = tmp_path / "s.json", tmp_path / "s.csv"
    words = ["export", "--csv", "simulation", "--simulation", str(simulated), "-o", str(file)]
    simulated.write_text(json.dumps({"timeline": [point, {**point, "t": 3}]}))
    assert cli.run(words) == 0
    assert [row["t"] for row in rows(file)] == ["2.5", "3.0"]
    for text in (
        '{"timeline": [{"t": 1}]}',
        "[]",
        "{",
        '{"timeline": [{"t": -1, "demand": 0, "on": 0, "bytes_off": 0}]}',
    ):
        simulated.write_text(text)
        assert cli.run(words) == 1
        assert "BAD_FORMAT" in capfd.readouterr().err


def test_looks_that_are_none(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "looks"
    file.write_text('\n{"at": 1}\n')
    status, said = run("--perfetto", "--looks", str(file), "-o", str(tmp_path / "t"))
    assert status == 1
    assert f"BAD_FORMAT: {file}: looks at offset 0x1, look: " in said


@pytest.mark.parametrize(
    "words",
    [
        (), ("--perfetto", "--folded"), ("--folded", "--csv", "survey"), ("--csv", "journal", "high"),
        ("--perfetto", "high"), ("--folded", "--for", "1s"), ("--perfetto", "--every", "1s"),
        ("--csv", "simulation"), ("--csv", "survey", "--simulation", "x"), ("--perfetto", "--sysroot", "/"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_refused(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words)[0] == 2


HEAVY = ("perfetto", "google.protobuf", "hotbank.export")


def test_others_import_nothing_of_it() -> None:
    code = "import json, sys; from hotbank import cli; cli.run(['list']); cli.run(['serve', '--help'])"
    code += "; import hotbank.serve.worker; print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in HEAVY if name in loaded] == []


def test_without_the_extra_it_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "hotbank.export.perfetto", None)
    status, said = run("--perfetto", "-o", str(tmp_path / "t"))
    assert status == 1
    assert said.endswith("hotbank: UNSUPPORTED: --perfetto needs the package perfetto; pip install 'hotbank[trace]'\n")
