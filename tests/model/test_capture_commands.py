# SPDX-License-Identifier: Apache-2.0
"""``hotbank capture``, ``-m model:FILE`` and ``plan --try`` as a user meets them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from hotbank import board, cli
from hotbank.host import Host
from hotbank.load import Workload
from hotbank.memory import BlockState, Kind
from hotbank.model import Model, capture
from hotbank.sysfs.names import MEMORY


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A capture of a board with something to move, and something that is pinned in bank high."""
    model = Model.boot(board.load("arm-2009"))
    Workload(model, 1).fill()
    capture.save(capture.take(model), tmp_path / "board.gz")
    return str(tmp_path / "board.gz")


def test_capture_writes_what_a_model_starts_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "c.json")
    assert cli.run(["-m", "model:arm-2009", "capture", "-o", path]) == 0
    assert "captured  8 blocks" in capsys.readouterr().out
    assert cli.run(["-m", f"model:{path}", "list", "--json"]) == 0
    banks = json.loads(capsys.readouterr().out)["banks"]
    assert [bank["bank"] for bank in banks] == ["low", "high"]


def test_a_plan_is_tried_and_the_machine_is_not_touched(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(file).read_bytes()
    assert cli.run(["-m", f"model:{file}", "plan", "high", "--try", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    tried = plan["try"]
    assert (tried["code"], tried["exit"], tried["freed"]) == ("OK", 0, 256 << 20)
    assert tried["moved"] == tried["planned"] == plan["pages"] > 0
    assert cli.run(["-m", f"model:{file}", "plan", "high", "--try"]) == 0
    assert f"{tried['moved']} moved, 256M freed" in capsys.readouterr().out
    assert Path(file).read_bytes() == before


def test_a_refusal_is_what_the_kernel_would_say(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["-m", f"model:{file}", "plan", "memory16", "--try", "--json"]) == 0
    tried = json.loads(capsys.readouterr().out)["try"]
    assert (tried["code"], tried["exit"], tried["moved"]) == ("UNMOVABLE", 1, 0)


def test_a_pin_costs_the_deadline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Model.boot(board.load("arm-2009"))
    model.pin(model.spawn("vmsplicer", anon_pages=100), 0)
    path = tmp_path / "pinned.gz"
    capture.save(capture.take(model), path)
    cli.run(["-m", f"model:{path}", "plan", "high", "--try", "--json"])
    tried = json.loads(capsys.readouterr().out)["try"]
    assert tried["code"] in ("PINNED", "DEADLINE")
    assert tried["seconds"] >= 30


@pytest.mark.parametrize("part", [0.3, 0.99])
def test_a_file_cut_short_is_refused_before_anything_runs(
    file: str, part: float, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(file).read_bytes()
    Path(file).write_bytes(data[: int(len(data) * part)])
    assert cli.run(["-m", f"model:{file}", "plan", "high", "--try"]) == 1
    assert capsys.readouterr().err.startswith(f"hotbank: BAD_FORMAT: {file}: capture")


def test_try_wants_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["-m", "model:arm-2009", "plan", "--free", "64M", "--try"]) == 2


@pytest.mark.skipif(not Path(f"/{MEMORY}").is_dir(), reason="this kernel shows no memory blocks")
def test_this_hosts_pages_add_up_to_what_its_survey_counts() -> None:
    """Where the kernel shows page flags; elsewhere both say that they see nothing."""
    host = Host()
    online = [b.number for b in host.snapshot().blocks if b.state is BlockState.ONLINE]
    for number in online[:1] + online[-1:]:
        counts = Counter[Kind]()
        for kind, pages in host.pages(number).runs:
            counts[kind] += pages
        surveyed = host.survey(number).kinds
        assert sum(counts.values()) == sum(surveyed.values())
        assert (Kind.UNKNOWN in counts and len(counts) == 1) == (Kind.UNKNOWN in surveyed and len(surveyed) == 1)
