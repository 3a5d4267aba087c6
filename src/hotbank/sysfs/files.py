# SPDX-License-Identifier: Apache-2.0
"""Every file that hotbank reads and shows, and the form that it has. ``N`` stands for a number, ``NAME`` for a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hotbank.sysfs import (
    bank,
    block,
    buddyinfo,
    cma,
    firmware_map,
    hugepages,
    iomem,
    meminfo,
    meters,
    names,
    node,
    parameters,
    pressure,
    uname,
    vmstat,
    zoneinfo,
)
from hotbank.sysfs.form import Form

_BLOCK, _BANK = f"{names.MEMORY}/memoryN", f"{names.BANKS}/NAME"

FILES: Mapping[str, Form[Any]] = {
    names.BLOCK_SIZE: block.BLOCK_SIZE,
    names.AUTO_ONLINE: block.AUTO_ONLINE,
    f"{_BLOCK}/state": block.STATE,
    f"{_BLOCK}/online": block.ONLINE,
    f"{_BLOCK}/valid_zones": block.VALID_ZONES,
    f"{_BLOCK}/removable": block.REMOVABLE,
    f"{_BLOCK}/phys_index": block.PHYS_INDEX,
    f"{_BLOCK}/phys_device": block.PHYS_DEVICE,
    f"{_BLOCK}/nodeN": node.LINK,
    f"{names.NODES}/online": node.LIST,
    f"{names.NODES}/possible": node.LIST,
    f"{names.NODES}/has_memory": node.LIST,
    f"{names.NODES}/nodeN/memoryN": node.BACK_LINK,
    f"{names.PARAMETERS}/online_policy": parameters.ONLINE_POLICY,
    f"{names.PARAMETERS}/auto_movable_ratio": parameters.AUTO_MOVABLE_RATIO,
    f"{names.PARAMETERS}/auto_movable_numa_aware": parameters.AUTO_MOVABLE_NUMA_AWARE,
    f"{names.PARAMETERS}/memmap_on_memory": parameters.MEMMAP_ON_MEMORY,
    f"{_BANK}/range": bank.RANGE,
    f"{_BANK}/range, of 32 bits": bank.RANGE_32,
    f"{_BANK}/state": bank.STATE,
    f"{_BANK}/supply": bank.SUPPLY,
    f"{names.FIRMWARE_MAP}/N/start": firmware_map.START,
    f"{names.FIRMWARE_MAP}/N/end": firmware_map.END,
    f"{names.FIRMWARE_MAP}/N/type": firmware_map.TYPE,
    f"{names.CMA}/NAME/base_pfn": cma.BASE_PFN,
    f"{names.CMA}/NAME/count": cma.COUNT,
    f"{names.HUGEPAGES}/NAME/free_hugepages": hugepages.COUNT,
    f"{names.HUGEPAGES}/NAME/resv_hugepages": hugepages.COUNT,
    f"{names.HWMON}/hwmonN/inN_input": meters.VALUE,
    f"{names.HWMON}/hwmonN/currN_input": meters.VALUE,
    f"{names.HWMON}/hwmonN/powerN_input": meters.VALUE,
    f"{names.HWMON}/hwmonN/energyN_input": meters.COUNTER,
    f"{names.HWMON}/hwmonN/tempN_input": meters.VALUE,
    f"{names.THERMAL}/thermal_zoneN/temp": meters.VALUE,
    f"{names.POWERCAP}/NAME/energy_uj": meters.COUNTER,
    f"{names.POWERCAP}/NAME/max_energy_range_uj": meters.COUNTER,
    names.IOMEM: iomem.ENTRIES,
    names.MEMINFO: meminfo.LINES,
    names.VMSTAT: vmstat.COUNTERS,
    names.ZONEINFO: zoneinfo.ZONES,
    names.BUDDYINFO: buddyinfo.BUDDYINFO,
    names.PRESSURE: pressure.PRESSURE,
    names.ARCH: uname.ARCH,
}
