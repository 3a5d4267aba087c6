# SPDX-License-Identifier: Apache-2.0
"""The table of calls that cross a wire, made from the protocols themselves: their methods, and the types of these.

What asks (`remote.py`, a worker's journal), what answers (`serve/line.py`) and docs/protocol.md read the same table,
so a method that is added to a protocol is a call on the wire. What is not said to read is taken to change.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from hotbank.machine import BlockByBlock, Clock, Counting, Examinable, Glancing, Machine, PageByPage, Vacating

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Call:
    """One call. ``parameters``: types by name, all of which cross the wire; ``result``: its type.

    ``changes``: only who may change the machine may call it. ``slow``: it may take until a deadline that it is given,
    and its line goes on listening meanwhile.
    """

    name: str
    parameters: Mapping[str, Any]
    result: Any
    signature: inspect.Signature
    changes: bool
    slow: bool

    def arguments(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """All arguments by name, also those that the caller left to their defaults. Raises TypeError."""
        bound = self.signature.bind(None, *args, **kwargs)
        bound.apply_defaults()
        return {name: bound.arguments[name] for name in self.parameters}


Table = Mapping[str, Call]  # by the name of the method


def table(prefix: str, protocol: type, *, reads: Collection[str] = (), slow: Collection[str] = ()) -> Table:
    """The calls ``PREFIX.METHOD`` of a protocol."""
    methods = {name: method for name, method in vars(protocol).items() if _is_call(name, method)}
    return {name: _call(f"{prefix}.{name}", m, name not in reads, name in slow) for name, m in methods.items()}


def _is_call(name: str, method: object) -> bool:
    return inspect.isfunction(method) and not name.startswith("_")


def _call(name: str, method: Callable[..., Any], changes: bool, slow: bool) -> Call:
    hints = typing.get_type_hints(method)
    result = hints.pop("return")
    return Call(name, hints, result, inspect.signature(method), changes, slow)


class Asks(Protocol):
    """Who can have a call answered elsewhere."""

    def ask(self, call: Call, arguments: Mapping[str, Any]) -> Any:
        """The answer, a value of the call's result type. Raises what the far end raised."""
        ...


def asked(calls: Table, method: Callable[Concatenate[Any, _P], _R]) -> Callable[Concatenate[Asks, _P], _R]:
    """The protocol's method, for a class that asks somebody else."""
    call = calls[method.__name__]

    def ask(self: Asks, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return cast("_R", self.ask(call, call.arguments(*args, **kwargs)))

    functools.update_wrapper(ask, method)
    return ask


MACHINE = table("machine", Machine, reads={"snapshot", "survey", "power", "reading"}, slow={"offline"})
PAGES = table("machine", PageByPage, reads={"pages"})
GLANCE = table("machine", Glancing, reads={"glance"})
COUNTING = table("machine", Counting, reads={"count"})
BY_BLOCK = table("machine", BlockByBlock, reads={"block"})
VACATE = table("machine", Vacating, slow={"vacate"})
DOCTOR = table("machine", Examinable, reads={"doctor"})
CLOCK = table("clock", Clock, reads={"now", "sleep"})
