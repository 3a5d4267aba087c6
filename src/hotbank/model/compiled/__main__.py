# SPDX-License-Identifier: Apache-2.0
"""``python -m hotbank.model.compiled``: compile the backend now, so that no model has to wait for it later."""

from __future__ import annotations

from array import array

from hotbank.memory import Kind, codes
from hotbank.model.compiled.frames import CompiledFrames
from hotbank.model.frames import DARK, NO_FRAME, MigrateType, Shape


def compile_all() -> None:
    """Use everything once; numba keeps what it compiled."""
    frames = CompiledFrames(Shape(1 << 11))
    zone = frames.add_zone()
    frames.attach(zone, 0, 1 << 11)
    frames.release(0, 1 << 11)
    got = frames.alloc(zone, 0, MigrateType.MOVABLE, 4, Kind.ANON)
    frames.own(got[:2], [1, 2], [3, 4])
    frames.move(got[:2], got[2:])
    frames.disown(got[2:])
    frames.free(got)
    frames.churn(zone, MigrateType.MOVABLE, Kind.ANON, array("I", [NO_FRAME]), bytes(1), array("I", [0, 0]))
    frames.isolate(0, 1 << 10)
    frames.detach(0, 1 << 10)
    frames.fill(0, 1 << 10, DARK)
    frames.find(0, 1 << 11, codes([Kind.ANON]))
    frames.holds(got)
    frames.free_in(1 << 10)
    frames.free_blocks(zone)
    frames.owned()
    frames.validate()


if __name__ == "__main__":
    compile_all()
