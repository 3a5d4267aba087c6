# SPDX-License-Identifier: Apache-2.0
"""Clients that mean no good, as a process of their own: ``python -m soak.crowd SOCKET KIND COUNT USER GROUP SECONDS``.

They become that user in that group, who may only read, and keep COUNT connections busy in the manner of KIND. What they
came to is printed as one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_TICK = 0.02  # seconds of rest: the owner is to be kept busy, not the whole machine
_AT_ONCE = 20  # requests in one go


def request(call: str, **args: Any) -> bytes:
    """One request as a line."""
    return json.dumps({"id": 1, "call": call, "args": args}).encode() + b"\n"


READS = (
    request("machine.pages", block=20),
    request("machine.survey", block=21),
    request("machine.snapshot"),
    request("machine.reading"),
    request("clock.now"),
    request("owner.events", since=0, wait=0.0),
)
SLEEPS = (request("clock.sleep", seconds=1e5), request("owner.events", since=None, wait=30.0))
CHANGES = (
    request("machine.offline", block=20, deadline=1e9, spare=0, fence=[]),
    request("machine.set_power", domain="ddr-high", want="off"),
    request("owner.stop"),
    b'{"cancel":true}\n',
)


class Client:
    """One of the crowd: a connection that is made again whenever it ends."""

    def __init__(self, path: str, told: Counter[str], rng: random.Random, asks: tuple[bytes, ...]) -> None:
        self._path, self._told, self._rng, self._asks = path, told, rng, asks
        self._line: socket.socket | None = None

    def flood(self) -> None:
        """Ask as much as goes, and read what comes."""
        self._act(self._ask_and_read)

    def deaf(self) -> None:
        """Ask as much as goes, and never read."""
        self._act(self._send)

    def vanish(self) -> None:
        """Ask something that takes long, and hang up."""
        self._act(lambda line: line.send(self._rng.choice((*SLEEPS, *self._asks))))
        self._hang_up()

    def garbage(self) -> None:
        """Say what is no request: noise, half a line, a line too long; sometimes hang up."""
        noise = self._rng.randbytes(self._rng.choice((1, 40, 2000)))
        what = (noise + b"\n", noise, b"[" * 5000 + b"\n", b"x" * (1 << 19), b'{"id":', b'{"cancel":1}\n')
        self._act(lambda line: line.send(self._rng.choice(what)))
        if self._rng.random() < 0.5:
            self._hang_up()

    def _act(self, act: Callable[[socket.socket], object]) -> None:
        try:
            act(self._connected())
        except BlockingIOError:
            self._told["had to wait"] += 1
        except OSError:
            self._hang_up()

    def _connected(self) -> socket.socket:
        if self._line is None:
            self._line = socket.socket(socket.AF_UNIX)
            self._line.setblocking(False)
            self._line.connect(self._path)
            self._told["connections"] += 1
        return self._line

    def _ask_and_read(self, line: socket.socket) -> None:
        try:
            self._send(line)
        finally:
            self._read(line)

    def _send(self, line: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            line.send(self._rng.choice(self._asks))
            self._told["requests"] += 1

    def _read(self, line: socket.socket) -> None:
        data = line.recv(1 << 20)
        self._told["answers"] += data.count(b"\n")
        if not data:
            raise ConnectionResetError

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def main(path: str, kind: str, count: int, user: int, group: int, seconds: float) -> None:
    """Be a nuisance for so long."""
    asks: tuple[bytes, ...] = READS
    if user != os.getuid():
        os.setgroups([group])
        os.setgid(group)
        os.setuid(user)
        asks = READS + CHANGES  # which are refused to who may only read
    told, rng, until = Counter[str](), random.Random(f"{kind}{user}"), time.monotonic() + seconds
    clients = [Client(path, told, rng, asks) for _ in range(count)]
    while time.monotonic() < until:
        for client in clients:
            getattr(client, kind)()
        time.sleep(_TICK)
    with suppress(BrokenPipeError):
        print(json.dumps({"kind": kind, **told}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
