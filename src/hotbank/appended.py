# SPDX-License-Identifier: Apache-2.0
"""Files of JSON documents, one a line, that are only ever appended to, and by one process at a time.

A line is on the disk when ``append`` returns. A process may end in the middle of one: such a line is the last, and is
dropped when the file is opened again. Nothing else is, so that a file of somebody else's stays as it is.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hotbank.errors import Code, FormatError, ProtocolError, Refusal
from hotbank.regular import open_regular, read_open

_STRANGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, ProtocolError)


class Appended:
    """Open and locked until closed. ``form``: what it is called in a message; ``first``: the key that every line begins
    with; ``most``: bytes; ``take`` has each line's value, and raises ValueError, KeyError, TypeError, AttributeError
    or ProtocolError for what is no line of this form."""

    def __init__(
        self, path: Path, form: str, first: str, most: int, take: Callable[[Any], None], *, mode: int = 0o600
    ) -> None:
        """Makes the file. Raises Refusal(BUSY_TRANSACTION), FormatError, OSError, with EFBIG beyond ``most``."""
        self._path, self._form, self._begins = path, form, f'{{"{first}":'.encode()
        self._file = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode=mode)
        try:
            self._lock()
            self._read(most, take)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._file)

    def append(self, data: bytes) -> None:
        """Write whole lines down, all of them or none. Raises OSError."""
        end = os.fstat(self._file).st_size
        try:
            _write_all(self._file, data)
            os.fsync(self._file)
        except BaseException:
            os.ftruncate(self._file, end)  # a part of a line would spoil the next
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            what = f"{self._path}: another process is at work with it"
            raise Refusal(Code.BUSY_TRANSACTION, what, remedy="wait for its end") from e

    def _read(self, most: int, take: Callable[[Any], None]) -> None:
        data = read_open(self._file, most)
        if data is None:
            raise OSError(errno.EFBIG, f"is larger than {most} bytes", os.fspath(self._path))
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), 1):
            self._take(line, number, take)
        rest = data[whole:]
        if not (rest.startswith(self._begins) or self._begins.startswith(rest)):
            raise self._strange(data.count(b"\n") + 1)
        os.ftruncate(self._file, whole)

    def _take(self, line: bytes, number: int, take: Callable[[Any], None]) -> None:
        try:
            take(json.loads(line))
        except _STRANGE as e:
            raise self._strange(number) from e

    def _strange(self, number: int) -> FormatError:
        return FormatError(self._form, 0, f"{self._path}, line {number}", f"no row of a {self._form}")


def as_line(document: Any) -> bytes:
    """A document as a line of such a file."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
