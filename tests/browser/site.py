# SPDX-License-Identifier: Apache-2.0
"""A machine in the browser, all in this process: a model with its owner, the feed, and the server, which can go and
come back."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Mapping
from typing import Any

import patience
from hotbank.machine import Machine
from hotbank.session import connect
from hotbank.watch import Feed
from hotbank.web.app import Desk
from hotbank.web.door import LOOPBACK, new_token
from hotbank.web.server import Server, address, listening
from hotbank.web.viewers import Viewers


class Site:
    """``change``: whether the page may. ``asked``: the ids that viewers named as the last they had."""

    def __init__(self, machine: Machine, *, change: bool = True) -> None:
        self.session = connect(machine, change=True)
        self.feed = Feed(self.session, every=0.2)
        self.desk = Desk(self.session, self.feed, change=change)
        self.viewers = Remembering(self.feed)
        self.token, self.port = new_token(), 0

    def __enter__(self) -> Site:
        self.feed.__enter__()
        self.start()
        patience.until(lambda: self.feed.frame)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.feed.close()
        self.session.close()

    @property
    def url(self) -> str:
        return address(self.port, self.token)

    def start(self) -> None:
        """Also again, on the port that it had."""
        listener = listening(self.port)
        taken = listener.__enter__()
        self.port = taken.getsockname()[1]
        self._server = Server(self.viewers, self.desk, self.token, self.port)

        def run() -> None:
            try:
                asyncio.run(self._server.serve(sockets=[taken]))
            finally:
                listener.__exit__(None, None, None)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        patience.until(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        patience.ended(self._thread)

    def waiting(self) -> int:
        """Bytes that the greatest of its connections has not sent yet."""
        sizes = [each.transport.get_write_buffer_size() for each in self._server.server_state.connections]
        return max(sizes, default=0)

    def call(
        self,
        path: str,
        *,
        method: str = "GET",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, str, Mapping[str, str]]:
        """Status, text and headers of an answer to a call that says of itself just what is given."""
        line = http.client.HTTPConnection(LOOPBACK, self.port, timeout=patience.HANG)
        place = f"/{self.token if token is None else token}{path}" if token != "" else path
        try:
            line.request(method, place, body, dict(headers or {}))
            answer = line.getresponse()
            told = answer.read() if answer.length is not None else answer.read1(1 << 16)  # a stream has no end
            return answer.status, told.decode(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            line.close()

    def post(self, what: str, asked: object, **headers: str) -> tuple[int, Any]:
        """As the page does it; ``headers`` in place of its own."""
        own = {"Origin": f"http://{LOOPBACK}:{self.port}", "Content-Type": "application/json"}
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        kept = {name: value for name, value in own.items() if value}
        status, text, _ = self.call(f"/{what}", method="POST", headers=kept, body=json.dumps(asked).encode())
        return status, json.loads(text) if text.startswith("{") else text


class Remembering(Viewers):
    """Viewers whose last word is kept: what they say they had."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self.asked: list[str | None] = []
        self.told = 0

    def _known(self, last_id: str | None) -> Any:
        self.asked.append(last_id)
        return super()._known(last_id)

    def _make(self, last: Any, frame: Any) -> str:
        self.told += 1
        return super()._make(last, frame)
