# SPDX-License-Identifier: Apache-2.0
"""The host's end of the runner: shell commands in a guest, side by side, over one byte stream (see runner.py)."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hotbank.boards_qemu.qemu import Qemu
from hotbank.errors import Code, MachineError
from hotbank.guest import serial


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended: exit status (minus the signal's number when one ended it) and all it printed."""

    status: int
    out: str


class GuestJob:
    """A command that runs in the guest."""

    def __init__(self, runner: Runner, number: int, text: str) -> None:
        self._runner, self._number, self._text = runner, number, text
        self._done = threading.Event()
        self._result: Result | None = None

    def wait(self, timeout: float) -> Result:
        """Its result. Raises MachineError when it is not there in ``timeout`` seconds, or the guest went away."""
        if not self._done.wait(timeout):
            raise MachineError(f"{self._text!r} in the guest did not end in {timeout:.0f} s")
        if self._result is None:
            raise MachineError(f"the guest went away during {self._text!r}")
        return self._result

    def wait_for(self, seconds: float) -> None:
        """Return when it ended, or after so many seconds."""
        self._done.wait(seconds)

    @property
    def running(self) -> bool:
        """True until it ended."""
        return not self._done.is_set()

    def kill(self) -> None:
        """SIGKILL for it and its children."""
        self._runner.start(kill=self._number).wait(10)

    def finish(self, result: Result | None) -> None:
        """Called by the runner."""
        self._result = result
        self._done.set()


class Runner:
    """Starts commands in the guest at the other end of ``stream``; safe to use from several threads."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._writing = threading.Lock()
        self._numbers = itertools.count(1)
        self._jobs: dict[int, GuestJob] = {}
        self._reader = threading.Thread(target=self._read, daemon=True, name="runner")
        self._reader.start()

    def start(self, text: str = "", *, input: str = "", kill: int | None = None) -> GuestJob:
        """Start a shell command with ``input`` as its standard input; it runs until it ends."""
        with self._writing:
            number = next(self._numbers)
            job = self._jobs[number] = GuestJob(self, number, text)
            request: dict[str, Any] = {"id": number, "run": text, "input": input}
            if kill is not None:
                request = {"id": number, "kill": kill}
            self._stream.sendall(json.dumps(request).encode() + b"\n")
        return job

    def run(self, text: str, *, input: str = "", timeout: float = 300.0) -> str:
        """Run a shell command to its end and return what it printed. Raises MachineError when it fails."""
        result = self.start(text, input=input).wait(timeout)
        if result.status != 0:
            raise MachineError(
                f"{text!r} in the guest ended with {result.status}: {result.out.strip()[-500:]}", code=Code.SYSTEM_ERROR
            )
        return result.out

    def close(self) -> None:
        """Hang up; whoever waits for a job hears that the guest is gone."""
        with suppress(OSError):  # the guest may be gone already
            self._stream.shutdown(socket.SHUT_RDWR)
        self._reader.join()

    def _read(self) -> None:
        try:
            with self._stream.makefile("r", encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    answer = json.loads(line)
                    job = self._jobs.pop(answer["id"], None)
                    if job is not None:
                        job.finish(Result(answer["status"], answer["out"]))
        except (OSError, ValueError):
            pass  # the stream broke: every waiting job hears so below
        for job in list(self._jobs.values()):
            job.finish(None)


class ShellPort:
    """The runner's port: connected before the guest opens it, since a program that finds nobody at the other end reads
    nothing and ends (drivers/char/virtio_console.c, ``port_fops_read``); and again after the guest's runner has ended.
    Safe to use from several threads."""

    def __init__(self, qemu: Qemu) -> None:
        self._qemu = qemu
        self._turn = threading.Lock()
        self._stream: socket.socket | None = None
        self._runner: Runner | None = None

    def connect(self) -> None:
        """Be at the other end from now on. Raises MachineError."""
        with self._turn:
            self._connected()

    def runner(self, patience: float) -> Runner:
        """Commands in the guest. Raises MachineError when its runner is not there in ``patience`` seconds."""
        with self._turn:
            stream = self._connected()
            if self._runner is None:
                self._qemu.wait_open(serial.RUNNER, patience)
                self._runner = Runner(stream)
            return self._runner

    def close(self) -> None:
        """Hang up; whoever still waits for the runner is not waited for."""
        if self._runner is not None:
            self._runner.close()
        if self._stream is not None:
            self._stream.close()

    def _connected(self) -> socket.socket:
        if self._stream is None or not self._qemu.carries(serial.RUNNER, self._stream):
            self.close()
            self._runner, self._stream = None, self._qemu.connect(serial.RUNNER)
        return self._stream
