# SPDX-License-Identifier: Apache-2.0
"""The worker that stands ready while somebody governs: nothing is started for a bank's return, and it holds out."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from contract.crashing import end, model_of, stage, worker_of
from contract.deadly import BOTH, Deadly
from contract.test_governing import SETTINGS
from contract.test_owning import memory
from hotbank import board, serve
from hotbank.errors import MachineError
from hotbank.host.parent import Parent
from hotbank.memory import Power
from hotbank.model import Model
from hotbank.operate import Limits, MemoryJournal
from hotbank.operate.outcome import no_events
from hotbank.remote import Remote
from hotbank.serve import firm, watchdog, workers
from hotbank.serve.children import start_module
from hotbank.serve.client import RemoteOwner
from hotbank.serve.governing import Governing
from hotbank.serve.local import attached
from hotbank.serve.owner import Owner
from hotbank.serve.protocol import Order
from hotbank.serve.workers import Workers
from kernel.kernel_kit import alive, children_of
from patience import HANG, until

# Python runs it at the start of each process, and it is told of all that the process imports or starts from then on.
_HOOK = """
import os, sys

_file = os.open(os.environ["HEARD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
_heard = {"import", "ctypes.dlsym", "subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system"}


def _hear(event, arguments):
    if event in _heard:
        os.write(_file, f"{os.getpid()} {event} {arguments[:2]}\\n".encode())


sys.addaudithook(_hear)
"""


@dataclass(frozen=True)
class Governed:
    """The owner of a model that governs it; ``heard``: what it and its children started and imported; ``said``: what
    it wrote to standard error."""

    pid: int
    socket: Path
    heard: Path
    said: Path

    def ready(self) -> int | None:
        """The worker that stands ready, once it has done what it can to hold out, its last act before it waits."""
        found = [pid for pid in children_of(self.pid) if alive(pid)]
        heard = self.heard.read_text()
        return found[0] if len(found) == 1 and re.search(rf"^{found[0]} .*'mlockall'", heard, re.MULTILINE) else None


@pytest.fixture(scope="module")
def governed() -> Iterator[Governed]:
    """With its bank dark, and the worker that took it killed and replaced: what brings it back has done nothing yet."""
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        folder = Path(name)
        (folder / "sitecustomize.py").write_text(_HOOK)
        (folder / "auto.toml").write_text('policy = "balance"\nevery = 0.1\n[settings]\ntrust = 0.01\n')
        words = [
            "-m",
            "model:arm-2009",
            "serve",
            "--socket",
            str(folder / "socket"),
            "--auto",
            str(folder / "auto.toml"),
        ]
        env = {**os.environ, "HEARD": str(folder / "heard")}
        env["PYTHONPATH"] = os.pathsep.join([name, *filter(None, [env.get("PYTHONPATH")])])
        with (folder / "said").open("w") as said:
            process = subprocess.Popen([sys.executable, "-m", "hotbank", *words], stderr=said, env=env)
        one = Governed(process.pid, folder / "socket", folder / "heard", folder / "said")
        until(one.socket.exists, "its socket")
        with Remote.unix(one.socket) as client:
            until(lambda: client.power("ddr-high") is Power.OFF, "a dark bank")
        until(one.ready, "a worker that stands ready")
        first = one.ready()
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: one.ready() not in (None, first), "another in its place")
        yield one
        process.terminate()
        process.communicate()


def test_who_stands_ready_holds_out(governed: Governed) -> None:
    """Its memory is locked and the OOM killer passes over it and its owner, or it is said, once, that they may not. Who
    runs the tests may have been given a score of its own, which they keep."""
    worker = governed.ready()
    assert worker is not None
    for what, holds in [
        ("memory can't be locked", lambda: memory(worker)["VmLck"] > 4 << 10),
        ("OOM killer may end it", lambda: max(_score(governed.pid), _score(worker)) < 0),
    ]:
        until(partial(_is_so_or_said, governed.said, what, holds), what)
    assert memory(governed.pid)["VmLck"] == 0


def _is_so_or_said(said: Path, what: str, holds: Callable[[], bool]) -> bool:
    """It locks after it was heard to look for how, and what it may not is told at the next look."""
    return said.read_text().count(what) == (0 if holds() else 1)


def _score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_a_return_starts_nothing_and_imports_nothing(governed: Governed) -> None:
    """Neither the owner nor its worker, from the wish until the bank is in."""
    children, heard = children_of(governed.pid), governed.heard.read_text()
    with Remote.unix(governed.socket) as client:
        assert serve.add(client, "high").exit == 0
    assert governed.heard.read_text() == heard
    assert children_of(governed.pid) == children


def model() -> Model:
    return Model.boot(board.load("arm-2009"), backend="reference")


def test_it_stands_from_the_first_look_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody governs, each order has its own, of which nothing is locked."""
    firmly = list[bool]()

    def started(module: str, *words: str, **options: object) -> subprocess.Popen[bytes]:
        firmly.append("firm" in words)
        return start_module(module, *words, **options)

    monkeypatch.setattr("hotbank.serve.workers.start_module", started)
    owner = Owner(model())
    with attached(owner) as client:
        assert serve.remove(client, "high").exit == 0
        governing = Governing(client, RemoteOwner(client), SETTINGS)
        assert firmly == [False]
        governing.begin()
        assert firmly == [False, True]
        assert serve.add(client, "high").exit == 0
        assert serve.remove(client, "high").exit == 0
        assert firmly == [False, True]
        governing.look()
        governing.leave()
        assert not owner.workers._ready
        assert serve.add(client, "high").exit == 0
    assert firmly == [False, True, False]


def test_a_dead_one_is_replaced_where_there_is_room_and_missed_by_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ROOM", 1 << 60)
    owner = Owner(model())
    owner.workers.stand_ready()
    assert not owner.workers._ready
    with attached(owner) as client:
        assert serve.remove(client, "high").exit == 0
        (stays,) = owner.workers._ready
        end(stays.pid)
        owner.workers.stand_ready()
        assert not owner.workers._ready
        assert serve.add(client, "high").exit == 0
        end(owner.workers._ready[0].pid)
    monkeypatch.undo()
    owner.workers.stand_ready()
    assert owner.workers._ready[0].lives
    owner.workers.stand_down()


def test_it_goes_when_who_governs_is_gone_without_a_word() -> None:
    owner = Owner(model())
    with attached(owner) as client:
        governing = Governing(client, RemoteOwner(client), SETTINGS)
        for _ in range(3):
            governing.look()
        assert serve.remove(client, "high").exit == 0
        governing.look()
        governing.look()
        (process,) = [worker._process for worker in owner.workers._ready]
    until(lambda: process.poll() == 0, "its end")
    assert not owner.workers._ready


def test_it_goes_with_who_looked_only_once() -> None:
    """The second look may be an hour later."""
    owner = Owner(model())
    with attached(owner) as client:
        Governing(client, RemoteOwner(client), SETTINGS).look()
        (process,) = [worker._process for worker in owner.workers._ready]
    until(lambda: process.poll() == 0, "its end")


def test_it_stays_when_who_governed_before_hangs_up() -> None:
    owner = Owner(model())
    with attached(owner) as client:
        before = attached(owner)
        one, other = [Governing(line, RemoteOwner(line), SETTINGS) for line in (before, client)]
        one.look()
        one.leave()
        other.look()
        (stays,) = owner.workers._ready
        before.close()
        until(lambda: len(owner._loop._lines) + len(owner._loop._lent) == 1, "its line's end")
        assert serve.remove(client, "high").exit == 0
        assert owner.workers._ready == [stays]
    until(lambda: not owner.workers._ready, "its end")


@pytest.mark.parametrize(("at", "when"), [(0, "before"), (4, "after"), (11, "after")])
def test_one_that_dies_at_work_is_cleaned_up_after(at: int, when: str) -> None:
    """As any worker, wherever it dies; and whoever comes after it goes on."""
    with stage("remove", model_of("pair")) as here:
        journal = Deadly(MemoryJournal(), at, when, lambda: end(worker_of(owner)))
        owner = Owner(here.watched, journal=journal)
        owner.workers.stand_ready()
        with attached(owner) as client:
            outcome = None
            with suppress(MachineError):
                outcome = serve.remove(client, *BOTH)
            here.check(outcome)
            assert journal.unfinished() is None
            assert serve.remove(client, *BOTH).exit == 0
            (stays,) = owner.workers._ready
            assert serve.add(client, *BOTH).exit == 0
            assert owner.workers._ready == [stays]
        owner.workers.stand_down()


def test_orders_that_follow_each_other_leave_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as one worker carries out in a second, which are more than threads fit in."""
    monkeypatch.setattr(watchdog, "_LOOK_EVERY", HANG)
    owner = Owner(model())
    owner.workers.stand_ready()
    with attached(owner) as client:
        for _ in range(3):
            assert RemoteOwner(client).order(Order("recover", (), Limits()), no_events) is None
        until(lambda: not [thread for thread in threading.enumerate() if "_watch" in thread.name], "their end")
    owner.workers.stand_down()


@pytest.mark.parametrize("why", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")])
def test_an_order_that_nobody_can_watch_is_refused(why: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one is carried out."""

    def no_room(*_: object) -> None:
        raise why

    owner = Owner(model())
    owner.workers.stand_ready()
    with attached(owner) as client:
        with monkeypatch.context() as full:
            full.setattr("hotbank.serve.job.Watchdog", no_room)
            with pytest.raises(MachineError, match=re.escape(f"no worker could be watched: {why}")):
                serve.remove(client, "high")
        assert serve.remove(client, "high").exit == 0
    owner.workers.stand_down()


def test_one_that_is_stopped_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_ENDS", 0.1)
    one = Workers()
    one.stand_ready()
    process = one._ready[0]._process
    process.send_signal(signal.SIGSTOP)
    one.stand_down()
    assert process.poll() == -signal.SIGKILL


def test_one_that_dies_before_it_is_spoken_to_has_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(_: str, *words: str, **options: object) -> subprocess.Popen[bytes]:
        process = start_module("hotbank.no_such_module", *words, **options)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return process

    monkeypatch.setattr(workers, "start_module", dies)
    with attached(Owner(model())) as client, pytest.raises(MachineError, match=r"status 1: .*no_such_module"):
        serve.remove(client, "high")


def test_where_there_is_no_room_for_a_thread_none_stands_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an order says that it has no worker."""

    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Parent, "start", full)
    one = Workers()
    one.stand_ready()
    assert not one._ready
    with pytest.raises(OSError, match="can't start new thread"), one.at_work():
        pass


def test_workers_end_with_who_has_them() -> None:
    one = Workers()
    one.stand_ready()
    process = one._ready[0]._process
    del one
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("rights", "may"), [("0" * 16, False), ("4000", True), ("1fffeffbfff", False), ("1ffffffffff", True)]
)
def test_what_comes_later_is_locked_where_no_limit_ends_it(tmp_path: Path, rights: str, may: bool) -> None:
    """Of a kernel that has no namespaces of users."""
    status = tmp_path / "status"
    status.write_text(f"Name:\twörker\nCapPrm:\t{'f' * 16}\nCapEff:\t{rights}\nSeccomp:\t0\n", encoding="utf-8")
    assert firm.may_lock(tmp_path) is may


def test_root_of_its_own_users_has_a_limit(tmp_path: Path) -> None:
    """The kernel asks for the right among everybody's users, whatever the status says."""
    (tmp_path / "status").write_text("CapEff:\t1ffffffffff\n")
    (tmp_path / "ns").mkdir()
    (tmp_path / "ns/user").write_text("")
    assert not firm.may_lock(tmp_path)


@pytest.mark.parametrize(("was", "becomes"), [("0", "-1000"), ("300", "-1000"), ("-900", "-900"), ("-1000", "-1000")])
def test_who_was_spared_by_another_stays_as_that_one_had_it(tmp_path: Path, was: str, becomes: str) -> None:
    file = tmp_path / "oom_score_adj"
    file.write_text(f"{was}\n")
    assert firm.spared(file) == ""
    assert file.read_text().strip() == becomes
    assert firm.spared(tmp_path / "none") == "the OOM killer may end it: No such file or directory (CAP_SYS_RESOURCE)"
