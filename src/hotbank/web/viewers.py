# SPDX-License-Identifier: Apache-2.0
"""One feed, told to any number of viewers as server-sent events.

What a viewer gets is what has changed since the frame that it was told last, whichever that is. So a slow one gets
fewer and greater changes and no queue grows: it costs the frame that it was told and what its socket holds. What
several viewers get is made once.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from hotbank.numbers import digits
from hotbank.watch import Feed, Frame
from hotbank.web.series import row

MOST = 64  # viewers at once
_LOOK_UP = 1.0  # seconds until the thread looks whether it is to end


class Viewers:
    """Those who watch a feed. All but the thread that waits for frames belongs to the event loop."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.here = 0
        self._name = secrets.token_hex(4)  # frames are counted anew by each server
        self._newest: Frame | None = None
        self._fresh = asyncio.Event()
        self._over = False
        self._made: dict[int, str] = {}  # of the newest frame, by the number of the one before

    @property
    def newest(self) -> Frame | None:
        """What viewers are told of now."""
        return self._newest

    def begin(self) -> None:
        """Follow the feed, from within the event loop."""
        self._over = False
        follow = threading.Thread(target=self._follow, args=(asyncio.get_running_loop(),), daemon=True)
        follow.start()

    def end(self) -> None:
        """Tell every viewer that it is over."""
        self._over = True
        self._fresh.set()

    async def messages(self, last_id: str | None) -> AsyncIterator[str]:
        """What a viewer is told, from the frame that it was told last on if that is still known."""
        self.here += 1
        try:
            last = self._known(last_id)
            while (frame := await self._after(last)) is not None:
                yield self._message(last, frame)
                last = frame
        finally:
            self.here -= 1

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        seq = 0
        while not self._over:
            frame = self.feed.wait(after=seq, timeout=_LOOK_UP)
            if frame is not None:
                seq = frame.seq
                try:
                    loop.call_soon_threadsafe(self._tell, frame)
                except RuntimeError:  # the loop has ended meanwhile
                    return

    def _tell(self, frame: Frame) -> None:
        self._newest, told, self._fresh = frame, self._fresh, asyncio.Event()
        self._made.clear()
        told.set()

    async def _after(self, last: Frame | None) -> Frame | None:
        """The newest frame once there is another one; None when it is over."""
        while not self._over and (self._newest is None or self._newest is last):
            await self._fresh.wait()
        return None if self._over else self._newest

    def _known(self, last_id: str | None) -> Frame | None:
        """The frame of a message; None where there is none any more, or it came from another server."""
        name, _, number = (last_id or "").partition("-")
        seq = digits(number)
        if name != self._name or seq is None:
            return None
        return next((frame for frame in self.feed.record.since(seq - 1)[:1] if frame.seq == seq), None)

    def _message(self, last: Frame | None, frame: Frame) -> str:
        """What leads from one to the other, which is the newest."""
        before = 0 if last is None else last.seq
        if before not in self._made:
            self._made[before] = self._make(last, frame)
        return self._made[before]

    def _make(self, last: Frame | None, frame: Frame) -> str:
        rows = [row(each) for each in self._between(last, frame)]
        told = {"whole": last is None, "frame": frame.document() if last is None else frame.changes(last), "rows": rows}
        return event(told, f"{self._name}-{frame.seq}")

    def _between(self, last: Frame | None, frame: Frame) -> Sequence[Frame]:
        """What is recorded from one to the other, which is among it."""
        kept = self.feed.record.since(0 if last is None else last.seq)
        return [each for each in kept if each.seq <= frame.seq]


def event(document: dict[str, Any], number: str) -> str:
    """One event as a stream has it. JSON without a line end in it."""
    return f"id: {number}\ndata: {json.dumps(document)}\n\n"
