# SPDX-License-Identifier: Apache-2.0
"""``hotbank serve`` and who may do what: users and groups, ssh, the journal on disk, the end of an owner, idling."""

from __future__ import annotations

import errno
import grp
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from contract.test_serve import FOREVER, Running, sleeps, went_to_sleep
from hotbank import board, operate, serve, ssh
from hotbank.errors import CancelPending, Code, HotbankError, KernelError, MachineError, Refusal
from hotbank.host import Host
from hotbank.machine import Snapshot, Survey
from hotbank.memory import KernelState, Online, Power
from hotbank.model import Model, WallClock
from hotbank.operate import Before, Event, Limits, MemoryJournal
from hotbank.operate.journal import sign_of_life
from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.remote import Hello, Remote
from hotbank.report.states import Now, stretches
from hotbank.serve import local
from hotbank.serve.client import RemoteOwner
from hotbank.serve.job import Job
from hotbank.serve.owner import Owner
from hotbank.serve.protocol import Order
from hotbank.serve.state import listen, sweep_sockets
from hotbank.testing import ScriptedMachine
from hotbank.wire import encode
from kernel.kernel_kit import children_of
from patience import HANG, ended, promised, until

BIN = Path(sys.executable).parent
STRANGER, MEMBERS = 65533, 65532  # a user and a group that nothing here belongs to
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
needs_blocks = pytest.mark.skipif(
    not os.path.isdir("/sys/devices/system/memory"), reason="this kernel shows no memory blocks"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def model() -> Model:
    return Model.boot(board.load("arm-2009"), backend="reference", clock=WallClock())


def hotbank(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment}
    argv = [sys.executable, "-m", "hotbank", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env=env, check=False)


# Users and groups.


def as_stranger(groups: list[int], act: Callable[[], object]) -> str:
    """What ``act`` answers, or the error that it raises, in a process of another user in these groups."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "died"
        try:
            os.setgroups(groups)
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            said = str(act())
        except HotbankError as e:
            said = str(e)
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer


@needs_root
def test_a_group_may_read_and_nobody_else_may_change(folder: Path, model: Model) -> None:
    path, before = folder / "socket", model.snapshot()
    with listen(path, MEMBERS) as listener:
        owner = Owner(model, readers=MEMBERS)
        thread = threading.Thread(target=owner.serve, args=(listener,))
        thread.start()

        def client() -> Remote:
            return Remote.unix(path, timeout=HANG)

        member = [MEMBERS]
        assert "Permission denied" in as_stranger([], client), "not even a connection"
        assert as_stranger(member, lambda: client().snapshot().machine) == "model:arm-2009"
        assert as_stranger(member, lambda: client().survey(20).block) == "20"
        assert as_stranger(member, lambda: serve.history(client())) == "()"
        owner_of_it = client()
        owner_of_it.set_power("ddr-high", Power.ON)
        heard = as_stranger(member, lambda: [h.order for h in RemoteOwner(client()).events(0, HANG).happenings])
        assert heard == "['set_power ddr-high on']"
        owner_of_it.close()
        changes: list[Callable[[], object]] = [
            lambda: serve.remove(client(), "high"),
            lambda: client().set_power("ddr-high", Power.OFF),
            lambda: client().offline(20, 1e9),
            lambda: RemoteOwner(client()).stop(),
        ]
        for change in changes:
            assert "only root and the machine's owner may change it" in as_stranger(member, change)
        path.chmod(0o666)
        assert "belongs to another user" in as_stranger([], client)
        owner.stop()
        ended(thread)
    assert model.snapshot() == before


def test_a_group_that_does_not_exist() -> None:
    with pytest.raises(KeyError):
        grp.getgrnam("no-such-group")
    done = hotbank("-m", "model:arm-2009", "serve", "--group", "no-such-group")
    assert done.returncode == 1
    assert "there is no group no-such-group; groupadd" in done.stderr


# One process that serves.


@pytest.fixture
def serving(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """``hotbank serve`` of a model, at ``socket`` in the folder."""
    argv = [sys.executable, "-m", "hotbank", "-m", "model:arm-2009", "serve", "--socket", str(folder / "socket")]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "model:arm-2009 is served at" in process.stderr.readline()
    yield process
    process.terminate()
    process.communicate()


def test_serve_serves_and_ends(serving: subprocess.Popen[str], folder: Path) -> None:
    at = f"unix:{folder}/socket"
    assert hotbank("-m", at, "remove", "high").returncode == 0
    assert json.loads(hotbank("-m", at, "history", "--json").stdout)["transactions"][0]["code"] == "OK"
    again = hotbank("-m", "model:arm-2009", "serve", "--socket", str(folder / "socket"))
    assert again.returncode == 1
    assert f"pid {serving.pid} answers at" in again.stderr
    serving.terminate()
    assert serving.wait() == 0
    assert not (folder / "socket").exists()
    refused = hotbank("-m", at, "list")
    assert refused.returncode == 1
    assert "no machine answers" in refused.stderr


def test_a_machine_that_has_an_owner_is_not_served_twice() -> None:
    done = hotbank("-m", "unix:/nowhere", "serve")
    assert (done.returncode, "has an owner already" in done.stderr) == (1, True)


@needs_blocks
def test_an_idle_owner_of_this_host_sleeps_and_is_small(folder: Path) -> None:
    """Only read: nothing here changes a block."""
    argv = [sys.executable, "-m", "hotbank", "serve", "--socket", str(folder / "socket")]
    env = {**os.environ, "STATE_DIRECTORY": str(folder)}
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stderr is not None
        assert "host is served at" in process.stderr.readline()
        with Remote.unix(folder / "socket") as client:
            assert client.snapshot().machine == "host"
            assert sleeps(process.pid)
            used = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            assert used is not None
            assert int(used[1]) <= 24 << 10
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def governs(folder: Path, settings: str) -> Iterator[subprocess.Popen[str]]:
    """The owner of a model that governs it by these settings, once it serves at ``folder/socket``."""
    (folder / "auto.toml").write_text(settings)
    words = ["--socket", str(folder / "socket"), "--auto", str(folder / "auto.toml")]
    argv = [sys.executable, "-m", "hotbank", "-m", "model:arm-2009", "serve", *words]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "is served at" in process.stderr.readline()
        yield process
    finally:
        process.terminate()
        process.communicate()


def test_who_governs_is_small_together_with_its_worker(folder: Path) -> None:
    """While a bank leaves, with the model that is governed; pages of files count once, since both map the same ones."""
    seen = dict[str, int]()
    settings = 'policy = "balance"\nevery = 0.05\n[settings]\ntrust = 0.01\n'
    with governs(folder, settings) as process, Remote.unix(folder / "socket") as client:
        until(lambda: noted(process.pid, seen) and client.power("ddr-high") is Power.OFF)
        noted(process.pid, seen)
    assert seen["worker"] > 4 << 10, "it was seen at work"
    assert seen["owner"] + seen["worker"] <= 48 << 10


def test_who_governs_wakes_up_once_a_look_in_all_its_threads(folder: Path) -> None:
    """Some seconds are tried: at first it may have a bank to take, and who is asked wakes up besides."""
    every = 0.25
    with governs(folder, f'policy = "balance"\nevery = {every}\n') as process:
        until(lambda: wakes(process.pid, 2.0) <= 2.0 / every + 1, "a look without a thread that wakes up for it", 0.0)


def test_an_owner_wakes_up_once_a_look_of_who_governs_from_outside(
    serving: subprocess.Popen[str], folder: Path
) -> None:
    every = 0.25
    argv = [sys.executable, "-m", "hotbank", "-m", f"unix:{folder}/socket", "auto", "run", "--set", f"every={every}"]
    governor = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        with Remote.unix(folder / "socket") as client:
            until(lambda: client.power("ddr-high") is Power.OFF, "a dark bank")
        until(lambda: wakes(serving.pid, 2.0) <= 2.0 / every + 1, "a look without a thread that wakes up for it", 0.0)
        assert governor.poll() is None
    finally:
        governor.send_signal(signal.SIGINT)
        governor.communicate()


def wakes(pid: int, seconds: float) -> float:
    """How often its threads and those of its children woke up in so many seconds, as long as these take here."""
    began, before = time.monotonic(), asleep(pid)
    time.sleep(seconds)
    return (asleep(pid) - before) * seconds / (time.monotonic() - began)


def asleep(pid: int) -> int:
    return sum(map(went_to_sleep, [pid, *children_of(pid)]))


def noted(owner: int, seen: dict[str, int]) -> bool:
    """Note the most that an owner has in KiB, and what its worker has of its own."""
    mine, workers = memory(owner), [memory(child) for child in children_of(owner)]
    files = max([mine["RssFile"], *(worker.get("RssFile", 0) for worker in workers)])
    seen["owner"] = max(seen.get("owner", 0), mine["RssAnon"] + files)
    seen["worker"] = max([seen.get("worker", 0), *(worker.get("RssAnon", 0) for worker in workers)])
    return True


def memory(pid: int) -> dict[str, int]:
    """KiB by the names of proc_pid_status(5); nothing once the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return {name: int(size) for name, size in re.findall(r"(Rss\w+|VmLck):\s+(\d+) kB", text)}


# The owner's end, and the next one's beginning.


def test_an_owner_that_is_told_to_end_rolls_back_first(folder: Path, model: Model) -> None:
    pid = model.spawn("pinner", anon_pages=64)
    block = next(b.number for b in model.snapshot().blocks if model.place(pid, b.number))
    model.pin(pid, model.place(pid, block)[0])
    before = _places(model.snapshot())
    with listen(folder / "socket") as listener:
        owner = Owner(model)
        thread = threading.Thread(target=owner.serve, args=(listener,))
        thread.start()
        client = Remote.unix(folder / "socket")
        running = Running(client, FOREVER)
        assert running.offlining.wait(HANG)
        owner.stop()
        ended(thread)
        owner.finish(HANG)
    assert running.end().code is Code.INTERRUPTED
    assert _places(model.snapshot()) == before
    client.close()


def test_an_idle_owner_that_is_told_to_end_waits_for_nothing(folder: Path, model: Model) -> None:
    with listen(folder / "socket") as listener:
        owner = Owner(model)
        thread = threading.Thread(target=owner.serve, args=(listener,))
        thread.start()
        with Remote.unix(folder / "socket") as client:
            RemoteOwner(client).stop()
            with pytest.raises(MachineError, match="about to end"):
                serve.remove(client, "high")
            with pytest.raises(MachineError, match="about to end"):
                client.set_power("ddr-high", Power.OFF)
        ended(thread)
        owner.finish(10 * HANG)  # longer than the test may take


def test_an_owner_on_pipes_ends_when_it_is_told_to() -> None:
    command = [sys.executable, "-m", "hotbank", "-m", "model:arm-2009", "serve", "--stdio"]
    stop = json.dumps({"id": 1, "call": "owner.stop", "args": {}}) + "\n"
    ended = subprocess.run(command, input=stop, capture_output=True, text=True, check=False)
    assert (ended.returncode, json.loads(ended.stdout.splitlines()[-1])) == (0, {"id": 1, "result": None})


def test_an_owner_that_is_told_to_end_before_it_serves(folder: Path, model: Model) -> None:
    with listen(folder / "socket") as listener:
        owner = Owner(model)
        owner.stop()
        thread = threading.Thread(target=owner.serve, args=(listener,), daemon=True)
        thread.start()
        ended(thread)


def _places(snapshot: Snapshot) -> list[object]:
    return [(b.number, b.state, b.valid_zones) for b in snapshot.blocks]


def test_a_new_owner_settles_what_an_earlier_boot_left_open(tmp_path: Path, model: Model) -> None:
    dead = SqliteJournal(tmp_path / "journal")
    dead.begin(Before("remove", ("high",), "another boot", "high"))
    dead.close_file()
    journal = SqliteJournal(tmp_path / "journal")
    owner = Owner(model, journal=journal)
    owner.settle()
    owner.wait()
    assert [(e.code, e.is_sign) for e in journal.entries()] == [(Code.SUPERSEDED, False), (Code.OK, True)]
    journal.close_file()


class Shared(MemoryJournal):
    """A journal that a process which can still write holds, as long as ``held``."""

    held = True

    def claim(self) -> bool:
        return not self.held


def test_what_was_left_is_settled_when_its_last_writer_is_gone_and_nobody_asks(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotbank.serve.owner._SETTLING", Limits(total=0.0))
    journal = Shared()
    journal.begin(Before("remove", ("high",), "another boot", "high"))
    owner = Owner(model, journal=journal)
    owner.settle()
    owner.wait()
    with local.attached(owner) as client:
        with pytest.raises(Refusal, match="is not finished"):
            serve.remove(client, "high")
        journal.held = False
        until(lambda: journal.unfinished() is None, "its settling")
        owner.wait()
        assert [(e.code, e.is_sign) for e in journal.entries()] == [(Code.SUPERSEDED, False), (Code.OK, True)]
        assert serve.remove(client, "high").exit == 0


def test_nobody_changes_what_a_process_of_a_dead_owner_may_still_change(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a switch's program that outlives who ran it, by a call that no transaction was written down for."""
    monkeypatch.setattr("hotbank.operate.sqlite_journal._PATIENCE", 0.1)
    dead = SqliteJournal(tmp_path / "journal")
    assert dead._lock_file()  # as ``alone``, which it does not live to leave
    left = subprocess.Popen(["sleep", str(HANG)], pass_fds=[dead.writers_keep])
    dead.close_file()
    journal = SqliteJournal(tmp_path / "journal")
    with local.attached(Owner(model, journal=journal)) as client:
        with pytest.raises(Refusal, match="another process may still change the machine"):
            client.set_auto_online("offline")
        with pytest.raises(Refusal, match="another process may still change the machine"):
            serve.remove(client, "high")
        left.kill()
        left.wait()
        client.set_auto_online("offline")
        assert serve.remove(client, "high").exit == 0


@pytest.mark.parametrize("what", ["socket.socketpair", "subprocess.Popen"])
def test_an_order_that_no_worker_can_be_had_for_is_refused(
    model: Model, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with local.attached(Owner(model)) as client:
        with monkeypatch.context() as full:
            full.setattr(f"hotbank.serve.{'workers' if what.startswith('socket') else 'children'}.{what}", none_left)
            with pytest.raises(MachineError, match="no worker could be started: Too many open files"):
                serve.remove(client, "high")
        assert serve.remove(client, "high").exit == 0


class Holding:
    """A machine that does not let go of an offline that was given up, as long as ``held``."""

    held = True

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def offline(self, block: int, deadline: float, **_: Any) -> None:
        raise CancelPending(f"offline of memory{block}")

    def snapshot(self) -> Snapshot:
        now = self._model.snapshot()
        return replace(now, pending=8) if self.held else now


def test_nobody_else_changes_what_goes_on_after_a_primitive_was_given_up(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not while its owner lives, whatever that does besides, nor, should it end, while its writer does."""
    monkeypatch.setattr("hotbank.operate.sqlite_journal._PATIENCE", 0.1)
    monkeypatch.setattr("hotbank.serve.owner._LOOK_EVERY", 0.01)
    machine, journal, other = Holding(model), SqliteJournal(tmp_path / "journal"), SqliteJournal(tmp_path / "journal")
    writer = subprocess.Popen(["sleep", str(HANG)], pass_fds=[journal.writers_keep])
    owner = Owner(machine, journal=journal)
    with local.attached(owner) as client:
        for _ in range(2):
            with pytest.raises(CancelPending):
                client.offline(8, client.clock.now() + 1)
            client.set_auto_online("offline")
            sign_of_life(journal, "up", model.snapshot())
            assert not may_change(other)
            machine.held = False
            until(lambda: may_change(other), "its end")
            owner.wait()
            machine.held = True
        with pytest.raises(CancelPending):
            client.offline(8, client.clock.now() + 1)
    journal.close_file()
    assert not may_change(other)
    writer.kill()
    writer.wait()
    assert may_change(other)
    other.close_file()


def may_change(journal: SqliteJournal) -> bool:
    """Whether its owner could begin a change."""
    with suppress(Refusal), journal.alone():
        return True
    return False


class Full(MemoryJournal):
    """Of a disk that is full when an entry is to be closed."""

    full = False

    def close(self, entry: int, code: Code, moved: int | None) -> None:
        if self.full:
            raise MachineError("the disk is full", code=Code.SYSTEM_ERROR)
        super().close(entry, code, moved)


def half_way(model: Model) -> Full:
    """An addition that is open with its bank in, so that settling it takes offlines."""
    journal = Full()
    assert operate.remove(model, ("high",), journal=journal).exit == 0
    journal.full = True
    with pytest.raises(MachineError):
        operate.add(model, ("high",), journal=journal)
    journal.full = False
    return journal


def test_an_owner_that_ends_does_not_cut_short_what_is_settled(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, begun, go = half_way(model), threading.Event(), threading.Event()

    def offline(block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        begun.set()
        assert go.wait(HANG)
        Model.offline(model, block, deadline, spare=spare, fence=fence)

    monkeypatch.setattr(model, "offline", offline)
    owner = Owner(model, journal=journal)
    owner.settle()
    assert begun.wait(HANG)
    with local.attached(owner) as client:
        client.cancel()
        owner.stop()
        owner.finish(0.0)
        go.set()
        owner.finish(HANG)
    assert [(bank.name, bank.kernel) for bank in model.snapshot().banks][1] == ("high", KernelState.ABSENT)
    assert model.power("ddr-high") is Power.OFF


def test_nothing_cuts_short_the_way_back_of_an_order(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """An addition fails at its last block, and is interrupted while it is rolled back."""
    assert operate.remove(model, ("high",)).exit == 0
    owner = Owner(model)

    def online(block: int, how: Online) -> None:
        if block == 23:
            raise KernelError(errno.ENOMEM, f"online memory{block}")
        Model.online(model, block, how)

    with local.attached(owner) as client, local.attached(owner) as other:

        def offline(block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
            other.cancel()
            until(lambda: owner._job is not None and owner._job._cancelled, "the order to stop")
            Model.offline(model, block, deadline, spare=spare, fence=fence)

        monkeypatch.setattr(model, "online", online)
        monkeypatch.setattr(model, "offline", offline)
        outcome = serve.add(client, "high")
    assert (outcome.exit, outcome.unrestored, outcome.kernel, outcome.power) == (1, (), KernelState.ABSENT, Power.OFF)


def test_a_settling_that_nobody_ordered_is_told_by_its_name(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotbank.serve.owner._SETTLING", Limits(total=0.0))
    journal, begun, go = Shared(), threading.Event(), threading.Event()
    journal.begin(Before("remove", ("high",), "another boot", "high"))
    owner = Owner(model, journal=journal)
    owner.settle()
    owner.wait()

    class Waiting(Job):
        def run(self, hello: Hello) -> None:
            begun.set()
            assert go.wait(HANG)
            super().run(hello)

    monkeypatch.setattr("hotbank.serve.owner.Job", Waiting)
    journal.held = False
    assert begun.wait(HANG)
    with local.attached(owner) as client, pytest.raises(Refusal, match=r"^recover of pid"):
        serve.remove(client, "high")
    go.set()
    until(lambda: journal.unfinished() is None, "its settling")


def test_an_owner_that_is_to_settle_while_an_order_runs_goes_on(model: Model) -> None:
    """A governor in its process may be faster."""
    began, go = threading.Event(), threading.Event()

    def offline(block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        began.set()
        assert go.wait(HANG)
        Model.offline(model, block, deadline, spare=spare, fence=fence)

    model.offline = offline  # type: ignore[method-assign]
    owner = Owner(model)
    with local.attached(owner) as client:
        running = Running(client, FOREVER)
        assert began.wait(HANG)
        owner.settle()
        go.set()
        assert running.end().exit == 0


class Hours:
    """A clock that nobody waits for: an hour later at each look."""

    def __init__(self) -> None:
        self.at = 1.8e9

    def __call__(self) -> float:
        self.at += 3600.0
        return self.at


def test_an_owner_vouches_for_the_time_that_it_is_there() -> None:
    """From its start on, before anything leaves, and until its end; not for the time until the next boot."""
    journal, first, second = MemoryJournal(now=Hours()), ScriptedMachine(), ScriptedMachine(boot_id="boot-2")
    for machine in (first, second):
        owner = Owner(machine, journal=journal)
        owner.settle()
        owner.finish(HANG)
    entries = journal.entries()
    assert [entry.before.verb for entry in entries] == ["start", "stop"] * 2
    assert not any(entry.rows or entry.code is not Code.OK for entry in entries)
    states = stretches(entries, Now(journal.now(), "boot-2", {"ddr": Power.ON}))["ddr"]
    assert [(s.power, s.seconds / 3600) for s in states] == [(Power.ON, 3), (Power.UNKNOWN, 1), (Power.ON, 4)]


class InTurn(MemoryJournal):
    """A journal that notes whether its owner's turn to change the machine was taken at each beginning."""

    owner: Owner
    taken: tuple[bool, ...] = ()

    def begin(self, before: Before) -> int:
        self.taken += (self.owner._changing.locked(),)
        return MemoryJournal.begin(self, before)


def test_an_owner_vouches_in_its_turn(model: Model) -> None:
    """Else an order that comes at the same moment would find the sign of life open, and be refused."""
    journal = InTurn()
    owner = journal.owner = Owner(model, journal=journal)
    owner.settle()
    with local.attached(owner) as client:
        assert serve.remove(client, "high").exit == 0
    owner.finish(HANG)
    assert [entry.before.verb for entry in journal.entries()] == ["start", "remove", "stop"]
    assert journal.taken == (True, True, True)


def test_a_journal_that_can_not_be_written_keeps_no_owner_from_serving(model: Model) -> None:
    class Full(MemoryJournal):
        def begin(self, before: Before) -> int:
            raise MachineError("disk full")

    Owner(model, journal=Full()).settle()


@pytest.mark.long
def test_a_model_starts_anew_and_remembers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner of `hotbank up` is killed in the middle; the next one closes what it left and goes on."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    record = serve.serve_in_background(serve.ModelSpec("arm-2009", pages=100_000))
    running = Running(serve.connect(record), FOREVER)
    assert running.offlining.wait(HANG)
    os.kill(record.pid, signal.SIGKILL)
    ended(running._thread)
    running.client.close()
    again = serve.serve_in_background(serve.ModelSpec("arm-2009"))
    assert not Path(record.socket).exists()
    with serve.connect(again) as client:
        assert serve.remove(client, "high").exit == 0  # what the dead one left is settled before anybody is heard
        assert serve.recover(client) is None
        transactions = [e.code for e in serve.history(client) if not e.is_sign]
        assert transactions == [Code.SUPERSEDED, Code.OK]
    serve.down(again)


def test_only_sockets_that_nobody_listens_on_are_swept(folder: Path) -> None:
    (folder / "current").touch()
    with listen(folder / "1.sock"):
        listen(folder / "2.sock").close()
        sweep_sockets(folder)
        assert sorted(os.listdir(folder)) == ["1.sock", "current"]
    sweep_sockets(folder)
    assert os.listdir(folder) == ["current"]


@needs_blocks
def test_this_host_keeps_its_journal_where_it_is_told(folder: Path) -> None:
    """Only read: nothing was done to this host, so there is nothing to settle."""
    done = hotbank("-m", "host", "history", STATE_DIRECTORY=str(folder))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0 transactions: none yet; 0 pages moved")
    done = hotbank("-m", "host", "recover", STATE_DIRECTORY=str(folder))
    assert (done.returncode, done.stdout) == (0, "machine host\nnothing to settle\n")
    assert (folder / "host.journal").stat().st_mode & 0o777 == 0o600


def test_progress_is_told_within_a_block(folder: Path) -> None:
    from hotbank.model.clock import Costs

    model = Model.boot(board.load("arm-2009"), backend="reference", clock=WallClock(), costs=Costs(migrate_page=300e-6))
    model.spawn("big", anon_pages=6000)
    events: list[Event] = []
    with local.attached(Owner(model)) as client:
        assert serve.remove(client, "high", on_event=events.append).exit == 0
    assert [e.seq for e in events] == list(range(len(events)))
    moved = [e.moved or 0 for e in events]
    assert moved == sorted(moved)
    within = [e for e, after in pairwise(events) if e.event == after.event == "progress"]
    assert within
    assert 0 < (within[0].moved or 0) < 6000
    assert events[-1].moved == 6000


@pytest.mark.parametrize("counts", [False, True])
def test_no_look_is_under_way_at_the_deadline(folder: Path, counts: bool) -> None:
    """Who looks keeps a slow machine from answering: a survey that takes 0.4 s must not put off the end of 1.5 s.

    A machine that counts what has moved is not looked at.
    """
    model = Model.boot(board.load("arm-2009"), backend="reference", clock=WallClock())
    pid = model.spawn("pinner", anon_pages=64)
    block = next(b.number for b in model.snapshot().blocks if model.place(pid, b.number))
    model.pin(pid, model.place(pid, block)[0])
    looks: list[tuple[float, float]] = []

    def slow(block: int) -> Survey:
        began = time.monotonic()
        time.sleep(0.4)
        looks.append((began, time.monotonic()))
        return Model.survey(model, block)

    model.survey = slow  # type: ignore[method-assign]
    if not counts:
        model.reading = lambda: replace(Model.reading(model), migrated=None)  # type: ignore[method-assign]
    blocks = model.board.banks[-1].range.size // model.snapshot().block_size
    with local.attached(Owner(model)) as client:
        began = time.monotonic()
        deadline = 0.4 * blocks + promised(3.5)
        assert serve.remove(client, "high", limits=Limits(deadline, deadline), force=True).code is Code.DEADLINE
    within = [(start - began, end - began) for start, end in looks[blocks:]]
    assert bool(within) is not counts
    assert all(end < deadline for _, end in within), within


# Over ssh.


@pytest.fixture
def fake_ssh(folder: Path) -> str:
    """A PATH whose ``ssh`` runs the command here, as a shell at the far end would; it notes what it was asked."""
    script = f'#!/bin/sh\necho "$@" >> {folder}/asked\n[ "$3" = gone ] && exit 255\nexec sh -c "$4"\n'
    (folder / "ssh").write_text(script)
    (folder / "ssh").chmod(0o755)
    return f"{folder}:{BIN}:{os.environ['PATH']}"


def test_a_machine_over_ssh(folder: Path, fake_ssh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", fake_ssh)
    monkeypatch.setenv("HOTBANK_MACHINE", "model:arm-2009")  # what the far end serves
    with ssh.connect("board", patience=HANG) as far:
        assert far.hello.machine == "model:arm-2009"
        assert far.hello.pid != os.getpid()
        events: list[Event] = []
        assert serve.remove(far, "high", on_event=events.append).exit == 0
        assert far.power("ddr-high") is Power.OFF
        assert events[-1].event == "done"
        assert serve.add(far, "high").exit == 0
        pid = far.hello.pid
    until(lambda: not Path(f"/proc/{pid}").exists(), "the far end's end")
    assert (folder / "asked").read_text() == "-T -- board hotbank serve --stdio\n"
    with pytest.raises(MachineError, match="status 255"):
        ssh.connect("gone")


@pytest.mark.long
def test_ssh_on_the_command_line(folder: Path, fake_ssh: str) -> None:
    environment = {"PATH": fake_ssh, "HOTBANK_MACHINE": "model:arm-2009"}
    patient = ("--timeout", str(HANG), "-m", "ssh:board")
    listed = hotbank(*patient, "list", "--json", **environment)
    assert json.loads(listed.stdout)["machine"] == "model:arm-2009", listed.stderr
    removed = hotbank(*patient, "remove", "high", **environment)
    assert (removed.returncode, removed.stdout.splitlines()[0]) == (0, "machine model:arm-2009")
    gone = hotbank("-m", "ssh:gone", "list", **environment)
    assert gone.returncode == 1
    assert "NO_MACHINE" in gone.stderr


@pytest.mark.long
def test_a_lost_link_does_not_stop_a_transaction(folder: Path, fake_ssh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", fake_ssh)
    monkeypatch.setenv("HOTBANK_MACHINE", "model:arm-2009")
    far = ssh.connect("board", patience=HANG)
    pid = far.hello.pid
    far._send({"id": 1, "call": "clock.now", "args": {}})
    order = Order("remove", ("high",), Limits(20, 20, 5))
    far._send({"id": 2, "call": "owner.order", "args": {"order": encode(order)}})
    until(lambda: _children(pid), "a worker")
    children = _children(pid)
    far.close()
    until(lambda: not any(Path(f"/proc/{c}").exists() for c in children), "the worker's end")
    until(lambda: not Path(f"/proc/{pid}").exists(), "and then its owner's")


def _children(pid: int) -> list[str]:
    try:
        return [c for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    except OSError:
        return []


def test_a_host_that_is_served_is_handed_on(folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """``serve --stdio`` beside a ``serve`` is a go-between: the owner is the one that serves."""
    monkeypatch.setattr(local, "_SERVED", folder / "socket")
    assert local.served_host() is None or os.getuid() != 0
    with listen(folder / "socket") as listener:
        owner = Owner(model)
        thread = threading.Thread(target=owner.serve, args=(listener,))
        thread.start()
        served = local.served_host()
        assert served is not None
        ours, theirs = socket.socketpair()
        between = threading.Thread(target=local.hand_on, args=(served, theirs.fileno(), theirs.fileno()))
        between.start()
        from hotbank.remote import SocketStream

        with Remote(SocketStream(ours)) as client:
            assert client.snapshot() == model.snapshot()
            assert serve.remove(client, "high").exit == 0
        ended(between)
        served.close()
        theirs.close()
        owner.stop()
        ended(thread)


def test_nothing_here_changes_this_host() -> None:
    text = Path(__file__).read_text()
    assert not re.search(r'"host", "(remove|add)"', text)
    assert Host.__name__ == "Host"
