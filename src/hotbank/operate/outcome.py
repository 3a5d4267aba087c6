# SPDX-License-Identifier: Apache-2.0
"""What a transaction tells while it runs, how it ended, and why a step of it failed. Values; they touch nothing.

The errno of each refusal: drivers/base/memory.c (``state_store``), mm/memory_hotplug.c (``offline_pages``).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hotbank.documents import SCHEMA
from hotbank.errors import Code, HotbankError, KernelError
from hotbank.machine import Evidence, Snapshot
from hotbank.memory import KernelState, Kind, Power
from hotbank.operate.plan import REACHES, Action, Plan, Step, goes_dark
from hotbank.operate.reasons import UNSEEN, code_of, errno_of, remedy
from hotbank.operate.verdict import Verdict

# What a second look at the block can tell more exactly than the errno: holes and zones, pages, the notifier.
BY_SURVEY: Mapping[int, tuple[Code, ...]] = {
    errno.EINVAL: (Code.HOLES, Code.MULTI_ZONE),
    errno.EBUSY: (Code.UNMOVABLE, Code.CMA, Code.HUGETLB),
    errno.EPERM: (Code.BOOT_MEMORY,),
}


@dataclass(frozen=True, slots=True)
class Event:
    """What happens, as it happens. ``t``: seconds since the transaction began.

    ``total``: pages expected to move; ``moved``: pages that the machine has migrated so far, None when it does not
    count. ``event``: ``plan``, ``step`` (about to be done), ``progress`` (done), ``rollback`` (an act of restoring) or
    ``done``, always the last, with the ``exit`` status, and in ``fact`` and ``remedy`` how it ended. ``target``: whom a
    step or an act is about, a block as ``memoryN``, a bank or a domain.
    """

    t: float
    seq: int
    event: str
    step: str | None = None
    block: int | None = None
    moved: int | None = 0
    total: int = 0
    code: Code | None = None
    errno: int | None = None
    exit: int | None = None
    target: str | None = None
    fact: str = ""
    remedy: str = ""

    def document(self) -> dict[str, Any]:
        """The JSON of one line of ``--json`` events."""
        line: dict[str, Any] = {"schema": SCHEMA["event"], "t": round(self.t, 6), "seq": self.seq, "event": self.event}
        line |= {"step": self.step, "target": self.target, "block": self.block}
        line |= {"moved": self.moved, "total": self.total}
        line |= {"code": self.code.value if self.code is not None else None, "errno": self.errno}
        end = {"exit": self.exit, "fact": self.fact, "remedy": self.remedy}
        return line | (end if self.event == "done" else {})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a transaction ended. Partial success is a value, not an error.

    ``targets``: banks and blocks by name. ``exit``: 0 done, 1 refused or rolled back, 64 partly done, 130 interrupted
    and rolled back. ``planned``: pages that were expected to move. ``moved``: pages that the machine migrated during
    the offlines, whoever made it (compaction and NUMA balancing count too); None when it does not count. ``freed``:
    bytes that left the kernel; ``seconds``: on the machine's clock. ``kernel`` and ``power``: of all banks, None when
    they differ. ``unrestored``: blocks that could not be put back. ``open``: the kernel or the machine has not let go,
    and ``recover`` must settle it.
    """

    verb: str
    targets: tuple[str, ...]
    code: Code
    exit: int
    fact: str = ""
    remedy: str = ""
    errno: int | None = None
    planned: int = 0
    moved: int | None = None
    freed: int = 0
    seconds: float = 0.0
    kernel: KernelState | None = None
    power: Power | None = None
    evidence: tuple[Evidence, ...] = ()
    unrestored: tuple[int, ...] = ()
    open: bool = False

    @property
    def target(self) -> str:
        """All targets in words."""
        return ", ".join(self.targets)


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


def standing(snapshot: Snapshot | None, banks: Iterable[str]) -> tuple[KernelState | None, Power | None]:
    """Where the banks stand: in the kernel, and their power; None where they differ, or nobody can say."""
    found = [b for name in banks if snapshot is not None and (b := snapshot.bank(name)) is not None]
    kernels, powers = {b.kernel for b in found}, {b.power for b in found}
    return kernels.pop() if len(kernels) == 1 else None, powers.pop() if len(powers) == 1 else None


def success(plan: Plan, facts: Sequence[str]) -> str:
    """What is true now that all steps are done. ``facts``: of each step, what the step itself does not say."""
    done = zip(plan.steps, facts, strict=True)
    dark = [is_in(step.target, REACHES[step.action]) for step, fact in done if goes_dark(step) and not fact]
    return "; ".join([", ".join([*_places(plan), *dark]), *filter(None, facts)])


def is_in(domain: str, power: Power) -> str:
    """``domain ddr is off``."""
    return f"domain {domain} is {'in ' if power is Power.SELF_REFRESH else ''}{power}"


def _places(plan: Plan) -> Iterator[str]:
    if plan.verb == "add":
        yield _are([t.name for t in plan.targets], "online and Movable")
        return
    offline = [target.name for target in plan.targets if target.name not in plan.leaving]
    if plan.leaving:
        yield _are(plan.leaving, "out of the kernel")
    if offline:
        yield _are(offline, "offline")


def _are(names: Sequence[str], what: str) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {what}"


def why(step: Step, error: HotbankError, found: Circumstances) -> Failure:
    """The reason behind the error that ended a step: by the clock for EINTR, by the look where that says more than the
    errno, else the error's own."""
    if not isinstance(error, KernelError):
        return Failure(code_of(error), str(error), error.remedy or remedy(code_of(error)))
    code = Code.STUCK if step.action is Action.REMOVE and found.stuck else _cause(error, found)
    return Failure(code, _fact(error, found.look), _help(code, found.look), errno_of(error), _evidence(step, found))


def _help(code: Code, look: Verdict | None) -> str:
    """No race is to be suspected where nobody could see what was refused."""
    unseen = look is not None and (Kind.UNKNOWN in look.kinds or "kinds" in look.unknown)
    return UNSEEN if code is Code.RACED and unseen else remedy(code)


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
