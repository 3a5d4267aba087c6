# SPDX-License-Identifier: Apache-2.0
"""A client's line: what it has said, what is to be said to it, and what it has under way. The loop moves it on.

All of it is bounded. A request is read when the one before it is answered, and when the client has read most of what it
was told; an offline and an order that is followed don't hold up their line, so that an interruption is heard.
"""

from __future__ import annotations

import math
import select
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hotbank.errors import HotbankError
from hotbank.remote import Hello
from hotbank.serve.answers import Request, unheard
from hotbank.serve.later import Later
from hotbank.wire import MAX_REQUEST, Inbox, Stream, as_line, encode

ENOUGH = 1 << 18  # bytes that a client has not read: until it does, nothing is read from it
SMALL_REQUEST = 1 << 18  # bytes of a line of who may only read: the text of a board fits
_CHUNK = 1 << 16
_AT_ONCE = 4  # offlines and orders under way on one line: all but one are refused, but that takes a moment


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds of wall time: ``pace`` for a line to be sent and an answer to be read; after ``idle`` without a request a
    line makes room for somebody else, when there is none left."""

    pace: float = math.inf
    idle: float = math.inf


ENDLESS = Patience()  # of a line within this process, or on its own pipes
CHANGER = Patience(pace=30.0, idle=3600.0)
READER = Patience(pace=30.0, idle=300.0)


class Line:
    """One stream. ``user``: its user id. ``may_change``: False refuses every call that changes, ``cancel`` too.

    ``over`` is set when nothing of it is left.
    """

    def __init__(self, stream: Stream, hello: Hello, user: int, *, may_change: bool, patience: Patience) -> None:
        self.stream, self.user, self.may_change, self._patience = stream, user, may_change, patience
        self._inbox = Inbox(MAX_REQUEST if may_change else SMALL_REQUEST)
        self._outbox = bytearray()
        self.asked: Request | None = None  # the one that holds up the line
        self.later: dict[Request, Later] = {}
        self.aside: list[Request] = []  # offlines: they don't hold it up
        self.gone = False  # nobody listens there any more
        self.looks = False  # it is one that asks the same again and again
        self._ended = self._closing = False  # no more requests will come; none is heard any more
        self._moved = time.monotonic()
        self.over = threading.Event()
        self.say(encode(hello))

    # What is said.

    def say(self, document: dict[str, Any]) -> None:
        """Have it sent, if anybody is there."""
        self.send(as_line(document))

    def send(self, data: bytes) -> None:
        """Have bytes sent, if anybody is there."""
        if not self.gone:
            self._moved = self._moved if self._outbox else time.monotonic()
            self._outbox += data

    def flush(self) -> bool:
        """Write what goes without waiting; False when nobody is there to read it."""
        try:
            with memoryview(self._outbox) as waiting:
                sent = self.stream.write_some(waiting)
        except (OSError, ValueError):  # the latter of a file that is closed
            return False
        if sent:
            del self._outbox[:sent]
            self._moved = time.monotonic()
        return True

    @property
    def unread(self) -> int:
        """Bytes that are yet to be sent."""
        return len(self._outbox)

    # What is heard.

    @property
    def hears(self) -> bool:
        """Whether more may be read: what came before is answered, and the client reads what it is told."""
        return self._listens and not self._ended and not self._inbox.ready

    @property
    def has_request(self) -> bool:
        """Whether the next request is there and may be read, or its end has come."""
        through = self._ended and not (self.later or self.aside)
        return self._listens and (self._inbox.ready or through)

    @property
    def _listens(self) -> bool:
        held_up = self.asked is not None or len(self.aside) + len(self.later) >= _AT_ONCE
        return not (self._closing or held_up or len(self._outbox) >= ENOUGH)

    def hear(self) -> None:
        """Read what has come."""
        try:
            data = self.stream.read(_CHUNK)
        except BlockingIOError:  # whose descriptor it also is may have made it so
            return
        except (OSError, ValueError):  # the latter of a file that is closed
            data = b""
        self._inbox.add(data)
        self._ended = not data

    def next_request(self) -> dict[str, Any] | None:
        """The next document, None at the end. Raises ProtocolError."""
        document = self._inbox.take()
        if document is None:
            self._closing = True
            self._inbox.end()
        self._moved = time.monotonic()
        return document

    # In a thread of its own, which waits for it.

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way but what was just asked, so that another thread may have it."""
        return not (self._is_under_way or self._outbox or self._inbox or self._ended)

    def answer(self, data: bytes) -> bool:
        """Write an answer; False where not all of it goes at once."""
        self.send(data)
        return self.flush() and not self._outbox

    def wait(self) -> dict[str, Any] | None:
        """The next document, however long that takes; None at the end. Raises ProtocolError."""
        poll = select.poll()
        poll.register(self.stream.fileno(), select.POLLIN)
        while not (self.has_request or self._closing):
            poll.poll()
            self.hear()
        return None if self._closing else self.next_request()

    # Its end.

    def end(self, why: HotbankError) -> None:
        """Say why, and hear nothing any more."""
        self.say(unheard(why))
        self._closing = True

    def hang_up(self) -> tuple[Request, ...]:
        """Nobody is there any more: offlines and reads that it started are dropped, and handed back.

        Any other change goes on, though it still waits for its turn, and what was sent before is still heard, of who
        may change: an order may be among it.
        """
        self.gone = True
        self._outbox.clear()
        self.later.clear()
        self._closing = self._closing or not self.may_change
        dropped = list(self.aside)
        if self.asked is not None and not self.asked.answer.call.changes:
            dropped.append(self.asked)
            self.asked = None
        for request in dropped:
            request.dropped = True
        return tuple(dropped)

    @property
    def finished(self) -> bool:
        """Whether it may be closed."""
        nothing_to_say = self.gone or not self._outbox
        return self._closing and nothing_to_say and not self.aside and (self.gone or self.asked is None)

    def close(self) -> None:
        """Close the stream."""
        with suppress(OSError):
            self.stream.close()
        self.over.set()

    @property
    def expires(self) -> float:
        """When it has been silent for too long in the middle of something, on time.monotonic()."""
        if self._is_under_way and (self.gone or not (self._outbox or self._closing)):
            return math.inf
        in_the_middle = self._outbox or self._closing or self._inbox
        return self._moved + self._patience.pace if in_the_middle else math.inf

    @property
    def may_go(self) -> bool:
        """Whether it has been idle for so long that it makes room for somebody else."""
        busy = self._is_under_way or self._outbox or self._inbox
        return not busy and time.monotonic() - self._moved >= self._patience.idle

    @property
    def idle_since(self) -> float:
        """When it was last heard or told something, on time.monotonic()."""
        return self._moved

    @property
    def leaves(self) -> bool:
        """Whether it is about to be closed."""
        return self._closing

    @property
    def _is_under_way(self) -> bool:
        return bool(self.asked is not None or self.later or self.aside)
