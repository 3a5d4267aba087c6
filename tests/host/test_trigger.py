# SPDX-License-Identifier: Apache-2.0
"""The kernel's word that tasks wait for memory, and a governor's rest that it ends. Urgent data on a socket make it
ready as a trigger becomes: poll(2), POLLPRI."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotbank.host import trigger
from hotbank.host.trigger import Trigger
from hotbank.serve.rest import Rest
from patience import HANG


@pytest.fixture
def fired() -> Iterator[tuple[socket.socket, Trigger]]:
    """What fires it, and it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
        with here, there:
            yield here, Trigger(there.fileno())


def test_pressure_ends_a_rest_at_once_and_is_told_once(fired: tuple[socket.socket, Trigger]) -> None:
    fire, found = fired
    rest = Rest(found)
    assert not rest.sleep(0)
    assert not rest.pressed()
    fire.send(b"!", socket.MSG_OOB)
    assert not rest.sleep(HANG)
    assert (rest.pressed(), rest.pressed()) == (True, False)
    rest.end()


def test_a_trigger_that_breaks_is_not_listened_to_again(fired: tuple[socket.socket, Trigger]) -> None:
    fire, found = fired
    rest = Rest(found)
    fire.shutdown(socket.SHUT_RDWR)
    with socket.socket(fileno=os.dup(found.fileno())) as other:
        other.shutdown(socket.SHUT_RDWR)  # both ways: POLLHUP
    rest.sleep(HANG)
    assert not rest.pressed()
    assert not rest.sleep(0.01), "it waits its time again"
    rest.end()


def test_who_rests_is_told_to_end_by_another_thread() -> None:
    rest, ended = Rest(), []
    thread = threading.Thread(target=lambda: ended.append(rest.sleep(HANG)))
    thread.start()
    rest.end()
    thread.join(HANG)
    assert ended == [True]
    assert rest.sleep(HANG)


@pytest.mark.parametrize("seconds", [2.2e6, 1e300])
def test_a_rest_may_be_longer_than_the_kernel_waits(seconds: float) -> None:
    rest = Rest()
    rest.end()
    assert rest.sleep(seconds)


def test_the_words_are_the_kernels(tmp_path: Path) -> None:
    """A tenth of a window, in microseconds, up to a NUL: Documentation/accounting/psi.rst."""
    file = tmp_path / "memory"
    file.touch()
    found = Trigger.of(str(file))
    assert found is not None
    found.close()
    assert file.read_bytes() == b"some 100000 1000000\0"


def test_where_only_windows_of_two_seconds_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of who has no CAP_SYS_RESOURCE."""
    asked: list[float] = []

    def opened(path: str, window: float) -> int:
        asked.append(window)
        if window % 2:
            raise OSError(22, "Invalid argument")
        return os.open("/dev/null", os.O_RDONLY)

    monkeypatch.setattr(trigger, "_open", opened)
    found = Trigger.of()
    assert found is not None
    assert asked == [1.0, 2.0]
    found.close()


@pytest.mark.parametrize("path", ["/gone/pressure/memory", "/proc/self/status"])
def test_where_nothing_is_taken_nothing_is_there(path: str) -> None:
    assert Trigger.of(path) is None


def test_this_kernel_takes_it() -> None:
    """Where it counts pressure and this user may say so."""
    if not os.access("/proc/pressure/memory", os.W_OK):
        assert Trigger.of() is None
        return
    found = Trigger.of()
    if found is not None:
        poll = select.poll()
        poll.register(found.fileno(), select.POLLPRI)
        assert poll.poll(0) in ([], [(found.fileno(), select.POLLPRI)])
        found.close()
