# SPDX-License-Identifier: Apache-2.0
"""Many viewers of one feed: each is told all, what several are told is made once, and who never reads costs little."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import patience
from browser.site import Site
from hotbank import board
from hotbank.machine import Block, Snapshot
from hotbank.memory import BlockState, Range
from hotbank.model import Model
from hotbank.report.cells import Map
from hotbank.watch import Frame, Record, merged
from hotbank.web.door import LOOPBACK
from hotbank.web.viewers import Viewers

BLOCK = 128 << 20
MANY = 2000  # blocks, so that a frame is a large document


def frame_of(number: int, blocks: int = 8) -> Frame:
    """Each differs from the one before in every block."""
    state = (BlockState.ONLINE, BlockState.OFFLINE)[number % 2]
    there = tuple(Block(n, Range.sized(n * BLOCK, BLOCK), state, ("Movable",), 0, number) for n in range(blocks))
    snapshot = Snapshot("many", "arm64", 4096, BLOCK, "boot", there)
    return Frame(number, 1e9 + number, snapshot, Map.of(snapshot))


class Played:
    """A feed that is played by hand."""

    def __init__(self) -> None:
        self.record = Record(3600)
        self._news = threading.Condition()
        self._frame: Frame | None = None

    def play(self, frame: Frame) -> None:
        with self._news:
            self.record.add(frame)
            self._frame = frame
            self._news.notify_all()

    def wait(self, after: int = 0, timeout: float | None = None) -> Frame | None:
        with self._news:
            self._news.wait_for(lambda: self._frame is not None and self._frame.seq > after, timeout)
            return self._frame if self._frame is not None and self._frame.seq > after else None


def told(message: str) -> tuple[str, dict[str, Any]]:
    """The id and the document of an event."""
    number, data, *rest = message.split("\n")
    assert rest == ["", ""]
    return number.removeprefix("id: "), json.loads(data.removeprefix("data: "))


async def played(viewers: Viewers, feed: Played, frame: Frame) -> None:
    """Until those who watch can have it."""
    feed.play(frame)
    while viewers.newest is not frame:
        await asyncio.sleep(0.001)


def test_a_slow_viewer_is_told_of_the_newest_and_misses_no_row() -> None:
    async def watch() -> None:
        feed = Played()
        viewers = Viewers(feed)  # type: ignore[arg-type]
        viewers.begin()
        await played(viewers, feed, frame_of(1))
        stream = viewers.messages(None)
        _, first = told(await anext(stream))
        for number in range(2, 400):
            await played(viewers, feed, frame_of(number))
        _, second = told(await anext(stream))
        assert (first["whole"], second["whole"]) == (True, False)
        assert merged(first["frame"], second["frame"]) == json.loads(json.dumps(frame_of(399).document()))
        assert [row[0] for row in (*first["rows"], *second["rows"])] == [1e9 + n for n in range(1, 400)]
        viewers.end()
        assert [left async for left in stream] == []

    asyncio.run(watch())


def test_who_comes_back_is_told_what_changed_meanwhile_and_a_stranger_everything() -> None:
    async def watch() -> None:
        feed = Played()
        viewers = Viewers(feed)  # type: ignore[arg-type]
        viewers.begin()
        await played(viewers, feed, frame_of(1))
        number, first = told(await anext(viewers.messages(None)))
        for n in (2, 3, 4):
            await played(viewers, feed, frame_of(n))
        back, second = told(await anext(viewers.messages(number)))
        assert not second["whole"]
        assert merged(first["frame"], second["frame"])["seq"] == 4
        assert len(second["rows"]) == 3
        name = back.partition("-")[0]
        for strange in ("x-1", f"{name}-0", f"{name}-99", f"{name}-", f"{name}-x", f"{name}-²", "", name):
            assert told(await anext(viewers.messages(strange)))[1]["whole"], strange
        viewers.end()

    asyncio.run(watch())


def listen(site: Site, room: int | None = None) -> socket.socket:
    """A viewer's line. ``room``: bytes that the kernel keeps for it."""
    line = socket.socket()
    if room is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    line.connect((LOOPBACK, site.port))
    line.settimeout(patience.HANG)
    line.sendall(f"GET /{site.token}/events HTTP/1.1\r\nHost: {LOOPBACK}:{site.port}\r\n\r\n".encode())
    return line


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(Model.boot(board.load("arm-2009"))) as site:
        yield site


def test_twenty_viewers_share_one_feed(site: Site) -> None:
    """Nineteen that read, and one that never does."""
    lines = [listen(site) for _ in range(19)] + [listen(site, room=4096)]
    patience.until(lambda: site.viewers.here == 20)
    assert site.feed.frame is not None
    last = site.feed.frame.seq + 5
    for line in lines[:-1]:
        heard = b""
        while f"-{last}\n".encode() not in heard:
            heard += line.recv(1 << 16)
    frames = site.feed.frame.seq
    assert site.viewers.told <= 3 * frames + 20  # not twenty for each
    for line in lines:
        line.close()
    patience.until(lambda: site.viewers.here == 0)


def test_who_never_reads_costs_a_bounded_buffer(site: Site) -> None:
    """Ten megabytes pass it by, which is more than the kernel keeps for it."""
    largest = replace(frame_of(1, MANY), seq=1)
    message = len(json.dumps(largest.document()))
    feed = Played()
    site.viewers.feed = feed  # type: ignore[assignment]
    silent = listen(site, room=4096)
    patience.until(lambda: site.viewers.here == 1)
    reader = listen(site)
    waiting = 0
    for number in range(1000, 1000 + 10_000_000 // message):
        feed.play(frame_of(number, MANY))
        heard = b""
        while f"-{number}\n".encode() not in heard:
            heard = heard[-64:] + reader.recv(1 << 20)
        waiting = max(waiting, site.waiting())
    assert 0 < waiting < 3 * message
    silent.close()
    reader.close()
