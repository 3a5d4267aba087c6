# SPDX-License-Identifier: Apache-2.0
"""Thirty machines behind one sshd on the loopback, with a configuration, keys and a port of its own.

m01 to m23 are served models; m24 to m26 are dead, m27 and m28 silent, m29 lets nobody in and m30 has another version.
m03 and m13 have no room for what would leave. Run as ``python yard.py FOLDER`` it serves the models there until its
input ends.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotbank.board import load
from hotbank.model import Model
from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen

SERVED = tuple(f"m{n:02}" for n in range(1, 24))
DEAD, SILENT, CLOSED, OTHER = ("m24", "m25", "m26"), ("m27", "m28"), "m29", "m30"
EVERY = (*SERVED, *DEAD, *SILENT, CLOSED, OTHER)
FULL = ("m03", "m13")
PAGES = 90_000  # more than half of the board, so that its upper bank has nowhere to go
_SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
ForceCommand {folder}/door
AcceptEnv YARD
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
MaxStartups 100
"""
_DOOR = """#!/bin/sh
case $YARD in
{silent}) exec sleep 600 ;;
{other}) echo '{{"hotbank": 99, "pid": 1, "machine": "other", "can": []}}' ;;
*) exec {python} -S -E {folder}/bridge.py {folder}/$YARD ;;
esac
"""
_BRIDGE = """
import os, select, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[1])
ways = {0: there.fileno(), there.fileno(): 1}
while True:
    for source in select.select(list(ways), [], [])[0]:
        data = os.read(source, 65536)
        if not data:
            sys.exit()
        while data:
            data = data[os.write(ways[source], data):]
"""
_HOST = """
Host {name}
    HostName 127.0.0.1
    Port {port}
    IdentityFile {folder}/{key}
    SetEnv YARD={name}
"""
_ALL = """
Host *
    IdentitiesOnly yes
    BatchMode yes
    UserKnownHostsFile {folder}/known
    StrictHostKeyChecking accept-new
"""


@contextmanager
def yard(folder: Path) -> Iterator[Path]:
    """A folder with an ``ssh`` that knows the thirty, as long as this lasts; ``NAME.journal``: of each machine."""
    port = _free_port()
    for name in ("host", "key", "stranger"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    (folder / "sshd_config").write_text(_SSHD.format(port=port, folder=folder))
    (folder / "bridge.py").write_text(_BRIDGE)
    door = _DOOR.format(silent="|".join(SILENT), other=OTHER, python=sys.executable, folder=folder)
    _write_program(folder / "door", door)
    (folder / "config").write_text("".join(_host(name, port, folder) for name in EVERY) + _ALL.format(folder=folder))
    (folder / "bin").mkdir()
    _write_program(folder / "bin/ssh", f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    with _running(folder, port):
        yield folder


@contextmanager
def _running(folder: Path, port: int) -> Iterator[None]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of Debian locks itself up
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert sshd, "openssh-server is missing: tests/referees.sh installs it"
    with (folder / "sshd.log").open("w") as log:
        words = [sshd, "-D", "-e", "-f", str(folder / "sshd_config")]
        door = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=log)
        owners = subprocess.Popen(
            [sys.executable, __file__, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert owners.stdout is not None
            assert owners.stdout.readline() == b"ready\n"
            _wait_for(port)
            yield
        finally:
            door.terminate()
            door.wait()
            owners.communicate()


def _wait_for(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return


def _host(name: str, port: int, folder: Path) -> str:
    key = "stranger" if name == CLOSED else "key"
    return _HOST.format(name=name, port=1 if name in DEAD else port, folder=folder, key=key)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _serve(folder: Path) -> None:
    """All models in this process, until its input ends."""
    plan = load("arm-2009")
    for number, name in enumerate(SERVED):
        model = Model.boot(plan, seed=number, backend="reference")
        if name in FULL:
            model.tasks.grow(model.tasks.spawn("full"), PAGES)
        owner = Owner(model, journal=SqliteJournal(str(folder / f"{name}.journal")))
        listener = listen(folder / name)
        threading.Thread(target=owner.serve, args=(listener,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
