# SPDX-License-Identifier: Apache-2.0
"""One QEMU process: banks in files of their own, QMP, a console, and byte streams into the guest.

QEMU dies with the thread that started it (PR_SET_PDEATHSIG), and is ended by its own process id only. All its
sockets and logs are in one folder: ``qmp``, ``console`` (the guest's serial line), ``console.log``,
``qemu.log``, and one socket for each virtio-serial port.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from hotbank.boards_qemu.qmp import Event, Qmp, connected
from hotbank.errors import Code, MachineError
from hotbank.memory import Range

_GAVE_UP = re.compile(r"Kernel panic - not syncing: .*|CONFIG_\w+ is missing: .*")  # by the kernel, by our init
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")  # ECMA-48, and what remains of C0
_PATH_MAX = 100  # bytes of a Unix socket's path: 107 at most, and the names of the ports


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file that QEMU puts into the guest's memory before it starts."""

    path: Path
    address: int


@dataclass(frozen=True, slots=True)
class QemuCommand:
    """What to start: ``program`` (``qemu-system-aarch64``), the machine's own arguments, what is loaded where, and
    the names of the virtio-serial ports. ``transport``: ``pci`` or ``device`` (virtio-mmio)."""

    program: str
    arguments: tuple[str, ...]
    loaded: tuple[Loaded, ...] = ()
    ports: tuple[str, ...] = ()
    transport: str = "pci"

    def with_arguments(self, more: Sequence[str]) -> QemuCommand:
        """The command with more of QEMU's own arguments."""
        return replace(self, arguments=(*self.arguments, *more))

    def argv(self) -> list[str]:
        """The command line, with paths relative to the machine's folder."""
        argv = [self.program, *self.arguments, "-nodefaults", "-display", "none", "-no-reboot"]
        argv += ["-qmp", "unix:qmp,server=on,wait=off"]
        argv += ["-chardev", "socket,id=console,path=console,server=on,wait=off,logfile=console.log"]
        argv += ["-serial", "chardev:console"]
        for item in self.loaded:
            argv += ["-device", f"loader,file={item.path},addr={item.address:#x},force-raw=on"]
        if self.ports:
            argv += ["-device", f"virtio-serial-{self.transport},id=ports,max_ports={len(self.ports) + 1}"]
        for number, name in enumerate(self.ports, 1):
            argv += ["-chardev", f"socket,id={name},path={name},server=on,wait=off"]
            argv += ["-device", f"virtserialport,id=port-{name},bus=ports.0,nr={number},chardev={name},name={name}"]
        return argv


def memory_arguments(files: Sequence[tuple[Path, Range]], cpus: int) -> tuple[str, ...]:
    """One memory backend and NUMA node for each file, in the order of their addresses, which must leave no gap.

    The nodes exist only so that QEMU takes several backends: the device tree says what the guest sees.
    """
    arguments = ["-smp", str(cpus), "-m", f"{sum(bank.size for _, bank in files)}B"]
    for number, (path, bank) in enumerate(files):
        arguments += ["-object", f"memory-backend-file,id=bank{number},size={bank.size}B,mem-path={path},share=on"]
        owns = f",cpus=0-{cpus - 1}" if number == 0 else ""
        arguments += ["-numa", f"node,nodeid={number}{owns},memdev=bank{number}"]
    return tuple(arguments)


