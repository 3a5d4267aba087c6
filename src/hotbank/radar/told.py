# SPDX-License-Identifier: Apache-2.0
"""Rules of which the kernel itself tells: by its tracing, by a file that is there, or by the names of its own parts.

Of a name nothing follows but that the part is in that kernel: where no guest can be brought to show what it does, that
is said in docs/radar.md.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from statistics import median

from hotbank import kernels
from hotbank.errors import Code, MachineError
from hotbank.memory import Kind, Online
from hotbank.model import Model
from hotbank.model.frames import Frame, Frames, MigrateType
from hotbank.model.hotplug import ADDING_FIRST
from hotbank.radar.guests import SMALL, Subject
from hotbank.sysfs import names

TRACING = "/sys/kernel/tracing"
_PROBE = "p:radar_chain blocking_notifier_call_chain chain=$arg1:x64"
_ENABLE = "events/kprobes/enable"
_CALLS = {4: "four", 6: "six"}
_ENOUGH = 32  # pages
_NONE, _THERE = "none", "there"
_LARGEST, _SMALLEST = "largest", "smallest"
_MODES = {"0": "off", "1": "on"}
_PIECE = 16  # pages
_PATIENCE = 60.0  # seconds: an empty block needs a moment, on a busy host many


def _tracing(subject: Subject) -> None:
    subject.run(f"test -e {TRACING}/trace || mount -t tracefs tracefs {TRACING}")


def _has(subject: Subject, function: str) -> bool:
    """Whether the kernel has a function of that name."""
    return bool(subject.run(f"grep -w {function} /proc/kallsyms; true"))


def _there(found: bool) -> str:
    return _THERE if found else _NONE


# Notifiers


def notifiers(subject: Subject) -> str:
    """How often notifiers of memory are called while a block comes online and goes."""
    subject.once(_tracing)
    subject.run(f"cd {TRACING} && echo '{_PROBE}' >kprobe_events && echo >trace && echo 1 >{_ENABLE}")
    subject.machine.online(SMALL[2], Online.MOVABLE)
    subject.machine.offline(SMALL[2], subject.machine.clock.now() + _PATIENCE)
    calls = _calls(subject.run(f"cd {TRACING} && cat trace && echo 0 >{_ENABLE} && echo >kprobe_events"))
    if calls not in _CALLS:
        raise MachineError(f"notifiers of memory were called {calls} times", code=Code.SYSTEM_ERROR)
    return _CALLS[calls]


def _calls(trace: str) -> int:
    """Of the chain that is called most often: no other has to do with memory, and not every kernel tells its name."""
    chains = Counter(re.findall(r"radar_chain: .* chain=(\w+)", trace))
    return max(chains.values(), default=0)


def modelled_notifiers(model: Model) -> str:
    """The same of a model."""
    calls = _heard(model)
    model.online(SMALL[2], Online.MOVABLE)
    model.offline(SMALL[2], model.clock.now() + _PATIENCE)
    return _CALLS.get(len(calls), str(len(calls)))


def _heard(model: Model) -> list[str]:
    calls = list[str]()

    def hear(action: str, _number: int) -> int:
        calls.append(action)
        return 0

    model.hotplug.notifiers.append(hear)
    return calls


def node_notifiers(subject: Subject) -> str:
    """Whether nodes have notifiers of their own."""
    return _there(_has(subject, "register_node_notifier"))


def modelled_node_notifiers(model: Model) -> str:
    """Of a model's block that is the first memory of its node."""
    calls = _heard(model)
    model.hotplug.blocks[SMALL[2]].node = 1
    model.online(SMALL[2], Online.MOVABLE)
    return _there(ADDING_FIRST in calls)


# Files and names


def movable_ops(subject: Subject) -> str:
    """How a page says that its driver moves it."""
    return "type" if _has(subject, "isolate_movable_ops_page") else "mapping"


def node_reclaim(subject: Subject) -> str:
    """Whether a node can be asked to free what it can spare."""
    return _there(subject.run(f"ls /{names.NODES}/node0").split().count("reclaim") == 1)


def defrag_mode(subject: Subject) -> str:
    """What is set, where there is something to set."""
    said = subject.run("cat /proc/sys/vm/defrag_mode 2>/dev/null; true").strip()
    return _MODES.get(said, _NONE)


def of_row(column: str, before: str, after: str) -> Callable[[str], str]:
    """The answer of a kernel's row, where the model has no part that the rule is about."""
    return lambda release: after if getattr(kernels.kernel(release), column) else before


# Fallbacks


def fallbacks(subject: Subject) -> str:
    """From which pieces of other pageblocks single pages of the kernel come."""
    subject.once(_tracing)
    said = subject.run(f"python3 -S -m hotbank.guest.fallbacks {TRACING} {_ENOUGH}")
    orders: list[int] = json.loads(said)["orders"]
    if len(orders) < _ENOUGH:
        raise MachineError(
            f"{len(orders)} pages came from other pageblocks, too few to tell",
            code=Code.SYSTEM_ERROR,
            remedy="ask once more",
        )
    return _LARGEST if median(orders) else _SMALLEST


def modelled_fallbacks(model: Model) -> str:
    """Of two pageblocks of movable pages the one has a large free piece, the other a small one."""
    frames, size = model.frames, model.frames.shape.pageblock
    zone = next(zone.number for zone in model.allocator.zones if zone.lowmem)
    taken = set(frames.alloc(zone, 0, MigrateType.MOVABLE, frames.free_pages(zone), Kind.ANON))
    movable = (start for start in range(0, frames.shape.frames, size) if _all_movable(frames, taken, start))
    one, other = next(movable), next(movable)
    frames.free([Frame(one + page) for page in range(_PIECE)])
    frames.free([Frame(other)])
    (got,) = frames.alloc(zone, 0, MigrateType.UNMOVABLE, 1, Kind.KERNEL)
    return _SMALLEST if got == other else _LARGEST


def _all_movable(frames: Frames, taken: set[Frame], start: int) -> bool:
    whole = all(frame in taken for frame in range(start, start + frames.shape.pageblock))
    return whole and frames.migratetype(Frame(start)) == MigrateType.MOVABLE
