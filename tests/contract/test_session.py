# SPDX-License-Identifier: Apache-2.0
"""One object for a machine here or far away; the library's face, which is light and promises what it names."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import hotbank
from hotbank import board, cli, operate
from hotbank.errors import Code, Finding, MachineError, Refusal, Severity
from hotbank.machine import Ability
from hotbank.memory import KernelState, Power
from hotbank.model import Model, capture
from hotbank.operate import Event, MemoryJournal
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen
from hotbank.session import Session, connect
from hotbank.testing import ScriptedMachine
from patience import HANG, ended

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a machine, a journal or a served host."""
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr("hotbank.serve.local._SERVED", tmp_path / "none")
    return tmp_path


@pytest.fixture
def served(nowhere: Path) -> Iterator[str]:
    """``unix:PATH`` of a served model."""
    path = nowhere / "s"
    owner = Owner(Model.boot(board.load("arm-2009"), backend="reference", seed=1))
    with listen(path) as listener:
        thread = threading.Thread(target=owner.serve, args=(listener,))
        thread.start()
        yield f"unix:{path}"
        owner.stop()
        ended(thread)


@pytest.fixture(params=["model", "served"])
def where(request: pytest.FixtureRequest) -> str:
    return "model:arm-2009" if request.param == "model" else str(request.getfixturevalue("served"))


def wait_for_the_end(machine: Session) -> None:
    """Until the first order has ended."""
    news = machine.events(0, 10)
    while all(h.event.event != "done" for h in news.happenings):
        news = machine.events(news.next, 10)
        assert news.happenings


# One object.


def test_the_short_call_has_owner_lock_journal_and_events(where: str) -> None:
    with connect(where, change=True) as machine:
        before = [(b.number, b.state, b.zone) for b in machine.list().blocks]
        told = list[Event]()
        since = machine.events().next
        out = machine.remove("high", on_event=told.append)
        assert (out.code, out.kernel, out.power) == (Code.OK, KernelState.ABSENT, Power.OFF)
        assert [h.event for h in machine.events(since).happenings] == told
        back = machine.add("high")
        assert (back.code, back.power) == (Code.OK, Power.ON)
        assert [(b.number, b.state, b.zone) for b in machine.list().blocks] == before
        assert [(e.before.verb, e.code) for e in machine.history()] == [("remove", Code.OK), ("add", Code.OK)]


def test_looking_is_the_same_here_and_far_away(where: str, tmp_path: Path) -> None:
    with connect(where) as machine:
        assert machine.name == "model:arm-2009"
        assert machine.explain("high").code is Code.OK
        assert machine.plan("high").code is Code.OK
        assert machine.plan("high", add=True).verb == "add"
        assert machine.choose(64 << 20).plan.steps
        block = machine.list().blocks[-1].number
        assert machine.survey(block).block == block
        assert machine.reading().free > 0
        assert machine.power("ddr-high") is Power.ON
        assert machine.history() == ()
        taken = machine.capture(tmp_path / "c.gz")
    assert capture.load(tmp_path / "c.gz") == taken


