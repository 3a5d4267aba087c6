# SPDX-License-Identifier: Apache-2.0
"""One Linux instance as files below a root, and what they say about its memory blocks, zones and settings.

How each file reads is in hotbank.sysfs. Nothing is written here, and what is missing reads as None or as nothing,
never as a guess: what can't be looked at for a reason of ours or the system's (no descriptor, no memory, EIO) is not
missing, and raises MachineError. A captured tree is somebody's files: only regular ones are opened, and none is read
without end.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TypeVar

from hotbank import kernels
from hotbank.errors import Code, FormatError, MachineError
from hotbank.kernels import Kernel
from hotbank.machine import Block, OnlinePolicy, Pressure, ZoneInfo
from hotbank.memory import GIB, KIB, BlockState, Range
from hotbank.regular import open_regular, read_open
from hotbank.sysfs import block as block_files
from hotbank.sysfs import buddyinfo, meminfo, names, parameters, uname, vmstat, zoneinfo
from hotbank.sysfs.form import Form
from hotbank.sysfs.parameters import MemmapOnMemory
from hotbank.sysfs.pressure import PRESSURE

PAGE_SIZES = (4 * KIB, 16 * KIB, 64 * KIB)
_ATTRIBUTE, _LONGEST = 4 * KIB, 16 << 20  # bytes; a file of sysfs has no more than the first
_LARGEST_BLOCK = 64 * GIB
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG})
T = TypeVar("T")


class Tree:
    """Files below ``root``. Names are relative: ``proc/iomem``."""

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self.root = os.fspath(root)

    @property
    def running(self) -> bool:
        """True for the system that runs this program, False for a captured tree."""
        return os.path.realpath(self.root) == "/"

    def path(self, name: str) -> str:
        """The file's path in this program's own file system."""
        return os.path.join(self.root, name)

    def read(self, name: str) -> str | None:
        """The file's text without surrounding white space; None where it is missing, not readable or endless."""
        raw = self.read_bytes(name)
        return None if raw is None else raw.decode("utf-8", "replace").strip()

    def read_bytes(self, name: str) -> bytes | None:
        """The file's content; None where it is missing, not readable, no regular file, or endless."""
        return read_file(self.path(name))

    def value(self, name: str, form: Form[T]) -> T | None:
        """What the file says, None where it says nothing of that form."""
        raw = self.read_bytes(name)
        with suppress(FormatError):
            return None if raw is None else form.parse(raw.decode("utf-8", "replace"))
        return None

    def open(self, name: str) -> int | None:
        """A descriptor to read the file with; None where it is missing, not readable or no regular file."""
        return open_file(self.path(name))

    def may_write(self, name: str) -> bool:
        """Whether this user may write to the file."""
        return os.access(self.path(name), os.W_OK)

    def names(self, name: str) -> list[str]:
        """What is in a folder, sorted; nothing where there is no such folder, or not for this user."""
        return sorted(_entries(self.path(name)))


def kernel_of(tree: Tree) -> Kernel | None:
    """What the table knows of its kernel; None where the tree names none, or an older one."""
    return kernels.row_of(tree.read(names.OSRELEASE) or "")


def may_change(tree: Tree, blocks: Sequence[Block]) -> bool:
    """Whether this user may take memory blocks offline and online; of a machine without blocks nobody can."""
    return not blocks or tree.may_write(names.block(blocks[0].number, "state"))


def open_file(path: str, folder: int | None = None) -> int | None:
    """A descriptor of a regular file, to be read; None where there is none to be had. ``folder``: an open one that the
    path is relative to."""
    try:
        return open_regular(path, folder=folder)
    except OSError as e:
        if e.errno in _EXHAUSTED:
            raise _unseen(path, e) from e
        return None


def read_file(path: str, folder: int | None = None) -> bytes | None:
    """The content of a regular file that has an end. None and ``folder`` as in ``open_file``."""
    file = open_file(path, folder)
    if file is None:
        return None
    try:
        return read_open(file, _LONGEST, first=_ATTRIBUTE)
    except OSError:
        return None
    finally:
        os.close(file)


