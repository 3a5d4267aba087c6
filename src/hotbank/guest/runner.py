# SPDX-License-Identifier: Apache-2.0
"""Runs shell commands in a guest for whoever holds the other end of its virtio-serial port.

One JSON document a line. Request: ``{"id": n, "run": "shell text", "input": "…"}``; answer, whenever the command
ends: ``{"id": n, "status": s, "out": "…"}`` with the exit status, or minus the signal, and standard output and error
together. Commands run side by side, each in a session of its own; ``{"id": n, "kill": m}`` ends command m and all its
children. Standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

_answering = threading.Lock()
_running: dict[int, subprocess.Popen[str]] = {}


def main() -> None:
    """Serve standard input until it ends."""
    for line in sys.stdin:
        request = json.loads(line)
        if "kill" in request:
            _kill(request)
        else:
            child = _start(request["run"])
            _running[request["id"]] = child
            threading.Thread(target=_finish, args=(request, child), daemon=True).start()


def _start(text: str) -> subprocess.Popen[str]:
    pipe, joined = subprocess.PIPE, subprocess.STDOUT
    argv = ["/bin/sh", "-c", text]
    return subprocess.Popen(
        argv, stdin=pipe, stdout=pipe, stderr=joined, text=True, errors="replace", start_new_session=True
    )


def _finish(request: dict[str, Any], child: subprocess.Popen[str]) -> None:
    out, _ = child.communicate(request.get("input", ""))
    _answer(request["id"], child.returncode, out)
    del _running[request["id"]]


def _kill(request: dict[str, Any]) -> None:
    child = _running.get(request["kill"])
    if child is not None and child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    _answer(request["id"], 0, "")


def _answer(number: int, status: int, out: str) -> None:
    with _answering:
        sys.stdout.write(json.dumps({"id": number, "status": status, "out": out}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
