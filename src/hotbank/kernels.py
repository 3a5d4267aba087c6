# SPDX-License-Identifier: Apache-2.0
"""What differs between kernels: one row a release, one column a difference. Beside it: constants of architectures.

A column is False before the commit that ``made_by`` names and True from its release on, or until one that ended it
(``auto_online`` is the word of the build). What follows from a column is said with it and in docs/radar.md. A release
that is newer than the table is judged by its newest row: ``judged_by`` and ``newer`` say so. Versions are compared here
and nowhere else. What a distribution's configuration or a stable kernel may have otherwise is read from the machine,
where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from hotbank.errors import BoardError, Code, Refusal
from hotbank.memory import KIB, MIB

_RELEASE = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?![0-9]).*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Commit:
    """Where a difference comes from: the first release that has it, the commit's hash (12 digits) and subject."""

    since: str
    hash: str
    subject: str

    def __str__(self) -> str:
        return f'{self.hash} ("{self.subject}", {self.since})'


def made_by(
    since: str,
    hash_: str,
    subject: str,
    *,
    before: Any = False,
    after: Any = True,
    chosen: str | None = None,
    until: Commit | None = None,
) -> Any:
    """A column, with the commit that made the difference, and the values of kernels before it and from it on.

    ``chosen``: the first release that Debian configured so, where the commit only made it a choice, or that has it by
    its stable kernel. ``until``: what ended it; from there on kernels are as before.
    """
    made = {"commit": Commit(since, hash_, subject), "after": after, "first": chosen or since, "until": until}
    return field(default=before, metadata=made)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One release and what it does. ``judged_by``: the row of the table that says so; ``newer``: than every row."""

    release: str
    judged_by: str = ""
    newer: bool = False

    nodes_before_list: bool = made_by("6.4", "b41328187629", "of: fdt: Scan /memreserve/ last")
    """/reserved-memory is read before the memory reservation block, so a range in both can be no-map; before, what the
    list had reserved was refused to be (early_init_dt_reserve_memory, EBUSY)."""

    dumps_above_dma: bool = made_by(
        "6.2", "a9ae89df7377", "arm64: kdump: Support crashkernel=X fall back to reserve region above DMA zones"
    )
    """arm64: ``crashkernel=size`` that does not fit below what all DMA masters reach goes above it, and what lies above
    has 128 MiB below unless ``,low`` says otherwise (a149cf00b158, of the same release)."""

    checks_mirror: bool = made_by("6.6", "0db31d63f27e", "mm: disable kernelcore=mirror when no mirror memory")
    """``kernelcore=mirror`` without mirrored memory is ignored; before, everything above 4 GiB became Movable."""

    movable_keeps_less: bool = made_by(
        "6.6", "416ef04fe00c", "mm/page_alloc: fix min_free_kbytes calculation regarding ZONE_MOVABLE"
    )
    """ZONE_MOVABLE has no share in min_free_kbytes and keeps little back for itself, as HighMem always did."""

    prepares_blocks: bool = made_by(
        "6.9",
        "c5f1e2d18909",
        "mm/memory_hotplug: introduce MEM_PREPARE_ONLINE/MEM_FINISH_OFFLINE notifiers",
        until=Commit(
            "6.19", "300709fbefd1", "mm/memory_hotplug: Remove MEM_PREPARE_ONLINE/MEM_FINISH_OFFLINE notifiers"
        ),
    )
    """Memory notifiers are asked once more before a block comes online, and told once more after it went offline."""

    forgets_tree_marks: bool = made_by("6.12", "767507654c22", "arch_numa: switch over to numa_memblks")
    """arm64: NUMA setup clears the ``hotpluggable`` of the device tree, and the SRAT's of each node that holds kernel
    memory (numa_clear_kernel_node_hotplug)."""

    joins_nodes: bool = made_by("6.12", "767507654c22", "arch_numa: switch over to numa_memblks")
    """arm64: memory without a node that lies between memory of one node belongs to it, and nodes that overlap are
    refused (numa_cleanup_meminfo)."""

    wants_last_node: bool = made_by("6.12", "7e488677a54a", "of, numa: return -EINVAL when no numa-node-id is found")
    """arm64: no node number of the device tree counts when its last memory node has none."""

    emulates_nodes: bool = made_by("6.12", "767507654c22", "arch_numa: switch over to numa_memblks")
    """arm64: ``numa=fake=`` makes nodes where CONFIG_NUMA_EMU is set, which Debian's kernels leave out."""

    exact_dma_limit: bool = made_by("6.12", "ba0fb44aed47", "dma-mapping: replace zone_dma_bits by zone_dma_limit")
    """arm64: zone DMA ends where masters stop to reach; before, at the power of two above."""

    reserves_by_name: bool = made_by(
        "6.12", "1e4c64b71c9b", 'mm/memblock: Add "reserve_mem" to reserved named memory at boot up'
    )
    """``reserve_mem=`` on the command line takes memory."""

    steals_smallest: bool = made_by(
        "6.15",
        "c2f6ea38fc1b",
        "mm: page_alloc: don't steal single pages from biggest buddy",
        chosen="6.12",
    )
    """Who finds no free page of its migratetype, and no pageblock of another that is free enough to be turned over,
    takes a page of the smallest free piece there is; before, one for the kernel came from the largest. Stable 6.12 took
    it with 2c847f27c37d, which mends what that costs: not in 6.1.176, in 6.12.95."""

    frozen_slab: bool = made_by("6.14", "9aec2fb0fd5e", "slab: allocate frozen pages")
    """Nobody refers to the pages of a slab, and isolation passes over such pages (``has_unmovable_pages``): where slabs
    of one page are all that stays, an offline goes round until a signal. Larger ones are refused at once, as before."""

    spares_left_huge_pages: bool = made_by("6.14", "04f13d241b8b", "mm: replace free hugepage folios after migration")
    """A huge page that migrates takes none of its pool that lies in what is leaving (dequeue_hugetlb_folio_node_exact).
    Before, on a machine of one node, each takes the place that the one before has just left, and an offline goes round
    until a signal as long as the pool has a free page. Bracketed by guests: not in 6.12.95, in 6.16.12."""

    has_defrag_mode: bool = made_by("6.15", "e3aa7df331bc", "mm: page_alloc: defrag_mode")
    """``vm.defrag_mode``, 0 unless somebody sets it: 1 keeps pages of the kernel out of pageblocks of movable ones, and
    counts watermarks in whole free pageblocks (a211c6550efc, of the same release)."""

    auto_online: str = made_by(
        "6.14",
        "44d46b76c3a4",
        "mm: add build-time option for hotplug memory default online type",
        before="offline",
        after="online",
        chosen="6.17",
    )
    """What ``auto_online_blocks`` reads without ``memhp_default_state=``: a choice of Debian's configuration, which
    its later builds of 6.12 made too."""

    tells_nodes: bool = made_by("6.17", "67929de10847", "mm,memory_hotplug: implement numa node notifier")
    """Where a block is a node's first memory or its last, notifiers of nodes are asked before those of memory, and may
    refuse as well."""

    movable_by_type: bool = made_by(
        "6.17", "3d388584d599", 'mm: convert "movable" flag in page->mapping to a page flag'
    )
    """A page that its driver moves says so by its type and a flag; before, by two bits of ``page->mapping``, which in a
    slab that a CPU keeps for itself may be anything: isolation then passes over it."""

    reclaims_nodes: bool = made_by("6.17", "b980077899ea", "mm: introduce per-node proactive reclaim interface")
    """A node can be told to give up page cache (/sys/devices/system/node/nodeX/reclaim)."""

    keeps_slab: bool = made_by("6.17", "5a20c096a165", "mm,slub: use node-notifier instead of memory-notifier")
    """An offline leaves slab caches alone unless it takes a node's last memory; before, it shrank all of them after
    isolation, so that a block with empty slabs might leave after all."""

    keeps_types: bool = made_by("6.17", "e904bce2d9d4", "mm/page_isolation: make page isolation a standalone bit")
    """An offline that comes to nothing leaves pageblocks the migratetype that they had; before, all that it had
    isolated were Movable afterwards."""

    knows_dump_in_cma: bool = made_by(
        "6.17", "35c18f2933c5", 'Add a new optional ",cma" suffix to the crashkernel= command line option'
    )
    """A ``crashkernel=`` with ``,cma`` stands beside others; before, it was one that could not be read."""

    dumps_in_cma: bool = made_by(
        "7.3", "c12c63d05dfe", "arm64: kexec_file: Add support for crashkernel CMA reservation"
    )
    """arm64: ``crashkernel=size,cma`` takes CMA, beside a crash kernel of its own. Bracketed by what headers say of the
    same series (crash_prepare_headers): not in 7.2.12, in 7.3.4."""

    vetoes_leaf: bool = made_by(
        "7.1", "95a58852b0e5", "arm64/mm: Reject memory removal that splits a kernel leaf mapping"
    )
    """arm64: an offline is refused (EPERM) where a leaf of the linear map or of the memmap crosses the block's edge, as
    all of them do under ``memmap_on_memory``."""

    reserves_first_range: bool = made_by(
        "7.2", "7b9f263909a5", "of: reserved_mem: only support one <base size> entry in reg property"
    )
    """Of a node of /reserved-memory with several ranges only the first is reserved; before, all. Bracketed by what the
    images say: not in 7.1.13, in 7.2.12."""

    cma_in_each_node: bool = made_by(
        "7.3", "7e6ace2535d0", "dma-contiguous: add kconfig option to setup numa cma area if not configured explicitly"
    )
    """With several nodes each has a CMA area of its own, beside the one that all masters reach."""

    def knows(self, word: str) -> bool:
        """False for a word of the command line that came later than this kernel."""
        return word not in WORDS or _series(self.release) >= _series(WORDS[word].since)

    @property
    def caveat(self) -> str:
        """One line for a kernel newer than the table, else empty."""
        what = f"kernel {self.release} is newer than any hotbank has rules for: judged by those of {self.judged_by}"
        return what if self.newer else ""


