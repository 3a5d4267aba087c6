# SPDX-License-Identifier: Apache-2.0
"""A machine at the far end of a byte stream: the Machine protocol by request and answer (wire.py).

The owner at the other end is a ``hotbank serve``, or the host-side of a worker. Nothing waits without limit: an
owner that does not answer in time is a MachineError, and the connection is closed, since an answer may still come.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import IO, Any, cast

from hotbank.calls import BY_BLOCK, CLOCK, COUNTING, DOCTOR, GLANCE, MACHINE, PAGES, VACATE, Call, asked
from hotbank.errors import Code, HotbankError, MachineError, ProtocolError
from hotbank.machine import (
    Ability,
    BlockByBlock,
    Counting,
    Examinable,
    Glancing,
    Machine,
    PageByPage,
    Vacated,
)
from hotbank.wire import MAX_ANSWER, VERSION, Lines, Stream, decode, decode_error, encode

_MOMENT = 1.0  # seconds
_NOBODY = "hotbank serve --socket PATH serves one there"
_GONE = "the machine's owner is gone: hotbank down, then hotbank up again"


class SocketStream:
    """A connected stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        return self._socket.fileno()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes as soon as there are some; ``b""`` at the end."""
        return self._socket.recv(size)

    def write(self, data: bytes) -> None:
        """All of the bytes."""
        self._socket.sendall(data)

    def sink(self) -> int:
        """The same descriptor."""
        return self._socket.fileno()

    def write_some(self, data: memoryview) -> int:
        """As many of the bytes as can go without waiting; how many."""
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Close both directions, also under a reader that waits."""
        with suppress(OSError):  # the other end may be gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class FileStream:
    """Two files, such as the pipes of ``ssh HOST hotbank serve --stdio``."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader, self._writer = reader, writer

    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        return self._reader.fileno()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes as soon as there are some; ``b""`` at the end."""
        return os.read(self._reader.fileno(), size)

    def write(self, data: bytes) -> None:
        """All of the bytes."""
        self._writer.write(data)
        self._writer.flush()

    def sink(self) -> int:
        """The descriptor that becomes writable."""
        return self._writer.fileno()

    def write_some(self, data: memoryview) -> int:
        """So few bytes that they can go without waiting (pipe(7), PIPE_BUF); how many."""
        return os.write(self._writer.fileno(), data[: select.PIPE_BUF])

    def close(self) -> None:
        """Close both files."""
        self._writer.close()
        self._reader.close()


def unreached(error: OSError) -> Code:
    """Why nobody was reached: there is nobody, or who is there is not for everybody."""
    return Code.NOT_PERMITTED if isinstance(error, PermissionError) else Code.NO_MACHINE


def dial(path: str | os.PathLike[str], timeout: float) -> socket.socket:
    """A blocking Unix socket connected to ``path``; connecting and each write take ``timeout`` seconds at most.

    Raises OSError. (unix(7): a non-blocking connect fails at once where others queue to be accepted.)
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        limit = struct.pack("@ll", int(timeout), int(timeout % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.connect(os.fspath(path))
    except ValueError as e:  # a NUL or half a character: no file has such a name
        connection.close()
        raise OSError(errno.EINVAL, str(e)) from e
    except BaseException:
        connection.close()
        raise
    return connection


@dataclass(frozen=True, slots=True)
class Hello:
    """An owner's first line: the version it speaks, its process, its machine and what that can do besides."""

    hotbank: int
    pid: int
    machine: str
    can: tuple[Ability, ...] = ()


