# SPDX-License-Identifier: Apache-2.0
"""auto-movable: the sequences that real kernels gave (Debian 6.12 arm64, 512 MiB, 64 MiB of CMA, virtio-mem)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotbank import board
from hotbank.memory import BlockState, Online, Zone
from hotbank.model import Model, capture

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


@pytest.mark.parametrize(("route", "zone"), [("none", Zone.NORMAL), ("probe", Zone.MOVABLE)])
def test_a_dimm_is_a_static_group(route: str, zone: Zone) -> None:
    """drivers/acpi/acpi_memhotplug.c: one block of it in a kernel zone, and all go there. Not so of probed ones."""
    model = Model.boot(board.loads(BOARD.replace("SIZE", "512M").replace("ROUTE", "probe")), cmdline=AUTO)
    model.add("plugged")
    first, *others = (block.number for block in model.snapshot().blocks if block.state is BlockState.OFFLINE)
    model.online(first, Online.KERNEL)
    seen = capture.take(model)
    banks = tuple(replace(bank, route=route if bank.name == "plugged" else bank.route) for bank in seen.snapshot.banks)
    again = Model.restore(replace(seen, snapshot=replace(seen.snapshot, banks=banks))).snapshot()
    assert {block.valid_zones[0] for block in again.blocks if block.number in others} == {zone}