_HANDOVER = Commit("6.16", "fc33e4b44b27", "kexec: enable KHO support for memory preservation")
WORDS: Mapping[str, Commit] = {
    "kho": _HANDOVER,
    "kho_scratch": _HANDOVER,
    "numa_cma": Commit("6.6", "bf29bfaa5490", "dma-contiguous: support numa CMA for specified node"),
    "sysctl.vm.mem_profiling": Commit(
        "6.10", "22d407b164ff", "lib: add allocation tagging support for memory allocation profiling"
    ),
    "trace_instance": Commit("6.3", "cb1f98c5e574", "tracing: Add creation of instances at boot command line"),
}
"""Words of the command line that came after the oldest row, each with the commit that brought it."""


def _row(release: str) -> Kernel:
    """Each column as its commits say."""
    own = [column for column in _columns() if _has(column, release)]
    return replace(Kernel(release), **{column.name: column.metadata["after"] for column in own})


def _has(column: Field[Any], release: str) -> bool:
    until = column.metadata["until"]
    ended = until is not None and _series(until.since) <= _series(release)
    return _series(column.metadata["first"]) <= _series(release) and not ended


def _columns() -> tuple[Field[Any], ...]:
    return tuple(column for column in fields(Kernel) if column.metadata)


def _series(release: str) -> tuple[int, int]:
    """``6.12.95`` as numbers to compare; text that is no release comes before all of them."""
    match = _RELEASE.fullmatch(release)
    return (int(match[1]), int(match[2])) if match else (-1, -1)


