# SPDX-License-Identifier: Apache-2.0
"""What a device tree says about memory, and the edits that make a bank movable or hide it.

Truth: drivers/of/fdt.c (early_init_dt_scan_memory, early_init_dt_check_for_usable_mem_range), drivers/of/fdt.c and
of_reserved_mem.c (__reserved_mem_check_root, __reserved_mem_reserve_reg), drivers/of/address.c
(of_dma_get_max_cpu_address), drivers/of/of_numa.c; bindings memory.yaml, reserved-memory.yaml, pmem-region.
A bank that is not in the kernel at boot is in no /memory node; a node ``compatible = "hotbank,bank"`` tells a
driver where it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import pairwise, takewhile

from hotbank import kernels
from hotbank.errors import BoardError, Code, FormatError
from hotbank.firmware.fdt import FORM, Node, Tree, cells, strings
from hotbank.memory import MemoryMap, MemoryRegion, Range, Reservation, Unplaced

BANK_COMPATIBLE = "hotbank,bank"
_U64 = 1 << 64
_USABLE_RANGES = 2  # MAX_USABLE_RANGES


def memory_map(tree: Tree) -> MemoryMap:
    """Everything the tree says about memory. Raises FormatError for cells that can't be read."""
    chosen = tree.root.child("chosen") or Node("chosen")
    line = chosen.get("bootargs")
    return MemoryMap(
        regions=tuple(_regions(tree.root)),
        reserved=tuple(_reserved(tree)),
        pmem=tuple(_pmem(tree)),
        dma_limit=_dma_limit(tree.root),
        cmdline=None if line is None else line.partition(b"\0")[0].decode("latin-1"),
        initrd=_initrd(chosen),
        usable=_usable(chosen, tree.root),
        cpu_nodes=_cpu_nodes(tree.root),
        unplaced=tuple(_unplaced(tree.root)),
        uefi=_uefi_descriptors(chosen),
        arch=_arch(tree.root),
        no_memory=_why_no_memory(tree.root),
        dropped=tuple(_dropped(tree.root)),
    )


def banks(tree: Tree) -> tuple[MemoryRegion, ...]:
    """The ``hotbank,bank`` nodes: banks that are not in the kernel at boot; ``source`` is the bank's label."""
    return tuple(
        MemoryRegion(range_, _numa_node(node), hotpluggable=True, source=(node.strings("label") or (node.name,))[0])
        for parent, node in _with_parents(tree)
        if BANK_COMPATIBLE in node.strings("compatible")
        for range_ in _reg(node, parent)
    )


def add_memory(tree: Tree, regions: Iterable[MemoryRegion]) -> Tree:
    """The tree with a /memory node more for each region. Raises BoardError(OVERLAP) when some byte is memory twice."""
    added = tuple(regions)
    _refuse_overlaps((*_regions(tree.root), *added))
    return _insert(tree, (_memory_node(tree.root, region) for region in added))


def add_banks(tree: Tree, banks: Iterable[MemoryRegion]) -> Tree:
    """The tree with a ``hotbank,bank`` node for each: memory that a driver may add later; ``source`` is its label."""
    return _insert(tree, (_bank_node(tree.root, bank) for bank in banks))


def split(tree: Tree, at: int) -> Tree:
    """The tree with the memory around address ``at`` as two nodes, so that each can be marked or hidden.

    Raises BoardError when ``at`` is inside no memory node. At a boundary nothing changes.
    """
    if any(at in (r.range.start, r.range.end) for r in _regions(tree.root)):
        return tree
    return _carve(tree, _region_around(tree, at).range, at)


def mark(tree: Tree, range_: Range, *, movable: bool = True) -> Tree:
    """The tree with exactly this range ``hotpluggable`` (or no longer). Splits nodes as needed."""
    tree = _isolate(tree, range_)
    children = []
    for child in tree.root.children:
        if _is_memory(child) and any(range_.contains(r) for r in _reg(child, tree.root)):
            child = child.without_property("hotpluggable")
            child = child.with_property("hotpluggable", b"") if movable else child
        children.append(child)
    return replace(tree, root=replace(tree.root, children=tuple(children)))


