# SPDX-License-Identifier: Apache-2.0
"""Files that somebody names, ``-`` for standard input, and JSON in them: what commands of ours printed before; and
where one can be written."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from hotbank.cli.terminal import say
from hotbank.errors import FILE, FormatError, in_file
from hotbank.memory import MIB, format_size
from hotbank.regular import read_regular

_MOST = 256 << 20  # bytes
_LARGEST = 64 * MIB  # of what is read from a pipe, too
_SOON = 1.0  # seconds of wall time until it is said that a pipe is waited for
STDIN = "-"


def contents(path: str) -> bytes:
    """Of a file, a pipe or standard input. Raises FormatError, OSError, UsageError."""
    if path == STDIN and (sys.stdin is None or sys.stdin.closed):
        raise click.UsageError("standard input is closed, or was read for another option already")
    with sys.stdin.buffer if path == STDIN else _opened(path) as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise FormatError(FILE, _LARGEST, "size", f"larger than {format_size(_LARGEST)}")
    return data


def _opened(path: str) -> BinaryIO:
    """A pipe into which nobody writes is waited for, as everybody does, but not in silence."""
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        return Path(path).open("rb")
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    _wait_for_writer(file, path)
    os.set_blocking(file, True)
    return os.fdopen(file, "rb")


def _wait_for_writer(file: int, path: str) -> None:
    from hotbank.host.parent import readable  # a pipe is seldom named

    if not readable(file, _SOON):
        say(f"{path}: nobody has written into this pipe yet; waiting for that", err=True)
        readable(file, None)


def document(path: str, form: str) -> Any:
    """The one in that file, or on standard input. Raises FormatError, OSError, UsageError."""
    with in_file(path):
        return _parsed(contents(path) if path == STDIN else read_regular(path, _MOST), 0, form)


def lines(path: str, form: str) -> Iterator[tuple[int, Any]]:
    """Those of a file that has one a line, each with the offset that it begins at. Raises FormatError, OSError."""
    at = 0
    with in_file(path):
        for line in read_regular(path, _MOST).splitlines(keepends=True):
            if line.strip():
                yield at, _parsed(line, at, form)
            at += len(line)


def _parsed(text: bytes, at: int, form: str) -> Any:
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError) as e:
        raise FormatError(form, at, "document", f"is no JSON: {e}") from e


def check_writable(path: str) -> None:
    """Before work that takes long. Raises OSError where its result could not be written into that file."""
    there = os.path.exists(path)
    beside = path if there else os.path.join(os.path.dirname(path) or ".", "")  # which only a folder may end with
    try:
        os.stat(beside)
    except OSError as e:
        raise OSError(e.errno, e.strerror, path) from e
    if not os.access(beside, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
