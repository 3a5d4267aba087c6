# SPDX-License-Identifier: Apache-2.0
"""Simulations: banks leave while memory is plenty and return when it gets short; the report adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hotbank import board
from hotbank.errors import Code, Refusal
from hotbank.load import script as scripts
from hotbank.load.trace import Sample, Trace
from hotbank.memory import MIB, Range
from hotbank.model import Model
from hotbank.simulate import Policy, Report, simulate

DATA = Path(__file__).parents[1] / "data" / "traces"
BOARD = 512 * MIB


def demand(*anon: int) -> Trace:
    """A machine of 512 MiB whose processes use so many MiB, for a minute each, in samples ten seconds apart."""
    use = [mib for mib in anon for _ in range(6)]
    return Trace("t", BOARD, tuple(Sample(10.0 * n, mib * MIB, 0, 0, 0, 0, 0, 0, 0) for n, mib in enumerate(use)))


def run(trace: Trace, **policy: float) -> tuple[Model, Report]:
    model = Model.boot(board.load("arm-2009"))
    report = simulate(model, trace=trace, policy=Policy(**policy))  # type: ignore[arg-type]
    model.validate()
    assert model.check_contents() == ()
    return model, report


def test_a_bank_leaves_when_it_is_calm_and_returns_under_pressure() -> None:
    _, report = run(demand(60, 60, 200, 230, 230, 60, 60))
    (high,) = report.banks
    assert (high.name, high.tried, high.removed, high.added, dict(high.refused)) == ("high", 2, 2, 1, {})
    assert [off for _, off in report.timeline] == [0, 256 * MIB, 0, 256 * MIB]
    left, back, again = (when for when, _ in report.timeline[1:])
    assert 30 <= left < 60
    assert 120 <= back < 300
    assert 300 <= again < 380
    assert report.oom_kills == 0


def test_banks_that_share_a_domain_leave_and_return_one_by_one() -> None:
    """The first is out while its domain stays on for the second; that is no refusal, and it comes back as well."""
    whole = board.load("arm-2009")
    low, high = whole.banks
    halves = (
        replace(high, name="high-a", range=Range.sized(high.range.start, 128 * MIB)),
        replace(high, name="high-b", range=Range.sized(high.range.start + 128 * MIB, 128 * MIB)),
    )
    model = Model.boot(replace(whole, banks=(low, *halves)))
    report = simulate(model, trace=demand(60, 60, 60, 230, 230, 350, 350))
    model.validate()
    for bank in report.banks:
        assert (bank.tried, bank.removed, bank.added, dict(bank.refused)) == (1, 1, 1, {})
    assert [off for _, off in report.timeline] == [0, 256 * MIB, 0]


def test_the_report_adds_up() -> None:
    model, report = run(demand(60, 60, 230, 60, 60))
    (high,) = report.banks
    ends = [*(when for when, _ in report.timeline[1:]), report.seconds]
    area = sum(off * (end - when) for (when, off), end in zip(report.timeline, ends, strict=True))
    document = json.loads(json.dumps(report.document()))
    assert document["byte_seconds_off"] == pytest.approx(area)
    assert document["banks"][0]["seconds_off"] == pytest.approx(area / (256 * MIB))
    assert high.pages == model.hotplug.migration.success > 0
    assert high.busy > 0


def test_a_bank_stays_while_memory_is_used() -> None:
    _, report = run(demand(300, 300, 300))
    assert (report.banks[0].tried, report.timeline) == (0, ((0.0, 0),))


def test_a_removal_that_fails_is_counted_by_its_reason_and_left_alone_for_a_while() -> None:
    model = Model.boot(board.load("arm-2009"))
    pid = model.spawn("vmsplicer", anon_pages=100)
    model.pin(pid, 0)
    report = simulate(model, trace=demand(60, 60, 60), policy=Policy(backoff=60.0))
    assert dict(report.banks[0].refused) == {Code.PINNED: report.banks[0].tried}
    assert 2 <= report.banks[0].tried <= 3
    model.validate()


def test_a_seed_fixes_the_report() -> None:
    def once(seed: int) -> object:
        model = Model.boot(board.load("arm-2009"), seed=seed)
        return simulate(model, script=scripts.load("camera"), seed=seed, seconds=120).document()

    assert once(3) == once(3)
    assert once(3) != once(4)


def test_a_board_without_a_movable_bank_is_refused() -> None:
    still = board.loads('name="s"\narch="arm"\nblock_size="64M"\ndescribe="atags"\n[bank.a]\nstart="1G"\nsize="256M"')
    with pytest.raises(Refusal, match="no movable bank"):
        simulate(Model.boot(still), trace=demand(10))


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["arm-2009"], 2, "give --workload, --trace or both"),
        (["arm-2009", "--workload", "nowhere"], 1, "shipped workloads"),
        (["arm-2009", "--trace", "cut.csv"], 1, "hotbank: BAD_FORMAT: trace"),
        (["nowhere", "--workload", "camera"], 1, "shipped boards"),
    ],
)
def test_bad_input_on_the_command_line(arguments: list[str], status: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "cut.csv").write_text("t_s,physmem,anonpages,cached\n0,1,1,")
    done = call(*arguments, folder=tmp_path)
    assert done.returncode == status
    assert words in done.stderr
    assert done.stdout == ""


@pytest.mark.long
def test_the_command(tmp_path: Path) -> None:
    trace = str(DATA / "vm01_2018-06-05_60s.csv.gz")
    done = call("arm-2009", "--trace", trace, "--workload", "inodes", "--seconds", "3000", "--json", folder=tmp_path)
    document = json.loads(done.stdout)
    assert (done.returncode, document["schema"], document["seconds"]) == (0, 1, pytest.approx(3000, abs=60))
    assert document["workload"] == "inodes + vm01_2018-06-05_60s"
    text = call("arm-2009", "--workload", "inodes", folder=tmp_path).stdout
    assert text.splitlines()[0] == "machine   model:arm-2009, inodes, seed 0, 300 s"


def call(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hotbank", "simulate", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
