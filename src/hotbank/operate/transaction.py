# SPDX-License-Identifier: Apache-2.0
"""A plan being carried out: step by step, journaled, under deadlines, rolled back on failure.

The kernel has no deadline of its own: an offline tries for ever until a signal (mm/memory_hotplug.c,
``offline_pages``), and looks at signals only between migration passes. So a cancelled offline may still be held;
then the transaction stays open with the power on, and ``recover`` settles it when the kernel lets go.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hotbank.errors import CancelPending, Code, HotbankError, KernelError, Refusal
from hotbank.machine import Evidence, Machine, Snapshot
from hotbank.memory import BlockState, KernelState, Kind, Online, Power, Zone
from hotbank.operate.journal import Before, Journal
from hotbank.operate.look import surveys_of
from hotbank.operate.plan import Action, Plan, Step, policy_is_safe
from hotbank.operate.power import ask, darken, switch_on
from hotbank.operate.reasons import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PARTLY,
    code_of,
    errno_of,
    remedy,
)
from hotbank.operate.restore import Hand, Restorer, find
from hotbank.operate.targets import block_numbers, resolve
from hotbank.operate.verdict import SCHEMA, Verdict, verdict

_NEVER_FORCED = (Code.STUCK, Code.CANCEL_PENDING, Code.DEADLINE)
_BY_SURVEY: Mapping[int, tuple[Code, ...]] = {
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
class Limits:
    """Seconds on the machine's clock: for all steps forward, for each block, and for each offline of a rollback."""

    total: float = 60.0
    block: float = 30.0
    grace: float = 10.0


def never() -> bool:
    """Nobody interrupts."""
    return False


