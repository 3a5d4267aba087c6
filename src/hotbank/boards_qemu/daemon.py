# SPDX-License-Identifier: Apache-2.0
"""The background process of ``hotbank up --qemu``: starts QEMU, and owns the machine, its power and its journal.

Run as ``python -m hotbank.boards_qemu.daemon FOLDER PREPARED``; see hotbank.serve.daemon for what it says.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from hotbank.boards_qemu.launch import Prepared, start
from hotbank.boards_qemu.leftovers import held
from hotbank.serve import daemon
from hotbank.wire import decode


def main(folder: Path, prepared: Prepared) -> int:
    """Start, serve until told to stop or until the guest ends, clean up; the exit status."""
    console = folder / f"{os.getpid()}.console"
    with ExitStack() as stack:
        stack.enter_context(held(Path(prepared.folder)))
        stack.callback(shutil.rmtree, prepared.folder, ignore_errors=True)
        console.symlink_to(Path(prepared.folder, "console"))
        stack.callback(console.unlink)
        return daemon.run(folder, lambda: stack.enter_context(start(prepared, _stop)))


def _stop() -> None:
    """As if told from outside: the daemon's handler ends the serving."""
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), decode(Prepared, json.loads(sys.argv[2]), "prepared")))
