# SPDX-License-Identifier: Apache-2.0
"""What a governor tells of itself: values that cross a wire and lie in files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hotbank.documents import SCHEMA
from hotbank.govern.guard import Outcome, State
from hotbank.wire import encode


@dataclass(frozen=True, slots=True)
class Standing:
    """One group: the ``banks`` of a power domain, of ``size`` bytes together. ``ours``: it was taken by the governor.

    ``why``: what keeps it in, or from being dark; empty where it is.
    """

    group: str
    banks: tuple[str, ...]
    size: int
    dark: bool
    ours: bool
    why: str


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done with a group, why, and what came of it."""

    group: str
    dark: bool
    why: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Status:
    """One look. ``at``: seconds since 1970. ``who``: a word that no other governor has; ``pid``: its process, on
    whatever machine. It looks every ``period`` seconds; 0: it has ended.

    ``dry``: it decides and does nothing. Bytes: ``used`` could not be dropped, ``supply`` is in the kernel, ``keep`` is
    what the policy wishes to be there, and ``wish`` why. ``blind``: why nothing could be seen; then the numbers are 0.
    ``state``: what another governor goes on from; its moments are of the machine's clock in the boot ``boot_id``.
    """

    at: float
    policy: str
    who: str
    pid: int
    period: float
    dry: bool
    used: int
    supply: int
    keep: int
    wish: str
    groups: tuple[Standing, ...]
    deeds: tuple[Deed, ...]
    blind: str
    state: State
    boot_id: str | None


@dataclass(frozen=True, slots=True)
class Orders:
    """What those who may change have said to a governor. ``paused``: why it takes nothing; empty where it may.
    ``resumes``: how often it was told to go on."""

    paused: str = ""
    resumes: int = 0


@dataclass(frozen=True, slots=True)
class Governed:
    """What is known of a machine's governor: its last look, what it was told, and whether it is still there."""

    status: Status | None
    orders: Orders
    alive: bool

    @property
    def paused(self) -> str:
        """Why it takes nothing; empty where it may."""
        return self.orders.paused or (self.status.state.paused if self.status is not None else "")

    def document(self, machine: str) -> dict[str, Any]:
        """The JSON of ``hotbank auto status``."""
        told = self.status
        return {
            "schema": SCHEMA["auto"],
            "machine": machine,
            "governed": self.alive,
            "paused": self.paused or None,
            "status": None if told is None else {k: v for k, v in encode(told).items() if k != "state"},
        }
