# SPDX-License-Identifier: Apache-2.0
"""What the journal tells of the past, and ``--all``."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from hotbank.cli import cli
from hotbank.cli.journal import _table
from hotbank.errors import Code
from hotbank.operate import Before, Entry, Row

OK = Code.OK


def run(*arguments: str) -> tuple[str, int]:
    done = CliRunner().invoke(cli, ["-m", "model:arm-2009", *arguments], standalone_mode=False)
    return done.output, done.return_value if isinstance(done.return_value, int) else 2


def test_all_banks_that_may_leave() -> None:
    said, status = run("remove", "--all", "--dry-run")
    assert status == 0
    assert "remove    high: OK" in said
    assert "low:" not in said
    said, status = run("remove", "--all")
    assert (status, said.splitlines()[0]) == (0, "machine model:arm-2009")
    assert "OK: high is out of the kernel, domain ddr-high is off" in said
    assert run("add", "--all") == ("machine model:arm-2009\nnothing to do\n", 0)
    said, status = run("add", "--all", "--json")
    assert (json.loads(said)["event"], json.loads(said)["exit"], status) == ("done", 0, 0)


@pytest.mark.parametrize("arguments", [("remove",), ("remove", "high", "--all"), ("add",), ("add", "high", "--all")])
def test_either_a_name_or_all(arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[1] == 2


def test_an_open_transaction_says_why() -> None:
    held = Entry(
        1, 7, Before("remove", ("high",), "a"), 0.0, (Row("offline", "memory20", Code.CANCEL_PENDING, 4, 1, 2),)
    )
    running = Entry(2, 7, Before("remove", ("high",), "a"), 0.0, (Row("offline", "memory20", None, None, 1, None),))
    lines = list(_table((held, running)))
    assert "CANCEL_PENDING" in lines[1]
    assert "BUSY_TRANSACTION" in lines[2]
    assert all(" open " in line for line in lines[1:3])
    assert lines[-2] == "transaction 1 is open: wait: it settles when the kernel lets go of the block; power stays on"
    assert lines[-1].startswith("transaction 2 is open: wait for the other transaction, or hotbank recover")
    damaged = Entry(3, 7, Before("remove", (), "a"), 0.0, damage="a row that is none")
    last = list(_table((damaged,)))[-1]
    assert last == "transaction 3 is open: hotbank recover closes it, or says what is half-way"


def test_several_banks_are_one_line_that_tells_planned_from_moved() -> None:
    before = Before("remove", ("high", "mate"), "a", planned=400, cause="governor")
    rows = (Row("offline", "memory20", OK, None, 1, 2),)
    counted = Entry(1, 7, before, 1.0, rows, Code.DOMAIN_IN_USE, 398, 3.5)
    uncounted = replace(counted, before=replace(before, cause="person"), moved=None)
    lines = list(_table((counted, uncounted)))
    assert lines[1].split() == [
        *("1970-01-01T00:00:01Z", "remove", "high,", "mate", "OK", "2.50", "-", "400", "398", "1,"),
        *("by", "the", "governor"),
    ]
    assert lines[2].split()[-3:] == ["400", "-", "1"]
    assert lines[3] == "2 transactions: 2 OK; 398 pages moved"
