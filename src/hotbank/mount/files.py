# SPDX-License-Identifier: Apache-2.0
"""Which files a mounted machine has, made from its snapshot, and what a write to each does (hotbank.sysfs.store)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from hotbank import kernels
from hotbank.machine import BankStatus, Block, Machine, OnlinePolicy, Snapshot
from hotbank.memory import KIB, BlockState, KernelState, Range, merge
from hotbank.routes import route
from hotbank.sysfs import bank as banks
from hotbank.sysfs import block as blocks
from hotbank.sysfs import iomem, meminfo, names, node, parameters, uname, vmstat, zoneinfo
from hotbank.sysfs.bank import Presence, Supply
from hotbank.sysfs.form import Form
from hotbank.sysfs.store import Stores

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class File:
    """``text``: its whole content. ``store``: what a write does, None where the file is read-only."""

    text: Callable[[], str]
    store: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """Names and what they stand for."""

    entries: dict[str, File | Link | Folder] = field(default_factory=dict)

    def put(self, path: str, entry: File | Link | Folder) -> None:
        """Enter it below this folder, with all folders on the way."""
        name, slash, rest = path.partition("/")
        if not slash:
            self.entries[name] = entry
            return
        below = self.entries.setdefault(name, Folder())
        assert isinstance(below, Folder)
        below.put(rest, entry)

    def find(self, path: str) -> File | Link | Folder | None:
        """What is at the path, None where nothing is."""
        here: File | Link | Folder | None = self
        for name in filter(None, path.split("/")):
            here = here.entries.get(name) if isinstance(here, Folder) else None
        return here


Entries = Iterator[tuple[str, File | Link | Folder]]


class MachineFiles:
    """The files of a machine. ``writer``: where changes go, None to allow none; reads go to ``reader``, also meanwhile.

    Writes raise KernelError with the errno that the kernel gives, and what else the machine raises.
    """

    def __init__(self, reader: Machine, writer: Machine | None) -> None:
        self._reader = reader
        self._stores = None if writer is None else Stores(reader, writer)

    def tree(self) -> Folder:
        """All files as the machine is now."""
        snapshot = self._reader.snapshot()
        root = Folder()
        own = (*self._memory(snapshot), *self._banks(snapshot))
        for path, entry in (*own, *_nodes(snapshot), *_parameters(snapshot.policy), *_proc(snapshot), *self._vmstat()):
            root.put(path, entry)
        return root

    def _vmstat(self) -> Entries:
        """What the machine counts, asked when it is read."""
        if vmstat.counters_of(self._reader.reading()):
            yield names.VMSTAT, File(lambda: vmstat.COUNTERS.show(vmstat.counters_of(self._reader.reading())))

    def interrupt(self) -> None:
        """A signal for the writer whose offline is under way."""
        if self._stores is not None:
            self._stores.interrupt()

    def _memory(self, snapshot: Snapshot) -> Entries:
        onlining = self._stores.auto_online if self._stores is not None else None
        yield names.BLOCK_SIZE, _file(blocks.BLOCK_SIZE, snapshot.block_size)
        yield names.AUTO_ONLINE, _text(snapshot.auto_online, onlining)
        for block in snapshot.blocks:
            yield from self._block(block)

    def _block(self, block: Block) -> Entries:
        number, stores = block.number, self._stores
        online = block.state is BlockState.ONLINE
        state = None if stores is None else lambda word: stores.state(number, word)
        switch = None if stores is None else lambda word: stores.online(number, word)
        yield names.block(number, "state"), _file(blocks.STATE, block.state, state)
        yield names.block(number, "online"), _file(blocks.ONLINE, online, switch)
        yield names.block(number, "valid_zones"), _file(blocks.VALID_ZONES, block.valid_zones or ("none",))
        yield names.block(number, "removable"), _file(blocks.REMOVABLE, True)
        yield names.block(number, "phys_index"), _file(blocks.PHYS_INDEX, number)
        yield names.block(number, "phys_device"), _file(blocks.PHYS_DEVICE, 0)
        yield names.block(number, "uevent"), _text("")
        if block.node is not None:
            yield names.block(number, f"node{block.node}"), Link(node.LINK.show(block.node))

    def _banks(self, snapshot: Snapshot) -> Entries:
        span = banks.RANGE if kernels.arch(snapshot.arch).lowmem is None else banks.RANGE_32
        for bank in snapshot.banks:
            if route(bank.route).bank_files and _is_file_name(bank.name):
                yield names.bank(bank.name, "range"), _file(span, bank.range)
                yield from self._bank(bank)

    def _bank(self, bank: BankStatus) -> Entries:
        name, stores = bank.name, self._stores
        present = Presence.ABSENT if bank.kernel is KernelState.ABSENT else Presence.PRESENT
        supply = Supply.UNMANAGED if bank.domain is None else Supply.of(bank.power)
        order = None if stores is None else lambda word: stores.bank_state(name, word)
        switch = None if stores is None else lambda word: stores.supply(name, word)
        yield names.bank(name, "state"), _file(banks.STATE, present, order)
        yield names.bank(name, "supply"), _file(banks.SUPPLY, supply, switch)


def _is_file_name(name: str) -> bool:
    """An owner elsewhere may call its banks what it likes."""
    return "/" not in name and name not in ("", ".", "..")


def _file(form: Form[T], value: T, store: Callable[[str], None] | None = None) -> File:
    return File(lambda: form.show(value), store)


def _text(value: str, store: Callable[[str], None] | None = None) -> File:
    return File(lambda: f"{value}\n" if value else "", store)


def _nodes(snapshot: Snapshot) -> Entries:
    numbers = sorted({b.node for b in snapshot.blocks if b.node is not None} | {z.node for z in snapshot.zones})
    for name in ("online", "possible", "has_memory"):
        yield f"{names.NODES}/{name}", _file(node.LIST, tuple(numbers))
    for number in numbers:
        yield names.node(number), Folder()
    for block in snapshot.blocks:
        if block.node is not None:
            yield names.node(block.node, f"memory{block.number}"), Link(node.BACK_LINK.show(block.number))


def _parameters(policy: OnlinePolicy) -> Entries:
    memmap = parameters.MemmapOnMemory.YES if policy.memmap_on_memory else parameters.MemmapOnMemory.NO
    yield f"{names.PARAMETERS}/online_policy", _text(policy.online)
    yield f"{names.PARAMETERS}/auto_movable_ratio", _file(parameters.AUTO_MOVABLE_RATIO, policy.ratio)
    yield f"{names.PARAMETERS}/memmap_on_memory", _file(parameters.MEMMAP_ON_MEMORY, memmap)


def _proc(snapshot: Snapshot) -> Entries:
    yield names.CMDLINE, _text("movable_node" if snapshot.policy.movable_node else "")
    yield names.ZONEINFO, _file(zoneinfo.ZONES, snapshot.zones)
    yield names.IOMEM, File(lambda: iomem.ENTRIES.show(tuple(_resources(snapshot))))
    yield names.MEMINFO, _file(meminfo.LINES, _meminfo(snapshot))
    yield names.ARCH, _file(uname.ARCH, snapshot.arch)
    yield names.BOOT_ID, _text(snapshot.boot_id)


def _meminfo(snapshot: Snapshot) -> Mapping[str, int]:
    """The lines that a snapshot knows, in KiB."""
    unit, zones = snapshot.page_size // KIB, snapshot.zones
    pages = {
        "MemTotal": sum(z.managed for z in zones),
        "MemFree": sum(z.free for z in zones),
        "CmaFree": sum(z.cma_free for z in zones),
    }
    return {name: value * unit for name, value in pages.items()}


def _resources(snapshot: Snapshot) -> list[iomem.Resource]:
    """Boot memory merged; what a driver added, under that driver's name, each bank by itself."""
    added = {b.name: f"System RAM ({driver})" for b in snapshot.banks if (driver := _driver(b))}
    spans: dict[str | None, list[Range]] = {}
    for block in snapshot.blocks:
        spans.setdefault(_bank_of(snapshot, block.range, added), []).append(block.range)
    rows = [(span, added.get(bank or "", "System RAM")) for bank, parts in spans.items() for span in merge(parts)]
    return [iomem.Resource(span, title) for span, title in sorted(rows)]


def _driver(bank: BankStatus) -> str | None:
    """Who added it, None for memory from boot."""
    return None if bank.at_boot else route(bank.route).resource


def _bank_of(snapshot: Snapshot, span: Range, added: Mapping[str, str]) -> str | None:
    return next((b.name for b in snapshot.banks if b.name in added and b.range.overlaps(span)), None)
