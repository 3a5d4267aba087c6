# SPDX-License-Identifier: Apache-2.0
"""Machines in background processes: started, recorded, found again from other shells, ended.

``$XDG_RUNTIME_DIR/hotbank/current`` (else ``/tmp/hotbank-UID/current``) records the current machine. One that was given
a name has a folder of its own below, ``named/NAME``, with the same files: several last side by side, and none is
current but the nameless one. A recorded machine that does not answer is an error, never a fall-through to this host.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hotbank.errors import Code, HotbankError, MachineError, ProtocolError
from hotbank.regular import read_regular
from hotbank.remote import FileStream, Remote, dial
from hotbank.serve.children import start_module
from hotbank.serve.client import RemoteOwner
from hotbank.serve.peers import peer_pid
from hotbank.serve.state import remove_socket, runtime_folder, sweep_sockets
from hotbank.wire import MAX_ANSWER, Lines, decode, decode_error, encode

_LARGEST = 1 << 16  # bytes of a record
_NAMED = "named"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_ANSWER, _EXIT = 10.0, 5.0  # seconds of wall time for an answer, and for a process to end


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The model to serve. ``board``: a shipped board, a file, or a capture; ``description``: a file of firmware bytes,
    or none.

    ``cmdline``: the kernel's command line, None for what the board says; ``kernel``: the version to behave like.
    ``pages``: in use by processes and files, so that there is something to move; None: 4000 where a board boots, none
    beside those of a capture. ``workload``: a workload file or a shipped one, which is played once. ``faults``:
    trouble to make, by its names in load/faults.py. ``run_commands``: the programs that the board names as switches are
    run.
    """

    board: str
    description: str | None = None
    cmdline: str | None = None
    kernel: str | None = None
    seed: int = 0
    pages: int | None = None
    workload: str | None = None
    faults: tuple[str, ...] = ()
    run_commands: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """Where a machine in the background is. ``started``: seconds since 1970."""

    socket: str
    pid: int
    machine: str
    started: float


def home(name: str = "") -> Path:
    """The folder of the machine of that name, of the current one where it is empty. MachineError for what can't be a
    name."""
    if not name:
        return runtime_folder()
    if not _NAME.fullmatch(name):
        raise MachineError(f"{name!r} is no name for a machine", remedy="letters, digits, . _ and -; 32 at most")
    return runtime_folder() / _NAMED / name


def names() -> tuple[str, ...]:
    """Of the machines that were given one and are recorded."""
    return tuple(sorted(record.parent.name for record in runtime_folder().glob(f"{_NAMED}/*/current")))


def current(name: str = "") -> Record | None:
    """The machine of ``hotbank up``, or that of ``up --name``; None when there is none. Raises MachineError when the
    record is unreadable."""
    return _recorded(home(name))


def recorded(name: str = "") -> Record:
    """The same; MachineError also where there is none."""
    record = current(name)
    if record is None:
        what = f"no machine {name} is up" if name else "no machine is up"
        start = f"hotbank up BOARD --name {name} starts one" if name else "hotbank up BOARD starts one"
        raise MachineError(what, remedy="hotbank up lists what is" if names() or current() else start)
    return record


def _recorded(folder: Path) -> Record | None:
    path = folder / "current"
    try:
        return decode(Record, json.loads(read_regular(path, _LARGEST)), "record")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, ProtocolError) as e:
        raise MachineError(f"{path} is unreadable: {e}", code=Code.BAD_FORMAT, remedy=f"rm {path}") from e


def connect(record: Record, name: str = "") -> Remote:
    """The recorded machine, which has that name.

    Raises MachineError when it does not answer, or another process does in its place.
    """
    remedy = f"{' '.join(('hotbank down', name)).strip()} clears the record"
    try:
        machine = Remote.unix(record.socket, timeout=_ANSWER)
    except HotbankError as e:
        raise MachineError(f"{record.machine} (pid {record.pid}) does not answer: {e}", remedy=remedy) from e
    if machine.hello.pid != record.pid:
        machine.close()
        raise MachineError(f"pid {machine.hello.pid} answers for {record.machine}, not {record.pid}", remedy=remedy)
    return machine


def serve_in_background(spec: ModelSpec, *, name: str = "", patience: float = 60.0) -> Record:
    """Start a model in a process of its own and make it current, or the one of that name; returns when it answers.

    Raises MachineError when that machine answers already, and what the boot raised when it failed.
    ``patience``: seconds of wall time for the boot.
    """
    return start_in_background("hotbank.serve.daemon", encode(_absolute(spec)), name=name, patience=patience)


