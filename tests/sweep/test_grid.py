# SPDX-License-Identifier: Apache-2.0
"""What a sweep's file comes to: everything against everything, each once, by what it is made of."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotbank.errors import BoardError
from hotbank.govern.policy import Balance, Seen, Wish
from hotbank.govern.view import View
from hotbank.sweep import grid
from hotbank.sweep import run as runs_of
from hotbank.sweep.grid import load
from hotbank.sweep.run import Member, work
from sweeping import write_sweep

BOOTED = 'boards = ["arm-2009"]\nworkloads = ["camera", "inodes"]\ntraces = ["vm01"]\nallow_gaps = true\nseconds = 30\n'


def write(folder: Path, text: str) -> Path:
    (folder / "own.toml").write_text(text)
    return folder / "own.toml"


def test_each_against_each(tmp_path: Path) -> None:
    its = load(write(tmp_path, BOOTED + 'policies = ["balance", "reserve"]\nseeds = [1, 2, 3]\n'))
    assert len(its.runs) == 1 * 3 * 2 * 3
    assert {file.digest for run in its.runs for file in run.subject.files} == its.contents.keys()


@pytest.mark.parametrize("key", ["boards", "workloads", "costs"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, key: str) -> None:
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    named = {"boards": '["arm-2009"]', "workloads": '["inodes"]', "policies": '["balance"]', "seeds": "[1]"}
    named |= {key: '"bad.toml"' if key == "costs" else '["bad.toml"]'}
    with pytest.raises(BoardError, match=r"bad\.toml.*its byte 0 is no UTF-8"):
        load(write(tmp_path, "seconds = 5\n" + "".join(f"{name} = {value}\n" for name, value in named.items())))


def test_as_many_runs_as_there_may_be_are_counted_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, BOOTED + 'policies = ["balance", "reserve"]\n[settings.balance]\nguess = [0.1, 0.2, 0.3]\n')
    monkeypatch.setattr(grid, "MOST", 1 * 3 * (3 + 1))
    assert len(load(file).runs) == 12
    monkeypatch.setattr(grid, "MOST", 11)
    with pytest.raises(BoardError, match="more than 11 runs"):
        load(file)


def test_settings_are_of_their_policy(tmp_path: Path) -> None:
    its = load(write_sweep(tmp_path, count=1))
    assert len(its.runs) == (4 + 1) * 2
    chosen = {run.choice.name for run in its.runs}
    assert chosen == {
        "reserve", *(f"balance guess={guess} guard.hourly={most}" for guess in (0.25, 0.5) for most in (2, 60))
    }  # fmt: skip


def test_a_setting_is_what_stands_there(tmp_path: Path) -> None:
    values = [0.1234567, 0.1234568, 2.0, 5, 1e-7, 16777217]
    its = load(write(tmp_path, f"{BOOTED}[settings.balance]\nguess = {values}\n"))
    assert {run.choice.settings.given()["guess"] for run in its.runs} == set(values)
    assert {pair for run in its.runs for pair in run.choice.pairs} >= {"guess=2", "guess=16777217"}


def test_what_stands_there_twice_is_run_once(tmp_path: Path) -> None:
    assert len(load(write(tmp_path, BOOTED + "seeds = [7, 7]\n")).runs) == 3


def test_files_beside_the_sweeps_own_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert {run.subject.files[0].name for run in load(write_sweep(tmp_path)).runs} == {"day"}


def test_a_run_is_called_by_all_that_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version, file, part, size, shift, period, settings, seed: each changes the name; what it is called does not."""
    run = load(write_sweep(tmp_path)).runs[0]
    subject = run.subject
    assert isinstance(subject, Member)
    part = replace(subject.kind.part, megabits=1)
    other: dict[str, Any] = {"banks": 5, "part": part, "size": 1 << 30, "shift": 1.0, "period": 2.0}
    changed = [replace(subject, kind=replace(subject.kind, **{key: value})) for key, value in other.items()]
    changed += [replace(subject, number=99), replace(subject, trace=replace(subject.trace, digest="other"))]
    others = [replace(run, subject=each) for each in changed] + [replace(run, seed=99)]
    others += [replace(run, choice=replace(run.choice, settings=replace(run.choice.settings, every=3.0)))]
    names = {each.name for each in others}
    renamed = replace(run, subject=replace(subject, trace=replace(subject.trace, name="other")))
    assert renamed.name == run.name
    before = run.name
    monkeypatch.setattr(runs_of, "__version__", "other")
    assert len({before, *names, replace(run).name}) == len(others) + 2


WRONG = {
    'boards = ["arm-2009"]': "workloads: give workloads",
    'workloads = ["camera"]': "boards: give boards, or tables",
    BOOTED + "[machine.a]\ncount = 1\ntrace = 'vm01'\nbanks = 1\npart = 'x'": "and not both",
    BOOTED + "seeds = []": "must be a list of whole numbers",
    BOOTED + "seeds = [-1]": "must be a whole number",
    BOOTED + "policies = []": "must have a name at least",
    BOOTED + 'policies = ["nosuch"]': "known: balance, reserve",
    BOOTED + "[settings.reserve]\nheadroom = 1": "settings.reserve: is not one of policies",
    BOOTED + "[settings.balance]\nguess = []": "guess must be a number, or a list of numbers",
    BOOTED + '[settings.balance]\nguess = "a"': "guess must be a number, or a list of numbers",
    BOOTED + "[settings.balance]\nnosuch = 1": "known: returning",
    BOOTED + "sed = 1": "did you mean seeds",
    "[machine.a]\ncount = 2000000\ntrace = 'vm01'\nbanks = 1\npart = 'x'": "more than 1000000 runs",
    "[machine.a]\ncount = 0": "must be more than 0",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_is_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(BoardError) as caught:
        load(write(tmp_path, text))
    assert WRONG[text] in " ".join(str(mistake) for mistake in caught.value.mistakes)


def test_what_runs_on_a_device_imports_none_of_it() -> None:
    code = "import sys\nimport hotbank.cli.listing, hotbank.serve.owner, hotbank.serve.worker, hotbank.cli.auto\n"
    code += "print([name for name in sys.modules if name.startswith(('hotbank.sweep', 'distributed', 'dask'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_work_is_linear_in_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks of a policy: as many a machine, however many machines."""
    looks = Counter[int]()
    count = 0

    def counting(self: Balance, view: View, state: Seen) -> tuple[Wish, Seen]:
        looks[count] += 1
        return decide(self, view, state)

    decide = Balance.decide
    monkeypatch.setattr(Balance, "decide", counting)
    for count in (1, 2, 8):
        its = load(write_sweep(tmp_path, count=count))
        work(its.runs, its.contents)
    assert looks[2] == 2 * looks[1]
    assert looks[8] == 8 * looks[1] == 8 * 40 * 8  # samples, and runs of a machine with this policy
