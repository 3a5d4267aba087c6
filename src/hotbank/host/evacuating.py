# SPDX-License-Identifier: Apache-2.0
"""The program that evacuates banks by our driver: started by evacuation.py and nobody else.

``evacuating.py SECONDS FILE:RANGE…``: opens each of the driver's files once and forks a process for each range, which
writes it (kernel/bank/evacuate.c). On its standard output it says a line for each, ``RANGE ERRNO``, when all have ended
what the files then read, and an empty line. Then it holds what was taken until its standard input has said nothing for
so many seconds. When that ends, whoever started it is gone, and so is all of this at once; at the latest it ends with
the thread that started it. What is held belongs to the open files: whenever this process and its children are gone, the
kernel has it back. Nothing here imports hotbank: it must start fast.
"""

from __future__ import annotations

import os
import select
import sys
from ctypes import CDLL

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9  # of the module signal, whose import takes longer than all the others
_REPORT = 65536  # bytes


def main(seconds: float, words: list[str]) -> None:
    """Take the ranges, tell, and hold them. A file that can't be opened gives its errno for each of its own."""
    _die_with_parent()
    wanted = [(path, span) for path, _, span in (word.rpartition(":") for word in words)]
    files = {path: _opened(path) for path in dict.fromkeys(path for path, _ in wanted)}
    begun = {_begun(files[path], span): span for path, span in wanted if files[path] >= 0}
    _say("".join(f"{span} {-files[path]}\n" for path, span in wanted if files[path] < 0))
    ends = {os.pidfd_open(pid): pid for pid in begun}
    while ends:
        ready = select.select([0, *ends], [], [])[0]
        if 0 in ready:
            return
        pid = ends.pop(ready[0])
        _say(f"{begun[pid]} {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
    _say("".join(os.pread(file, _REPORT, 0).decode() for file in files.values() if file >= 0) + "\n")
    while begun and select.select([0], [], [], seconds)[0] and os.read(0, 1):
        pass


def _opened(path: str) -> int:
    """The file, or its errno below zero."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        return -(e.errno or 1)


def _begun(file: int, span: str) -> int:
    us, child = os.getpid(), os.fork()
    if child == 0:
        _die_with_parent()
        os._exit(1 if os.getppid() != us else write(file, span))
    return child


def _die_with_parent() -> None:
    """Also when this process is stopped, and can't see that its standard input has ended."""
    CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def write(file: int, span: str) -> int:
    """Write the range; 0 or the errno."""
    try:
        os.write(file, span.encode())
    except OSError as e:
        return e.errno or 0
    return 0


def _say(text: str) -> None:
    os.write(1, text.encode())


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
