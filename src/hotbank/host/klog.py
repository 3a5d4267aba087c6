# SPDX-License-Identifier: Apache-2.0
"""What the kernel says while something is tried: /dev/kmsg (Documentation/ABI/testing/dev-kmsg).

A refusal's errno has no room for the reason; the log often has: "unmovable page", "Boot memory [..] offlining
attempted", "migrating pfn .. failed". Without the right to read it there are simply no lines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hotbank.host.tree import Tree

_TELLING = re.compile(r"offlin|onlin|unmovable|migrat|page dumped|removing memory|isolat|hotplug", re.IGNORECASE)
_MOST = 3  # lines that a one-line error can bear
_RECORD = 8192  # bytes: a read with less room for a record fails (EINVAL)
_READS = 4096  # a log that grows as fast as it is read must not hold an answer up


class KernelLog:
    """The records since this was made."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def telling(self) -> str:
        """The last few new lines that speak of memory, joined into one; empty when there are none."""
        lines = [line for line in self._lines() if _TELLING.search(line)]
        return " | ".join(dict.fromkeys(lines[-_MOST:]))

    def _lines(self) -> Iterator[str]:
        """Messages without their prefix ``priority,sequence,time,flags;``; the indented lines after them are keys."""
        text = b"".join(self._records()).decode("utf-8", "replace")
        for record in text.splitlines():
            _, found, message = record.partition(";")
            if found and not record.startswith(" "):
                yield message.strip()

    def _records(self) -> Iterator[bytes]:
        for _ in range(_READS if self._fd is not None else 0):
            try:
                record = os.read(self._fd, _RECORD)  # type: ignore[arg-type]  # the range is empty without one
            except BrokenPipeError:
                continue  # older records were overwritten; reading goes on at the oldest there is
            except OSError:
                return
            if not record:
                return
            yield record


@contextmanager
def listening(tree: Tree) -> Iterator[KernelLog]:
    """The kernel's log from now on, until the block ends."""
    fd = None
    with suppress(OSError):
        fd = os.open(tree.path("dev/kmsg"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(fd, 0, os.SEEK_END)
    try:
        yield KernelLog(fd)
    finally:
        if fd is not None:
            os.close(fd)