class Qemu:
    """A running QEMU. Start it on a thread that lives as long as the machine should.

    ``on_end`` is called, on another thread, when the guest ends by itself.
    """

    def __init__(self, command: QemuCommand, folder: Path, on_end: Callable[[], None] = lambda: None) -> None:
        if len(os.fsencode(folder)) > _PATH_MAX - max(map(len, [*command.ports, "console"])):
            remedy = "set XDG_RUNTIME_DIR or TMPDIR, whichever it is in, to a shorter one"
            raise MachineError(f"{folder}: too long for a Unix socket", code=Code.SYSTEM_ERROR, remedy=remedy)
        if shutil.which(command.program) is None:
            raise MachineError(
                f"{command.program} is not installed", code=Code.SYSTEM_ERROR, remedy="apt-get install qemu-system-arm"
            )
        self.folder = folder
        self._on_end = on_end
        self._changed = threading.Condition()
        self._open_ports: set[str] = set()
        self._streams: dict[str, socket.socket] = {}
        self._ended = False
        self._process = _start(command.argv(), folder)
        self._qmp: Qmp | None = None
        try:
            self._qmp = Qmp(self._socket("qmp"), self._on_event)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Qemu:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    @property
    def qmp(self) -> Qmp:
        """QEMU's monitor."""
        assert self._qmp is not None
        return self._qmp

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process.poll() is None

    def connect(self, port: str, timeout: float = 10.0) -> socket.socket:
        """The host's end of a virtio-serial port, or of ``console``; it ends when the program in the guest closes
        its end. One connection at a time.
        """
        stream = connected(self._socket(port), timeout)
        self._streams[port] = stream
        return stream

    def carries(self, port: str, stream: socket.socket | None) -> bool:
        """True if that connection still leads to the program in the guest that it led to when it was made."""
        return stream is not None and self._streams.get(port) is stream

    def wait_open(self, port: str, timeout: float, *, opened: bool = True) -> None:
        """Wait until a program in the guest has the port open (or, with ``opened=False``, closed).

        Raises MachineError after ``timeout`` seconds, at once when QEMU ends, and within a second or two when the
        guest said on its serial line that this will not happen.
        """
        with self._changed:
            deadline = time.monotonic() + timeout
            while not self._changed.wait_for(
                lambda: self._ended or (port in self._open_ports) == opened, min(1.0, deadline - time.monotonic())
            ):
                self._check_hope()
                if time.monotonic() >= deadline:
                    break
            if self._ended or (port in self._open_ports) != opened:
                state = "ended" if self._ended else f"did not {'open' if opened else 'close'} {port} in {timeout:.0f} s"
                raise MachineError(f"the guest {state}", remedy=self._last_line())

    def stop(self) -> None:
        """End the process, and wait until it is gone."""
        self._on_end = lambda: None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._qmp is not None:
            self._qmp.close()

    def console_log(self) -> str:
        """Everything the guest printed on its serial line so far."""
        try:
            return (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def last_lines(self, count: int) -> str:
        """What the guest printed last, without the control sequences that a shell sends to a terminal."""
        lines = [line for line in _CONTROL.sub("", self.console_log()).splitlines() if line.strip()]
        return "\n".join(lines[-count:])

    def _check_hope(self) -> None:
        """Raise MachineError with what the guest said when it gave up."""
        if words := _GAVE_UP.search(_CONTROL.sub("", self.console_log())):
            raise MachineError(f"the guest stopped: {words[0]}", code=Code.SYSTEM_ERROR)

    def _socket(self, name: str) -> Path:
        path, deadline = self.folder / name, time.monotonic() + 10
        while not path.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise MachineError(f"QEMU did not start: {self._last_line()}")
            time.sleep(0.01)
        return path

    def _last_line(self) -> str:
        said = (self.folder / "qemu.log").read_text(encoding="utf-8", errors="replace").strip()
        return (said or self.last_lines(1) or "nothing was printed").splitlines()[-1]

    def _on_event(self, event: Event) -> None:
        with self._changed:
            if event["event"] == "VSERPORT_CHANGE":
                self._port_changed(str(event["data"]["id"]).removeprefix("port-"), bool(event["data"]["open"]))
            elif event["event"] == "SHUTDOWN":
                self._ended = True
                self._on_end()
            self._changed.notify_all()

    def _port_changed(self, port: str, opened: bool) -> None:
        if opened:
            self._open_ports.add(port)
            return
        self._open_ports.discard(port)
        stream = self._streams.pop(port, None)
        if stream is not None:
            with suppress(OSError):  # its user may have closed it already
                stream.shutdown(socket.SHUT_RDWR)


def _start(argv: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with open(folder / "qemu.log", "wb") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
