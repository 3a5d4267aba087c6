# SPDX-License-Identifier: Apache-2.0
"""/proc/vmstat: mm/vmstat.c, ``vmstat_show``. One counter a line, since boot or now; pages where the name says so."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hotbank.machine import Migrated, Reading
from hotbank.numbers import U63
from hotbank.sysfs.form import Form

_ROW = re.compile(r"^(\S+) ([0-9]{1,20})$", re.MULTILINE)
_REFAULTS = ("workingset_refault_anon", "workingset_refault_file")
_KERNELS = ("nr_slab_unreclaimable", "nr_page_table_pages")


def _parse(text: str) -> Mapping[str, int]:
    return {name: number for name, value in _ROW.findall(text) if (number := int(value)) < U63}


def _show(counters: Mapping[str, int]) -> str:
    return "".join(f"{name} {value}\n" for name, value in counters.items())


COUNTERS: Form[Mapping[str, int]] = Form(_parse, _show)
"""Every counter by name; a line that is none is left out."""


def migrated(counters: Mapping[str, int]) -> Migrated | None:
    """Pages moved since boot, and tries that failed; None where the kernel does not count them (CONFIG_MIGRATION)."""
    done, failed = counters.get("pgmigrate_success"), counters.get("pgmigrate_fail")
    return None if done is None or failed is None else Migrated(done, failed)


def refaults(counters: Mapping[str, int]) -> int | None:
    """Pages that had to be read again since boot; None where the kernel does not count them."""
    counted = [counters[name] for name in _REFAULTS if name in counters]
    return sum(counted) if counted else None


def kernels(counters: Mapping[str, int]) -> int | None:
    """Pages of slab that can't be reclaimed and of page tables; None where the kernel does not count them."""
    return sum(counters[name] for name in _KERNELS) if counters.keys() >= set(_KERNELS) else None


def counters_of(reading: Reading) -> Mapping[str, int]:
    """What a reading knows of them. It tells all refaults in one number, which stands for those of files here, and the
    kernel's own pages in one, which stands for slab."""
    kernel, moved = reading.kernel, reading.migrated
    found: dict[str, int] = {} if kernel is None else dict.fromkeys(_KERNELS, 0) | {_KERNELS[0]: kernel}
    found |= {} if reading.refaults is None else {_REFAULTS[-1]: reading.refaults}
    return found if moved is None else found | {"pgmigrate_success": moved.success, "pgmigrate_fail": moved.fail}
