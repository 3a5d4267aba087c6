# SPDX-License-Identifier: Apache-2.0
"""Which of a kernel's measured answers an operation met: one name for each row of the table in docs/fidelity.md.

Truth: drivers/base/memory.c, drivers/base/core.c, mm/memory_hotplug.c, arch/arm64/mm/mmu.c, drivers/dax/kmem.c.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hotbank.compare.operations import Operation, Verb
from hotbank.errors import EHWPOISON
from hotbank.machine import Block, Snapshot
from hotbank.memory import BlockState, KernelState, Online, Zone


@dataclass(frozen=True, slots=True)
class Attempt:
    """An operation on a machine that stood as ``before``, and the errno that it ended with."""

    operation: Operation
    before: Snapshot
    errno: int

    @property
    def verb(self) -> Verb:
        """What was asked for."""
        return self.operation.verb

    @property
    def word(self) -> str:
        """What was written."""
        return self.operation.word

    @property
    def block(self) -> Block | None:
        """The block as it was, None without one."""
        return self.before.block(self.operation.block) if self.operation.block is not None else None

    @property
    def online(self) -> bool:
        """True if the block was online."""
        return self.block is not None and self.block.state is BlockState.ONLINE

    @property
    def offline(self) -> bool:
        """True if the block was offline."""
        return self.block is not None and self.block.state is BlockState.OFFLINE

    @property
    def movable(self) -> bool:
        """True if the block was online in ZONE_MOVABLE."""
        return self.online and self.block is not None and self.block.zone == Zone.MOVABLE

    @property
    def evacuates(self) -> bool:
        """True if a block that was online was to go offline."""
        return self.operation.evacuates and self.online

    @property
    def onlines(self) -> bool:
        """True if a block that was offline was to come online."""
        right = self.word in set(Online) or self.verb is Verb.SWITCH
        return right and self.offline and not self.operation.evacuates

    @property
    def present(self) -> bool:
        """True if some of the bank was there."""
        bank = self.before.bank(self.operation.bank) if self.operation.bank is not None else None
        return bank is not None and bank.kernel is not KernelState.ABSENT

    @property
    def used(self) -> bool:
        """True if a block of the bank was online, and the bank not stuck."""
        bank = self.before.bank(self.operation.bank) if self.operation.bank is not None else None
        return bank is not None and bank.kernel in (KernelState.ONLINE, KernelState.PARTIAL)

    def said(self, verb: Verb, errno: int) -> bool:
        """True if that was asked for, and ended so."""
        return (self.verb, self.errno) == (verb, errno)


_KNOWN = ("offline", *Online)
_WRONG = errno.EINVAL

ROWS: Mapping[str, Callable[[Attempt], bool]] = {
    "state gets an unknown word: EINVAL": lambda a: a.said(Verb.STATE, _WRONG) and a.word not in _KNOWN,
    "state gets offline, and is: EINVAL": lambda a: a.said(Verb.STATE, _WRONG) and a.offline and a.word == "offline",
    "state gets online_movable, and is: EINVAL": lambda a: (
        a.said(Verb.STATE, _WRONG) and a.movable and a.word == Online.MOVABLE
    ),
    "state gets online_kernel, and is online movable: EINVAL": lambda a: (
        a.said(Verb.STATE, _WRONG) and a.movable and a.word == Online.KERNEL
    ),
    "online gets no boolean: EINVAL": lambda a: a.said(Verb.SWITCH, _WRONG) and a.word[:1] in "2x-",
    "online gets what it is: done": lambda a: (
        a.said(Verb.SWITCH, 0) and (a.offline if a.operation.evacuates else a.online)
    ),
    "offline: done": lambda a: a.evacuates and not a.errno,
    "offline, zones or holes: EINVAL": lambda a: a.evacuates and a.errno == errno.EINVAL,
    "offline, an unmovable page: EBUSY": lambda a: a.evacuates and a.errno == errno.EBUSY and not a.operation.veto,
    "offline, boot memory: EPERM": lambda a: a.evacuates and a.errno == errno.EPERM,
    "offline, a notifier says no: its errno": lambda a: a.evacuates and a.operation.veto == a.errno != 0,
    "offline, a pin: EINTR at the deadline": lambda a: a.evacuates and a.errno == errno.EINTR,
    "online_movable: done": lambda a: a.onlines and not a.errno and a.word == Online.MOVABLE,
    "online_kernel: done": lambda a: a.onlines and not a.errno and a.word == Online.KERNEL,
    "online, by the policy: done": lambda a: a.onlines and not a.errno and a.word in (Online.ONLINE, "1", "y"),
    "online, a notifier says no: its errno": lambda a: a.onlines and a.operation.veto == a.errno != 0,
    "online, our driver keeps it out of a kernel zone: EPERM": lambda a: a.onlines and a.errno == errno.EPERM,
    "online, poisoned pages: EHWPOISON": lambda a: a.onlines and a.errno == EHWPOISON,
    "a block that is not there: ENOENT": lambda a: a.operation.block is not None and a.errno == errno.ENOENT,
    "add: done": lambda a: a.said(Verb.ADD, 0),
    "add, an onlining policy: done": lambda a: a.said(Verb.ADD, 0) and a.before.auto_online != "offline",
    "add, it is there: EEXIST": lambda a: a.said(Verb.ADD, errno.EEXIST),
    "remove: done": lambda a: a.said(Verb.REMOVE, 0) and a.present,
    "remove, a block is online: EBUSY": lambda a: a.said(Verb.REMOVE, errno.EBUSY) and a.used,
    "auto_online_blocks gets an unknown word: EINVAL": lambda a: a.said(Verb.AUTO_ONLINE, errno.EINVAL),
    "online_policy gets an unknown word: EINVAL": lambda a: a.said(Verb.POLICY, errno.EINVAL),
}


def met(attempt: Attempt) -> list[str]:
    """Names of the rows that it met."""
    return [name for name, test in ROWS.items() if test(attempt)]
