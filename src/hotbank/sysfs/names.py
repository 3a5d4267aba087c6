# SPDX-License-Identifier: Apache-2.0
"""Where the files are, relative to the root: ``sys/devices/system/memory/memory17/state``."""

from __future__ import annotations

from hotbank.numbers import digits

MEMORY = "sys/devices/system/memory"
NODES = "sys/devices/system/node"
PARAMETERS = "sys/module/memory_hotplug/parameters"
BANKS = "sys/class/hotbank"
FIRMWARE_MAP = "sys/firmware/memmap"
HWMON = "sys/class/hwmon"
THERMAL = "sys/class/thermal"
POWERCAP = "sys/class/powercap"
CMA = "sys/kernel/debug/cma"
HUGEPAGES = "sys/kernel/mm/hugepages"
MOVABLE_GIGANTIC = "proc/sys/vm/movable_gigantic_pages"

AUTO_ONLINE = f"{MEMORY}/auto_online_blocks"
CRASH_HOTPLUG = f"{MEMORY}/crash_hotplug"
BLOCK_SIZE = f"{MEMORY}/block_size_bytes"

IOMEM, MEMINFO, VMSTAT, ZONEINFO = "proc/iomem", "proc/meminfo", "proc/vmstat", "proc/zoneinfo"
BUDDYINFO = "proc/buddyinfo"
PRESSURE = "proc/pressure/memory"
CMDLINE = "proc/cmdline"
ARCH, BOOT_ID = "proc/sys/kernel/arch", "proc/sys/kernel/random/boot_id"
OSRELEASE = "proc/sys/kernel/osrelease"


def block(number: int, file: str = "") -> str:
    """The folder of a memory block, or a file in it."""
    return f"{MEMORY}/memory{number}/{file}".rstrip("/")


def node(number: int, file: str = "") -> str:
    """The folder of a NUMA node, or a file in it."""
    return f"{NODES}/node{number}/{file}".rstrip("/")


def reclaim(node_number: int) -> str:
    """The file that has a node give up pages."""
    return node(node_number, "reclaim")


def bank(name: str, file: str = "") -> str:
    """The folder in which our driver shows a bank, or a file in it."""
    return f"{BANKS}/{name}/{file}".rstrip("/")


def evacuation(bank: str) -> str:
    """The file by which our driver empties a bank."""
    return f"dev/hotbank/{bank}"


def block_number(name: str) -> int | None:
    """17 of ``memory17``; None for any other name."""
    return digits(name[6:]) if name.startswith("memory") else None


def node_number(name: str) -> int | None:
    """1 of ``node1``; None for any other name."""
    return digits(name[4:]) if name.startswith("node") else None
