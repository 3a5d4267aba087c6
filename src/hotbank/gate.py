# SPDX-License-Identifier: Apache-2.0
"""The gate to every power switch: nothing turns one but through here.

Above it hotbank asks before it orders (operate/power.py); this is what each machine does for itself, whoever orders.
Our driver answers the same (kernel/bank/driver.c, ``supply_store``).
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from hotbank.errors import Code, KernelError, SwitchError
from hotbank.machine import DomainStatus, Snapshot
from hotbank.memory import KernelState, Power

AFTER_LOSS = "what was in the bank can't be trusted: end who used it, and remove the bank or reboot"


def refuse_dark(snapshot: Snapshot, domain: str, want: Power) -> None:
    """The interlock: KernelError(EBUSY) when ``want`` is less than ``on`` while the kernel has a block that touches the
    domain, or may still get one, or a bank of it is stuck half-way. No force reaches it."""
    if want is Power.ON:
        return
    banks = [bank for bank in snapshot.banks if bank.domain == domain]
    stuck = [bank.name for bank in banks if bank.kernel is KernelState.STUCK]
    numbers = dict.fromkeys(snapshot.touching(domain))
    pending = snapshot.pending
    if pending is not None and any(pending in bank.range.blocks(snapshot.block_size) for bank in banks):
        numbers[pending] = None
    held = [*stuck, *(f"memory{number}" for number in numbers)]
    if held:
        raise KernelError(errno.EBUSY, f"power of {domain} to {want}", detail=f"{_few(held)} in the kernel")


def refuse_unlisted(domain: DomainStatus, want: Power) -> None:
    """SwitchError when ``want`` is not among the states that the board gives the domain."""
    if want not in domain.states:
        raise SwitchError(f"domain {domain.name} has no state {want}", remedy=f"known: {', '.join(domain.states)}")


class Switch(Protocol):
    """What turns one power domain. Both calls raise SwitchError."""

    def status(self) -> Power:
        """The state now, asked and not remembered."""
        ...

    def turn(self, want: Power) -> None:
        """Bring the domain to ``want``; returns only when the switch says that it is there."""
        ...


class Beside:
    """A real switch, and memory that is played and follows it. ``UNKNOWN`` where they differ."""

    def __init__(self, real: Switch, played: Switch) -> None:
        self._real, self._played = real, played

    def status(self) -> Power:
        """What both say."""
        now = self._real.status()
        return now if self._played.status() is now else Power.UNKNOWN

    def turn(self, want: Power) -> None:
        """Turn the real one, and let the memory follow once that says it is there."""
        self._real.turn(want)
        self._played.turn(want)


class Gate:
    """The gate of one machine. ``lock``: held while its power is turned; who brings memory in holds it as well, and can
    enter it twice."""

    def __init__(self, lock: AbstractContextManager[object] | None = None) -> None:
        self.lock: AbstractContextManager[object] = lock or threading.RLock()

    def turn(
        self,
        domain: str,
        want: Power,
        look: Callable[[], Snapshot],
        switch: Callable[[Power], None],
        shut: Callable[[], None] | None = None,
    ) -> None:
        """Look, turn the switch, look again: another process may add memory in between, which no lock of ours keeps
        out. Then the power comes on at once, and what was lost is said. A switch that raised may have turned all the
        same, so that the second look comes whatever it did.

        ``shut``: leave no device that could bring a bank of the domain in, before the switch goes dark.

        Raises KernelError(EBUSY), and SwitchError for a state that the domain has not, before anything was turned;
        SwitchError with code LOST where memory came in; else what the switch raised.
        """
        with self.lock:
            if want is Power.ON:
                switch(want)
                return
            self._close(domain, want, look, shut)
            try:
                switch(want)
            finally:
                self._look_again(domain, want, look, partial(switch, Power.ON))

    @staticmethod
    def _close(domain: str, want: Power, look: Callable[[], Snapshot], shut: Callable[[], None] | None) -> None:
        now = look()
        refuse_dark(now, domain, want)
        if (status := now.domain(domain)) is not None:
            refuse_unlisted(status, want)
        if shut is not None:
            shut()
            refuse_dark(look(), domain, want)

    @staticmethod
    def _look_again(domain: str, want: Power, look: Callable[[], Snapshot], light: Callable[[], None]) -> None:
        try:
            now = look()
        except BaseException:  # nobody knows what is there: on is what does no harm
            light()
            raise
        try:
            refuse_dark(now, domain, want)
        except KernelError as e:
            raise came_back(domain, want, e.detail, light) from e


def came_back(domain: str, was: Power, held: str, light: Callable[[], None]) -> SwitchError:
    """Put the light on over memory that came in while the domain was less than on; the error that tells of it.

    Code LOST where the power was off, RACED in self-refresh, which keeps what is there.
    """
    try:
        light()
        now = "it is on again"
    except Exception as e:  # whatever went wrong, the loss has to be told
        now = f"it did not go on again: {e}"
    fact = f"memory came in while domain {domain} was {was}: {held}; {now}"
    if was is Power.OFF:
        return SwitchError(f"{fact}; what was in it is lost", code=Code.LOST, remedy=AFTER_LOSS)
    return SwitchError(fact, code=Code.RACED, remedy="run it again: something else changed the memory at the same time")


def _few(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
