# SPDX-License-Identifier: Apache-2.0
"""The kernel's onlining policy, set aside while banks come in and put back with the word that it had.

drivers/base/memory.c, ``auto_online_blocks_store``; mm/memory_hotplug.c, ``add_memory_resource``. Meanwhile memory that
is added comes online as Movable: before a rule of udev finds it offline, and past what virtio-mem lets wait to be put
online (drivers/virtio/virtio_mem.c, ``offline_threshold``). The word is written down before it is replaced, so whoever
recovers knows it. Who sets another one meanwhile keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable

from hotbank.errors import Code, HotbankError, KernelError, Refusal
from hotbank.machine import Machine, Snapshot
from hotbank.memory import Online
from hotbank.operate import policy
from hotbank.operate.journal import Journaled, Row
from hotbank.operate.plan import Action
from hotbank.operate.reasons import remedy
from hotbank.sysfs import names

MEANWHILE = Online.MOVABLE


class Aside:
    """The policy that one transaction has set aside. ``word``: what it was, None where it stands as it was."""

    def __init__(self, word: str | None = None) -> None:
        self.word = word

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Aside:
        """What the acts of a transaction left aside. One that did not come about counts: putting back asks the machine
        whether there is anything to put back."""
        word = None
        for row in rows:
            if row.step == Action.SUSPEND_POLICY:
                word = row.target
            elif row.step == Action.RESUME_POLICY and row.code is Code.OK:
                word = None
        return cls(word)

    def suspend(self, journaled: Journaled) -> None:
        """Set the policy aside if added memory could get a kernel zone by it. Raises Refusal(AUTO_ONLINE)."""
        snapshot = journaled.machine.snapshot()
        if policy.danger(snapshot, "memory"):
            self.word = snapshot.auto_online
            with journaled(Action.SUSPEND_POLICY, self.word) as machine:
                _set(machine, MEANWHILE, "", remedy(Code.AUTO_ONLINE))

    def resume(self, journaled: Journaled) -> str:
        """Put it back; in words, what another hand made of it meanwhile. Raises Refusal(AUTO_ONLINE) where it can't be,
        with what is left to do by hand, and what the machine raises. A refusal that was only a moment's is healed by
        asking once more."""
        if self.word is None:
            return ""
        try:
            now = _put_back(journaled, self.word)
        except HotbankError:
            now = _put_back(journaled, self.word)
        word, self.word = self.word, None
        return "" if now == word else f"auto_online_blocks was set to {now} meanwhile and stays so"


def doubtful(snapshot: Snapshot) -> str:
    """Of a transaction whose acts nobody knows: that it may have set a policy aside, in words that go on."""
    return f", auto_online_blocks is {MEANWHILE} and may have been another" if snapshot.auto_online == MEANWHILE else ""


def _put_back(journaled: Journaled, word: str) -> str:
    """The policy as it is then."""
    now = journaled.machine.snapshot().auto_online
    if now != MEANWHILE:
        return now
    with journaled(Action.RESUME_POLICY, word) as machine:
        what = f"auto_online_blocks was {word} and stays {now}: "
        _set(machine, word, what, f"echo {word} > /{names.AUTO_ONLINE}")
    return word


def _set(machine: Machine, word: str, what: str, help_: str) -> None:
    try:
        machine.set_auto_online(word)
    except KernelError as e:
        raise Refusal(Code.AUTO_ONLINE, f"{what}{e}", remedy=help_) from e
    now = machine.snapshot().auto_online
    if now != word:
        raise Refusal(Code.AUTO_ONLINE, f"{what}auto_online_blocks was set to {word} and is {now}", remedy=help_)
