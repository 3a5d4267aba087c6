# SPDX-License-Identifier: Apache-2.0
"""/proc/meminfo: fs/proc/meminfo.c, ``meminfo_proc_show``, and mm/hugetlb.c for the counts of huge pages."""

from __future__ import annotations

from collections.abc import Mapping

from hotbank.memory import KIB
from hotbank.numbers import digits
from hotbank.sysfs.form import Form

_COUNTS = "HugePages_"


def _parse(text: str) -> Mapping[str, int]:
    rows = (line.partition(":") for line in text.splitlines())
    return {name: number for name, _, rest in rows if (number := digits(rest.removesuffix(" kB").strip())) is not None}


def _show(lines: Mapping[str, int]) -> str:
    return "".join(_line(name, value) for name, value in lines.items())


def _line(name: str, value: int) -> str:
    return f"{name + ':':<15} {value:>8}{'' if name.startswith(_COUNTS) else ' kB'}\n"


LINES: Form[Mapping[str, int]] = Form(_parse, _show)
"""Every line by name: KiB, and pages where the name begins with ``HugePages_``; a line that is none is left out."""


def available(text: str) -> int | None:
    """Bytes that could be had without swapping (MemAvailable); None where the file does not say."""
    lines = LINES.parse(text)
    return lines["MemAvailable"] * KIB if "MemAvailable" in lines else None


PCP_NAMES = {
    "physmem": "MemTotal",
    "free": "MemFree",
    "anonpages": "AnonPages",
    "cached": "Cached",
    "bufmem": "Buffers",
    "shmem": "Shmem",
    "slabReclaimable": "SReclaimable",
    "slabUnreclaimable": "SUnreclaim",
    "kernelStack": "KernelStack",
    "pageTables": "PageTables",
    "dirty": "Dirty",
}
"""The lines that a trace has columns for, by the names that PCP gives them."""