def hide(tree: Tree, range_: Range, name: str = "bank") -> Tree:
    """The tree with this range taken out of memory and described as a ``hotbank,bank`` called ``name``."""
    tree = _isolate(tree, range_)
    gone = [r for r in _regions(tree.root) if range_.contains(r.range)]
    children = tuple(
        c for c in tree.root.children if not (_is_memory(c) and any(range_.contains(r) for r in _reg(c, tree.root)))
    )
    bare = replace(tree, root=replace(tree.root, children=children))
    return add_banks(bare, [MemoryRegion(range_, gone[0].node, source=name)])


def set_memory(tree: Tree) -> Tree:
    """The tree without any memory node or ``hotbank,bank``: the base on which a board's banks are put."""
    children = tuple(
        c for c in tree.root.children if not _is_memory(c) and BANK_COMPATIBLE not in c.strings("compatible")
    )
    return replace(tree, root=replace(tree.root, children=children))


def set_bootargs(tree: Tree, line: str) -> Tree:
    """The tree with /chosen/bootargs set."""
    chosen = tree.root.child("chosen") or Node("chosen")
    chosen = chosen.with_property("bootargs", strings(line))
    children = [c for c in tree.root.children if c.name != chosen.name]
    at = next((i for i, c in enumerate(tree.root.children) if c.name == chosen.name), 0)
    return replace(tree, root=replace(tree.root, children=(*children[:at], chosen, *children[at:])))


def empty(model: str, compatible: str) -> Tree:
    """A tree with only a root that has 2 address and 2 size cells."""
    properties = (
        ("#address-cells", cells(2)),
        ("#size-cells", cells(2)),
        ("compatible", strings(compatible)),
        ("model", strings(model)),
    )
    return Tree(Node("", properties))


def available(node: Node) -> bool:
    """of_device_is_available: no ``status``, or one of the two words for yes."""
    status = node.get("status")
    return status is None or status.rstrip(b"\0") in (b"okay", b"ok")


def _is_memory(node: Node) -> bool:
    return _type(node) == b"memory"


def _regions(root: Node) -> Iterator[MemoryRegion]:
    for node in root.children:
        if not _is_memory(node) or not available(node):
            continue
        name = "linux,usable-memory" if node.get("linux,usable-memory") is not None else "reg"
        hot, numa_node = node.get("hotpluggable") is not None, _numa_node(node)
        for range_ in _reg(node, root, name):
            yield MemoryRegion(range_, numa_node, hot, f"/{node.name}")


def _reserved(tree: Tree) -> Iterator[Reservation]:
    for address, size in takewhile(lambda entry: entry[1], tree.reservations):
        if address + size <= _U64:
            yield Reservation(Range.sized(address, size), "memreserve", listed=True)
    for node in _reserved_nodes(tree.root):
        if not _misread(node, tree.root):
            no_map, reusable, default = _flags(node)
            for at, range_ in enumerate(_reg(node, tree.root)):
                further = at > 0
                yield Reservation(range_, node.name, no_map, reusable, further=further, default_cma=default)


def _unplaced(root: Node) -> Iterator[Unplaced]:
    """__reserved_mem_alloc_size: nodes with ``size`` and without ``reg``."""
    for node in _reserved_nodes(root):
        size = _join(node.u32s("size"))
        if node.get("reg") is None and size and not _misread(node, root):
            within = tuple(_reg(node, root, "alloc-ranges"))
            yield Unplaced(node.name, size, _join(node.u32s("alignment")), within, *_flags(node))


def _flags(node: Node) -> tuple[bool, bool, bool]:
    """no-map, reusable, the default area for CMA."""
    no_map, reusable = node.get("no-map") is not None, node.get("reusable") is not None
    return no_map, reusable, reusable and node.get("linux,cma-default") is not None


def _dropped(root: Node) -> Iterator[str]:
    parent = root.child("reserved-memory")
    if parent and parent.children and not _is_understood(parent, root):
        yield "/reserved-memory lacks ranges, or has other cells than the root: the kernel passes over all of it"
    for node in _reserved_nodes(root):
        if wrong := _misread(node, root):
            yield f"{node.name}: {wrong}, so the kernel passes over it"


