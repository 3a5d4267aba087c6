# SPDX-License-Identifier: Apache-2.0
"""Who brought a block online: the kernel's policy, a rule of udev, hotbank, or nobody knows.

Nothing on a machine writes it down, so it is told by exclusion, and only where what is said fits the block's zone:
what hotbank's journal has of this boot; the kernel, which acts first where ``auto_online_blocks`` is not ``offline``
(mm/memory_hotplug.c, ``add_memory_resource``); a rule that acts on every added block. All else is unknown: a policy
that was changed since, a rule that may act, a hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hotbank.errors import Code, Finding
from hotbank.machine import Block, Snapshot
from hotbank.memory import BlockState, Online, Zone
from hotbank.operate.journal import Entry
from hotbank.operate.plan import Action


class By(StrEnum):
    """The four answers."""

    KERNEL = "kernel policy"
    UDEV = "udev rule"
    HOTBANK = "hotbank"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Onlined:
    """The answer. ``where``: the setting, or file and line, that says so."""

    by: By
    where: str = ""

    def __str__(self) -> str:
        return f"{self.by} ({self.where})" if self.where else self.by.value


def onlined_by(
    snapshot: Snapshot, block: Block, boot: bool | None, history: Iterable[Entry], findings: Iterable[Finding]
) -> Onlined | None:
    """Who brought the block online; None for one that is not online, or that was there at boot. ``boot``: of its
    survey; ``history``: the journal; ``findings``: what the doctor says of the machine."""
    if block.state is not BlockState.ONLINE or boot:
        return None
    if _ours(history, snapshot.boot_id, f"memory{block.number}"):
        return Onlined(By.HOTBANK, "its journal")
    if boot is None:
        return Onlined(By.UNKNOWN)
    if snapshot.auto_online != "offline":
        fits = _fits(snapshot.auto_online, block)
        return Onlined(By.KERNEL, f"auto_online_blocks is {snapshot.auto_online}") if fits else Onlined(By.UNKNOWN)
    rules = [finding for finding in findings if finding.code in _RULES]
    if len(rules) == 1 and rules[0].where and _fits(_RULES[rules[0].code], block):
        return Onlined(By.UDEV, rules[0].where)
    return Onlined(By.UNKNOWN)


_RULES = {"UDEV_ONLINE": Online.KERNEL, "UDEV_MOVABLE": Online.MOVABLE}
"""What the doctor calls udev's rules, and the zone that their blocks are in."""


def _ours(history: Iterable[Entry], boot_id: str, block: str) -> bool:
    """True if the last act on the block in this boot brought it online."""
    rows = [row for entry in history if entry.before.boot_id == boot_id for row in entry.rows if row.target == block]
    return bool(rows) and rows[-1].step == Action.ONLINE and rows[-1].code is Code.OK


def _fits(word: str, block: Block) -> bool:
    """True if a block that was put online with that word can be in the zone that it is in."""
    if word == Online.MOVABLE:
        return block.zone == Zone.MOVABLE
    return word != Online.KERNEL or block.zone != Zone.MOVABLE
