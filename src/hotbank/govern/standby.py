# SPDX-License-Identifier: Apache-2.0
"""Banks that stand by: out of use, and not yet dark.

The last groups that left are offline only: their power is on and their memory map is there, so that they come back by a
word for each block, with nothing to be allocated and nothing to be switched. They save nothing meanwhile. When one more
leaves, the one that has stood by longest goes dark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from hotbank.errors import HotbankError
from hotbank.govern.guard import Outcome
from hotbank.govern.runner import Hands
from hotbank.machine import Snapshot
from hotbank.memory import KernelState

Banks = tuple[str, ...]


class Standby:
    """Hands that keep ``count`` groups standing by, 0 or more. Which ones do is the machine's to say, so that it holds
    for who goes on after them; in which order they left is known since this one began."""

    def __init__(self, hands: Hands, count: int, look: Callable[[], Snapshot]) -> None:
        self._hands, self._count, self._look = hands, count, look
        self._left: list[Banks] = []

    def remove(self, banks: Sequence[str]) -> Outcome:
        """Offline, or dark where none is to stand by; and dark what stood by before and is one too many. If that fails,
        it stands by until the next time."""
        done = self._hands.remove(self._blocks(banks) if self._count else banks)
        if done is Outcome.DONE:
            self._left = [*(group for group in self._left if group != tuple(banks)), tuple(banks)]
            with suppress(HotbankError):
                self._darken_too_many()
        return done

    def _darken_too_many(self) -> None:
        standing = self._standing()
        for group in standing[: max(0, len(standing) - self._count)]:
            self._hands.remove(group)

    def add(self, banks: Sequence[str]) -> Outcome:
        """Back in, from wherever they are."""
        return self._hands.add(banks)

    def taken(self) -> Mapping[str, bool] | None:
        """See Hands."""
        return self._hands.taken()

    def _blocks(self, banks: Sequence[str]) -> list[str]:
        snapshot = self._look()
        found = [status for name in banks if (status := snapshot.bank(name)) is not None]
        return [f"memory{number}" for status in found for number in status.blocks]

    def _standing(self) -> list[Banks]:
        """What a governor took and is offline, whoever left first first: what left before this one began, was first."""
        snapshot, taken = self._look(), {name for name, out in (self._hands.taken() or {}).items() if out}
        offline = {bank.name for bank in snapshot.banks if bank.kernel is KernelState.OFFLINE} & taken
        groups = [domain.banks for domain in snapshot.domains if domain.banks and offline.issuperset(domain.banks)]
        return sorted(groups, key=lambda group: self._left.index(group) if group in self._left else -1)
