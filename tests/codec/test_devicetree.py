# SPDX-License-Identifier: Apache-2.0
"""What device trees say about memory, and edits of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec import debian_blobs
from counted import lines
from hotbank.board import Bank, Board
from hotbank.errors import BoardError, FormatError
from hotbank.firmware import describe, devicetree, fdt, memory_map
from hotbank.firmware.fdt import Node, Tree, cells, strings
from hotbank.memory import GIB, MIB, MemoryMap, MemoryRegion, Range, Reservation


def _source(text: str) -> Tree:
    """A tree that dtc compiled: names and cells come from the referee, not from our encoder."""
    command = ["dtc", "-q", "-I", "dts", "-O", "dtb", "-"]
    return fdt.decode(subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout)


def _map(body: str, cells: str = "#address-cells = <2>; #size-cells = <2>;", top: str = "") -> MemoryMap:
    return devicetree.memory_map(_source(f"/dts-v1/; {top} / {{ {cells} {body} }};"))


def _ram(memory: MemoryMap) -> list[Range]:
    return [r.range for r in memory.regions]


@pytest.mark.referee
def test_memory_nodes() -> None:
    memory = _map(
        """memory@40000000 { device_type = "memory"; numa-node-id = <1>;
             reg = <0 0x40000000 0 0x10000000>, <1 0 2 0>, <9 0 0 0>; };
           memory@60000000 { device_type = "memory"; reg = <0 0x60000000 0 0x1000>; hotpluggable; };
           memory@70000000 { device_type = "memory"; reg = <0 0x70000000 0 0x1000>; status = "disabled"; };
           memory@80000000 { reg = <0 0x80000000 0 0x1000>; };
           memory@90000000 { device_type = "memory"; reg = <0 0x90000000 0 0x9000>;
             linux,usable-memory = <0 0x90000000 0 0x2000>; };
           bus { memory@1 { device_type = "memory"; reg = <1 1>; }; };"""
    )
    assert memory.regions == (
        MemoryRegion(Range.sized(0x40000000, 256 * MIB), 1, False, "/memory@40000000"),
        MemoryRegion(Range.sized(4 * GIB, 8 * GIB), 1, False, "/memory@40000000"),
        MemoryRegion(Range.sized(0x60000000, 4096), None, True, "/memory@60000000"),
        MemoryRegion(Range.sized(0x90000000, 8192), None, False, "/memory@90000000"),
    )


@pytest.mark.referee
@pytest.mark.parametrize(("address", "size"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_cell_sizes(address: int, size: int) -> None:
    start, length = ("0 " * (n - 1) for n in (address, size))
    body = f'memory {{ device_type = "memory"; reg = <{start}0x40000000 {length}0x8000000>; }};'
    memory = _map(body, f"#address-cells = <{address}>; #size-cells = <{size}>;")
    assert _ram(memory) == [Range.sized(0x40000000, 128 * MIB)]


@pytest.mark.parametrize(
    ("cells_of_it", "reg", "wanted"),
    [
        ("#address-cells = <2>; #size-cells = <2>; ranges;", "<0 0x50000000 0 0x1000>", 1),
        ("#address-cells = <2>; #size-cells = <2>;", "<0 0x50000000 0 0x1000>", 0),
        ("#address-cells = <1>; #size-cells = <1>; ranges;", "<0x50000000 0x1000>", 0),
        ("ranges;", "<0 0x50000000 0 0x1000>", 0),
        ("#address-cells = <2>; #size-cells = <2>; ranges;", "<0 0x50000000 0 0x1000 0>", 0),
    ],
)
@pytest.mark.referee
def test_reserved_memory_that_the_kernel_does_not_understand_is_none(cells_of_it: str, reg: str, wanted: int) -> None:
    memory = _map(f"reserved-memory {{ {cells_of_it} fw@50000000 {{ reg = {reg}; no-map; }}; }};")
    assert len(memory.reserved) == wanted


@pytest.mark.referee
def test_a_crash_kernels_memory() -> None:
    ranges = "<0 0x50000000 0 0x1000>, <0 0x60000000 0 0x1000>, <0 0x70000000 0 0x1000>"
    memory = _map(f"chosen {{ linux,usable-memory-range = {ranges}; }};")
    assert memory.usable == (Range.sized(0x50000000, 0x1000), Range.sized(0x60000000, 0x1000))


@pytest.mark.referee
def test_reservations_chosen_pmem_and_processors() -> None:
    memory = _map(
        """chosen { bootargs = "quiet x"; linux,initrd-start = <0x48000000>; linux,initrd-end = <0 0x48100000>; };
           cpus { #address-cells = <1>; #size-cells = <0>;
             cpu@0 { device_type = "cpu"; reg = <0>; numa-node-id = <1>; };
             cpu@1 { device_type = "cpu"; reg = <1>; numa-node-id = <0>; };
             cpu@2 { device_type = "cpu"; reg = <2>; numa-node-id = <1>; }; };
           pmem@5fe00000 { compatible = "pmem-region"; reg = <0 0x5fe00000 0 0x20200000>; numa-node-id = <0>; };
           reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges;
             fw@50000000 { reg = <0 0x50000000 0 0x1000>; no-map; };
             cma@51000000 { reg = <0 0x51000000 0 0x1000>; reusable; };
             off@52000000 { reg = <0 0x52000000 0 0x1000>; status = "disabled"; };
             anywhere { size = <0 0x1000>; }; };""",
        top="/memreserve/ 0x44000000 0x2000;",
    )
    assert memory.reserved == (
        Reservation(Range.sized(0x44000000, 0x2000), "memreserve", listed=True),
        Reservation(Range.sized(0x50000000, 0x1000), "fw@50000000", no_map=True),
        Reservation(Range.sized(0x51000000, 0x1000), "cma@51000000", reusable=True),
    )
    assert memory.cmdline == "quiet x"
    assert memory.initrd == Range(0x48000000, 0x48100000)
    assert memory.cpu_nodes == (0, 1)
    assert memory.pmem == (MemoryRegion(Range.sized(0x5FE00000, 0x20200000), 0, False, "/pmem@5fe00000"),)


@pytest.mark.referee
@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ("", None),
        ("soc { dma-ranges; };", None),
        # Raspberry Pi 4: a bus with 32-bit addresses, whose masters see 1 GiB at 0xc0000000.
        ("soc { #address-cells = <1>; #size-cells = <1>; dma-ranges = <0xc0000000 0 0 0x40000000>; };", 1 << 30),
        # The narrowest of several, through a parent that translates.
        (
            """soc { #address-cells = <2>; #size-cells = <2>; dma-ranges = <0 0 0x8 0 0x1 0>;
                 bus { #address-cells = <1>; #size-cells = <1>; dma-ranges = <0 0 0x10000000 0x8000000>; }; };""",
            0x8_1800_0000,
        ),
        # PCI: three address cells, the first of them flags.
        (
            """pcie { #address-cells = <3>; #size-cells = <2>;
                 dma-ranges = <0x02000000 0 0 0 0 0 0xc0000000>, <0x42000000 1 0 1 0 1 0>; };""",
            8 << 30,
        ),
        ('soc { status = "disabled"; #address-cells = <1>; #size-cells = <1>; dma-ranges = <0 0 0 1>; };', None),
    ],
)
def test_dma_limit(body: str, limit: int | None) -> None:
    assert _map(body).dma_limit == limit


