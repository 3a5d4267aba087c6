# SPDX-License-Identifier: Apache-2.0
"""The parts of one simulated machine, put together: frames, zones, pages, users, memory blocks, power."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Mapping

from hotbank.board import Board
from hotbank.gate import Switch
from hotbank.memory import Power
from hotbank.model.alloc import PageAllocator
from hotbank.model.backend import new_frames
from hotbank.model.boot import BootSource
from hotbank.model.clock import Costs, ModelClock, SimClock
from hotbank.model.contents import PageContents
from hotbank.model.frames import Frames
from hotbank.model.hotplug import MemoryHotplug
from hotbank.model.migrate import Migration
from hotbank.model.tasks import Tasks
from hotbank.routes import route


class _Relief:
    """Users of memory give it back; migration makes room of what is scattered."""

    def __init__(self, tasks: Tasks, migration: Migration) -> None:
        self.reclaim, self.kill, self.compact = tasks.reclaim, tasks.kill, migration.compact


class Parts:
    """What machine.py, view.py and syscalls.py share. ``lock`` guards all of it.

    ``power``: domain → state; ``switches``: of the domains that something real switches; ``stuck``: banks whose driver
    let go of them; ``auto_online``: the content of ``auto_online_blocks``.
    """

    def __init__(
        self,
        board: Board,
        source: BootSource,
        *,
        clock: ModelClock | None,
        costs: Costs | None,
        seed: int,
        boot_id: str | None,
        backend: str | None,
        switches: Mapping[str, Switch],
    ) -> None:
        self.board, self.arch = board, source.arch
        self.rules, self.geometry, self.auto_online = source.rules, source.geometry, source.auto_online
        self.clock: ModelClock = clock or SimClock()
        self.costs = costs or Costs()
        self.lock = threading.RLock()
        self.boot_id = boot_id or str(uuid.UUID(int=random.Random(seed).getrandbits(128), version=4))
        self.power = {domain.name: Power.ON for domain in board.domains}
        self.switches = switches
        self.stuck: set[str] = set()
        self.frames: Frames = new_frames(source.geometry.shape, backend)
        self.allocator = PageAllocator(self.frames)
        self.contents = PageContents(self.frames)
        self.tasks = Tasks(self.allocator, self.contents)
        self.hotplug = self._memory_blocks()
        self.allocator.relief = _Relief(self.tasks, self.hotplug.migration)
        self.hotplug.blocks.update(source.fill(self.allocator, self.tasks))

    def power_of(self, domain: str) -> Power:
        """What the domain's switch says. Raises SwitchError."""
        real = self.switches.get(domain)
        return self.power[domain] if real is None else real.status()

    @property
    def name(self) -> str:
        """What the machine calls itself."""
        return f"model:{self.board.name}"

    def _memory_blocks(self) -> MemoryHotplug:
        hotplug = MemoryHotplug(
            self.geometry,
            self.allocator,
            self.contents,
            self.tasks,
            self.rules,
            clock=self.clock,
            costs=self.costs,
            lock=self.lock,
        )
        kept = (self.board.blocks(bank) for bank in self.board.banks if route(bank.route).movable_only)
        hotplug.movable_only_blocks = frozenset(number for numbers in kept for number in numbers)
        return hotplug
