# SPDX-License-Identifier: Apache-2.0
"""A board in QEMU as the current machine: started in the background, its console, and what killed ones left behind."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from hotbank import serve
from hotbank.boards_qemu import dram, leftovers
from hotbank.boards_qemu.launch import Wanted, prepare
from hotbank.boards_qemu.parts.packages import Progress, no_progress
from hotbank.boards_qemu.supervisor import PATIENCE
from hotbank.errors import Code, MachineError
from hotbank.wire import encode

_GUEST = "guest-"  # how the names of machines' folders begin


def up(wanted: Wanted, progress: Progress = no_progress, *, name: str = "") -> serve.Record:
    """Fetch and build what is missing, start the board in QEMU in the background, and make it the current machine, or
    the one of that name.

    ``progress`` hears one line for each step that takes a while. Raises BoardError and MachineError: a board that
    QEMU can't be, a missing program, package, network or space, a guest that does not come up.
    """
    serve.check_free(name)
    clear()
    with leftovers.new_folder(serve.runtime_folder(), _GUEST) as folder:
        try:
            prepared = prepare(wanted, folder, progress)
            progress("starting the guest")
            daemon, patience = "hotbank.boards_qemu.daemon", PATIENCE * 2
            return serve.start_in_background(daemon, encode(prepared), name=name, patience=patience)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def clear() -> None:
    """Remove what machines left whose processes were killed: their folders, consoles, and the files of their banks."""
    leftovers.sweep(serve.runtime_folder(), _GUEST)
    for name in ("", *serve.names()):
        leftovers.sweep_links(serve.home(name), "*.console")
    leftovers.sweep(*dram.home())


def console(record: serve.Record) -> socket.socket:
    """The serial line of that machine's guest, a shell. Raises MachineError when it is no guest.

    One connection at a time: a second one hears nothing until the first one ends.
    """
    path = Path(record.socket).with_suffix(".console")
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.connect(str(path))
    except OSError as e:
        stream.close()
        raise MachineError(
            f"{record.machine} has no console",
            code=Code.UNSUPPORTED,
            remedy="only a board in QEMU has one: hotbank up --qemu",
        ) from e
    return stream
