# SPDX-License-Identifier: Apache-2.0
"""Each rule as a small experiment, on a guest and on the model of its kernel's row; both answer with one word.

The guest (guests.py) has memory that was there at boot, a DIMM of 1 GiB that the kernel maps by one leaf, and a smaller
one; all blocks of both are offline at first. What several experiments start from is made by the first of them. On the
model each has a machine of its own.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hotbank.board import Board, loads
from hotbank.errors import Code, KernelError, MachineError
from hotbank.machine import Machine
from hotbank.memory import Kind, Online, Zone
from hotbank.model import Model
from hotbank.model.frames import MigrateType
from hotbank.radar import told
from hotbank.radar.guests import BOARD, FOLDER, LARGE, LIMIT, SMALL, Subject
from hotbank.routes import ROUTES

_CMDLINE = "memhp_default_state=offline movablecore=512M"
_TELLING, _PAGEBLOCK = 3, 512  # pageblocks of the kernel, the lowest of them empty
_BUSY = 60.0  # seconds: an empty block needs a moment, on a busy host many; only one that never leaves needs all
_GRACE = 2  # seconds: until inodes that are gone are (call_rcu in fs/inode.c)
_FEW = 100  # pages: fewer empty slabs tell nothing
_SMALLEST = 128  # pages: mm/page_alloc.c, __setup_per_zone_wmarks, what is clamped so is no share
_SIGNAL, _LEAVES = "signal", "leaves"
_ANSWERS = {"EINTR": _SIGNAL, "done": _LEAVES}


@dataclass(frozen=True, slots=True)
class Rule:
    """``column``: of the table of kernels, empty for what no kernel is known to do otherwise."""

    name: str
    column: str
    asks: str
    real: Callable[[Subject], str]
    modelled: Callable[[str], str]


def offline(machine: Machine, block: int, seconds: float = LIMIT) -> str:
    """``leaves``, ``signal`` where the kernel would go on, or the errno's name."""
    try:
        machine.offline(block, machine.clock.now() + seconds)
    except KernelError as e:
        return _answer(errno.errorcode[e.errno])
    return _LEAVES


def _answer(word: str) -> str:
    return _ANSWERS.get(word, word)


# On a guest


def _boot_memory(subject: Subject) -> str:
    return offline(subject.machine, _of_boot(subject.machine), _BUSY)


def _of_boot(machine: Machine) -> int:
    """A block that was there at boot, and in which nothing stands in the way."""
    there = (block for block in machine.snapshot().blocks if block.number < LARGE.start)
    found = next((block.number for block in there if block.zone == Zone.MOVABLE), None)
    if found is None:
        raise MachineError("no block that was there at boot is in Movable", code=Code.UNSUPPORTED)
    return found


def _leaf(subject: Subject) -> str:
    subject.machine.online(LARGE[1], Online.MOVABLE)
    return offline(subject.machine, LARGE[1], _BUSY)


def _neighbours(subject: Subject) -> None:
    """Two blocks in Movable, and one between them that is offline."""
    for number in (SMALL[1], SMALL[3]):
        subject.machine.online(number, Online.MOVABLE)


def _plain_online(subject: Subject) -> str:
    subject.once(_neighbours)
    block = subject.machine.snapshot().block(SMALL[2])
    return block.valid_zones[0] if block is not None else "none"


def _movable_min(subject: Subject) -> str:
    subject.once(_neighbours)
    return _share(subject.machine)


def _share(machine: Machine) -> str:
    least = next((zone.min for zone in machine.snapshot().zones if zone.zone == Zone.MOVABLE), None)
    if least is None:
        raise MachineError("it has no zone Movable", code=Code.UNSUPPORTED)
    return "least" if least <= _SMALLEST else "share"


def _slab_caches(subject: Subject) -> str:
    """What the offline of an empty block frees of slabs, against what is left to be freed by hand. Caches are told to
    keep what they can of empty slabs."""
    subject.once(_neighbours)
    subject.run("for cache in /sys/kernel/slab/*/min_partial; do echo 10000 >$cache; done 2>/dev/null; true")
    subject.run(f"for i in $(seq 2000); do : >{FOLDER}/x$i; done; rm {FOLDER}/x*; sleep {_GRACE}")
    before = subject.slab_pages()
    if (answer := offline(subject.machine, SMALL[3], _BUSY)) != _LEAVES:
        raise MachineError(f"an empty block did not leave: {answer}", code=Code.KERNEL_REFUSED)
    after = subject.slab_pages()
    subject.shrink_slabs()
    least = subject.slab_pages()
    if before - least < _FEW:
        raise _no_telling(f"{before - least} pages of empty slabs are too few to tell")
    return "shrunk" if before - after > after - least else "kept"


def _no_telling(why: str) -> MachineError:
    """Of an experiment that came out so that both answers could be behind it."""
    return MachineError(why, code=Code.SYSTEM_ERROR, remedy="ask once more")


def _types(subject: Subject) -> str:
    """How many pageblocks are the kernel's, before and after an offline that fails."""
    found = subject.slabs
    if found["before"] < _TELLING or found["empty"] < _PAGEBLOCK or found["first"] == "done":
        raise _no_telling(f"{found['before']} pageblocks of the kernel, {found['empty']} pages below what stays")
    return "kept" if found["after"] == found["before"] else "Movable"


