# SPDX-License-Identifier: Apache-2.0
"""A client's line: requests are read one by one, and answered by a table of functions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from hotbank.calls import Call, Table
from hotbank.errors import Code, HotbankError, ProtocolError, Refusal
from hotbank.machine import Machine, is_interruptible
from hotbank.operate import Event, Outcome, remedy
from hotbank.remote import Hello, SocketStream
from hotbank.wire import MAX_REQUEST, Lines, Stream, decode, encode, encode_error


@dataclass(frozen=True, slots=True)
class Answer:
    """A call, and the function that answers it."""

    call: Call
    function: Callable[..., Any]


Answers = Mapping[str, Answer]  # by the name of the call


def answers(table: Table, target: object = None, **instead: Callable[..., Any]) -> Answers:
    """The calls of a table, answered by the methods of ``target`` or by those functions ``instead``."""
    functions = {name: instead.get(name) or getattr(target, name) for name in table}
    return {call.name: Answer(call, functions[name]) for name, call in table.items()}


@runtime_checkable
class Followed(Protocol):
    """The answer to a request that takes long: its events are sent as they come, then its end."""

    def follow(self) -> Iterator[Event]:
        """Events from the first to the last, as they come."""
        ...

    def end(self) -> Outcome | None:
        """How it ended, once ``follow`` is through. Raises what it raised."""
        ...


class Line:
    """One stream, answered request by request; the events of an order are sent from a thread of their own.

    ``machine``: whose offline is interrupted. ``may_change``: False refuses every call that changes, and hears neither
    ``cancel`` nor ``interrupt``.
    """

    def __init__(
        self,
        stream: Stream,
        hello: Hello,
        answers: Answers,
        machine: Machine,
        cancel: Callable[[], None] | None = None,
        *,
        may_change: bool = True,
    ) -> None:
        self._lines, self._hello, self._answers = Lines(stream, MAX_REQUEST), hello, answers
        self._machine, self._cancel, self._may_change = machine, cancel, may_change
        self._writing = threading.Lock()
        self._offlines: list[tuple[threading.Thread, int, float]] = []

    def run(self) -> None:
        """Until the client hangs up, or sends something that is no request. An offline of its own ends with it."""
        with suppress(OSError):
            self._send(encode(self._hello))
            try:
                while (request := self._lines.receive()) is not None:
                    self._answer(request)
            except ProtocolError as e:
                self._send({"id": None, "error": encode_error(e)})
        self._lines.close()
        for thread, block, deadline in self._offlines:
            self._interrupt(block, deadline)
            thread.join()

    def _answer(self, request: dict[str, Any]) -> None:
        if request == {"cancel": True}:
            if self._may_change and self._cancel is not None:
                self._cancel()
        elif request.keys() == {"interrupt"}:
            named = _typed({"block": int, "deadline": float}, request["interrupt"])
            if self._may_change:
                self._interrupt(**named)
        else:
            self._asked(*self._understood(request))

    def _asked(self, number: int, answer: Answer, given: Any) -> None:
        """Arguments that are none are the request's fault, not the line's."""
        try:
            arguments = _typed(answer.call.parameters, given)
        except ProtocolError as e:
            self._send({"id": number, "error": encode_error(e)})
            return
        self._called(number, answer, arguments)

    def _called(self, number: int, answer: Answer, arguments: dict[str, Any]) -> None:
        if answer.call.slow and self._may_change:  # only who goes on listening hears an interruption
            thread = threading.Thread(target=self._carry_out, args=(number, answer, arguments), daemon=True)
            running = [offline for offline in self._offlines if offline[0].is_alive()]
            self._offlines = [*running, (thread, arguments["block"], arguments["deadline"])]
            thread.start()
        else:
            self._carry_out(number, answer, arguments)

    def _interrupt(self, block: int, deadline: float) -> None:
        if is_interruptible(self._machine):
            self._machine.interrupt(block, deadline)

    def _carry_out(self, number: int, answer: Answer, arguments: dict[str, Any]) -> None:
        with suppress(OSError):  # the client hung up
            self._reply(number, answer, arguments)

    def _reply(self, number: int, answer: Answer, arguments: dict[str, Any]) -> None:
        try:
            self._check_right(answer.call)
            result = answer.function(**arguments)
        except Exception as e:  # whatever went wrong is the client's to know
            self._send({"id": number, "error": encode_error(e)})
            return
        if isinstance(result, Followed):
            threading.Thread(target=self._follow, args=(number, result), daemon=True).start()
        else:
            self._send({"id": number, "result": encode(result)})

    def _check_right(self, call: Call) -> None:
        if call.changes and not self._may_change:
            what = "only root and the machine's owner may change it"
            raise Refusal(Code.NOT_PERMITTED, what, remedy=remedy(Code.NOT_PERMITTED))

    def _understood(self, request: dict[str, Any]) -> tuple[int, Answer, Any]:
        if request.keys() != {"id", "call", "args"}:
            raise ProtocolError(f"a request has id, call and args, not {sorted(request)}")
        answer = self._answers.get(str(request["call"]))
        if answer is None:
            raise ProtocolError(f"no call {request['call']!r}")
        return decode(int, request["id"], "id"), answer, request["args"]

    def _follow(self, number: int, job: Followed) -> None:
        with suppress(OSError):  # the client hung up; the job goes on
            for event in job.follow():
                self._send({"id": number, "event": encode(event)})
            try:
                answer = {"id": number, "result": encode(job.end())}
            except HotbankError as e:
                answer = {"id": number, "error": encode_error(e)}
            self._send(answer)

    def _send(self, document: dict[str, Any]) -> None:
        with self._writing:
            self._lines.send(document)


def _typed(parameters: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Arguments by name, each of its type. Raises ProtocolError."""
    if not isinstance(data, dict) or data.keys() != parameters.keys():
        raise ProtocolError(f"args: expected {sorted(parameters)}, got {data!r:.60}")
    return {name: decode(hint, data[name], name) for name, hint in parameters.items()}


def turn_away(stream: SocketStream, error: HotbankError) -> None:
    with suppress(OSError):
        Lines(stream, MAX_REQUEST).send({"id": None, "error": encode_error(error)})
    stream.close()
