# SPDX-License-Identifier: Apache-2.0
"""A governor at work on a machine that has an owner: its eyes, its hands, and what it tells."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hotbank import memspec, serve
from hotbank.documents import EXIT_DONE
from hotbank.errors import HotbankError
from hotbank.govern.guard import State
from hotbank.govern.runner import Governor, Step
from hotbank.govern.settings import Settings
from hotbank.govern.status import Orders, Status
from hotbank.memory import MIB
from hotbank.operate.journal import GOVERNOR
from hotbank.remote import Remote
from hotbank.serve.client import RemoteOwner

OWNER_PEAK = 64 * MIB  # of owner and worker while a bank comes in, on a machine that is to spare 48 for them


@dataclass(frozen=True, slots=True)
class Hands:
    """Orders to the machine's owner, in the governor's name."""

    machine: Remote

    def remove(self, banks: Sequence[str]) -> bool:
        """Out, and dark."""
        return serve.remove(self.machine, *banks, cause=GOVERNOR).exit == EXIT_DONE

    def add(self, banks: Sequence[str]) -> bool:
        """On, and back in."""
        return serve.add(self.machine, *banks, cause=GOVERNOR).exit == EXIT_DONE


class Governing:
    """One machine under one policy, as long as ``run`` runs. ``dry``: decide, tell, and do nothing.

    ``on_inside``: the machine that is governed is the one that this process runs on, so its own memory counts.
    """

    def __init__(self, machine: Remote, settings: Settings, *, dry: bool = False, on_inside: bool = False) -> None:
        self._settings, self._dry, self._desk = settings, dry, RemoteOwner(machine)
        self._boot = machine.snapshot().boot_id
        told, orders = self._desk.governed()
        self._resumes, self._begun = orders.resumes, False
        state = None if dry or told is None or told.dry else _still_true(told, orders, self._boot)
        self._governor = Governor(
            machine,
            Hands(machine),
            settings.policy,
            settings.guarded(),
            memspec.named,
            state=state,
            owner=OWNER_PEAK if on_inside else 0,
            dry=dry,
        )

    def run(self, sleep: Callable[[float], bool], told: Callable[[Status], None] = lambda _: None) -> None:
        """Look again and again until ``sleep``, which gets the seconds until the next look, answers True.

        Raises Refusal(BUSY_TRANSACTION) while another one governs, MachineError when the machine is gone for good.
        """
        while True:
            status = self.look()
            told(status)
            if sleep(self._settings.every):
                return

    def look(self) -> Status:
        """One look, told to the owner; what was said meanwhile holds from the next one on.

        Before the first one the owner is asked: it refuses who may not, and another one beside the one that governs.
        """
        if not self._begun:
            waiting = Step(0.0, None, None, (), (), blind="it has not looked yet")
            self._hear(self._desk.govern(self._status(waiting)))
            self._begun = True
        status = self._status(self._governor.step())
        self._hear(self._desk.govern(status))
        return status

    def _hear(self, orders: Orders) -> None:
        if orders.resumes != self._resumes:
            self._resumes = orders.resumes
            self._governor.resume()
        if orders.paused and not self._governor.state.paused:
            self._governor.pause(orders.paused)

    def _status(self, step: Step) -> Status:
        view, wish, settings = step.view, step.wish, self._settings
        return Status(
            at=time.time(),
            policy=settings.name,
            pid=os.getpid(),
            period=settings.every,
            dry=self._dry,
            used=view.used if view else 0,
            supply=view.supply if view else 0,
            keep=wish.keep if wish else 0,
            wish=wish.why if wish else "",
            groups=step.standings,
            deeds=step.deeds,
            blind=step.blind,
            state=self._governor.state,
            boot_id=self._boot,
        )


def _still_true(told: Status, orders: Orders, boot: str | None) -> State:
    """What a governor before this one knew and what still holds: after a boot everything is in again, by nobody's hand,
    and all moments are of another clock. A pause holds."""
    paused = orders.paused or told.state.paused
    if told.boot_id != boot or boot is None:
        return State(paused=paused)
    return replace(told.state, paused=paused, at=None)


def govern(machine: Remote, settings: Settings, stopped: Callable[[float], bool]) -> None:
    """Govern in a thread of the owner's own process, whose clients see it as any other; through all errors."""
    while True:
        try:
            Governing(machine, settings, on_inside=True).run(stopped)
        except HotbankError:  # another governor, or a machine in trouble: it may pass
            if stopped(settings.every):
                return
        else:
            return
