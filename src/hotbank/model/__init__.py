# SPDX-License-Identifier: Apache-2.0
"""The simulated kernel: its memory management in Python, behind the Machine protocol. Start at ``Model``.

named.py       a model by name: a board's, or a captured machine's
machine.py     ``Model``: primitives, routes, power and the interlock above it
view.py        what can be seen of it
syscalls.py    what a workload calls
parts.py       what these three share, put together
boot.py        from a prediction to a running allocator
resume.py      from a captured machine to one
capture.py     a machine page by page, in a file
hotplug.py     memory blocks: online, offline, add, remove
zoning.py      the zone that each way of onlining gives
nodes.py       a NUMA node emptied as a whole
tasks.py       processes, page cache, kernel caches, pins
lru.py         clean page cache, zone by zone, the oldest first
contents.py    what pages hold, wherever they lie
hugepages.py   the pool of huge pages
migrate.py     one pass of migration
alloc.py       zones, watermarks, reclaim
frames.py      the interface of page frames
reference.py   it in plain Python; the package ``compiled`` has it in arrays
backend.py     which of them
geometry.py    memory blocks packed into frames
clock.py       simulated time, and what work costs
validate.py    every invariant
"""

from __future__ import annotations

from hotbank.model.clock import SimClock, WallClock
from hotbank.model.machine import Model

__all__ = ["Model", "SimClock", "WallClock"]