CHANGES: list[Callable[[Session], object]] = [
    lambda s: s.remove("high"),
    lambda s: s.add("high"),
    lambda s: s.power("ddr-high", Power.OFF),
    lambda s: s.recover(),
    lambda s: s.pause_auto(),
    lambda s: s.resume_auto(),
    lambda s: s.interrupt(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_connected_for_reading_changes_nothing(where: str, change: Callable[[Session], object]) -> None:
    with connect(where) as machine:
        before = machine.list()
        with pytest.raises(Refusal, match="for reading") as caught:
            change(machine)
        assert caught.value.code is Code.NOT_PERMITTED
        assert machine.list() == before


def test_every_change_of_a_session_is_among_these() -> None:
    looks = {
        "again",
        "close",
        "list",
        "reading",
        "survey",
        "explain",
        "plan",
        "choose",
        "capture",
        "doctor",
        "history",
        "onlined_by",
        "auto",
        "events",
        "wait",
    }
    public = {n for n, m in vars(Session).items() if inspect.isfunction(m) and not n.startswith("_")}
    assert public - looks == {
        *("remove", "add", "power", "recover", "interrupt", "settle"),
        *("pause_auto", "resume_auto", "governing"),
    }


def test_power_stays_on_under_memory(where: str) -> None:
    with connect(where, change=True) as machine:
        with pytest.raises(Refusal) as caught:
            machine.power("ddr-high", Power.OFF)
        assert caught.value.code is Code.DOMAIN_IN_USE
        machine.remove("high")
        assert machine.power("ddr-high", Power.ON) is Power.ON
        assert machine.power("ddr-high", Power.SELF_REFRESH) is Power.SELF_REFRESH
        assert [e.before.verb for e in machine.history()] == ["remove", "power", "power"]


def test_an_exception_of_a_listener_leaves_the_session_usable(where: str) -> None:
    class Stop(BaseException):
        """As KeyboardInterrupt is: from anywhere."""

    def stop(event: Event) -> None:
        if event.event == "step":
            raise Stop

    with connect(where, change=True) as machine:
        with pytest.raises(Stop):
            machine.remove("high", on_event=stop)
        assert machine.list().banks
        wait_for_the_end(machine)
        assert machine.history()[-1].code is Code.OK


def test_ctrl_c_asks_for_a_rollback(served: str) -> None:
    def interrupt(event: Event) -> None:
        if event.event == "step":
            raise KeyboardInterrupt

    with connect(served, change=True) as machine:
        before = machine.list()
        with pytest.raises(KeyboardInterrupt):
            machine.remove("high", on_event=interrupt)
        wait_for_the_end(machine)
        assert machine.history()[-1].code is Code.INTERRUPTED
        assert [b.state for b in machine.list().blocks] == [b.state for b in before.blocks]


def test_a_ctrl_c_at_the_terminal_does_not_reach_the_worker() -> None:
    """It goes to all processes of the terminal's foreground group: to who asked, not to who is to roll back."""
    groups, others = set[int](), children()

    def look(event: Event) -> None:
        for child in children() - others:
            with suppress(ProcessLookupError):
                groups.add(os.getpgid(child))

    with connect("model:arm-2009", change=True) as machine:
        machine.remove("high", on_event=look)
    assert groups
    assert os.getpgrp() not in groups


def children() -> set[int]:
    """Processes that this one has started, in this test or in another."""
    found = set[int]()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread of somebody else that has ended
            found.update(map(int, (task / "children").read_text().split()))
    return found


# Where.


def test_nothing_said_and_nothing_up_is_this_host_for_reading_only(nowhere: Path) -> None:
    with connect() as machine:
        assert machine.name == "host"
        assert machine.history() == ()
        assert not (nowhere / "state").exists()
        with pytest.raises(Refusal, match="nobody owns host") as caught:
            machine.events()
        assert caught.value.code is Code.UNSUPPORTED
    with pytest.raises(Refusal) as caught:
        connect(change=True)
    assert caught.value.code is Code.NO_MACHINE


@pytest.mark.parametrize("change", [False, True])
@pytest.mark.parametrize("name", ["host", "model:arm-2009"])
def test_a_session_that_was_closed_answers_nothing(nowhere: Path, name: str, change: bool) -> None:
    machine = connect(name, change=change)
    machine.close()
    machine.close()
    calls: list[Callable[[], object]] = [machine.list, machine.reading, machine.history, machine.auto, machine.doctor]
    calls += [lambda: machine.remove("high"), lambda: machine.explain("high"), lambda: machine.wait(HANG)]
    for call in calls:
        with pytest.raises(MachineError, match="this session was closed"):
            call()


@pytest.mark.parametrize("name", ["nonsense", "model:", "unix:", "host:x"])
def test_what_is_no_machine(nowhere: Path, name: str) -> None:
    with pytest.raises(MachineError, match="no machine is called"):
        connect(name)


def test_a_host_to_be_changed_is_owned_by_this_process(nowhere: Path) -> None:
    with connect("host", change=True) as machine:
        assert machine.is_ours
        assert machine.history() == ()
        assert machine.events().missed == 0
    assert (nowhere / "state" / "host.journal").exists()
    with connect("host") as machine:
        assert machine.history() == ()


def test_a_capture_starts_a_model(tmp_path: Path) -> None:
    with connect("model:arm-2009") as machine:
        machine.capture(tmp_path / "c.gz")
    with connect(f"model:{tmp_path / 'c.gz'}", change=True) as again:
        assert again.remove("high").code is Code.OK


class Examined(ScriptedMachine):
    """One that has something to say of itself."""

    @property
    def can(self) -> frozenset[Ability]:
        return frozenset({Ability.DOCTOR})

    def doctor(self, board: str | None = None) -> tuple[Finding, ...]:
        return (Finding("BY_ITSELF", Severity.INFO, "", ""),)


def test_the_doctor_knows_the_journal() -> None:
    machine, journal = Examined(), MemoryJournal()

    def again(change: bool | None) -> Session:
        return Session(machine, None, change=bool(change), history=journal.entries, again=again)

    session = again(False)
    assert operate.remove(machine, "high", journal=journal).power is Power.OFF
    assert [finding.code for finding in session.doctor()] == ["BY_ITSELF"]
    machine.levels["ddr"] = Power.ON
    (first, _) = session.doctor()
    assert str(first.message).startswith("domain ddr is on, and the journal has left it off")


def test_who_has_no_files_has_no_doctor() -> None:
    with connect("model:arm-2009") as machine, pytest.raises(Refusal, match="no files"):
        machine.doctor()


# The face.


def run(code: str) -> str:
    """Standard output of a fresh Python."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


USE = "import hotbank; hotbank.connect('model:arm-2009').list()"
HEAVY = ["click", "rich", "sqlite3", "numpy", "numba", "importlib.metadata", "asyncio"]


@pytest.mark.parametrize("code", ["import hotbank", USE, "import hotbank; hotbank.connect('host').list()"])
def test_what_is_not_needed_is_not_imported(code: str) -> None:
    loaded = json.loads(run(f"import json, sys; {code}; print(json.dumps(sorted(sys.modules)))"))
    assert [name for name in HEAVY if name in loaded] == []


def test_importing_hotbank_imports_nothing_of_it() -> None:
    loaded = json.loads(run("import json, sys, hotbank; print(json.dumps(sorted(sys.modules)))"))
    assert [name for name in loaded if name.startswith("hotbank")] == ["hotbank", "hotbank.faces"]


def test_what_is_promised_is_there_and_documented() -> None:
    for name in hotbank.__all__:
        value = getattr(hotbank, name)
        assert inspect.getdoc(value), name
        assert name in dir(hotbank)
    with pytest.raises(AttributeError, match="no attribute 'melt'"):
        getattr(hotbank, "melt")  # noqa: B009  # which mypy would find
    assert sorted(hotbank.__all__) == hotbank.__all__


def test_no_command_asks_where_its_machine_is() -> None:
    """``serve`` alone, which is the far end."""
    asking = [p.name for p in (ROOT / "src/hotbank/cli").glob("*.py") if re.search(r"\bRemote\b", p.read_text())]
    assert asking == []


# What Ctrl-C means is said by the verb that acts.


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_command_line_claims_nothing_about_what_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Session, "list", interrupted)
    assert cli.run(["-m", "model:arm-2009", "remove", "--all"]) == 130
    assert capsys.readouterr().err.strip() == "hotbank: INTERRUPTED: interrupted"


@pytest.mark.parametrize(
    ("ours", "says"), [(True, "left to hotbank recover"), (False, "its owner goes on settling it")]
)
def test_recover_says_who_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ours: bool, says: str
) -> None:
    monkeypatch.setattr(Session, "recover", interrupted)
    monkeypatch.setattr(Session, "is_ours", ours)
    assert cli.run(["-m", "model:arm-2009", "recover"]) == 130
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.endswith(says)
    assert last == "hotbank: INTERRUPTED: interrupted"


def test_connecting_looks_at_nothing(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of a large host takes long; a command takes its own."""
    monkeypatch.setattr("hotbank.host.Host.snapshot", interrupted)
    connect("host").close()
    with pytest.raises(KeyboardInterrupt):
        connect("host").list()


def test_a_machine_at_hand_is_owned_as_long_as_the_session_lasts() -> None:
    model = Model.boot(board.load("arm-2009"), backend="reference", seed=1)
    with connect(model) as looking:
        assert looking.machine is model
    with connect(model, change=True) as machine:
        assert machine.machine is not model
        assert machine.remove("high").code is Code.OK
    bank = model.snapshot().bank("high")
    assert bank is not None
    assert bank.kernel is KernelState.ABSENT


@pytest.mark.usefixtures("nowhere")
def test_a_host_that_this_user_may_not_change_is_refused_before_anything_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A planted missing right: as root every file can be written."""
    asked: list[object] = []

    def no(path: object, mode: int, **_: object) -> bool:
        asked.append(path)
        return mode != os.W_OK

    monkeypatch.setattr(os, "access", no)
    with pytest.raises(Refusal) as caught:
        connect("host", change=True)
    assert caught.value.code is Code.NOT_PERMITTED
    assert "hotbank serve" in caught.value.remedy
    assert str(asked[-1]).endswith("/state")
    assert not (tmp_path / "state").exists(), "no journal, no lock"
    assert "NOT_PERMITTED" in {finding.code for finding in connect("host").doctor()}


def test_an_owner_that_hangs_up_is_not_answered_with_the_remedy_of_up(tmp_path: Path) -> None:
    """As systemd's socket does while its service fails to start."""
    path = tmp_path / "socket"
    with listen(path) as listener:

        def hang_up() -> None:
            listener.accept()[0].close()

        threading.Thread(target=hang_up).start()
        with pytest.raises(MachineError) as caught:
            connect(f"unix:{path}")
    assert "systemctl status hotbank" in caught.value.remedy
