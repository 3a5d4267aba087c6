# SPDX-License-Identifier: Apache-2.0
"""One Linux instance as files below a root: what sysfs and procfs say about its memory.

Truth: drivers/base/memory.c (memory blocks), drivers/base/node.c (node links), mm/vmstat.c
(``zoneinfo_show_print``), kernel/resource.c (``r_show``, /proc/iomem), drivers/firmware/memmap.c.
Nothing is written here, and what is missing reads as None or as nothing, never as a guess.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from hotbank import kernels
from hotbank.errors import MachineError
from hotbank.machine import Block, Migrated, OnlinePolicy, Pressure, ZoneInfo
from hotbank.memory import GIB, KIB, MIB, BlockState, Range, Zone, merge

MEMORY = "sys/devices/system/memory"
PARAMETERS = "sys/module/memory_hotplug/parameters"
PAGE_SIZES = (4 * KIB, 16 * KIB, 64 * KIB)
_READ, _LONGEST = 64 * KIB, 16 * MIB
_LARGEST_BLOCK = 64 * GIB
_DIGITS = {10: frozenset("0123456789"), 16: frozenset("0123456789abcdef")}
_ZONE_NEEDS = frozenset({"spanned", "present", "managed", "free", "min", "low", "high"})

_BLOCK = re.compile(r"memory([0-9]+)")
_NODE = re.compile(r"node([0-9]+)")
_ZONE = re.compile(r"^Node +(\d+), zone +(\S+)$", re.MULTILINE)
_FIELD = re.compile(r"^\s+(?:pages )?(\w+):? +(\d+)$", re.MULTILINE)
_PROTECTION = re.compile(
    r"^Node +(\d+), zone +(\S+)$(?:\n(?!Node ).*)*?\n +protection: \((\d+(?:, \d+)*)\)$", re.MULTILINE
)
_RESOURCE = re.compile(r"^ *([0-9a-f]+)-([0-9a-f]+) : (System RAM(?: \((.*)\))?)$", re.MULTILINE)
_REFAULTS = ("workingset_refault_anon", "workingset_refault_file")
_PRESSURE = re.compile(r"^(some|full) avg10=(\d+\.\d+) .*total=(\d+)$", re.MULTILINE)
_HIGH = frozenset({Zone.HIGHMEM, Zone.MOVABLE})


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
        """The file's content; None where it is missing, not readable or endless."""
        raw = b""
        try:
            with open(self.path(name), "rb", buffering=0) as file:
                while part := file.read(_READ):
                    raw += part
                    if len(raw) > _LONGEST:
                        return None
        except OSError:
            return None
        return raw

    def number(self, name: str, base: int = 10) -> int | None:
        """The file's number, as a kernel prints one of 63 bits; None where there is none."""
        text = (self.read(name) or "").lower().removeprefix("0x" if base == 16 else "")
        value = int(text, base) if text.isascii() and text.isalnum() and _DIGITS[base].issuperset(text) else -1
        return value if 0 <= value < 1 << 63 else None

    def names(self, name: str) -> list[str]:
        """What is in a folder, sorted; nothing where there is no such folder."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []


@dataclass(frozen=True, slots=True)
class SystemRam:
    """One ``System RAM`` resource. ``driver``: who added it after boot (``kmem``, ``virtio_mem``), else None."""

    range: Range
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class Ram:
    """Where there is memory, and where it came from.

    ``resources``: the RAM of /proc/iomem, None where its addresses are hidden. ``firmware``: the RAM that
    firmware told of (x86), None where the kernel keeps no such list. ``acpi_memory``: there are ACPI memory
    devices, which add plain ``System RAM`` and enter it in the firmware's list.
    """

    resources: tuple[SystemRam, ...] | None
    firmware: tuple[Range, ...] | None = None
    acpi_memory: bool = False
    arch: str | None = None

    def covers(self, part: Range) -> bool | None:
        """True if all of the range is RAM: only then does the kernel take it offline. None when hidden."""
        if self.resources is None:
            return None
        return any(whole.contains(part) for whole in merge(ram.range for ram in self.resources))

    def at_boot(self, part: Range) -> bool | None:
        """True for memory from boot, False for memory that a driver added, None when nothing here tells."""
        if self.resources is None:
            return None
        touching = [ram for ram in self.resources if ram.range.overlaps(part)]
        if any(ram.driver for ram in touching):
            return False
        if self.acpi_memory:
            return None
        if kernels.arch(self.arch).boot_memory_leaves is False:
            return True  # even where firmware keeps all of a block for itself (no-map)
        return any(ram.overlaps(part) for ram in self.firmware) if touching and self.firmware else None


def block_size(tree: Tree) -> int:
    """Bytes in a memory block. Raises MachineError where the kernel shows no memory blocks."""
    size = tree.number(f"{MEMORY}/block_size_bytes", 16)
    if not size or size > _LARGEST_BLOCK:
        where = tree.path(MEMORY)
        help_ = "the kernel needs CONFIG_MEMORY_HOTPLUG=y, and sysfs must be mounted"
        raise MachineError(f"{where} shows no memory blocks", remedy=help_)
    return size


def block_numbers(tree: Tree) -> list[int]:
    """Numbers of the memory blocks, ascending; they need not start at 0 and may have gaps."""
    matches = (_BLOCK.fullmatch(name) for name in tree.names(MEMORY))
    return sorted(int(match[1]) for match in matches if match)


def blocks(tree: Tree, size: int) -> tuple[Block, ...]:
    """Every memory block, as sysfs describes it. One that leaves while we look is left out."""
    found = []
    for number in block_numbers(tree):
        try:
            found.append(block(tree, number, size))
        except MachineError:
            if os.path.isdir(tree.path(f"{MEMORY}/memory{number}")):
                raise
    return tuple(found)


def block(tree: Tree, number: int, size: int) -> Block:
    """One memory block that exists."""
    folder = f"{MEMORY}/memory{number}"
    zones = (tree.read(f"{folder}/valid_zones") or "").split()
    return Block(number, Range.sized(number * size, size), state(tree, number), tuple(zones), node(tree, number))


def state(tree: Tree, number: int) -> BlockState:
    """What ``memoryN/state`` reads. Raises MachineError when it is unreadable or an unknown word."""
    name = f"{MEMORY}/memory{number}/state"
    text = tree.read(name)
    try:
        return BlockState(text or "")
    except ValueError:
        raise MachineError(f"{tree.path(name)} reads {text!r}, which is no state of a memory block") from None


def node(tree: Tree, number: int) -> int | None:
    """The NUMA node that ``memoryN`` links to; None without NUMA, and where the link is missing."""
    matches = (_NODE.fullmatch(name) for name in tree.names(f"{MEMORY}/memory{number}"))
    return next((int(match[1]) for match in matches if match), None)


def zones(tree: Tree) -> tuple[ZoneInfo, ...]:
    """The populated zones of /proc/zoneinfo; nothing where it can't be read."""
    reserves = _reserves(tree)
    whole = ((node, name, fields) for node, name, fields in zone_fields(tree) if fields.keys() >= _ZONE_NEEDS)
    return tuple(
        _zone(node, name, fields, reserves.get((node, name), {})) for node, name, fields in whole if fields["present"]
    )


