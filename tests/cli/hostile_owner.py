# SPDX-License-Identifier: Apache-2.0
"""A machine's owner that says whatever a test wants, and a terminal on which a command meets it."""

from __future__ import annotations

import json
import os
import pty
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hotbank import cli
from hotbank.wire import VERSION

Answers = Mapping[str, Any]  # by the name of the call: the result, or {"error": ...}
EVENTS = "events"


@contextmanager
def owner(path: Path, answers: Answers, hello: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Served at ``path`` for as long as the block runs. ``hello``: what its first line says otherwise."""
    first = {"hotbank": VERSION, "pid": 1, "machine": "hostile", "can": []} | dict(hello or {})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        threading.Thread(target=_accept, args=(listener, first, answers), daemon=True).start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, hello: Mapping[str, Any], answers: Answers) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_answer, args=(client, hello, answers), daemon=True).start()


def _answer(client: socket.socket, hello: Mapping[str, Any], answers: Answers) -> None:
    with client, client.makefile("rwb", buffering=0) as lines, suppress(OSError, ValueError):
        lines.write(_line(hello))
        for request in map(json.loads, lines):
            for event in answers.get(EVENTS, ()) if request["call"] == "owner.order" else ():
                lines.write(_line({"id": request["id"], "event": event}))
            said = answers[request["call"]]
            lines.write(_line({"id": request["id"]} | (said if _is_error(said) else {"result": said})))


def _is_error(said: Any) -> bool:
    return isinstance(said, dict) and said.keys() == {"error"}


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"


def on_a_terminal(arguments: list[str], prepare: Callable[[], object] = lambda: None) -> tuple[int, bytes]:
    """Exit status of a command line whose input and output are a terminal, and all that it wrote there."""
    pid, terminal = pty.fork()
    if pid == 0:
        status = 70
        try:
            os.environ["TERM"] = "xterm"
            sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode) for n, mode in enumerate("rww"))
            prepare()
            status = cli.run(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    written = b""
    with suppress(OSError):  # EIO: the other end was closed
        while part := os.read(terminal, 1 << 16):
            written += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written
