# SPDX-License-Identifier: Apache-2.0
"""Clients that flood, never read, never speak, vanish or fill the house: nobody who may only read keeps others out.

Who is at the other end is what the kernel says; here the door is told so by the test, so that no other user is needed.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from contract.test_serve import Running, gone, worker_of
from hotbank import board, serve
from hotbank.errors import Code, HotbankError, KernelError, MachineError, Refusal
from hotbank.load import Workload
from hotbank.machine import Survey
from hotbank.memory import BlockState, KernelState, Power
from hotbank.model import Model, WallClock
from hotbank.operate import Event, Limits, Outcome
from hotbank.remote import FileStream, Remote, SocketStream
from hotbank.serve import door, local, news, watchdog
from hotbank.serve.crew import Crew, Side, Task
from hotbank.serve.door import Door
from hotbank.serve.line import ENOUGH, SMALL_REQUEST, Patience
from hotbank.serve.owner import Owner
from hotbank.serve.protocol import Order
from hotbank.serve.state import listen
from hotbank.wire import MAX_ANSWER, Lines, encode
from patience import HANG, ended, promised, until

GROUP, ANNA, BERT, CARL, OWNER = 7000, 7001, 7002, 7003, os.getuid()
PAGES = {"id": 1, "call": "machine.pages", "args": {"block": 20}}
SLEEP = {"id": 1, "call": "clock.sleep", "args": {"seconds": 1e5}}
OFFLINE = {"id": 1, "call": "machine.offline", "args": {"block": 20, "deadline": 1e9, "spare": 0, "fence": []}}


@dataclass
class House:
    """A model on the wall clock, served; ``user`` is who connects next."""

    model: Model
    path: Path
    owner: Owner
    user: int = OWNER
    inside: list[socket.socket] = field(default_factory=list)

    def connect(self, user: int) -> Lines:
        """A connection of that user, whose first line is still to be read."""
        self.user = user
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        self.inside.append(connection)
        return Lines(SocketStream(connection), MAX_ANSWER)

    def comes_in(self, user: int) -> bool:
        """Whether he is let in; he stays."""
        return "hotbank" in (self.connect(user).receive(HANG) or {})

    def client(self, user: int = OWNER) -> Remote:
        """A client of that user, let in."""
        self.user = user
        return Remote.unix(self.path, timeout=HANG)

    def leave(self) -> None:
        """All that came by ``connect`` hang up."""
        for connection in self.inside:
            connection.close()
        self.inside.clear()


@pytest.fixture
def model() -> Model:
    made = Model.boot(board.load("arm-2009"), backend="reference", clock=WallClock())
    Workload(made, 1, pages=2000).fill()
    return made


@pytest.fixture
def house(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="hb") as name, listen(Path(name, "s")) as listener:
        owner = Owner(model, readers=GROUP)
        there = House(model, Path(name, "s"), owner)
        monkeypatch.setattr(door, "peer_uid", lambda _: there.user)
        monkeypatch.setattr(door, "peer_groups", lambda _: (GROUP,))
        serving = threading.Thread(target=owner.serve, args=(listener,))
        serving.start()
        yield there
        there.leave()
        owner.stop()
        ended(serving)


# Places.


def test_places_are_kept_for_who_may_change_and_for_root(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: BERT + 100)  # the owner's own user is not root here
    came = dict.fromkeys((ANNA, BERT, CARL, BERT + 100, 0), 0)
    for who in came:
        while house.comes_in(who):
            came[who] += 1
    assert came == {ANNA: 16, BERT: 16, CARL: 8, BERT + 100: 16, 0: 8}


def test_a_reader_who_is_turned_away_is_told_in_one_line(house: House) -> None:
    while house.comes_in(ANNA):
        pass
    assert "16 clients that may only read" in (house.connect(ANNA).receive(HANG) or {})["error"]["message"]


def test_sleepers_that_vanish_leave_nothing_behind(house: House) -> None:
    """Three users, each a hundred times: connect, sleep for a day, close."""
    threads = threading.active_count()
    for n in range(300):
        lines = house.connect((ANNA, BERT, CARL)[n % 3])
        while "hotbank" not in (lines.receive(HANG) or {}):  # his places are free again in a moment
            lines = house.connect(house.user)
        lines.send(SLEEP)
        house.leave()
    with house.client() as client:
        assert client.snapshot().banks
    assert threading.active_count() <= threads + 8


def test_half_a_line_and_then_silence_ends_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "READER", Patience(0.3))
    lines = house.connect(ANNA)
    house.inside[-1].sendall(b'{"id":1,"ca')
    assert "hotbank" in (lines.receive(HANG) or {})
    assert "silent for too long" in (lines.receive(HANG) or {})["error"]["message"]
    assert lines.receive(HANG) is None


def test_who_is_idle_makes_room_for_who_is_not(house: House) -> None:
    """And stays as long as nobody needs the place: a mounted machine may not be looked at for hours."""
    first = house.client(ANNA)
    others = [house.connect(ANNA) for _ in range(15)]
    for line in others:
        assert "hotbank" in (line.receive(HANG) or {})
        line.send(SLEEP)
    inside = house.owner._loop._lines
    until(lambda: sum(bool(line.later) for line in inside) == 15, "fifteen sleepers")
    assert not house.comes_in(ANNA), "nobody has been idle for long"
    for there in inside:  # time passes
        there._patience = Patience(idle=0.0)
    assert first.clock.now(), "nobody needed the place"
    assert house.comes_in(ANNA)
    with pytest.raises(MachineError, match="its place was needed"):
        first.clock.now()
    assert sum(bool(line.later) for line in inside) == 15, "who sleeps is not idle"


def test_who_waits_is_not_silent(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "READER", Patience(0.2, 0.2))
    with house.client(ANNA) as client:
        client.clock.sleep(0.8)
        assert client.snapshot().banks


# Requests.


def test_answers_that_are_not_read_end_the_reading_and_then_the_line(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the owner takes of a flood is what its buffers hold, whatever is asked."""
    monkeypatch.setattr(door, "READER", Patience(1.0, 1.0))
    threads = threading.active_count()
    for request in (OFFLINE, {"id": 1, "call": "owner.events", "args": {"since": 0, "wait": 0.0}}):
        house.connect(ANNA)
        taken = flood(house.inside[-1], request)
        assert taken < 64 * (ENOUGH + SMALL_REQUEST), request  # answers are longer than requests
        assert threading.active_count() <= threads + 8


