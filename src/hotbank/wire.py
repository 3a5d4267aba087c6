# SPDX-License-Identifier: Apache-2.0
"""The wire: one JSON document a line, values by their type hints, errors with everything they carry.

The rules are strict, so that a wrong peer is found at once: a missing, unknown or ill-typed field, a line
over the limit, or bytes that are no JSON raise ProtocolError and say where. ``decode(type(x), encode(x)) == x``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import select
import time
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol, TypeVar, overload

from hotbank.errors import (
    BoardError,
    CancelPending,
    Code,
    FormatError,
    HotbankError,
    KernelError,
    MachineError,
    ProtocolError,
    Refusal,
    SwitchError,
    brief,
)
from hotbank.numbers import finite, is_whole

VERSION = 13
MAX_REQUEST = 4 << 20  # bytes of one line to an owner: the largest is what a transaction found, block by block
MAX_ANSWER = 64 << 20  # bytes of one line from an owner: a snapshot of a machine with 100,000 blocks fits

LONGEST_POLL = (1 << 31) - 1  # milliseconds that poll(2) can wait

_T = TypeVar("_T")


# Values.


def encode(value: Any) -> Any:
    """What ``json`` can write: dataclasses as objects, enums by value, tuples as lists, errors with all they carry."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, HotbankError):
        return encode_error(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(k): encode(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} does not cross the wire")


@overload
def decode(hint: type[_T], data: Any, where: str = ...) -> _T: ...
@overload
def decode(hint: Any, data: Any, where: str = ...) -> Any: ...
def decode(hint: Any, data: Any, where: str = "value") -> Any:
    """The value of type ``hint`` that ``encode`` gave as ``data``. Raises ProtocolError naming ``where``."""
    hint = getattr(hint, "__supertype__", hint)  # of a NewType
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(hint), data, where)
    if origin is tuple:
        return _decode_tuple(typing.get_args(hint), data, where)
    if origin is not None and issubclass(origin, Mapping):
        return _decode_mapping(typing.get_args(hint), data, where)
    if hint is HotbankError:
        return decode_error(data)
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(hint, data, where)
    return _decode_plain(hint, data, where)


def _key(key: Any) -> str:
    text = key.value if isinstance(key, Enum) else key
    if not isinstance(text, str):
        raise TypeError(f"{key!r} can't be a key on the wire")
    return text


