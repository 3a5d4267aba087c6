# SPDX-License-Identifier: Apache-2.0
"""Which backend keeps the page frames: the compiled one where it is installed, unless somebody says otherwise.

numpy and numba are imported only when a model that uses them starts (``hotbank.model.compiled``), and nowhere else.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from hotbank.errors import BoardError, MachineError
from hotbank.model.frames import Frames, Shape
from hotbank.model.reference import ReferenceFrames

BACKENDS = ("reference", "compiled")
VARIABLE = "HOTBANK_BACKEND"


def new_frames(shape: Shape, backend: str | None = None) -> Frames:
    """All frames OFFLINE, kept by ``backend``, else by what $HOTBANK_BACKEND names, else by the fastest there is.

    Raises BoardError for a name that is no backend, MachineError when the one named is not installed.
    """
    name = backend or os.environ.get(VARIABLE) or ("compiled" if installed() else "reference")
    if name not in BACKENDS:
        raise BoardError(VARIABLE, name, "must be one of " + ", ".join(BACKENDS))
    if name == "reference":
        return ReferenceFrames(shape)
    if not installed():
        raise MachineError("the compiled backend is not installed", remedy="pip install 'hotbank[fast]'")
    from hotbank.model.compiled import CompiledFrames

    return CompiledFrames(shape)


def installed() -> bool:
    """True if numpy and numba can be imported; looks for them without doing so."""
    return all(find_spec(package) for package in ("numpy", "numba"))