def start_in_background(module: str, spec: Mapping[str, Any], *, name: str = "", patience: float) -> Record:
    """Start a daemon (``python -m MODULE FOLDER SPEC``, see serve.daemon) and make its machine current, or the one of
    that name.

    Raises MachineError when that machine answers already, and what the boot raised when it failed.
    """
    folder = home(name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _one_at_a_time(folder):
        check_free(name)
        sweep_sockets(folder)
        return _start(module, spec, folder, patience)


def down(record: Record, name: str = "") -> bool:
    """End the recorded machine, which has that name, and forget it; False when it was gone already.

    Refusal(BUSY_TRANSACTION) if it is busy.
    Only the process that answers on the recorded socket under the recorded pid is ended, never a pid alone.
    """
    folder = home(name)
    with _one_at_a_time(folder):
        there = _end(record)
        remove_socket(Path(record.socket))
        forget(folder, record.pid)
        _lay_to_rest(record.pid)
        return there


def forget(folder: Path, pid: int) -> None:
    """Drop the record if it is that process's."""
    with suppress(MachineError, FileNotFoundError):
        record = _recorded(folder)
        if record is not None and record.pid == pid:
            (folder / "current").unlink()


def remember(folder: Path, record: Record) -> None:
    """Make it the current machine, at one stroke."""
    fresh = folder / f"current.{record.pid}"
    fresh.write_text(json.dumps(encode(record)), encoding="utf-8")
    fresh.replace(folder / "current")


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """``up`` and ``down`` of this user wait for each other."""
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_free(name: str = "") -> None:
    """Raise MachineError when the current machine, or the one of that name, answers."""
    record = current(name)
    if record is None:
        return
    try:
        connect(record).close()
    except MachineError:
        return  # dead: the new one takes its place
    what = f"{record.machine} is up already (pid {record.pid})"
    remedy = f"hotbank down {name} ends it" if name else "hotbank down ends it; --name NAME starts another beside it"
    raise MachineError(what, code=Code.UNSUPPORTED, remedy=remedy)


def _absolute(spec: ModelSpec) -> ModelSpec:
    """Files by absolute path, because the process that reads them lives in ``/``."""
    board = os.path.abspath(spec.board) if os.path.isfile(spec.board) else spec.board
    description = os.path.abspath(spec.description) if spec.description is not None else None
    workload = os.path.abspath(spec.workload) if spec.workload and os.path.isfile(spec.workload) else spec.workload
    return replace(spec, board=board, description=description, workload=workload)


def _start(module: str, spec: Mapping[str, Any], folder: Path, patience: float) -> Record:
    with open(folder / "log", "wb") as log:
        daemon = start_module(
            module,
            str(folder),
            json.dumps(spec),
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        record = _first_words(daemon, folder, patience)
    except BaseException:
        daemon.kill()
        daemon.wait()
        raise
    _ours.append(daemon)
    return record


# Daemons that this process started: it is their parent, so only it can lay them to rest.
_ours: list[subprocess.Popen[bytes]] = []


def _lay_to_rest(pid: int) -> None:
    for daemon in [d for d in _ours if d.pid == pid]:
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(_EXIT)
            _ours.remove(daemon)


def _first_words(daemon: subprocess.Popen[bytes], folder: Path, patience: float) -> Record:
    """What a daemon writes to its standard output: where it is, or why it could not be."""
    assert daemon.stdout is not None
    with daemon.stdout as words:
        try:
            answer = Lines(FileStream(words, words), MAX_ANSWER).receive(patience)
        except TimeoutError as e:
            raise MachineError(f"the machine did not boot in {patience:g} s", remedy=f"see {folder / 'log'}") from e
    if answer is None:
        lines = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise MachineError("the machine's process ended: " + (lines[-1] if lines else "without a word"))
    if "error" in answer:
        raise decode_error(answer["error"])
    return decode(Record, answer, "record")


def _end(record: Record) -> bool:
    """End the process behind the socket, if it is the recorded one; False when there is none."""
    try:
        connection = dial(record.socket, _ANSWER)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError as e:
        raise MachineError(f"{record.socket}: {e.strerror or e}", remedy=f"see what pid {record.pid} does") from e
    with connection:
        if peer_pid(connection) != record.pid:
            raise MachineError(f"{record.socket} belongs to pid {peer_pid(connection)}, not {record.pid}")
        _ask_to_stop(record)
        if not _is_over(connection):
            os.kill(record.pid, signal.SIGKILL)
            _is_over(connection)
    return True


def _ask_to_stop(record: Record) -> None:
    """Politely; one that does not even answer is ended by its pid, which the socket has just vouched for."""
    with suppress(MachineError, ProtocolError), Remote.unix(record.socket, timeout=_ANSWER) as machine:
        RemoteOwner(machine).stop()


def _is_over(connection: socket.socket) -> bool:
    """True once the process at the other end is gone, False if it is still there after a while."""
    connection.settimeout(_EXIT)
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
