# SPDX-License-Identifier: Apache-2.0
"""What a transaction tells while it runs, how it ended, and why a step of it failed. Values; they touch nothing.

The errno of each refusal: drivers/base/memory.c (``state_store``), mm/memory_hotplug.c (``offline_pages``).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hotbank.errors import Code, HotbankError, KernelError
from hotbank.machine import Evidence
from hotbank.memory import KernelState, Power
from hotbank.operate.plan import Action, Step
from hotbank.operate.reasons import code_of, errno_of, remedy
from hotbank.operate.verdict import SCHEMA, Verdict

# What a second look at the block can tell more exactly than the errno: holes and zones, pages, the notifier.
BY_SURVEY: Mapping[int, tuple[Code, ...]] = {
    errno.EINVAL: (Code.HOLES, Code.MULTI_ZONE),
    errno.EBUSY: (Code.UNMOVABLE, Code.CMA, Code.HUGETLB),
    errno.EPERM: (Code.BOOT_MEMORY,),
}


@dataclass(frozen=True, slots=True)
class Event:
    """What happens, as it happens. ``t``: seconds since the transaction began; ``moved`` and ``total`` in pages.

    ``event``: ``plan``, ``step`` (about to be done), ``progress`` (done), ``rollback`` (an act of restoring) or
    ``done``, always the last, with the ``exit`` status.
    """

    t: float
    seq: int
    event: str
    step: str | None = None
    block: int | None = None
    moved: int = 0
    total: int = 0
    code: Code | None = None
    errno: int | None = None
    exit: int | None = None

    def document(self) -> dict[str, Any]:
        """The JSON of one line of ``--json`` events."""
        line: dict[str, Any] = {"schema": SCHEMA, "t": round(self.t, 6), "seq": self.seq, "event": self.event}
        line |= {"step": self.step, "block": self.block, "moved": self.moved, "total": self.total}
        line |= {"code": self.code.value if self.code is not None else None, "errno": self.errno}
        return line | ({"exit": self.exit} if self.event == "done" else {})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a transaction ended. Partial success is a value, not an error.

    ``exit``: 0 done, 1 refused or rolled back, 64 partly done, 130 interrupted and rolled back. ``pages``: moved;
    ``freed``: bytes that left the kernel; ``seconds``: on the machine's clock. ``unrestored``: blocks that could
    not be put back. ``open``: the kernel or the machine has not let go, and ``recover`` must settle it.
    """

    verb: str
    target: str
    code: Code
    exit: int
    fact: str = ""
    remedy: str = ""
    errno: int | None = None
    pages: int = 0
    freed: int = 0
    seconds: float = 0.0
    kernel: KernelState | None = None
    power: Power | None = None
    evidence: tuple[Evidence, ...] = ()
    unrestored: tuple[int, ...] = ()
    open: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the forward part of a transaction ended early."""

    code: Code
    fact: str
    remedy: str
    errno: int | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What was so when a step failed. ``look``: the verdict on its block as it was then, None without one;
    ``planned``: the verdict that the plan was made by. ``late``: its deadline is over; ``stopped``: somebody asked for
    an end; ``stuck``: its bank is half out."""

    look: Verdict | None = None
    planned: Verdict | None = None
    late: bool = False
    stopped: bool = False
    stuck: bool = False


def why(step: Step, error: HotbankError, found: Circumstances) -> Failure:
    """The reason behind the error that ended a step: by the clock for EINTR, by the look where that says more than the
    errno, else the error's own."""
    if not isinstance(error, KernelError):
        return Failure(code_of(error), str(error), error.remedy or remedy(code_of(error)))
    code = Code.STUCK if step.action is Action.REMOVE and found.stuck else _cause(error, found)
    return Failure(code, _fact(error, found.look), remedy(code), errno_of(error), _evidence(step, found))


def _cause(error: KernelError, found: Circumstances) -> Code:
    if error.errno == errno.EINTR:
        return Code.DEADLINE if found.late and not found.stopped else Code.INTERRUPTED
    if found.look is not None and found.look.code in BY_SURVEY.get(error.errno, ()):
        return found.look.code
    return code_of(error)


def _fact(error: KernelError, look: Verdict | None) -> str:
    return f"{error}; {look.fact}" if look is not None and look.impossible else str(error)


def _evidence(step: Step, found: Circumstances) -> tuple[Evidence, ...]:
    """Pages that speak against it: those seen at the second look, without one those that the plan knew of."""
    if found.look is not None:
        return found.look.evidence if found.look.impossible else ()
    return found.planned.evidence if step.action is Action.OFFLINE and found.planned is not None else ()


def no_events(event: Event) -> None:
    """Nobody listens."""


def not_interrupted() -> bool:
    """Nobody interrupts."""
    return False