def starved(zones: tuple[ZoneInfo, ...], leaving: int = 0, origin: str = Zone.MOVABLE) -> bool:
    """True if pages that leave a block would take the kernel's own memory, and wake its OOM killer.

    ``leaving``: pages of a whole block that is still to go; its free ones are lost and the others need a place.
    ``origin``: the block's zone. From ZONE_MOVABLE they go there first, then to the kernel's zones, whose high
    watermarks must stay free; from a kernel zone they go to kernel zones only (mm/migrate.c,
    ``alloc_migration_target``). A zone keeps its reserve from them, and free pages of CMA, which they may take, are no
    help to the kernel; clean file pages can be dropped.
    """
    takers = [zone for zone in zones if origin in _HIGH or zone.zone not in _HIGH]
    room = sum(max(0, zone.free - zone.low - _kept(zone, origin)) + zone.reclaimable for zone in takers)
    return room - leaving < sum(zone.high for zone in takers if zone.zone != Zone.MOVABLE)


def _kept(zone: ZoneInfo, origin: str) -> int:
    """Free pages that do not count: when the reserve is left, all of it may be CMA's."""
    return max(zone.cma_free, zone.reserve_movable if origin in _HIGH else zone.reserve_normal)


def zone_fields(tree: Tree) -> Iterator[tuple[int, str, dict[str, int]]]:
    """Node, zone name and all numbers of each zone that /proc/zoneinfo prints.

    Numbers of the per-node part and of the page sets are left out: some of them have a zone's names.
    """
    text = tree.read("proc/zoneinfo") or ""
    marks = list(_ZONE.finditer(text))
    for mark, following in zip_longest(marks, marks[1:]):
        body = text[mark.end() : following.start() if following else len(text)]
        counters, _, tail = body[max(0, body.find("\n  pages free")) :].partition("\n  pagesets")
        start = tail[tail.rfind("\n  start_pfn:") :] if "start_pfn:" in tail else ""
        yield int(mark[1]), mark[2], {name: int(value) for name, value in _FIELD.findall(counters + start)}


def _reserves(tree: Tree) -> dict[tuple[int, str], dict[str, int]]:
    """For each zone what it keeps from allocations that could go up to the zone of that name.

    ``protection`` lists one number for each zone of a kernel, populated or not, in the order in which every node's are
    printed (mm/vmstat.c, ``zoneinfo_show_print``).
    """
    text = tree.read("proc/zoneinfo") or ""
    found = [(int(node), name, [int(n) for n in row.split(",")]) for node, name, row in _PROTECTION.findall(text)]
    names: dict[int, list[str]] = {}
    for node, name, _ in found:
        names.setdefault(node, []).append(name)
    return {(node, name): dict(zip(names[node], row, strict=False)) for node, name, row in found}


