# SPDX-License-Identifier: Apache-2.0
"""QEMU's machine protocol, as much of it as a supervisor needs: commands, and events that can be waited for.

docs/interop/qmp-spec.rst of QEMU. The published client (qemu.qmp) is asyncio only, and its blocking interface is
GPL; the Machine protocol blocks, so that every call would go through an event loop in a thread of its own. These
lines are shorter than that bridge.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hotbank.errors import Code, MachineError, ProtocolError

Event = dict[str, Any]


def connected(path: Path, patience: float = 10.0) -> socket.socket:
    """A connection to a Unix socket that its owner is about to make. Raises MachineError after ``patience`` seconds."""
    until = time.monotonic() + patience
    while True:
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(str(path))
        except OSError as e:
            stream.close()
            if time.monotonic() > until:
                raise MachineError(f"QEMU's port {path.name} can't be reached: {e.strerror}") from e
            time.sleep(0.01)
        else:
            return stream


class Qmp:
    """One QMP session over a Unix socket; safe to use from several threads.

    ``listen`` is called with each event, on the session's own thread, and must not block.
    """

    def __init__(self, path: Path, listen: Callable[[Event], None] = lambda _event: None) -> None:
        self._listen = listen
        self._turn = threading.Lock()
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._socket = connected(path)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        if "QMP" not in json.loads(self._lines.readline() or "{}"):
            raise ProtocolError(f"{path}: no QMP greeting")
        self._reader = threading.Thread(target=self._read, daemon=True, name="qmp")
        self._reader.start()
        self.execute("qmp_capabilities")

    def execute(self, command: str, timeout: float = 30.0, **arguments: object) -> Any:
        """Run one command and return its value.

        Raises MachineError when QEMU refuses, is gone, or does not answer in ``timeout`` seconds.
        """
        request = {"execute": command, "arguments": arguments}
        with self._turn:
            try:
                self._socket.sendall(json.dumps(request).encode() + b"\n")
                answer = self._answers.get(timeout=timeout)
            except (OSError, queue.Empty) as e:
                raise MachineError(f"QEMU does not answer {command}") from e
        if answer is None:
            raise MachineError(f"QEMU ended before it answered {command}")
        if "error" in answer:
            raise MachineError(f"QEMU refuses {command}: {answer['error']['desc']}", code=Code.SYSTEM_ERROR)
        return answer["return"]

    def close(self) -> None:
        """End the session; the machine runs on."""
        with suppress(OSError):  # QEMU may be gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._lines.close()
        self._socket.close()

    def _read(self) -> None:
        try:
            for line in self._lines:
                message = json.loads(line)
                if "event" in message:
                    self._listen(message)
                else:
                    self._answers.put(message)
        except (OSError, ValueError):
            pass  # the other end is gone: whoever waits is told below
        self._answers.put(None)
