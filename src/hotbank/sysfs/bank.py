# SPDX-License-Identifier: Apache-2.0
"""The files of a bank that our driver attends to: kernel/bank."""

from __future__ import annotations

import re
from enum import StrEnum

from hotbank.memory import Power, Range
from hotbank.sysfs.form import Form, word, wrong

_RANGE = re.compile(r"0x([0-9a-f]{1,16})-0x([0-9a-f]{1,16})")


class Presence(StrEnum):
    """What ``state`` reads: whether the bank is in the kernel."""

    ABSENT = "absent"
    PRESENT = "present"


class StateWord(StrEnum):
    """What may be written to ``state``."""

    ADD = "add"
    REMOVE = "remove"


class Supply(StrEnum):
    """What ``supply`` reads: ``released``: let go of, and maybe still on; ``unmanaged``: nothing here switches it."""

    ON = "on"
    OFF = "off"
    RELEASED = "released"
    UNMANAGED = "unmanaged"

    @property
    def power(self) -> Power:
        """What is known of the power by that word."""
        return Power(self) if self in (Supply.ON, Supply.OFF) else Power.UNKNOWN

    @classmethod
    def of(cls, power: Power) -> Supply:
        """The word for a bank whose power is that: a driver that is not sure has let go."""
        return next((word for word in (cls.ON, cls.OFF) if word.power is power), cls.RELEASED)


def _range(text: str) -> Range:
    match = _RANGE.fullmatch(text.strip())
    start, end = (int(match[1], 16), int(match[2], 16) + 1) if match else (1, 0)
    if start >= end:
        raise wrong("range", text, "must be first-last, such as 0x60000000-0x7fffffff")
    return Range(start, end)


def range_of(digits: int) -> Form[Range]:
    """``range``: ``%pa-%pa``, in as many digits as a physical address of the kernel has: 8 or 16."""
    return Form(_range, lambda span: f"0x{span.start:0{digits}x}-0x{span.end - 1:0{digits}x}\n")


RANGE, RANGE_32 = range_of(16), range_of(8)
STATE: Form[Presence] = word("state", Presence)
SUPPLY: Form[Supply] = word("supply", Supply)
