# SPDX-License-Identifier: Apache-2.0
"""``hotbank power``: the switch of a domain alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest

from hotbank import board, cli
from hotbank.model import Model
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen
from patience import ended

Run = Callable[..., tuple[str, str, int]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``unix:PATH`` of a served model; what a test does to it, it undoes."""
    path = tmp_path_factory.mktemp("owner") / "s"
    owner = Owner(Model.boot(board.load("arm-2009"), backend="reference", seed=1))
    with listen(path) as listener:
        thread = threading.Thread(target=owner.serve, args=(listener,))
        thread.start()
        yield f"unix:{path}"
        owner.stop()
        ended(thread)


@pytest.fixture
def run(served: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command on it: what it printed to standard output and to standard error, and its exit status."""

    def run(*words: str) -> tuple[str, str, int]:
        status = cli.run(["-m", served, *words])
        said = capsys.readouterr()
        return said.out, said.err, status

    return run


def test_asking_changes_nothing(run: Run) -> None:
    for words in (("power", "ddr-high"), ("power", "ddr-high", "status")):
        assert run(*words) == ("machine model:arm-2009\ndomain ddr-high is on; in the kernel: high\n", "", 0)
    told = json.loads(run("power", "ddr-high", "-J")[0])
    assert told == {
        "schema": 1,
        "machine": "model:arm-2009",
        "domain": "ddr-high",
        "power": "on",
        "states": ["on", "self-refresh", "off"],
        "switch": "machine",
        "banks": ["high"],
        "in_use": ["high"],
    }


@pytest.mark.parametrize("state", ["off", "self-refresh"])
def test_it_does_not_go_dark_under_memory(run: Run, state: str) -> None:
    _, err, status = run("power", "ddr-high", state)
    assert status == 1
    assert err.startswith("hotbank: DOMAIN_IN_USE: domain ddr-high stays on while high is in use")
    told = json.loads(run("power", "ddr-high", state, "--json")[0])
    assert told["error"]["code"] == "DOMAIN_IN_USE"


@pytest.mark.parametrize("words", [("power", "ddr"), ("power", "ddr", "on")])
def test_a_domain_that_is_not_there(run: Run, words: tuple[str, ...]) -> None:
    out, err, status = run(*words)
    assert (out, status) == ("machine model:arm-2009\n", 1)
    assert err == "hotbank: NO_SUCH_BANK: model:arm-2009 has no domain ddr; known: ddr-high\n"


def test_each_turn_is_an_order_with_a_row_in_the_journal(run: Run) -> None:
    assert run("remove", "high")[2] == 0
    for state, said in (("self-refresh", "is in self-refresh"), ("off", "is off"), ("on", "is on"), ("on", "is on")):
        out, _, status = run("power", "ddr-high", state)
        assert (status, out.splitlines()[1]) == (0, f"domain ddr-high {said}; nothing of high in the kernel")
    rows = [line.split() for line in run("history")[0].splitlines()[1:]]
    assert [row[2:5] for row in rows if row[2] == "power"] == [["power", "ddr-high", "OK"]] * 3
    told = json.loads(run("history", "--json")[0])["transactions"]
    steps = [row["step"] for entry in told if entry["before"]["verb"] == "power" for row in entry["rows"]]
    assert steps == ["self-refresh", "power-off", "power-on"]
    assert run("add", "high")[2] == 0
