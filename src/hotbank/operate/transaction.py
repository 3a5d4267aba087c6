# SPDX-License-Identifier: Apache-2.0
"""A plan being carried out: step by step, journaled, under deadlines, rolled back on failure.

The kernel has no deadline of its own: an offline tries for ever until a signal (mm/memory_hotplug.c,
``offline_pages``), and looks at signals only between migration passes. So a cancelled offline may still be held;
then the transaction stays open with the power on, and ``recover`` settles it when the kernel lets go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from hotbank.documents import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PARTLY
from hotbank.errors import CancelPending, Code, HotbankError, KernelError, Refusal
from hotbank.machine import Machine, Snapshot
from hotbank.memory import KernelState, Kind, Power
from hotbank.operate.found import as_found, differences, find, since
from hotbank.operate.journal import PERSON, Before, Journal, Journaled
from hotbank.operate.look import Between, migrated, surveys_of
from hotbank.operate.onlining import Aside
from hotbank.operate.outcome import (
    BY_SURVEY,
    Circumstances,
    Event,
    Failure,
    Outcome,
    no_events,
    not_interrupted,
    standing,
    success,
    why,
)
from hotbank.operate.plan import EMPTYING, Action, Plan, Step, goes_dark
from hotbank.operate.power import ask
from hotbank.operate.reasons import code_of, errno_of, remedy
from hotbank.operate.rollback import Rollback, touched_by
from hotbank.operate.steps import Done, Steps, number_of
from hotbank.operate.targets import resolve, resolve_all
from hotbank.operate.verdict import Verdict, verdict
from hotbank.routes import route

_NEVER_FORCED = (Code.STUCK, Code.CANCEL_PENDING, Code.DEADLINE)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds on the machine's clock: for all steps forward, for each block, and for each offline of a rollback.

    Raises ValueError for what is no number of seconds, 0 or more.
    """

    total: float = 60.0
    block: float = 30.0
    grace: float = 10.0

    def __post_init__(self) -> None:
        for name, seconds in (("total", self.total), ("block", self.block), ("grace", self.grace)):
            if not 0 <= seconds < math.inf:
                raise ValueError(f"limits: {name} = {seconds}: must be seconds, 0 or more")


