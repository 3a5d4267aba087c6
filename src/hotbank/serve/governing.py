# SPDX-License-Identifier: Apache-2.0
"""A governor at work on a machine that has an owner: its eyes, its hands, and what it tells."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from hotbank import memspec
from hotbank.documents import EXIT_DONE
from hotbank.errors import HotbankError
from hotbank.govern import runner as governing
from hotbank.govern.guard import Outcome, State
from hotbank.govern.runner import Governor, Step
from hotbank.govern.settings import Settings
from hotbank.govern.standby import Standby
from hotbank.govern.status import Orders, Status
from hotbank.host.trigger import Trigger
from hotbank.machine import Machine, Reading, Snapshot
from hotbank.memory import MIB
from hotbank.operate import Entry, Limits
from hotbank.operate.journal import GOVERNOR
from hotbank.operate.outcome import no_events
from hotbank.operate.recovery import was_done
from hotbank.remote import Remote
from hotbank.serve.client import RemoteOwner
from hotbank.serve.desk import lasts_of
from hotbank.serve.local import beside
from hotbank.serve.owner import Owner
from hotbank.serve.protocol import Order
from hotbank.serve.rest import Rest

OWNER_PEAK = 64 * MIB  # of owner and worker while a bank comes in, on a machine that is to spare 48 for them


@dataclass(frozen=True, slots=True)
class Hands:
    """Orders to the machine's owner, in the governor's name; what became of them stands in its journal."""

    owner: RemoteOwner
    boot: str | None

    def remove(self, banks: Sequence[str]) -> Outcome:
        """Out, and dark."""
        return self._order("remove", banks)

    def add(self, banks: Sequence[str]) -> Outcome:
        """On, and back in."""
        return self._order("add", banks)

    def taken(self) -> Mapping[str, bool]:
        """Banks whose last transaction in this boot was a governor's, and whether it took them out."""
        return still_taken(self.owner.newest(), self.boot)

    def _order(self, verb: str, banks: Sequence[str]) -> Outcome:
        outcome = self.owner.order(Order(verb, tuple(banks), Limits(), cause=GOVERNOR), no_events)
        return Outcome.DONE if outcome is not None and outcome.exit == EXIT_DONE else Outcome.FAILED


def still_taken(entries: Iterable[Entry], boot: str | None) -> dict[str, bool]:
    """Banks that a governor moved in that boot, and nobody since: True where it took them out, False where it brought
    them back. ``entries``: the newest first, of which no more are taken than that boot's."""
    taken, moved = dict[str, bool](), set[str]()
    for entry in takewhile(lambda entry: entry.damage or entry.before.boot_id == boot, entries):
        if entry.is_sign or not was_done(entry):
            continue
        banks = {bank.name for bank in entry.before.banks} - moved
        moved |= banks
        if entry.before.cause == GOVERNOR:
            taken |= dict.fromkeys(banks, entry.before.verb == "remove")
    return taken


class _NoHands:
    """Of who only decides."""

    def remove(self, banks: Sequence[str]) -> Outcome:  # noqa: ARG002  # the protocol's
        return Outcome.PUT_OFF

    def add(self, banks: Sequence[str]) -> Outcome:  # noqa: ARG002
        return Outcome.PUT_OFF

    def taken(self) -> None:
        return