KERNELS: tuple[Kernel, ...] = tuple(
    _row(f"{major}.{minor}") for major, minors in ((6, range(1, 20)), (7, range(4))) for minor in minors
)
"""The table, oldest first."""

DEFAULT = "6.12"


def rules() -> Mapping[str, tuple[Commit, ...]]:
    """The columns by name, each with the commit that made the difference and the one, if any, that ended it."""
    both = {column.name: (column.metadata["commit"], column.metadata["until"]) for column in _columns()}
    return {name: tuple(commit for commit in commits if commit is not None) for name, commits in both.items()}


def cause(column: str, one: str, other: str) -> Commit:
    """The commit that has the newer of two releases differ from the older, if the column does."""
    newer = max(one, other, key=_series)
    (made, *ended) = rules()[column]
    return next((commit for commit in ended if _series(commit.since) <= _series(newer)), made)


def known() -> str:
    """The releases of the table, for help texts and remedies: ``6.1 to 7.3``."""
    return f"{KERNELS[0].release} to {KERNELS[-1].release}"


def kernel(release: str) -> Kernel:
    """How a kernel of that release behaves: ``6.1.176``, ``6.12.95-cloud``, ``7.9``; by the newest row not newer.

    Raises Refusal(UNSUPPORTED) for a release older than the table, and for text that is no release.
    """
    asked = _series(release)
    older = [row for row in KERNELS if _series(row.release) <= asked]
    if not older:
        raise Refusal(Code.UNSUPPORTED, f"no rules for kernel {release!r}", remedy=f"known: {known()}, and newer ones")
    row = older[-1]
    newer = row is KERNELS[-1] and asked != _series(row.release)
    return replace(row, release=release, judged_by=row.release, newer=newer)


