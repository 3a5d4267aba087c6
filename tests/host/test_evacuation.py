# SPDX-License-Identifier: Apache-2.0
"""Blocks emptied together by our driver before they go offline: who holds them, and until when.

The driver is /dev/null here, which takes every range; a folder, which refuses; and a file whose opening hangs.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.captured_trees import MEMORY, Made, MadeBlock
from host.test_writes import hanging, state
from hotbank import board as boards
from hotbank.errors import CancelPending, KernelError
from hotbank.host import Host
from hotbank.host.evacuation import Evacuation, shares
from hotbank.memory import MIB, Online, Range
from kernel.kernel_kit import alive, children_of
from patience import promised, until

BOARD = """
name = "b"
block_size = "128M"
[bank.high]
start = 0x40000000
size = "384M"
movable = true
at_boot = false
route = "driver"
"""
BLOCKS = (8, 9, 10)
SIZE = 128 * MIB


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dev/hotbank").mkdir(parents=True)
    return Made(tuple(MadeBlock(n, zones="Movable") for n in BLOCKS)).at(tmp_path)


@pytest.fixture
def host(root: Path) -> Iterator[Host]:
    made = Host(root, boards.loads(BOARD))
    yield made
    made.writers.close()


def driver_is(root: Path, device: str) -> None:
    (root / "dev/hotbank/high").symlink_to(device)


def holders() -> list[int]:
    """Processes of ours that hold something."""
    found = []
    for pid in children_of(os.getpid()):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        found += [pid] if any(word.endswith(b"evacuating.py") for word in words) else []
    return found


def test_what_is_held_is_held_until_the_last_block_is_out(root: Path, host: Host) -> None:
    driver_is(root, "/dev/null")
    host.offline(8, host.clock.now() + 10, fence=(9, 10))
    (holder,) = holders()
    host.offline(9, host.clock.now() + 10)
    assert holders() == [holder]
    host.offline(10, host.clock.now() + 10)
    assert holders() == []
    assert [state(root, n) for n in BLOCKS] == ["offline"] * 3


SECOND = """
[bank.higher]
start = 0x50000000
size = "128M"
movable = true
at_boot = false
route = "driver"
"""


def asked_of(holder: int) -> set[str]:
    """Names of the files that it was given ranges of."""
    words = Path(f"/proc/{holder}/cmdline").read_bytes().decode().split("\0")
    return {Path(word.rpartition(":")[0]).name for word in words if ":0x" in word}


@pytest.mark.parametrize("refuses", [False, True])
def test_two_banks_are_held_by_one(root: Path, refuses: bool) -> None:
    """Each by its own file. Where that of one can't be opened, the other's is held all the same."""
    host = Host(root, boards.loads(BOARD.replace("384M", "256M") + SECOND))
    driver_is(root, "/dev/null")
    higher = root / "dev/hotbank/higher"
    higher.mkdir() if refuses else higher.symlink_to("/dev/null")
    host.offline(8, host.clock.now() + 10, fence=(9, 10))
    (holder,) = holders()
    assert asked_of(holder) == {"high", "higher"}
    host.offline(9, host.clock.now() + 10)
    assert holders() == [holder]
    host.offline(10, host.clock.now() + 10)
    assert holders() == []
    host.writers.close()


def test_a_bank_that_nobody_can_hold_is_left_out(root: Path) -> None:
    host = Host(root, boards.loads(BOARD.replace("384M", "256M") + SECOND))
    driver_is(root, "/dev/null")
    host.offline(8, host.clock.now() + 10, fence=(9, 10))
    assert asked_of(*holders()) == {"high"}
    host.offline(9, host.clock.now() + 10)
    assert holders() == []
    host.writers.close()


def test_a_block_that_comes_online_ends_it(root: Path, host: Host) -> None:
    driver_is(root, "/dev/null")
    host.offline(8, host.clock.now() + 10, fence=(9, 10))
    assert len(holders()) == 1
    host.online(8, Online.MOVABLE)
    assert holders() == []


def test_an_offline_that_fails_ends_it(root: Path, host: Host) -> None:
    driver_is(root, "/dev/null")
    host.offline(8, host.clock.now() + 10, fence=(9, 10))
    with hanging(root / MEMORY / "memory9/state"), pytest.raises(KernelError, match="EINTR"):
        host.offline(9, host.clock.now() + 0.2)
    assert holders() == []


def test_without_a_fence_the_blocks_go_all_the_same(root: Path, host: Host) -> None:
    (root / "dev/hotbank/high").mkdir()
    host.offline(8, host.clock.now() + 10, fence=(9, 10))
    host.offline(9, host.clock.now() + 10)
    host.offline(10, host.clock.now() + 10)
    assert holders() == []
    assert [state(root, n) for n in BLOCKS] == ["offline"] * 3


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EBUSY, 0), (errno.EPERM, 0), (-9, 0), (errno.ENOMEM, errno.ENOMEM)]
)
def test_what_stays_is_for_the_offline_to_say(number: int, said: int) -> None:
    held = object.__new__(Evacuation)
    held._cancelled = False
    held._said = f"0x0-0x1 0\n0x2-0x3 {number}\nstuck 0x2-0x3\n\n".encode()
    assert held.errno == said


def test_without_the_driver_the_block_goes_by_itself(root: Path, host: Host) -> None:
    host.offline(8, host.clock.now() + 10, fence=(9, 10))
    assert holders() == []
    assert state(root, 8) == "offline"


def test_a_deadline_ends_it(root: Path, host: Host) -> None:
    file = root / "dev/hotbank/high"
    file.write_text("")
    with hanging(file):
        began = time.monotonic()
        with pytest.raises(KernelError, match=r"EINTR.*back online"):
            host.offline(8, host.clock.now() + 0.3, fence=(9, 10))
        assert time.monotonic() - began < 0.3 + promised(1)
    assert holders() == []
    assert state(root, 8) == "online\n"


@given(st.sets(st.integers(0, 40), min_size=1), st.integers(1, 9), st.integers(0, 40))
def test_shares_are_all_of_it_once(numbers: set[int], workers: int, border: int) -> None:
    """Each of one bank's file; the second bank begins at the border."""
    spans = [(Range.sized(n * SIZE, SIZE), "second" if n >= border else "first") for n in sorted(numbers)]
    parts = shares(spans, workers)
    found = [(n, path) for part, path in parts for n in range(part.start // SIZE, part.end // SIZE)]
    assert found == [(span.start // SIZE, path) for span, path in spans]
    largest = -(-len(numbers) // workers)
    assert all(part.size <= largest * SIZE for part, _ in parts)
    gaps = sum(b - a > 1 or b == border for a, b in pairwise(sorted(numbers)))
    assert len(parts) <= workers + gaps


def test_a_process_too_many_is_done_without(root: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    driver_is(root, "/dev/null")

    def none(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    host.writers.write(os.devnull, "")  # its own process is there by then
    with monkeypatch.context() as patch:
        patch.setattr("hotbank.host.evacuation.subprocess.Popen", none)
        host.offline(8, host.clock.now() + 10, fence=(9, 10))
    assert holders() == []
    assert state(root, 8) == "offline"


def test_what_is_held_no_more_is_taken_anew(root: Path, host: Host) -> None:
    driver_is(root, "/dev/null")
    host.offline(8, host.clock.now() + 10, fence=(9, 10))
    (holder,) = holders()
    os.kill(holder, signal.SIGKILL)
    until(lambda: not alive(holder), "its end, with all that it had open")
    host.offline(9, host.clock.now() + 10, fence=(10,))
    (other,) = holders()
    assert other != holder
    host.offline(10, host.clock.now() + 10)
    assert holders() == []


_STUBBORN = """
import os, sys, time
test = os.getppid()
if os.fork() == 0:
    while os.path.exists(f"/proc/{test}") and not os.path.exists(sys.argv[2].rpartition(":")[0] + ".enough"):
        time.sleep(0.01)
    os._exit(0)
time.sleep(3600)
"""


def test_a_kernel_that_does_not_let_go_is_pending(
    root: Path, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that does not end with the one that was killed is what the kernel works for; with the test it does."""
    (tmp_path / "stubborn.py").write_text(_STUBBORN)
    monkeypatch.setattr("hotbank.host.evacuating.__file__", str(tmp_path / "stubborn.py"))
    file = root / "dev/hotbank/high"
    file.touch()
    began, within = time.monotonic(), promised(1)  # second until that process is there
    with pytest.raises(CancelPending):
        host.offline(8, host.clock.now() + within, fence=(9, 10))
    assert time.monotonic() - began < within + promised(1)
    assert host.snapshot().pending == 8
    file.with_name("high.enough").touch()
    until(lambda: host.snapshot().pending is None)


def test_who_frees_for_long_keeps_nobody_waiting(root: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed has ended when all that it held is freed; here it is killed late."""
    driver_is(root, "/dev/null")
    host.offline(8, host.clock.now() + 10, fence=(9, 10))
    (holder,) = holders()
    os.kill(holder, signal.SIGSTOP)
    with monkeypatch.context() as slow:
        slow.setattr("subprocess.Popen.send_signal", lambda *_: None)
        slow.setattr("hotbank.host.evacuation._MOMENT", 0.1)
        began = time.monotonic()
        host.online(8, Online.MOVABLE)
        assert time.monotonic() - began < promised(1)
        (root / MEMORY / "memory8/state").write_text("online\n")
        assert host.snapshot().pending == 9
    os.kill(holder, signal.SIGKILL)
    until(lambda: host.snapshot().pending is None)


_OWNER = """
import sys
from hotbank import board as boards
from hotbank.host import Host
host = Host(sys.argv[1], boards.loads(sys.argv[2]))
host.writers.keep(int(sys.argv[3]))
host.offline(8, host.clock.now() + 3600, fence=(9, 10))
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_it_dies_with_who_began_it_and_nobody_takes_over_before(root: Path, tmp_path: Path, stopped: bool) -> None:
    """The driver is a full pipe, in which every write waits."""
    os.mkfifo(root / "dev/hotbank/high")
    pipe = os.open(root / "dev/hotbank/high", os.O_RDWR | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b"x" * 4096)
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(root), BOARD, str(lock)], pass_fds=[lock])
    os.close(lock)
    until(lambda: len(_evacuating(root)) > 1, "one that holds the file and one that writes")
    assert all(_holds(pid, tmp_path / "lock") for pid in _evacuating(root))
    for pid in _evacuating(root) if stopped else []:
        os.kill(pid, signal.SIGSTOP)
    owner.kill()
    owner.wait()
    until(lambda: not _evacuating(root), "their end")
    os.close(pipe)


def _evacuating(root: Path) -> list[int]:
    """Processes that evacuate below that root, whoever started them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes()
            ours = b"evacuating.py\0" in words and os.fsencode(root / "dev/hotbank/high") + b":" in words
            found += [int(process.name)] if ours else []
    return found


def _holds(pid: int, path: Path) -> bool:
    return any(os.readlink(file) == str(path) for file in Path(f"/proc/{pid}/fd").iterdir())
