# SPDX-License-Identifier: Apache-2.0
"""auto-movable: the sequences that real kernels gave (Debian 6.12 arm64, 512 MiB, 64 MiB of CMA, virtio-mem)."""

from __future__ import annotations

import pytest

from hotbank import board
from hotbank.memory import Online
from hotbank.model import Model

BOARD = """
name = "auto"
arch = "arm64"
block_size = "128M"
[bank.low]
start = 0x40000000
size = "512M"
[bank.plugged]
start = 0x100000000
size = "SIZE"
at_boot = false
route = "ROUTE"
"""


def onlined(cmdline: str, size: str, route: str = "virtio-mem") -> str:
    """M or N for each block of the bank, brought online one by one by plain ``online``."""
    model = Model.boot(board.loads(BOARD.replace("SIZE", size).replace("ROUTE", route)), cmdline=cmdline)
    model.add("plugged")
    bank = model.snapshot().bank("plugged")
    assert bank is not None
    for number in bank.blocks:
        promised = next(b.valid_zones[0] for b in model.snapshot().blocks if b.number == number)
        model.online(number, Online.ONLINE)
        assert next(b.valid_zones for b in model.snapshot().blocks if b.number == number) == (promised,)
    model.validate()
    return "".join(b.valid_zones[0][0] for b in model.snapshot().blocks if b.number in bank.blocks)


AUTO = "memory_hotplug.online_policy=auto-movable"


@pytest.mark.parametrize(
    ("cmdline", "size", "sequence"),
    [
        (AUTO, "2G", "MMMMMMMMMMNMMMNM"),  # measured
        (f"{AUTO} movablecore=128M", "1G", "MMMMMMMM"),  # measured
        (f"{AUTO} memory_hotplug.auto_movable_ratio=0", "1G", "NNNNNNNN"),
        ("", "1G", "NNNNNNNN"),
    ],
)
def test_sequences_of_auto_movable(cmdline: str, size: str, sequence: str) -> None:
    assert onlined(cmdline, size) == sequence


def test_a_static_group_goes_one_way_as_a_whole() -> None:
    assert onlined(AUTO, "1G", "kmem") == "MMMMMMMM"
    assert onlined(AUTO, "2G", "kmem") == "NNNNNNNNNNNNNNNN", "2 GiB are beyond the ratio, so none of it is movable"