def test_cells_that_make_no_sense() -> None:
    memory = Node("memory", (("device_type", strings("memory")), ("reg", cells(1, 2))))
    for wrong in ((5, 1), (1, 9)):
        root = Node("", (("#address-cells", cells(wrong[0])), ("#size-cells", cells(wrong[1]))), (memory,))
        with pytest.raises(FormatError, match="at most 4"):
            devicetree.memory_map(Tree(root))
    root = Node("", (("#address-cells", cells(0)), ("#size-cells", cells(0))), (memory,))
    assert devicetree.memory_map(Tree(root)).regions == ()
    far = Node("memory", (("device_type", strings("memory")), ("reg", cells(0xFFFFFFFF, 0xFFFFF000, 1, 0))))
    root = Node("", (("#address-cells", cells(2)), ("#size-cells", cells(2))), (far,))
    with pytest.raises(FormatError, match="beyond 64 bits"):
        devicetree.memory_map(Tree(root))


def test_every_sample_board_gives_a_map() -> None:
    maps = [memory_map(blob) for blob in debian_blobs.sample().values()]
    assert sum(bool(m.regions) for m in maps) > 50
    assert sum(bool(m.reserved) for m in maps) > 20


LOW, HIGH = Range.sized(0x40000000, 512 * MIB), Range.sized(0x60000000, 512 * MIB)


def _board() -> Tree:
    tree = devicetree.empty("test", "test,board")
    return devicetree.add_memory(tree, [MemoryRegion(Range(LOW.start, HIGH.end), 1)])


def _round(tree: Tree) -> MemoryMap:
    """What a reader of the written blob sees."""
    return memory_map(fdt.encode(tree))


def test_split_and_mark() -> None:
    tree = devicetree.split(_board(), HIGH.start)
    assert _ram(_round(tree)) == [LOW, HIGH]
    assert devicetree.split(tree, HIGH.start) == tree
    marked = _round(devicetree.mark(_board(), HIGH))
    assert [(r.range, r.hotpluggable, r.node) for r in marked.regions] == [(LOW, False, 1), (HIGH, True, 1)]
    inner = Range.sized(0x50000000, 128 * MIB)
    parts = _round(devicetree.mark(_board(), inner)).regions
    assert [r.hotpluggable for r in parts] == [False, True, False]
    unmarked = _round(devicetree.mark(devicetree.mark(_board(), HIGH), HIGH, movable=False))
    assert [r.hotpluggable for r in unmarked.regions] == [False, False]