def flood(connection: socket.socket, request: dict[str, Any]) -> int:
    """Send it again and again without reading, until the owner hangs up; how many bytes it took."""
    data, taken = json.dumps(request).encode() + b"\n", 0
    connection.settimeout(HANG)
    with suppress(BrokenPipeError, ConnectionResetError):
        while True:
            taken += connection.send(100 * data)
    return taken


def test_a_readers_line_is_short(house: House) -> None:
    lines = house.connect(ANNA)
    assert "hotbank" in (lines.receive(HANG) or {})
    with suppress(BrokenPipeError, ConnectionResetError):
        house.inside[-1].sendall(b"x" * (SMALL_REQUEST + (1 << 17)))
    assert "longer than" in (lines.receive(HANG) or {})["error"]["message"]


@pytest.fixture
def surveys(model: Model) -> tuple[list[int], threading.Event]:
    """The blocks of which a survey has begun; none ends before the event is set."""
    began, go = list[int](), threading.Event()

    def survey(block: int) -> Survey:
        began.append(block)
        assert go.wait(HANG)
        return Model.survey(model, block)

    model.survey = survey  # type: ignore[method-assign]
    return began, go


def test_what_nobody_waits_for_is_not_begun(surveys: tuple[list[int], threading.Event], house: House) -> None:
    """One user's reads take turns; those of clients that are gone by then never have one."""
    began, go = surveys
    for block in (20, 21, 22):
        lines = house.connect(ANNA)
        assert "hotbank" in (lines.receive(HANG) or {})
        lines.send({"id": 1, "call": "machine.survey", "args": {"block": block}})
        until(lambda: began, "the first survey")
    house.leave()
    with house.client(BERT) as client:
        assert client.clock.now()
    go.set()
    with house.client(ANNA) as client:
        assert client.survey(23).block == 23
    assert began == [20, 23]


