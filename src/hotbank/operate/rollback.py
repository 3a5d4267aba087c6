# SPDX-License-Identifier: Apache-2.0
"""Rolling back: what a transaction touched is put back, each block in the state and zone it was found in.

The same few rules serve the rollback of a removal, of an addition, and recovery after a crash: look at the
machine, compare with what was found at the start, and act only on the difference. What could not be put back is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hotbank.errors import CancelPending, Code, HotbankError, Refusal
from hotbank.machine import Block, Machine, Snapshot
from hotbank.memory import BlockState, KernelState, Online, Power, Zone
from hotbank.operate import policy
from hotbank.operate.capacity import spare_for
from hotbank.operate.journal import Before, BlockBefore, DomainBefore, Journaled
from hotbank.operate.onlining import MEANWHILE, Aside
from hotbank.operate.plan import SWITCHING, Action
from hotbank.operate.power import ask, darken, switch_on
from hotbank.operate.reasons import code_of
from hotbank.sysfs.names import block_number

_PASSES = 2  # a refusal that was only a moment's is healed by asking once more


class Rollback:
    """Brings a machine back to ``before``.

    ``aside``: the policy that the transaction has set aside; it is put back at the end, whatever came of the rest.
    ``policy`` then says what else became of it, ``policy_left`` what somebody has to do by hand, ``policy_unknown``
    that the machine did not answer: then the transaction has to stay open. ``grace``: seconds
    that each offline on the way may take. ``on_act`` hears of each: step, target, block, failure.
    """

    def __init__(
        self,
        journaled: Journaled,
        before: Before,
        aside: Aside,
        *,
        grace: float = 10.0,
        on_act: Callable[[str, str, int | None, HotbankError | None], None] | None = None,
    ) -> None:
        self._journaled, self.before = replace(journaled, regardless=True, reason=code_of), before
        self._machine = journaled.machine
        self._aside, self._grace, self._on_act = aside, grace, on_act
        self.policy = self.policy_left = ""
        self.policy_unknown = False
        self._touched: set[int] = set()
        self._before_of = {b.number: b for b in before.blocks}
        self._seen: Snapshot | None = None
        self._changed: set[int] = set()

    def run(self, touched: set[int]) -> tuple[int, ...]:
        """Put these blocks back, their banks and the power; the numbers of the blocks that could not be.

        Of a transaction that keeps what was done (``keep_partial``), only what must not stay. Raises CancelPending.
        """
        try:
            return self._put_all_back(touched)
        finally:
            self._resume_policy()

    def _put_all_back(self, touched: set[int]) -> tuple[int, ...]:
        self._touched = self._must_go_back(touched) if self.before.keep_partial else touched
        if self.before.keep_partial and not self._touched:
            return ()
        for _ in range(_PASSES):
            try:
                self._one_pass()
            except CancelPending:
                raise
            except HotbankError:
                continue  # the machine did not even answer: the next pass, or the caller, says what is left
            if not self._wrong_blocks():
                break
        return self._wrong_blocks()

    def _must_go_back(self, touched: set[int]) -> set[int]:
        """What even ``keep_partial`` does not leave behind: blocks of an addition that are not Movable."""
        if self.before.verb == "remove":
            return set()
        try:
            snapshot = self._look()
        except HotbankError:
            return touched
        online = [b for n in touched if (b := snapshot.block(n)) and b.state is BlockState.ONLINE]
        wrong = {b.number for b in online if b.zone != Zone.MOVABLE}
        return wrong if len(online) > len(wrong) else touched

    def _one_pass(self) -> None:
        self._seen = None
        self._take_out()
        self._bring_in()
        for wanted in self.before.blocks:
            if wanted.number in self._touched and wanted.state is BlockState.ONLINE:
                self._put_back(wanted)
        self._power_back()

    def _take_out(self) -> None:
        """Offline what came online since, and remove the bank if it was not there."""
        snapshot = self._look()
        for number in sorted(self._touched):
            block, was = snapshot.block(number), self._before_of.get(number)
            if (
                block is not None
                and block.state is BlockState.ONLINE
                and (was is None or was.state is BlockState.OFFLINE)
            ):
                self._offline(number)
        for bank in self.before.banks:
            if bank.kernel is KernelState.ABSENT and self._kernel_now(bank.name) is KernelState.OFFLINE:
                self._do(Action.REMOVE, bank.name, None, _remove(bank.name))

    def _bring_in(self) -> None:
        """Add the banks that were there, under confirmed power."""
        for bank in self.before.banks:
            if bank.kernel is KernelState.ABSENT or self._kernel_now(bank.name) is not KernelState.ABSENT:
                continue
            if (bank.domain is None or self._is_lit(bank.domain)) and self._is_safe(bank.name):
                self._do(Action.ADD, bank.name, None, _add(bank.name))

    def _is_safe(self, bank: str) -> bool:
        """Whether the bank would come in as Movable, once the policy is set aside. Else it stays out, and is named."""
        try:
            if policy.needs_policy(self._look().bank(bank)):
                self._aside.suspend(self._journaled)
        except Refusal as e:
            self._tell(Action.SUSPEND_POLICY, bank, None, e)
            return False
        return True

    def _resume_policy(self) -> None:
        try:
            self.policy = self._aside.resume(self._journaled)
        except Refusal as e:
            self.policy, self.policy_left = str(e), e.remedy
        except HotbankError as e:  # the machine did not even answer
            self.policy = f"auto_online_blocks was {self._aside.word} and may have stayed {MEANWHILE}: {e}"
            self.policy_left, self.policy_unknown = "hotbank recover", True

    def _is_lit(self, domain: str) -> bool:
        on = ask(self._machine, domain) is Power.ON
        return on or self._do(Action.POWER_ON, domain, None, _switch_on(domain))

    def _put_back(self, wanted: BlockBefore) -> None:
        """Online the block in its zone; one that landed in another zone is taken out and tried with the next word."""
        for how in _words(wanted.zone):
            block = self._look(wanted.number).block(wanted.number)
            if block is None or _is_back(block, wanted):
                return
            if block.state is BlockState.ONLINE and not self._offline(wanted.number):
                return
            self._do(Action.ONLINE, f"memory{wanted.number}", wanted.number, _online(wanted.number, how))

    def _power_back(self) -> None:
        for domain in self.before.domains:
            want = self._within_reach(domain)
            if ask(self._machine, domain.name) is not want:
                self._switch_back(domain.name, want)

    def _within_reach(self, domain: DomainBefore) -> Power:
        """As it was found; the lowest that its board gives it, where another hand had it in a state that this lacks."""
        status = self._look().domain(domain.name)
        if status is None or domain.power in (*status.states, Power.UNKNOWN):
            return domain.power
        return status.darkest

    def _switch_back(self, domain: str, want: Power) -> None:
        if want is Power.ON:
            self._do(Action.POWER_ON, domain, None, _switch_on(domain))
        elif want is not Power.UNKNOWN and self._all_absent(domain):
            self._darken(domain, want)

    def _darken(self, domain: str, want: Power) -> None:
        reached = want

        def dark(machine: Machine) -> None:
            nonlocal reached
            reached = darken(machine, domain, want)

        if self._do(SWITCHING[want], domain, None, dark):
            self._journaled.settled_for(reached, want, domain)

    def _offline(self, number: int) -> bool:
        deadline = self._machine.clock.now() + self._grace

        def offline(machine: Machine) -> None:
            machine.offline(number, deadline, spare=spare_for(machine, number))

        return self._do(Action.OFFLINE, f"memory{number}", number, offline)

    def _do(self, step: str, target: str, block: int | None, call: Act) -> bool:
        """One act; False when it failed. A cancelled offline that the kernel still holds ends the whole attempt."""
        failed: HotbankError | None = None
        self._note(block)
        try:
            with self._journaled(step, target) as machine:
                call(machine)
        except CancelPending:
            raise
        except HotbankError as e:
            failed = e
        self._tell(step, target, block, failed)
        return failed is None

    def _tell(self, step: str, target: str, block: int | None, failed: HotbankError | None) -> None:
        if self._on_act is not None:
            self._on_act(str(step), target, block, failed)

    def _look(self, number: int | None = None) -> Snapshot:
        """The machine as last seen, or seen anew when that block was acted on since; without a number, when anything
        was. An answer is due soon, and each look takes a slow machine some of that time."""
        stale = self._changed if number is None else self._changed & {number}
        if self._seen is None or stale:
            self._seen = self._machine.snapshot()
            self._changed.clear()
        return self._seen

    def _note(self, block: int | None) -> None:
        """Something is about to be done: to a block, or to the whole bank."""
        if block is None:
            self._seen = None
        else:
            self._changed.add(block)

    def _all_absent(self, domain: str) -> bool:
        """True if what was added to the domain is out of the kernel again."""
        ours = (bank.name for bank in self.before.banks if bank.domain == domain)
        return all(self._kernel_now(name) is KernelState.ABSENT for name in ours)

    def _kernel_now(self, bank: str) -> KernelState | None:
        status = self._look().bank(bank)
        return status.kernel if status is not None else None

    def _wrong_blocks(self) -> tuple[int, ...]:
        """Touched blocks that are not as they were found; all of them when the machine does not say."""
        try:
            snapshot = self._look()
        except HotbankError:
            return tuple(sorted(self._touched))
        return tuple(n for n in sorted(self._touched) if not self._as_found(snapshot, n))

    def _as_found(self, snapshot: Snapshot, number: int) -> bool:
        block, was = snapshot.block(number), self._before_of.get(number)
        if block is None or was is None:
            return block is None and was is None
        return _is_back(block, was)


def touched_by(snapshot: Snapshot, step: str, target: str) -> set[int]:
    """Blocks that the act may change: adding or removing a bank touches all of it, a switch touches none."""
    if step in (Action.ADD, Action.REMOVE):
        status = snapshot.bank(target)
        return set(snapshot.blocks_of(status)) if status is not None else set()
    number = block_number(target) if step in (Action.OFFLINE, Action.ONLINE) else None
    return set() if number is None else {number}


def _is_back(block: Block, was: BlockBefore) -> bool:
    return block.state is was.state and (was.zone is None or block.zone == was.zone)


def _words(zone: str | None) -> tuple[Online, ...]:
    return (Online.MOVABLE,) if zone == Zone.MOVABLE else (Online.KERNEL, Online.ONLINE)


Act = Callable[[Machine], object]


def _online(number: int, how: Online) -> Act:
    return lambda machine: machine.online(number, how)


def _add(bank: str) -> Act:
    """Not under a policy by which it could get a kernel zone: then it stays out and is named as not restored."""

    def add(machine: Machine) -> None:
        snapshot = machine.snapshot()
        danger = policy.danger(snapshot, bank) if policy.needs_policy(snapshot.bank(bank)) else ""
        if danger:
            raise Refusal(Code.AUTO_ONLINE, danger)
        machine.add(bank)

    return add


def _remove(bank: str) -> Act:
    return lambda machine: machine.remove(bank)


def _switch_on(domain: str) -> Act:
    return lambda machine: switch_on(machine, domain)
