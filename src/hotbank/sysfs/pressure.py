# SPDX-License-Identifier: Apache-2.0
"""/proc/pressure/memory: kernel/sched/psi.c, ``psi_show``. Missing without CONFIG_PSI, unreadable with psi=0.

A Pressure keeps the averages over 10 s; those over 60 and 300 s are read over, and shown as 0.
"""

from __future__ import annotations

import re

from hotbank.machine import Pressure
from hotbank.sysfs.form import Form, wrong

_LINE = r"^(some|full) avg10=(\d{1,3}\.\d\d) .*total=(\d{1,19})$"  # compiled by who reads one


def _parse(text: str) -> Pressure:
    rows = {kind: (float(share), int(total)) for kind, share, total in re.findall(_LINE, text, re.MULTILINE)}
    if rows.keys() != {"some", "full"}:
        raise wrong("pressure", text, "must have a line some and a line full")
    (some, some_total), (full, full_total) = rows["some"], rows["full"]
    return Pressure(some, full, some_total, full_total)


def _show(now: Pressure) -> str:
    return _line("some", now.some_avg10, now.some_total) + _line("full", now.full_avg10, now.full_total)


def _line(kind: str, share: float, total: int) -> str:
    return f"{kind} avg10={share:.2f} avg60=0.00 avg300=0.00 total={total}\n"


PRESSURE: Form[Pressure] = Form(_parse, _show)
"""Shares in percent with two digits after the point, and microseconds since boot."""
