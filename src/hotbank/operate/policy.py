# SPDX-License-Identifier: Apache-2.0
"""The kernel's own policy for memory that is added: whether it could get a kernel zone, from which it never leaves.

drivers/base/memory.c, ``auto_online_blocks``; mm/memory_hotplug.c, ``add_memory_resource``.
"""

from __future__ import annotations

from hotbank.machine import BankStatus, Snapshot
from hotbank.memory import KernelState, Online
from hotbank.routes import route


def danger(snapshot: Snapshot, what: str) -> str:
    """Why ``what`` must not be added now, in words; empty where it would come up offline or Movable."""
    if snapshot.auto_online in ("offline", Online.MOVABLE):
        return ""
    return f"auto_online_blocks is {snapshot.auto_online}: {what} could get a kernel zone"


def danger_on_return(snapshot: Snapshot, bank: BankStatus) -> str:
    """The same of a bank in the kernel, were it taken out and had to be put back; empty where nothing takes it out."""
    way = route(bank.route)
    if not needs_policy(bank) or bank.kernel is KernelState.ABSENT or not way.removes:
        return ""
    why = danger(snapshot, bank.name)
    return f"{why} if it had to be put back" if why else ""


def needs_policy(bank: BankStatus) -> bool:
    """False where the route's driver lets no block into a kernel zone, whatever the policy."""
    return not route(bank.route).movable_only
