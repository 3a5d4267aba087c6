# SPDX-License-Identifier: Apache-2.0
"""A machine of this process, mounted by another one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotbank.machine import Machine
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen
from patience import ended

MEMORY = "sys/devices/system/memory"


def can_mount() -> bool:
    """Whether this process may mount."""
    return os.access("/dev/fuse", os.R_OK | os.W_OK) and os.getuid() == 0


needs_fuse = pytest.mark.skipif(not can_mount(), reason="only root can mount through /dev/fuse")


@contextmanager
def mounted(machine: Machine) -> Iterator[Path]:
    """The folder where the machine is, served by a thread of this process, mounted by a process of its own."""
    with tempfile.TemporaryDirectory(prefix="hb") as name, listen(Path(name, "socket")) as listener:
        owner = Owner(machine)
        thread = threading.Thread(target=owner.serve, args=(listener,))
        thread.start()
        folder = Path(name, "mounted")
        folder.mkdir()
        argv = [sys.executable, "-m", "hotbank", "-m", f"unix:{name}/socket", "mount", str(folder)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert b"is mounted at" in process.stdout.readline()
            yield folder
        finally:
            process.terminate()
            process.communicate()
            owner.stop()
            ended(thread)