def row_of(release: str) -> Kernel | None:
    """The same; None where there are no rules for it."""
    with suppress(Refusal):
        return kernel(release)
    return None


def moves_vmware_balloon(release: str) -> bool | None:
    """True if pages of VMware's balloon can move (5.4, "vmw_balloon: Compaction support"); None for no release."""
    asked = _series(release)
    return asked >= (5, 4) if asked >= (0, 0) else None


# Architectures


@dataclass(frozen=True, slots=True)
class Lowmem:
    """The linear map of a 32-bit kernel (arch/arm/mm/mmu.c, ``adjust_lowmem_bounds``). Bytes and virtual addresses."""

    page_offset: int
    vmalloc_end: int
    vmalloc_offset: int
    vmalloc: int
    least_vmalloc: int

    def size(self, vmalloc: int | None = None) -> int:
        """Bytes of RAM, from its start on, that the map reaches; ``vmalloc``: what ``vmalloc=`` asks for."""
        most = self.vmalloc_end - (self.page_offset + 32 * MIB + self.vmalloc_offset)
        taken = max(self.least_vmalloc, min(self.vmalloc if vmalloc is None else vmalloc, most))
        return self.vmalloc_end - taken - self.vmalloc_offset - self.page_offset


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a kernel takes for itself.

    ``image_offset`` (from the start of RAM), ``image``, ``early`` (page tables and the unflattened device tree),
    ``cma`` and ``bounce`` (SWIOTLB where masters can't reach all RAM) in bytes; the rest in pages, ``per_node`` for
    each node beyond the first.
    """

    image_offset: int
    image: int
    early: int
    slab: int
    slab_reclaimable: int
    other: int
    per_node: int = 0
    cma: int = 0
    bounce: int = 0


@dataclass(frozen=True, slots=True)
class Arch:
    """One architecture, by the name of its directory in the kernel's tree for the ARMs, else by uname's.

    ``machines``: what ``uname -m`` says, the usual one first; ``also``: what else people call it, Debian's name first.
    ``struct_page`` in bytes. ``max_orders``: MAX_PAGE_ORDER
    by page size, as Debian configures it; empty where the model does not know. ``huge_pages``: a pageblock is a huge
    page; else it is the largest buddy (include/linux/pageblock-flags.h). ``blocks``: bytes of a memory block by page
    size. ``huge_sizes_by_page``: of huge pages, by page size. ``command_line``: COMMAND_LINE_SIZE.
    ``boot_memory_leaves``: False where a notifier vetoes it, None where that is not known. ``lowmem``: how far a 32-bit
    kernel reaches. ``mem_has_start``: ``mem=`` and ``movablemem=`` say where memory is. ``heeds_marks``: a bank that is
    marked movable is kept free of kernel memory without ``movable_node``.
    ``memmap_on_memory``: added memory may hold its own memmap (ARCH_MHP_MEMMAP_ON_MEMORY_ENABLE).
    ``ported``: upstream has no memory hotplug there, our port under kernel/ has. ``evacuates``: our driver empties
    banks behind a fence there (kernel/bank/Kbuild). ``lpae``: 32-bit arm with CONFIG_ARM_LPAE, see ``with_lpae``.
    ``dumps_from_below``: a crash kernel changes places with the lowest memory, which a notifier keeps for it
    (arch/s390/kernel/setup.c, kdump_mem_notifier).
    ``move_pages``, ``migrate_pages``: the numbers of these system calls. ``processors``: what a device tree's cpu nodes
    are called or compatible with, as a pattern (bindings arm/cpus.yaml, riscv/cpus.yaml; ``arm`` comes first, whose
    list is closed). ``affinities``: types of its processors' SRAT structures.
    ``resources``: what its kernel alone calls an entry of /proc/iomem, as a pattern.
    ``systemd``: its name there, where that is another (src/basic/architecture.c).
    ``magic``: what its bootable images have, and at which byte (Documentation/arch/arm64/booting.rst and the like; of
    arm a zImage). ``firmware``: what describes its boards. ``footprint``: None where the model can't boot it.
    """

    name: str
    machines: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    struct_page: int = 64
    max_orders: Mapping[int, int] = field(default_factory=dict)
    huge_pages: bool = True
    blocks: Mapping[int, int] = field(default_factory=dict)
    huge_sizes_by_page: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    command_line: int = 2048
    boot_memory_leaves: bool | None = None
    lowmem: Lowmem | None = None
    mem_has_start: bool = False
    heeds_marks: bool = False
    memmap_on_memory: bool = True
    ported: bool = False
    evacuates: bool = False
    lpae: bool = False
    dumps_from_below: bool = False
    move_pages: int | None = None
    migrate_pages: int | None = None
    firmware: str = "dtb"
    processors: str = ""
    affinities: tuple[int, ...] = ()
    resources: str = ""
    systemd: str = ""
    magic: tuple[int, bytes] | None = None
    footprint: Footprint | None = None

    def huge_sizes(self, page_size: int) -> tuple[int, ...]:
        """Bytes of each size of huge pages that ``hugepagesz=`` may name; none where the architecture has none here."""
        return self.huge_sizes_by_page.get(page_size, ())

    def kept(self, line: str) -> str:
        """What its kernels keep of a command line: all but the last of COMMAND_LINE_SIZE bytes."""
        return line[: self.command_line - 1]

    def max_order(self, page_size: int) -> int:
        """MAX_PAGE_ORDER."""
        return self.max_orders.get(page_size, max(10, _huge_order(page_size)))

    def pageblock_order(self, page_size: int) -> int:
        """pageblock_order."""
        return _huge_order(page_size) if self.huge_pages else self.max_order(page_size)

    def largest_buddy(self, page_size: int) -> int:
        """MAX_ORDER_NR_PAGES: pages of the largest buddy block."""
        return 1 << self.max_order(page_size)

    def block_size(self, page_size: int) -> int:
        """Bytes of a memory block, where no board says."""
        return self.blocks.get(page_size, 512 * MIB)


def _huge_order(page_size: int) -> int:
    """A PMD maps as many pages as one page holds 8-byte entries."""
    return page_size.bit_length() - 1 - 3


_ARM64_ORDERS = {4 * KIB: 10, 16 * KIB: 11, 64 * KIB: 13}
_ARM64_HUGE = {  # contiguous PTEs, a PMD, contiguous PMDs, and with 4K pages a PUD
    4 * KIB: (64 * KIB, 2 * MIB, 32 * MIB, 1024 * MIB),
    16 * KIB: (2 * MIB, 32 * MIB, 1024 * MIB),
    64 * KIB: (2 * MIB, 512 * MIB, 16 * 1024 * MIB),
}
_ARM64_FOOTPRINT = Footprint(
    2 * MIB, 43 * MIB, 2 * MIB, slab=2014, slab_reclaimable=174, other=1100, per_node=300, cma=64 * MIB, bounce=64 * MIB
)
_ARM64 = Arch(
    "arm64",
    machines=("aarch64", "aarch64_be"),
    max_orders=_ARM64_ORDERS,
    blocks={4 * KIB: 128 * MIB, 16 * KIB: 128 * MIB},
    huge_sizes_by_page=_ARM64_HUGE,
    boot_memory_leaves=False,  # arch/arm64/mm/mmu.c, prevent_bootmem_remove_notifier
    processors=r"arm,|apple,|apm,|qcom,|nvidia,|cavium,|brcm,|ampere,|marvell,|fujitsu,|hisilicon,|samsung,|phytium,",
    affinities=(3,),
    evacuates=True,
    move_pages=239,
    magic=(56, b"ARM\x64"),
    migrate_pages=238,
    footprint=_ARM64_FOOTPRINT,
)
# 32-bit ARM as our port under kernel/arm makes it, without LPAE and without huge pages.
_ARM = Arch(
    "arm",
    machines=("armv7l", "armv6l", "armv5tel", "armv8l"),
    also=("armhf", "armel", "arm32"),
    struct_page=32,
    max_orders={4 * KIB: 10},
    huge_pages=False,
    blocks={4 * KIB: 64 * MIB},
    command_line=1024,
    boot_memory_leaves=True,
    lowmem=Lowmem(0xC0000000, 0xFF800000, 8 * MIB, vmalloc=240 * MIB, least_vmalloc=16 * MIB),
    mem_has_start=True,
    memmap_on_memory=False,
    heeds_marks=True,  # arch/arm/mm/memhp.c of the port switches movable_node on
    ported=True,
    firmware="atags",
    magic=(36, b"\x18\x28\x6f\x01"),
    processors=r"arm,(cortex-(a(5|7|8|9|12|15|17|32)|[mr]\d+\w*)|arm\d.*|sc\d+)$"
    r"|qcom,(krait|scorpion)|brcm,brahma-b15|marvell,(pj4.*|sheeva.*|mohawk|feroceon|xscale.*|88fr.*|armada.*)$|faraday,|intel,(sa|xscale)|ti,omap",
    footprint=Footprint(32 * KIB, 8 * MIB - 32 * KIB, 256 * KIB, slab=600, slab_reclaimable=150, other=350),
)

_X86 = Arch(
    "x86_64",
    machines=("x86_64",),
    also=("amd64", "x86-64", "x64"),
    max_orders={4 * KIB: 10},
    blocks={4 * KIB: 128 * MIB},
    boot_memory_leaves=True,
    move_pages=279,
    migrate_pages=256,
    processors=r"intel,|AuthenticAMD|GenuineIntel",
    affinities=(0, 2),
    resources=r"IOAPIC \d|Local APIC$|System ROM$",  # arch/x86/kernel/apic/, arch/x86/kernel/probe_roms.c
    systemd="x86-64",
    magic=(0x202, b"HdrS"),
)
# Boot memory may leave: no architecture but arm64 has a notifier that vetoes all of it (arch/*/, MEM_GOING_OFFLINE).
_OTHERS = (
    Arch(
        "riscv64",
        ("riscv64",),
        boot_memory_leaves=True,
        move_pages=239,
        migrate_pages=238,
        processors=r"riscv|sifive,",
        affinities=(7,),
        magic=(56, b"RSC\x05"),
    ),
    Arch(
        "loongarch64",
        ("loongarch64",),
        boot_memory_leaves=True,
        move_pages=239,
        migrate_pages=238,
        processors="loongson,",
    ),
    Arch(
        "ppc64le",
        ("ppc64le", "ppc64"),
        ("ppc64el",),
        boot_memory_leaves=True,
        move_pages=301,
        migrate_pages=258,
        processors="PowerPC,|fsl,e|ibm,power",
        systemd="ppc64-le",
    ),
    Arch("s390x", ("s390x",), boot_memory_leaves=True, dumps_from_below=True, move_pages=310, migrate_pages=287),
    Arch("mips", ("mips", "mips64"), processors=r"mips|mti,|ingenic,|brcm,bmips|cavium,octeon|loongson,gs"),
)

ARCHES: Mapping[str, Arch] = {
    row.name: row
    for row in (
        _ARM,
        _ARM64,
        _X86,
        Arch("i686", ("i686", "i586"), ("i386",), struct_page=32, boot_memory_leaves=True, systemd="x86"),
        *_OTHERS,
        replace(
            _ARM64,
            name="any",
            machines=(),
            also=(),
            boot_memory_leaves=None,
            move_pages=None,
            magic=None,
            migrate_pages=None,
            footprint=None,
        ),
    )
}
"""The table. ``any`` is a board or a machine that does not say: arm64's rules, but nothing is taken for granted."""

ANY, DEFAULT_ARCH = "any", "arm64"


def arch(name: str | None) -> Arch:
    """The row of that architecture; for one that hotbank does not know, what ``any`` says, under its name."""
    return ARCHES.get(name or ANY) or replace(ARCHES[ANY], name=name or ANY)


def bootable() -> tuple[str, ...]:
    """The architectures whose boot hotbank knows: zones and model."""
    return tuple(name for name, row in ARCHES.items() if row.footprint)


def ported() -> tuple[str, ...]:
    """The architectures of our own port."""
    return tuple(name for name, row in ARCHES.items() if row.ported)


def arch_to_boot(name: str) -> Arch:
    """What a board of that architecture boots as; one that does not say boots as arm64."""
    return ARCHES[name] if name in bootable() else ARCHES[DEFAULT_ARCH]


def board_arch(name: str) -> Arch:
    """What a board of that architecture boots as. Raises BoardError for one whose boot hotbank does not know."""
    known = (*bootable(), ANY)
    if name not in known:
        raise BoardError("arch", name, f"no model boots that, only {', '.join(known)}; such a board is for a host")
    return arch_to_boot(name)


def arch_described_by(firmware: str) -> Arch:
    """The architecture whose boards are described so, where nobody says which: arm for ATAGs, else arm64."""
    only = [row for row in ARCHES.values() if row.firmware == firmware]
    return only[0] if len(only) == 1 else ARCHES[DEFAULT_ARCH]


def arch_of_processor(names: Sequence[str]) -> str | None:
    """The architecture by the name of a cpu node and what it is compatible with; None where no row knows it."""
    rows = (row for row in ARCHES.values() if row.processors)
    return next((row.name for row in rows if any(re.match(row.processors, name) for name in names)), None)


def arch_of_affinity(kind: int) -> str | None:
    """The architecture by the type of a processor's structure in an SRAT (ACPI 6.5, 5.2.16); None for the others."""
    return next((row.name for row in ARCHES.values() if kind in row.affinities), None)


def arch_of_resource(names: Iterable[str]) -> str | None:
    """The architecture by the names of what /proc/iomem lists; None where none of them tells."""
    rows = [row for row in ARCHES.values() if row.resources]
    return next((row.name for name in names for row in rows if re.match(row.resources, name)), None)


def arch_of_image(image: bytes) -> str | None:
    """The architecture of a kernel that can be booted, unpacked; None where no row knows it."""
    rows = ((row.name, *row.magic) for row in ARCHES.values() if row.magic)
    return next((name for name, at, magic in rows if image.startswith(magic, at)), None)


def arch_called(name: str) -> str:
    """The kernel's name of what people call an architecture, by uname or otherwise; an unknown name stays as it is."""
    its = arch_of_machine(name)
    return next((row.name for row in ARCHES.values() if its in row.also), its)


def arch_of_machine(machine: str) -> str:
    """The kernel's name of what ``uname -m`` says; what no row knows stays as it is. The ARMs are many: ``armv*``."""
    known = next((row.name for row in ARCHES.values() if machine in row.machines), machine)
    return _ARM.name if machine.startswith("armv") else known


def with_lpae(row: Arch) -> Arch:
    """32-bit arm with CONFIG_ARM_LPAE: more than 4 GiB of memory, huge pages, and no memory hotplug, neither upstream
    nor by our port (kernel/arm/files/arch/arm/Kconfig.memhp). Raises Refusal for any other."""
    if row.lowmem is None:
        raise Refusal(Code.UNSUPPORTED, f"{row.name} has no LPAE", remedy="--lpae goes with --arch arm")
    sizes = {4 * KIB: (2 * MIB,)}
    return replace(row, lpae=True, ported=False, heeds_marks=False, huge_pages=True, huge_sizes_by_page=sizes)


def movable_node(arch: Arch, *, word: bool, marked: bool) -> bool:
    """True if this kernel keeps its own memory out of what is marked movable (mm/memory_hotplug.c, ``movable_node``).

    ``word``: ``movable_node`` is on its command line. ``marked``: a tag list or ``movablemem=`` marks a bank.
    """
    return not arch.lpae and (word or (marked and arch.heeds_marks))
