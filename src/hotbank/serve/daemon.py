# SPDX-License-Identifier: Apache-2.0
"""The background process of ``hotbank up``: boots a model on the wall clock and serves it until told to stop.

Run as ``python -m hotbank.serve.daemon FOLDER SPEC``. Its first and only line of output is where it can be found,
or the error that kept it from starting.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotbank import board
from hotbank.errors import Code, MachineError
from hotbank.machine import Machine
from hotbank.regular import read_regular
from hotbank.serve.background import ModelSpec, Record, forget, remember
from hotbank.serve.desk import desk_in
from hotbank.serve.owner import Owner
from hotbank.serve.state import journal_in, listen
from hotbank.wire import decode, encode, encode_error

if TYPE_CHECKING:
    from hotbank.model.named import BootOptions, Source

_LARGEST = 64 << 20  # bytes of firmware
_FILLED = 4000  # pages that processes of a board use, if nobody says how many
_LAST_WORDS = 4.0  # seconds of wall time for a transaction to roll back before the end


def main(folder: Path, spec: ModelSpec) -> int:
    """Serve the model of the spec; the exit status."""
    return run(folder, lambda: boot(spec))


def run(folder: Path, boot: Callable[[], Machine]) -> int:
    """Boot, listen, say so, serve; the exit status. For any daemon that owns a machine."""
    path = folder / f"{os.getpid()}.sock"
    try:
        machine = boot()
        name = machine.snapshot().machine
        owner = Owner(machine, journal=journal_in(folder, name), desk=desk_in(folder, name))
        listener = listen(path)
    except Exception as e:
        _say({"error": encode_error(e)})
        return 1
    record = Record(str(path), os.getpid(), name, time.time())
    signal.signal(signal.SIGTERM, lambda *_: owner.stop())
    owner.settle()
    owner.wait()  # of what an owner before it left: then the first order finds nothing in its way
    try:
        with listener:
            remember(folder, record)
            _say(encode(record))
            owner.serve(listener)
        owner.finish(_LAST_WORDS)
    finally:
        path.unlink(missing_ok=True)
        forget(folder, record.pid)
    return 0


def boot(spec: ModelSpec) -> Machine:
    """The model of the spec, on the wall clock."""
    from hotbank.host.switch import commands
    from hotbank.load import Workload, script
    from hotbank.load.faults import FAULTS
    from hotbank.load.script import Playback
    from hotbank.model import WallClock, named

    source = named.find(spec.board)
    model = named.start(
        source,
        _boot_options(spec),
        seed=spec.seed,
        boot_id=str(uuid.uuid4()),  # what an earlier one's journal says is not about this one
        clock=WallClock(),
        switches=commands(source) if spec.run_commands and isinstance(source, board.Board) else None,
        **named.given(source, os.environ),
    )
    if pages := _pages(spec, source):
        Workload(model, spec.seed, pages=pages).fill()
    for fault in spec.faults:
        FAULTS[fault](model)
    if spec.workload is not None:
        Playback(model, script.load(spec.workload), spec.seed).start()
    return model


def _boot_options(spec: ModelSpec) -> BootOptions:
    """Those that were given."""
    given: BootOptions = {}
    if spec.description is not None:
        given["description"] = _description(spec.description)
    if spec.cmdline is not None:
        given["cmdline"] = spec.cmdline
    if spec.kernel is not None:
        given["kernel"] = spec.kernel
    return given


def _description(path: str) -> bytes:
    try:
        return read_regular(path, _LARGEST)
    except OSError as e:
        raise MachineError(f"{path}: {e.strerror}", code=Code.SYSTEM_ERROR) from e


def _pages(spec: ModelSpec, source: Source) -> int:
    """A machine that was captured is at work already."""
    if spec.pages is not None:
        return spec.pages
    return min(_FILLED, source.pages_at_boot) if isinstance(source, board.Board) else 0


def _say(document: dict[str, Any]) -> None:
    """The one line of output; whoever waits for it then sees the end of the pipe."""
    os.write(1, json.dumps(document).encode() + b"\n")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), decode(ModelSpec, json.loads(sys.argv[2]), "spec")))
