# SPDX-License-Identifier: Apache-2.0
"""What a client orders of an owner: the owner's worker carries it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from hotbank.calls import asked
from hotbank.errors import ProtocolError
from hotbank.memory import Power
from hotbank.operate import Before, Entry, Event, Limits, Outcome
from hotbank.operate.journal import PERSON
from hotbank.operate.outcome import no_events
from hotbank.remote import AtOwner, Remote
from hotbank.serve.protocol import OWNER, History, News, Order, OwnerCalls
from hotbank.wire import decode


def remove(
    machine: Remote,
    *targets: str | int,
    limits: Limits | None = None,
    force: bool = False,
    keep_partial: bool = False,
    found: Before | None = None,
    on_event: Callable[[Event], None] = no_events,
    cause: str = PERSON,
) -> Outcome:
    """Have the owner take banks out, see ``operate.remove``. ``machine.cancel()`` interrupts it.

    ``found``: of a plan; when the machine is not that any more, it is refused (CHANGED).
    """
    order = Order("remove", tuple(map(str, targets)), limits or Limits(), force, keep_partial, found, cause=cause)
    return _transact(machine, order, on_event)


def add(
    machine: Remote,
    *targets: str | int,
    limits: Limits | None = None,
    keep_partial: bool = False,
    found: Before | None = None,
    on_event: Callable[[Event], None] = no_events,
    cause: str = PERSON,
) -> Outcome:
    """Have the owner bring banks in, see ``operate.add``. ``machine.cancel()`` interrupts it."""
    order = Order("add", tuple(map(str, targets)), limits or Limits(), False, keep_partial, found, cause=cause)
    return _transact(machine, order, on_event)


def power(machine: Remote, domain: str, want: Power, *, on_event: Callable[[Event], None] = no_events) -> Outcome:
    """Have the owner switch a domain, see ``operate.switch``."""
    return _transact(machine, Order("power", (domain,), Limits(), want=want), on_event)


def recover(machine: Remote, *, limits: Limits | None = None, forget: int | None = None) -> Outcome | None:
    """Have the owner settle an open transaction, see ``operate.recover``; None when there is none."""
    return RemoteOwner(machine).order(Order("recover", (), limits or Limits(), forget=forget), no_events)


def history(machine: Remote) -> tuple[Entry, ...]:
    """The owner's journal, oldest transaction first."""
    return RemoteOwner(machine).history()


class RemoteOwner(AtOwner):
    """What an owner answers beyond its machine."""

    _past = asked(OWNER, OwnerCalls.history)
    governed = asked(OWNER, OwnerCalls.governed)
    govern = asked(OWNER, OwnerCalls.govern)
    look = asked(OWNER, OwnerCalls.look)
    pause = asked(OWNER, OwnerCalls.pause)
    resume = asked(OWNER, OwnerCalls.resume)
    stop = asked(OWNER, OwnerCalls.stop)

    def history(self, known: Sequence[Entry] = ()) -> tuple[Entry, ...]:
        """The journal, oldest transaction first. ``known``: what it was at an earlier time, of which no more is asked
        for again than the last that had ended by then."""
        had = {entry.id: at for at, entry in enumerate(known) if entry.code is not None}
        fresh = list[Entry]()
        for entry in self.newest():
            at = had.get(entry.id)
            if at is not None and known[at] == entry:
                return (*known[: at + 1], *reversed(fresh))
            fresh.append(entry)
        return tuple(reversed(fresh))

    def newest(self) -> Iterator[Entry]:
        """The journal, newest transaction first, no further than somebody asks."""
        before: int | None = None
        more = True
        while more:
            part = self._past(before)
            more, before = part.more, _oldest(part, before)
            yield from reversed(part.entries)

    def events(self, since: int | None, wait: float) -> News:
        """See OwnerCalls."""
        news = self._remote.ask(OWNER["events"], {"since": since, "wait": wait}, extra_time=wait)
        return cast("News", news)

    def order(self, order: Order, on_event: Callable[[Event], None]) -> Outcome | None:
        """Have it carried out, however long that takes; None: there was nothing to recover."""

        def tell(event: dict[str, Any]) -> None:
            on_event(decode(Event, event, "event"))

        outcome = self._remote.ask(OWNER["order"], {"order": order}, extra_time=None, on_event=tell)
        return cast("Outcome | None", outcome)


def _oldest(part: History, before: int | None) -> int | None:
    """Where the next part ends. Raises ProtocolError for an owner that would have us ask for ever."""
    ids = [entry.id for entry in part.entries]
    if part.more and not (ids and (before is None or ids[-1] < before) and ids[0] <= ids[-1]):
        raise ProtocolError("the owner's history does not go on where it says")
    return ids[0] if ids else None


def _transact(machine: Remote, order: Order, on_event: Callable[[Event], None]) -> Outcome:
    outcome = RemoteOwner(machine).order(order, on_event)
    if outcome is None:
        raise ProtocolError(f"the owner says that there was nothing to {order.verb}")
    return outcome
