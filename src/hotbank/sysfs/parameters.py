# SPDX-License-Identifier: Apache-2.0
"""Parameters of memory hotplug: mm/memory_hotplug.c, ``module_param_cb``, and kernel/params.c for how they print."""

from __future__ import annotations

from enum import StrEnum

from hotbank.sysfs.form import Form, decimal, flag, word


class OnlinePolicyName(StrEnum):
    """How a zone is chosen for a block that comes online without a word on it."""

    CONTIG_ZONES = "contig-zones"
    AUTO_MOVABLE = "auto-movable"


class MemmapOnMemory(StrEnum):
    """Whether added memory may hold its own ``struct page``s; ``force`` also where that wastes some."""

    NO = "N"
    YES = "Y"
    FORCE = "force"


ONLINE_POLICY: Form[OnlinePolicyName] = word("online_policy", OnlinePolicyName)
AUTO_MOVABLE_RATIO = decimal("auto_movable_ratio")
AUTO_MOVABLE_NUMA_AWARE = flag("auto_movable_numa_aware", "N", "Y")
MEMMAP_ON_MEMORY: Form[MemmapOnMemory] = word("memmap_on_memory", MemmapOnMemory)
