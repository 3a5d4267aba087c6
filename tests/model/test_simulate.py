# SPDX-License-Identifier: Apache-2.0
"""Simulations: the same load without a policy, with it, and as the clairvoyant would; the report adds up and blames."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest

from hotbank import board, memspec
from hotbank.cli import run as run_command
from hotbank.errors import Code, Refusal
from hotbank.govern.banks import needed_to_return
from hotbank.govern.guard import Guard
from hotbank.govern.policy import Policy, Reserve, Wish
from hotbank.govern.replay import Park, replay
from hotbank.govern.runner import Governor
from hotbank.govern.settings import Settings
from hotbank.govern.view import View
from hotbank.load import script as scripts
from hotbank.load import trace as traces
from hotbank.load.script import Playback
from hotbank.load.trace import Sample, Trace
from hotbank.machine import Fitted, Snapshot
from hotbank.memory import MIB, Power, Range
from hotbank.model import Model
from hotbank.model.view import View as ModelView
from hotbank.simulate import BankHistory, Load, Report, leaving, simulate

DATA = Path(__file__).parents[1] / "data" / "traces"
BOARD = 512 * MIB
CALM = Settings("reserve", Reserve(headroom=0.05, patience=30.0))


def demand(*anon: int) -> Load:
    """A machine of 512 MiB whose processes use so many MiB, for a minute each, in samples ten seconds apart."""
    use = [mib for mib in anon for _ in range(6)]
    samples = (Sample(10.0 * n, mib * MIB, 0, 0, 0, 0, 0, 0, 0) for n, mib in enumerate(use))
    return Load(trace=Trace("t", BOARD, tuple(samples)))


class Booted:
    """Makes models of a board, and keeps them."""

    def __init__(self, plan: board.Board | None = None, prepare: Callable[[Model], object] = lambda _: None) -> None:
        self.plan, self.models, self._prepare = plan or board.load("arm-2009"), list[Model](), prepare

    def __call__(self) -> Model:
        self.models.append(Model.boot(self.plan, backend="reference"))
        self._prepare(self.models[-1])
        return self.models[-1]


def run(load: Load, settings: Settings = CALM, boot: Booted | None = None) -> tuple[Model, Report]:
    booted = boot or Booted()
    report = simulate(booted, load, settings)
    for model in booted.models:
        model.validate()
        assert model.check_contents() == ()
    return booted.models[-1], report


def halves(**domain: object) -> board.Board:
    """The board with its movable bank as two, in one domain."""
    whole = board.load("arm-2009")
    low, high = whole.banks
    middle, half = high.range.start + 128 * MIB, 128 * MIB
    both = (
        replace(high, name="high-a", range=Range.sized(high.range.start, half)),
        replace(high, name="high-b", range=Range.sized(middle, half)),
    )
    return replace(whole, banks=(low, *both), domains=tuple(replace(d, **domain) for d in whole.domains))  # type: ignore[arg-type]


def test_a_bank_leaves_when_it_is_calm_and_returns_under_pressure() -> None:
    _, report = run(demand(60, 60, 230, 230, 230, 60, 60))
    (high,) = report.banks
    assert (high.name, high.tried, high.removed, high.added, dict(high.refused)) == ("high", 2, 2, 1, {})
    assert [off for *_, off in report.timeline] == [256 * MIB, 0, 256 * MIB]
    left, back, again = (when for when, *_ in report.timeline)
    assert left == 0
    assert 120 <= back < 300
    assert 300 <= again < 390
    assert report.harm == report.baseline
    assert report.blame == ()


def test_banks_that_share_a_domain_leave_and_return_together() -> None:
    _, report = run(demand(60, 60, 60, 230, 230, 350, 350), boot=Booted(halves()))
    for bank in report.banks:
        assert (bank.tried, bank.removed, bank.added, dict(bank.refused)) == (1, 1, 1, {})
    assert [off for *_, off in report.timeline] == [256 * MIB, 0]


def test_self_refresh_is_told_from_off() -> None:
    fitted = Fitted(part="micron-4gb-ddr4-1866-x8")  # LPDDR in power-down takes less than in self-refresh
    _, report = run(demand(60, 60), boot=Booted(halves(states=(Power.ON, Power.SELF_REFRESH), dram=fitted)))
    for bank in report.document()["policy"]["banks"]:
        ((_, until, power),) = bank["dark"]
        assert (until, power) == (report.seconds, "self-refresh")


def test_the_report_adds_up() -> None:
    model, report = run(demand(60, 60, 230, 60, 60))
    (high,) = report.banks
    document = json.loads(json.dumps(report.document()))
    ours, (bank,) = document["policy"], document["policy"]["banks"]
    assert ours["byte_seconds_off"] == pytest.approx(bank["seconds_off"] * 256 * MIB)
    assert bank["seconds_off"] == pytest.approx(sum(ended - began for began, ended, _ in bank["dark"]))
    assert high.pages == model.hotplug.migration.success > 0
    assert high.busy > 0
    assert ours["joules_saved"]["typical"] <= document["optimum"]["joules_saved"]["typical"]
    assert ours["joules_saved"]["high"] > 0
    assert len({line["on"] + line["bytes_off"] for line in document["timeline"]}) == 1


@pytest.mark.parametrize("minutes", [(60,) * 5, (60, 230, 60, 230, 60), (300, 300), (230, 60, 350, 60, 60, 60)])
def test_nobody_saves_more_than_the_clairvoyant(minutes: tuple[int, ...]) -> None:
    for settings in (CALM, Settings()):
        result = run(demand(*minutes), settings)[1].result
        assert result.bill.total >= result.optimum.total - 1
        assert result.share is None or result.share <= 1


def test_a_bank_stays_while_memory_is_used_and_says_why() -> None:
    _, report = run(demand(300, 300, 300))
    (high,) = report.banks
    assert (high.tried, [off for *_, off in report.timeline]) == (0, [0])
    assert "MiB" in high.held
    assert report.result.share is None


def test_a_removal_that_fails_is_counted_by_its_reason_and_left_alone_for_a_while() -> None:
    pinned = Booted(prepare=lambda model: model.pin(model.spawn("vmsplicer", anon_pages=100), 0))
    _, report = run(demand(60, 60, 60), replace(CALM, guard={"ban": 60.0}), pinned)
    assert dict(report.banks[0].refused) == {Code.PINNED: report.banks[0].tried}
    assert report.banks[0].tried == 2  # after a patience of 30 s, and a minute later


def test_a_seed_fixes_the_report() -> None:
    def once(seed: int) -> object:
        return simulate(Booted(), Load(scripts.load("camera"), seed=seed), seconds=120).document()

    assert once(3) == once(3)
    assert once(3) != once(4)


def test_a_report_does_not_depend_on_what_keeps_the_frames() -> None:
    """A host with little to spare: its cache is reclaimed."""
    load = Load(trace=traces.load(DATA / "localhost_2018-07-24_5s.csv.gz", allow_gaps=True))

    def by(backend: str) -> object:
        return simulate(lambda: Model.boot(board.load("arm-2009"), backend=backend), load, seconds=300).document()

    assert by("compiled") == by("reference")


@pytest.mark.parametrize("looks", [1, 23, 60])
def test_what_is_stopped_is_what_so_many_seconds_give(looks: int) -> None:
    """The bank leaves, returns and leaves again, before and after it is stopped."""
    load, every = demand(60, 60, 230, 230, 60, 60), CALM.every
    stopped = simulate(Booted(), load, CALM, stopped=lambda at: at >= looks * every).document()
    whole = simulate(Booted(), load, CALM, seconds=looks * every).document()
    assert (stopped.pop("partial"), stopped.pop("asked")) == (True, load.seconds)
    assert (whole.pop("partial"), whole.pop("asked")) == (False, looks * every)
    assert stopped == whole


def test_what_a_transaction_does_after_the_end_is_not_of_the_report() -> None:
    """It leaves at 2 s and takes until 7, returns at 12 and takes until 14."""
    bank = BankHistory("b", 1, power=[(0.0, Power.ON), (7.0, Power.OFF), (14.0, Power.ON)])
    seconds = [(bank.seconds_off(end), bank.document(end)["dark"]) for end in (4.0, 10.0, 13.0, 20.0)]
    assert seconds == [(0, []), (3, [[7, 10, "off"]]), (6, [[7, 13, "off"]]), (7, [[7, 14, "off"]])]


@pytest.mark.parametrize(
    ("act", "nth", "presses", "told"),
    [
        ((Governor, "step"), 3, 1, "partial   interrupted after 6 of 300 s"),
        ((Governor, "step"), 3, 2, ""),
        ((Playback, "start"), 1, 1, ""),
    ],
)
def test_ctrl_c_tells_what_there_is(
    act: tuple[type, str],
    nth: int,
    presses: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While a look is over; twice; before the first look there is nothing to tell."""
    plain, calls = getattr(*act), count(1)

    def pressed(*args: object) -> object:
        done = plain(*args)
        for _ in range(presses if next(calls) == nth else 0):
            signal.raise_signal(signal.SIGINT)
        return done

    monkeypatch.setattr(*act, pressed)
    assert run_command(["simulate", "arm-2009", "--workload", "inodes"]) == 130
    shown = capsys.readouterr().out
    assert told in shown
    assert bool(shown) == bool(told)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@dataclass(frozen=True, slots=True)
