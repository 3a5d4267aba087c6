# SPDX-License-Identifier: Apache-2.0
"""Changes to a fleet: at most so many machines of a failure domain dark, an end after failures, going on after a crash.

A machine is dark when anything of it is; one that does not answer may be, and counts as dark. A removal begins only
where the machines of the same failure domain that are dark, may be or are about to be leave room for it. Before a
machine is asked, the number of its own last transaction is written down: what it says itself has happened since is what
became of the order, and it is not asked again.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hotbank.documents import EXIT_DONE, EXIT_FAILED
from hotbank.errors import Code
from hotbank.fleet.asking import FORKS, TIMEOUT, Heard, Reply, all_asked, asked
from hotbank.fleet.inventory import Member
from hotbank.fleet.journal import Begun, Journal
from hotbank.memory import KernelState, Power
from hotbank.operate import Limits

_AGAIN = 0.5  # seconds of wall time between looks at a transaction that is open
REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Terms:
    """``forks``: machines at a time; ``timeout``: seconds for a machine's first word; ``stop``: failures after which
    nobody else is asked, None for never."""

    forks: int = FORKS
    timeout: float = TIMEOUT
    stop: int | None = None


def carry_out(members: Sequence[Member], begun: Begun, journal: Journal, terms: Terms, heard: Heard) -> list[Reply]:
    """Ask whom was not asked yet, and those of whom nothing certain is known what became of it. ``members``: the whole
    inventory. In the order in which the machines were named. Raises KeyboardInterrupt."""
    return asyncio.run(_Course(members, begun, journal, terms, heard).run())


class _Course:
    def __init__(self, members: Sequence[Member], begun: Begun, journal: Journal, terms: Terms, heard: Heard) -> None:
        self._begun, self._journal, self._terms, self._heard = begun, journal, terms, heard
        self._everybody, self._fellows = members, defaultdict[str, set[str]](set)
        for member in members:
            self._fellows[member.domain].add(member.name)
        named = {member.name: member for member in members}
        self._members = [named[name] for name in begun.machines if name in named]
        self._limited = begun.verb == REMOVE and begun.dark is not None
        self._failed, self._flying = 0, set[str]()
        self._dark, self._seen = set[str](), frozenset[str]()

    async def run(self) -> list[Reply]:
        self._room, self._turn = asyncio.Semaphore(self._terms.forks), asyncio.Condition()
        if self._limited:
            await self._look()
        return await asyncio.gather(*map(self._one, self._members))

    async def _look(self) -> None:
        """Who is dark already, or may be: also whom an operator before this one asked, for it may be at work; whom an
        order before this one asked that was left open, as long as its transaction is."""
        domains = {member.domain for member in self._members}
        fellows = [member for member in self._everybody if member.domain in domains]
        found = await all_asked(fellows, ["list", "--json"], self._terms.forks, self._terms.timeout, lambda _: None)
        self._seen = frozenset(reply.member.name for reply in found if is_dark(reply))
        self._dark = {*self._seen, *self._begun.unsure, *await self._at_work(fellows)}

    async def _at_work(self, fellows: Sequence[Member]) -> set[str]:
        left = {name for begun in self._journal.orders.values() if begun is not self._begun for name in begun.unsure}
        unsure = [member for member in fellows if member.name in left]
        found = await all_asked(unsure, ["history", "--json"], self._terms.forks, self._terms.timeout, lambda _: None)
        return {reply.member.name for reply in found if is_at_work(reply)}

    async def _one(self, member: Member) -> Reply:
        if self._begun.knows(member.name):
            known = self._begun.came[member.name]
            return Reply(member, Code(known["code"]), known["exit"], known["message"])
        async with self._room:
            was_asked = member.name in self._begun.asked
            reply = await (self._settled(member) if was_asked else self._ordered(member))
        if member.name in self._begun.asked:
            self._journal.told(self._begun, reply)
        self._heard(reply)
        return reply

    async def _ordered(self, member: Member) -> Reply:
        if why := await self._why_not(member):
            return why
        before = await asked(member, ["history", "--json"], self._terms.timeout)
        if before.answered is None:
            return await self._landed(member, replace(before, exit=EXIT_FAILED, certain=True))
        self._journal.asking(self._begun, member.name, last_of(before.answered))
        words = [self._begun.verb, "--json", *self._begun.words]
        return await self._landed(member, await asked(member, words, self._terms.timeout, more=Limits().total))

    async def _why_not(self, member: Member) -> Reply | None:
        """Why it is not asked, once that is sure; None as soon as it may be."""
        async with self._turn:
            while True:
                if self._terms.stop is not None and self._failed >= self._terms.stop:
                    what = f"not asked: {self._failed} machines failed"
                    return Reply(member, Code.INTERRUPTED, EXIT_FAILED, what)
                beside = self._beside(member)
                if not self._limited or len(beside) < (self._begun.dark or 0):
                    self._flying.add(member.name)
                    return None
                if beside.isdisjoint(self._flying):
                    what = f"not asked: {', '.join(sorted(beside))} of its failure domain are dark, or may be"
                    return Reply(member, Code.NOT_PERMITTED, EXIT_FAILED, what)
                await self._turn.wait()

    def _beside(self, member: Member) -> set[str]:
        """The other machines of its failure domain that are dark, may be, or are about to be."""
        return self._fellows[member.domain] & (self._dark | self._flying) - {member.name}

    async def _landed(self, member: Member, reply: Reply) -> Reply:
        async with self._turn:
            self._flying.discard(member.name)
            if not (reply.certain and reply.exit == EXIT_FAILED):
                self._dark.add(member.name)
            elif member.name not in self._seen:
                self._dark.discard(member.name)
            self._failed += reply.exit != EXIT_DONE
            self._turn.notify_all()
        return reply

    async def _settled(self, member: Member) -> Reply:
        """What became of an order that was given, by the machine's own journal; given now where it never arrived."""
        until = time.monotonic() + Limits().total
        while True:
            found = await asked(member, ["history", "--json"], self._terms.timeout)
            if found.answered is None:
                return await self._landed(member, replace(found, exit=EXIT_FAILED, certain=False))
            entry = since(found.answered, self._begun.asked[member.name], self._begun.verb)
            if entry is None:
                return await self._ordered(member)
            if entry["ended"] is not None:
                return await self._landed(member, replace(found, **_ended(entry)))
            if time.monotonic() > until:
                what = "its transaction is still open"
                return await self._landed(
                    member, Reply(member, Code.BUSY_TRANSACTION, EXIT_FAILED, what, certain=False)
                )
            await asyncio.sleep(_AGAIN)