def _zone(node: int, name: str, fields: dict[str, int], reserves: dict[str, int]) -> ZoneInfo:
    file_pages = fields.get("nr_zone_inactive_file", 0) + fields.get("nr_zone_active_file", 0)
    return ZoneInfo(
        node=node,
        zone=name,
        start_pfn=fields.get("start_pfn", 0),
        spanned=fields["spanned"],
        present=fields["present"],
        managed=fields["managed"],
        free=fields["free"],
        min=fields["min"],
        low=fields["low"],
        high=fields["high"],
        cma_free=fields.get("nr_free_cma", 0),
        reclaimable=max(0, file_pages - fields.get("nr_zone_write_pending", 0)),
        reserve_normal=reserves.get(Zone.NORMAL, 0),
        reserve_movable=reserves.get(Zone.MOVABLE, 0),
    )


def moved(tree: Tree) -> tuple[int | None, Migrated | None]:
    """Refaulted pages and migrated pages since boot, by /proc/vmstat; None for what it does not count."""
    rows = dict(row.split() for row in (tree.read("proc/vmstat") or "").splitlines() if len(row.split()) == 2)
    refaults = [int(rows[name]) for name in _REFAULTS if name in rows]
    done, failed = rows.get("pgmigrate_success"), rows.get("pgmigrate_fail")
    migrated = Migrated(int(done), int(failed)) if done is not None and failed is not None else None
    return sum(refaults) if refaults else None, migrated


def pressure(tree: Tree) -> Pressure | None:
    """/proc/pressure/memory (kernel/sched/psi.c, ``psi_show``); None without CONFIG_PSI or with psi=0."""
    rows = {kind: (share, total) for kind, share, total in _PRESSURE.findall(tree.read("proc/pressure/memory") or "")}
    if rows.keys() != {"some", "full"}:
        return None
    (some, some_total), (full, full_total) = rows["some"], rows["full"]
    return Pressure(float(some), float(full), int(some_total), int(full_total))


def ram(tree: Tree) -> Ram:
    """Where there is memory and where it came from, read now."""
    acpi_memory = any(name.startswith("PNP0C80:") for name in tree.names("sys/bus/acpi/devices"))
    return Ram(_resources(tree), _firmware_ram(tree), acpi_memory, arch(tree))


def _resources(tree: Tree) -> tuple[SystemRam, ...] | None:
    """The RAM of /proc/iomem, at any depth; without CAP_SYS_ADMIN all addresses read as 0."""
    found = _RESOURCE.findall(tree.read("proc/iomem") or "")
    spans = [(int(start, 16), int(end, 16) + 1, driver or None) for start, end, _, driver in found]
    rams = [SystemRam(Range(start, end), driver) for start, end, driver in spans if start < end]
    return tuple(rams) if any(ram.range.size > 1 for ram in rams) else None


def _firmware_ram(tree: Tree) -> tuple[Range, ...] | None:
    folder = "sys/firmware/memmap"
    ranges = []
    for name in tree.names(folder):
        if tree.read(f"{folder}/{name}/type") == "System RAM":
            start, end = (tree.number(f"{folder}/{name}/{key}", 16) for key in ("start", "end"))
            if start is not None and end is not None and start <= end:
                ranges.append(Range(start, end + 1))
    return merge(ranges) or None


def page_size(tree: Tree) -> int | None:
    """Bytes in a page; of a captured tree as its own counters tell, None when they tell nothing.

    MemTotal counts the managed pages of all zones (mm/show_mem.c, ``si_meminfo``). Without meminfo, the online
    blocks hold the present pages, up to holes that are much smaller than the factor 4 between page sizes.
    """
    if tree.running:
        return os.sysconf("SC_PAGE_SIZE")
    populated = zones(tree)
    total = re.search(r"^MemTotal: +(\d+) kB$", tree.read("proc/meminfo") or "", re.MULTILINE)
    if total:
        return _nearest(int(total[1]) * KIB, sum(z.managed for z in populated))
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
    machine = os.uname().machine if tree.running else tree.read("proc/sys/kernel/arch")
    if not machine:
        return None
    return kernels.arch_of_machine(machine)


def policy(tree: Tree) -> OnlinePolicy:
    """How zones are chosen for blocks that come online; the kernel's defaults where it does not say."""
    usual, ratio = OnlinePolicy(), tree.number(f"{PARAMETERS}/auto_movable_ratio")
    words = (tree.read("proc/cmdline") or "").split()
    return OnlinePolicy(
        online=tree.read(f"{PARAMETERS}/online_policy") or usual.online,
        ratio=usual.ratio if ratio is None else ratio,
        movable_node=kernels.movable_node(
            kernels.arch(arch(tree)),
            word="movable_node" in words,
            marked=any(word.startswith("movablemem=") for word in words),
        ),
        memmap_on_memory=tree.read(f"{PARAMETERS}/memmap_on_memory") in ("Y", "force"),
    )
