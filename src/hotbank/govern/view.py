# SPDX-License-Identifier: Apache-2.0
"""What a governor looks at: one cheap look at a machine, no page walked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Group:
    """Banks that go dark as one: those of a power domain.

    ``size`` in bytes. ``dark``: none of it is in use: it is out of the kernel, or stands by. ``cost``: seconds of
    darkness that pay for leaving and coming back now (see energy/ledger.py, ``break_even``); infinite where being dark
    saves nothing. ``online``: bytes of it that are, where some are and some are not; None where all are, or none is.
    """

    name: str
    size: int
    dark: bool = False
    cost: float = 0.0
    online: int | None = None

    @property
    def inside(self) -> int:
        """Bytes that the kernel manages."""
        if self.online is not None:
            return self.online
        return 0 if self.dark else self.size


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel's own memory, which lies in its zones alone. Bytes: ``used`` of it, and ``room`` for more, once what
    is clean has been dropped there; what is lent is none."""

    used: int
    room: int


@dataclass(frozen=True)
class View:
    """One look. Bytes; ``at`` in seconds on the machine's clock.

    ``fixed``: what the kernel manages outside the groups. ``used``: what is in use and could not be dropped: managed
    memory less free pages and clean page cache. ``refaulted``: page cache that had to be read again since the last
    look. ``pressed``: tasks wait for memory (/proc/pressure/memory); None where nobody can tell. ``lent``: free, and
    yet not for the kernel itself, so that no bank can come back by it. ``kernel``: its own zones; None where nobody can
    tell.
    """

    at: float
    fixed: int
    groups: tuple[Group, ...]
    used: int
    refaulted: int = 0
    pressed: bool | None = None
    lent: int = 0
    kernel: Kernel | None = None

    @cached_property
    def total(self) -> int:
        """All memory, were nothing dark."""
        return self.fixed + sum(group.size for group in self.groups)

    @cached_property
    def supply(self) -> int:
        """Memory in the kernel."""
        return self.fixed + sum(group.inside for group in self.groups)

    @cached_property
    def dark(self) -> frozenset[str]:
        """Names of the groups that are out."""
        return frozenset(group.name for group in self.groups if group.dark)

    @cached_property
    def less(self) -> frozenset[str]:
        """Names of the groups of which anything is out."""
        return frozenset(group.name for group in self.groups if group.inside < group.size)
