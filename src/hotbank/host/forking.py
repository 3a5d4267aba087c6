# SPDX-License-Identifier: Apache-2.0
"""The helper that forks a process for each write: a program of its own, started by writer.py and nobody else.

It is asked on its standard input, a socket: one message is a path and a word, and with it comes the pipe on which the
process that writes says one byte, its errno. The answer is that process's id. It ends when the other end closes, or the
thread that started it, and whoever still writes dies with it (prctl(2), PR_SET_PDEATHSIG). Nothing here imports
hotbank: it must start fast.
"""

from __future__ import annotations

import os
import signal
import socket

_REQUEST = 65536  # bytes
_PR_SET_PDEATHSIG = 1


def serve(requests: socket.socket) -> None:
    """Fork a writer for each request until there are no more."""
    from ctypes import CDLL  # who only asks for this file's name need not wait for it

    prctl, helper = CDLL(None).prctl, os.getpid()
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # also when this process is stopped
    while True:
        request, files, _, _ = socket.recv_fds(requests, _REQUEST, 1)
        if not request:
            return
        path, word = request.split(b"\0")
        child = os.fork()
        if child == 0:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            os._exit(1 if os.getppid() != helper else _told(files[0], write(path, word)))
        os.close(files[0])
        requests.send(child.to_bytes(4, "little"))


def write(path: bytes, word: bytes) -> int:
    """Write the word to the file at once; 0 or the errno."""
    try:
        os.write(os.open(path, os.O_WRONLY | os.O_TRUNC), word)
    except OSError as e:
        return e.errno or 0
    return 0


def _told(pipe: int, errno: int) -> int:
    os.write(pipe, bytes([errno]))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=0) as asked:
        serve(asked)
