# SPDX-License-Identifier: Apache-2.0
"""What a device tree says about memory, and the edits that make a bank movable or hide it.

Truth: drivers/of/fdt.c (early_init_dt_scan_memory, early_init_dt_check_for_usable_mem_range), drivers/of/fdt.c and
of_reserved_mem.c (__reserved_mem_check_root, __reserved_mem_reserve_reg), drivers/of/address.c
(of_dma_get_max_cpu_address), drivers/of/of_numa.c; bindings memory.yaml, reserved-memory.yaml, pmem-region.
A bank that is not in the kernel at boot is in no /memory node; a node ``compatible = "hotbank,bank"`` tells a
driver where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from hotbank.errors import BoardError, Code, FormatError
from hotbank.firmware.fdt import FORM, Node, Tree, cells, strings
from hotbank.memory import MemoryMap, MemoryRegion, Range, Reservation

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
        usable=tuple(_reg(chosen, tree.root, "linux,usable-memory-range"))[:_USABLE_RANGES],
        cpu_nodes=_cpu_nodes(tree.root),
    )


def banks(tree: Tree) -> tuple[MemoryRegion, ...]:
    """The ``hotbank,bank`` nodes: banks that are not in the kernel at boot; ``source`` is the bank's label."""
    return tuple(
        MemoryRegion(range_, _numa_node(node), hotpluggable=True, source=(node.strings("label") or (node.name,))[0])
        for parent, node in _with_parents(tree)
        if BANK_COMPATIBLE in node.strings("compatible")
        for range_ in _reg(node, parent)
    )


def add_memory(tree: Tree, range_: Range, *, node: int | None = None, movable: bool = False) -> Tree:
    """The tree with one more /memory node. Raises BoardError(OVERLAP) when some byte is memory already."""
    clash = next((r for r in _regions(tree.root) if r.range.overlaps(range_)), None)
    if clash:
        raise BoardError("start", f"{range_.start:#x}", f"overlaps {clash.source} ({clash.range})", code=Code.OVERLAP)
    return replace(tree, root=_insert(tree.root, _memory_node(tree.root, range_, node, movable)))


def add_bank(tree: Tree, name: str, range_: Range, *, node: int | None = None) -> Tree:
    """The tree with a ``hotbank,bank`` node: memory that a driver may add later."""
    properties = [
        ("compatible", strings(BANK_COMPATIBLE)),
        ("label", strings(name)),
        ("reg", _reg_value(tree.root, range_)),
        ("status", strings("okay")),
    ]
    if node is not None:
        properties.append(("numa-node-id", cells(node)))
    return replace(tree, root=_insert(tree.root, Node(f"bank@{range_.start:x}", tuple(properties))))


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
    return add_bank(replace(tree, root=replace(tree.root, children=children)), name, range_, node=gone[0].node)


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
    return (node.get("device_type") or b"").partition(b"\0")[0] == b"memory"


def _regions(root: Node) -> Iterator[MemoryRegion]:
    for node in root.children:
        if not _is_memory(node) or not available(node):
            continue
        name = "linux,usable-memory" if node.get("linux,usable-memory") is not None else "reg"
        for range_ in _reg(node, root, name):
            hot = node.get("hotpluggable") is not None
            yield MemoryRegion(range_, _numa_node(node), hot, f"/{node.name}")


def _reserved(tree: Tree) -> Iterator[Reservation]:
    for address, size in tree.reservations:
        if size and address + size <= _U64:
            yield Reservation(Range.sized(address, size), "memreserve")
    parent = tree.root.child("reserved-memory")
    for node in parent.children if parent and _is_understood(parent, tree.root) else ():
        if available(node) and len(node.get("reg") or b"") % (4 * sum(_cell_counts(tree.root)) or 1) == 0:
            no_map, reusable = node.get("no-map") is not None, node.get("reusable") is not None
            for range_ in _reg(node, tree.root):
                yield Reservation(range_, node.name, no_map, reusable)