def _ended(entry: Mapping[str, Any]) -> dict[str, Any]:
    """How a transaction of the machine's own journal ended, as parts of a reply."""
    code = Code(entry["code"])
    done = code in (Code.OK, Code.DOMAIN_IN_USE)
    return {"code": code, "exit": EXIT_DONE if done else EXIT_FAILED, "message": "by the machine's own journal"}


def is_dark(reply: Reply) -> bool:
    """Anything of the machine is dark or out of the kernel, or nobody can tell."""
    banks = (reply.answered or {}).get("banks")
    return banks is None or any(
        bank["power"] != Power.ON.value or bank["kernel"] != KernelState.ONLINE.value
        for bank in banks
        if bank["domain"] is not None
    )


def is_at_work(reply: Reply) -> bool:
    """A transaction of the machine is open, or nobody can tell."""
    entries = (reply.answered or {}).get("transactions")
    return entries is None or any(entry["ended"] is None for entry in entries)


def last_of(history: Mapping[str, Any]) -> int | None:
    """The number of a machine's last transaction."""
    return max((entry["id"] for entry in history["transactions"]), default=None)


def since(history: Mapping[str, Any], last: int | None, verb: str) -> Mapping[str, Any] | None:
    """The first transaction of that verb after that one."""
    later = (e for e in history["transactions"] if (last is None or e["id"] > last) and e["before"]["verb"] == verb)
    return min(later, key=lambda entry: entry["id"], default=None)
