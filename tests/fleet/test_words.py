# SPDX-License-Identifier: Apache-2.0
"""Inventories that are read and refused, what a process's words mean, and the fleet's journal cut anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.errors import BoardError, Code, FormatError, Refusal
from hotbank.fleet import inventory
from hotbank.fleet.asking import Reply, read
from hotbank.fleet.inventory import Member
from hotbank.fleet.journal import Journal
from hotbank.fleet.orders import is_dark, last_of, since

M = Member("m", "ssh:m")
DONE = {"event": "done", "code": "OK", "fact": "out", "exit": 0}


def write(folder: Path, text: str, name: str = "list") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_plain_list(tmp_path: Path) -> None:
    found = inventory.load(write(tmp_path, "# all\nb1\n\nssh:me@b2 # mine\nunix:/run/x\nb1\n"))
    assert [(member.name, member.where) for member in found] == [
        ("b1", "ssh:b1"), ("ssh:me@b2", "ssh:me@b2"), ("unix:/run/x", "unix:/run/x"),
    ]  # fmt: skip


def test_tables_with_groups(tmp_path: Path) -> None:
    text = '[machine.a]\n[machine.b]\nmachine = "me@b"\ngroups = ["lab"]\ndomain = "rack"\n'
    a, b = inventory.load(write(tmp_path, text, "fleet.toml"))
    assert (a, b) == (Member("a", "ssh:a"), Member("b", "ssh:me@b", ("lab",), "rack"))
    assert inventory.only((a, b), ["lab"]) == (b,)
    assert inventory.only((a, b), []) == (a, b)
    with pytest.raises(Refusal, match="nosuch"):
        inventory.only((a, b), ["nosuch"])


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("list", "", "names no machine"),
        ("list", "a\n-oProxyCommand=x\n", "list:2: machine"),
        ("list", "two words\n", "must be a host"),
        ("f.toml", '[machine.a]\nmachine = "-x"\n', "must be a host"),
        ("f.toml", "[machine.a]\ngroup = []\n", "did you mean groups"),
        ("f.toml", "machines = 1\n", "did you mean machine"),
    ],
)
def test_a_wrong_inventory_is_told(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(BoardError, match=told):
        inventory.load(write(tmp_path, text, name))


def test_what_a_process_says() -> None:
    def said(*documents: Any, status: int = 0, err: bytes = b"") -> Reply:
        return read(M, status, "\n".join(map(json.dumps, documents)).encode(), err, 0.0)

    refused = {"schema": 1, "error": {"code": "NO_MACHINE", "message": "gone"}}
    assert (said({"banks": []}).code, said({"banks": []}).certain) == (Code.OK, True)
    assert (said({"event": "step"}, DONE).code, said({"event": "step"}, DONE).certain) == (Code.OK, True)
    assert not said(refused, status=1).certain  # the link may have been lost behind the order
    assert said({"schema": 1, "error": {"code": "BUSY_TRANSACTION", "message": "m"}}, status=1).certain
    assert not said({"event": "step", "code": None}, status=1).certain
    assert said({"event": "done", "code": None, "fact": "nothing to do", "exit": 0}).code is Code.OK
    assert said({"steps": [], "code": "NO_CAPACITY"}, status=1).code is Code.NO_CAPACITY
    assert said(status=1, err=b"x\nhotbank: NOT_PERMITTED: no\n").code is Code.NOT_PERMITTED
    assert said(status=2, err=b"Error: what\n").code is Code.NO_MACHINE
    assert said({"steps": [], "code": "NEWER"}, status=1).code is Code.KERNEL_REFUSED


def test_who_is_dark_and_who_may_be() -> None:
    def of(kernel: str, power: str, domain: str | None = "d") -> Reply:
        return Reply(M, Code.OK, documents=({"banks": [{"kernel": kernel, "power": power, "domain": domain}]},))

    assert not is_dark(of("online", "on"))
    assert is_dark(of("absent", "on"))
    assert is_dark(of("online", "unknown"))
    assert not is_dark(of("absent", "on", None))  # nothing that a switch could make dark
    assert is_dark(Reply(M, Code.NO_MACHINE))


def test_the_first_transaction_after_one() -> None:
    history = {"transactions": [{"id": n, "before": {"verb": "remove" if n % 2 else "add"}} for n in range(6)]}
    assert last_of(history) == 5
    assert last_of({"transactions": []}) is None
    assert (since(history, 1, "remove") or {})["id"] == 3
    assert (since(history, None, "add") or {})["id"] == 0
    assert since(history, 5, "remove") is None


def test_a_name_is_no_option(tmp_path: Path) -> None:
    words = ["fleet", "-i", str(write(tmp_path, "model:arm-2009\n")), "-J", "remove", "--", "--all"]
    done = subprocess.run([sys.executable, "-m", "hotbank", *words], capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, "NO_SUCH_BANK")


def filled(path: Path) -> None:
    with Journal(path) as journal:
        begun = journal.begin("remove", ["high"], ["m", "n"], 2)
        journal.asking(begun, "m", 7)
        journal.told(begun, Reply(M, Code.OK))
        journal.asking(begun, "n", None)
        journal.told(begun, Reply(Member("n", "ssh:n"), Code.NO_MACHINE, 1, "gone", certain=False))


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    filled(tmp_path / "j")
    with Journal(tmp_path / "j") as journal:
        begun = journal.open
        assert begun is not None
        assert (begun.asked, begun.dark, begun.done) == ({"m": 7, "n": None}, 2, False)
        with pytest.raises(Refusal, match="another process is at work"):
            Journal(tmp_path / "j")
        journal.told(begun, Reply(Member("n", "ssh:n"), Code.OK))
        assert journal.open is None


@given(st.integers(0, 1200))
def test_a_journal_that_was_cut_anywhere_has_all_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    path = tmp_path_factory.mktemp("j") / "j"
    filled(path)
    data = path.read_bytes()[:length]
    path.write_bytes(data)
    with Journal(path) as journal:
        rows = [row for begun in journal.orders.values() for row in (begun.order, *begun.asked, *begun.came)]
    assert len(rows) == data.count(b"\n")


@pytest.mark.parametrize("old", ['"OK"', "7", "null", '["high"]', "2", "true"])
@pytest.mark.parametrize("new", ['"FROM_LATER"', "-1.5", "[[]]", "{}"])
def test_a_row_that_says_something_else_is_told_and_not_believed(tmp_path: Path, old: str, new: str) -> None:
    filled(tmp_path / "j")
    text = (tmp_path / "j").read_text()
    (tmp_path / "j").write_text(text.replace(f":{old}", f":{new}"))
    with pytest.raises(FormatError, match="no row of a fleet journal"):
        Journal(tmp_path / "j")


@pytest.mark.parametrize("line", ["no json", "[]", "{}", '{"order":"x","event":"asked","machine":"m","last":1}'])
def test_another_file_is_no_journal(tmp_path: Path, line: str) -> None:
    with pytest.raises(FormatError, match="line 1"):
        Journal(write(tmp_path, line + "\n"))