class Greedy:
    """Keeps nothing."""

    def begin(self) -> None:
        """Knows nothing."""

    def decide(self, view: View, state: None) -> tuple[Wish, None]:
        """As little as the guard allows."""
        return Wish(0, "greed"), None


BLIND = Settings("greedy", Greedy(), every=60.0, guard={"foresight": 0})


def test_who_is_out_is_blamed_for_what_would_not_have_happened() -> None:
    """A policy that keeps nothing, looking once a minute: half a minute before it looks again, memory is asked for."""
    sudden = Load(trace=Trace("t", BOARD, demand(60, 60, 60, 60).trace.samples[:22]))  # type: ignore[union-attr]
    assert sudden.trace is not None
    burst = tuple(replace(s, anon=360 * MIB) if s.seconds >= 90 else s for s in sudden.trace.samples)
    _, report = run(Load(trace=replace(sudden.trace, samples=burst)), BLIND)
    assert (report.baseline.oom_kills, report.baseline.refused_acts) == (0, 0)
    assert report.harm.oom_kills + report.harm.refused_acts > 0
    assert {blame.banks for blame in report.blame} == {("high",)}
    assert report.blame[0].at == 120
    assert report.result.short > 0


def test_who_was_out_is_blamed_for_what_comes_of_it_later() -> None:
    """Processes that grow while the bank is out fill a kernel zone. It is back in time, and too late for slab."""
    use = [60] * 12 + [*range(60, 240, 5)] + [240] * 3
    sizes = [(mib * MIB, 0) for mib in use] + [(240 * MIB, 40 * MIB)] * 3
    samples = (Sample(10.0 * n, anon, 0, 0, 0, slab, 0, 0, 0) for n, (anon, slab) in enumerate(sizes))
    _, report = run(Load(trace=Trace("t", BOARD, tuple(samples))))
    assert report.baseline.oom_kills == report.result.short == 0
    assert [(blame.banks, blame.oom_kills) for blame in report.blame] == [(("high",), 1)]
    assert report.blame[0].at == 10.0 * len(use)
    assert report.banks[0].added == 1