def block_size(tree: Tree) -> int:
    """Bytes in a memory block. Raises MachineError where the kernel shows no memory blocks."""
    size = tree.value(names.BLOCK_SIZE, block_files.BLOCK_SIZE)
    if not size or size > _LARGEST_BLOCK:
        raise _no_blocks(tree)
    return size


def block_numbers(tree: Tree) -> list[int]:
    """Numbers of the memory blocks, ascending; they need not start at 0 and may have gaps. Raises MachineError where
    there are none: no kernel runs without memory, and who believes it would switch off what is in use."""
    found = _numbers(tree, names.MEMORY, names.block_number)
    if not found:
        raise _no_blocks(tree)
    return found


def _numbers(tree: Tree, folder: str, number_of: Callable[[str], int | None]) -> list[int]:
    entries = _entries(tree.path(folder))
    return sorted(number for name in entries if (number := number_of(name)) is not None)


def _entries(path: str) -> list[str]:
    """What is in the folder; nothing where there is none. Raises MachineError where that can't be told."""
    try:
        return os.listdir(path)
    except OSError as e:
        if e.errno in _NO_FOLDER:
            return []
        raise _unseen(path, e) from e


def _unseen(path: str, error: OSError) -> MachineError:
    return MachineError(f"{path} can't be looked at: {error.strerror}", code=Code.SYSTEM_ERROR)


def _no_blocks(tree: Tree) -> MachineError:
    help_ = "the kernel needs CONFIG_MEMORY_HOTPLUG=y, and sysfs must be mounted"
    return MachineError(f"{tree.path(names.MEMORY)} shows no memory blocks", code=Code.UNSUPPORTED, remedy=help_)


def blocks(tree: Tree, size: int) -> tuple[Block, ...]:
    """Every memory block, as sysfs describes it: two files of each. One that leaves while we look is left out."""
    numbers = block_numbers(tree)
    nodes = _nodes(tree, numbers)
    with _opened(tree.path(names.MEMORY)) as folder:
        found = (_listed(tree, folder, number, size, nodes.get(number)) for number in numbers)
        return tuple(block for block in found if block is not None)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise _unseen(path, e) from e
    try:
        yield folder
    finally:
        os.close(folder)


def _listed(tree: Tree, folder: int, number: int, size: int, node: int | None) -> Block | None:
    """One block of a listing, None if it has left meanwhile."""
    state = _state_of(read_file(f"memory{number}/state", folder))
    if state is None:
        if os.path.isdir(tree.path(names.block(number))):
            raise _no_state(tree, number)
        return None
    zones = _zones_of(read_file(f"memory{number}/valid_zones", folder))
    return Block(number, Range(number * size, (number + 1) * size), state, zones, node)


@lru_cache(maxsize=64)
def _state_of(raw: bytes | None) -> BlockState | None:
    with suppress(FormatError):
        return None if raw is None else block_files.STATE.parse(raw.decode("utf-8", "replace"))
    return None


@lru_cache(maxsize=64)
def _zones_of(raw: bytes | None) -> tuple[str, ...]:
    return block_files.VALID_ZONES.parse((raw or b"").decode("utf-8", "replace"))


def _nodes(tree: Tree, numbers: Iterable[int]) -> Mapping[int, int]:
    """The node of each block by the links of the nodes; by those of the blocks in a captured tree without the others.
    A block on two nodes is on the lower one."""
    found: dict[int, int] = {}
    for node_number in reversed(_numbers(tree, names.NODES, names.node_number)):
        below = _numbers(tree, names.node(node_number), names.block_number)
        found |= dict.fromkeys(below, node_number)
    if found:
        return found
    own = ((number, node(tree, number)) for number in numbers)
    return {number: at for number, at in own if at is not None}


def block(tree: Tree, number: int, size: int) -> Block:
    """One memory block that exists."""
    zones = tree.value(names.block(number, "valid_zones"), block_files.VALID_ZONES)
    span = Range.sized(number * size, size)
    return Block(number, span, state(tree, number), zones or (), node(tree, number))


def state(tree: Tree, number: int) -> BlockState:
    """What ``memoryN/state`` reads. Raises MachineError when it is unreadable or an unknown word."""
    found = tree.value(names.block(number, "state"), block_files.STATE)
    if found is None:
        raise _no_state(tree, number)
    return found


