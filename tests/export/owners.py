# SPDX-License-Identifier: Apache-2.0
"""An owner of a model in this process, for what is exported of a served machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotbank import board
from hotbank.model import Model
from hotbank.operate import MemoryJournal
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen
from patience import ended


@contextmanager
def served_model(folder: Path) -> Iterator[str]:
    """``unix:PATH`` of arm-2009, as booted."""
    path = folder / "s"
    owner = Owner(Model.boot(board.load("arm-2009"), backend="reference", seed=1), journal=MemoryJournal())
    with listen(path) as listener:
        thread = threading.Thread(target=owner.serve, args=(listener,))
        thread.start()
        yield f"unix:{path}"
        owner.stop()
        ended(thread)
