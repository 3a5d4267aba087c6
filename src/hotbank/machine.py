# SPDX-License-Identifier: Apache-2.0
"""The Machine protocol: what anything with memory blocks answers, and the values it answers with.

Primitives only, without retry or policy. A model, this host, and a machine at the far end of a byte
stream all speak it, and one contract test suite runs over all of them. Everything here is a value that
crosses a wire as JSON (wire.py), so fields are plain: integers, strings, enums, tuples.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Protocol, TypeGuard, runtime_checkable

from hotbank import kernels
from hotbank.errors import Code, Finding, Refusal
from hotbank.memory import BlockState, KernelState, Kind, Online, Power, Range, block_named, folded
from hotbank.routes import NONE

_MOST_BLOCKS = 1 << 22  # of one bank
_MOST_ORDERS = 64  # of buddies
_FEW = 8  # names that a message lists
EVIDENCE = 16  # pages that a survey or a verdict names; all of them are counted


class Clock(Protocol):
    """Monotonic seconds: wall time on real machines, simulated time in a model."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass on this clock."""
        ...


class WallClock:
    """The host's CLOCK_MONOTONIC."""

    def now(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let real time pass; nothing for a time that is over."""
        time.sleep(max(0.0, seconds))


@dataclass(frozen=True, slots=True)
class Block:
    """One memory block: what /sys/devices/system/memory/memoryN says, plus what is used of it.

    ``valid_zones`` is ``("none",)`` where the kernel prints none. ``used``: pages in use, or None when unknown.
    """

    number: int
    range: Range
    state: BlockState
    valid_zones: tuple[str, ...] = ()
    node: int | None = None
    used: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a number that no block has, or fewer pages than none."""
        if self.number < 0 or (self.used or 0) < 0:
            raise ValueError(f"no such block: number {self.number}, {self.used} pages used")

    @property
    def zone(self) -> str | None:
        """The zone that the block is in, or would go to by default; None where the kernel prints none."""
        first = next(iter(self.valid_zones), "none")
        return None if first == "none" else first


@dataclass(frozen=True, slots=True)
class ZoneInfo:
    """One populated zone of /proc/zoneinfo. Everything in pages; ``start_pfn`` a page frame number.

    ``reclaimable``: clean file pages of this zone that reclaim could drop. ``reserve_normal`` and ``reserve_movable``:
    what is kept, beyond the watermark, from pages that could as well go to a higher zone, up to Normal or up to Movable
    (``lowmem_reserve``).
    """

    node: int
    zone: str
    start_pfn: int
    spanned: int
    present: int
    managed: int
    free: int = 0
    min: int = 0
    low: int = 0
    high: int = 0
    cma_free: int = 0
    reclaimable: int = 0
    reserve_normal: int = 0
    reserve_movable: int = 0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a machine can do about a NUMA node as a whole, before the blocks that are its memory go offline.

    ``drops``: have the kernel drop clean page cache of it. ``moves``: have pages of processes moved to other nodes.
    """

    number: int
    drops: bool = False
    moves: bool = False


@dataclass(frozen=True, slots=True)
class BankStatus:
    """One bank of the machine's board and where it stands now. ``used`` in pages, None when unknown.

    ``blocks``: numbers of those that the kernel has; all that it ever has are ``Snapshot.blocks_of``. ``zone``: of its
    blocks that are not offline, None when they are in several. ``node``: where the kernel has put its blocks, else
    what the board says.
    """

    name: str
    range: Range
    kernel: KernelState
    power: Power
    blocks: tuple[int, ...] = ()
    at_boot: bool = True
    movable: bool = False
    route: str = NONE.name
    domain: str | None = None
    zone: str | None = None
    node: int | None = None
    used: int | None = None

    @classmethod
    def of(
        cls,
        name: str,
        span: Range,
        there: Iterable[Block],
        power: Power,
        *,
        stuck: bool = False,
        at_boot: bool = True,
        movable: bool = False,
        route: str = NONE.name,
        domain: str | None = None,
        node: int | None = None,
    ) -> BankStatus:
        """Where a bank stands by its blocks. ``there``: the blocks in the kernel that touch it, ascending.

        ``node``: the board's word.
        """
        blocks = tuple(there)
        zones = {b.zone for b in blocks if b.state is not BlockState.OFFLINE}
        nodes = {b.node for b in blocks} - {None}
        known = [b.used for b in blocks if b.used is not None]
        return cls(
            name,
            span,
            KernelState.STUCK if stuck else _kernel_state(span, blocks),
            power,
            tuple(b.number for b in blocks),
            at_boot,
            movable,
            route,
            domain,
            zone=zones.pop() if len(zones) == 1 else None,
            node=nodes.pop() if len(nodes) == 1 else node,
            used=sum(known) if len(known) == len(blocks) else None,
        )

    @property
    def is_a_block(self) -> bool:
        """True for the banks of a machine without a board: each is one block under the block's own name."""
        return len(self.blocks) == 1 and self.name == f"memory{self.blocks[0]}"


def _kernel_state(span: Range, blocks: tuple[Block, ...]) -> KernelState:
    if not blocks:
        return KernelState.ABSENT
    states = {b.state for b in blocks}
    if states == {BlockState.OFFLINE}:
        return KernelState.OFFLINE
    whole = len(blocks) == len(span.blocks(blocks[0].range.size))
    return KernelState.ONLINE if whole and states == {BlockState.ONLINE} else KernelState.PARTIAL


@dataclass(frozen=True, slots=True)
class Fitted:
    """What DRAM a domain is made of, as far as its board says.

    ``part``: name or type of the devices (memspec.py), None where they may be any. ``ranks``, ``channels``: over how
    many the domain reaches, each at least one device. ``temperature``: degrees Celsius. ``share``: how much of its
    devices the domain is, None: all that its size and theirs allow.
    """

    part: str | None = None
    ranks: int = 1
    channels: int = 1
    temperature: int = 45
    share: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for devices that there can't be: they would be divided by."""
        if min(self.ranks, self.channels) < 1 or not (self.share is None or 0 < self.share <= 1):
            what = f"{self.ranks} ranks, {self.channels} channels, share {self.share}"
            raise ValueError(f"no such devices: {what}")


@dataclass(frozen=True, slots=True)
class DomainStatus:
    """One power domain: the states its switch knows, the banks in it, its state now, and its DRAM."""

    name: str
    power: Power
    states: tuple[Power, ...] = (Power.ON,)
    banks: tuple[str, ...] = ()
    switch: str = "none"
    interleaved: bool = False
    dram: Fitted = Fitted()

    @property
    def rungs(self) -> tuple[Power, ...]:
        """The states that its board allows, the darkest first."""
        return tuple(power for power in (Power.OFF, Power.SELF_REFRESH, Power.ON) if power in self.states)

    @property
    def darkest(self) -> Power:
        """The state that saves most among them."""
        return next(iter(self.rungs), Power.ON)


@dataclass(frozen=True, slots=True)
class OnlinePolicy:
    """How this kernel chooses zones: /sys/module/memory_hotplug/parameters, and ``movable_node`` of its command line.

    ``online``: ``contig-zones`` or ``auto-movable``; ``ratio``: ``auto_movable_ratio`` in percent.
    ``memmap_on_memory``: added memory may hold its own ``struct page``s.
    """

    online: str = "contig-zones"
    ratio: int = 301
    movable_node: bool = False
    memmap_on_memory: bool = False


@dataclass(frozen=True)  # without slots: it keeps its indexes
class Snapshot:
    """A machine at one moment. ``page_size`` and ``block_size`` in bytes; ``blocks`` ascend by number.

    ``auto_online``: the content of ``auto_online_blocks``; ``policy``: the zone that a plain ``online`` then gives.
    ``boot_memory_leaves``: False where the kernel vetoes it (arm64), None when unknown. ``memmap_per_page``: bytes of
    ``struct page`` that adding one page costs. ``pending``: the block whose cancelled offline the kernel still holds,
    or None. ``release``: the kernel's, as ``uname -r`` has it; empty when unknown. ``nodes``: those that have memory,
    where there are several and the machine can tell what can be done about them.
    """

    machine: str
    arch: str
    page_size: int
    block_size: int
    boot_id: str
    blocks: tuple[Block, ...] = ()
    zones: tuple[ZoneInfo, ...] = ()
    banks: tuple[BankStatus, ...] = ()
    domains: tuple[DomainStatus, ...] = ()
    auto_online: str = "offline"
    boot_memory_leaves: bool | None = None
    memmap_per_page: int = kernels.arch(None).struct_page
    pending: int | None = None
    policy: OnlinePolicy = OnlinePolicy()
    release: str = ""
    nodes: tuple[NodeStatus, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for sizes that no machine has: they would be divided by, and counted up to."""
        if self.page_size < 1 or self.block_size < self.page_size or self.block_size % self.page_size:
            raise ValueError(f"blocks of {self.block_size} bytes have no whole number of {self.page_size}-byte pages")
        largest = max((bank.range.size for bank in self.banks), default=0)
        if largest > _MOST_BLOCKS * self.block_size:
            raise ValueError(f"a bank of {largest:#x} bytes has too many blocks of {self.block_size} bytes")

    def block(self, number: int) -> Block | None:
        """The block of that number, or None where the kernel has no such block."""
        return self._blocks_by_number.get(number)

    @property
    def pages_per_block(self) -> int:
        """Pages in a memory block."""
        return self.block_size // self.page_size

    def bank(self, name: str) -> BankStatus | None:
        """The bank of that name, or None when the board has no such bank."""
        return self._banks_by_name.get(name)

    def bank_at(self, block: int) -> BankStatus | None:
        """The bank that touches the block of that number, in the kernel or not; None where there is none."""
        start, banks = block * self.block_size, self._banks_by_start
        last = first = bisect_left(banks, start + self.block_size, key=lambda bank: bank.range.start)
        while first and banks[first - 1].range.end > start:
            first -= 1
        return min(banks[first:last], default=None, key=lambda bank: self._places[bank.name])

    def blocks_of(self, bank: BankStatus) -> range:
        """Numbers of all blocks that the bank touches, whether the kernel has them or not."""
        return bank.range.blocks(self.block_size)

    def present(self, bank: BankStatus) -> tuple[Block, ...]:
        """Those blocks of the bank that the kernel has, ascending."""
        return self.within(bank.range)

    def within(self, span: Range) -> tuple[Block, ...]:
        """The blocks in the kernel that touch the range, ascending."""
        numbers = span.blocks(self.block_size)
        start = bisect_left(self.blocks, numbers.start, key=lambda b: b.number)
        return self.blocks[start : bisect_left(self.blocks, numbers.stop, start, key=lambda b: b.number)]

    def domain(self, name: str) -> DomainStatus | None:
        """The power domain of that name, or None when the board has no such domain."""
        return self._domains_by_name.get(name)

    def domain_of(self, bank: BankStatus) -> DomainStatus | None:
        """The power domain of a bank, None where it has none."""
        return self.domain(bank.domain) if bank.domain is not None else None

    def touching(self, domain: str) -> tuple[int, ...]:
        """Numbers of the blocks in the kernel that touch the power domain: it must not go dark under them."""
        found = self.domain(domain)
        banks = [b for name in (found.banks if found else ()) if (b := self.bank(name)) is not None]
        return tuple(sorted({block.number for bank in banks for block in self.present(bank)}))

    @cached_property
    def _blocks_by_number(self) -> dict[int, Block]:
        return {block.number: block for block in self.blocks}

    @cached_property
    def blocks_in_use(self) -> Mapping[int | None, int]:
        """How many blocks of each node are not offline."""
        return Counter(block.node for block in self.blocks if block.state is not BlockState.OFFLINE)

    @cached_property
    def _banks_by_name(self) -> dict[str, BankStatus]:
        return {bank.name: bank for bank in reversed(self.banks)}

    @cached_property
    def _domains_by_name(self) -> dict[str, DomainStatus]:
        return {domain.name: domain for domain in reversed(self.domains)}

    @cached_property
    def _places(self) -> dict[str, int]:
        """Where each bank stands on the board: of several that touch a block the first counts."""
        return {bank.name: place for place, bank in enumerate(self.banks)}

    @cached_property
    def _banks_by_start(self) -> list[BankStatus]:
        return sorted(self.banks, key=lambda bank: bank.range.start)


def no_such(machine: str, what: str, name: object, known: Iterable[str] = ()) -> Refusal:
    """The one refusal, on every machine, of a bank, block or domain that it has not. ``what``: which of these."""
    remedy = _nearest(str(name).strip("'"), tuple(known))
    return Refusal(Code.NO_SUCH_BANK, f"{machine} has no {what} {name}", remedy=remedy)


def _nearest(name: str, known: Sequence[str]) -> str:
    """All that there are, where they are few or have numbers without many gaps; else the nearest to what was meant."""
    if not known:
        return "hotbank list shows the banks and blocks"
    blocks = [number for each in known if each.startswith("memory") and (number := block_named(each)) is not None]
    words = known if len(blocks) < len(known) else folded(blocks)
    if len(words) <= _FEW:
        return f"known: {', '.join(words)}"
    from difflib import get_close_matches  # for a mistake only

    return f"nearest: {', '.join(get_close_matches(name, known, 3, 0))}; hotbank list shows all {len(known)}"


@dataclass(frozen=True, slots=True)
class Migrated:
    """Pages moved, and tries that failed, since boot (/proc/vmstat: ``pgmigrate_success``, ``pgmigrate_fail``).

    Whoever made them move: evacuation, compaction, NUMA balancing.
    """

    success: int
    fail: int


PRESSED = 10.0  # percent of the time in which some task waited for memory: then they do


@dataclass(frozen=True, slots=True)
class Pressure:
    """/proc/pressure/memory: shares of the last 10 s in percent, and stalled microseconds since boot."""

    some_avg10: float
    full_avg10: float
    some_total: int
    full_total: int


class Quantity(StrEnum):
    """What a meter shows, and in which unit."""

    POWER = "W"
    ENERGY = "J"  # a counter; what it counted is a difference
    TEMPERATURE = "°C"


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter as it stands. ``wraps``: joules at which a counter begins again, None where it does not."""

    name: str
    quantity: Quantity
    value: float
    wraps: float | None = None


@dataclass(frozen=True, slots=True)
class Clocks:
    """One moment on several clocks, in seconds: CLOCK_REALTIME of whoever keeps the machine's journal, CLOCK_MONOTONIC
    and CLOCK_BOOTTIME of the machine's kernel (kernel/time/timekeeping.c)."""

    real: float
    monotonic: float
    boot: float

    @classmethod
    def now(cls) -> Clocks:
        """Those of the kernel under this process."""
        clocks = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)
        return cls(*map(time.clock_gettime, clocks))


@dataclass(frozen=True, slots=True)
class Reading:
    """What a machine feels at one moment; one cheap look, no page walked. None: this machine can't tell.

    ``at``: seconds on the machine's clock. ``zones`` as in a snapshot, in pages. ``refaults``: pages of the cache that
    had to be read again, since boot (``workingset_refault_anon`` and ``_file``). ``meters``: those that answered.
    ``clocks``: when that was by the clocks of a running kernel. ``kernel``: pages of slab that can't be
    reclaimed and of page tables, which lie in kernel zones alone.
    """

    at: float
    zones: tuple[ZoneInfo, ...] = ()
    pressure: Pressure | None = None
    refaults: int | None = None
    migrated: Migrated | None = None
    meters: tuple[Meter, ...] = ()
    clocks: Clocks | None = None
    kernel: int | None = None

    @property
    def free(self) -> int:
        """Free pages of all zones."""
        return sum(zone.free for zone in self.zones)

    @property
    def lent(self) -> int:
        """Those of them that only pages which can move may have (CMA): no memory map, no page table."""
        return sum(zone.cma_free for zone in self.zones)

    @property
    def clean(self) -> int:
        """Pages of clean page cache that reclaim could drop, of all zones."""
        return sum(zone.reclaimable for zone in self.zones)

    @property
    def managed(self) -> int:
        """Pages that the kernel manages, of all zones."""
        return sum(zone.managed for zone in self.zones)

    @property
    def demand(self) -> int:
        """Pages in use that could not be dropped: managed, neither free nor clean cache."""
        return max(0, self.managed - self.free - self.clean)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a page, as far as known."""

    pid: int | None = None
    comm: str | None = None
    cgroup: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One page that speaks against a removal: ``why`` is UNMOVABLE, PINNED, POISONED, HUGETLB, CMA or the like."""

    pfn: int
    kind: Kind
    why: Code
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class HugePages:
    """Huge pages of one size (hugetlb) that a block holds in use, wholly or in part.

    ``pages``: ordinary pages in one. ``first``: pfn where each begins, which may lie before the block; ``inside``:
    ordinary pages of theirs in the block. ``free``: those of the pool that can take their place, None when unknown.
    ``gigantic``: nothing else can, for the buddy allocator has no piece of that size.
    """

    pages: int
    first: tuple[int, ...]
    inside: int
    free: int | None = None
    gigantic: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a size that no page has: it would be divided by."""
        if self.pages < 1:
            raise ValueError(f"no huge page has {self.pages} pages")


@dataclass(frozen=True, slots=True)
class Buddies:
    """How many free blocks of each order, from 0 on, a memory block holds, and all of its zone."""

    here: tuple[int, ...]
    zone: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for more orders than there are: each doubles what is counted."""
        if max(len(self.here), len(self.zone)) > _MOST_ORDERS:
            raise ValueError(f"no buddy allocator has {max(len(self.here), len(self.zone))} orders")


@dataclass(frozen=True, slots=True)
class Survey:
    """What the pages of one block are.

    ``kinds``: pages by kind, summing to the block's pages. ``blocking``: pages that can't move, the first ones
    as evidence; ``blocked`` counts all of them. ``unknown``: the views that were missing ("pins", "kinds", …):
    what could not be seen is named, never assumed good. ``boot``: memory that was there at boot, or None when
    unknown. ``holes``: the block has pages that are no memory. ``clean``: pages of clean page cache, which reclaim
    could drop once they lie elsewhere; None when unknown. ``huge``: huge pages in use, by size. ``endless``: all that
    can't move passes isolation, because nobody refers to it, so that an offline would go round until a signal.
    ``leaf``: the kernel's map with a leaf across an edge of the block, which arm64 refuses to split; empty: none.
    ``buddies``: in what pieces its free pages are; None when unknown.
    """

    block: int
    kinds: Mapping[Kind, int] = field(default_factory=dict)
    blocking: tuple[Evidence, ...] = ()
    blocked: int = 0
    unknown: tuple[str, ...] = ()
    boot: bool | None = None
    holes: bool = False
    clean: int | None = None
    huge: tuple[HugePages, ...] = ()
    endless: bool = False
    leaf: str = ""
    buddies: Buddies | None = None

    @classmethod
    def of_none(cls, block: int) -> Survey:
        """What is known of the pages of a block that nobody looked at."""
        return cls(block, unknown=("kinds", "pins"))

    @property
    def to_move(self) -> int:
        """Pages that migration has to carry elsewhere."""
        return sum(pages for kind, pages in self.kinds.items() if kind.movable)


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pages of one block are, page by page.

    ``runs``: kind and number of adjacent pages, from the block's start, summing to the block's pages. ``pinned``: pfns
    that something holds where they are, as far as that can be seen. ``cma``: first pfn and number of pages lent to CMA.
    ``single``: the same of slabs that are a page each.
    """

    block: int
    runs: tuple[tuple[Kind, int], ...]
    pinned: tuple[int, ...] = ()
    cma: tuple[tuple[int, int], ...] = ()
    single: tuple[tuple[int, int], ...] = ()


class Ability(StrEnum):
    """What a machine may be able to do beyond the primitives: ``Interruptible``, ``PageByPage``, ``Glancing``,
    ``Counting``, ``BlockByBlock``, ``Vacating``, ``Examinable``."""

    INTERRUPT = "interrupt"
    PAGES = "pages"
    GLANCE = "glance"
    COUNT = "count"
    BLOCK = "block"
    VACATE = "vacate"
    DOCTOR = "doctor"


class Machine(Protocol):
    """Primitives of one machine. A kernel's refusal raises KernelError with its errno."""

    @property
    def clock(self) -> Clock:
        """The clock that deadlines are measured on."""
        ...

    @property
    def can(self) -> frozenset[Ability]:
        """What it can do besides. A machine at the far end of a wire says what its owner's can."""
        ...

    def snapshot(self) -> Snapshot:
        """Blocks, zones, banks, domains, policies: cheap, changes nothing."""
        ...

    def survey(self, block: int) -> Survey:
        """Look at every page of a block. Raises KernelError(ENOENT) when there is no such block."""
        ...

    def online(self, block: int, how: Online) -> None:
        """Write ``how`` to the block's state."""
        ...

    def offline(self, block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        """Write ``offline`` to the block's state; cancel at ``deadline`` (on ``clock``).

        ``spare``: pages that must still be there for the block's pages meanwhile (room.py, ``starved``); 0 asks for
        none. ``fence``: blocks that leave after it: where the bank's route can, what moves lands in none of them, and
        they may be emptied already; an offline that fails, or a block that comes online, ends that. Raises KernelError
        with the kernel's errno when it refuses, KernelError(EINTR) when the deadline struck and Refusal(NO_CAPACITY)
        when less was left, the block back as it was; CancelPending when the kernel has not let go.
        """
        ...

    def add(self, bank: str) -> None:
        """Bring the bank into the kernel by its route. Its blocks are there afterwards, online or not by policy."""
        ...

    def remove(self, bank: str) -> None:
        """Take the bank, all of whose blocks are offline, out of the kernel by its route; verified, never believed."""
        ...

    def power(self, domain: str) -> Power:
        """Ask the domain's switch. Raises SwitchError when it can't be asked."""
        ...

    def set_power(self, domain: str, want: Power) -> None:
        """Turn the domain's switch. Raises SwitchError when it failed or did not take effect, KernelError(EBUSY) for
        less than ``on`` while a block that touches the domain is in the kernel (gate.py)."""
        ...

    def set_auto_online(self, word: str) -> None:
        """Write ``auto_online_blocks``: what becomes of memory that is added from now on. Raises KernelError(EINVAL)
        for a word that it does not take."""
        ...

    def reading(self) -> Reading:
        """How the machine feels now: free memory, pressure, refaults, pages moved so far. Cheap, walks no page."""
        ...


class Interruptible(Machine, Protocol):
    """A machine whose offline under way can be ended from another thread, as by a signal to its writer."""

    def interrupt(self, block: int, deadline: float) -> None:
        """End the offline, or the ``vacate``, with these arguments, under way or only about to begin: it raises
        KernelError(EINTR), or CancelPending. No other is touched."""
        ...


class PageByPage(Machine, Protocol):
    """A machine that can tell what every single page is; a survey counts them."""

    def pages(self, block: int) -> Pages:
        """Look at every page of a block. Raises KernelError(ENOENT) when there is no such block."""
        ...


class Glancing(Machine, Protocol):
    """A machine that can tell what pages are without asking who holds them, which takes much longer to read."""

    def glance(self, block: int) -> Survey:
        """A survey by what pages are alone. Pins and owners are unknown, pages that do not show what they hold are
        ``unknown``, and huge pages are taken to be idle: nothing speaks against the block that a survey would not find.
        Raises KernelError(ENOENT) when there is no such block."""
        ...


class Counting(Machine, Protocol):
    """A machine whose kernel may count a block's pages by kind, so that nobody need read what each of them is."""

    def count(self, blocks: tuple[int, ...]) -> tuple[Survey, ...]:
        """Surveys of those of the blocks, each once, of which a count says all that a survey would: every page is free
        or can move, and nothing may hold one. What else is there, only a survey tells: such blocks are left out, and
        so are those that nobody counts, or that there are not."""
        ...


class BlockByBlock(Machine, Protocol):
    """A machine that can tell of one block what a snapshot says of all."""

    def block(self, number: int) -> Block | None:
        """The block as it is now; None where there is no such block."""
        ...


@runtime_checkable
class Surveying(Protocol):
    """A machine that opens what it looks with once for many blocks."""

    def surveys(self, blocks: Iterable[int], *, pins: bool = True) -> Iterator[Survey]:
        """A survey of each, as somebody asks for it; without ``pins`` a glance. What is no page is as it was at the
        first. Raises KernelError(ENOENT) when there is no such block."""
        ...


@dataclass(frozen=True, slots=True)
class Vacated:
    """What became of a node's pages. ``dropped``: pages of clean cache, None where nobody counted; ``left``: what was
    not moved, and why, in words."""

    dropped: int | None = 0
    left: tuple[str, ...] = ()


class Vacating(Machine, Protocol):
    """A machine that can empty a NUMA node as far as processes fill it, many of them at a time."""

    def vacate(self, block: int, deadline: float, *, drop: int = 0, spare: int = 0) -> Vacated:
        """Before the last memory of the block's node leaves: have ``drop`` pages of its clean page cache dropped, then
        what processes have mapped there moved to other nodes, as far as their memory policies and cpusets allow that.

        Ends at ``deadline``, and when less than ``spare`` pages are left for what moves (as in ``offline``). All that
        it did are pages elsewhere, and new ones may come. Raises KernelError(EINTR) when it was interrupted.
        """
        ...


class Examinable(Machine, Protocol):
    """A machine with files of its own, in which one can look for what would make a removal fail or hurt."""

    def doctor(self, board: str | None = None) -> tuple[Finding, ...]:
        """All findings, the worst first. ``board``: text of a board file to hold the machine against, in place of its
        own. Raises BoardError."""
        ...


def each_survey(machine: Machine, blocks: Iterable[int]) -> Iterator[Survey]:
    """A survey of each of the blocks. That a machine does it at once only saves time, so its class may tell."""
    return machine.surveys(blocks) if isinstance(machine, Surveying) else map(machine.survey, blocks)


def each_glance(machine: Glancing, blocks: Iterable[int]) -> Iterator[Survey]:
    """A glance at each of them."""
    return machine.surveys(blocks, pins=False) if isinstance(machine, Surveying) else map(machine.glance, blocks)


def is_examinable(machine: Machine) -> TypeGuard[Examinable]:
    """Whether the machine says so: of one at the far end of a wire the class tells nothing."""
    return Ability.DOCTOR in machine.can


def is_interruptible(machine: Machine) -> TypeGuard[Interruptible]:
    """Whether the machine says so: of one at the far end of a wire the class tells nothing."""
    return Ability.INTERRUPT in machine.can


def can_glance(machine: Machine) -> TypeGuard[Glancing]:
    """The same."""
    return Ability.GLANCE in machine.can


def can_count(machine: Machine) -> TypeGuard[Counting]:
    """The same."""
    return Ability.COUNT in machine.can


def block_now(machine: Machine, number: int) -> Block | None:
    """The block as it is now; None where there is no such block. Asks for no more than that where the machine can."""
    return machine.block(number) if tells_blocks(machine) else machine.snapshot().block(number)


def tells_blocks(machine: Machine) -> TypeGuard[BlockByBlock]:
    """Whether the machine says so: of one at the far end of a wire the class tells nothing."""
    return Ability.BLOCK in machine.can


def can_vacate(machine: Machine) -> TypeGuard[Vacating]:
    """The same."""
    return Ability.VACATE in machine.can


def tells_pages(machine: Machine) -> TypeGuard[PageByPage]:
    """Whether the machine says so: of one at the far end of a wire the class tells nothing."""
    return Ability.PAGES in machine.can
