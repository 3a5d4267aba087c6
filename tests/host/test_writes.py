# SPDX-License-Identifier: Apache-2.0
"""Writes to a block's state: in trees of plain files only, with a file lease in the part of a kernel that hangs.

A write lease makes an open for writing wait in the kernel until the holder lets go, while reading goes on: just
what an offline that never returns looks like from outside.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from host import captured_trees as trees
from host.captured_trees import MEMORY, Made, MadeBlock, write
from hotbank import board as boards
from hotbank import serve
from hotbank.errors import CancelPending, Code, KernelError, Refusal
from hotbank.host import Host, writer
from hotbank.host.forking import write as write_once
from hotbank.host.writer import Waited, Writer, Writers
from hotbank.machine import WallClock, ZoneInfo
from hotbank.memory import BlockState, Online, Power
from hotbank.operate.power import darken
from hotbank.serve import local
from kernel.kernel_kit import children_of
from patience import HANG, ended, promised, until

BOARD = """
name = "x86"
block_size = "128M"
[bank.spare]
start = 0x50000000
size = "256M"
movable = true
at_boot = false
route = "probe"
[bank.other]
start = 0x60000000
size = "128M"
at_boot = false
route = "virtio-mem"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Made((MadeBlock(8), MadeBlock(9), MadeBlock(10, "offline", "Movable Normal"))).at(tmp_path)


@contextmanager
def hanging(path: Path) -> Iterator[int]:
    """Whoever opens the file for writing waits until the block ends; readers do not."""
    old = signal.signal(signal.SIGIO, signal.SIG_IGN)
    file = os.open(path, os.O_RDONLY)
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    try:
        yield file
    finally:
        os.close(file)
        signal.signal(signal.SIGIO, old)


def state(root: Path, block: int) -> str:
    return (root / MEMORY / f"memory{block}/state").read_text()


def test_the_words_reach_the_file(root: Path) -> None:
    host = Host(root)
    host.offline(8, host.clock.now() + 10)
    assert state(root, 8) == "offline"
    host.online(10, Online.MOVABLE)
    assert state(root, 10) == "online_movable"
    assert state(root, 9) == "online\n"


@pytest.mark.parametrize("block", [7, 11, 12345])
def test_no_such_block(root: Path, block: int) -> None:
    host = Host(root)
    with pytest.raises(Refusal, match=f"no block memory{block}"):
        host.offline(block, host.clock.now() + 1)


def test_the_errno_of_the_write(root: Path) -> None:
    host, path = Host(root), root / MEMORY / "memory9/state"
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(KernelError, match=r"online_movable of memory9: ENOSPC"):
        host.online(9, Online.MOVABLE)


def test_a_deadline_gives_the_block_back(root: Path) -> None:
    host = Host(root)
    with hanging(root / MEMORY / "memory8/state"):
        started = time.monotonic()
        with pytest.raises(KernelError, match=r"EINTR.*back online") as e:
            host.offline(8, host.clock.now() + 0.3)
        assert time.monotonic() - started < 0.3 + promised(1)
        assert not isinstance(e.value, CancelPending)
        assert e.value.errno == errno.EINTR
    assert state(root, 8) == "online\n"
    assert host.snapshot().pending is None


def test_a_kernel_that_does_not_let_go(root: Path) -> None:
    host = Host(root)
    path = root / MEMORY / "memory8/state"
    path.write_text("going-offline\n")
    with hanging(path):
        started = time.monotonic()
        with pytest.raises(CancelPending):
            host.offline(8, host.clock.now() + 0.2)
        assert time.monotonic() - started < 0.2 + promised(1)
        assert host.snapshot().pending == 8
    path.write_text("online\n")
    assert host.snapshot().pending is None


def test_an_offline_that_wins_the_race_with_its_deadline(root: Path) -> None:
    """The block went offline, and only the writer that was to tell so has been ended."""
    host = Host(root)
    path = root / MEMORY / "memory8/state"
    with hanging(path):
        swap = threading.Timer(0.1, lambda: _replace(path, "offline\n"))
        swap.start()
        host.offline(8, host.clock.now() + 2)
        swap.join()
    assert host.snapshot().blocks[0].state is BlockState.OFFLINE


