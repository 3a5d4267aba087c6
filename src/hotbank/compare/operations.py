# SPDX-License-Identifier: Apache-2.0
"""What can be done to a machine's memory blocks, as values, and the random choice among them.

Truth: drivers/base/memory.c (``state_store``, ``auto_online_blocks_store``), drivers/base/core.c (``online_store``),
mm/memory_hotplug.c (``set_online_policy``). The choice knows how the machine stands, so that most operations have
something to do, and many are of a kind that a kernel refuses.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from hotbank.machine import BankStatus, Block, Snapshot
from hotbank.memory import BlockState, KernelState, Online, Zone
from hotbank.routes import route

CHUNKS = 40  # 4 MiB each: what all kinds of memory together hold at most
STEP = 16  # chunks that come or go at a time
KINDS = ("anon", "shmem", "file")
VETOES = (errno.EACCES, errno.EIO, errno.ENOMEM, errno.EAGAIN)  # which offline and online never answer by themselves
WRONG_STATES = ("Online", "online_normal", "off", "1", "onlin", "going-offline")
WRONG_BOOLEANS = ("2", "x", "-1")
WRONG_POLICIES = ("movable", "Offline")


class Verb(StrEnum):
    """What is done. The first four are questions to the kernel, the others change what it has to deal with."""

    STATE = "state"
    SWITCH = "online"
    ADD = "add"
    REMOVE = "remove"
    AUTO_ONLINE = "auto_online_blocks"
    POLICY = "online_policy"
    HOLD = "hold"
    PIN = "pin"
    UNPIN = "unpin"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. ``block``: a number; ``bank``: a name; ``word``: what is written, or the kind of memory;
    ``chunks``: how much of it to hold; ``veto``: the errno that a memory notifier is told to answer, 0 for none."""

    verb: Verb
    block: int | None = None
    bank: str | None = None
    word: str = ""
    chunks: int = 0
    veto: int = 0

    @property
    def evacuates(self) -> bool:
        """True if it asks for pages to be moved away."""
        off = self.word == "offline" or (self.verb is Verb.SWITCH and self.word[:1] in ("0", "n", "N"))
        return self.verb in (Verb.STATE, Verb.SWITCH) and off

    def __str__(self) -> str:
        target = f"memory{self.block}" if self.block is not None else self.bank
        words = [self.verb.value, target, self.word, str(self.chunks) if self.verb is Verb.HOLD else ""]
        text = " ".join(filter(None, words))
        return f"{text} (a notifier says {errno.errorcode[self.veto]})" if self.veto else text


