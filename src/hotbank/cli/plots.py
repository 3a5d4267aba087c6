# SPDX-License-Identifier: Apache-2.0
"""Pictures in files. Needs matplotlib, the extra ``plot``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from hotbank.errors import Code, Refusal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KINDS = ("png", "svg")


def figure(width: float, height: float) -> Figure:
    """An empty one, in inches. Raises Refusal without matplotlib."""
    try:
        from matplotlib import rcParams
        from matplotlib.figure import Figure
    except ImportError as e:
        what, remedy = "drawing needs matplotlib", "pip install 'hotbank[plot]'"
        raise Refusal(Code.UNSUPPORTED, what, remedy=remedy) from e
    rcParams["text.parse_math"] = False  # a name with $ in it is no formula
    return Figure(figsize=(width, height), layout="constrained")


def check(path: str) -> None:
    """Before work that takes long. Raises Refusal where it could not be drawn into that file."""
    kind_of(path)
    figure(1, 1)


def kind_of(path: str) -> str:
    """What a file's name says that it is. Raises Refusal."""
    kind = Path(path).suffix.removeprefix(".")
    if kind not in _KINDS:
        raise Refusal(Code.UNSUPPORTED, f"{path}: a picture is one of {', '.join(_KINDS)}", remedy="name it FILE.svg")
    return kind


def rendered(drawn: Figure, kind: str) -> bytes:
    """The picture; the same bytes for the same figure."""
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "hotbank"}):
        drawn.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()
