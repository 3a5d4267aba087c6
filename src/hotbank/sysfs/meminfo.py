# SPDX-License-Identifier: Apache-2.0
"""/proc/meminfo: fs/proc/meminfo.c, ``meminfo_proc_show``, and mm/hugetlb.c for the counts of huge pages."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hotbank.sysfs.form import Form

_LINE = re.compile(r"^([\w()]+): +(\d{1,19})(?: kB)?$", re.MULTILINE)
_COUNTS = "HugePages_"


def _parse(text: str) -> Mapping[str, int]:
    return {name: int(value) for name, value in _LINE.findall(text)}


def _show(lines: Mapping[str, int]) -> str:
    return "".join(_line(name, value) for name, value in lines.items())


def _line(name: str, value: int) -> str:
    return f"{name + ':':<15} {value:>8}{'' if name.startswith(_COUNTS) else ' kB'}\n"


LINES: Form[Mapping[str, int]] = Form(_parse, _show)
"""Every line by name: KiB, and pages where the name begins with ``HugePages_``; a line that is none is left out."""