def test_room_is_kept_for_what_the_kernel_took_lately_when_processes_fill_its_zones() -> None:
    """Teeth of which a tenth is slab: the bank is back while there is room for it. Who forgets what it took has a
    process killed."""
    use = [60] * 3 + [*range(60, 400, 22)] + [60] * 9 + [*range(60, 400, 33)]
    sizes = [(mib * MIB * 9 // 10, mib * MIB // 10) for mib in use]
    samples = (Sample(60.0 * n, anon, 0, 0, 0, slab, 0, 0, 0) for n, (anon, slab) in enumerate(sizes))
    load = Load(trace=Trace("t", BOARD, tuple(samples)))
    (_, kept), (_, forgotten) = run(load, Settings()), run(load, Settings(guard={"memory": 0.0}))
    assert (kept.harm.oom_kills, kept.blame) == (0, ())
    assert kept.result.share is not None
    assert kept.result.share > 0.8
    assert forgotten.baseline.oom_kills == 0 < forgotten.harm.oom_kills


def test_what_goes_wrong_anyway_is_nobodys_fault() -> None:
    _, report = run(demand(60, 60, 600, 600))
    assert report.baseline.oom_kills + report.baseline.refused_acts > 0
    assert report.harm == report.baseline
    assert report.blame == ()


def test_banks_that_begin_absent_are_brought_in_first() -> None:
    plan = board.load("virt-arm64")
    _, report = run(Load(scripts.load("inodes")), Settings(every=10.0), Booted(plan))
    assert report.brought_in == ("high",)
    assert report.timeline[0][3] == 0
    (high,) = report.banks
    assert 0 < high.seconds_off(report.seconds) < report.seconds


def test_a_board_that_can_save_nothing_is_refused() -> None:
    text = 'name="s"\narch="arm"\nblock_size="64M"\ndescribe="atags"\n[bank.a]\nstart="1G"\nsize="256M"'
    for plan in (board.loads(text), halves(interleaved=True)):
        with pytest.raises(Refusal, match="could save anything"):
            simulate(Booted(plan), demand(10))


def test_a_machine_is_listed_only_where_memory_came_or_went(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a look costs does not grow with the machine."""
    listed, plain = list[float](), ModelView.snapshot

    def counted(self: ModelView) -> Snapshot:
        listed.append(0)
        return plain(self)

    monkeypatch.setattr(ModelView, "snapshot", counted)
    _, quiet = run(demand(300, 300))
    few = len(listed)
    _, long = run(demand(*[300] * 8))
    assert len(listed) == 2 * few
    assert long.result.samples == pytest.approx(4 * quiet.result.samples, rel=0.1)


@dataclass
class Recorded:
    """A policy, and what it was shown."""

    policy: Policy
    views: list[tuple[float, int]] = field(default_factory=list)

    def begin(self) -> object:
        """As the policy."""
        return self.policy.begin()

    def decide(self, view: View, state: object) -> tuple[Wish, object]:
        """As the policy."""
        self.views.append((view.at, view.used))
        return self.policy.decide(view, state)


@pytest.mark.long
@pytest.mark.parametrize("name", ["brolley-t530_2018-04-16_10s", "vm01_2018-06-05_60s"])
def test_two_grains_take_the_same_decisions(name: str) -> None:
    """Page by page, and as a demand against banks: the same looks lead to the same switches.

    By a policy that waits longer than any break-even: only with pages is it known how many of a bank are in use.
    """
    policy = Reserve(headroom=0.05, patience=300.0)
    load, recorded = Load(trace=traces.load(DATA / f"{name}.csv.gz")), Recorded(policy)
    report = simulate(Booted(), load, Settings("recorded", recorded, every=10.0), seconds=3000)
    found = tuple(replace(bunch.group, dark=False) for bunch in leaving(report.snapshot, memspec.named))
    _, _, on, off = report.timeline[0]
    park = Park(on + off - sum(group.size for group in found), found)
    reserve = needed_to_return(report.snapshot, found, 0)
    again = replay(recorded.views, park, policy, Guard(reserve=reserve))
    assert again.switches == report.result.switches
    assert again.bill.on == pytest.approx(report.result.bill.on, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["arm-2009"], 2, "give --workload, --trace or both"),
        (["arm-2009", "--workload", "nowhere"], 1, "shipped workloads"),
        (["arm-2009", "--trace", "cut.csv"], 1, "hotbank: BAD_FORMAT: cut.csv: trace"),
        (["nowhere", "--workload", "camera"], 1, "shipped boards"),
        (["arm-2009", "--workload", "inodes", "--policy", "none"], 1, "known: balance, reserve"),
        (["arm-2009", "--workload", "inodes", "--set", "guess=much"], 1, "must be key=number"),
        (["arm-2009", "--workload", "inodes", "--set", "gues=1"], 1, "known: "),
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
    assert (done.returncode, document["schema"], document["seconds"]) == (0, 2, 3000)
    assert document["manifest"]["load"] == "inodes + vm01_2018-06-05_60s"
    assert set(document["manifest"]["hashes"]) == {"board", "trace", "workload"}
    text = call("arm-2009", "--workload", "inodes", "--plot", "seen.svg", folder=tmp_path).stdout
    assert text.splitlines()[0] == "machine   model:arm-2009, inodes, seed 0, 300 s, policy balance"
    assert (tmp_path / "seen.svg").read_bytes().startswith(b"<?xml")


def call(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hotbank", "simulate", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
