# SPDX-License-Identifier: Apache-2.0
"""The server: on loopback only, one process, one event loop, until it is interrupted."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from hotbank.errors import Code, MachineError
from hotbank.session import Session
from hotbank.watch import Feed
from hotbank.web.app import Desk, application
from hotbank.web.door import LOOPBACK, Door, new_token
from hotbank.web.viewers import Viewers

_FAREWELL = 2  # seconds for calls under way when it ends
_CONNECTIONS = 256  # at once; more hear 503


def serve(session: Session, *, port: int, change: bool, ready: Callable[[str], None]) -> None:
    """Show the machine until KeyboardInterrupt. ``port``: 0 for any that is free. ``ready`` hears the address.

    Raises MachineError when the port is taken.
    """
    with listening(port) as listener, Feed(session) as feed:
        token, taken = new_token(), listener.getsockname()[1]
        server = Server(Viewers(feed), Desk(session, feed, change=change), token, taken)
        ready(address(taken, token))
        asyncio.run(server.serve(sockets=[listener]))


def address(port: int, token: str) -> str:
    """Where the page is."""
    return f"http://{LOOPBACK}:{port}/{token}/"


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket on loopback. Raises MachineError when the port is taken or may not be."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
            listener.listen()  # who hears the address may come at once
        except OSError as e:
            known = errno.errorcode.get(e.errno or 0, "")
            raise MachineError(
                f"port {port} of {LOOPBACK}: {known}", code=Code.SYSTEM_ERROR, remedy="another --port, or none"
            ) from e
        yield listener


class Server(uvicorn.Server):
    """uvicorn, whose end every viewer is told of: a stream does not end by itself."""

    def __init__(self, viewers: Viewers, desk: Desk, token: str, port: int) -> None:
        self._viewers = viewers
        door = Door(application(desk, viewers), token, port)
        options = {"access_log": False, "log_config": None, "server_header": False, "http": "h11", "ws": "none"}
        limits = {"timeout_graceful_shutdown": _FAREWELL, "limit_concurrency": _CONNECTIONS}
        super().__init__(uvicorn.Config(door, lifespan="on", **options, **limits))  # type: ignore[arg-type]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then the rest."""
        self._viewers.end()
        await super().shutdown(sockets)
