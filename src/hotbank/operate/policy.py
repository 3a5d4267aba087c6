# SPDX-License-Identifier: Apache-2.0
"""The kernel's own policy for memory that is added: whether it could get a kernel zone, from which it never leaves.

drivers/base/memory.c, ``auto_online_blocks``; mm/memory_hotplug.c, ``add_memory_resource``.
"""

from __future__ import annotations

from hotbank.machine import BankStatus, Snapshot
from hotbank.memory import Online
from hotbank.routes import route


def danger(snapshot: Snapshot, what: str) -> str:
    """Why ``what`` must not be added now, in words; empty where it would come up offline or Movable."""
    if snapshot.auto_online in ("offline", Online.MOVABLE):
        return ""
    return f"auto_online_blocks is {snapshot.auto_online}: {what} could get a kernel zone"


def needs_policy(bank: BankStatus | None) -> bool:
    """False where the route's driver lets no block into a kernel zone, whatever the policy. One unknown needs it."""
    return bank is None or not route(bank.route).movable_only
