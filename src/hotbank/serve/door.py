# SPDX-License-Identifier: Apache-2.0
"""The door to an owner: who is let in, what they may, and how many of them at once.

Places are kept: those who may only read can't fill the house, and nobody but root has the last ones.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from hotbank.errors import Code, HotbankError, MachineError
from hotbank.remote import Hello, SocketStream
from hotbank.serve.answers import unheard
from hotbank.serve.line import CHANGER, READER, Line
from hotbank.serve.peers import peer_groups, peer_uid
from hotbank.wire import as_line

PLACES = 64  # for root; some of them are for nobody else
_FOR_OTHERS, _FOR_READERS, _FOR_A_READER = 56, 40, 16
_READING = "clients that may only read"
_AT_ONCE = 8  # clients let in before those that are in have their turn
_SHORTEST, _LONGEST = 0.05, 1.0  # seconds for which nobody is let in when something is wanting
_WANTING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class Door:
    """A listening socket. ``readers``: the id of a group whose members may read. ``told_to_end``: whether to shut.

    ``opens``: on time.monotonic(), when the next may come in after something was wanting. ``shuts``: set once nobody
    is let in any more.
    """

    def __init__(
        self,
        listener: socket.socket,
        hello: Callable[[], Hello],
        readers: int | None,
        told_to_end: Callable[[], bool],
    ) -> None:
        self._listener, self._hello, self._readers, self._told_to_end = listener, hello, readers, told_to_end
        self._pause = 0.0
        self.opens = math.inf
        self.shuts = threading.Event()
        listener.setblocking(False)

    def fileno(self) -> int:
        """The descriptor that tells when somebody is there."""
        return self._listener.fileno()

    def shut(self) -> None:
        """Let nobody in any more."""
        self.shuts.set()

    def is_shut(self) -> bool:
        """Whether that has come."""
        if self._told_to_end():
            self.shut()
        return self.shuts.is_set()

    def accepts(self) -> bool:
        """Whether somebody may come in now."""
        if self.opens <= time.monotonic():
            self.opens = math.inf
        return not self.is_shut() and self.opens == math.inf

    def admit(self, inside: Sequence[Line]) -> list[Line]:
        """Those who wait and may come in. Whoever may not is told why, in one line."""
        fresh: list[Line] = []
        for _ in range(_AT_ONCE):
            connection = self._next()
            if connection is None:
                break
            line = self._admitted(connection, [*inside, *fresh])
            fresh += [line] if line is not None else []
        return fresh

    def _next(self) -> socket.socket | None:
        """Who is there; None where nobody is, or this process has nothing left to let them in with (accept(2))."""
        try:
            connection, _ = self._listener.accept()
        except OSError as e:
            if e.errno in _WANTING:
                self._pause = min(_LONGEST, max(_SHORTEST, 2 * self._pause))
                self.opens = time.monotonic() + self._pause
            elif e.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR):
                raise
            return None
        self._pause = 0.0
        return connection

    def _admitted(self, connection: socket.socket, inside: Sequence[Line]) -> Line | None:
        user = peer_uid(connection)
        may_change = user in (os.getuid(), 0)
        refusal = self._stranger(connection, may_change) or _full(user, may_change, inside)
        if refusal is not None:
            with suppress(OSError):
                connection.send(as_line(unheard(refusal)), socket.MSG_DONTWAIT)
            connection.close()
            return None
        patience = CHANGER if may_change else READER
        return Line(SocketStream(connection), self._hello(), user, may_change=may_change, patience=patience)

    def _stranger(self, connection: socket.socket, may_change: bool) -> HotbankError | None:
        if may_change or self._readers in peer_groups(connection):
            return None
        what = "this machine belongs to another user"
        return MachineError(what, code=Code.NOT_PERMITTED, remedy="ask its owner")


def _full(user: int, may_change: bool, inside: Sequence[Line]) -> HotbankError | None:
    """Why there is no place for that user; None where there is one, or one was made by ending a line that is idle."""
    readers = [line for line in inside if not line.may_change]
    own = [line for line in readers if line.user == user]
    bounds = [] if may_change else [(own, _FOR_A_READER, _READING), (readers, _FOR_READERS, _READING)]
    for lines, most, what in [*bounds, (inside, PLACES if user == 0 else _FOR_OTHERS, "clients")]:
        there = [line for line in lines if not line.leaves]
        if len(there) >= most and not _made_room(there):
            return MachineError(f"{len(there)} {what} are connected", remedy="close some of them")
    return None


def _made_room(lines: Sequence[Line]) -> bool:
    idle = min((line for line in lines if line.may_go), key=lambda line: line.idle_since, default=None)
    if idle is not None:
        idle.end(MachineError("the line was idle, and its place was needed", remedy="connect again"))
    return idle is not None