def test_an_offline_ends_with_its_client_whatever_else_it_asked(house: House) -> None:
    pid = house.model.spawn("pinner", anon_pages=64)
    block = next(b.number for b in house.model.snapshot().blocks if house.model.place(pid, b.number))
    house.model.pin(pid, house.model.place(pid, block)[0])
    lines = house.connect(OWNER)
    assert "hotbank" in (lines.receive(HANG) or {})
    offline = {**OFFLINE["args"], "block": block}  # type: ignore[dict-item]
    lines.send({**OFFLINE, "args": offline})
    until(lambda: _state(house, block) is BlockState.GOING_OFFLINE, "the offline")
    lines.send({**OFFLINE, "id": 2, "args": {**offline, "block": block + 1}})
    assert (lines.receive(HANG) or {})["error"]["code"] == Code.BUSY_TRANSACTION
    house.leave()
    until(lambda: _state(house, block) is BlockState.ONLINE, "its end")
    with house.client() as client:
        until(lambda: _may_change(client), "the next one's turn")


def test_an_interruption_that_hangs_holds_up_nobody_and_no_other_interruption(house: House) -> None:
    """Whoever asks is answered, and the next order is interrupted, while the machine has not answered the first."""
    began, wanted, hang = list[int](), list[tuple[int, float]](), threading.Event()
    ends = [threading.Event(), threading.Event()]

    def offline(block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        del deadline, spare
        began.append(block)
        assert ends[len(began) - 1].wait(HANG)
        raise KernelError(errno.EINTR, f"offline memory{block}")

    def interrupt(block: int, deadline: float) -> None:
        wanted.append((block, deadline))
        if len(wanted) == 1:
            assert hang.wait(HANG)
        ends[1].set()

    house.model.offline, house.model.interrupt = offline, interrupt  # type: ignore[method-assign]
    with house.client() as client, house.client() as other:
        first = Running(client, Limits(total=HANG, block=HANG))
        until(lambda: len(began) == 1, "an offline")
        other.cancel()
        until(lambda: wanted, "the interruption")
        assert other.snapshot().banks
        other.cancel()
        ends[0].set()
        assert first.end().code is Code.INTERRUPTED
        second = Running(client, Limits(total=HANG, block=HANG))
        until(lambda: len(began) == 2, "the next one")
        other.cancel()
        assert second.end().code is Code.INTERRUPTED
    assert len(wanted) == 2
    hang.set()


def test_an_order_that_waits_for_a_thread_goes_on_without_its_client(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gave it may hang up at once: it is not lost."""
    waiting, loop = list[Task](), house.owner._loop
    monkeypatch.setattr(loop._changes, "hand", waiting.append)
    lines = house.connect(OWNER)
    assert "hotbank" in (lines.receive(HANG) or {})
    order = encode(Order("remove", ("high",), Limits()))
    lines.send({"id": 1, "call": "owner.order", "args": {"order": order}})
    until(lambda: waiting, "the order")
    house.leave()
    until(lambda: all(line.gone for line in loop._lines), "the end of its line")
    waiting[0]()
    until(lambda: house.model.power("ddr-high") is Power.OFF, "the removal")


def _state(house: House, block: int) -> BlockState:
    found = house.model.snapshot().block(block)
    assert found is not None
    return found.state


def _may_change(client: Remote) -> bool:
    try:
        client.set_power("ddr-high", Power.ON)
    except Refusal:
        return False
    return True


@pytest.mark.parametrize("user", [ANNA, OWNER], ids=["readers", "changers"])
def test_a_deadline_is_kept_under_a_flood(house: House, user: int) -> None:
    """Forty clients that ask for all pages of a block as fast as they are answered, and read it."""
    pid = house.model.spawn("pinner", anon_pages=64)
    block = next(b.number for b in house.model.snapshot().blocks if house.model.place(pid, b.number))
    house.model.pin(pid, house.model.place(pid, block)[0])
    ordering = house.client()
    over = threading.Event()
    flooding = threading.Thread(target=_ask_and_ask, args=(house, user, over))
    flooding.start()
    try:
        seconds = promised(2)
        running = Running(ordering, Limits(seconds, seconds))
        outcome = running.end()
    finally:
        over.set()
        ended(flooding)
        ordering.close()
    assert (outcome.code, outcome.exit) == (Code.DEADLINE, 1)
    assert seconds <= running.elapsed < seconds + promised(1)


def _ask_and_ask(house: House, user: int, over: threading.Event) -> None:
    """All in one thread, so that they keep the owner busy and not the test."""
    for _ in range(40):
        house.connect(user)
    for connection in house.inside:
        connection.setblocking(False)
    data = json.dumps(PAGES).encode() + b"\n"
    while not over.is_set():
        time.sleep(0.01)
        for connection in house.inside:
            with suppress(OSError):
                connection.send(data)
                connection.recv(1 << 20)


# Turns and pace, without a clock's mercy.


class Noted(Crew):
    """Notes what it is handed, and does nothing."""

    def __init__(self) -> None:
        super().__init__(0)
        self.tasks: list[Task] = []

    def hand(self, task: Task) -> None:
        self.tasks.append(task)


def side(at_once: int, per_user: int, busy: Callable[[], bool]) -> tuple[Side, list[Task]]:
    made, crew = Side(at_once, per_user, busy), Noted()
    made._crew = crew
    return made, crew.tasks


def test_users_take_turns() -> None:
    reads, begun = side(1, 1, lambda: False)
    tasks = {name: _task() for name in ("a1", "a2", "a3", "b1")}
    for name, task in tasks.items():
        reads.put(ANNA if name[0] == "a" else BERT, name, task)
    for user in (ANNA, BERT, ANNA, ANNA):
        reads.begin()
        reads.over(user, 0.0)
    assert begun == [tasks[name] for name in ("a1", "b1", "a2", "a3")]


def _task() -> Task:
    return lambda: None


def test_a_user_has_so_many_and_all_have_so_many() -> None:
    reads, begun = side(2, 1, lambda: False)
    for user in (ANNA, ANNA, BERT, CARL):
        reads.put(user, object(), _task())
    reads.begin()
    assert len(begun) == 2
    assert reads.rest() == float("inf")
    reads.over(BERT, 0.0)
    reads.begin()
    assert len(begun) == 3


def test_who_does_not_read_gets_no_more_and_holds_up_himself_alone() -> None:
    full = {ANNA}
    reads, begun = Side(2, 1, lambda: False, full.__contains__), Noted()
    reads._crew = begun
    for user in (ANNA, BERT):
        reads.put(user, user, _task())
    reads.begin()
    assert (len(begun.tasks), reads.rest()) == (1, float("inf"))
    full.clear()
    reads.begin()
    assert len(begun.tasks) == 2


def test_answers_that_one_user_leaves_unread_are_few_on_however_many_lines(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of ten lines asks for all news, which are many: what waits for them to read is bounded for the user."""
    monkeypatch.setattr(news, "MOST", 2000)
    events = [Event(0.0, n, "step", "offline", 20) for n in range(2000)]
    for event in events:
        house.owner._ring.add("remove high", 1, event)
    lines = [house.connect(ANNA) for _ in range(10)]
    for line in lines:
        assert "hotbank" in (line.receive(HANG) or {})
        for _ in range(20):
            line.send({"id": 1, "call": "owner.events", "args": {"since": 0, "wait": 0.0}})
    unread = list[int]()
    with house.client(BERT) as other:
        for _ in range(30):
            assert other.clock.now()
            unread.append(sum(line.unread for line in house.owner._loop._lines if line.user == ANNA))
    one = len(json.dumps(encode(house.owner._ring.after(0))))
    assert max(unread) <= ENOUGH + 2 * one


def test_reads_rest_four_times_as_long_as_they_took_while_something_changes() -> None:
    busy = [True]
    reads, begun = side(2, 2, lambda: busy[0])
    reads.charge(1000.0)
    reads.put(ANNA, 1, _task())
    reads.begin()
    assert (len(begun), 3900 < reads.rest() <= 4000) == (0, True)
    busy[0] = False
    reads.begin()
    assert len(begun) == 1


def test_a_thread_that_can_not_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start, done = threading.Thread.start, threading.Event()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    crew = Crew(2)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    crew.hand(lambda: None)
    monkeypatch.setattr(threading.Thread, "start", start)
    crew.hand(done.set)
    assert done.wait(HANG)


# What accept(2) may say.


class Wanting:
    """A listening socket, some of whose accepts fail."""

    def __init__(self, listener: socket.socket, errors: list[int]) -> None:
        self._listener, self._errors = listener, errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def accept(self) -> Any:
        if self._errors:
            raise OSError(self._errors.pop(), "as planned")
        return self._listener.accept()


LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ECONNABORTED, errno.EINTR)


@pytest.mark.parametrize("lack", LACKS, ids=errno.errorcode.get)
def test_a_failing_accept_is_survived(lack: int, tmp_path: Path) -> None:
    model = Model.boot(board.load("arm-2009"), backend="reference")
    with tempfile.TemporaryDirectory(prefix="hb") as name, listen(Path(name, "s")) as listener:
        errors, owner = [lack] * 3, Owner(model)
        wanting: Any = Wanting(listener, errors)
        serving = threading.Thread(target=owner.serve, args=(wanting,))
        serving.start()
        with Remote.unix(Path(name, "s"), timeout=HANG) as client:
            assert client.snapshot().banks
        assert not errors
        owner.stop()
        ended(serving)


def test_who_lacks_something_waits_longer_each_time_and_does_not_spin() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        wanting: Any = Wanting(listener, [errno.EMFILE] * 9)
        way_in, pauses = Door(wanting, lambda: pytest.fail("nobody comes"), None, lambda: False), list[float]()
        for _ in range(9):
            way_in.admit([])
            assert not way_in.accepts()
            pauses.append(round(way_in.opens - time.monotonic(), 1))
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0


def test_an_owner_without_descriptors_goes_on(tmp_path: Path) -> None:
    """More clients than it may have files: those that are in are answered, the others come in when these are gone."""
    limit = 40
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        argv = [sys.executable, "-m", "hotbank", "-m", "model:arm-2009", "serve", "--socket", f"{name}/s"]
        process = subprocess.Popen(
            argv,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        )
        assert process.stderr is not None
        process.stderr.readline()
        clients = [socket.socket(socket.AF_UNIX) for _ in range(limit + 5)]
        for client in clients:
            client.connect(f"{name}/s")
        descriptors = Path(f"/proc/{process.pid}/fd")
        until(lambda: len(os.listdir(descriptors)) >= limit, "nothing left")
        assert process.poll() is None
        for client in clients:
            client.close()
        with Remote.unix(f"{name}/s", timeout=HANG) as last:
            assert last.snapshot().banks
        process.terminate()
        assert process.communicate()[1] == ""
        assert process.returncode == 0


def test_a_bug_in_the_loop_ends_the_owner_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor starts it again then; silence would look like work."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    model = Model.boot(board.load("arm-2009"), backend="reference")
    with tempfile.TemporaryDirectory(prefix="hb") as name, listen(Path(name, "s")) as listener:
        owner = Owner(model)
        monkeypatch.setattr(owner._loop, "_pass", lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            owner.serve(listener)


# Pipes.


SERVE = [sys.executable, "-m", "hotbank", "-m", "model:arm-2009", "serve", "--stdio"]


@pytest.mark.parametrize("asks", [SLEEP, "order"], ids=["a sleep", "an order"])
def test_an_owner_on_pipes_ends_quietly_after_its_client(asks: Any) -> None:
    """At once when it only sleeps for it, and when the order is over otherwise."""
    if asks == "order":
        limits = Limits(total=20, block=20, grace=5)
        asks = {"id": 1, "call": "owner.order", "args": {"order": encode(Order("remove", ("high",), limits))}}
    with subprocess.Popen(SERVE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdin.write(json.dumps(asks).encode() + b"\n")
        process.stdin.close()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(HANG) == 0


def test_a_client_behind_a_go_between_is_gone_for_the_owner_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """``serve --stdio`` beside a ``serve``: its pipes close, and the sleep at the owner ends."""
    monkeypatch.setattr(door, "_FOR_A_READER", 1)
    lines, (mine, its_in), (its_out, my_in) = house.connect(ANNA), os.pipe(), os.pipe()
    between = threading.Thread(target=local.hand_on, args=(house.inside[-1], its_out, its_in))
    between.start()
    os.write(my_in, json.dumps(SLEEP).encode() + b"\n")
    assert b"hotbank" in os.read(mine, 1 << 16)
    assert not house.comes_in(ANNA)
    os.close(my_in)
    os.close(mine)
    ended(between)
    until(lambda: house.comes_in(ANNA), "a free place")
    lines.close()
    os.close(its_out)
    os.close(its_in)


# A worker that does not move.


def held(house: House) -> None:
    """The bank's pages are under writeback that does not end: not even a signal gets an offline off them."""
    house.model.write_file("disk", 3000)
    house.model.stall_writeback("disk", 3000)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_worker_that_is_lost_while_the_kernel_holds_a_block(
    house: House, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends in CANCEL_PENDING with the power on, and is settled when the kernel lets go."""
    held(house)
    before = [(b.number, b.state, b.valid_zones) for b in house.model.snapshot().blocks]
    limits = (
        Limits(total=promised(3), block=promised(3)) if number == signal.SIGSTOP else Limits(total=HANG, block=HANG)
    )
    with house.client() as client, house.client() as other:
        running = Running(client, limits)
        assert running.offlining.wait(HANG)
        until(lambda: _is_stuck(other), "a block that the kernel holds")
        lost = worker_of(other)
        os.kill(lost, number)
        monkeypatch.setattr(watchdog, "LOOKS", 2)
        outcome = running.end()
        assert (outcome.code, outcome.exit, outcome.open) == (Code.CANCEL_PENDING, 1, True)
        assert gone(lost)
        assert house.model.power("ddr-high") is Power.ON
        with pytest.raises(Refusal, match="is not finished"):
            serve.remove(other, "high")
        house.model.end_writeback("disk")
        until(lambda: serve.history(other)[-1].code is not None, "its settling")
        assert [(b.number, b.state, b.valid_zones) for b in house.model.snapshot().blocks] == before
        until(lambda: _removed(other), "the next one's turn")


def _is_stuck(client: Remote) -> bool:
    """The same block for so long that all else must have left it."""
    looks = set[tuple[int, ...]]()
    for _ in range(10):
        looks.add(tuple(b.number for b in client.snapshot().blocks if b.state is BlockState.GOING_OFFLINE))
        time.sleep(0.05)
    return len(looks) == 1 and looks != {()}


def _removed(client: Remote) -> bool:
    try:
        outcome: Outcome = serve.remove(client, "high")
    except HotbankError:
        return False
    return outcome.kernel is KernelState.ABSENT


def test_a_worker_that_waits_for_its_owner_is_not_blamed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """An offline may take as long as its deadline allows."""
    pid = house.model.spawn("pinner", anon_pages=64)
    block = next(b.number for b in house.model.snapshot().blocks if house.model.place(pid, b.number))
    house.model.pin(pid, house.model.place(pid, block)[0])
    offlined = list[int]()

    def offline(block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        offlined.append(block)
        with monkeypatch.context() as strict:
            strict.setattr(watchdog, "LOOKS", 2)
            strict.setattr(watchdog, "_LOOK_EVERY", 0.1)
            Model.offline(house.model, block, deadline, spare=spare, fence=fence)

    house.model.offline = offline  # type: ignore[method-assign]
    with house.client() as client:
        assert Running(client, Limits(promised(3), promised(3))).end().code is Code.DEADLINE
    assert offlined


class Overtaken(FileStream):
    """A stream that somebody else closes just before it is written to."""

    def write_some(self, data: memoryview) -> int:
        self.close()
        return FileStream.write_some(self, data)


def test_a_stream_that_is_closed_between_a_look_and_a_word_ends_its_line_alone(model: Model) -> None:
    owner = Owner(model)
    ours, theirs = socket.socketpair()
    over = owner.take(Overtaken(theirs.makefile("rb"), theirs.makefile("wb")))
    with local.attached(owner) as another:
        assert over.wait(HANG)
        assert another.snapshot().machine
    ours.close()
    theirs.close()


@pytest.mark.parametrize("in_pipes", [False, True])
def test_a_stream_that_is_closed_under_its_line_ends_that_line_alone(model: Model, in_pipes: bool) -> None:
    owner = Owner(model)
    ours, theirs = socket.socketpair()
    stream: SocketStream | FileStream = SocketStream(theirs)
    if in_pipes:
        stream = FileStream(theirs.makefile("rb"), theirs.makefile("wb"))
    over = owner.take(stream)
    another = local.attached(owner)
    stream.close()
    assert another.snapshot().machine  # which wakes the loop, too
    assert over.wait(HANG)
    another.close()
    ours.close()
    theirs.close()
