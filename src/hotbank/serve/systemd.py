# SPDX-License-Identifier: Apache-2.0
"""What systemd hands to a service, and what it is told: sd_listen_fds(3), sd_notify(3).

Both are a few lines of protocol on the environment, the same under any supervisor that speaks them. What names
descriptors is forgotten once it is read, so that no child takes them for its own.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress

from hotbank.errors import Code, MachineError

_FIRST = 3  # SD_LISTEN_FDS_START
_REMEDY = "ListenStream=/PATH in the socket unit"


def handed_over() -> socket.socket | None:
    """The listening socket that a socket unit opened for this process, None where there is none.

    Raises MachineError for more than one, for what is no listening Unix socket, and for one without a path.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count:
        return None
    if count != "1":
        raise MachineError(
            f"LISTEN_FDS={count}: one socket is served",
            code=Code.UNSUPPORTED,
            remedy="one ListenStream= in the socket unit",
        )
    return _with_a_path(_listening(_FIRST))


def notify(state: str) -> None:
    """Tell who started this process: ``READY=1``, ``STOPPING=1``. Nobody to tell, or who listens, is no error."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), address)


def _with_a_path(found: socket.socket) -> socket.socket:
    """Who may connect is said by the rights on the path, and an abstract socket has none."""
    name = found.getsockname()
    if isinstance(name, str) and name:
        return found
    shown = f"@{os.fsdecode(name).removeprefix(chr(0))}"
    found.detach()
    raise MachineError(
        f"the socket {shown} has no path that says who may connect", code=Code.UNSUPPORTED, remedy=_REMEDY
    )


def _listening(number: int) -> socket.socket:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        is_socket = False
    if is_socket:
        found = socket.socket(fileno=number)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if found.family == socket.AF_UNIX and found.type == socket.SOCK_STREAM and listens:
            found.set_inheritable(False)
            return found
        found.detach()
    raise MachineError(f"descriptor {number} is no listening Unix socket", code=Code.BAD_FORMAT, remedy=_REMEDY)
