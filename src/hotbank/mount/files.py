# SPDX-License-Identifier: Apache-2.0
"""What is in each file of a mounted machine, made from its snapshot, and what a write to it does.

Truth: see hotbank.mount. A write is one order: what the kernel's ``store`` does, with its errno (drivers/base/memory.c,
``state_store``; drivers/base/core.c, ``online_store``).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from hotbank import kernels
from hotbank.errors import CancelPending, KernelError
from hotbank.host.tree import MEMORY, PARAMETERS
from hotbank.machine import BankStatus, Block, Interruptible, Machine, OnlinePolicy, Reading, Snapshot, ZoneInfo
from hotbank.memory import KIB, BlockState, KernelState, Online, Power, Range, merge
from hotbank.routes import route

NODES, BANKS = "sys/devices/system/node", "sys/class/hotbank"
NO_DEADLINE = 7 * 86400.0  # seconds: the kernel has none, and tries until a signal
_ASK_EVERY = 0.05
_SUPPLY = {Power.ON: "on", Power.OFF: "off"}


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


class MachineFiles:
    """The files of a machine. ``writer``: where changes go, None to allow none; reads go to ``reader``, also meanwhile.

    Writes raise KernelError with the errno that the kernel gives, and what else the machine raises.
    """

    def __init__(self, reader: Machine, writer: Machine | None) -> None:
        self._reader, self._writer = reader, writer

    def tree(self) -> Folder:
        """All files as the machine is now."""
        snapshot = self._reader.snapshot()
        root = Folder()
        own = (*self._memory(snapshot), *self._banks(snapshot))
        for path, entry in (*own, *_nodes(snapshot), *_parameters(snapshot.policy), *_proc(snapshot), *self._vmstat()):
            root.put(path, entry)
        return root

    def _vmstat(self) -> Iterator[tuple[str, File]]:
        """What migration did, asked when it is read."""
        if self._reader.reading().migrated is not None:
            yield "proc/vmstat", File(lambda: _vmstat(self._reader.reading()))

    def _memory(self, snapshot: Snapshot) -> Iterator[tuple[str, File | Link | Folder]]:
        yield f"{MEMORY}/block_size_bytes", _text(f"{snapshot.block_size:x}")
        yield f"{MEMORY}/auto_online_blocks", _text(snapshot.auto_online)
        for block in snapshot.blocks:
            folder = f"{MEMORY}/memory{block.number}"
            for name, entry in self._block(block):
                yield f"{folder}/{name}", entry

    def _block(self, block: Block) -> Iterator[tuple[str, File | Link]]:
        number, online = block.number, block.state is BlockState.ONLINE
        yield "state", self._file(block.state.value, lambda word: self._set_state(number, word))
        yield "online", self._file(str(int(online)), lambda word: self._set_online(number, word))
        yield "valid_zones", _text(" ".join(block.valid_zones) or "none")
        yield "removable", _text("1")  # says nothing: removable_show, since 5.10
        yield "phys_index", _text(f"{number:08x}")
        yield "phys_device", _text("0")
        yield "uevent", _text("")
        if block.node is not None:
            yield f"node{block.node}", Link(f"../../node/node{block.node}")

    def _banks(self, snapshot: Snapshot) -> Iterator[tuple[str, File]]:
        for bank in snapshot.banks:
            if route(bank.route).bank_files:
                for name, entry in self._bank(bank, 16 if kernels.arch(snapshot.arch).lowmem is None else 8):
                    yield f"{BANKS}/{bank.name}/{name}", entry

    def _bank(self, bank: BankStatus, digits: int) -> Iterator[tuple[str, File]]:
        present = "absent" if bank.kernel is KernelState.ABSENT else "present"
        supply = _SUPPLY.get(bank.power, "released") if bank.domain is not None else "unmanaged"
        span = bank.range
        yield "range", _text(f"0x{span.start:0{digits}x}-0x{span.end - 1:0{digits}x}")
        yield "state", self._file(present, lambda word: self._control(bank.name, word))
        yield "supply", self._file(supply, lambda word: self._set_supply(bank, word))

    def _file(self, value: str, store: Callable[[str], None]) -> File:
        return File(lambda: f"{value}\n", store if self._writer is not None else None)

    # Writes.

    def _set_state(self, block: int, word: str) -> None:
        if word == "offline":
            self._offline(block)
        else:
            self._online(block, _one_of(Online, word, f"state of memory{block}"))

    def _set_online(self, block: int, word: str) -> None:
        """``online_store``: asking for what is there already is fine."""
        want = _boolean(word, f"online of memory{block}")
        now = self._reader.snapshot().block(block)
        if now is not None and (now.state is BlockState.ONLINE) != want:
            self._online(block, Online.ONLINE) if want else self._offline(block)

    def _control(self, bank: str, word: str) -> None:
        machine = self._machine()
        calls: Mapping[str, Callable[[str], None]] = {"add": machine.add, "remove": machine.remove}
        if word not in calls:
            raise KernelError(errno.EINVAL, f"state of {bank}")
        calls[word](bank)

    def _set_supply(self, bank: BankStatus, word: str) -> None:
        powers = {name: power for power, name in _SUPPLY.items()}
        if word not in powers:
            raise KernelError(errno.EINVAL, f"supply of {bank.name}")
        if bank.domain is None:
            raise KernelError(errno.EOPNOTSUPP, f"supply of {bank.name}")
        if powers[word] is Power.OFF and bank.kernel is not KernelState.ABSENT:
            raise KernelError(errno.EBUSY, f"supply of {bank.name}")
        self._machine().set_power(bank.domain, powers[word])

    def _online(self, block: int, how: Online) -> None:
        self._machine().online(block, how)

    def _offline(self, block: int) -> None:
        machine = self._machine()
        try:
            machine.offline(block, machine.clock.now() + NO_DEADLINE)
        except CancelPending:
            self._wait_until_let_go(block)
            raise KernelError(errno.EINTR, f"offline of memory{block}") from None

    def _wait_until_let_go(self, block: int) -> None:
        """A writer whose page is under writeback can't leave the kernel before it lets go."""
        while self._reader.snapshot().pending == block:
            self._reader.clock.sleep(_ASK_EVERY)

    def interrupt(self) -> None:
        """A signal for the writer whose offline is under way."""
        writer: object = self._writer
        if isinstance(writer, Interruptible):
            writer.interrupt()

    def _machine(self) -> Machine:
        if self._writer is None:
            raise KernelError(errno.EROFS, "the machine is mounted read-only")
        return self._writer


