# SPDX-License-Identifier: Apache-2.0
"""How an operation ended, in what a real kernel and the model must agree."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

from hotbank.machine import Snapshot, ZoneInfo

TOLERATED_PAGES, TOLERATED_SHARE = 256, 0.02  # of migrated pages: a running kernel moves on while it is looked at


@dataclass(frozen=True, slots=True)
class Outcome:
    """``errno``: 0 or why it was refused. ``blocks``: number, state and ``valid_zones`` of every block afterwards;
    ``zones``: node, name, first pfn, spanned and present pages of every zone; ``banks``: name and kernel state of every
    bank; ``policies``: ``auto_online_blocks`` and ``online_policy``; ``migrated``: pages moved meanwhile. ``after``:
    the machine afterwards, where the next operation begins."""

    errno: int
    blocks: tuple[tuple[int, str, tuple[str, ...]], ...]
    zones: tuple[tuple[int, str, int, int, int], ...]
    banks: tuple[tuple[str, str], ...]
    policies: tuple[str, str]
    migrated: int
    after: Snapshot = field(repr=False, compare=False)

    @property
    def answer(self) -> str:
        """``done``, or the errno's name."""
        return errno.errorcode.get(self.errno, str(self.errno)) if self.errno else "done"

    def differences(self, other: Outcome) -> Iterator[str]:
        """What is not the same in the other one."""
        if self.errno != other.errno:
            yield f"{self.answer}, not {other.answer}"
        yield from _unlike("block", self.blocks, other.blocks)
        yield from _unlike("zone", self.zones, other.zones)
        yield from _unlike("bank", self.banks, other.banks)
        yield from _unlike("policies", (self.policies,), (other.policies,))
        if not self._migrated_alike(other):
            yield f"{self.migrated} pages migrated, not {other.migrated}"

    def _migrated_alike(self, other: Outcome) -> bool:
        """Of an evacuation that was cancelled only too many tell: how far it came is a matter of the kernel's speed."""
        allowed = max(TOLERATED_PAGES, TOLERATED_SHARE * max(self.migrated, other.migrated))
        more = self.migrated - other.migrated
        cut_short = self.errno == errno.EINTR == other.errno
        return more <= allowed if cut_short else abs(more) <= allowed


def seen(now: Snapshot, code: int, migrated: int) -> Outcome:
    """The outcome of an operation that ended with ``code`` and left the machine as ``now``."""
    return Outcome(
        code,
        tuple((b.number, b.state.value, b.valid_zones) for b in now.blocks),
        tuple((z.node, z.zone, z.start_pfn, z.spanned, z.present) for z in sorted(now.zones, key=_place)),
        tuple((b.name, b.kernel.value) for b in now.banks),
        (now.auto_online, now.policy.online),
        migrated,
        now,
    )


def _place(zone: ZoneInfo) -> tuple[int, int]:
    return zone.node, zone.start_pfn


def _unlike(what: str, ours: tuple[tuple[object, ...], ...], theirs: tuple[tuple[object, ...], ...]) -> Iterator[str]:
    for one in ours:
        if one not in theirs:
            yield f"{what} {one}"
    for one in theirs:
        if one not in ours:
            yield f"{what} not {one}"