def _replace(path: Path, text: str) -> None:
    """Change what readers see without opening the leased file for writing."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def test_reads_stay_instant_while_an_offline_hangs(root: Path) -> None:
    host = Host(root)
    with hanging(root / MEMORY / "memory8/state"):
        errors, deadline = list[KernelError](), host.clock.now() + HANG

        def attempt() -> None:
            try:
                host.offline(8, deadline)
            except KernelError as e:
                errors.append(e)

        thread = threading.Thread(target=attempt)
        thread.start()
        until(lambda: any(map(_sleeps_in_open, _writers())), "a writer that hangs")
        for _ in range(20):
            host.snapshot()
        assert thread.is_alive()
        host.interrupt(8, deadline)
        ended(thread)
        assert [e.errno for e in errors] == [errno.EINTR]


_PARENT = """
import os, sys, time
from hotbank.host.writer import Waited, Writers
writer = Writers().write(sys.argv[1], "offline")
print(writer.pid, flush=True)
time.sleep(3600)
"""


def test_the_writer_dies_with_its_parent(root: Path) -> None:
    path = root / MEMORY / "memory8/state"
    with hanging(path):
        parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(path)], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        writer = int(parent.stdout.readline())
        until(lambda: "break" in _lock_holders(writer) or _sleeps_in_open(writer))
        parent.kill()
        parent.wait()
        parent.stdout.close()
        until(lambda: not _alive(writer))
    assert state(root, 8) == "online\n"


_OWNER = """
import sys, time
from hotbank.host.writer import Writers
writers = Writers()
writers.keep(int(sys.argv[2]))
print(writers.write(sys.argv[1], "offline").errno, flush=True)
time.sleep(3600)
"""


def test_a_helper_that_is_stopped_keeps_no_lock_of_an_owner_that_was_killed(root: Path, tmp_path: Path) -> None:
    lock, again = (os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR) for _ in range(2))
    fcntl.flock(lock, fcntl.LOCK_EX)
    argv = [sys.executable, "-c", _OWNER, str(root / MEMORY / "memory8/state"), str(lock)]
    owner = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, pass_fds=[lock])
    os.close(lock)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "0\n"
    (helper,) = children_of(owner.pid)
    os.kill(helper, signal.SIGSTOP)
    with pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    owner.kill()
    owner.communicate()
    until(lambda: not _alive(helper))
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again)


def test_a_helper_outlives_the_thread_that_needed_it_first(root: Path) -> None:
    """Orders have threads of their own; one after the other is not to start an interpreter."""
    host, before = Host(root), _children()
    for number in (8, 9):
        thread = threading.Thread(target=host.offline, args=(number, host.clock.now() + HANG))
        thread.start()
        ended(thread)
        (helper,) = _children() - before
        assert _alive(helper)
    assert len(_children() - before) == 1


def _writers() -> list[int]:
    """Children of the process that makes them (hotbank.host.writer)."""
    return [writer for maker in children_of(os.getpid()) for writer in children_of(maker)]


def _lock_holders(pid: int) -> str:
    return Path("/proc/locks").read_text().lower() if _alive(pid) else ""


def _sleeps_in_open(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/wchan").read_text().startswith("__break_lease")
    except OSError:
        return False


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_cancelled_writer_is_interrupted(root: Path) -> None:
    path = root / MEMORY / "memory8/state"
    with hanging(path):
        writer = Writers().write(str(path), "offline")
        assert not writer.wait(WallClock(), time.monotonic() + 0.2)
        writer.cancel()
        assert writer.wait(WallClock(), time.monotonic() + HANG)
        assert writer.errno == errno.EINTR


def test_a_write_is_left_alone_until_it_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one CPU, each look takes some of it from the write."""
    looks = Counter[str]()
    pending = vars(Writer)["pending"].fget
    monkeypatch.setattr(Writer, "pending", property(lambda one: looks.update(["at it"]) or pending(one)))
    with hanging(root / MEMORY / "memory8/state"):
        writer = Writers().write(str(root / MEMORY / "memory8/state"), "offline")
        assert not writer.wait(WallClock(), time.monotonic() + 0.5)
        writer.cancel()
        assert writer.wait(WallClock(), time.monotonic() + HANG)
    assert looks["at it"] <= 6