def _text(value: str) -> File:
    return File(lambda: f"{value}\n" if value else "")


def _boolean(word: str, what: str) -> bool:
    """lib/kstrtox.c, ``kstrtobool``."""
    for letters, value in (("1yYtT", True), ("0nNfF", False)):
        if word and word[0] in letters:
            return value
    if word[:2].lower() in ("on", "of"):
        return word[1].lower() == "n"
    raise KernelError(errno.EINVAL, what)


def _one_of(words: type[Online], word: str, what: str) -> Online:
    try:
        return words(word)
    except ValueError:
        raise KernelError(errno.EINVAL, what) from None


def _nodes(snapshot: Snapshot) -> Iterator[tuple[str, File | Link | Folder]]:
    numbers = sorted({b.node for b in snapshot.blocks if b.node is not None} | {z.node for z in snapshot.zones})
    for name in ("online", "possible", "has_memory"):
        yield f"{NODES}/{name}", _text(_list(numbers))
    for number in numbers:
        yield f"{NODES}/node{number}", Folder()
    for block in snapshot.blocks:
        if block.node is not None:
            name = f"memory{block.number}"
            yield f"{NODES}/node{block.node}/{name}", Link(f"../../memory/{name}")


def _list(numbers: list[int]) -> str:
    """``0-2,5``, as ``%*pbl`` prints."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def _parameters(policy: OnlinePolicy) -> Iterator[tuple[str, File]]:
    yield f"{PARAMETERS}/online_policy", _text(policy.online)
    yield f"{PARAMETERS}/auto_movable_ratio", _text(str(policy.ratio))
    yield f"{PARAMETERS}/memmap_on_memory", _text("Y" if policy.memmap_on_memory else "N")


def _proc(snapshot: Snapshot) -> Iterator[tuple[str, File]]:
    yield "proc/cmdline", _text("movable_node" if snapshot.policy.movable_node else "")
    yield "proc/zoneinfo", File(lambda: "".join(map(_zone, snapshot.zones)))
    yield "proc/iomem", File(lambda: _iomem(snapshot))
    yield "proc/meminfo", File(lambda: _meminfo(snapshot))
    yield "proc/sys/kernel/arch", _text(next(iter(kernels.arch(snapshot.arch).machines), snapshot.arch))
    yield "proc/sys/kernel/random/boot_id", _text(snapshot.boot_id)


def _zone(zone: ZoneInfo) -> str:
    lines = [f"Node {zone.node}, zone {zone.zone:>8}", f"  pages free     {zone.free}", "        boost    0"]
    marks = ("min", "low", "high", "spanned", "present", "managed")
    lines += [f"        {name:<8} {getattr(zone, name)}" for name in marks]
    counters = {"nr_free_pages": zone.free, "nr_zone_inactive_file": zone.reclaimable, "nr_free_cma": zone.cma_free}
    lines += [f"      {name:<12} {value}" for name, value in counters.items()]
    lines += ["  pagesets", "  node_unreclaimable:  0", f"  start_pfn:           {zone.start_pfn}"]
    return "".join(f"{line}\n" for line in lines)


def _vmstat(reading: Reading) -> str:
    """The lines that a reading knows; nothing where migration is not counted."""
    moved = reading.migrated
    return f"pgmigrate_success {moved.success}\npgmigrate_fail {moved.fail}\n" if moved is not None else ""


def _meminfo(snapshot: Snapshot) -> str:
    """The lines that a snapshot knows."""
    unit = snapshot.page_size // KIB
    pages = {
        "MemTotal": sum(z.managed for z in snapshot.zones),
        "MemFree": sum(z.free for z in snapshot.zones),
        "CmaFree": sum(z.cma_free for z in snapshot.zones),
    }
    return "".join(f"{name + ':':<15} {value * unit:>8} kB\n" for name, value in pages.items())


def _iomem(snapshot: Snapshot) -> str:
    """Boot memory merged; what a driver added, under that driver's name, each bank by itself."""
    added = {b.name: f"System RAM ({driver})" for b in snapshot.banks if (driver := _driver(b))}
    boot = merge(b.range for b in snapshot.blocks if _bank_of(snapshot, b.range, added) is None)
    rows = [(span, "System RAM") for span in boot]
    for name, title in added.items():
        spans = merge(b.range for b in snapshot.blocks if _bank_of(snapshot, b.range, added) == name)
        rows += [(span, title) for span in spans]
    digits = 8 if all(span.end <= 1 << 32 for span, _ in rows) else 9
    return "".join(f"{span.start:0{digits}x}-{span.end - 1:0{digits}x} : {title}\n" for span, title in sorted(rows))


def _driver(bank: BankStatus) -> str | None:
    """Who added it, None for memory from boot."""
    return None if bank.at_boot else route(bank.route).resource


def _bank_of(snapshot: Snapshot, span: Range, names: Mapping[str, str]) -> str | None:
    return next((b.name for b in snapshot.banks if b.name in names and b.range.overlaps(span)), None)