def _no_state(tree: Tree, number: int) -> MachineError:
    name = names.block(number, "state")
    return MachineError(
        f"{tree.path(name)} reads {tree.read(name)!r}, which is no state of a memory block", code=Code.BAD_FORMAT
    )


def node(tree: Tree, number: int) -> int | None:
    """The NUMA node that ``memoryN`` links to; None without NUMA, and where the link is missing."""
    return next(iter(_numbers(tree, names.block(number), names.node_number)), None)


def zones(tree: Tree) -> tuple[ZoneInfo, ...]:
    """The populated zones of /proc/zoneinfo; nothing where it can't be read."""
    return tree.value(names.ZONEINFO, zoneinfo.ZONES) or ()


def buddies(tree: Tree, node: int | None, zone: str | None) -> tuple[int, ...]:
    """Free blocks of the zone by order; nothing where that can't be read, or the zone is not known."""
    orders = tree.value(names.BUDDYINFO, buddyinfo.BUDDYINFO) or {}
    return next((counts for (n, z), counts in orders.items() if z == zone and node in (None, n)), ())


def cma_pages(tree: Tree) -> Iterator[tuple[int, str, int]]:
    """Node, zone and number of pages of each zone that lends some to CMA."""
    text = tree.read(names.ZONEINFO) or ""
    for zone in zoneinfo.printed(text) if zoneinfo.lends(text) else ():
        if zone.fields.get("cma"):
            yield zone.node, zone.zone, zone.fields["cma"]


def counters(tree: Tree) -> Mapping[str, int]:
    """/proc/vmstat; nothing where it can't be read."""
    return tree.value(names.VMSTAT, vmstat.COUNTERS) or {}


def pressure(tree: Tree) -> Pressure | None:
    """/proc/pressure/memory; None without CONFIG_PSI or with psi=0."""
    return tree.value(names.PRESSURE, PRESSURE)


def page_size(tree: Tree) -> int | None:
    """Bytes in a page; of a captured tree as its own counters tell, None when they tell nothing.

    MemTotal counts the managed pages of all zones (mm/show_mem.c, ``si_meminfo``). Without meminfo, the online
    blocks hold the present pages, up to holes that are much smaller than the factor 4 between page sizes.
    """
    if tree.running:
        return os.sysconf("SC_PAGE_SIZE")
    populated = zones(tree)
    total = (tree.value(names.MEMINFO, meminfo.LINES) or {}).get("MemTotal")
    if total:
        return _nearest(total * KIB, sum(z.managed for z in populated))
    size = block_size(tree)
    online = sum(size for n in block_numbers(tree) if state(tree, n) is not BlockState.OFFLINE)
    return _nearest(online, sum(z.present for z in populated))


def _nearest(size: int, pages: int) -> int | None:
    """The page size that comes closest, as a factor, to making ``pages`` out of ``size`` bytes."""
    if not size or not pages:
        return None
    return min(PAGE_SIZES, key=lambda unit: max(unit * pages / size, size / (unit * pages)))


def arch(tree: Tree) -> str | None:
    """The architecture by the kernel's directory name where hotbank knows it (``arm64``, ``arm``), else as uname."""
    machine = os.uname().machine if tree.running else tree.read(names.ARCH)
    return uname.ARCH.parse(machine) if machine else None


def policy(tree: Tree, arch: str | None) -> OnlinePolicy:
    """How zones are chosen for blocks that come online; the kernel's defaults where it does not say."""
    usual, folder = OnlinePolicy(), names.PARAMETERS
    ratio = tree.value(f"{folder}/auto_movable_ratio", parameters.AUTO_MOVABLE_RATIO)
    memmap = tree.value(f"{folder}/memmap_on_memory", parameters.MEMMAP_ON_MEMORY)
    words = (tree.read(names.CMDLINE) or "").split()
    return OnlinePolicy(
        online=tree.read(f"{folder}/online_policy") or usual.online,
        ratio=usual.ratio if ratio is None else ratio,
        movable_node=kernels.movable_node(
            kernels.arch(arch),
            word="movable_node" in words,
            marked=any(word.startswith("movablemem=") for word in words),
        ),
        memmap_on_memory=memmap in (MemmapOnMemory.YES, MemmapOnMemory.FORCE),
    )
