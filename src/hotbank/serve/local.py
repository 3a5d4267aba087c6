# SPDX-License-Identifier: Apache-2.0
"""The owner of this host: ``hotbank serve`` where one runs, else the command itself (``-m host``).

Two commands at once are told apart by the journal, of which they share the file.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hotbank.calls import MACHINE, Call
from hotbank.errors import HotbankError, MachineError
from hotbank.host import Host
from hotbank.operate import Entry
from hotbank.remote import Remote, SocketStream, dial, unreached
from hotbank.serve.answers import Answers
from hotbank.serve.client import RemoteOwner
from hotbank.serve.desk import Desk
from hotbank.serve.owner import Owner
from hotbank.serve.protocol import OWNER
from hotbank.serve.state import journal_in, journal_path, runtime_folder, state_folder, state_path
from hotbank.wire import decode_error, encode_error

HOST = "host"
_SERVED = Path("/run/hotbank/socket")
_AT_EACH_LOOK = (MACHINE["reading"], MACHINE["snapshot"], OWNER["govern"], OWNER["look"])
_PATIENCE, _CHUNK = 10.0, 1 << 16  # seconds of wall time; bytes


def host_socket() -> Path:
    """Where this host is served: the system's socket for root, else one in the user's runtime folder."""
    return _SERVED if os.getuid() == 0 else runtime_folder() / "socket"


def served_host() -> socket.socket | None:
    """A connection to the ``hotbank serve`` that owns this host, None where none runs.

    Raises MachineError when one is there and can't be reached.
    """
    for path in dict.fromkeys((_SERVED, host_socket())):
        try:
            return dial(path, _PATIENCE)
        except (FileNotFoundError, ConnectionRefusedError):
            continue
        except OSError as e:
            raise MachineError(f"{path}: {e.strerror}", code=unreached(e), remedy="ask its owner, or root") from e
    return None


def owner_of(host: Host, folder: Path | None = None, *, readers: int | None = None) -> Owner:
    """The owner of a host, with a journal that outlives it. ``folder``: of the journal.

    Whoever opens the journal next waits for the last of this process's writers (host/writer.py).
    """
    place = folder or state_folder()
    journal = journal_in(place, HOST)
    host.writers.keep(journal.writers_keep)
    closed = "" if host.auto else "its board file does not say `auto = true`"
    return Owner(host, journal=journal, readers=readers, desk=Desk(HOST, place, closed=closed))


def history_of_host() -> tuple[Entry, ...]:
    """The journal of this host, by whoever owns it, oldest transaction first; none where there is no journal yet."""
    served = served_host()
    if served is not None:
        with Remote(SocketStream(served)) as owner:
            return RemoteOwner(owner).history()
    folder = state_path()
    return journal_in(folder, HOST).entries() if journal_path(folder, HOST).exists() else ()


def hand_on(owner: socket.socket, reader: int, writer: int) -> None:
    """Pass bytes between an owner and two descriptors, until either side ends. A client that is gone is gone for the
    owner, too, whatever it waits for."""
    threading.Thread(target=_pour, args=(reader, owner), daemon=True).start()
    with suppress(OSError):
        while _is_read(writer, owner) and (data := owner.recv(_CHUNK)):
            os.write(writer, data)
        owner.shutdown(socket.SHUT_RDWR)


def _is_read(writer: int, owner: socket.socket) -> bool:
    """Wait for the owner's next word; False once nobody is there to read it."""
    poll = select.poll()
    poll.register(owner, select.POLLIN)
    poll.register(writer, 0)
    return writer not in dict(poll.poll())


def _pour(reader: int, owner: socket.socket) -> None:
    with suppress(OSError):
        while data := os.read(reader, _CHUNK):
            owner.sendall(data)
        owner.shutdown(socket.SHUT_WR)


def attached(owner: Owner) -> Remote:
    """A connection to an owner within this process."""
    return Remote(_line(owner))


def beside(owner: Owner) -> Remote:
    """The same for its governor: its own thread answers what it asks at each look, and no other wakes up."""
    return _Beside(_line(owner), {call.name: owner.answers[call.name] for call in _AT_EACH_LOOK})


class _Beside(Remote):
    """``at_once``: what needs no line."""

    def __init__(self, stream: SocketStream, at_once: Answers) -> None:
        super().__init__(stream)
        self._at_once = at_once

    def ask(self, call: Call, arguments: Mapping[str, Any], **named: Any) -> Any:
        """See Remote."""
        answer = self._at_once.get(call.name)
        if answer is None:
            return super().ask(call, arguments, **named)
        try:
            return answer.function(**arguments)
        except HotbankError:
            raise
        except Exception as e:  # who asks hears of it as over a line
            raise decode_error(encode_error(e)) from e


def _line(owner: Owner) -> SocketStream:
    ours, theirs = socket.socketpair()
    owner.take(SocketStream(theirs))
    return SocketStream(ours)
