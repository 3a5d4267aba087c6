# SPDX-License-Identifier: Apache-2.0
"""A model by the name that people give it: a board that boots, or a machine in the state that it was captured in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypedDict, Unpack

from hotbank import board, keys
from hotbank.board import Board
from hotbank.errors import Code, Refusal
from hotbank.memory import GIB
from hotbank.model import capture
from hotbank.model.backend import Resources, resources
from hotbank.model.capture import Capture
from hotbank.model.machine import Model, ModelOptions

Source = Board | Capture
_SMALL = 4 * GIB


class BootOptions(TypedDict, total=False):
    """What a boot takes beside ``ModelOptions``; see Model.boot."""

    description: bytes | None
    cmdline: str | None
    kernel: str


def find(name: str | os.PathLike[str]) -> Source:
    """A shipped board, a board's file, or a capture. Raises BoardError, FormatError, OSError."""
    path = board.find(name)
    return capture.load(path) if capture.is_capture(path) else board.load(path)


def decode(data: bytes, name: str) -> Source:
    """The same from the bytes of its file, of that name. Raises BoardError, FormatError."""
    return capture.loads(data) if capture.begins_so(data) else board.loads(keys.decoded("board", data, name), name)


def start(source: Source, boot: BootOptions | None = None, **options: Unpack[ModelOptions]) -> Model:
    """The model. Raises Refusal(UNSUPPORTED) for options of a boot where there is none, and what the model raises."""
    given = boot or BootOptions()
    if isinstance(source, Board):
        return Model.boot(source, **given, **options)
    if stray := [name for name, value in given.items() if value is not None]:
        what = f"{', '.join(stray)}: a captured machine has booted already"
        raise Refusal(Code.UNSUPPORTED, what, remedy="leave it out, or name a board")
    return Model.restore(source, **options)


def size(source: Source) -> int:
    """Bytes of memory that it has, or may have."""
    if isinstance(source, Board):
        return sum(bank.range.size for bank in source.banks)
    return sum(block.range.size for block in source.snapshot.blocks)


def given(source: Source, environ: Mapping[str, str]) -> Resources:
    """What a host gives a model that is asked and ordered now and then: plain Python where the machine is small, which
    starts at once and stays small, else what the model chooses. Raises BoardError; see ``backend.resources``."""
    found = resources(environ)
    if found["backend"] is None and size(source) <= _SMALL:
        found["backend"] = "reference"
    return found