def _frozen(subject: Subject) -> str:
    """Nothing but slabs of one page is in the block's way: who goes round has isolated all of it, so that only an errno
    may be about something else."""
    answer, stays = _answer(subject.slabs["again"]), dict(subject.slabs["single"])
    if not stays.pop("single") or (stays and answer != _SIGNAL):
        others = ", ".join(f"{n} {kind}" for kind, n in stays.items())
        raise _no_telling(f"{answer}, but there are other pages than slabs of one: {others}")
    return answer


def _compound(subject: Subject) -> str:
    if not subject.slabs["large"].get(Kind.SLAB):
        raise _no_telling("no slab of several pages came into the block")
    return _answer(subject.slabs["last"])


# On a model


def _board() -> Board:
    """The guest's board, described by a device tree, which the model boots from; banks come by any route that lets them
    into every zone, as DIMMs do."""
    made, way = loads(BOARD), next(way for way in ROUTES.values() if way.enters and not way.movable_only)
    banks = tuple(bank if bank.at_boot else replace(bank, route=way.name) for bank in made.banks)
    return replace(made, describe="dtb", banks=banks)


def _model(release: str) -> Model:
    model = Model.boot(_board(), kernel=release, cmdline=_CMDLINE, backend="reference")
    for bank in model.board.banks:
        if not bank.at_boot:
            model.add(bank.name)
    return model


def _modelled_boot_memory(release: str) -> str:
    model = _model(release)
    return offline(model, _of_boot(model))


def _modelled_leaf(release: str) -> str:
    model = _model(release)
    model.online(LARGE[1], Online.MOVABLE)
    model.hotplug.blocks[LARGE[1]].leaf = "linear map"
    return offline(model, LARGE[1])


def _modelled_plain_online(release: str) -> str:
    model = _model(release)
    for number in (SMALL[1], SMALL[3]):
        model.online(number, Online.MOVABLE)
    block = model.snapshot().block(SMALL[2])
    return block.valid_zones[0] if block is not None else "none"


def _modelled_movable_min(release: str) -> str:
    model = _model(release)
    for number in SMALL[1:]:
        model.online(number, Online.MOVABLE)
    return _share(model)


def _modelled_slab_caches(release: str) -> str:
    model = _model(release)
    model.online(SMALL[3], Online.MOVABLE)
    model.tasks.kernel_alloc("files", 100, kind=Kind.SLAB, single=True)
    model.tasks.empty_slabs("files")
    offline(model, SMALL[3])
    return "kept" if "files" in model.tasks.caches else "shrunk"


def _filled(release: str, *, single: bool) -> Model:
    """The first pageblock empty again, slabs in the second."""
    model = _model(release)
    model.online(SMALL[0], Online.KERNEL)
    model.tasks.kernel_alloc("gone", model.frames.shape.pageblock, kind=Kind.SLAB)
    model.tasks.kernel_alloc("kept", 100, kind=Kind.SLAB, single=single)
    model.tasks.kernel_free("gone")
    return model


def _modelled_types(release: str) -> str:
    model = _filled(release, single=True)
    start, _ = model.geometry.frames(SMALL[0])
    offline(model, SMALL[0])
    return "Movable" if model.frames.migratetype(start) == MigrateType.MOVABLE else "kept"


def _modelled_frozen(release: str) -> str:
    return offline(_filled(release, single=True), SMALL[0])


def _modelled_compound(release: str) -> str:
    return offline(_filled(release, single=False), SMALL[0])


_ALL = (
    Rule("boot-memory", "", "boot memory of arm64, offline", _boot_memory, _modelled_boot_memory),
    Rule("leaf", "vetoes_leaf", "a block inside a leaf of the linear map, offline", _leaf, _modelled_leaf),
    Rule("plain-online", "", "online between Movable neighbours: the zone", _plain_online, _modelled_plain_online),
    Rule("movable-min", "movable_keeps_less", "what Movable keeps free", _movable_min, _modelled_movable_min),
    Rule("slab-caches", "keeps_slab", "empty slabs at an offline", _slab_caches, _modelled_slab_caches),
    Rule("types", "keeps_types", "pageblocks of the kernel after an offline that fails", _types, _modelled_types),
    Rule("frozen-slab", "frozen_slab", "a block with slabs of one page, offline", _frozen, _modelled_frozen),
    Rule("compound-slab", "", "a block with larger slabs, offline", _compound, _modelled_compound),
    Rule(
        "memory-notifiers",
        "prepares_blocks",
        "calls of memory notifiers, online and offline",
        told.notifiers,
        lambda release: told.modelled_notifiers(_model(release)),
    ),
    Rule(
        "node-notifiers",
        "tells_nodes",
        "notifiers of nodes",
        told.node_notifiers,
        lambda release: told.modelled_node_notifiers(_model(release)),
    ),
    Rule(
        "movable-ops",
        "movable_by_type",
        "how a page says that its driver moves it",
        told.movable_ops,
        told.of_row("movable_by_type", "mapping", "type"),
    ),
    Rule(
        "node-reclaim",
        "reclaims_nodes",
        "a node's own file for reclaim",
        told.node_reclaim,
        told.of_row("reclaims_nodes", "none", "there"),
    ),
    Rule(
        "defrag-mode",
        "has_defrag_mode",
        "vm.defrag_mode",
        told.defrag_mode,
        told.of_row("has_defrag_mode", "none", "off"),
    ),
    Rule(
        "page-fallback",
        "steals_smallest",
        "where a page of the kernel comes from between movable ones",
        told.fallbacks,
        lambda release: told.modelled_fallbacks(_model(release)),
    ),
)
RULES: Mapping[str, Rule] = {rule.name: rule for rule in _ALL}
"""By name, in the order in which a guest is asked."""
