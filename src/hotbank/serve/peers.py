# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a Unix socket (unix(7): SO_PEERCRED, SO_PEERGROUPS)."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

_SO_PEERGROUPS, _MOST_GROUPS = 59, 256


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket, when it was made."""
    return _peer(connection)[1]


def peer_groups(connection: socket.socket) -> tuple[int, ...]:
    """The ids of the groups that the process at the other end was in (unix(7), SO_PEERCRED, SO_PEERGROUPS).

    Of one that is in too many for getsockopt, only its own.
    """
    size, more = struct.calcsize("i"), b""
    with suppress(OSError):
        more = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * size)
    return (_peer(connection)[2], *struct.unpack(f"{len(more) // size}i", more))


def peer_pid(connection: socket.socket) -> int:
    """The process at the other end of a Unix socket, when it was made."""
    return _peer(connection)[0]


def _peer(connection: socket.socket) -> tuple[int, int, int]:
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, uid, gid
