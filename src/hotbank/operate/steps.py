# SPDX-License-Identifier: Apache-2.0
"""The acts of a transaction: each does one step through the journal, asks the machine again, and says what came of it.

A step that did not come about raises what the machine, its switch or the look afterwards said. A route's word is never
believed: the bank has to be seen absent, the block Movable, the switch by its status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hotbank.errors import Code, Refusal
from hotbank.machine import Machine, Snapshot, block_now, can_vacate
from hotbank.memory import BlockState, KernelState, Online, Zone
from hotbank.operate import policy
from hotbank.operate.capacity import spare_for
from hotbank.operate.journal import Journaled
from hotbank.operate.look import Felt
from hotbank.operate.onlining import Aside
from hotbank.operate.plan import REACHES, Action, Step
from hotbank.operate.power import darken, switch_on
from hotbank.operate.reasons import vacated
from hotbank.room import spare


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a step. ``code``: OK, or DOMAIN_IN_USE where the power stays on, AUTO_ONLINE where the policy does
    not go back; ``fact``: one line in words where it is not simply what the step says; ``left``: what somebody has to
    do by hand."""

    code: Code = Code.OK
    fact: str = ""
    left: str = ""


@dataclass(frozen=True, slots=True)
class Steps:
    """Carries out single steps.

    ``leaving``: banks that the transaction takes out of the kernel. ``deadline``: gives the moment at which an offline
    that begins now and empties so many blocks is cancelled. ``felt``: who is asked how much room there is. ``aside``:
    the policy that this transaction sets aside. ``force``: an offline may take the last of the memory.
    """

    journaled: Journaled
    leaving: tuple[str, ...]
    deadline: Callable[[int], float]
    felt: Felt
    aside: Aside
    force: bool = False

    def carry_out(self, step: Step) -> Done:
        """Do it. Raises HotbankError when it did not come about, CancelPending when the kernel has not let go."""
        acts: Mapping[Action, Callable[[Step], Done]] = {
            Action.VACATE: self._vacate,
            Action.OFFLINE: self._offline,
            Action.REMOVE: self._remove,
            Action.POWER_OFF: self._dark,
            Action.SELF_REFRESH: self._dark,
            Action.KEEP_POWER: self._keep_power,
            Action.POWER_ON: self._power_on,
            Action.CHECK_POLICY: self._check_policy,
            Action.SUSPEND_POLICY: self._suspend_policy,
            Action.RESUME_POLICY: self._resume_policy,
            Action.ADD: self._add,
            Action.ONLINE: self._online,
        }
        return acts[step.action](step)

    @property
    def _machine(self) -> Machine:
        return self.journaled.machine

    # Out.

    def _offline(self, step: Step) -> Done:
        number = number_of(step)
        keep = 0 if self.force else spare_for(self._machine, number, step.leaving, self.felt)
        with self.journaled(step.action, step.target) as machine:
            machine.offline(number, self.deadline(1 + len(step.fence)), spare=keep, fence=step.fence)
            block = block_now(machine, number)
            if block is not None and block.state is not BlockState.OFFLINE:
                raise Refusal(Code.RACED, f"{step.target} went offline and is {block.state} again")
        return Done()

    def _vacate(self, step: Step) -> Done:
        """At most half of the time that is left: what stays there can still leave with its block."""
        machine = self._machine
        if not can_vacate(machine):
            return Done(fact=f"{step.target} was emptied block by block")
        began = machine.clock.now()
        deadline = began + (self.deadline(1) - began) / 2
        with self.journaled(step.action, step.target):
            found = machine.vacate(number_of(step), deadline, drop=step.drop, spare=self._spare_of_node(step))
        return Done(fact=vacated(step.target, found, step.drop))

    def _spare_of_node(self, step: Step) -> int:
        if self.force or step.leaving is None:
            return 0
        return spare(self.felt.reading().zones, (step.leaving,))

    def _remove(self, step: Step) -> Done:
        with self.journaled(step.action, step.target) as machine:
            machine.remove(step.target)
            snapshot = machine.snapshot()
            status = snapshot.bank(step.target)
            left = snapshot.present(status) if status is not None else ()
            if status is None or status.kernel is not KernelState.ABSENT or left:
                code = Code.STUCK if status is not None and status.kernel is KernelState.STUCK else Code.RACED
                raise Refusal(code, f"{step.target} was removed and {len(left)} blocks of it are still there")
        return Done()

    def _dark(self, step: Step) -> Done:
        """A bank that came in since the plan was made keeps its domain on; what the plan takes out is out by now."""
        want = REACHES[step.action]
        try:
            with self.journaled(step.action, step.target) as machine:
                reached = darken(machine, step.target, want)
        except Refusal as e:
            if e.code is not Code.DOMAIN_IN_USE or not self._all_are_out():
                raise
            return Done(e.code, str(e))
        self.journaled.settled_for(reached, want, step.target)
        return Done(fact="" if reached is want else f"domain {step.target} would not go {want}; it is in {reached}")

    def _all_are_out(self) -> bool:
        """True if none of the banks that were to leave is what keeps the domain on."""
        snapshot = self._machine.snapshot()
        banks = [snapshot.bank(name) for name in self.leaving]
        return all(bank is not None and bank.kernel is KernelState.ABSENT for bank in banks)

    def _keep_power(self, step: Step) -> Done:
        return Done(Code.DOMAIN_IN_USE, step.fact)

    # In.

    def _power_on(self, step: Step) -> Done:
        with self.journaled(step.action, step.target) as machine:
            switch_on(machine, step.target)
        return Done()

    def _check_policy(self, step: Step) -> Done:  # noqa: ARG002  # all acts are called alike
        self._refuse_danger(self._machine.snapshot(), "a bank that is added")
        return Done()

    def _suspend_policy(self, step: Step) -> Done:  # noqa: ARG002
        self.aside.suspend(self.journaled)
        return Done()

    def _resume_policy(self, step: Step) -> Done:  # noqa: ARG002
        """What the transaction is about is done by then, and stays done."""
        try:
            return Done(fact=self.aside.resume(self.journaled))
        except Refusal as e:
            return Done(e.code, str(e), e.remedy)

    @staticmethod
    def _refuse_danger(snapshot: Snapshot, what: str) -> None:
        danger = policy.danger(snapshot, what)
        if danger:
            raise Refusal(Code.AUTO_ONLINE, danger)

    def _add(self, step: Step) -> Done:
        snapshot = self._machine.snapshot()
        if policy.needs_policy(snapshot.bank(step.target)):  # it may have changed since the bank before this one
            self._refuse_danger(snapshot, step.target)
        with self.journaled(step.action, step.target) as machine:
            machine.add(step.target)
            status = machine.snapshot().bank(step.target)
            if status is None or status.kernel is KernelState.ABSENT:
                raise Refusal(Code.RACED, f"{step.target} was added and is not there")
        return Done()

    def _online(self, step: Step) -> Done:
        number = number_of(step)
        block = block_now(self._machine, number)
        with self.journaled(step.action, step.target) as machine:
            if block is None or block.state is not BlockState.ONLINE:
                machine.online(number, Online.MOVABLE)
            self._check_movable(number)
        return Done()

    def _check_movable(self, number: int) -> None:
        block = block_now(self._machine, number)
        if block is None or block.state is not BlockState.ONLINE:
            raise Refusal(Code.RACED, f"memory{number} was set online and is not")
        if block.zone != Zone.MOVABLE:
            raise Refusal(Code.NOT_MOVABLE_ZONE, f"memory{number} came up in zone {'/'.join(block.valid_zones)}")


def number_of(step: Step) -> int:
    """The block that the step is about."""
    assert step.block is not None
    return step.block
