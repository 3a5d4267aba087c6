# SPDX-License-Identifier: Apache-2.0
"""One thread for all clients: it waits for bytes, for time, and for what others have done, and never for anything else.

Each pass reads what has come, takes at most one request of each line, hands calls to a crew, tells what is due, and
closes what is over. It ends when it has nothing left to wait for.
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hotbank.errors import HotbankError, MachineError, ProtocolError
from hotbank.serve.answers import Answers, Request, not_permitted, typed, understood
from hotbank.serve.crew import Crew, Side
from hotbank.serve.door import Door
from hotbank.serve.later import Later
from hotbank.serve.line import ENOUGH, Line
from hotbank.wire import LONGEST_POLL, Stream, as_line

_CHANGES = 3  # one that runs, and two that are told so


@dataclass(frozen=True, slots=True)
class Service:
    """What the loop is there for. ``cancel`` and ``interrupt`` wait for nothing; what became of them is told by what
    they were to end. ``busy``: whether something changes the machine. ``again``: the call that a client makes again and
    again, and hardly another; ``parted``: the last such client is gone; may take a moment."""

    answers: Answers
    again: str
    cancel: Callable[[], None]
    interrupt: Callable[[int, float], None]
    busy: Callable[[], bool]
    parted: Callable[[], None] = lambda: None


class Loop:
    """Moves lines on, in a thread of its own that runs while there are any. Any thread may add one.

    ``error``: what ended the thread, if anything that nobody foresaw did.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._changers, self._readers = Side(3, 3, service.busy), Side(2, 1, service.busy, self._is_full)
        self._changes = Crew(_CHANGES)
        self._posted: deque[Callable[[], None]] = deque()
        self._lines: list[Line] = []
        self._lent: list[Line] = []  # to the thread that answers who looks again and again
        self._door: Door | None = None
        self._state = threading.Lock()
        self._runs = False
        self.error: Exception | None = None
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._bell).atexit = False  # its thread may still run then

    # From any thread.

    def add(self, line: Line) -> None:
        """Answer one more client."""
        self._post(lambda: self._lines.append(line))

    def open(self, door: Door) -> None:
        """Let clients in there until it is shut."""

        def opened() -> None:
            self._door = door

        self._post(opened)

    def wake(self) -> None:
        """Something happened that somebody may wait for. Safe in a signal handler."""
        with suppress(BlockingIOError):
            os.eventfd_write(self._bell, 1)

    def _post(self, act: Callable[[], None]) -> None:
        """Have the loop's thread do it."""
        with self._state:
            self._posted.append(act)
            if not self._runs:
                threading.Thread(target=self._run, daemon=True).start()
                self._runs = True
        self.wake()

    # Its own thread.

    def _run(self) -> None:
        try:
            while self._goes_on():
                self._pass()
        except Exception as e:  # a bug; whoever waits for this thread has to hear of it
            self.error = e
            with self._state:
                self._runs = False
            self._let_go()
            raise

    def _goes_on(self) -> bool:
        with self._state:
            self._runs = bool(self._lines or self._door or self._posted)
            return self._runs

    def _let_go(self) -> None:
        while self._posted:
            self._posted.popleft()()
        for line in self._lines:
            line.close()
        if self._door is not None:
            self._door.shut()

    def _pass(self) -> None:
        self._wait()
        while self._posted:
            self._posted.popleft()()
        for line in tuple(self._lines):
            self._take_request(line)
            self._tell(line)
        self._changers.begin()
        self._readers.begin()
        self._end_the_silent()
        self._close_the_finished()

    # Waiting.

    def _wait(self) -> None:
        """Until something can be done, and do what concerns descriptors."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        ears, mouths = self._register(poll)
        door = self._door
        if door is not None and door.accepts():
            poll.register(door.fileno(), select.POLLIN)
        for number, what in poll.poll(self._timeout()):
            if number == self._bell:
                os.eventfd_read(self._bell)
            elif door is not None and number == door.fileno():
                self._lines.extend(door.admit([*self._lines, *self._lent]))
            else:
                self._touch(ears.get(number), mouths.get(number), what)
        if door is not None and door.is_shut():
            self._door = None

    def _register(self, poll: select.poll) -> tuple[Mapping[int, Line], Mapping[int, Line]]:
        """Lines by the descriptor that they are heard on, and by the one that they are told on.

        One whose stream somebody else has closed is hung up: it must not end the loop.
        """
        ears, mouths = dict[int, Line](), dict[int, Line]()
        for line in self._lines:
            heard, told = _descriptors(line.stream)
            if min(heard, told) < 0:
                self._close_off(line)
                continue
            if line.hears:
                ears[heard] = line
            if not line.gone:
                mouths[told] = line
        for number in ears.keys() | mouths.keys():
            hears = select.POLLIN if number in ears else 0
            tells = select.POLLOUT if number in mouths and mouths[number].unread else 0
            poll.register(number, hears | tells)
        return ears, mouths

    def _touch(self, heard: Line | None, told: Line | None, what: int) -> None:
        if told is not None and what & select.POLLOUT and not told.flush():
            self._hang_up(told)
        if heard is not None and what & ~select.POLLOUT:
            heard.hear()
        if told is not None and not told.gone and what & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            self._hang_up(told)

    def _timeout(self) -> int:
        """Milliseconds, rounded up, so that what is due is due."""
        if self._posted:
            return 0
        now = time.monotonic()
        moments = [line.expires for line in self._lines]
        moments += [later.due for line in self._lines for later in line.later.values()]
        moments += [now + self._pause(line) for line in self._lines if line.has_request]
        moments += [now + self._changers.rest(), now + self._readers.rest()]
        moments += [self._door.opens] if self._door is not None else []
        return int(min(max(0.0, min(moments) - now) * 1000 + 1, LONGEST_POLL))

    # Requests.

    def _take_request(self, line: Line) -> None:
        """At most one; what it takes of who may only read is paced, too."""
        if not line.has_request or self._pause(line):
            return
        began = time.thread_time()
        try:
            document = line.next_request()
            if document is not None:
                self._answer(line, document)
        except ProtocolError as e:
            line.end(e)
        if not line.may_change:
            self._readers.charge(time.thread_time() - began)

    def _pause(self, line: Line) -> float:
        """Of who may change, an order may come."""
        return 0.0 if line.may_change else self._readers.pause()

    def _answer(self, line: Line, document: dict[str, Any]) -> None:
        if document == {"cancel": True}:
            if line.may_change:
                self._service.cancel()
        elif document.keys() == {"interrupt"}:
            named = typed({"block": int, "deadline": float}, document["interrupt"])
            if line.may_change:
                self._service.interrupt(named["block"], named["deadline"])
        else:
            self._ask(line, understood(document, self._service.answers))

    def _ask(self, line: Line, request: Request) -> None:
        """Begin to answer. Who may only read is refused a change here, before anything is spent on it."""
        if request.answer.call.changes:
            if line.may_change:
                if not self._lend(line, request):
                    self._change(line, request)
            else:
                line.say(request.error(not_permitted()))
        elif not line.gone:
            line.asked = request
            self._side(line).put(line.user, request, lambda: self._read(line, request))

    def _change(self, line: Line, request: Request) -> None:
        if request.answer.call.slow:
            line.aside.append(request)  # only who goes on listening hears an interruption
        else:
            line.asked = request
        self._changes.hand(lambda: self._carry_out(line, request))

    def _lend(self, line: Line, request: Request) -> bool:
        """Have a thread of its own answer who looks again and again: one at a time, so that their number is bounded."""
        if request.answer.call.name != self._service.again:
            return False
        line.looks = True
        if self._lent or not line.is_quiet:
            return False
        try:
            threading.Thread(target=self._attend, args=(line, request), daemon=True).start()
        except RuntimeError:
            return False
        self._lines.remove(line)
        self._lent.append(line)
        return True

    def _is_full(self, reader: int) -> bool:
        """One answer may be large; the next is made when most of it is read, on whichever line."""
        return sum(line.unread for line in self._lines if line.user == reader and not line.may_change) >= ENOUGH

    def _side(self, line: Line) -> Side:
        return self._changers if line.may_change else self._readers

    # In the thread of who looks again and again: it alone wakes up for that, once a look.

    def _attend(self, line: Line, request: Request) -> None:
        """Answer it, and the next, until something else is said."""
        document: dict[str, Any] | None = None
        try:
            while _is_told(line, _answer_to(request)) and (document := line.wait()) is not None:
                if document.get("call") != self._service.again:
                    break
                request, document = understood(document, self._service.answers), None
        except ProtocolError as e:
            line.end(e)
            document = None
        self._post(lambda: self._take_back(line, document))

    def _take_back(self, line: Line, document: dict[str, Any] | None) -> None:
        self._lent.remove(line)
        self._lines.append(line)
        if document is not None:
            try:
                self._answer(line, document)
            except ProtocolError as e:
                line.end(e)

    # In a crew's thread.

    def _read(self, line: Line, request: Request) -> None:
        began = time.thread_time()
        self._carry_out(line, request)
        took = time.thread_time() - began
        self._post(lambda: self._side(line).over(line.user, took))

    def _carry_out(self, line: Line, request: Request) -> None:
        answer = _answer_to(request)
        self._post(lambda: self._answered(line, request, answer))

    # Answers.

    def _answered(self, line: Line, request: Request, answer: bytes | Later) -> None:
        """A call is through: it is answered, or will be."""
        if request in line.aside:
            line.aside.remove(request)
        if isinstance(answer, Later) and not line.gone:
            line.later[request] = answer
            line.asked = request if answer.holds_up else None
            return
        if line.asked is request:
            line.asked = None
        if isinstance(answer, bytes):
            line.send(answer)

    def _tell(self, line: Line) -> None:
        """What is due, as long as it is read."""
        for request, later in tuple(line.later.items()):
            if line.unread >= ENOUGH:
                return
            over = later.over()
            for event in later.events():
                line.say(request.event(event))
            if over:
                line.say(_end(request, later))
                del line.later[request]
                line.asked = None if line.asked is request else line.asked

    # The end of a line.

    def _hang_up(self, line: Line) -> None:
        """What it started ends with it; an order that it gave goes on."""
        for request in line.hang_up():
            self._side(line).withdraw(line.user, request)
            if request.answer.call.slow and request.arguments is not None:
                self._service.interrupt(request.arguments["block"], request.arguments["deadline"])

    def _close_off(self, line: Line) -> None:
        """Of a stream that is closed nothing more is heard, and nobody hears."""
        if not line.gone:
            self._hang_up(line)
        if line.hears:
            line.hear()

    def _end_the_silent(self) -> None:
        now = time.monotonic()
        for line in self._lines:
            if line.expires <= now:
                line.end(_SILENCE)
                line.flush()
                self._hang_up(line)

    def _close_the_finished(self) -> None:
        for line in [line for line in self._lines if line.finished]:
            line.close()
            self._lines.remove(line)
            if line.looks and not any(other.looks for other in (*self._lines, *self._lent)):
                self._changes.hand(self._service.parted)


_SILENCE = MachineError("the line was silent for too long", remedy="connect again")


def _answer_to(request: Request) -> bytes | Later:
    try:
        value = request.carry_out()
        return value if isinstance(value, Later) else as_line(request.result(value))
    except Exception as e:  # whatever went wrong is the client's to know
        return as_line(request.error(e))


def _is_told(line: Line, answer: bytes | Later) -> bool:
    return isinstance(answer, bytes) and line.answer(answer)


def _end(request: Request, later: Later) -> dict[str, Any]:
    try:
        return request.result(later.result())
    except HotbankError as e:
        return request.error(e)


def _descriptors(stream: Stream) -> tuple[int, int]:
    """To hear and to tell by; negative once it is closed."""
    try:
        return stream.fileno(), stream.sink()
    except ValueError:  # of a file that is closed
        return -1, -1
