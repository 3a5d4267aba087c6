# SPDX-License-Identifier: Apache-2.0
"""Thirty machines behind a real sshd, some dead, silent, closed or of another version: who is asked what, how often."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from documents import wrong
from hotbank.errors import Code
from hotbank.operate import Entry
from hotbank.operate.sqlite_journal import SqliteJournal
from patience import promised
from yard import CLOSED, DEAD, EVERY, FULL, OTHER, SERVED, SILENT, yard

pytestmark = [pytest.mark.long, pytest.mark.referee]
TIMEOUT = round(promised(10.0))  # seconds: who starts six programs at once has to wait for each
RACKS = {name: f"rack-{n // 12}" for n, name in enumerate(EVERY)}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with yard(tmp_path_factory.mktemp("yard")) as folder:
        yield folder


@pytest.fixture
def inventory(tmp_path: Path) -> Callable[..., Path]:
    """An inventory of these machines, in racks of twelve."""

    def write(names: Sequence[str] = EVERY) -> Path:
        tables = (f'[machine.{name}]\ndomain = "{RACKS[name]}"\n' for name in names)
        (tmp_path / "fleet.toml").write_text("".join(tables))
        return tmp_path / "fleet.toml"

    return write


def command(there: Path, inventory: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    env = {**os.environ, "PATH": f"{there / 'bin'}:{os.environ['PATH']}"}
    head = [sys.executable, "-m", "hotbank", "fleet", "-i", str(inventory), "--timeout", f"{TIMEOUT:g}"]
    return [*head, "--forks", "6", *words], env


def run(there: Path, inventory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv, env = command(there, inventory, *words)
    return subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def replies(done: subprocess.CompletedProcess[str]) -> Mapping[str, Mapping[str, Any]]:
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [fault for each in found for fault in wrong(each)] == []
    return {each["member"]: each for each in found}


def journal(there: Path, name: str) -> tuple[Entry, ...]:
    """What a machine itself knows to have been done to it, without its signs of life."""
    return tuple(entry for entry in SqliteJournal(there / f"{name}.journal").entries() if not entry.is_sign)


def most_dark(there: Path, names: Sequence[str], since: Mapping[str, int]) -> int:
    """How many of these machines were dark, or about to be, at the same moment: all journals merged."""
    changes = [change for name in names for entry in journal(there, name)[since[name] :] for change in of_entry(entry)]
    return most_at_once(changes)


def of_entry(entry: Entry) -> Iterator[tuple[float, int]]:
    """Dark from the beginning of a removal, until the end of one that failed or of an addition."""
    if entry.before.verb == "remove":
        yield entry.began, 1
        if entry.code is not Code.OK:
            assert entry.ended is not None
            yield entry.ended, -1
    elif entry.code is Code.OK:
        assert entry.ended is not None
        yield entry.ended, -1


def most_at_once(changes: Sequence[tuple[float, int]]) -> int:
    count = most = 0
    for _, step in sorted(changes):
        count += step
        most = max(most, count)
    return most


def test_two_at_once_are_told_from_one_after_the_other() -> None:
    assert most_at_once([(1, 1), (2, -1), (2, 1), (3, -1)]) == 1
    assert most_at_once([(1, 1), (2, 1), (3, -1), (4, -1)]) == 2


def test_the_table_of_thirty(there: Path, inventory: Callable[..., Path]) -> None:
    """Who is silent costs its timeout, once: they wait beside the others."""
    done = run(there, inventory(), "--json", "list")
    found = replies(done)
    assert done.returncode == 64
    assert {name for name, reply in found.items() if reply["code"] == "OK"} == set(SERVED)
    assert len(found) == 30
    for name in DEAD:
        assert "Connection refused" in found[name]["message"]
    for name in SILENT:
        assert f" in {TIMEOUT:g} s" in found[name]["message"]
        assert TIMEOUT <= found[name]["seconds"] <= TIMEOUT + promised(5)
    assert "Permission denied" in found[CLOSED]["message"]
    assert "version" in found[OTHER]["message"] or "99" in found[OTHER]["message"]
    assert {bank["bank"] for bank in found["m01"]["answers"][0]["banks"]} == {"low", "high"}


def test_a_failure_domain_has_two_dark_at_most(there: Path, inventory: Callable[..., Path]) -> None:
    """Those without room fail and make room for others. The dead one of the second rack may be dark as well."""
    before = {name: len(journal(there, name)) for name in SERVED}
    done = run(there, inventory([*SERVED, "m24"]), "--json", "remove", "--free", "64M", "--dark", "2")
    assert done.returncode == 64
    found = replies(done)
    for rack, most in (("rack-0", 2), ("rack-1", 1)):
        own = [name for name in SERVED if RACKS[name] == rack]
        assert sum(found[name]["code"] == "OK" for name in own) == most
        assert most_dark(there, own, before) == most
    back = run(there, inventory([n for n in SERVED if found[n]["code"] == "OK"]), "--json", "add", "--all")
    assert back.returncode == 0, back.stdout


def test_nobody_is_ordered_twice_after_the_operator_was_killed(there: Path, inventory: Callable[..., Path]) -> None:
    names = [name for name in SERVED if name not in FULL][:8]
    before = {name: len(journal(there, name)) for name in names}
    argv, env = command(there, inventory(names), "remove", "high")
    operator = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert operator.stdout is not None
    with operator:
        for _ in range(3):
            assert ": OK" in operator.stdout.readline()
        operator.kill()
    done = run(there, inventory(names), "--json", "resume")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        assert [entry.before.verb for entry in journal(there, name)[before[name] :]] == ["remove"], name
    again = run(there, inventory(names), "resume")
    assert (again.returncode, "no order is open" in again.stderr) == (1, True)
    assert run(there, inventory(names), "add", "--all").returncode == 0


def test_it_ends_after_so_many_failures(there: Path, inventory: Callable[..., Path]) -> None:
    done = run(there, inventory(["m24", "m25", "m01"]), "--forks", "1", "--json", "remove", "high", "--stop-after", "2")
    found = replies(done)
    assert done.returncode == 1
    assert found["m01"]["message"] == "not asked: 2 machines failed"


def test_governors_are_paused_and_go_on(there: Path, inventory: Callable[..., Path]) -> None:
    few = inventory(SERVED[:1])
    assert run(there, few, "auto", "pause", "a test").returncode == 0
    paused = replies(run(there, few, "--json", "auto", "status"))
    assert [reply["answers"][0]["paused"] for reply in paused.values()] == ["a test"]
    assert run(there, few, "auto", "resume").returncode == 0


@pytest.mark.parametrize("verb", ["list", "explain", "plan --free 64M", "energy", "history", "auto status"])
def test_each_verb_has_its_table(there: Path, inventory: Callable[..., Path], verb: str) -> None:
    done = run(there, inventory(SERVED[:1]), *verb.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("MACHINE  DOMAIN")
    assert done.stdout.splitlines()[-1] == "1 machine, 1 well"