def _is_understood(parent: Node, root: Node) -> bool:
    """__reserved_mem_check_root: the kernel ignores all of a /reserved-memory without ranges or with other cells."""
    counts = tuple(parent.u32s(f"#{kind}-cells")[:1] for kind in ("address", "size"))
    return parent.get("ranges") is not None and counts == tuple((count,) for count in _cell_counts(root))


def _pmem(tree: Tree) -> Iterator[MemoryRegion]:
    for parent, node in _with_parents(tree):
        if "pmem-region" in node.strings("compatible") and available(node):
            for range_ in _reg(node, parent):
                yield MemoryRegion(range_, _numa_node(node), False, f"/{node.name}")


def _initrd(chosen: Node) -> Range | None:
    start, end = (_number(chosen.get(f"linux,initrd-{edge}")) for edge in ("start", "end"))
    return Range(start, end) if start is not None and end is not None and start < end else None


def _number(value: bytes | None) -> int | None:
    return int.from_bytes(value, "big") if value and len(value) in (4, 8) else None


def _cpu_nodes(root: Node) -> tuple[int, ...]:
    cpus = root.child("cpus") or Node("cpus")
    found = (_numa_node(c) for c in cpus.children if (c.get("device_type") or b"").rstrip(b"\0") == b"cpu")
    return tuple(sorted({n for n in found if n is not None}))


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


def _memory_node(root: Node, range_: Range, node: int | None, movable: bool) -> Node:
    properties = [("device_type", strings("memory")), ("reg", _reg_value(root, range_))]
    if movable:
        properties.append(("hotpluggable", b""))
    if node is not None:
        properties.append(("numa-node-id", cells(node)))
    return Node(f"memory@{range_.start:x}", tuple(properties))


def _insert(root: Node, node: Node) -> Node:
    if any(child.name == node.name for child in root.children):
        raise FormatError(FORM, 0, "node name", f"/{node.name} is there already")
    return replace(root, children=(*root.children, node))


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
    limits = list(_dma_ends(root, ()))
    return min(limits) if limits else None


def _dma_ends(node: Node, ancestors: tuple[Node, ...]) -> Iterator[int]:
    """For each available bus with a ``dma-ranges`` that isn't empty: the end of the highest range, in CPU addresses."""
    if node.get("dma-ranges"):
        ends = [end for end in _dma_ranges(node, ancestors) if end]
        yield max(ends, default=1)
    for child in node.children:
        if available(child):
            yield from _dma_ends(child, (*ancestors, node))


def _dma_ranges(node: Node, ancestors: tuple[Node, ...]) -> Iterator[int]:
    child_address, size = _cell_counts(*ancestors, node)
    parent_address = _cell_counts(*(ancestors or (node,)))[0]
    step = child_address + parent_address + size
    words = node.u32s("dma-ranges")
    for at in range(0, len(words) - step + 1, step or 1):
        cpu = _join(words[at + child_address : at + child_address + parent_address])
        length = _join(words[at + child_address + parent_address : at + step])
        start = _to_cpu(cpu, ancestors)
        if start is not None and length:
            yield start + length


def _to_cpu(address: int, ancestors: tuple[Node, ...]) -> int | None:
    """An address on the last ancestor's bus as the CPU sees it: __of_translate_address over ``dma-ranges``."""
    for depth in range(len(ancestors) - 1, 0, -1):
        bus, parents = ancestors[depth], ancestors[:depth]
        words = bus.u32s("dma-ranges")
        if not words:
            continue  # missing or empty: one to one
        child_cells, size_cells = _cell_counts(*parents, bus)
        parent_cells = _cell_counts(*parents)[0]
        step = child_cells + parent_cells + size_cells
        for at in range(0, len(words) - step + 1, step or 1):
            child = _join(words[at : at + child_cells])
            length = _join(words[at + child_cells + parent_cells : at + step])
            if child <= address < child + length:
                address = _join(words[at + child_cells : at + child_cells + parent_cells]) + address - child
                break
        else:
            return None
    return address
