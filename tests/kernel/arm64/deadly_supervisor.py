# SPDX-License-Identifier: Apache-2.0
"""The owner of a board in QEMU, which ends with SIGKILL at one of the writes to its journal.

Run as hotbank.boards_qemu.daemon is. ``HOTBANK_DIES`` in the environment says where: ``VERB AT WHEN``, the write number
AT of the first transaction of that verb (see contract.deadly); nowhere when it is empty.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from contract.deadly import Deadly, T
from hotbank.boards_qemu import daemon
from hotbank.boards_qemu.launch import Prepared
from hotbank.operate import Before, Journal
from hotbank.serve import daemon as serving
from hotbank.serve.state import journal_in
from hotbank.wire import decode


class OfOneVerb(Deadly):
    """Counts the writes of transactions of one verb."""

    verb, counting = "", False

    def begin(self, before: Before) -> int:
        self.counting = before.verb == self.verb
        return super().begin(before)

    def _write(self, name: str, write: Callable[[], T]) -> T:
        return super()._write(name, write) if self.counting else write()


def journal(folder: Path, machine: str) -> Journal:
    """The machine's journal, deadly if the environment says so."""
    real, words = journal_in(folder, machine), os.environ["HOTBANK_DIES"].split()
    if not words:
        return real
    deadly = OfOneVerb(real, int(words[1]), words[2], lambda: os.kill(os.getpid(), signal.SIGKILL))
    deadly.verb = words[0]
    return deadly


if __name__ == "__main__":
    serving.journal_in = journal  # type: ignore[assignment,attr-defined]
    sys.exit(daemon.main(Path(sys.argv[1]), decode(Prepared, json.loads(sys.argv[2]), "prepared")))
