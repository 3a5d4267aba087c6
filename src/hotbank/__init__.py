# SPDX-License-Identifier: Apache-2.0
"""hotbank: take DRAM banks away from a running Linux system, power them off, and give them back.

    import hotbank

    with hotbank.connect("host", change=True) as machine:   # owner, lock and journal included
        print(machine.explain("high").fact)
        outcome = machine.remove("high", on_event=print)

``__all__`` names what is promised; docs/python.md has an example of each. A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hotbank.faces import handing_on

if TYPE_CHECKING:
    from hotbank.board import Board as Board
    from hotbank.errors import Code as Code
    from hotbank.errors import HotbankError as HotbankError
    from hotbank.errors import KernelError as KernelError
    from hotbank.errors import MachineError as MachineError
    from hotbank.errors import Refusal as Refusal
    from hotbank.host import Host as Host
    from hotbank.machine import Machine as Machine
    from hotbank.machine import Reading as Reading
    from hotbank.machine import Snapshot as Snapshot
    from hotbank.machine import Survey as Survey
    from hotbank.memory import Power as Power
    from hotbank.memory import Range as Range
    from hotbank.model import Model as Model
    from hotbank.operate import Event as Event
    from hotbank.operate import Limits as Limits
    from hotbank.operate import Outcome as Outcome
    from hotbank.operate import Plan as Plan
    from hotbank.operate import Verdict as Verdict
    from hotbank.session import Session as Session
    from hotbank.session import connect as connect

__version__ = "0.2.0"

_HOMES = {
    "board": ("Board",),
    "errors": ("Code", "HotbankError", "KernelError", "MachineError", "Refusal"),
    "host": ("Host",),
    "machine": ("Machine", "Reading", "Snapshot", "Survey"),
    "memory": ("Power", "Range"),
    "model": ("Model",),
    "operate": ("Event", "Limits", "Outcome", "Plan", "Verdict"),
    "session": ("Session", "connect"),
}

__all__ = [
    "Board",
    "Code",
    "Event",
    "Host",
    "HotbankError",
    "KernelError",
    "Limits",
    "Machine",
    "MachineError",
    "Model",
    "Outcome",
    "Plan",
    "Power",
    "Range",
    "Reading",
    "Refusal",
    "Session",
    "Snapshot",
    "Survey",
    "Verdict",
    "connect",
]


if not TYPE_CHECKING:
    __getattr__ = handing_on(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
