# SPDX-License-Identifier: Apache-2.0
"""``hotbank cache``: sizes as du(1) has them, all or a kind removed, nothing of what somebody works in."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hotbank import cli
from hotbank.boards_qemu import kept

Run = Callable[..., tuple[str, str, int]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two kinds, one of them with a lock and with a file under two names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tree = tmp_path / "hotbank/linux/linux-6.1"
    tree.mkdir(parents=True)
    (tree / "lock").touch()
    (tree / "big").write_bytes(os.urandom(100_000))
    os.link(tree / "big", tree / "again")
    (tmp_path / "hotbank/kernels").mkdir()
    (tmp_path / "hotbank/kernels/arm").write_bytes(b"x" * 5000)
    return tmp_path / "hotbank"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[str, str, int]:
        status = cli.run(["cache", *words])
        said = capsys.readouterr()
        return said.out, said.err, status

    return run


def test_sizes_are_those_of_du(cache: Path, run: Run) -> None:
    for item in json.loads(run("list", "--json")[0])["kept"]:
        du = subprocess.run(["du", "-s", "-B1", cache / item["kind"] / item["name"]], capture_output=True, check=True)
        assert item["size"] == int(du.stdout.split()[0])


def test_what_is_listed_is_what_is_removed(cache: Path, run: Run) -> None:
    said, _, status = run("list")
    assert [line.split()[:2] for line in said.splitlines()[1:3]] == [["kernels", "arm"], ["linux", "linux-6.1"]]
    _, told, status = run("clean", "linux")
    assert (status, told.split()[:2]) == (0, ["removing", "linux/linux-6.1,"])
    assert [item.kind for item in kept.kept()] == ["kernels"]
    assert run("clean")[2] == 0
    assert kept.kept() == ()
    assert run("clean")[0] == "nothing to remove\n"


def test_json_says_what_is_left_and_what_is_gone(cache: Path, run: Run) -> None:
    told = json.loads(run("clean", "kernels", "--json")[0])
    assert [[item["name"] for item in told[key]] for key in ("kept", "removed")] == [["linux-6.1"], ["arm"]]


def test_a_kind_that_is_none_removes_nothing(cache: Path, run: Run) -> None:
    _, told, status = run("clean", "kernels", "linus")
    assert status == 2
    assert "linus: nothing of that kind is kept; kept: kernels, linux" in told
    assert len(kept.kept()) == 2


def test_what_somebody_builds_in_stays(cache: Path, run: Run) -> None:
    with open(cache / "linux/linux-6.1/lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _, told, status = run("clean", "linux")
    assert (status, told.splitlines()[-1].endswith("wait until what fetches or builds there is through")) == (1, True)
    assert (cache / "linux/linux-6.1/again").is_file()


def test_an_interruption_leaves_nothing_half_removed(cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one removes the rest."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(shutil, "rmtree", stop)
        assert run("clean")[2] == 130
    assert [item.kind for item in kept.kept()] == ["linux"]
    assert run("clean")[2] == 0
    assert sorted(path.name for path in cache.iterdir()) == ["kernels", "linux"]