class Remote:
    """A Machine over a stream. ``timeout``: seconds of wall time for an answer; an offline may take its deadline more.

    One call at a time; calls from several threads wait for each other. ``interrupt`` and ``cancel`` may be called at
    any time. ``gone``: what helps when the other end is not there any more; ``patience``: seconds for its first word,
    where not ``timeout``.
    """

    def __init__(
        self, stream: Stream, *, timeout: float = 30.0, gone: str = _GONE, patience: float | None = None
    ) -> None:
        self._lines, self._timeout, self._gone = Lines(stream, MAX_ANSWER), timeout, gone
        self._turn, self._writing = threading.Lock(), threading.RLock()
        self._last = self._abandoned = 0
        self._broken = False
        self.hello = self._greet(timeout if patience is None else patience)

    @classmethod
    def unix(cls, path: str | os.PathLike[str], *, timeout: float = 30.0, gone: str = _GONE) -> Remote:
        """Connect to an owner's Unix socket. Raises MachineError when there is none. ``gone``: what helps when the
        owner is."""
        try:
            connection = dial(path, timeout)
        except OSError as e:
            what = f"no machine answers at {path}: {e.strerror or e}"
            raise MachineError(what, code=unreached(e), remedy=_NOBODY) from e
        return cls(SocketStream(connection), timeout=timeout, gone=gone)

    @cached_property
    def clock(self) -> _RemoteClock:
        """The owner's clock."""
        return _RemoteClock(self)

    @property
    def can(self) -> frozenset[Ability]:
        """What the owner's machine can do besides, as its first line said."""
        return frozenset(self.hello.can)

    snapshot = asked(MACHINE, Machine.snapshot)
    survey = asked(MACHINE, Machine.survey)
    pages = asked(PAGES, PageByPage.pages)
    glance = asked(GLANCE, Glancing.glance)
    count = asked(COUNTING, Counting.count)
    block = asked(BY_BLOCK, BlockByBlock.block)
    doctor = asked(DOCTOR, Examinable.doctor)
    online = asked(MACHINE, Machine.online)
    add = asked(MACHINE, Machine.add)
    remove = asked(MACHINE, Machine.remove)
    power = asked(MACHINE, Machine.power)
    set_power = asked(MACHINE, Machine.set_power)
    set_auto_online = asked(MACHINE, Machine.set_auto_online)
    reading = asked(MACHINE, Machine.reading)

    def offline(self, block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        """See Machine. The answer may take until the deadline, and the timeout more."""
        call = MACHINE["offline"]
        self.ask(call, call.arguments(block, deadline, spare=spare, fence=fence), extra_time=self._until(deadline))

    def vacate(self, block: int, deadline: float, *, drop: int = 0, spare: int = 0) -> Vacated:
        """See Vacating. The answer may take until the deadline, and the timeout more."""
        call = VACATE["vacate"]
        arguments = call.arguments(block, deadline, drop=drop, spare=spare)
        return cast("Vacated", self.ask(call, arguments, extra_time=self._until(deadline)))

    def _until(self, deadline: float) -> float:
        """Seconds until then on the owner's clock, or a moment more: whoever has just asked for its time has made the
        deadline of it, and clocks don't go back."""
        if time.monotonic() - self.clock.asked > _MOMENT:
            self.clock.now()
        return max(0.0, deadline - self.clock.told)

    def interrupt(self, block: int, deadline: float) -> None:
        """See Interruptible. From any thread, or from a signal handler."""
        self._send({"interrupt": {"block": block, "deadline": deadline}})

    def cancel(self) -> None:
        """Ask the owner to interrupt the transaction that runs; from any thread, or from a signal handler."""
        self._send({"cancel": True})

    @property
    def closed(self) -> bool:
        """True once it was hung up, at either end or because of nonsense."""
        return self._broken

    def close(self) -> None:
        """Hang up. A transaction that the owner carries out goes on."""
        self._broken = True
        self._lines.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self,
        call: Call,
        arguments: Mapping[str, Any],
        *,
        extra_time: float | None = 0.0,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> Any:
        """One request and its answer, a value of the call's result type; events on the way go to ``on_event``.

        ``extra_time``: seconds beyond the timeout, None to wait as long as the owner is there. Raises what the owner
        raised, MachineError when it is gone or silent, ProtocolError when it speaks nonsense.
        """
        with self._turn:
            self._last += 1
            self._send({"id": self._last, "call": call.name, "args": encode(arguments)})
            try:
                answer = self._answer(None if extra_time is None else self._timeout + extra_time, on_event)
            except BaseException:
                self._abandoned = self._last  # its events and its answer may still come
                raise
        if "error" in answer:
            raise decode_error(answer["error"])
        return decode(call.result, answer["result"], call.name)

    def _answer(self, timeout: float | None, on_event: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        """The answer to the last request, events told on the way."""
        while True:
            answer = self._receive(timeout)
            if answer.get("id") in range(1, self._abandoned + 1):
                continue
            if answer.get("id", 0) is None and "error" in answer:  # about the line itself, which ends with it
                self.close()
                raise decode_error(answer["error"])
            if answer.get("id") != self._last:
                raise self._nonsense(f"an answer to request {answer.get('id')!r}, not to {self._last}")
            if "event" in answer and on_event is not None:
                on_event(answer["event"])
            elif "error" in answer or "result" in answer:
                return answer
            else:
                raise self._nonsense(f"an answer with {sorted(answer)}")

    def _greet(self, patience: float) -> Hello:
        hello = self._receive(patience)
        if "error" in hello:
            self.close()
            raise decode_error(hello["error"])
        if hello.get("hotbank") != VERSION:
            self.close()
            remedy = "install the same version of hotbank at both ends"
            raise MachineError(
                f"the owner speaks protocol {hello.get('hotbank')!r}, not {VERSION}",
                code=Code.UNSUPPORTED,
                remedy=remedy,
            )
        return decode(Hello, hello, "hello")

    def _send(self, document: dict[str, Any]) -> None:
        if self._broken:
            raise MachineError("the connection is closed", remedy=self._gone)
        try:
            with self._writing:
                self._lines.send(document)
        except OSError as e:
            said = self._last_words()
            self.close()
            gone = MachineError(f"the machine's owner hung up: {e.strerror or e}", remedy=self._gone)
            raise said or gone from e

    def _last_words(self) -> HotbankError | None:
        """Why the owner hung up, if it said so before."""
        with suppress(OSError, ProtocolError):  # TimeoutError is one
            last = self._lines.receive(0)
            if last is not None and last.get("id", 0) is None and "error" in last:
                return decode_error(last["error"])
        return None

    def _receive(self, timeout: float | None) -> dict[str, Any]:
        try:
            answer = self._lines.receive(timeout)
        except TimeoutError as e:
            self.close()
            raise MachineError(f"the machine's owner gave no answer in {timeout:g} s", remedy=self._gone) from e
        except OSError as e:
            self.close()
            raise MachineError(f"the machine's owner hung up: {e.strerror or e}", remedy=self._gone) from e
        except ProtocolError:
            self.close()
            raise
        if answer is None:
            self.close()
            raise MachineError("the machine's owner hung up", remedy=self._gone)
        return answer

    def _nonsense(self, problem: str) -> ProtocolError:
        self.close()
        return ProtocolError(f"the owner sent {problem}")


class AtOwner:
    """Something of the owner's beside its machine, asked over the same line."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def ask(self, call: Call, arguments: Mapping[str, Any]) -> Any:
        """See Remote."""
        return self._remote.ask(call, arguments)


class _RemoteClock(AtOwner):
    """The owner's clock, asked over the wire. ``told``: what it last said; ``asked``: when, on ours."""

    told, asked = 0.0, -inf

    def now(self) -> float:
        """Seconds since an arbitrary start."""
        self.told = cast("float", self._remote.ask(CLOCK["now"], {}))
        self.asked = time.monotonic()
        return self.told

    def sleep(self, seconds: float) -> None:
        """Let time pass at the owner's."""
        self._remote.ask(CLOCK["sleep"], {"seconds": seconds}, extra_time=seconds)
