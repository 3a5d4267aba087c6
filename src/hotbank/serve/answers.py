# SPDX-License-Identifier: Apache-2.0
"""The calls that somebody may make, each with the function that answers it; requests and their answers as documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hotbank.calls import Call, Table
from hotbank.errors import Code, HotbankError, ProtocolError, Refusal
from hotbank.operate import remedy
from hotbank.remote import Hello
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


@dataclass(slots=True, eq=False)
class Request:
    """A request under way. ``given``: its arguments as they came, ``arguments`` once they are read.

    ``dropped``: nobody waits for its answer any more; what has not begun then never does.
    """

    number: int
    answer: Answer
    given: Any
    arguments: dict[str, Any] | None = None
    dropped: bool = False

    def carry_out(self) -> Any:
        """The answer. Raises ProtocolError for arguments that are none, and what the function raises."""
        self.arguments = typed(self.answer.call.parameters, self.given)
        if self.dropped:
            raise Refusal(Code.INTERRUPTED, f"{self.answer.call.name}: its client hung up")
        return self.answer.function(**self.arguments)

    def result(self, value: Any) -> dict[str, Any]:
        """The document that answers it."""
        return {"id": self.number, "result": encode(value)}

    def event(self, value: Any) -> dict[str, Any]:
        """The document that tells what happened on the way."""
        return {"id": self.number, "event": encode(value)}

    def error(self, error: BaseException) -> dict[str, Any]:
        """The document that refuses it."""
        return {"id": self.number, "error": encode_error(error)}


def understood(document: Mapping[str, Any], answers: Answers) -> Request:
    """The request that a document is. Raises ProtocolError."""
    if document.keys() != {"id", "call", "args"}:
        raise ProtocolError(f"a request has id, call and args, not {sorted(document)}")
    answer = answers.get(str(document["call"]))
    if answer is None:
        raise ProtocolError(f"no call {document['call']!r}")
    return Request(decode(int, document["id"], "id"), answer, document["args"])


def typed(parameters: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Arguments by name, each of its type. Raises ProtocolError."""
    if not isinstance(data, dict) or data.keys() != parameters.keys():
        raise ProtocolError(f"args: expected {sorted(parameters)}, got {data!r:.60}")
    return {name: decode(hint, data[name], name) for name, hint in parameters.items()}


def unheard(error: HotbankError) -> dict[str, Any]:
    """The document about a line itself, which ends with it."""
    return {"id": None, "error": encode_error(error)}


def not_permitted() -> Refusal:
    """To who may only read."""
    what = "only root and the machine's owner may change it"
    return Refusal(Code.NOT_PERMITTED, what, remedy=remedy(Code.NOT_PERMITTED))


def answer_in_turn(stream: Stream, hello: Hello, answers: Answers, heard: Callable[[], None]) -> None:
    """Answer requests of one's own worker one after the other until it hangs up. ``heard``: called at each.

    Raises OSError when it hangs up without reading, ProtocolError when it speaks nonsense.
    """
    lines = Lines(stream, MAX_REQUEST)
    lines.send(encode(hello))
    while (document := lines.receive()) is not None:
        request = understood(document, answers)
        heard()
        try:
            answer = request.result(request.carry_out())
        except Exception as e:  # whatever went wrong is the worker's to know
            answer = request.error(e)
        lines.send(answer)
        heard()
