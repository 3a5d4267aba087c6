# SPDX-License-Identifier: Apache-2.0
"""What the journal tells of the past, and ``--all``."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from export.owners import served_model
from hotbank import cli as commands
from hotbank.cli import cli, past
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
    lines = list(past.lines((held, running)))
    assert "CANCEL_PENDING" in lines[1]
    assert "BUSY_TRANSACTION" in lines[2]
    assert all(" open " in line for line in lines[1:3])
    assert lines[-2] == "transaction 1 is open: wait: it settles when the kernel lets go of the block; power stays on"
    assert lines[-1].startswith("transaction 2 is open: wait for the other transaction, or hotbank recover")
    damaged = Entry(3, 7, Before("remove", (), "a"), 0.0, damage="a row that is none")
    last = list(past.lines((damaged,)))[-1]
    assert last == "transaction 3 is open: hotbank recover closes it, or says what is half-way"


def test_several_banks_are_one_line_that_tells_planned_from_moved() -> None:
    before = Before("remove", ("high", "mate"), "a", planned=400, cause="governor")
    rows = (Row("offline", "memory20", OK, None, 1, 2),)
    counted = Entry(1, 7, before, 1.0, rows, Code.DOMAIN_IN_USE, 398, 3.5)
    uncounted = replace(counted, before=replace(before, cause="person"), moved=None)
    lines = list(past.lines((counted, uncounted)))
    assert lines[1].split() == [
        *("1", "1970-01-01T00:00:01Z", "remove", "high,", "mate", "OK", "2.50", "400", "398", "1"),
    ]
    assert lines[2].split()[-3:] == ["400", "-", "1"]
    assert lines[3:5] == ["2 transactions: 2 OK; 398 pages moved", "by the governor: 1"]


ENTRIES = st.lists(
    st.builds(
        lambda number, targets, code, moved, seconds, steps: Entry(
            number,
            7,
            Before("remove", tuple(targets), "a", planned=moved),
            1e9,
            (Row("offline", "memory20", OK, None, 1e9, 1e9 + seconds),) * steps,
            code,
            moved,
            1e9 + seconds,
        ),
        st.integers(1, 999),
        st.lists(st.from_regex(r"[a-z]{1,30}[0-9]{0,3}", fullmatch=True), min_size=1, max_size=40),
        st.sampled_from([OK, Code.NO_CAPACITY, Code.NOT_MOVABLE_ZONE]),
        st.integers(0, 9_999_999),
        st.floats(0, 9999),
        st.integers(0, 99),
    ),
    min_size=1,
)


@given(ENTRIES)
def test_every_row_fits_80_columns_and_counts_its_targets(entries: list[Entry]) -> None:
    rows = list(past.lines(tuple(entries)))[: 1 + len(entries)]
    narrow = [re.sub(r"(?<=\S)  (?=\S)", " ", row) for row in rows]
    with patch("hotbank.cli.table.is_terminal", lambda _: True):
        shown = list(past.lines(tuple(entries)))[: 1 + len(entries)]
    assert max(map(len, shown)) <= 80
    assert [row.split() for row in shown] == [row.split() for row in narrow]
    for row, entry in zip(shown[1:], entries, strict=True):
        targets = re.search(r"remove +([^ ,]+(?:, [^ ,]+)*)(?: \+(\d+))? ", row)
        assert targets is not None
        assert len(targets[1].split(", ")) + int(targets[2] or 0) == len(entry.before.targets)


def test_one_transaction_is_told_whole() -> None:
    targets = tuple(f"memory{n}" for n in range(20, 29))
    rows = (Row("offline", "memory20", OK, None, 11, 12.5), Row("offline", "memory21", None, None, 13, None))
    entry = Entry(4, 7, Before("remove", targets, "a", planned=400, cause="governor"), 10.0, rows)
    assert list(past.whole(entry, None)) == [
        "transaction 4: remove " + ", ".join(targets),
        "machine   -",
        "began     1970-01-01T00:00:10Z, by the governor, process 7",
        "result    BUSY_TRANSACTION",
        "seconds   open, expected -",
        "pages     400 planned, - moved",
        "AFTER  STEP     TARGET    RESULT  SECONDS",
        " 1.00  offline  memory20  OK         1.50",
        " 3.00  offline  memory21  -             -",
    ]


def test_one_transaction_by_its_number(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What ``--json`` has of it is what it has beside the others; another number is refused."""

    def said(*words: str) -> str:
        assert commands.run(["-m", where, *words]) == 0
        return capfd.readouterr().out

    with served_model(tmp_path) as where:
        said("remove", "high")
        said("add", "high")
        first, second = json.loads(said("history", "--json"))["transactions"]
        assert json.loads(said("history", str(second["id"]), "--json"))["transactions"] == [second]
        assert said("history", str(first["id"])).startswith(f"transaction {first['id']}: remove high\n")
        assert commands.run(["-m", where, "history", "99"]) == 1
        assert "UNSUPPORTED: no transaction 99; hotbank history lists them" in capfd.readouterr().err