def _misread(node: Node, root: Node) -> str:
    """What of a reservation's cells the kernel can't read; empty where it can (__reserved_mem_reserve_reg)."""
    address, size = _cell_counts(root)
    reg, wanted = node.get("reg"), {"size": size, "alignment": address}
    if reg is not None:
        whole = len(reg) % (4 * (address + size) or 1) == 0
        return "" if whole else f"its reg has {len(reg) // 4} cells, no multiple of {address + size}"
    counts = ((name, len(value) // 4) for name in wanted if (value := node.get(name)) is not None)
    wrong = next(((name, count) for name, count in counts if count != wanted[name]), None)
    return f"its {wrong[0]} has {wrong[1]} cells, not {wanted[wrong[0]]}" if wrong else ""


def _reserved_nodes(root: Node) -> Iterator[Node]:
    parent = root.child("reserved-memory")
    if parent and _is_understood(parent, root):
        yield from filter(available, parent.children)


def _is_understood(parent: Node, root: Node) -> bool:
    """__reserved_mem_check_root: the kernel ignores all of a /reserved-memory without ranges or with other cells."""
    counts = tuple(parent.u32s(f"#{kind}-cells")[:1] for kind in ("address", "size"))
    return parent.get("ranges") is not None and counts == tuple((count,) for count in _cell_counts(root))


def _pmem(tree: Tree) -> Iterator[MemoryRegion]:
    for parent, node in _with_parents(tree):
        if "pmem-region" in node.strings("compatible") and available(node):
            numa_node = _numa_node(node)
            for range_ in _reg(node, parent):
                yield MemoryRegion(range_, numa_node, False, f"/{node.name}")


def _usable(chosen: Node, root: Node) -> tuple[Range, ...]:
    """early_init_dt_check_for_usable_mem_range: none at all where a cell is missing."""
    cells_each = sum(_cell_counts(root))
    whole = len(chosen.get("linux,usable-memory-range") or b"") % (4 * cells_each or 1) == 0
    return tuple(_reg(chosen, root, "linux,usable-memory-range"))[:_USABLE_RANGES] if whole else ()


def _uefi_descriptors(chosen: Node) -> int | None:
    """Number of entries in the memory map that UEFI's stub handed over (drivers/firmware/efi/fdtparams.c)."""
    if chosen.get("linux,uefi-mmap-start") is None:
        return None
    size, each = (_number(chosen.get(f"linux,uefi-mmap-{name}")) for name in ("size", "desc-size"))
    return size // each if size and each else 0


def _initrd(chosen: Node) -> Range | None:
    start, end = (_number(chosen.get(f"linux,initrd-{edge}")) for edge in ("start", "end"))
    return Range(start, end) if start is not None and end is not None and start < end else None


def _number(value: bytes | None) -> int | None:
    return int.from_bytes(value, "big") if value and len(value) in (4, 8) else None


def _cpus(root: Node) -> tuple[Node, ...]:
    """of_get_next_cpu_node: by name or by type."""
    cpus = (root.child("cpus") or Node("cpus")).children
    return tuple(c for c in cpus if c.name.partition("@")[0] == "cpu" or _type(c) == b"cpu")


def _type(node: Node) -> bytes:
    return (node.get("device_type") or b"").partition(b"\0")[0]


def _cpu_nodes(root: Node) -> tuple[int, ...]:
    return tuple(sorted({n for n in map(_numa_node, _cpus(root)) if n is not None}))


def _arch(root: Node) -> str | None:
    """By what the processors are compatible with: that itself where no row of the table knows it. None where they do
    not say."""
    named = [(cpu.name, *cpu.strings("compatible")) for cpu in _cpus(root)]
    unknown = next((names[1] for names in named if names[1:]), None)
    return next(filter(None, map(kernels.arch_of_processor, named)), unknown)


def _why_no_memory(root: Node) -> str:
    """Why the tree names no memory, empty where it does."""
    if next(_regions(root), None) is not None:
        return ""
    nodes = [node for node in root.children if _is_memory(node)]
    if root.child("images") and root.child("configurations"):
        return "it is a FIT image; the device tree is one of its images (dumpimage -T flat_dt -p N FILE)"
    if any(child.child("__overlay__") for child in root.children):
        return "it is an overlay, which changes another tree; apply it first (fdtoverlay -i BASE -o OUT OVERLAY)"
    if not nodes and root.child("memory"):
        return 'its memory node has no device_type = "memory", and the kernel passes over it'
    if not nodes:
        return "it has no memory node: the boot loader adds it; read /sys/firmware/fdt on the running machine"
    if not any(map(available, nodes)):
        return "each of its memory nodes is disabled by its status"
    return "its memory has size 0: the boot loader fills it in; read /sys/firmware/fdt on the running machine"


def _numa_node(node: Node) -> int | None:
    return next(iter(node.u32s("numa-node-id")), None)


def _with_parents(tree: Tree) -> Iterator[tuple[Node, Node]]:
    stack = [tree.root]
    while stack:
        parent = stack.pop()
        for node in parent.children:
            yield parent, node
        stack.extend(reversed(parent.children))


def _cell_counts(*nodes: Node) -> tuple[int, int]:
    """#address-cells and #size-cells for the children of the last node.

    As in the kernel (of_bus_n_addr_cells), a node without them has its parent's; the root has 1 and 1, not the
    specification's 2 and 1. ``nodes``: the path from the root, or as much of it as is known.
    """
    address, size = (
        next((values[0] for node in reversed(nodes) if (values := node.u32s(name))), 1)
        for name in ("#address-cells", "#size-cells")
    )
    if address > 4 or size > 4:
        raise FormatError(FORM, 0, f"{nodes[-1].name or '/'} #address-cells", f"{address} and {size}: at most 4")
    return address, size


def _reg(node: Node, parent: Node, name: str = "reg") -> Iterator[Range]:
    """Ranges of ``reg``; empty ones are nothing. Raises FormatError beyond 64 bits."""
    address, size = _cell_counts(parent)
    words = node.u32s(name)
    for at in range(0, len(words) - address - size + 1, address + size or 1):
        start, length = _join(words[at : at + address]), _join(words[at + address : at + address + size])
        if start + length > _U64:
            raise FormatError(FORM, 0, f"{node.name} {name}", f"{start:#x} + {length:#x} is beyond 64 bits")
        if length:
            yield Range.sized(start, length)


def _join(words: tuple[int, ...]) -> int:
    value = 0
    for word in words:
        value = value << 32 | word
    return value


def _reg_value(root: Node, range_: Range) -> bytes:
    address, size = _cell_counts(root)
    try:
        return range_.start.to_bytes(4 * address, "big") + range_.size.to_bytes(4 * size, "big")
    except OverflowError as e:
        problem = f"{range_} does not fit into {address} address and {size} size cells"
        raise FormatError(FORM, 0, "reg", problem) from e


def _refuse_overlaps(regions: Iterable[MemoryRegion]) -> None:
    for low, high in pairwise(sorted(regions, key=lambda region: region.range)):
        if low.range.overlaps(high.range):
            problem = f"overlaps {low.source or 'memory'} ({low.range})"
            raise BoardError("start", f"{high.range.start:#x}", problem, code=Code.OVERLAP)


def _memory_node(root: Node, region: MemoryRegion) -> Node:
    properties = [("device_type", strings("memory")), ("reg", _reg_value(root, region.range))]
    if region.hotpluggable:
        properties.append(("hotpluggable", b""))
    return Node(f"memory@{region.range.start:x}", (*properties, *_numa_property(region)))


def _bank_node(root: Node, bank: MemoryRegion) -> Node:
    properties = (
        ("compatible", strings(BANK_COMPATIBLE)),
        ("label", strings(bank.source)),
        ("reg", _reg_value(root, bank.range)),
        ("status", strings("okay")),
    )
    return Node(f"bank@{bank.range.start:x}", (*properties, *_numa_property(bank)))


def _numa_property(region: MemoryRegion) -> tuple[tuple[str, bytes], ...]:
    return () if region.node is None else (("numa-node-id", cells(region.node)),)


def _insert(tree: Tree, nodes: Iterable[Node]) -> Tree:
    names, added = {child.name for child in tree.root.children}, list[Node]()
    for node in nodes:
        if node.name in names:
            raise FormatError(FORM, 0, "node name", f"/{node.name} is there already")
        names.add(node.name)
        added.append(node)
    return replace(tree, root=replace(tree.root, children=(*tree.root.children, *added)))


def _region_around(tree: Tree, at: int) -> MemoryRegion:
    region = next((r for r in _regions(tree.root) if r.range.start <= at < r.range.end), None)
    if region is None:
        raise BoardError("address", f"{at:#x}", "is in no memory node of this device tree")
    return region


def _isolate(tree: Tree, range_: Range) -> Tree:
    """Memory nodes cut so that ``range_`` is made of whole nodes."""
    have = [r for r in (m.range.intersection(range_) for m in _regions(tree.root)) if r]
    if sum(r.size for r in have) != range_.size:
        raise BoardError("range", str(range_), "is not all memory in this device tree")
    for region in [r.range for r in _regions(tree.root) if r.range.overlaps(range_)]:
        tree = _carve(tree, region, range_.start, range_.end)
    return tree


def _carve(tree: Tree, region: Range, *cuts: int) -> Tree:
    """The node that has ``region`` replaced by one node for each piece and each other range it has."""
    edges = [region.start, *(c for c in cuts if region.start < c < region.end), region.end]
    pieces = [Range(a, b) for a, b in pairwise(edges)]
    children: list[Node] = []
    for child in tree.root.children:
        ranges = list(_reg(child, tree.root)) if _is_memory(child) else []
        if region not in ranges or (len(ranges) == 1 and len(pieces) == 1):
            children.append(child)
            continue
        for part in (p for r in ranges for p in (pieces if r == region else [r])):
            piece = child.with_property("reg", _reg_value(tree.root, part))
            children.append(replace(piece, name=f"memory@{part.start:x}"))
    return replace(tree, root=replace(tree.root, children=tuple(children)))


def _dma_limit(root: Node) -> int | None:
    """of_dma_get_max_cpu_address of the whole tree, as an exclusive limit; None when no bus limits DMA."""
    limits = list(_dma_ends(root, (), ()))
    return min(limits) if limits else None


def _dma_ends(node: Node, ancestors: tuple[Node, ...], above: tuple[Windows, ...]) -> Iterator[int]:
    """For each available bus with a ``dma-ranges`` that isn't empty: the end of the highest range, in CPU addresses.

    ``above``: the windows of those ancestors that have any, the root's left out: it has no parent.
    """
    here = above
    if node.get("dma-ranges"):
        entries = list(_dma_entries(node, ancestors))
        ends = (start + e.size for e in entries if e.size and (start := _to_cpu(e.parent, above)) is not None)
        yield max(ends, default=1)
        here = (*above, Windows(entries)) if ancestors and entries else above
    for child in node.children:
        if available(child):
            yield from _dma_ends(child, (*ancestors, node), here)


@dataclass(frozen=True, slots=True)
class DmaEntry:
    """One entry of ``dma-ranges``: addresses on this bus, on its parent's, and bytes."""

    child: int
    parent: int
    size: int


def _dma_entries(node: Node, ancestors: tuple[Node, ...]) -> Iterator[DmaEntry]:
    child, size = _cell_counts(*ancestors, node)
    parent = _cell_counts(*(ancestors or (node,)))[0]
    step = child + parent + size
    words = node.u32s("dma-ranges")
    for at in range(0, len(words) - step + 1, step or 1):
        edges = at, at + child, at + child + parent, at + step
        yield DmaEntry(*(_join(words[a:b]) for a, b in pairwise(edges)))


class Windows:
    """The entries of a bus as a map that is looked up by bisection; where entries overlap, the first of them holds."""

    def __init__(self, entries: list[DmaEntry]) -> None:
        self._starts: list[int] = []
        self._offsets: list[int | None] = []  # from this bus to its parent's, None where no entry holds
        by_start = sorted(range(len(entries)), key=lambda i: entries[i].child)
        held: list[int] = []  # a heap of the entries that hold here, by their place in the property
        waiting = 0
        for point in sorted({edge for e in entries for edge in (e.child, e.child + e.size)}):
            while waiting < len(by_start) and entries[by_start[waiting]].child == point:
                heappush(held, by_start[waiting])
                waiting += 1
            while held and entries[held[0]].child + entries[held[0]].size <= point:
                heappop(held)
            self._starts.append(point)
            self._offsets.append(entries[held[0]].parent - entries[held[0]].child if held else None)

    def up(self, address: int) -> int | None:
        """The address on the parent's bus, None where no entry covers it."""
        at = bisect_right(self._starts, address) - 1
        offset = self._offsets[at] if at >= 0 else None
        return None if offset is None else address + offset


def _to_cpu(address: int, above: tuple[Windows, ...]) -> int | None:
    """An address on the innermost bus as the CPU sees it: __of_translate_address over ``dma-ranges``."""
    translated: int | None = address
    for windows in reversed(above):
        translated = windows.up(translated) if translated is not None else None
    return translated
