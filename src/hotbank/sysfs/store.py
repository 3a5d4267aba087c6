# SPDX-License-Identifier: Apache-2.0
"""What a kernel does when one of its files is written to, done to any machine.

Truth: drivers/base/memory.c (``state_store``, ``auto_online_blocks_store``), drivers/base/core.c (``online_store``),
kernel/bank/driver.c (``state_store``, ``supply_store``). A word may end in one newline (``sysfs_streq``).
Every write asks the machine as it is now: nothing is remembered from the moment when a file was looked up.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar

from hotbank.errors import CancelPending, Code, KernelError, Refusal
from hotbank.gate import refuse_dark
from hotbank.machine import Machine, is_interruptible
from hotbank.memory import BlockState, Online, Power
from hotbank.numbers import kstrtobool
from hotbank.sysfs.bank import StateWord, Supply
from hotbank.sysfs.block import OnlineType

NO_DEADLINE = 7 * 86400.0  # seconds: the kernel has none, and tries until a signal
_ASK_EVERY = 0.05
_W = TypeVar("_W", bound=StrEnum)


class Stores:
    """Writes to a machine's files. ``writer`` is changed; looks go to ``reader``, also while a change is under way.

    Raises KernelError with the errno that the write gives, and what else the machine raises.
    """

    def __init__(self, reader: Machine, writer: Machine) -> None:
        self._reader, self._writer = reader, writer
        self._offlining: tuple[int, float] | None = None  # the last one: block, deadline

    def state(self, block: int, word: str) -> None:
        """``memoryN/state``: asking for what is there already is EINVAL."""
        what = f"state of memory{block}"
        kind = _one_of(OnlineType, word, what)
        with _gone(what):
            self._offline(block) if kind is OnlineType.OFFLINE else self._writer.online(block, Online(kind))

    def online(self, block: int, word: str) -> None:
        """``memoryN/online``: asking for what is there already is fine."""
        want = _boolean(word, f"online of memory{block}")
        now = self._reader.snapshot().block(block)
        if now is None:
            raise KernelError(errno.ENOENT, f"online of memory{block}")
        if (now.state is BlockState.ONLINE) != want:
            self._writer.online(block, Online.ONLINE) if want else self._offline(block)

    def auto_online(self, word: str) -> None:
        """``auto_online_blocks``."""
        self._writer.set_auto_online(_one_of(OnlineType, word, "auto_online_blocks").value)

    def bank_state(self, bank: str, word: str) -> None:
        """``state`` of a bank with our driver."""
        what = f"state of {bank}"
        order = _one_of(StateWord, word, what)
        with _gone(what):
            self._writer.add(bank) if order is StateWord.ADD else self._writer.remove(bank)

    def supply(self, bank: str, word: str) -> None:
        """``supply`` of a bank: the switch of its whole domain. EBUSY while any of that is in the kernel."""
        what, now = f"supply of {bank}", self._reader.snapshot()
        power, status = _one_of(Supply, word, what).power, now.bank(bank)
        if power is Power.UNKNOWN:
            raise KernelError(errno.EINVAL, what)
        if status is None:
            raise KernelError(errno.ENOENT, what)
        if status.domain is None:
            raise KernelError(errno.EOPNOTSUPP, what)
        refuse_dark(now, status.domain, power)
        self._writer.set_power(status.domain, power)

    def interrupt(self) -> None:
        """A signal for the writer whose offline is under way."""
        if self._offlining is not None and is_interruptible(self._writer):
            self._writer.interrupt(*self._offlining)

    def _offline(self, block: int) -> None:
        deadline = self._writer.clock.now() + NO_DEADLINE
        self._offlining = (block, deadline)
        try:
            self._writer.offline(block, deadline)
        except CancelPending:
            self._wait_until_let_go(block)
            raise KernelError(errno.EINTR, f"offline of memory{block}") from None

    def _wait_until_let_go(self, block: int) -> None:
        """A writer whose page is under writeback can't leave the kernel before it lets go."""
        while self._reader.snapshot().pending == block:
            self._reader.clock.sleep(_ASK_EVERY)


@contextmanager
def _gone(what: str) -> Iterator[None]:
    """A file outlives for a moment what it is about."""
    try:
        yield
    except Refusal as e:
        if e.code is not Code.NO_SUCH_BANK:
            raise
        raise KernelError(errno.ENOENT, what) from e


def _boolean(word: str, what: str) -> bool:
    value = kstrtobool(word)
    if value is None:
        raise KernelError(errno.EINVAL, what)
    return value


def _one_of(words: type[_W], word: str, what: str) -> _W:
    """The word, with one newline at its end or none."""
    try:
        return words(word.removesuffix("\n"))
    except ValueError:
        raise KernelError(errno.EINVAL, what) from None
