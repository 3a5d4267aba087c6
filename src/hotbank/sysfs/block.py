# SPDX-License-Identifier: Apache-2.0
"""The files of a memory block, and of all of them together: drivers/base/memory.c.

``removable`` says nothing of a block since 5.10 (53cdc1cb29e8): 1 wherever the kernel can take memory away at all.
``phys_device`` is 0 everywhere but on s390.
"""

from __future__ import annotations

from enum import StrEnum

from hotbank.memory import BlockState
from hotbank.sysfs.form import Form, decimal, flag, hexadecimal, word


class OnlineType(StrEnum):
    """The words of ``online_type_to_str``: what may be written to ``state``, and what ``auto_online_blocks`` reads."""

    OFFLINE = "offline"
    ONLINE = "online"
    KERNEL = "online_kernel"
    MOVABLE = "online_movable"


STATE: Form[BlockState] = word("state", BlockState)
ONLINE = flag("online", "0", "1")
REMOVABLE = flag("removable", "0", "1")
PHYS_INDEX = hexadecimal("phys_index", "08x")
PHYS_DEVICE = decimal("phys_device")
BLOCK_SIZE = hexadecimal("block_size_bytes")
AUTO_ONLINE: Form[OnlineType] = word("auto_online_blocks", OnlineType)


def _zones(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _show_zones(zones: tuple[str, ...]) -> str:
    return f"{' '.join(zones)}\n" if zones else ""


VALID_ZONES: Form[tuple[str, ...]] = Form(_zones, _show_zones)
"""Names of zones: of a block that is online the one it is in, else those it may go to; ``("none",)`` for several at
once, and nothing where there is no text."""