def _decode_union(choices: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in choices:
        return None
    others = [c for c in choices if c is not type(None)]
    for choice in others[:-1]:
        try:
            return decode(choice, data, where)
        except ProtocolError:
            continue
    return decode(others[-1], data, where)


def _decode_tuple(items: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise _wrong(where, "a list", data)
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(decode(items[0], v, f"{where}[{i}]") for i, v in enumerate(data))
    if len(data) != len(items):
        raise _wrong(where, f"a list of {len(items)}", data)
    return tuple(decode(hint, v, f"{where}[{i}]") for i, (hint, v) in enumerate(zip(items, data, strict=True)))


def _decode_mapping(items: tuple[Any, ...], data: Any, where: str) -> dict[Any, Any]:
    if not isinstance(data, dict):
        raise _wrong(where, "an object", data)
    key, value = items
    return {decode(key, k, f"{where} key"): decode(value, v, f"{where}.{k}") for k, v in data.items()}


def _decode_dataclass(hint: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise _wrong(where, f"a {hint.__name__} object", data)
    hints = _hints(hint)
    if data.keys() != hints.keys():
        extra, missing = sorted(data.keys() - hints.keys()), sorted(hints.keys() - data.keys())
        raise ProtocolError(f"{where}: {hint.__name__} with unknown fields {extra} and without {missing}")
    try:
        return hint(**{name: decode(hints[name], v, f"{where}.{name}") for name, v in data.items()})
    except ValueError as e:
        raise ProtocolError(f"{where}: {e}") from e


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _decode_plain(hint: Any, data: Any, where: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(data)
        except ValueError as e:
            raise _wrong(where, f"one of {', '.join(str(m.value) for m in hint)}", data) from e
    if hint is type(None) and data is None:
        return None
    if hint is float and (number := finite(data)) is not None:
        return number
    if (hint is int and is_whole(data)) or (hint in (bool, str) and type(data) is hint):
        return data
    raise _wrong(where, getattr(hint, "__name__", str(hint)), data)


def _wrong(where: str, expected: str, data: Any) -> ProtocolError:
    return ProtocolError(f"{where}: expected {expected}, got {brief(data)}")


# Errors: for each class, the arguments that build it again.

_ERRORS: dict[type[HotbankError], tuple[str, ...]] = {
    BoardError: ("key", "value", "allowed", "code", "remedy", "file", "line"),
    FormatError: ("form", "offset", "field", "problem"),
    Refusal: ("code", "message", "remedy"),
    CancelPending: ("what", "detail"),
    KernelError: ("errno", "what", "detail", "code"),
    SwitchError: ("message", "code", "remedy"),
    MachineError: ("message", "code", "remedy"),
    ProtocolError: ("message", "code", "remedy"),
    HotbankError: ("message", "code", "remedy"),
}
_ERRORS_BY_NAME = {cls.__name__: cls for cls in _ERRORS}


def encode_error(error: BaseException) -> dict[str, Any]:
    """An error with its type and everything it carries; one that hotbank does not know as a MachineError."""
    if not isinstance(error, HotbankError):
        what = f"the machine's owner failed: {type(error).__name__}: {error}"
        error = MachineError(what, code=Code.SYSTEM_ERROR)
    cls = next(c for c in type(error).__mro__ if c in _ERRORS)
    return {"type": cls.__name__, **{name: _field(getattr(error, name)) for name in _ERRORS[cls]}}


def decode_error(data: Any) -> HotbankError:
    """The error again. Raises ProtocolError when it is not one."""
    cls = _ERRORS_BY_NAME.get(str(data.get("type"))) if isinstance(data, dict) else None
    if cls is None:
        raise _wrong("error", "an error object", data)
    if data.keys() != {"type", *_ERRORS[cls]}:
        raise _wrong("error", f"the fields of {cls.__name__}", data)
    arguments = {name: _argument(name, data[name]) for name in _ERRORS[cls]}
    error = cls(**arguments)
    if not str(error):
        raise _wrong("error", "words", data)
    return error


def _field(value: object) -> Any:
    return encode(value) if value is None or isinstance(value, str | int | float | Enum) else repr(value)


def _argument(name: str, value: Any) -> Any:
    if name == "value":
        return value
    hint = {"code": Code, "errno": int, "offset": int, "line": int}.get(name, str)
    return decode(hint, value, f"error.{name}")


# Lines.


class Stream(Protocol):
    """A byte stream with file descriptors to wait on: a socket, or a pair of pipes."""

    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        ...

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes as soon as there are some; ``b""`` at the end."""
        ...

    def write(self, data: bytes) -> None:
        """All of the bytes."""
        ...

    def sink(self) -> int:
        """The descriptor that becomes writable, and tells when nobody reads any more."""
        ...

    def write_some(self, data: memoryview) -> int:
        """As many of the bytes as can go without waiting, once the sink is writable; how many."""
        ...

    def close(self) -> None:
        """Close both directions."""
        ...


class Inbox:
    """Bytes that came, cut into documents. ``limit``: bytes of one line."""

    def __init__(self, limit: int) -> None:
        self._limit, self._searched = limit, 0
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        """More came."""
        self._bytes += data

    @property
    def ready(self) -> bool:
        """Whether ``take`` has an answer: a document, or that what came is none."""
        if self._bytes.find(b"\n", self._searched) >= 0:
            return True
        self._searched = len(self._bytes)
        return self._searched > self._limit

    def take(self) -> dict[str, Any] | None:
        """The next document, None while it is not all there. Raises ProtocolError on anything but an object a line."""
        if not self.ready:
            return None
        end = self._bytes.find(b"\n", self._searched)
        if end < 0:
            raise ProtocolError(f"a line is longer than {self._limit} bytes")
        line = bytes(self._bytes[:end])
        del self._bytes[: end + 1]
        self._searched = 0
        return _document(line)

    def end(self) -> None:
        """No more will come. Raises ProtocolError within a line."""
        if self._bytes:
            raise ProtocolError(f"the stream ended within a line, after {len(self._bytes)} bytes of it")


def _document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line.decode())  # json itself would guess at UTF-16
    except (ValueError, RecursionError) as e:
        raise ProtocolError(f"a line is no JSON: {e}") from e
    if not isinstance(document, dict):
        raise _wrong("line", "a JSON object", document)
    return document


def as_line(document: Mapping[str, Any]) -> bytes:
    """A document as it crosses the wire."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode() + b"\n"


class Lines:
    """JSON documents, one a line, over a stream. One reader and any number of writers that take turns."""

    def __init__(self, stream: Stream, limit: int) -> None:
        self._stream, self._inbox = stream, Inbox(limit)

    def send(self, document: Mapping[str, Any]) -> None:
        """Write one document. Raises OSError when the other end is gone."""
        self._stream.write(as_line(document))

    def receive(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next document, or None at the end of the stream.

        Raises TimeoutError after ``timeout`` seconds of wall time, ProtocolError on anything but a JSON object a line.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (document := self._inbox.take()) is None:
            data = self._read(until)
            if not data:
                self._inbox.end()
                return None
            self._inbox.add(data)
        return document

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def _read(self, until: float | None) -> bytes:
        if until is not None:
            poll = select.poll()
            poll.register(self._stream.fileno(), select.POLLIN)
            if not poll.poll(min(max(0.0, until - time.monotonic()) * 1000, LONGEST_POLL)):
                raise TimeoutError
        return self._stream.read(1 << 16)
