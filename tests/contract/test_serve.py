# SPDX-License-Identifier: Apache-2.0
"""An owner and its clients in real time: two at once, deadlines, interruptions, deaths, and bad manners."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotbank import board, operate, serve
from hotbank.errors import Code, HotbankError, MachineError, Refusal
from hotbank.load import Workload
from hotbank.machine import Snapshot
from hotbank.memory import BlockState, KernelState, Kind, Power
from hotbank.model import Model, WallClock
from hotbank.operate import Event, Limits, Outcome
from hotbank.remote import Remote
from hotbank.serve import background, job, workers
from hotbank.serve import owner as owner_module
from hotbank.serve.children import start_module
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen, runtime_folder
from hotbank.wire import MAX_REQUEST, VERSION, encode
from patience import HANG, ended, promised, until

FOREVER = Limits(total=2 * HANG, block=2 * HANG)
SOON = Limits(total=6, block=6)  # what is done before that takes no second on a quiet machine
Places = tuple[tuple[int, BlockState, tuple[str, ...]], ...]


@dataclass
class Served:
    """A model on the wall clock, served by a thread of this process; the test can reach into the model."""

    model: Model
    path: Path
    clients: list[Remote] = field(default_factory=list)

    def client(self) -> Remote:
        self.clients.append(Remote.unix(self.path, timeout=HANG))
        return self.clients[-1]

    def places(self) -> Places:
        snapshot = self.model.snapshot()
        return tuple((b.number, b.state, b.valid_zones) for b in snapshot.blocks)

    def pin(self) -> int:
        """Pin a page in the bank: its removal will try until the deadline. The block's number."""
        pid = self.model.spawn("pinner", anon_pages=64)
        block = next(b.number for b in self.model.snapshot().blocks if self.model.place(pid, b.number))
        self.model.pin(pid, self.model.place(pid, block)[0])
        return block


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, because a Unix socket's has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        yield Path(name)


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    model = Model.boot(board.load("arm-2009"), backend="reference", clock=WallClock())
    Workload(model, 1, pages=2000).fill()
    listener = listen(folder / "sock")
    owner = Owner(model)
    thread = threading.Thread(target=owner.serve, args=(listener,))
    thread.start()
    there = Served(model, folder / "sock")
    yield there
    for client in there.clients:
        client.close()
    owner.stop()
    ended(thread)
    listener.close()


class Running:
    """An order that a client has sent, in a thread; ``offlining`` is set when the first block is on its way."""

    def __init__(self, client: Remote, limits: Limits, *, force: bool = True) -> None:
        self.client, self.limits = client, limits
        self.events: list[Event] = []
        self.offlining = threading.Event()
        self.outcome: Outcome | HotbankError | None = None
        self._thread = threading.Thread(target=self._run, args=(limits, force))
        self._began = self.elapsed = time.monotonic()
        self._thread.start()

    def _run(self, limits: Limits, force: bool) -> None:
        try:
            self.outcome = serve.remove(self.client, "high", limits=limits, force=force, on_event=self._hear)
        except HotbankError as e:
            self.outcome = e
        self.elapsed = time.monotonic() - self._began

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        if event.event == "step" and event.step == "offline":
            self.offlining.set()

    def end(self) -> Outcome:
        ended(self._thread)
        assert isinstance(self.outcome, Outcome), self.outcome
        return self.outcome


@contextmanager
def stuck_removal(served: Served, limits: Limits | None = None) -> Iterator[Running]:
    """A forced removal that will not come to an end before its deadline."""
    served.pin()
    running = Running(served.client(), limits or FOREVER)
    assert running.offlining.wait(HANG)
    yield running
    running.end()


def sleeps(pid: int) -> bool:
    """True if none of its threads wakes up for a second; some seconds are tried, as it may have to settle first."""

    def wakes() -> bool:
        before = went_to_sleep(pid)
        time.sleep(1)
        return went_to_sleep(pid) != before

    return not all(wakes() for _ in range(20))


