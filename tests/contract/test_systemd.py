# SPDX-License-Identifier: Apache-2.0
"""What systemd hands over and is told, by the protocol's other side: the test opens the socket, and hears READY=1."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hotbank.errors import MachineError
from hotbank.remote import Remote
from hotbank.serve import systemd

_START = 'export LISTEN_PID=$$; exec "$@"'  # what is started knows its number only then
_PATIENCE = 60.0  # seconds: only a hang takes as long


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket"))
        opened.listen()
        yield opened


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Where READY=1 is heard."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(_PATIENCE)
        yield told


def hand_over(environment: pytest.MonkeyPatch, number: int, *, pid: int | None = None, count: str = "1") -> None:
    environment.setattr(systemd, "_FIRST", number)
    environment.setenv("LISTEN_PID", str(os.getpid() if pid is None else pid))
    environment.setenv("LISTEN_FDS", count)


@pytest.mark.long
def test_a_service_answers_on_the_socket_of_its_unit(
    listener: socket.socket, manager: socket.socket, tmp_path: Path
) -> None:
    path = listener.getsockname()
    with subprocess.Popen(
        ["sh", "-c", _START, "sh", sys.executable, "-m", "hotbank", "-m", "model:arm-2009", "serve"],
        env={**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": manager.getsockname()},
        preexec_fn=lambda: os.dup2(listener.fileno(), 3),
        close_fds=False,
        stderr=subprocess.DEVNULL,
    ) as service:
        try:
            assert manager.recv(100) == b"READY=1"
            with Remote.unix(path) as machine:
                assert (machine.hello.pid, machine.hello.machine) == (service.pid, "model:arm-2009")
            service.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert service.wait(_PATIENCE) == 0
        finally:
            with suppress(ProcessLookupError):
                service.kill()
    with socket.socket(socket.AF_UNIX) as early:  # the socket is its unit's: who comes now waits for the next service
        early.connect(path)


def test_what_is_handed_to_this_process_is_taken_once(environment: pytest.MonkeyPatch, listener: socket.socket) -> None:
    hand_over(environment, os.dup(listener.fileno()))
    with systemd.handed_over() or pytest.fail("nothing") as taken:
        assert taken.getsockname() == listener.getsockname()
        assert not taken.get_inheritable()
    assert systemd.handed_over() is None


def test_what_is_handed_to_another_process_stays(environment: pytest.MonkeyPatch, listener: socket.socket) -> None:
    hand_over(environment, listener.fileno(), pid=os.getpid() + 1)
    assert systemd.handed_over() is None


def test_two_sockets_are_refused(environment: pytest.MonkeyPatch, listener: socket.socket) -> None:
    hand_over(environment, listener.fileno(), count="2")
    with pytest.raises(MachineError, match="LISTEN_FDS=2: one socket is served"):
        systemd.handed_over()


def test_what_does_not_listen_is_refused_and_left_open(environment: pytest.MonkeyPatch, manager: socket.socket) -> None:
    for number in (manager.fileno(), os.open(os.devnull, os.O_RDONLY)):
        hand_over(environment, number)
        with pytest.raises(MachineError, match=f"descriptor {number} is no listening Unix socket"):
            systemd.handed_over()
        os.fstat(number)
    os.close(number)
    hand_over(environment, number)
    with pytest.raises(MachineError, match=f"descriptor {number} is no"):
        systemd.handed_over()


def test_an_abstract_socket_is_refused_and_left_open(environment: pytest.MonkeyPatch) -> None:
    """Anybody could connect to it."""
    name = f"hotbank-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(f"\0{name}")
        opened.listen()
        hand_over(environment, opened.fileno())
        with pytest.raises(MachineError, match=f"the socket @{name} has no path") as caught:
            systemd.handed_over()
        assert caught.value.remedy == "ListenStream=/PATH in the socket unit"
        os.fstat(opened.fileno())


def test_an_abstract_socket_is_told(environment: pytest.MonkeyPatch) -> None:
    name = f"hotbank-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"\0{name}")
        environment.setenv("NOTIFY_SOCKET", f"@{name}")
        systemd.notify("READY=1")
        assert told.recv(100) == b"READY=1"
    systemd.notify("READY=1")  # nobody listens any more
