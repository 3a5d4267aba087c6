# SPDX-License-Identifier: Apache-2.0
"""A NUMA node that is emptied as a whole: page cache dropped, and processes moved to other nodes.

Models mm/vmscan.c, ``user_proactive_reclaim`` (nodeX/reclaim, 6.17), and mm/mempolicy.c, ``do_migrate_pages``: a
process at a time, of which every page that it has mapped is tried, those that others map too; a signal is looked at
between two processes. The model's processes have no memory policy and map no files.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hotbank.model.migrate import target_class
from hotbank.model.parts import Parts


class Node:
    """One of them, by its number."""

    def __init__(self, parts: Parts, number: int) -> None:
        self._parts, self.number = parts, number
        self._zones = {zone.number: zone for zone in parts.allocator.zones if zone.node == number}

    def drop(self, pages: int) -> int:
        """So many pages of clean cache, the oldest first; how many there were."""
        if not self._parts.rules.kernel.reclaims_nodes:
            return 0
        with self._parts.lock:
            return self._parts.tasks.reclaim(frozenset(self._zones), pages)

    def processes(self) -> list[int]:
        """Their ids, those with the most pages first."""
        with self._parts.lock:
            return sorted(self._parts.tasks.processes, key=lambda pid: -self._parts.tasks.processes[pid].rss)

    def move(self, pid: int) -> int:
        """What the process has there, to the other node with the most free pages and, beyond these, to others; how many
        pages moved. It may have ended."""
        parts, moved = self._parts, 0
        with parts.lock:
            for zone, frames in self._here(pid).items():
                gfp = replace(target_class(self._zones[zone], away=True), node=self._roomiest())
                moved += parts.hotplug.migration.migrate(frames, gfp).moved
        parts.clock.sleep(moved * parts.costs.migrate_page)
        return moved

    def _roomiest(self) -> int:
        free = Counter[int]()
        for zone in self._parts.allocator.zones:
            if zone.managed and zone.number not in self._zones:
                free[zone.node] += self._parts.frames.free_pages(zone.number)
        return max(sorted(free), key=lambda node: free[node], default=self.number)

    def _here(self, pid: int) -> dict[int, list[int]]:
        """Frames of the process on this node, by their zone."""
        process, found = self._parts.tasks.processes.get(pid), dict[int, list[int]]()
        mapped = [] if process is None else [*process.pages, *(h for s in process.segments for h in s.pages)]
        for frame in self._parts.contents.frames(mapped):
            zone = self._parts.frames.zone(frame)
            if zone in self._zones:
                found.setdefault(zone, []).append(frame)
        return found