def went_to_sleep(pid: int) -> int:
    """How often its threads went to sleep: one that wakes up goes to sleep again. What has ended counts no more."""
    texts = list[str]()
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                texts.append((task / "status").read_text())
    return sum(map(int, re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", "".join(texts), re.MULTILINE)))


def worker_of(client: Remote) -> int:
    """The pid that a refused second order names."""
    with pytest.raises(Refusal) as caught:
        serve.add(client, "high")
    assert caught.value.code is Code.BUSY_TRANSACTION
    match = re.search(r"pid (\d+)", str(caught.value))
    assert match is not None
    return int(match[1])


def gone(pid: int) -> bool:
    """No such process, or nothing left of it but its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_bank_leaves_and_returns(served: Served) -> None:
    before, client = served.places(), served.client()
    events: list[Event] = []
    out = serve.remove(client, "high", on_event=events.append)
    assert (out.code, out.exit, out.kernel, out.power) == (Code.OK, 0, KernelState.ABSENT, Power.OFF)
    assert events[-1].event == "done"
    assert [e.seq for e in events] == list(range(len(events)))
    back = serve.add(client, "high")
    assert (back.code, back.exit, back.power) == (Code.OK, 0, Power.ON)
    assert served.places() == before
    assert [e.before.verb for e in serve.history(client)] == ["remove", "add"]
    served.model.validate()
    assert not served.model.check_contents()


def test_refusals_cross_the_wire(served: Served) -> None:
    client = served.client()
    with pytest.raises(Refusal, match="no bank or block 'nope'") as caught:
        serve.remove(client, "nope")
    assert caught.value.code is Code.NO_SUCH_BANK
    block = served.pin()
    outcome = serve.remove(client, "high")
    assert (outcome.code, outcome.exit) == (Code.PINNED, 1)
    assert f"memory{block}" in outcome.fact
    assert "pinner" in outcome.fact


def test_two_clients_at_once(served: Served) -> None:
    with stuck_removal(served) as running:
        other = served.client()

        def trying() -> bool:
            return any(b.state is BlockState.GOING_OFFLINE for b in other.snapshot().blocks)

        until(trying, "a look while the block is going offline")
        pid = worker_of(other)
        assert pid != os.getpid()
        with pytest.raises(Refusal, match=f"pid {pid}"):
            other.set_power("ddr-high", Power.OFF)
        other.cancel()
    assert running.end().exit == 130


def test_an_interruption_rolls_back(served: Served) -> None:
    before = served.places()
    with stuck_removal(served) as running:
        time.sleep(0.2)
        asked = time.monotonic()
        running.client.cancel()
        outcome = running.end()
        assert time.monotonic() - asked < promised(1)
    assert (outcome.code, outcome.exit) == (Code.INTERRUPTED, 130)
    assert served.places() == before


def test_a_client_that_vanishes_stops_nothing(served: Served) -> None:
    client = served.client()
    client._send({"id": 1, "call": "owner.order", "args": _order()})
    client.close()
    until(lambda: served.model.power("ddr-high") is Power.OFF, "a dark bank")
    until(lambda: serve.history(served.client())[-1].code is Code.OK, "the transaction's end")


def _order() -> dict[str, object]:
    return {"order": encode(serve.Order("remove", ("high",), Limits(total=20, block=20, grace=5)))}


# Deadlines, in real time, as the client sees them: from its order to the answer.


def soon() -> Limits:
    """A deadline behind which everything is under way that is going to be, on this machine as busy as it is."""
    seconds = promised(1.2)
    return Limits(total=seconds, block=seconds)


TEN = [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 10))]


@pytest.fixture(params=["idle", pytest.param("loaded", marks=pytest.mark.long)])
def load(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing else to do, or as many busy processes as there are processors."""
    count = (os.cpu_count() or 1) if request.param == "loaded" else 0
    work = f"import os\nwhile os.getppid() == {os.getpid()}: pass"
    busy = [subprocess.Popen([sys.executable, "-c", work]) for _ in range(count)]
    yield
    for process in busy:
        process.kill()
        process.wait()


def in_time(running: Running) -> Outcome:
    """The outcome, which came after the deadline and within a second of it."""
    outcome = running.end()
    assert running.limits.total <= running.elapsed < running.limits.total + promised(1)
    assert running.limits.total <= outcome.seconds <= running.elapsed
    return outcome


@pytest.mark.parametrize("turn", TEN)
def test_a_deadline_on_a_pinned_page(served: Served, load: None, turn: int) -> None:
    before = served.places()
    served.pin()
    outcome = in_time(Running(served.client(), soon()))
    assert (outcome.code, outcome.exit) == (Code.DEADLINE, 1)
    assert served.places() == before


@pytest.mark.parametrize("turn", TEN)
def test_a_deadline_without_room(served: Served, turn: int) -> None:
    served.model.fill_until(20_000)
    before, client = served.places(), served.client()
    assert serve.remove(client, "high").code is Code.NO_CAPACITY
    outcome = in_time(Running(client, soon()))
    assert (outcome.code, outcome.exit) == (Code.DEADLINE, 1)
    assert served.places() == before


@pytest.mark.parametrize("turn", TEN)
def test_stalled_writeback_is_pending_and_then_settled(served: Served, turn: int) -> None:
    before = served.places()
    served.model.write_file("disk", 3000)
    served.model.stall_writeback("disk", 3000)
    client, other = served.client(), served.client()
    assert any(client.survey(n).kinds.get(Kind.FILE) for n in _blocks(client.snapshot()))
    outcome = in_time(Running(client, soon()))
    assert (outcome.code, outcome.exit, outcome.open) == (Code.CANCEL_PENDING, 1, True)
    assert other.snapshot().pending is not None
    assert served.model.power("ddr-high") is Power.ON
    worker_of(other)  # nobody else may start
    served.model.end_writeback("disk")
    until(lambda: serve.history(other)[-1].code is not None, "its settling")
    assert served.places() == before
    until(lambda: _may_start(other), "the next one's turn")


def _blocks(snapshot: Snapshot) -> tuple[int, ...]:
    bank = snapshot.bank("high")
    assert bank is not None
    return bank.blocks


def _may_start(client: Remote) -> bool:
    try:
        return serve.remove(client, "high").exit == 0
    except Refusal:
        return False


# Deaths.


def test_a_worker_that_is_killed_is_cleaned_up_after(served: Served) -> None:
    before = served.places()
    with stuck_removal(served, SOON) as running:
        other = served.client()
        os.kill(worker_of(other), signal.SIGKILL)
    outcome = running.end()
    assert (outcome.code, outcome.exit, outcome.unrestored) == (Code.INTERRUPTED, 1, ())
    assert served.places() == before
    assert serve.recover(other) is None
    assert operate.explain(other, "high").code is Code.PINNED


def test_an_order_ends_whatever_the_cleaning_up_comes_to(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker dies at once, and what settles after it has a bug."""

    def dies(_: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return start_module("hotbank.no_such_module", *arguments, **options)

    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(workers, "start_module", dies)
    monkeypatch.setattr(job, "recover", broken)
    with pytest.raises(MachineError, match=r"status 1: .*no_such_module.* nor could it .*ValueError\('a bug'\)"):
        serve.remove(served.client(), "high")
    monkeypatch.undo()
    assert serve.remove(served.client(), "high").exit == 0


def test_what_could_not_be_cleaned_up_after_is_settled_once_the_machine_answers(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker dies and the machine is not to be looked at. It is told, listed as open, and needs no order."""
    looks, deaf, before = Model.snapshot, threading.Event(), served.places()

    def look(model: Model) -> Snapshot:
        if deaf.is_set() and model is served.model:
            raise MachineError("the machine does not answer")
        return looks(model)

    monkeypatch.setattr(Model, "snapshot", look)
    monkeypatch.setattr(owner_module, "_LOOK_EVERY", 0.05)
    served.pin()
    running, other = Running(served.client(), FOREVER), served.client()
    assert running.offlining.wait(HANG)
    worker = worker_of(other)
    deaf.set()
    os.kill(worker, signal.SIGKILL)
    ended(running._thread)
    assert isinstance(running.outcome, MachineError)
    assert "nor could it be cleaned up after: the machine does not answer" in str(running.outcome)
    assert running.outcome.remedy == "its owner settles it once the machine answers; hotbank recover does it at once"
    assert [entry.code for entry in serve.history(other)] == [None]
    with pytest.raises(Refusal, match=r"remove high of pid .* is not finished"):
        serve.remove(other, "high")
    deaf.clear()
    until(lambda: serve.history(other)[0].code is not None, "its settling")
    assert serve.history(other)[0].code is Code.INTERRUPTED
    assert served.places() == before


@pytest.fixture
def runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of this test's own; what it left running is ended."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder / "hotbank"
    record = serve.current()
    if record is not None:
        serve.down(record)


def test_workers_die_with_their_owner(runtime: Path) -> None:
    record = serve.serve_in_background(serve.ModelSpec("arm-2009", pages=100_000))
    client = serve.connect(record)
    running = Running(client, FOREVER)
    assert running.offlining.wait(HANG)
    with serve.connect(record) as other:
        worker = worker_of(other)
    assert not gone(worker)
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: gone(worker), "the worker's end")
    ended(running._thread)
    assert isinstance(running.outcome, MachineError)
    client.close()
    with pytest.raises(MachineError, match="does not answer") as caught:
        serve.connect(record)
    assert "hotbank down" in caught.value.remedy
    assert serve.down(record) is False


# Bad manners.


def test_arguments_that_are_none_are_told_under_the_requests_number(served: Served) -> None:
    """And the line goes on: what was wrong is one request."""
    client = served.client()
    wrong: list[object] = [{}, {"block": "20"}, {"block": 20, "more": 1}, []]
    for args in wrong:
        client._send({"id": 7, "call": "machine.survey", "args": args})
        told = client._receive(HANG)
        assert (told["id"], told["error"]["type"]) == (7, "ProtocolError")
    assert client.snapshot().banks
    client.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x00\xff" * 100 + b"\n",
        b"[]\n",
        b"{}\n",
        b'{"id":1,"call":"machine.snapshot"}\n',
        b'{"id":"x","call":"machine.snapshot","args":{}}\n',
        b'{"id":1,"call":"machine.__init__","args":{}}\n',
        b'{"id":1,"call":"job.done","args":{}}\n',
        b'{"id":1,"call":["x"],"args":{}}\n',
        b"x" * (MAX_REQUEST + (1 << 17)),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_garbage_ends_the_connection_and_nothing_else(served: Served, data: bytes) -> None:
    before = served.places()
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(str(served.path))
        rude.settimeout(HANG)
        with suppress(BrokenPipeError, ConnectionResetError):  # it need not listen to the end
            rude.sendall(data)
        answer = _all_of(rude)
    lines = answer.splitlines()
    assert json.loads(lines[0])["hotbank"] == VERSION
    if len(lines) > 1:
        assert json.loads(lines[1])["error"]["type"] == "ProtocolError"
    assert served.client().snapshot().banks
    assert served.places() == before


def _all_of(connection: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            part = connection.recv(1 << 16)
        except ConnectionResetError:
            return data
        if not part:
            return data
        data += part


@pytest.mark.parametrize(
    "args",
    [{}, {"block": "4"}, {"block": 4, "extra": 1}, {"block": True}, {"block": None}, [4], None],
    ids=repr,
)
def test_wrong_arguments_are_named(served: Served, args: object) -> None:
    client = served.client()
    client._send({"id": 1, "call": "machine.survey", "args": args})
    assert client._receive(HANG)["error"]["type"] == "ProtocolError"


def test_slow_clients_hold_nobody_up(served: Served) -> None:
    slow = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for one in slow:
        one.connect(str(served.path))
        one.sendall(b'{"id":1,"ca')
    assert serve.remove(served.client(), "high").exit == 0
    for one in slow:
        one.close()


def test_too_many_clients_are_turned_away(served: Served) -> None:
    for _ in range(64):
        served.client()
    with pytest.raises(HotbankError, match="64 clients"):
        served.client()
    served.clients.pop().close()
    until(lambda: _answers(served), "a free place")


def _answers(served: Served) -> bool:
    try:
        return bool(served.client().snapshot().banks)
    except HotbankError:
        return False


# The machine of `hotbank up`.


def test_a_machine_lasts_across_processes(runtime: Path) -> None:
    record = serve.serve_in_background(serve.ModelSpec("arm-2009"))
    assert stat.S_IMODE(os.stat(record.socket).st_mode) == 0o600
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    script = (
        "from hotbank import serve\n"
        "with serve.connect(serve.current()) as machine:\n"
        "    print(serve.remove(machine, 'high').exit, machine.power('ddr-high'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0 off\n", "")
    with serve.connect(record) as machine:
        assert machine.power("ddr-high") is Power.OFF
    with pytest.raises(MachineError, match="is up already"):
        serve.serve_in_background(serve.ModelSpec("virt-arm64"))
    assert serve.down(record) is True
    assert serve.current() is None
    assert gone(record.pid)
    journal = "model%3Aarm-2009.journal"
    assert sorted(p.name for p in runtime.iterdir()) == ["lock", "log", journal, f"{journal}.lock"]


def test_a_boot_that_fails_says_why(runtime: Path) -> None:
    with pytest.raises(HotbankError, match="no such file; shipped boards") as caught:
        serve.serve_in_background(serve.ModelSpec("nowhere"))
    assert caught.value.code is Code.BAD_BOARD
    assert serve.current() is None


def test_an_idle_owner_sleeps(runtime: Path) -> None:
    record = serve.serve_in_background(serve.ModelSpec("arm-2009"))
    with serve.connect(record) as machine:
        machine.snapshot()

        assert sleeps(record.pid)
        used = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{record.pid}/status").read_text())
        assert used is not None
        assert int(used[1]) < 32 << 10


def test_a_pid_alone_is_never_killed(runtime: Path) -> None:
    """The recorded pid belongs to somebody else by now, and nothing listens on the socket."""
    bystander = subprocess.Popen(["sleep", str(HANG)])
    try:
        record = serve.Record(str(runtime_folder() / "x.sock"), bystander.pid, "model:m", 0.0)
        serve.remember(runtime_folder(), record)
        assert serve.current() == record
        assert serve.down(record) is False
        assert bystander.poll() is None
        assert serve.current() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_another_process_behind_the_socket_is_left_alone(runtime: Path) -> None:
    record = serve.serve_in_background(serve.ModelSpec("arm-2009"))
    wrong = serve.Record(record.socket, os.getpid(), record.machine, record.started)
    with pytest.raises(MachineError, match=f"pid {record.pid} answers"):
        serve.connect(wrong)
    with pytest.raises(MachineError, match=f"belongs to pid {record.pid}"):
        serve.down(wrong)
    assert not gone(record.pid)


def test_down_ends_an_owner_that_hangs(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_ANSWER", 0.3)
    monkeypatch.setattr(background, "_EXIT", 0.3)
    record = serve.serve_in_background(serve.ModelSpec("arm-2009"))
    os.kill(record.pid, signal.SIGSTOP)
    assert serve.down(record) is True
    assert gone(record.pid)
    assert serve.current() is None


def test_down_waits_for_no_transaction_and_ends_none(runtime: Path) -> None:
    record = serve.serve_in_background(serve.ModelSpec("arm-2009", pages=100_000))
    running = Running(serve.connect(record), SOON)
    assert running.offlining.wait(HANG)
    with pytest.raises(Refusal) as caught:
        serve.down(record)
    assert caught.value.code is Code.BUSY_TRANSACTION
    running.end()
    running.client.close()


@pytest.mark.parametrize("text", ["", "{}", '{"socket": 1}', "\xff"])
def test_an_unreadable_record_is_an_error(runtime: Path, text: str) -> None:
    path = runtime_folder() / "current"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(MachineError, match="unreadable") as caught:
        serve.current()
    assert str(path) in caught.value.remedy
    path.unlink()


def test_a_runtime_folder_in_which_nothing_can_be_made_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/self")  # not by root, either
    assert runtime_folder() == Path(f"/tmp/hotbank-{os.getuid()}")


def test_a_folder_that_others_can_enter_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    (folder / "hotbank").mkdir(mode=0o755)
    (folder / "hotbank").chmod(0o755)
    with pytest.raises(MachineError, match="yours alone"):
        serve.current()
    (folder / "hotbank").rmdir()
    (folder / "hotbank").symlink_to("/tmp")
    with pytest.raises(MachineError, match="yours alone"):
        serve.current()