def test_hide() -> None:
    tree = devicetree.hide(_board(), HIGH, "upper")
    assert _ram(_round(tree)) == [LOW]
    again = fdt.decode(fdt.encode(tree))
    assert devicetree.banks(again) == (MemoryRegion(HIGH, 1, True, "upper"),)


def test_edits_of_a_node_with_several_ranges() -> None:
    reg = cells(0, 0x40000000, 0, 0x20000000, 0, 0x80000000, 0, 0x20000000)
    tree = devicetree.empty("test", "test,board")
    node = Node("memory", (("device_type", strings("memory")), ("reg", reg)))
    tree = Tree(Node("", tree.root.properties, (node, Node("last"))))
    second = Range.sized(0x80000000, 512 * MIB)
    marked = devicetree.mark(tree, second)
    assert [(r.range, r.hotpluggable) for r in _round(marked).regions] == [(LOW, False), (second, True)]
    assert marked.root.children[-1].name == "last"


def test_edits_that_are_refused() -> None:
    with pytest.raises(BoardError, match="overlaps /memory@40000000"):
        devicetree.add_memory(_board(), [MemoryRegion(Range.sized(0x50000000, MIB))])
    with pytest.raises(BoardError, match="is in no memory node"):
        devicetree.split(_board(), 0x1000)
    with pytest.raises(BoardError, match="is not all memory"):
        devicetree.mark(_board(), Range.sized(0x70000000, GIB))
    narrow = Tree(Node("", (("#address-cells", cells(1)), ("#size-cells", cells(1)))))
    with pytest.raises(FormatError, match="does not fit into 1 address"):
        devicetree.add_memory(narrow, [MemoryRegion(Range.sized(8 * GIB, MIB))])


def test_memory_is_added_once() -> None:
    twice = [MemoryRegion(Range.sized(0x90000000, MIB), source="bank a"), MemoryRegion(Range.sized(0x90080000, MIB))]
    with pytest.raises(BoardError, match=r"0x90080000.*overlaps bank a \(0x90000000"):
        devicetree.add_memory(_board(), twice)


@given(st.lists(st.tuples(*[st.integers(0, 40)] * 3), max_size=12), st.integers(0, 90))
def test_windows_that_overlap_are_looked_up_as_the_kernel_does(rows: list[tuple[int, ...]], address: int) -> None:
    """Against of_translate_one: the first entry that covers the address."""
    entries = [devicetree.DmaEntry(*row) for row in rows]
    first = next((e for e in entries if e.child <= address < e.child + e.size), None)
    assert devicetree.Windows(entries).up(address) == (first and first.parent + address - first.child)


def _bus_below_a_bus(entries: int) -> Callable[[], object]:
    """One window a page, on both."""
    windows = cells(*(word for n in range(entries) for word in (n << 12, n << 12, 1 << 12)))
    shape = (("#address-cells", cells(1)), ("#size-cells", cells(1)), ("dma-ranges", windows))
    return partial(devicetree.memory_map, Tree(Node("", shape[:2], (Node("soc", shape, (Node("bus", shape),)),))))


def _odd_memory_node(entries: int) -> Callable[[], object]:
    """As many properties before ``reg`` as it has ranges."""
    noise = tuple((f"p{n}", b"") for n in range(entries))
    reg = ("reg", cells(*(word for n in range(entries) for word in (2 * n << 12, 1 << 12))))
    node = Node("memory", (*noise, ("device_type", strings("memory")), reg))
    one = (("#address-cells", cells(1)), ("#size-cells", cells(1)))
    return partial(devicetree.memory_map, Tree(Node("", one, (node,))))


def _board_of_banks(banks: int) -> Callable[[], object]:
    made = (Bank(f"b{n}", Range.sized(n * MIB, MIB), movable=n % 2 == 0) for n in range(banks))
    return partial(describe, Board("many", "arm64", 4096, MIB, banks=tuple(made)), "dtb")


@pytest.mark.parametrize("make", [_bus_below_a_bus, _odd_memory_node, _board_of_banks])
def test_twice_as_much_takes_twice_as_long(make: Callable[[int], Callable[[], object]]) -> None:
    assert lines(make(400)) < 2.5 * lines(make(200))


@pytest.mark.referee
def test_an_edited_real_blob_is_still_the_same_board() -> None:
    name, blob = next((n, b) for n, b in debian_blobs.sample().items() if len(memory_map(b).regions) == 1)
    tree = fdt.decode(blob)
    ram = memory_map(blob).regions[0].range
    top = Range(ram.end - ram.size // 2, ram.end)
    edited = fdt.encode(devicetree.hide(tree, top, "upper"))
    assert _ram(memory_map(edited)) == [Range(ram.start, top.start)], name
    rest = [c for c in fdt.decode(edited).root.children if not c.name.startswith(("memory", "bank@"))]
    assert rest == [c for c in tree.root.children if not c.name.startswith("memory")]
    subprocess.run(["dtc", "-q", "-I", "dtb", "-O", "dts", "-"], input=edited, capture_output=True, check=True)
