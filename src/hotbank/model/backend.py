# SPDX-License-Identifier: Apache-2.0
"""Which backend keeps the page frames: the compiled one where it is installed, unless somebody says otherwise.

numpy and numba are imported only when a model that uses them starts (``hotbank.model.compiled``), and nowhere else.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.util import find_spec

from hotbank.errors import BoardError, Code, MachineError, Refusal
from hotbank.memory import MIB, format_size
from hotbank.model.frames import Frames, Shape
from hotbank.model.reference import ReferenceFrames

BACKENDS = ("reference", "compiled")
VARIABLE = "HOTBANK_BACKEND"
# Bytes for a frame of the backend's arrays, all of them touched; what lives in the frames comes on top.
BYTES_PER_FRAME = {"reference": 18, "compiled": 9}
MOST_FRAMES = 1 << 30


def new_frames(shape: Shape, backend: str | None = None) -> Frames:
    """All frames OFFLINE, kept by ``backend``, else by what $HOTBANK_BACKEND names, else by the fastest there is.

    Raises BoardError for a name that is no backend, MachineError when the one named is not installed.
    """
    name = _chosen(backend)
    if name == "reference":
        return ReferenceFrames(shape)
    if not installed():
        raise MachineError("the compiled backend is not installed", remedy="pip install 'hotbank[fast]'")
    from hotbank.model.compiled import CompiledFrames

    return CompiledFrames(shape)


def check_room(frames: int, backend: str | None = None) -> None:
    """Raise Refusal(NO_CAPACITY) if a model of that many frames, all in use, would not fit into this host's memory."""
    name = _chosen(backend)
    needed, available = frames * BYTES_PER_FRAME[name], _available()
    if frames > MOST_FRAMES or needed > available:
        raise Refusal(
            Code.NO_CAPACITY,
            f"a model of {frames} page frames takes up to {format_size(needed + -needed % MIB)}, and "
            f"{format_size(available // MIB * MIB)} are available here (at most {MOST_FRAMES} frames)",
            remedy="take a smaller board" if name == "compiled" else "pip install 'hotbank[fast]', or a smaller board",
        )


def _chosen(backend: str | None) -> str:
    name = backend or os.environ.get(VARIABLE) or ("compiled" if installed() else "reference")
    if name not in BACKENDS:
        raise BoardError(VARIABLE, name, "must be one of " + ", ".join(BACKENDS))
    return name


def _available() -> int:
    """Bytes: MemAvailable where /proc/meminfo tells, else all pages of this host."""
    with suppress(OSError), open("/proc/meminfo", encoding="ascii") as meminfo:
        for line in meminfo:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def installed() -> bool:
    """True if numpy and numba can be imported; looks for them without doing so."""
    return all(find_spec(package) for package in ("numpy", "numba"))
