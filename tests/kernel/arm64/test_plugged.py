# SPDX-License-Identifier: Apache-2.0
"""A block that virtio-mem plugged in part, on a real kernel: its PG_offline pages hold nothing up."""

from __future__ import annotations

import pytest

from hotbank import operate
from hotbank.boards_qemu import Wanted
from hotbank.memory import MIB, BlockState, Kind
from kernel.kernel_kit import complaints, guest, lean, plug
from patience import HANG

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

PLUGGED = 100 * MIB  # of the last block: a multiple of the device's 2 MiB, not of the block's 128 MiB


def test_a_block_that_is_plugged_in_part_leaves() -> None:
    """virtio-mem lets go of the pages it holds as PG_offline; only what is plugged has to move."""
    with guest(lean(Wanted("virt-arm64-virtio-mem"))) as machine:
        blocks = plug(machine, 128 * MIB + PLUGGED)
        assert len(blocks) == 2
        (partial,) = [n for n in blocks if machine.survey(n).kinds.get(Kind.UNPLUGGED)]
        assert machine.survey(partial).kinds[Kind.UNPLUGGED] == (128 * MIB - PLUGGED) // 4096
        answer = operate.explain(machine, f"memory{partial}")
        assert not answer.impossible, answer
        machine.offline(partial, machine.clock.now() + HANG)
        left = machine.snapshot().block(partial)
        assert left is not None
        assert left.state is BlockState.OFFLINE
        assert complaints(machine) == []
