# SPDX-License-Identifier: Apache-2.0
"""An owner that governs, as ``hotbank serve --auto balance`` is one, of the machine that is served at a socket.

Run as ``python -m kernel.arm64.governed_owner SOCKET FOLDER``: it can be killed and begun anew while the guest lives.
It listens at ``FOLDER/owner``; journal, wishes and status lie beside that.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from hotbank.govern.settings import Settings
from hotbank.remote import Remote
from hotbank.serve.desk import desk_in
from hotbank.serve.governing import governed
from hotbank.serve.owner import Owner
from hotbank.serve.state import journal_in, listen
from patience import HANG

# Twice the rise of the last look is expected again: an emulated kernel's reclaim can't keep up with a ramp that leaves
# just as much as a return takes.
GUARD = {"foresight": 2.0}


def main(socket: str, folder: Path) -> None:
    machine = Remote.unix(socket, timeout=HANG)
    name = machine.snapshot().machine
    owner = Owner(machine, journal=journal_in(folder, name), desk=desk_in(folder, name))
    signal.signal(signal.SIGTERM, lambda *_: owner.stop())
    with listen(folder / "owner") as listener:
        owner.settle()
        with governed(
            owner, Settings(guard=GUARD), lambda what: print(what, file=sys.stderr, flush=True), inside=False
        ):
            owner.serve(listener)
    owner.finish(HANG)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
