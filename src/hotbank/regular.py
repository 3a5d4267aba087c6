# SPDX-License-Identifier: Apache-2.0
"""Files that others may have put there: opened only if they are regular, and read up to a limit.

A FIFO would hold its reader up for ever, a device could do something by being opened, and what has no end fills memory.
"""

from __future__ import annotations

import errno
import os
import stat

_PART = 1 << 16  # bytes read at once


def open_regular(
    path: str | os.PathLike[str], flags: int = os.O_RDONLY, *, folder: int | None = None, mode: int = 0o600
) -> int:
    """A descriptor, see open(2). ``folder``: an open one that the path is relative to.

    Raises OSError, with EINVAL for what is no regular file. ``os.O_NOFOLLOW`` is for places where strangers may write.
    """
    file = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=folder)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(errno.EINVAL, "is no regular file", os.fspath(path))


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """All of the file. Raises OSError, with EINVAL for what is no regular file and EFBIG beyond ``most`` bytes."""
    file = open_regular(path)
    try:
        content = read_open(file, most)
    finally:
        os.close(file)
    if content is None:
        raise OSError(errno.EFBIG, f"is larger than {most} bytes", os.fspath(path))
    return content


def read_open(file: int, most: int, first: int = _PART) -> bytes | None:
    """The rest of an open file, None when that is more than ``most`` bytes; ``first``: how much to ask for at first."""
    parts, size = [], 0
    while part := os.read(file, _PART if size else first):
        parts.append(part)
        size += len(part)
        if size > most:
            return None
    return b"".join(parts)
