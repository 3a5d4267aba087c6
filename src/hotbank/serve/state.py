# SPDX-License-Identifier: Apache-2.0
"""Where owners keep their sockets and their journals.

A model's journal lies in the runtime folder: its content dies with its process anyway. This host's lies in
``$STATE_DIRECTORY`` (systemd), else ``/var/lib/hotbank`` for root and ``$XDG_STATE_HOME/hotbank`` for everybody else.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from hotbank.errors import Code, MachineError

if TYPE_CHECKING:
    from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.remote import dial
from hotbank.serve.peers import peer_pid

_PATIENCE = 5.0  # seconds of wall time for somebody to accept a connection


def runtime_folder() -> Path:
    """The folder for sockets and the record, made if need be: of this user, closed to all others.

    Raises MachineError when someone else got there first.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base and os.path.isdir(base):
        with suppress(OSError):  # of the user that this one was before su, or read-only
            return _own(Path(base) / "hotbank")
    return _own(Path(f"/tmp/hotbank-{os.getuid()}"))


def _own(folder: Path) -> Path:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        remedy = "remove it, or make it a folder of yours with mode 0700, or set XDG_RUNTIME_DIR"
        raise MachineError(f"{folder} is not a folder that is yours alone", code=Code.SYSTEM_ERROR, remedy=remedy)
    return folder


def journal_in(folder: Path, machine: str) -> SqliteJournal:
    """The journal of the machine of that name, made if need be. Raises MachineError."""
    from hotbank.operate.sqlite_journal import SqliteJournal  # the Python of a guest has no sqlite3

    return SqliteJournal(journal_path(folder, machine))


def journal_path(folder: Path, machine: str) -> Path:
    """Where the journal of the machine of that name is, or would be."""
    return folder / f"{quote(machine, safe='')}.journal"


def state_path() -> Path:
    """The folder that outlives a boot, whether it is there or not."""
    return Path(os.environ.get("STATE_DIRECTORY") or _state_base() / "hotbank")


def state_folder() -> Path:
    """The folder that outlives a boot, made if need be. Raises MachineError."""
    folder = state_path()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise MachineError(
            f"{folder}: {e.strerror}", code=Code.SYSTEM_ERROR, remedy="set STATE_DIRECTORY to a folder of yours"
        ) from e
    return folder


def _state_base() -> Path:
    if os.getuid() == 0:
        return Path("/var/lib")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")


def listen(path: Path, readers: int | None = None) -> socket.socket:
    """A listening socket that only this user can connect to, and the members of the group of that id.

    Raises MachineError when somebody answers there already.
    """
    _check_silent(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        remove_socket(path)
        listener.bind(str(path))
        if readers is not None:
            os.chown(path, -1, readers)
            path.chmod(0o660)
        listener.listen(128)
    except OSError as e:
        listener.close()
        raise MachineError(
            f"{path}: {e.strerror or e}", code=Code.SYSTEM_ERROR, remedy="set XDG_RUNTIME_DIR to a shorter path"
        ) from e
    finally:
        os.umask(old)
    return listener


def remove_socket(path: Path) -> None:
    """Remove a socket that nobody listens on; what is no socket is somebody's, and stays. Raises OSError."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


def sweep_sockets(folder: Path) -> None:
    """Remove the sockets of owners that were killed: nobody listens on them."""
    for path in folder.glob("*.sock"):
        try:
            dial(path, _PATIENCE).close()
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            continue  # somebody is there, if only slowly


def _check_silent(path: Path) -> None:
    with suppress(OSError), dial(path, _PATIENCE) as somebody:
        raise MachineError(
            f"pid {peer_pid(somebody)} answers at {path} already", code=Code.SYSTEM_ERROR, remedy="end it first"
        )
