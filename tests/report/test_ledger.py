# SPDX-License-Identifier: Apache-2.0
"""What banks saved and cost, from journals and simulations; the command and its columns."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import hotbank
from hotbank import board, memspec, operate
from hotbank.cli import cli
from hotbank.energy import Dram
from hotbank.errors import BoardError, Code, FormatError, ProtocolError, Refusal
from hotbank.machine import DomainStatus, Fitted, Snapshot
from hotbank.memory import KernelState, Power
from hotbank.model import Model
from hotbank.operate import Before, Entry, MemoryJournal, Row
from hotbank.operate.journal import BankBefore, DomainBefore
from hotbank.report.ledger import of_journal, of_simulation, read_measurement
from hotbank.testing import ScriptedMachine
from hotbank.wire import decode, encode

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "boards/arm-2009.toml").read_text()
SMALL = memspec.load("micron-1gb-lpddr-x32")


def snapshot(**domain: object) -> Snapshot:
    found = Model.boot(board.loads(TEXT)).snapshot()
    return replace(found, domains=tuple(replace(d, **domain) for d in found.domains))  # type: ignore[arg-type]


def journal(boot: str) -> tuple[Entry, ...]:
    """Dark from the 10th second to the 110th; 1001 pages moved."""
    high = (BankBefore("high", KernelState.ONLINE, "ddr-high"),)
    before = Before("remove", ("high",), boot, None, high, (DomainBefore("ddr-high", Power.ON),))
    off = (Row("remove", "high", Code.OK, None, 6, 9), Row("power-off", "ddr-high", Code.OK, None, 9, 10))
    on = (Row("power-on", "ddr-high", Code.OK, None, 109, 110),)
    back = replace(before, verb="add", domains=(DomainBefore("ddr-high", Power.OFF),))
    return Entry(1, 1, before, 0, off, Code.OK, 1001, 11), Entry(2, 1, back, 105, on, Code.OK, 0, 112)


def test_a_journal_becomes_joules() -> None:
    machine = snapshot()
    (high,) = of_journal(machine, journal(machine.boot_id), 200.0, memspec.named).accounts
    assert high.seconds == {Power.ON: 100, Power.OFF: 100}
    part = memspec.load("micron-2gb-lpddr-333-x16")
    assert high.saved.joules == Dram((part,), 0.25).saved(Power.OFF) * 0.1  # 100 s, from milliwatts
    assert (high.work.pages, high.work.wakes, high.work.cpu_seconds) == (1001, 1, 3)
    assert high.cost.pages.typical == pytest.approx(1001 * 1.5e-6)
    document = of_journal(machine, journal(machine.boot_id), 200.0, memspec.named).document()
    assert document["until"] - document["since"] == 200
    assert document["banks"][0]["saved_j"]["typical"] == pytest.approx(high.saved.joules.typical, abs=1e-6)


def test_interleaved_saves_nothing_and_naive_says_it_did() -> None:
    machine = snapshot(interleaved=True)
    (high,) = of_journal(machine, journal(machine.boot_id), 200.0, memspec.named).accounts
    assert (high.saved.joules.high, high.break_even) == (0, None)
    assert high.saved.naive > 0


def test_no_part_named_is_bounded_by_all_that_it_may_be() -> None:
    any_, one = (
        of_journal(machine, journal(machine.boot_id), 200.0, memspec.named).accounts[0].saved.joules
        for machine in (snapshot(dram=Fitted()), snapshot())
    )
    assert any_.low <= one.low < one.high <= any_.high


def test_a_domain_that_stayed_on_was_not_woken() -> None:
    """The mate kept it on: who adds asks for power all the same."""
    scripted, told = ScriptedMachine(others={"mate": "ddr"}), MemoryJournal()
    operate.remove(scripted, "high", journal=told)
    operate.add(scripted, "high", journal=told)
    assert "power-on" in [row.step for row in told.entries()[-1].rows]
    assert _wakes_of_high(told) == 0


def test_each_wake_is_counted() -> None:
    scripted, told = ScriptedMachine(), MemoryJournal()
    operate.remove(scripted, "high", journal=told)
    operate.add(scripted, "high", journal=told)
    operate.remove(scripted, "high", journal=told)
    operate.add(scripted, "high", journal=told)
    assert _wakes_of_high(told) == 2


def _wakes_of_high(told: MemoryJournal) -> int:
    accounts = of_journal(ScriptedMachine().snapshot(), told.entries(), time.time(), memspec.named).accounts
    return next(account.work.wakes for account in accounts if account.bank == "high")


def test_two_banks_share_what_was_moved() -> None:
    machine, entries = snapshot(), journal("x")
    two = (*entries[0].before.banks, BankBefore("low", KernelState.ONLINE, "ddr-high"))
    shared = (replace(entries[0], before=replace(entries[0].before, banks=two)),)
    both = replace(machine, domains=(replace(machine.domains[0], banks=("low", "high")),))
    pages = [account.work.pages for account in of_journal(both, shared, 200.0, memspec.named).accounts]
    assert sorted(pages) == [500, 501]


@pytest.mark.parametrize(
    ("fitted", "domain", "share"),
    [
        (Fitted(SMALL.name), 0.125, 1.0),  # one device
        (Fitted(SMALL.name), 0.25, 1.0),  # two side by side
        (Fitted(SMALL.name), 0.03125, 0.25),  # a quarter of one: PASR
        (Fitted(SMALL.name, ranks=2, channels=2), 0.25, 0.5),
        (Fitted(SMALL.name, share=0.5), 4, 0.5),
        (Fitted("LPDDR"), 0.03125, 1.0),  # which of them is not known
    ],
)
def test_a_domain_smaller_than_its_devices_is_a_segment(fitted: Fitted, domain: float, share: float) -> None:
    assert Dram.of(fitted, memspec.named(fitted.part), domain, domain, interleaved=False).share == share


@pytest.mark.parametrize(
    "line",
    ['part = "DDR9"', 'part = "LPDDR5"', "ranks = 0", "channels = -1", "temperature = 200", "share = 0", "share = 1.5"],
)
def test_wrong_keys_of_a_domain(line: str) -> None:
    plain = "\n".join(row for row in TEXT.splitlines() if not row.startswith("part"))
    with pytest.raises(BoardError) as caught:
        board.loads(f"{plain}\n{line}\n")
    where = len(plain.splitlines()) + 1
    assert str(caught.value).startswith(f"line {where}: domain.ddr-high.{line.split()[0]}")


def test_keys_of_a_domain_reach_whoever_looks() -> None:
    more = f"{TEXT}ranks = 2\nchannels = 1\ntemperature = 85\nshare = 0.5\n"
    status: DomainStatus = Model.boot(board.loads(more)).snapshot().domains[0]
    assert status.dram == Fitted("micron-2gb-lpddr-333-x16", 2, 1, 85, 0.5)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["-m", "model:arm-2009", *arguments], standalone_mode=False)
    assert done.exception is None, done.exception
    return done.output


HIGH = {"bank": "high", "size": 256 << 20, "pages": 500, "added": 1, "dark": [[100, 600, "off"]]}
SIMULATED: dict[str, Any] = {"manifest": {"board": "arm-2009"}, "seconds": 1000.0, "policy": {"banks": [HIGH]}}


def test_a_simulation_becomes_joules(tmp_path: Path) -> None:
    file = tmp_path / "simulated.json"
    file.write_text(json.dumps(SIMULATED))
    (bank,) = json.loads(run("energy", "--simulation", str(file), "--json"))["banks"]
    assert bank["seconds"] == {"on": 500, "off": 500}
    part = memspec.load("micron-2gb-lpddr-333-x16")
    assert bank["saved_j"]["high"] == pytest.approx(Dram((part,), 0.25).saved(Power.OFF).high * 0.5)
    assert "not counted memory controller" in run("energy", "--simulation", str(file))


def test_self_refresh_in_a_simulation_is_told_from_off(tmp_path: Path) -> None:
    dark = [[100, 300, "self-refresh"], [400, 500, "off"]]
    told = SIMULATED | {"policy": {"banks": [HIGH | {"dark": dark}]}}
    (high,) = of_simulation(told, snapshot(), memspec.named).accounts
    assert high.seconds == {Power.ON: 700, Power.SELF_REFRESH: 200, Power.OFF: 100}


@pytest.mark.parametrize(
    "broken",
    [
        {},
        SIMULATED | {"policy": {"banks": [{}]}},
        SIMULATED | {"seconds": "x"},
        SIMULATED | {"policy": {"banks": [HIGH | {"dark": [[1, 2, "dim"]]}]}},
    ],
)
def test_what_is_no_simulation(broken: dict[str, object]) -> None:
    with pytest.raises(FormatError, match="simulate --json"):
        of_simulation(broken, snapshot(), memspec.named)


def _meter(name: str, low: float, mean: float, high: float, measurable: bool = True) -> dict[str, object]:
    return {"meter": name, "measurable": measurable, "saved_w": {"low": low, "mean": mean, "high": high}}


def test_what_was_measured_stands_beside_the_data_sheet(tmp_path: Path) -> None:
    """By the meter that tells most exactly; 500 s in the dark."""
    meters = [_meter("soc", 0.01, 0.03, 0.05), _meter("ddr", 0.02, 0.025, 0.03), _meter("fan", 0, 0, 0.001, False)]
    simulated, measured = tmp_path / "simulated.json", tmp_path / "measured.json"
    simulated.write_text(json.dumps(SIMULATED))
    measured.write_text(json.dumps({"schema": 1, "bank": "high", "meters": meters}))
    arguments = ("energy", "--simulation", str(simulated), "--measured", str(measured))
    (bank,) = json.loads(run(*arguments, "--json"))["banks"]
    assert bank["measured_j"] == {"meter": "ddr", "low": 10, "typical": 12.5, "high": 15}
    assert "measured    high 10 to 15 J by ddr" in run(*arguments)
    (bank,) = json.loads(run("energy", "--simulation", str(simulated), "--json"))["banks"]
    assert bank["measured_j"] is None


@pytest.mark.parametrize("meters", [[], [_meter("ddr", -1, 1, 2, False)]])
def test_no_meter_could_tell(meters: list[object]) -> None:
    assert read_measurement({"bank": "high", "meters": meters}) == ("high", None)


@pytest.mark.parametrize("broken", [{}, {"bank": "b", "meters": [{}]}, {"bank": "b", "meters": [_meter("m", 2, 1, 0)]}])
def test_what_is_no_measurement(broken: dict[str, object]) -> None:
    with pytest.raises(FormatError, match="energy measure --json"):
        read_measurement(broken)


def test_a_measurement_of_a_bank_that_is_not_there() -> None:
    machine = snapshot()
    ledger = of_journal(machine, journal(machine.boot_id), 200.0, memspec.named)
    with pytest.raises(Refusal, match="high2"):
        ledger.with_meters({"high2": None})


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_picture(kind: str, tmp_path: Path) -> None:
    file, picture = tmp_path / "simulated.json", tmp_path / f"on.{kind}"
    file.write_text(json.dumps(SIMULATED))
    run("energy", "--simulation", str(file), "--plot", str(picture))
    assert picture.read_bytes()[:4] in (b"\x89PNG", b"<?xm")


def test_a_list_with_what_was_saved() -> None:
    assert "SAVED" not in run("list")
    assert "0 to 0 J" in run("list", "-o", "BANK,SAVED")


def test_a_session_has_what_a_ledger_needs() -> None:
    with hotbank.connect("model:arm-2009", change=True) as machine:
        machine.remove("high")
        ledger = of_journal(machine.list(), machine.history(), machine.history()[-1].began + 60, memspec.named)
    assert ledger.accounts[0].seconds[Power.OFF] == pytest.approx(60, abs=30)


@pytest.mark.parametrize("odd", [{"share": -1.0}, {"share": 7.5}, {"ranks": 0}, {"channels": -1}])
def test_devices_that_there_cannot_be_are_told(odd: dict[str, Any]) -> None:
    """No board file can say so; an owner elsewhere can, and is not believed."""
    answer = encode(snapshot(dram=Fitted()))
    answer["domains"][0]["dram"].update(odd)
    with pytest.raises(ProtocolError, match="no such devices"):
        decode(Snapshot, answer)


def test_no_heading_stands_over_nothing(tmp_path: Path) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text(TEXT[: TEXT.index("[domain.")].replace('domain = "ddr-high"\n', ""))
    for words, last in (("energy", "nothing can be saved"), ("history", "none yet; 0 pages moved")):
        done = CliRunner().invoke(cli, ["-m", f"model:{bare}", words], standalone_mode=False)
        assert done.exception is None, done.exception
        assert done.output.splitlines()[-1].endswith(last)
        assert not any(line.startswith(("BANK", "N ")) for line in done.output.splitlines())