class Chooser:
    """Random operations, the same for the same seed and the same answers of the machine."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.restarted()

    def next(self, now: Snapshot) -> Operation:
        """The next operation on a machine that stands as ``now``."""
        usual: dict[Callable[[Snapshot], Operation], int] = {
            self._state: 50,
            self._switch: 7,
            self._bank: 14 if _comers(now) else 0,
            self._auto_online: 6,
            self._policy: 3,
            self._hold: 12,
            self._pin: 9,
            self._unpin: 5 if self._pinned else 0,
            self._poison: 3,
        }
        (choose,) = self._dice.choices(list(usual), list(usual.values()))
        nothing_there = _comers(now) and not _of_banks(now) and self._dice.random() < 0.6
        return (self._bank if nothing_there else choose)(now)

    def restarted(self, *, vetoes: bool = True) -> None:
        """The machine was booted anew: nothing is held any more. ``vetoes``: its notifiers can be told to say no."""
        self._held, self._pinned, self._vetoes = dict.fromkeys(KINDS, 0), False, vetoes

    def _state(self, now: Snapshot) -> Operation:
        number = self._block(now)
        block = now.block(number)
        if self._dice.random() < 0.1:
            return Operation(Verb.STATE, number, word=self._dice.choice(WRONG_STATES))
        online = block is not None and block.state is BlockState.ONLINE
        usual = {"offline": 70, **dict.fromkeys(map(str, Online), 6)} if online else {"offline": 8, **self._ways(now)}
        (word,) = self._dice.choices(list(usual), list(usual.values()))
        return self._vetoed(Operation(Verb.STATE, number, word=word))

    def _ways(self, now: Snapshot) -> dict[str, int]:
        """The words that put a block online; those that may lead into a kernel zone seldom, and never for a whole bank:
        what is in there may never come out again."""
        free = sum(b.zone == Zone.MOVABLE or b.state is BlockState.OFFLINE for b in _of_banks(now))
        rare = 10 if free > 2 else 0
        return {Online.MOVABLE.value: 60, Online.ONLINE.value: rare, Online.KERNEL.value: rare}

    def _vetoed(self, operation: Operation) -> Operation:
        if not self._vetoes or self._dice.random() >= 0.08:
            return operation
        return replace(operation, veto=self._dice.choice(VETOES))

    def _switch(self, now: Snapshot) -> Operation:
        number = self._block(now)
        block = now.block(number)
        online = block is not None and block.state is BlockState.ONLINE
        ways = self._ways(now)  # "1" comes online by the policy, as the word ``online`` does
        willing = online or self._dice.random() * ways[Online.MOVABLE] < ways[Online.ONLINE]
        words = ["0", "n", *WRONG_BOOLEANS, *(("1", "y") if willing else ())]
        return Operation(Verb.SWITCH, number, word=self._dice.choice(words))

    def _bank(self, now: Snapshot) -> Operation:
        bank = self._dice.choice(_comers(now))
        absent = bank.kernel is KernelState.ABSENT
        likely = Verb.ADD if absent else Verb.REMOVE
        other = Verb.REMOVE if absent else Verb.ADD
        verb = likely if self._dice.random() < 0.8 else other
        online = _online(now, bank)
        if verb is Verb.REMOVE and online and self._dice.random() >= self._daring(now, bank):
            return Operation(Verb.STATE, self._dice.choice(online), word="offline")
        return Operation(verb, bank=bank.name)

    def _daring(self, now: Snapshot, bank: BankStatus) -> float:
        """How often to ask for a bank that is in use: kmem is stuck afterwards until a reboot, and virtio-mem tries for
        a minute when something can't move."""
        if route(bank.route).offlines:
            kernel = any(b.zone != Zone.MOVABLE for b in now.blocks if b.number in bank.blocks)
            return 0.0 if self._pinned or kernel else 0.5
        return 0.03 if route(bank.route).sticks else 0.3

    def _auto_online(self, now: Snapshot) -> Operation:  # noqa: ARG002  # all choices are called alike
        words = ("offline", Online.MOVABLE.value, Online.MOVABLE.value, *WRONG_POLICIES)
        return Operation(Verb.AUTO_ONLINE, word=self._dice.choice(words))

    def _policy(self, now: Snapshot) -> Operation:  # noqa: ARG002
        return Operation(Verb.POLICY, word=self._dice.choice(("contig-zones", "auto-movable", *WRONG_POLICIES[:1])))

    def _hold(self, now: Snapshot) -> Operation:  # noqa: ARG002
        kind = self._dice.choice(KINDS)
        others = sum(self._held.values()) - self._held[kind]
        least, most = max(0, self._held[kind] - STEP), min(self._held[kind] + STEP, CHUNKS - others)
        self._held[kind] = self._dice.randint(least, max(least, most))
        return Operation(Verb.HOLD, word=kind, chunks=self._held[kind])

    def _pin(self, now: Snapshot) -> Operation:
        self._pinned = True
        return Operation(Verb.PIN, bank=self._dice.choice(_movable(now)).name)

    def _unpin(self, now: Snapshot) -> Operation:  # noqa: ARG002
        self._pinned = False
        return Operation(Verb.UNPIN)

    def _poison(self, now: Snapshot) -> Operation:
        return Operation(Verb.POISON, bank=self._dice.choice(_movable(now)).name)

    def _block(self, now: Snapshot) -> int:
        """A block of a bank that comes and goes mostly, there or not; else one from boot."""
        banks = [n for bank in _movable(now) for n in now.blocks_of(bank)]
        boot = [block.number for block in now.blocks if block.number not in banks]
        there = [n for n in banks if now.block(n)]
        pools, weights = (there or banks, boot, banks), (78, 18, 4)
        (pool,) = self._dice.choices(pools, weights)
        return self._dice.choice(pool or banks)


def _online(now: Snapshot, bank: BankStatus) -> list[int]:
    return [n for n in bank.blocks if (block := now.block(n)) and block.state is BlockState.ONLINE]


def _movable(now: Snapshot) -> list[BankStatus]:
    return [bank for bank in now.banks if not bank.at_boot]


def _comers(now: Snapshot) -> list[BankStatus]:
    """Of these the ones that can be added and removed; the others are there, and that is all."""
    return [bank for bank in _movable(now) if route(bank.route).removes]


def _of_banks(now: Snapshot) -> list[Block]:
    numbers = {n for bank in _movable(now) for n in now.blocks_of(bank)}
    return [block for block in now.blocks if block.number in numbers]
