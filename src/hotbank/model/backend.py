# SPDX-License-Identifier: Apache-2.0
"""Which backend keeps the page frames: the one asked for, else the compiled one where it is installed.

numpy and numba are imported only when a model that uses them starts (``hotbank.model.compiled``), and nowhere else.
What this host has to say about it, an environment variable and its free memory, is asked by who starts a model for
somebody (``resources``), and is an argument from there on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from hotbank.errors import BoardError, Code, MachineError, Refusal
from hotbank.memory import MIB, format_size
from hotbank.model.frames import Frames, Shape
from hotbank.model.reference import ReferenceFrames
from hotbank.sysfs import meminfo

BACKENDS = ("reference", "compiled")
VARIABLE = "HOTBANK_BACKEND"
# Bytes for a frame of the backend's arrays, all of them touched; what lives in the frames comes on top.
BYTES_PER_FRAME = {"reference": 18, "compiled": 9}
MOST_FRAMES = 1 << 30


class Resources(TypedDict):
    """What a host gives a model: a backend or None for the fastest, bytes of memory or None where it does not tell."""

    backend: str | None
    memory: int | None


def resources(environ: Mapping[str, str], root: str | os.PathLike[str] = "/") -> Resources:
    """What $HOTBANK_BACKEND names, and MemAvailable of /proc/meminfo below ``root``. Raises BoardError."""
    name = environ.get(VARIABLE) or None
    if name is not None:
        _check(VARIABLE, name)
    return {"backend": name, "memory": _available(Path(root))}


def new_frames(shape: Shape, backend: str | None = None) -> Frames:
    """All frames OFFLINE, kept by ``backend``, else by the fastest there is.

    Raises BoardError for a name that is no backend, MachineError when the one named is not installed.
    """
    if _chosen(backend) == "reference":
        return ReferenceFrames(shape)
    if not installed():
        raise MachineError(
            "the compiled backend is not installed", code=Code.UNSUPPORTED, remedy="pip install 'hotbank[fast]'"
        )
    from hotbank.model.compiled import CompiledFrames

    return CompiledFrames(shape)


def check_room(frames: int, backend: str | None = None, memory: int | None = None) -> None:
    """Raise Refusal(NO_CAPACITY) if a model of that many frames, all in use, would not fit into ``memory`` bytes."""
    name = _chosen(backend)
    needed = frames * BYTES_PER_FRAME[name]
    if frames <= MOST_FRAMES and (memory is None or needed <= memory):
        return
    there = "" if memory is None else f"{format_size(memory // MIB * MIB)} are available here, "
    raise Refusal(
        Code.NO_CAPACITY,
        f"a model of {frames} page frames takes up to {format_size(needed + -needed % MIB)}: {there}"
        f"and at most {MOST_FRAMES} frames are possible",
        remedy="take a smaller board" if name == "compiled" else "pip install 'hotbank[fast]', or a smaller board",
    )


def installed() -> bool:
    """True if numpy and numba can be imported; looks for them without doing so."""
    return all(find_spec(package) for package in ("numpy", "numba"))


def _chosen(backend: str | None) -> str:
    name = backend or ("compiled" if installed() else "reference")
    _check("backend", name)
    return name


def _check(key: str, name: str) -> None:
    if name not in BACKENDS:
        raise BoardError(key, name, "must be one of " + ", ".join(BACKENDS))


def _available(root: Path) -> int | None:
    try:
        return meminfo.available((root / "proc/meminfo").read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return None
