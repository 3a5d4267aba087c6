# SPDX-License-Identifier: Apache-2.0
"""Pages of what a viewer selected, looked at in the background, a block at a time, and what came of it.

Nothing else looks at pages for a viewer. What was seen in a block is forgotten when the block changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from hotbank.errors import HotbankError
from hotbank.machine import Block, Snapshot, Survey
from hotbank.memory import BlockState
from hotbank.operate.look import surveys_of
from hotbank.operate.targets import resolve
from hotbank.operate.verdict import Verdict, verdict
from hotbank.session import Session
from hotbank.watch.asking import Line

_KEPT = 16  # looks
_Stand = tuple[BlockState, str | None] | None


@dataclass(frozen=True, slots=True)
class Look:
    """A look at a bank or a block. ``at``: when it ended, in seconds since 1970, or began while it lasts.

    ``seen`` of ``blocks`` blocks were looked at. ``verdict``: None before the end, and where ``error`` says why.
    """

    at: float
    seen: int = 0
    blocks: int = 0
    verdict: Verdict | None = None
    error: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.verdict is not None or bool(self.error)

    def document(self, machine: str) -> dict[str, Any]:
        """As JSON: the verdict is that of ``hotbank explain --json``, with the fact in words."""
        answer = self.verdict
        told = None if answer is None else answer.document(machine) | {"fact": answer.fact}
        return {"at": self.at, "seen": self.seen, "blocks": self.blocks, "verdict": told, "error": self.error}


class Looker:
    """Looks, one after the other, over a line of its own. ``told``: called whenever there is something new."""

    def __init__(self, line: Line, told: Callable[[], None], now: Callable[[], float] = time.time) -> None:
        self.line, self._told, self._now = line, told, now
        self._wanted: SimpleQueue[str | None] = SimpleQueue()
        self._looks: dict[str, Look] = {}
        self._seen: dict[int, tuple[Block | None, Survey]] = {}
        self._stood: dict[str, dict[int, _Stand]] = {}  # how the blocks of a look stood then
        self._lock = threading.Lock()

    def want(self, name: str) -> None:
        """Have the bank or block looked at, after what was wanted before; once until that is over."""
        with self._lock:
            known = self._looks.get(name)
        if known is None or known.over:
            self._keep(name, Look(self._now()))
            self._wanted.put(name)

    def end(self) -> None:
        """Have ``run`` return once the look under way is over."""
        self._wanted.put(None)

    def run(self) -> None:
        """Look at what is wanted, until the end."""
        while (name := self._wanted.get()) is not None:
            try:
                self.line.ask(lambda session, name=name: self._look(session, name))  # type: ignore[misc]
            except Exception as e:  # whatever it is, the next one is looked at
                self._keep(name, Look(self._now(), error=str(e) if isinstance(e, HotbankError) else repr(e)))

    @property
    def looks(self) -> Mapping[str, Look]:
        """By name, the oldest first."""
        with self._lock:
            return dict(self._looks)

    def surveys(self, snapshot: Snapshot) -> Mapping[int, Survey]:
        """What was seen in blocks that are still as they were then. Looks at blocks that came or went are dropped."""
        with self._lock:
            self._seen = {n: seen for n, seen in self._seen.items() if snapshot.block(n) == seen[0]}
            for name in [n for n, stood in self._stood.items() if stood != _standing(snapshot, stood)]:
                del self._stood[name], self._looks[name]
            return {number: survey for number, (_, survey) in self._seen.items()}

    def _look(self, session: Session, name: str) -> None:
        snapshot = session.list()
        target, look = resolve(snapshot, name), Look(self._now())
        surveys = dict[int, Survey]()
        for done, number in enumerate(target.blocks):
            self._keep(name, replace(look, seen=done, blocks=len(target.blocks)))
            surveys |= self._survey(session, snapshot, number)
        answer = verdict(snapshot, surveys, target)
        with self._lock:
            self._stood[name] = _standing(snapshot, target.blocks)
        self._keep(name, Look(self._now(), len(target.blocks), len(target.blocks), answer))

    def _survey(self, session: Session, snapshot: Snapshot, number: int) -> Mapping[int, Survey]:
        found = surveys_of(session.machine, snapshot, (number,))
        with self._lock:
            self._seen |= {n: (snapshot.block(n), survey) for n, survey in found.items()}
        return found

    def _keep(self, name: str, look: Look) -> None:
        with self._lock:
            self._looks.pop(name, None)
            self._looks[name] = look
            if not look.over:
                self._stood.pop(name, None)
            for oldest in list(self._looks)[:-_KEPT]:
                del self._looks[oldest]
                self._stood.pop(oldest, None)
        self._told()


def _standing(snapshot: Snapshot, blocks: Iterable[int]) -> dict[int, _Stand]:
    """State and zone of each, None of one that the kernel has not."""
    found = {number: snapshot.block(number) for number in blocks}
    return {number: None if block is None else (block.state, block.zone) for number, block in found.items()}