class Transaction:
    """Carries one plan out, once.

    ``interrupted`` is asked before each step and after a cancelled offline. ``on_event`` hears every event; if it
    raises, it hears no more, the transaction goes on, and the error is raised when all is done. ``began``: when it was
    ordered, on the machine's clock, if that was earlier: limits count from there. ``found``: what an earlier plan was
    made of; when the machine is not that any more, nothing is done (CHANGED). ``felt``: who was asked before, so that
    nobody asks the same again a moment later.
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
        interrupted: Callable[[], bool] = not_interrupted,
        on_event: Callable[[Event], None] = no_events,
        began: float | None = None,
        cause: str = PERSON,
        found: Before | None = None,
        felt: Between | None = None,
    ) -> None:
        self._machine, self._plan, self._journal, self._cause = machine, plan, journal, cause
        self._expected = found
        self._limits = limits or Limits()
        self._force, self._keep_partial = force, keep_partial
        self._interrupted, self._on_event = interrupted, on_event
        self._observer_failed: Exception | None = None
        self._step: Step | None = None
        self._failure: Failure | None = None
        self._seq = 0
        self._moved: int | None = 0
        self._felt = felt or Between(machine)
        self._refaults: int | None = None  # what had been read again before cache was dropped
        self._touched: set[int] = set()
        self._latest = machine.clock.now()
        self._began = self._latest if began is None else began
        self._deadline = self._block_deadline = self._began + self._limits.total

    def run(self) -> Outcome:
        """Do it. Raises Refusal(BUSY_TRANSACTION) when another transaction is open; every other end is an Outcome."""
        changes = since(self._expected, self._plan.found)
        self._tell("plan", code=Code.CHANGED if changes else self._plan.code)
        outcome = self._end(Code.CHANGED, EXIT_FAILED, changes) if changes else self._without_acting() or self._acting()
        self._tell_end(outcome)
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
            return self._end(plan.code, EXIT_FAILED, plan.fact, evidence=plan.evidence)
        if not plan.steps:
            return self._end(Code.OK, EXIT_DONE, f"{plan.target}: nothing to do")
        return None

    def _bad_pages(self) -> int:
        """Poisoned pages in memory that a route may take out of the kernel. Whoever had one mapped keeps an entry that
        points at its ``struct page``: once that is removed, reading /proc/PID/pagemap is an oops (docs/hazards.md)."""
        looks = zip(self._plan.targets, self._plan.verdicts, strict=False)
        routed = [look for target, look in looks if target.bank is not None and route(target.bank.route).removes]
        return sum(look.kinds.get(Kind.POISONED, 0) for look in routed)

    def _acting(self) -> Outcome:
        found = self._felt.snapshot()
        before = self._find(found)
        unsure = _no_way_back(before)
        if unsure is not None:
            fact = f"domain {unsure} can't say whether it is on, so that nothing that left could come back"
            return self._end(Code.POWER_UNKNOWN, EXIT_FAILED, fact)
        journaled = Journaled(self._machine, self._journal, self._journal.begin(before), reason=self._reason)
        aside = Aside()
        back = Rollback(journaled, before, aside, grace=self._limits.grace, on_act=self._tell_rollback)
        steps = Steps(journaled, self._plan.leaving, self._next_deadline, self._felt, aside, self._force)
        try:
            ended = self._forward(found, steps)
        except CancelPending as e:
            return self._end(Code.CANCEL_PENDING, EXIT_FAILED, str(e), before, errno=e.errno, open=True)
        except BaseException:
            if (
                not back.run(self._touched) and not back.policy_left
            ):  # else it stays open: recover tries again, and names what can't be restored
                self._journal.close(journaled.entry, Code.INTERRUPTED, self._moved)
            raise
        outcome = self._undo(back, steps, ended) if isinstance(ended, Failure) else self._done(before, ended)
        if not outcome.open:
            self._journal.close(journaled.entry, outcome.code, outcome.moved)
        return outcome

    def _forward(self, found: Snapshot, steps: Steps) -> list[Done] | Failure:
        """What came of the steps, in order; or why the first that failed did."""
        results: list[Done] = []
        for step in self._plan.steps:
            self._step, self._failure = step, None
            try:
                self._go_on()
                results.append(self._one(found, steps, step))
            except CancelPending:
                raise
            except HotbankError as e:
                return self._failure or why(step, e, self._circumstances(step, e))
        return results

    def _reason(self, error: HotbankError) -> Code:
        """What the journal gives as the reason of a step that fails: the same as the outcome does."""
        if self._step is None or isinstance(error, CancelPending):
            return code_of(error)
        self._failure = why(self._step, error, self._circumstances(self._step, error))
        return self._failure.code

    def _find(self, snapshot: Snapshot) -> Before:
        plan = self._plan
        targets = resolve_all(snapshot, [target.name for target in plan.targets])
        found = find(snapshot, plan.verb, targets, lambda domain: ask(self._machine, domain))
        return replace(found, planned=plan.pages, cause=self._cause, keep_partial=self._keep_partial)

    def _go_on(self) -> None:
        if self._interrupted():
            raise Refusal(Code.INTERRUPTED, f"{self._plan.verb} {self._plan.target} was interrupted")
        if self._machine.clock.now() >= self._deadline:
            raise Refusal(Code.DEADLINE, f"{self._plan.verb} {self._plan.target}: {self._limits.total:g} s are over")

    def _one(self, found: Snapshot, steps: Steps, step: Step) -> Done:
        self._tell("step", step=step.action.value, target=step.target, block=step.block)
        self._touched |= touched_by(found, step.action, step.target)
        with self._counting(step):
            done = steps.carry_out(step)
        self._tell("progress", step=step.action.value, target=step.target, block=step.block)
        return done

    @contextmanager
    def _counting(self, step: Step) -> Iterator[None]:
        """Add what the machine migrates meanwhile, also when the step fails. Only what empties makes it do so."""
        if step.drop and self._refaults is None:
            self._refaults = self._read_again()
        before = migrated(self._felt) if step.action in EMPTYING else None
        try:
            yield
        finally:
            self._felt.acted()
            if step.action in EMPTYING:
                self._moved = _sum(self._moved, before, migrated(self._felt))

    # When a step fails.

    def _circumstances(self, step: Step, error: HotbankError) -> Circumstances:
        """What can be known of a failure. Looking puts off the answer, so only where it tells more than the errno."""
        if not isinstance(error, KernelError):
            return Circumstances()
        at_block = step.action is Action.OFFLINE
        return Circumstances(
            look=self._look(step) if at_block and error.errno in BY_SURVEY else None,
            planned=self._verdict_on(step),
            late=at_block and self._now() >= self._block_deadline,
            stopped=at_block and self._interrupted(),
            stuck=step.action is Action.REMOVE and self._is_stuck(step.target),
        )

    def _verdict_on(self, step: Step) -> Verdict | None:
        """The verdict that the step was planned by."""
        looks = zip(self._plan.targets, self._plan.verdicts, strict=False)
        return next((look for target, look in looks if step.block in target.blocks), None)

    def _is_stuck(self, name: str) -> bool:
        snapshot = self._ask_snapshot()
        bank = snapshot.bank(name) if snapshot is not None else None
        return bank is not None and bank.kernel is KernelState.STUCK

    def _look(self, step: Step) -> Verdict | None:
        """The verdict on the step's block as it is now; None when the machine can't say."""
        try:
            snapshot = self._machine.snapshot()
            surveys = surveys_of(self._machine, snapshot, (number_of(step),))
            return verdict(snapshot, surveys, resolve(snapshot, number_of(step)))
        except HotbankError:
            return None

    def _undo(self, back: Rollback, steps: Steps, failure: Failure) -> Outcome:
        """Roll back, or with ``keep_partial`` only what must not stay."""
        by_user = failure.code is Code.INTERRUPTED and self._interrupted()
        words: dict[str, Any] = {"errno": failure.errno, "remedy": failure.remedy, "evidence": failure.evidence}
        try:
            left = back.run(self._touched)
        except CancelPending as e:
            fact = f"{failure.fact}; {e}"
            return self._end(Code.CANCEL_PENDING, EXIT_FAILED, fact, back.before, errno=e.errno, open=True)
        fact = "; ".join(filter(None, (failure.fact, back.policy)))
        if left or back.policy_left:
            words["remedy"] = "; ".join(filter(None, (failure.remedy, back.policy_left)))
            words |= {"unrestored": left, "open": back.policy_unknown or self._ask_snapshot() is None}
            return self._end(failure.code, EXIT_PARTLY, fact, back.before, **words)
        partly = self._keep_partial and self._differs(back.before)
        if partly:
            self._darken_what_is_out(steps)
            fact += f"; kept: {self._kept(back.before)}"
        status = EXIT_PARTLY if partly else EXIT_INTERRUPTED if by_user else EXIT_FAILED
        return self._end(failure.code, status, fact, back.before, **words)

    def _kept(self, before: Before) -> str:
        snapshot = self._ask_snapshot()
        return "what can't be told now" if snapshot is None else differences(before, snapshot)

    def _darken_what_is_out(self, steps: Steps) -> None:
        """Of what is kept out, the domains whose last bank is out as well."""
        for step in self._plan.steps:
            if goes_dark(step):
                with suppress(HotbankError):  # it stays on
                    steps.carry_out(step)

    def _differs(self, before: Before) -> bool:
        snapshot = self._ask_snapshot()
        return snapshot is None or not as_found(before, snapshot)

    def _done(self, before: Before, results: list[Done]) -> Outcome:
        code = next((done.code for done in results if done.code is not Code.OK), Code.OK)
        fact = "; ".join([success(self._plan, [done.fact for done in results]), *self._refaulted()])
        left = "; ".join(done.left for done in results if done.left)
        return self._end(code, EXIT_PARTLY if left else EXIT_DONE, fact, before, remedy=left)

    def _refaulted(self) -> Iterator[str]:
        """What dropping cache has cost by now."""
        before, now = self._refaults, self._read_again() if self._refaults is not None else None
        if before is not None and now is not None:
            yield f"{now - before} pages of cache were read again since"

    def _read_again(self) -> int | None:
        try:
            return self._machine.reading().refaults
        except HotbankError:
            return None

    def _end(self, code: Code, status: int, fact: str, before: Before | None = None, **more: Any) -> Outcome:
        """The outcome, with what the machine says of the banks now. ``before``: None when nothing was begun."""
        snapshot, plan = self._ask_snapshot(), self._plan
        kernel, power = standing(snapshot, plan.banks)
        return Outcome(
            plan.verb,
            tuple(target.name for target in plan.targets),
            code,
            status,
            fact,
            planned=plan.pages if before is not None else 0,
            moved=self._moved,
            freed=_freed(before, snapshot),
            seconds=self._now() - self._began,
            kernel=kernel,
            power=power,
            **{"remedy": remedy(code), **more},
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

    def _next_deadline(self, blocks: int) -> float:
        self._block_deadline = min(self._deadline, self._machine.clock.now() + self._limits.block * blocks)
        return self._block_deadline

    def _tell_rollback(self, step: str, target: str, block: int | None, failed: HotbankError | None) -> None:
        code = code_of(failed) if failed is not None else Code.OK
        errno = errno_of(failed) if failed else None
        self._tell("rollback", step=step, target=target, block=block, code=code, errno=errno)

    def _tell_end(self, outcome: Outcome) -> None:
        end = {"exit": outcome.exit, "fact": outcome.fact, "remedy": outcome.remedy}
        self._tell("done", code=outcome.code, errno=outcome.errno, **end)

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


def _no_way_back(before: Before) -> str | None:
    """A domain of a bank that is to leave, whose switch tells nothing: no memory is added under unknown power."""
    leaving = {bank.domain for bank in before.banks if bank.kernel is not KernelState.ABSENT}
    silent = (domain.name for domain in before.domains if domain.power is Power.UNKNOWN)
    return next((name for name in silent if before.verb == "remove" and name in leaving), None)


def _sum(moved: int | None, before: int | None, after: int | None) -> int | None:
    """What has moved by now; not known any more once a count is missing."""
    return moved + after - before if moved is not None and before is not None and after is not None else None


def _freed(before: Before | None, snapshot: Snapshot | None) -> int:
    """Bytes of the banks that were in the kernel and are not any more."""
    if before is None or snapshot is None:
        return 0
    there = [b for was in before.banks if was.kernel is not KernelState.ABSENT and (b := snapshot.bank(was.name))]
    return sum(b.range.size for b in there if b.kernel is KernelState.ABSENT)
