# SPDX-License-Identifier: Apache-2.0
"""Processes of this package that an owner starts: how they are started, and that they die with who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

FIRM = "firm"  # to a worker: it is to stand ready, and to hold out while memory is short
_PR_SET_PDEATHSIG = 1


def start_module(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Run a module of this package in a child process with this interpreter, from ``/``, in a session of its own.

    A Ctrl-C at the terminal is for whoever asked, who has it rolled back: it must not end the one that does so.
    """
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd="/",
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        **{**settings, **options},
    )


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    import ctypes  # of no use to the owner itself, which is to stay small

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
