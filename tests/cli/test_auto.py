# SPDX-License-Identifier: Apache-2.0
"""``hotbank auto`` on a machine that is up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from hotbank.cli import cli
from hotbank.cli.auto import read_settings


def invoke(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, arguments)
    return done.exit_code, done.stdout, f"{done.stderr}{done.exception or ''}"


@pytest.fixture
def up(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))
    assert invoke("up", "arm-2009")[0] == 0
    yield
    invoke("down")


def test_it_takes_a_bank_and_says_so(up: None, tmp_path: Path) -> None:
    record = tmp_path / "looks"
    command = ["auto", "run", "--set", "every=0.05", "--set", "trust=0.01", "--record", str(record)]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "hotbank", *command], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines[0] == "machine model:arm-2009\n"
    assert "balance looks every 0.05 s" in lines[1]
    assert "took ddr-high (" in lines[2]
    text = invoke("auto", "status")[1]
    assert "ddr-high (high)  256M  out" in text
    document = json.loads(invoke("auto", "status", "--json")[1])
    assert document["governed"]
    assert document["status"]["groups"][0]["ours"]
    assert f"pid {process.pid} governs this machine" in refused("auto", "run")
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    process.stdout.close()
    looks = [json.loads(line) for line in record.read_text().splitlines()]
    assert sum(len(look["deeds"]) for look in looks) == 1
    assert "by the governor" in invoke("history")[1]


def test_nobody_governs_once_it_had_nobody_to_tell(up: None) -> None:
    """As `auto run | true`: the next one need not wait until it is sure of that."""
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-u", "-m", "hotbank", "auto", "run"]
    try:
        assert subprocess.run(argv, stdout=writer, stderr=subprocess.DEVNULL, check=False).returncode == 1
    finally:
        os.close(writer)
    status = json.loads(invoke("auto", "status", "--json")[1])
    assert not status["governed"]
    assert status["status"]["period"] == 0


def refused(*arguments: str) -> str:
    """What it says on standard error; AssertionError as soon as it says anything else: it might have no end."""
    argv = [sys.executable, "-u", "-m", "hotbank", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if said := process.stdout.readline():
            process.kill()
        error = process.stderr.read()
    assert (said, process.returncode) == ("", 1)
    return error


def test_where_nobody_owns_the_host_nobody_governs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is an answer, also to a program."""
    monkeypatch.setattr("hotbank.serve.local.served_host", lambda: None)
    said = "nobody governs this machine\nstart one with `hotbank -m host auto run`\n"
    assert invoke("-m", "host", "auto", "status") == (0, said, "")
    code, text, _ = invoke("-m", "host", "auto", "status", "-J")
    assert (code, json.loads(text)["governed"], json.loads(text)["status"]) == (0, False, None)


def test_it_is_started_on_the_machine_that_was_asked_about(up: None) -> None:
    assert invoke("up", "arm-2009", "--name", "a")[0] == 0
    for words, start in [((), "hotbank auto run"), (("-m", "up:a"), "hotbank -m up:a auto run")]:
        assert invoke(*words, "auto", "status")[1].endswith(f"start one with `{start}`\n")
    invoke("down", "a")


def test_pause_and_resume(up: None) -> None:
    assert invoke("auto", "status")[1].startswith("nobody governs this machine\n")
    assert invoke("auto", "pause", "a demo") == (0, "machine model:arm-2009\npaused: a demo\n", "")
    assert "paused    a demo" in invoke("auto", "status")[1]
    assert invoke("auto", "resume")[1].endswith("resumed\n")
    assert json.loads(invoke("auto", "status", "-J")[1])["paused"] is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("auto", "run", "greedy"), "policy = 'greedy': known: balance, reserve; or a TOML file"),
        (("auto", "run", "--set", "trust=often"), "must be key=number"),
        (
            ("auto", "run", "--set", "speed=1"),
            "known: returning, floor, memory, guess, foresight, trust, every, guard.",
        ),
        (("auto", "run", "--set", "speed=1"), "balance and its guard have no such setting"),
        (("auto", "run", "--set", "guess=-1"), "guess = -1.0: must be 0 or more"),
        (("auto", "run", "--set", "every=0"), "every = 0.0: must be more than 0"),
        (("auto", "run", "gone.toml"), "gone.toml"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], error: str) -> None:
    code, _, text = invoke(*arguments)
    assert code != 0
    assert error in text.replace("\n", " ")


def test_a_file_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('policy = "reserve"\nevery = 5\n[settings]\nheadroom = 0.1\n[guard]\nhourly = 3\n')
    found = read_settings(str(file), ("patience=60", "guard.ban=5"))
    assert (found.name, found.every, found.guarded().hourly, found.guarded().ban) == ("reserve", 5, 3, 5)
    assert repr(found.policy) == "Reserve(headroom=0.1, patience=60.0)"
