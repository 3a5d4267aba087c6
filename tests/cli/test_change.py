# SPDX-License-Identifier: Apache-2.0
"""``remove`` and ``add`` of several banks: by name, by domain, by size, by a plan in a file, and all there are."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotbank import cli
from hotbank.cli.progress import outcome_lines
from hotbank.errors import Code, Refusal
from hotbank.operate import Outcome
from hotbank.session import Session, connect

BOARDS = Path(__file__).parents[1] / "contract"
PAIR, APART = f"model:{BOARDS / 'pair.toml'}", f"model:{BOARDS / 'apart.toml'}"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """The command: what it printed to standard output and to standard error, and its exit status."""

    def run(*words: str) -> tuple[str, str, int]:
        status = cli.run(list(words))
        said = capsys.readouterr()
        return said.out, said.err, status

    return run


@pytest.mark.parametrize("what", [("high", "mate"), ("--domain", "ddr"), ("--all",), ("--free", "32M")])
def test_both_banks_of_a_domain_are_one_transaction(run: Any, what: tuple[str, ...]) -> None:
    out, _, status = run("-m", PAIR, "remove", *what)
    assert status == 0
    assert "OK: high, mate are out of the kernel, domain ddr is off\n" in out
    assert "  high, mate: kernel absent, power off\n" in out
    assert out.count("power-off") == 1


def test_all_of_two_domains_are_two(run: Any) -> None:
    out, _, status = run("-m", APART, "remove", "--all")
    assert status == 0
    assert "remove high\n" in out
    assert "OK: high is out of the kernel, domain ddr is off\n" in out
    assert "remove mate\n" in out
    assert "OK: mate is out of the kernel, domain ddr-mate is off\n" in out


def test_half_of_a_domain_is_no_failure_in_any_word(run: Any) -> None:
    for command in (("remove", "high"), ("plan", "high"), ("remove", "--dry-run", "high")):
        out, err, status = run("-m", PAIR, *command)
        assert (err, status) == ("", 0)
        assert "OK: high " in out or "high: OK: " in out
        assert "domain ddr stays on while mate is in use" in out
        assert "DOMAIN_IN_USE" not in out
    done = json.loads(run("-m", PAIR, "remove", "high", "--json")[0].splitlines()[-1])
    assert (done["event"], done["code"], done["exit"]) == ("done", "DOMAIN_IN_USE", 0)


def test_what_was_planned_and_what_moved(run: Any) -> None:
    out, _, _ = run("-m", "model:arm-2009", "remove", "high")
    assert "  0 pages planned, 0 moved in " in out


# By a plan in a file.


@pytest.fixture
def plan(run: Any, tmp_path: Path) -> Any:
    """A file with the plan of these words, some of which was changed."""

    def plan(*words: str, **changes: Any) -> str:
        document = json.loads(run("-m", PAIR, "plan", *words, "--json")[0])
        document["found"] |= changes.pop("found", {})
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(document | changes))
        return str(path)

    return plan


@pytest.mark.parametrize("words", [("high", "mate"), ("--free", "32M")])
def test_what_plan_printed_is_carried_out(run: Any, plan: Any, words: tuple[str, ...]) -> None:
    out, _, status = run("-m", PAIR, "remove", "--plan", plan(*words))
    assert status == 0
    assert "OK: high, mate are out of the kernel, domain ddr is off\n" in out


def test_a_plan_to_add_is_carried_out_by_add(run: Any, plan: Any) -> None:
    path = plan("--add", "memory66")
    assert run("-m", PAIR, "add", "--plan", path)[2] == 0
    _, err, status = run("-m", PAIR, "remove", "--plan", path)
    assert status == 1
    assert "BAD_FORMAT" in err
    assert "plans to add memory66, not to remove" in err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"found": {"boot_id": "another"}}, "model:pair has booted since"),
        ({"machine": "model:other"}, "the plan is for model:other, this is model:pair"),
        (
            {"found": {"banks": [{"name": "high", "kernel": "absent", "domain": "ddr"}]}},
            "high was absent and is online",
        ),
        ({"found": {"domains": [{"name": "ddr", "power": "off"}]}}, "domain ddr was off and is on"),
        (
            {"found": {"blocks": [{"number": 66, "state": "offline", "zone": None}]}},
            "memory66 was offline and is online in Movable",
        ),
        (
            {"found": {"blocks": [{"number": 66, "state": "online", "zone": "Normal"}]}},
            "memory66 was online in Normal and is online in Movable",
        ),
        ({"targets": ["memory999"]}, "has no bank or block 'memory999'"),
    ],
)
def test_a_machine_that_has_changed_since_is_refused(run: Any, plan: Any, changes: dict[str, Any], said: str) -> None:
    path = plan("high", **changes)
    out, err, status = run("-m", PAIR, "remove", "--plan", path)
    assert status == 1
    assert "CHANGED" in err
    assert said in err
    assert "offline" not in out


@pytest.mark.parametrize("what", ["/dev/zero", "FIFO", "/"])
def test_a_plan_is_read_from_a_regular_file_only(run: Any, tmp_path: Path, what: str) -> None:
    os.mkfifo(tmp_path / "FIFO")
    path = str(tmp_path / what)
    _, err, status = run("-m", PAIR, "remove", "--plan", path)
    assert (status, err) == (1, f"hotbank: SYSTEM_ERROR: {path}: is no regular file\n")


def test_a_plan_on_standard_input(run: Any, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(plan("high"), encoding="utf-8") as text:
        monkeypatch.setattr("sys.stdin", text)
        assert run("-m", PAIR, "remove", "--plan", "-")[2] == 0


def test_page_counts_are_left_aside(run: Any, plan: Any) -> None:
    assert run("-m", PAIR, "remove", "--plan", plan("high", pages=7))[2] == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"found": 3}', '{"found": {}}', "[" * 100_000])
def test_what_is_no_plan_is_refused(run: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    _, err, status = run("-m", PAIR, "remove", "--plan", str(tmp_path / "plan.json"))
    assert status == 1
    assert "BAD_FORMAT" in err


# Without acting.


def test_a_dry_run_of_a_plan_is_refused_where_the_plan_would_be(run: Any, plan: Any) -> None:
    assert run("-m", PAIR, "remove", "--dry-run", "--plan", plan("high"))[2] == 0
    out, _, status = run("-m", PAIR, "remove", "--dry-run", "--plan", plan("high", found={"boot_id": "another"}))
    assert status == 1
    assert "CHANGED: since the plan was made: model:pair has booted since" in out
    _, err, status = run("-m", PAIR, "remove", "--dry-run", "--plan", plan("high", targets=["memory999"]))
    assert (status, "CHANGED" in err) == (1, True)


def test_a_dry_run_of_nothing_says_so(run: Any) -> None:
    out, _, status = run("-m", PAIR, "add", "--all", "--dry-run")
    assert status == 0
    assert out.startswith("machine   model:pair\nadd       everything: OK: nothing to do\n")
    document = json.loads(run("-m", PAIR, "add", "--all", "--dry-run", "--json")[0])
    assert (document["machine"], document["verb"], document["steps"]) == ("model:pair", "add", [])


@pytest.mark.parametrize("option", [["--force"], ["--deadline", "60"], ["--keep-partial"]])
def test_a_dry_run_takes_nothing_that_it_would_not_heed(run: Any, option: list[str]) -> None:
    _, err, status = run("-m", PAIR, "remove", "high", "--dry-run", *option)
    assert status == 2
    assert option[0] in err


# Usage.


@pytest.mark.parametrize(
    "words",
    [
        ("remove",),
        ("add",),
        ("remove", "high", "--all"),
        ("remove", "high", "--domain", "ddr"),
        ("remove", "--all", "--free", "1M"),
        ("add", "high", "--plan", "/dev/null"),
        ("add", "--free", "1M"),
    ],
)
def test_one_way_to_say_what(run: Any, words: tuple[str, ...]) -> None:
    assert run("-m", PAIR, *words)[2] == 2


def test_an_unknown_domain_is_named(run: Any) -> None:
    _, err, status = run("-m", PAIR, "remove", "--domain", "dd")
    assert status == 1
    assert "NO_SUCH_BANK: model:pair has no domain 'dd'; known: ddr" in err


def test_a_size_that_can_not_be_freed(run: Any) -> None:
    _, err, status = run("-m", PAIR, "remove", "--free", "1G")
    assert status == 1
    assert "only 32M can leave" in err


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | int, ...]]:
    """A transaction of somebody else is open at the first two looks, and at the first order there is another. What was
    ordered."""
    remove, orders, looks = Session.remove, list[tuple[str | int, ...]](), iter([True, True])

    def second(machine: Session, *targets: str | int, **options: Any) -> Outcome:
        orders.append(targets)
        if len(orders) == 1:
            raise Refusal(Code.BUSY_TRANSACTION, "remove low of pid 7 is not finished")
        return remove(machine, *targets, **options)

    monkeypatch.setattr(Session, "remove", second)
    monkeypatch.setattr(Session, "_is_open", lambda _: next(looks, False))
    return orders


def test_who_waits_orders_again(run: Any, busy: list[tuple[str | int, ...]]) -> None:
    out, err, status = run("-m", PAIR, "remove", "--all", "--wait", "60")
    assert (status, busy) == (0, [("high", "mate")] * 2)
    assert err == "hotbank: a transaction is open: waiting for its end, 60 s at most\n"
    assert "OK: high, mate are out of the kernel" in out


def test_who_does_not_wait_is_refused(run: Any, busy: list[tuple[str | int, ...]]) -> None:
    _, err, status = run("-m", PAIR, "remove", "--all")
    assert (status, len(busy)) == (1, 1)
    assert err == "hotbank: BUSY_TRANSACTION: remove low of pid 7 is not finished\n"


def test_a_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "_is_open", lambda _: True)
    with connect(PAIR) as machine:
        assert not machine.wait(seconds=0.01)


def test_the_last_event_says_how_it_ended_and_what_helps(run: Any) -> None:
    done = json.loads(run("-m", PAIR, "remove", "high", "mate", "--json")[0].splitlines()[-1])
    assert (done["fact"], done["remedy"]) == ("high, mate are out of the kernel, domain ddr is off", "")
    done = json.loads(run("-m", PAIR, "remove", "low", "--json")[0].splitlines()[-1])
    assert (done["event"], done["exit"]) == ("done", 1)
    assert "memory" in done["fact"]
    assert done["remedy"]


def test_a_plan_that_said_no_is_not_carried_out_and_says_why(run: Any, tmp_path: Path) -> None:
    out, _, _ = run("-m", PAIR, "plan", "--free", "900G", "--json")
    made = json.loads(out)
    assert made["steps"] == []
    (tmp_path / "p.json").write_text(out)
    _, err, status = run("-m", PAIR, "remove", "--plan", str(tmp_path / "p.json"))
    assert status == 1
    assert err.startswith(f"hotbank: {made['code']}: the plan said no; ")
    assert made["given_up"][0]["why"] in err


def test_a_block_that_left_alone_is_not_said_to_be_its_bank() -> None:
    with connect("model:arm-2009", change=True) as machine:
        block, rest = machine.remove("memory20"), machine.remove("high")
    assert list(outcome_lines(replace(block, planned=7, moved=7, seconds=0.5), acted=True)) == [
        "OK: memory20 is offline",
        "  7 pages planned, 7 moved in 0.50 s",
        "  bank of memory20: kernel partial, power on",
    ]
    said = list(outcome_lines(rest, acted=True))
    assert said[1].endswith("; 256 MiB out of the kernel")
    assert said[2] == "  high: kernel absent, power off"