class Governing:
    """One machine under one policy, as long as ``run`` runs. ``owner``: whom to order; None: decide and do nothing.

    ``inside``: the machine that is governed is the one that this process runs on, so its own memory counts.
    ``pressed``: whether the kernel has said since the look before that tasks wait for memory.
    """

    def __init__(
        self,
        machine: Machine,
        owner: RemoteOwner | None,
        settings: Settings,
        *,
        inside: bool = False,
        pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._pressed = pressed
        self._settings, self._owner, self._who, self._begun = settings, owner, uuid.uuid4().hex, False
        self._boot, self._resumes = machine.snapshot().boot_id, 0
        self._last: Status | None = None
        self._told: Status | None = None
        self._machine = machine
        state = None
        if owner is not None:
            known = owner.governed()
            self._resumes = known.orders.resumes
            state = _still_true(known.status, known.orders, self._boot)
        self._governor = Governor(
            self,
            self._hands(machine),
            settings.policy,
            settings.guarded(),
            memspec.named,
            state=state,
            owner=OWNER_PEAK if inside else 0,
            dry=owner is None,
        )

    def _hands(self, machine: Machine) -> governing.Hands:
        if self._owner is None:
            return _NoHands()
        return Standby(Hands(self._owner, self._boot), self._settings.standby, machine.snapshot)

    def run(self, sleep: Callable[[float], bool], told: Callable[[Status], None] = lambda _: None) -> None:
        """Look again and again until ``sleep``, which gets the seconds until the next look, answers True.

        Raises Refusal(BUSY_TRANSACTION) while another one governs, MachineError when the machine is gone for good.
        """
        self.begin()
        try:
            while True:
                told(self.look())
                if sleep(self._settings.every):
                    return
        finally:
            self.leave()

    def begin(self) -> None:
        """Ask the owner before the first look: it refuses who may not (NOT_PERMITTED), and another one beside the one
        that governs (BUSY_TRANSACTION). Once is enough."""
        if not self._begun:
            self._tell(self._status(Step(0.0, None, None, (), (), blind="it has not looked yet")))
            self._begun = True

    def look(self) -> Status:
        """One look, of which the owner is told: at once where something came of it, else with the question of the next
        one. What was said meanwhile holds from then on."""
        self.begin()
        self._last = self._status(self._governor.step(pressed=self._pressed()))
        if self._told is None or self._last.deeds or _tells(self._last) != _tells(self._told):
            self._tell(self._last)
        return self._last

    def reading(self) -> Reading:
        """How the machine feels; with the look before this one, of which nothing that was done is told twice."""
        last = self._last or self._told
        if self._owner is None or last is None:
            return self._machine.reading()
        untold = last if last is not self._told else replace(last, deeds=())
        self._told = last
        look = self._owner.look(untold)
        self._hear(look.orders)
        return look.reading

    def snapshot(self) -> Snapshot:
        """Its banks and domains."""
        return self._machine.snapshot()

    def _tell(self, status: Status) -> None:
        if self._owner is not None:
            self._told = status
            self._hear(self._owner.govern(status))

    def leave(self) -> None:
        """Say that it has ended, so that the next one need not wait until it is sure of that."""
        last = self._last or self._told
        if last is not None:
            with suppress(HotbankError):
                self._tell(replace(last, period=0.0, deeds=()))

    def _hear(self, orders: Orders) -> None:
        if orders.resumes != self._resumes:
            self._resumes = orders.resumes
            self._governor.resume()
        if orders.paused and self._governor.state.paused != orders.paused:
            self._governor.pause(orders.paused)

    def _status(self, step: Step) -> Status:
        view, wish, settings = step.view, step.wish, self._settings
        return Status(
            at=time.time(),
            policy=settings.name,
            who=self._who,
            pid=os.getpid(),
            period=settings.every,
            dry=self._owner is None,
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


def _tells(status: Status) -> Any:
    """What others are to know at once."""
    return status.blind, status.dry, lasts_of(status)


def _still_true(told: Status | None, orders: Orders, boot: str | None) -> State:
    """What a governor before this one knew and what still holds: after a boot everything is in again, by nobody's hand,
    and all moments are of another clock. A pause holds. What is ours the journal says."""
    paused = orders.paused or (told.state.paused if told else "")
    if told is None or told.boot_id != boot or boot is None:
        return State(paused=paused)
    return replace(told.state, paused=paused, at=None, expected=None)


@contextmanager
def governed(owner: Owner, settings: Settings, trouble: Callable[[str], None], *, inside: bool) -> Iterator[None]:
    """With a governor at work in a thread of the owner's own process, until the end. ``trouble``, ``inside``: see
    ``govern`` and Governing."""
    rest = Rest(Trigger.of() if inside else None)
    args = (lambda: beside(owner), settings, rest.sleep, trouble)
    named = {"inside": inside, "pressed": rest.pressed}
    threading.Thread(target=govern, args=args, kwargs=named, daemon=True).start()
    try:
        yield
    finally:
        rest.end()


def govern(
    connect: Callable[[], Remote],
    settings: Settings,
    stopped: Callable[[float], bool],
    trouble: Callable[[str], None],
    *,
    inside: bool = False,
    pressed: Callable[[], bool] = lambda: False,
) -> None:
    """Govern until ``stopped``; the owner's clients see it as any other; through all errors.

    ``connect``: a line to the owner, a new one after each error. ``trouble``: called with each in words. ``inside``,
    ``pressed``: see Governing.
    """
    while True:
        try:
            with closing(connect()) as machine:
                Governing(machine, RemoteOwner(machine), settings, inside=inside, pressed=pressed).run(stopped)
                return
        except Exception as e:  # whatever it is, who governs must not be gone without a word
            trouble(str(e) if isinstance(e, HotbankError) else f"{type(e).__name__}: {e}")
        if stopped(settings.every):
            return