def unheard(event: Event) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why the forward part ended early."""

    code: Code
    fact: str
    remedy: str
    errno: int | None = None
    evidence: tuple[Evidence, ...] = ()


class Transaction:
    """Carries one plan out, once.

    ``interrupted`` is asked before each step and after a cancelled offline. ``on_event`` hears every event; if it
    raises, it hears no more, the transaction goes on, and the error is raised when all is done. ``began``: when it was
    ordered, on the machine's clock, if that was earlier: limits count from there.
    """

    def __init__(
        self,
        machine: Machine,
        plan: Plan,
        *,
        journal: Journal,
        limits: Limits | None = None,
        force: bool = False,
        keep_partial: bool = False,
        interrupted: Callable[[], bool] = never,
        on_event: Callable[[Event], None] = unheard,
        began: float | None = None,
    ) -> None:
        self._machine, self._plan, self._journal = machine, plan, journal
        self._limits = limits or Limits()
        self._force, self._keep_partial = force, keep_partial
        self._interrupted, self._on_event = interrupted, on_event
        self._observer_failed: Exception | None = None
        self._seq = 0
        self._moved = 0
        self._touched: set[int] = set()
        self._note, self._fact = Code.OK, ""
        self._latest = machine.clock.now()
        self._began = self._latest if began is None else began
        self._deadline = self._block_deadline = self._began + self._limits.total
        self._carry_out: Mapping[Action, Callable[[Step], None]] = {
            Action.OFFLINE: self._offline,
            Action.REMOVE: self._remove,
            Action.POWER_OFF: self._dark,
            Action.SELF_REFRESH: self._dark,
            Action.KEEP_POWER: self._keep_power,
            Action.POWER_ON: self._power_on,
            Action.CHECK_POLICY: self._check_policy,
            Action.ADD: self._add,
            Action.ONLINE: self._online,
        }

    def run(self) -> Outcome:
        """Do it. Raises Refusal(BUSY_TRANSACTION) when another transaction is open; every other end is an Outcome."""
        self._tell("plan", code=self._plan.code)
        outcome = self._without_acting() or self._acting()
        self._tell("done", code=outcome.code, errno=outcome.errno, exit=outcome.exit)
        if self._observer_failed is not None:
            raise self._observer_failed
        return outcome

    def _without_acting(self) -> Outcome | None:
        """The end of a transaction that has nothing to do, or whose plan is known to fail."""
        plan = self._plan
        bad = self._bad_pages()
        if bad and self._force:
            return self._end(Code.POISONED, EXIT_FAILED, f"{plan.target} holds {bad} bad pages: not even by force")
        may_force = self._force and plan.verb == "remove" and plan.code not in _NEVER_FORCED
        if plan.impossible and not may_force:
            evidence = plan.verdict.evidence if plan.verdict is not None else ()
            return self._end(plan.code, EXIT_FAILED, plan.fact, evidence=evidence)
        if not plan.steps:
            return self._end(Code.OK, EXIT_DONE, f"{plan.target}: nothing to do")
        return None

    def _bad_pages(self) -> int:
        """Poisoned pages in memory that a route may take out of the kernel. Whoever had one mapped keeps an entry that
        points at its ``struct page``: once that is removed, reading /proc/PID/pagemap is an oops (docs/hazards.md)."""
        plan = self._plan
        if plan.verb != "remove" or plan.verdict is None:
            return 0
        bank = resolve(self._machine.snapshot(), plan.target).bank
        return plan.verdict.kinds.get(Kind.POISONED, 0) if bank is not None and bank.route != "none" else 0

    def _acting(self) -> Outcome:
        before = self._find()
        self._hand = Hand(self._machine, self._journal, self._journal.begin(before))
        try:
            failure = self._forward()
        except CancelPending as e:
            return self._end(Code.CANCEL_PENDING, EXIT_FAILED, str(e), errno=e.errno, open=True)
        except BaseException:
            self._restorer(before, self._touched).run()
            self._journal.close(self._hand.entry, Code.INTERRUPTED, self._moved)
            raise
        return self._close(self._done() if failure is None else self._undo(before, failure))

    def _forward(self) -> _Failure | None:
        """All steps in order, up to the first that fails."""
        for step in self._plan.steps:
            try:
                self._go_on()
                self._one(step)
            except CancelPending:
                raise
            except KernelError as e:
                return self._explained(step, e)
            except HotbankError as e:
                return _Failure(code_of(e), str(e), e.remedy or remedy(code_of(e)))
        return None

    def _find(self) -> Before:
        snapshot = self._machine.snapshot()
        target = resolve(snapshot, self._plan.target)
        bank = target.bank.name if target.bank is not None else None
        domain = target.bank.domain if target.bank is not None else None
        power = ask(self._machine, domain) if domain is not None else None
        return find(snapshot, self._plan.verb, target.name, bank, target.blocks, power)

    def _go_on(self) -> None:
        if self._interrupted():
            raise Refusal(Code.INTERRUPTED, f"{self._plan.verb} {self._plan.target} was interrupted")
        if self._machine.clock.now() >= self._deadline:
            raise Refusal(Code.DEADLINE, f"{self._plan.verb} {self._plan.target}: {self._limits.total:g} s are over")

    def _one(self, step: Step) -> None:
        self._tell("step", step=step.action.value, block=step.block)
        self._carry_out[step.action](step)
        self._moved += step.pages
        self._tell("progress", step=step.action.value, block=step.block)

    # The steps of a removal.

    def _offline(self, step: Step) -> None:
        number = _number(step)
        self._touched.add(number)
        with self._hand.act(step.action, step.target) as machine:
            machine.offline(number, self._next_deadline())
            block = machine.snapshot().block(number)
            if block is not None and block.state is not BlockState.OFFLINE:
                raise Refusal(Code.RACED, f"{step.target} went offline and is {block.state} again")

    def _remove(self, step: Step) -> None:
        self._touch_bank(step.target)
        with self._hand.act(step.action, step.target) as machine:
            machine.remove(step.target)
            snapshot = machine.snapshot()
            status = snapshot.bank(step.target)
            left = [b for b in snapshot.blocks if status is not None and b.range.overlaps(status.range)]
            if status is None or status.kernel is not KernelState.ABSENT or left:
                code = Code.STUCK if status is not None and status.kernel is KernelState.STUCK else Code.RACED
                raise Refusal(code, f"{step.target} was removed and {len(left)} blocks of it are still there")

    def _dark(self, step: Step) -> None:
        want = Power.OFF if step.action is Action.POWER_OFF else Power.SELF_REFRESH
        try:
            with self._hand.act(step.action, step.target) as machine:
                reached = darken(machine, step.target, want)
        except Refusal as e:
            if e.code is not Code.DOMAIN_IN_USE or not self._bank_is_out():
                raise
            self._note, self._fact = e.code, str(e)
            return
        if reached is not want:
            self._fact = f"domain {step.target} would not go {want}; it is in {reached}"

    def _keep_power(self, _: Step) -> None:
        self._note, self._fact = Code.DOMAIN_IN_USE, self._plan.fact

    # The steps of an addition.

    def _power_on(self, step: Step) -> None:
        with self._hand.act(step.action, step.target) as machine:
            switch_on(machine, step.target)

    def _check_policy(self, step: Step) -> None:
        snapshot = self._machine.snapshot()
        if not policy_is_safe(snapshot):
            fact = f"{step.target} is {snapshot.auto_online}: the bank could get a kernel zone"
            raise Refusal(Code.AUTO_ONLINE, fact)

    def _add(self, step: Step) -> None:
        self._touch_bank(step.target)
        with self._hand.act(step.action, step.target) as machine:
            machine.add(step.target)
            status = machine.snapshot().bank(step.target)
            if status is None or status.kernel is KernelState.ABSENT:
                raise Refusal(Code.RACED, f"{step.target} was added and is not there")

    def _online(self, step: Step) -> None:
        number = _number(step)
        self._touched.add(number)
        block = self._machine.snapshot().block(number)
        with self._hand.act(step.action, step.target) as machine:
            if block is None or block.state is not BlockState.ONLINE:
                machine.online(number, Online.MOVABLE)
            self._check_movable(number)

    def _check_movable(self, number: int) -> None:
        block = self._machine.snapshot().block(number)
        if block is None or block.state is not BlockState.ONLINE:
            raise Refusal(Code.RACED, f"memory{number} was set online and is not")
        if block.valid_zones[:1] != (Zone.MOVABLE,):
            raise Refusal(Code.NOT_MOVABLE_ZONE, f"memory{number} came up in zone {'/'.join(block.valid_zones)}")

    # When a step fails.

    def _explained(self, step: Step, error: KernelError) -> _Failure:
        """The reason behind a kernel's errno: by the clock for EINTR; by a second look at the block where that can tell
        more than the errno, since looking puts off the answer."""
        look = self._look(step) if step.action is Action.OFFLINE and error.errno in _BY_SURVEY else None
        code = Code.STUCK if step.action is Action.REMOVE and self._is_stuck() else self._cause(error, look)
        fact, evidence = str(error), tuple[Evidence, ...]()
        if look is not None and look.impossible:
            fact, evidence = f"{error}; {look.fact}", look.evidence
        if step.action is Action.OFFLINE and look is None and self._plan.verdict is not None:
            evidence = self._plan.verdict.evidence
        return _Failure(code, fact, remedy(code), error.errno, evidence)

    def _cause(self, error: KernelError, look: Verdict | None) -> Code:
        if error.errno == errno.EINTR:
            return self._why_cancelled()
        if look is not None and look.code in _BY_SURVEY.get(error.errno, ()):
            return look.code
        return code_of(error)

    def _is_stuck(self) -> bool:
        snapshot = self._ask_snapshot()
        bank = snapshot.bank(self._plan.banks[0]) if snapshot is not None else None
        return bank is not None and bank.kernel is KernelState.STUCK

    def _why_cancelled(self) -> Code:
        over = self._now() >= self._block_deadline
        return Code.DEADLINE if over and not self._interrupted() else Code.INTERRUPTED

    def _look(self, step: Step) -> Verdict | None:
        """The verdict on the step's block as it is now; None when the machine can't say."""
        try:
            snapshot = self._machine.snapshot()
            surveys = surveys_of(self._machine, snapshot, (_number(step),))
            return verdict(snapshot, surveys, resolve(snapshot, _number(step)))
        except HotbankError:
            return None

    def _undo(self, before: Before, failure: _Failure) -> Outcome:
        """Roll back, or with ``keep_partial`` only what must not stay."""
        by_user = failure.code is Code.INTERRUPTED and self._interrupted()
        words = {"errno": failure.errno, "remedy": failure.remedy, "evidence": failure.evidence}
        try:
            left = self._back(before, self._must_go_back() if self._keep_partial else self._touched)
        except CancelPending as e:
            return self._end(Code.CANCEL_PENDING, EXIT_FAILED, f"{failure.fact}; {e}", errno=e.errno, open=True)
        if left:
            silent = self._ask_snapshot() is None
            return self._end(failure.code, EXIT_PARTLY, failure.fact, unrestored=left, open=silent, **words)
        partly = self._keep_partial and self._differs(before)
        status = EXIT_PARTLY if partly else EXIT_INTERRUPTED if by_user else EXIT_FAILED
        return self._end(failure.code, status, failure.fact, **words)

    def _back(self, before: Before, touched: set[int]) -> tuple[int, ...]:
        """Restore the touched blocks; the numbers of those that could not be."""
        if self._keep_partial and not touched:
            return ()
        return self._restorer(before, touched).run()

    def _restorer(self, before: Before, touched: set[int]) -> Restorer:
        return Restorer(self._hand, before, touched, grace=self._limits.grace, on_act=self._tell_rollback)

    def _must_go_back(self) -> set[int]:
        """What even ``keep_partial`` does not leave behind: blocks of an addition that are not Movable."""
        if self._plan.verb == "remove":
            return set()
        snapshot = self._machine.snapshot()
        online = [b for n in self._touched if (b := snapshot.block(n)) and b.state is BlockState.ONLINE]
        wrong = {b.number for b in online if b.valid_zones[:1] != (Zone.MOVABLE,)}
        return wrong if len(online) > len(wrong) else self._touched

    def _differs(self, before: Before) -> bool:
        now = self._find()
        return (now.kernel, now.blocks) != (before.kernel, before.blocks)

    def _done(self) -> Outcome:
        return self._end(self._note, EXIT_DONE, self._fact or self._success())

    def _success(self) -> str:
        last = self._plan.steps[-1]
        words = {"remove": "out of the kernel", "add": "online and Movable"}[self._plan.verb]
        if self._plan.verb == "remove" and last.action is Action.OFFLINE:
            words = "offline"
        dark = {Action.POWER_OFF: "off", Action.SELF_REFRESH: "in self-refresh"}.get(last.action)
        return f"{self._plan.target} is {words}" + (f", domain {last.target} is {dark}" if dark else "")

    def _close(self, outcome: Outcome) -> Outcome:
        """End the journal's entry, unless something is left to settle."""
        if not outcome.open:
            self._journal.close(self._hand.entry, outcome.code, outcome.pages)
        return outcome

    def _end(self, code: Code, status: int, fact: str, **more: Any) -> Outcome:
        """The outcome, with what the machine says of the bank now."""
        snapshot = self._ask_snapshot()
        bank = snapshot.bank(self._plan.banks[0]) if snapshot is not None and self._plan.banks else None
        out = bank is not None and bank.kernel is KernelState.ABSENT and self._plan.verb == "remove"
        more = {"remedy": remedy(code), **more}
        return Outcome(
            self._plan.verb,
            self._plan.target,
            code,
            status,
            fact,
            pages=self._moved,
            freed=bank.range.size if bank is not None and out else 0,
            seconds=self._now() - self._began,
            kernel=bank.kernel if bank is not None else None,
            power=bank.power if bank is not None else None,
            **more,
        )

    def _ask_snapshot(self) -> Snapshot | None:
        try:
            return self._machine.snapshot()
        except HotbankError:
            return None

    # Bookkeeping.

    def _now(self) -> float:
        """Seconds on the machine's clock; of a machine that is silent, the last that it said."""
        with suppress(HotbankError):
            self._latest = self._machine.clock.now()
        return self._latest

    def _bank_is_out(self) -> bool:
        status = self._machine.snapshot().bank(self._plan.banks[0])
        return status is not None and status.kernel is KernelState.ABSENT

    def _touch_bank(self, bank: str) -> None:
        snapshot = self._machine.snapshot()
        status = snapshot.bank(bank)
        self._touched.update(block_numbers(snapshot, status) if status is not None else ())

    def _next_deadline(self) -> float:
        self._block_deadline = min(self._deadline, self._machine.clock.now() + self._limits.block)
        return self._block_deadline

    def _tell_rollback(self, step: str, block: int | None, failed: HotbankError | None) -> None:
        code = code_of(failed) if failed is not None else Code.OK
        self._tell("rollback", step=step, block=block, code=code, errno=errno_of(failed) if failed else None)

    def _tell(self, event: str, **what: Any) -> None:
        """Give the observer an event. An observer that fails must not stop a transaction in its middle."""
        if self._observer_failed is not None:
            return
        t = self._now() - self._began
        total = {"total": self._plan.pages, "moved": self._moved}
        try:
            self._on_event(Event(t, self._seq, event, **{**total, **what}))
        except Exception as e:
            self._observer_failed = e
        self._seq += 1


def _number(step: Step) -> int:
    assert step.block is not None
    return step.block