def test_two_hosts_share_no_fate(root: Path, tmp_path: Path) -> None:
    """What one holds open the other does not, and a helper that ends takes only its own writers along."""
    other = Made((MadeBlock(8),)).at(tmp_path / "other")
    lock = os.open(tmp_path, os.O_RDONLY)
    one, two = Host(root), Host(other)
    two.writers.keep(lock)
    assert (one.writers.kept, two.writers.kept) == ((), (lock,))
    with hanging(root / MEMORY / "memory8/state"):
        writer = one.writers.write(str(root / MEMORY / "memory8/state"), "offline")
        two.offline(8, two.clock.now() + 10)
        two.writers.close()
        assert writer.pending
        one.writers.close()
        until(lambda: not writer.pending)
    assert (state(root, 8), state(other, 8)) == ("online\n", "offline")
    os.close(lock)


def test_a_helper_that_was_ended_is_started_again(root: Path) -> None:
    host, before = Host(root), _children()
    host.offline(8, host.clock.now() + 10)
    (helper,) = _children() - before
    os.kill(helper, signal.SIGKILL)
    host.online(8, Online.MOVABLE)
    assert state(root, 8) == "online_movable"


def test_a_helper_that_is_stopped_is_ended_and_so_is_its_write(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_ENDS", 0.1)
    host, path, before = Host(root), str(root / MEMORY / "memory9/state"), _children()
    assert host.writers.write(path, "online").errno == 0
    (helper,) = _children() - before
    os.kill(helper, signal.SIGSTOP)
    _gives_up(host.writers, 0.2)
    assert host.writers.write(path, "offline").errno == errno.EINTR
    assert state(root, 9) == "online"
    assert not _alive(helper)
    assert host.writers.write(path, "offline").errno == 0
    host.writers.close()


def _gives_up(writers: Writers, seconds: float) -> None:
    """On the helper that is there; the next one has time to start."""
    assert writers._helper._requests is not None
    assert writers._helper._requests.gettimeout() == writer._ANSWERS
    writers._helper._requests.settimeout(seconds)


def test_a_stopped_helper_does_not_outlive_its_host(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_ENDS", 0.1)
    host, before = Host(root), _children()
    host.online(9, Online.MOVABLE)
    (helper,) = _children() - before
    os.kill(helper, signal.SIGSTOP)
    host.writers.close()
    assert not _alive(helper)


@contextmanager
def many_descriptors() -> Iterator[None]:
    """So many are open that the next one is beyond what select(2) knows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while stack.enter_context(open(os.devnull, "rb")).fileno() < 1024:
            pass
        yield


def test_a_process_with_many_descriptors_writes_as_well(root: Path) -> None:
    host = Host(root)
    with many_descriptors():
        host.offline(9, host.clock.now() + HANG)
        with hanging(root / MEMORY / "memory8/state"), pytest.raises(KernelError, match="EINTR"):
            host.offline(8, host.clock.now() + 0.1)
        host.writers.close()
    assert state(root, 9) == "offline"


class Asked(Waited):
    """Held in the kernel; ``then``: what happens elsewhere while it is asked."""

    errno = 0

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.blocks, self._then = {9}, then

    @property
    def pending(self) -> bool:
        other = threading.Thread(target=self._then)
        other.start()
        time.sleep(0.2)
        return True

    def listen(self, seconds: float | None) -> None:
        """It says nothing."""

    def cancel(self) -> None:
        """It stays."""


def test_what_is_held_is_not_forgotten_by_who_looks_at_that_moment(root: Path) -> None:
    host, late = Host(root), Asked()
    host._hold(Asked(lambda: host._hold(late)))
    host.snapshot()
    until(lambda: late in host._held)


def _children() -> set[int]:
    return set(children_of(os.getpid()))


SWITCHED = """
name = "b"
block_size = "128M"
[bank.high]
start = 0x60000000
size = "256M"
at_boot = false
route = "driver"
domain = "ddr"
[domain.ddr]
states = ["on", "off"]
switch = "machine"
"""


class Rail:
    """A switch that is where it was told."""

    level = Power.ON

    def status(self) -> Power:
        return self.level

    def turn(self, want: Power) -> None:
        self.level = want


def test_what_the_kernel_may_still_add_keeps_its_power(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock is somebody else's for long, and no signal ends a wait for it."""
    monkeypatch.setattr("hotbank.host.machine.PATIENCE", 0.1)
    monkeypatch.setattr("hotbank.host.machine.SETTLE", 0.1)
    monkeypatch.setattr(writer.Writer, "cancel", lambda _: None)
    driver, rail = "sys/class/hotbank/high", Rail()
    write(root, {f"{driver}/range": "0x60000000-0x6fffffff\n", f"{driver}/state": "absent\n"})
    host = Host(root, boards.loads(SWITCHED), switches={"ddr": rail})
    with hanging(root / driver / "state"):
        with pytest.raises(CancelPending, match="the kernel has not let go"):
            host.add("high")
        assert host.snapshot().pending == 12
        with pytest.raises(KernelError, match=r"EBUSY.*memory12 in the kernel"):
            host.set_power("ddr", Power.OFF)
        with pytest.raises(Refusal, match="memory12"):
            darken(host, "ddr", Power.OFF)
    until(lambda: host.snapshot().pending is None)
    assert rail.status() is Power.ON
    host.set_power("ddr", Power.OFF)
    assert rail.status() is Power.OFF


def test_what_the_kernel_may_still_bring_online_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotbank.host.machine.PATIENCE", 0.1)
    monkeypatch.setattr("hotbank.host.machine.SETTLE", 0.1)
    monkeypatch.setattr(writer.Writer, "cancel", lambda _: None)
    host = Host(root)
    with hanging(root / MEMORY / "memory10/state"):
        with pytest.raises(CancelPending, match="the kernel has not let go"):
            host.online(10, Online.MOVABLE)
        assert host.snapshot().pending == 10
    until(lambda: state(root, 10) == "online_movable", "what was written late")
    write(root, {f"{MEMORY}/memory10/state": "online\n"})
    until(lambda: host.snapshot().pending is None)


def test_nor_does_another_command_take_its_power(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gave the write up may be gone by then; the transaction is open until the kernel has answered."""
    monkeypatch.setattr("hotbank.host.machine.PATIENCE", 0.1)
    monkeypatch.setattr("hotbank.host.machine.SETTLE", 0.1)
    monkeypatch.setattr(writer.Writer, "cancel", lambda _: None)
    driver, rail = "sys/class/hotbank/high", Rail()
    write(root, {f"{driver}/range": "0x60000000-0x6fffffff\n", f"{driver}/state": "absent\n"})
    one, another = (
        local.owner_of(Host(root, boards.loads(SWITCHED), switches={"ddr": rail}), tmp_path) for _ in range(2)
    )
    with local.attached(one) as client:
        with hanging(root / driver / "state"):
            outcome = serve.add(client, "high")
            assert (outcome.code, outcome.open) == (Code.CANCEL_PENDING, True)
            with local.attached(another) as other, pytest.raises(Refusal, match=r"add high of pid .* is not finished"):
                serve.power(other, "ddr", Power.OFF)
            assert rail.status() is Power.ON
        until(lambda: serve.history(client)[-1].code is not None, "its settling")
    with local.attached(another) as other:
        assert serve.power(other, "ddr", Power.OFF).exit == 0


def test_one_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("something longer")
    assert write_once(os.fsencode(path), b"off") == 0
    assert path.read_text() == "off"
    assert write_once(os.fsencode(tmp_path / "none"), b"off") == errno.ENOENT
    assert write_once(b"/dev/full", b"off") == errno.ENOSPC


def test_probe_gets_the_address_of_each_missing_block(root: Path) -> None:
    write(root, {f"{MEMORY}/probe": ""})
    written: list[str] = []

    class Watched(Host):
        """Notes what reaches ``probe``, where the kernel would make a block of it."""

        def _write(self, name: str, word: str, what: str) -> None:
            super()._write(name, word, what)
            written.append((root / MEMORY / "probe").read_text())

    host = Watched(root, boards.loads(BOARD))
    host.add("spare")
    assert written == ["0x58000000"]  # memory10 is there already
    for call in (host.remove, host.add):
        with pytest.raises(KernelError) as e:
            call("other")
        assert e.value.errno == errno.EOPNOTSUPP
    with pytest.raises(Refusal, match="no bank nothing"):
        host.add("nothing")


def test_a_bank_without_a_route(root: Path) -> None:
    with pytest.raises(KernelError, match="the bank has no route"):
        Host(root).remove("memory8")
    with pytest.raises(Refusal):
        Host(root).remove("memory77")


def test_no_test_points_a_writer_at_this_host() -> None:
    """Every Host made in this file has a root of its own."""
    text = Path(__file__).read_text()
    assert "Host()" not in text.replace('"Host()"', "")
    assert trees.MEMORY == MEMORY


ZONES = (ZoneInfo(0, "Normal", 0, 60000, 60000, 60000, free=500, min=100, high=150),)


def test_a_primitive_asks_the_kernel_whatever_room_there_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it must not be begun is for the transaction to say (operate/capacity.py)."""
    monkeypatch.setattr("hotbank.host.tree.zones", lambda _: ())
    host = Host(root)
    host.offline(8, host.clock.now() + 10, spare=1000)
    assert state(root, 8) == "offline"


@pytest.mark.parametrize(("spare", "ended"), [(401, True), (400, False), (0, False)])
def test_an_offline_ends_when_less_than_the_spare_is_left(
    spare: int, ended: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a reason of its own, since no kernel said ENOMEM."""
    monkeypatch.setattr("hotbank.host.tree.zones", lambda _: ZONES)
    host = Host(root)
    with hanging(root / MEMORY / "memory8/state"), pytest.raises((Refusal, KernelError), match="back online") as caught:
        host.offline(8, host.clock.now() + (HANG if ended else 0.5), spare=spare)
    assert caught.value.code is (Code.NO_CAPACITY if ended else Code.KERNEL_REFUSED)
    assert state(root, 8) == "online\n"
    assert host.snapshot().pending is None


def test_a_look_that_takes_long_is_a_tenth_of_the_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look takes as much of an only CPU from what moves; ten of them would fit into that second."""
    looks: list[float] = []

    def zones(_: object) -> tuple[ZoneInfo, ...]:
        time.sleep(0.05)
        looks.append(time.monotonic())
        return ZONES

    monkeypatch.setattr("hotbank.host.tree.zones", zones)
    host = Host(root)
    host.offline(9, host.clock.now() + HANG)  # whoever writes is there from now on
    with hanging(root / MEMORY / "memory8/state"), pytest.raises(KernelError):
        host.offline(8, host.clock.now() + 1.0, spare=400)
    assert 1 <= len(looks) <= 3


def test_pages_of_a_kernel_zone_are_not_helped_by_what_is_free_in_movable(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotbank.host.tree.zones", lambda _: (*ZONES, replace(ZONES[0], zone="Movable", free=60000)))
    host, file = Host(root), root / MEMORY / "memory8/valid_zones"
    for origin, code in (("Normal", Code.NO_CAPACITY), ("Movable", Code.KERNEL_REFUSED)):
        file.write_text(origin + "\n")
        with hanging(root / MEMORY / "memory8/state"), pytest.raises((Refusal, KernelError)) as caught:
            host.offline(8, host.clock.now() + (HANG if code is Code.NO_CAPACITY else 0.5), spare=401)
        assert caught.value.code is code
