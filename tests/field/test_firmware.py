# SPDX-License-Identifier: Apache-2.0
"""What people handed in: tag lists, device trees, tables and consoles' text, each kind varied around a real case."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import board, kernels
from hotbank.cli import run
from hotbank.errors import FormatError, Refusal
from hotbank.firmware import atags, cmdline, console, efi, fdt, iort, memory_map, srat
from hotbank.firmware.fdt import Node, Tree, cells, strings
from hotbank.memory import GIB, MIB, MemoryMap, MemoryRegion, Range
from hotbank.model import Model
from hotbank.zones import Layout, iomem, predict

DATA = Path(__file__).parents[1] / "data" / "field"


def _zones(memory: MemoryMap, kernel: str = "6.12", cmdline: str | None = None) -> Layout:
    arch = memory.arch or "arm64"
    block = 64 * MIB if arch == "arm" else 128 * MIB
    return predict(memory, arch=arch, page_size=4096, block_size=block, kernel=kernel, cmdline=cmdline).layout


def _said(layout: Layout, code: str) -> list[str]:
    return [finding.message for finding in layout.findings if finding.code == code]


def _tree(*children: Node, top: tuple[tuple[int, int], ...] = ()) -> Tree:
    one = (("#address-cells", cells(2)), ("#size-cells", cells(2)))
    return Tree(Node("", one, children), top)


def _reg(*ranges: Range) -> tuple[str, bytes]:
    return "reg", b"".join(struct.pack(">QQ", r.start, r.size) for r in ranges)


def _ram(*ranges: Range, **flags: bytes) -> Node:
    return Node(f"memory@{ranges[0].start:x}", (("device_type", strings("memory")), _reg(*ranges), *flags.items()))


def _reserved(*children: Node) -> Node:
    cells2 = (("#address-cells", cells(2)), ("#size-cells", cells(2)), ("ranges", b""))
    return Node("reserved-memory", cells2, children)


def test_a_display_does_not_cost_the_list() -> None:
    tags = atags.decode((DATA / "seaboard.atags").read_bytes())
    assert [r.range for r in atags.memory_map(tags).regions] == [Range(0, GIB)]
    assert tags[2].fields()["lfb_base"] == 0x1C022000


def test_what_is_both_listed_and_no_map() -> None:
    memory = memory_map((DATA / "vim3.dtb").read_bytes())
    found = iomem.system_ram((DATA / "vim3.iomem").read_text())
    new, old = _zones(memory, "6.12"), _zones(memory, "6.1")
    assert tuple(r.range for r in new.ram) == found
    assert "block 0 (0x0-0x7ffffff) has 35M that is no RAM" in _said(new, "HOLES")[0]
    assert [r.range for r in old.ram] == [Range(0, 0xF4E5B000)]
    assert "256M" in _said(new, "RESERVED_SOMEWHERE")[0]


@given(st.integers(0, 30), st.integers(1, 8), st.sampled_from(["6.1", "6.12", "7.3"]))
def test_a_range_in_both_places_is_no_ram_since_6_4(start: int, size: int, kernel: str) -> None:
    kept = Range.sized(GIB + start * MIB, size * MIB)
    node = Node("fw", (_reg(kept), ("no-map", b"")))
    tree = _tree(_ram(Range(GIB, 2 * GIB)), _reserved(node), top=((kept.start, kept.size),))
    layout = _zones(memory_map(fdt.encode(tree)), kernel)
    assert any(r.range.overlaps(kept) for r in layout.ram) == (kernel == "6.1")
    assert bool(_said(layout, "HOLES")) == (kernel != "6.1")


@given(st.integers(1, 512), st.booleans(), st.lists(st.integers(1, 7), max_size=2, unique=True))
def test_what_has_no_place_yet_is_said(size: int, no_map: bool, within: list[int]) -> None:
    ranges = tuple(Range.sized(g * GIB, GIB) for g in within)
    more = (("alloc-ranges", _reg(*ranges)[1]),) if ranges else ()
    flag = (("no-map", b""),) if no_map else (("reusable", b""),)
    node = Node("pool", (("size", cells(0, size * MIB)), ("alignment", cells(0, 4 * MIB)), *more, *flag))
    memory = memory_map(fdt.encode(_tree(_ram(Range(GIB, 9 * GIB)), _reserved(node))))
    (pool,) = memory.unplaced
    assert (pool.size, pool.alignment, pool.within, pool.no_map) == (size * MIB, 4 * MIB, ranges, no_map)
    (said,) = _said(_zones(memory), "RESERVED_SOMEWHERE")
    assert f"{size}M" in said.replace("1G", "1024M") or size % 1024 == 0 or size == 512
    assert all(str(r) in said for r in ranges)


@given(st.integers(2, 4), st.booleans(), st.sampled_from(["6.1", "6.12", "7.1", "7.2", "7.3"]))
def test_more_ranges_than_one_are_reserved_until_7_2(count: int, no_map: bool, kernel: str) -> None:
    ranges = [Range.sized(GIB + (2 * n + 1) * 64 * MIB, 32 * MIB) for n in range(count)]
    node = Node("fw", (_reg(*ranges), *((("no-map", b""),) if no_map else ())))
    layout = _zones(memory_map(fdt.encode(_tree(_ram(Range(GIB, 2 * GIB)), _reserved(node)))), kernel)
    kept = ranges[:1] if kernel in ("7.2", "7.3") else ranges
    assert [h.range for h in layout.hidden] == kept
    assert len(_said(layout, "NOT_RESERVED")) == count - len(kept)


@given(st.booleans(), st.booleans(), st.sampled_from(["6.1", "6.12", "7.3"]))
def test_cma_on_the_line_takes_the_place_of_the_trees_default(placed: bool, default: bool, kernel: str) -> None:
    """As Raspberry Pis have it: rmem_cma_setup, "bypass node, using cmdline CMA params instead"."""
    where = _reg(Range.sized(GIB + 256 * MIB, 64 * MIB)) if placed else ("size", cells(0, 64 * MIB))
    flags = (("compatible", strings("shared-dma-pool")), ("reusable", b""))
    node = Node("linux,cma", (*flags, where, *((("linux,cma-default", b""),) if default else ())))
    memory = memory_map(fdt.encode(_tree(_ram(Range(GIB, 2 * GIB)), _reserved(node))))
    plain, asked = _zones(memory, kernel), _zones(memory, kernel, "cma=128M")
    assert len(_said(plain, "RESERVED_SOMEWHERE")) == (0 if placed else 1)
    assert len(_said(asked, "RESERVED_SOMEWHERE")) == 1 + (not placed and not default)
    assert bool(_said(asked, "NOT_RESERVED")) == default
    assert not _said(plain, "NOT_RESERVED")


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (Node("fw", (("size", cells(64 * MIB)),)), "its size has 1 cells, not 2"),
        (Node("fw", (("size", cells(0, 64 * MIB)), ("alignment", cells(4096)))), "its alignment has 1 cells, not 2"),
        (Node("fw", (("reg", cells(0x50000000, 0x1000)), ("no-map", b""))), "its reg has 2 cells, no multiple of 4"),
    ],
)
def test_a_reservation_that_nobody_can_read_is_told(
    node: Node, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.dtb").write_bytes(fdt.encode(_tree(_ram(Range(GIB, 2 * GIB)), _reserved(node))))
    memory = memory_map((tmp_path / "t.dtb").read_bytes())
    assert (memory.reserved, memory.unplaced) == ((), ())
    assert why in _said(_zones(memory), "NOT_RESERVED")[0]
    assert run(["decode", str(tmp_path / "t.dtb")]) == 0
    assert f"passed over: fw: {why}" in capsys.readouterr().out


def test_words_in_utf_8_are_told_as_they_were_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decoders take them byte by byte."""
    line = "crashkernel=ä reserve_mem=4M:4096:ärger"
    name, placed, wrong = (cmdline.typed(name) for name in ("größe", "überall", "falsch-ß"))
    chosen = Node("chosen", (("bootargs", strings(cmdline.typed(line))),))
    kept = Node(name, (_reg(Range.sized(GIB + 64 * MIB, MIB)),))
    nodes = _reserved(kept, Node(placed, (("size", cells(0, MIB)),)), Node(wrong, (("reg", cells(1, 2)),)))
    (tmp_path / "t.dtb").write_bytes(fdt.encode(_tree(chosen, _ram(Range(GIB, 2 * GIB)), nodes)))
    for verb in (["decode"], ["zones", "--dtb"]):
        for form in ([], ["--json"]):
            assert run([*verb, str(tmp_path / "t.dtb"), *form]) == 0
            said = capsys.readouterr().out
            said = json.dumps(json.loads(said), ensure_ascii=False) if form else said
            assert not {"größe", "überall", "falsch-ß", "crashkernel=ä"} - set(re.split(r'[\s,:"]+', said)), said
    (tmp_path / "t.dtb").write_bytes(fdt.encode(_processors(cmdline.typed("wär,x"))))
    assert run(["zones", "--dtb", str(tmp_path / "t.dtb")]) == 1
    assert "no zone rules for 'wär,x'" in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["ranges", "#address-cells", "#size-cells"])
def test_a_reserved_memory_that_the_kernel_ignores_is_told(lost: str) -> None:
    whole = _reserved(Node("fw", (_reg(Range.sized(GIB + 64 * MIB, MIB)),)))
    memory = memory_map(fdt.encode(_tree(_ram(Range(GIB, 2 * GIB)), whole.without_property(lost))))
    assert memory.reserved == ()
    assert "passes over all of it" in _said(_zones(memory), "NOT_RESERVED")[0]


def test_the_list_of_reservations_ends_at_the_first_without_a_size() -> None:
    entries = ((GIB, MIB), (GIB + 2 * MIB, 0), (GIB + 4 * MIB, MIB))
    memory = memory_map(fdt.encode(_tree(_ram(Range(GIB, 2 * GIB)), top=entries)))
    assert [r.range for r in memory.reserved] == [Range.sized(GIB, MIB)]


@pytest.mark.parametrize(("cells_given", "used"), [(4, Range(GIB, GIB + 64 * MIB)), (3, Range(GIB, 2 * GIB))])
def test_a_usable_range_that_lacks_a_cell_limits_nothing(cells_given: int, used: Range) -> None:
    value = cells(0, GIB, 0, 64 * MIB)[: 4 * cells_given]
    chosen = Node("chosen", (("linux,usable-memory-range", value),))
    assert [r.range for r in _zones(memory_map(fdt.encode(_tree(chosen, _ram(Range(GIB, 2 * GIB)))))).ram] == [used]


@pytest.mark.parametrize("words", [0, 1, 2, 3, 4, 5, 9])
def test_a_core_of_another_size_is_no_list_to_the_kernel(words: int) -> None:
    """__vet_atags: it goes on with its default of 16 MiB."""
    list_ = struct.pack(f"<II{words}I", 2 + words, atags.CORE, *range(words)) + struct.pack("<II", 0, 0)
    if words in (0, 3):
        assert len(atags.decode(list_)) == 1
    else:
        with pytest.raises(FormatError, match="the kernel ignores such a list"):
            atags.decode(list_)


@given(st.integers(0, 40))
def test_a_line_that_is_too_long_does_not_cost_the_tags(more: int) -> None:
    line = b"x" * (1010 + more) + b" mem=64M"
    payload = line + bytes(4 - len(line) % 4)
    tags = (atags.core(), atags.mem(Range(GIB, GIB + 256 * MIB)), atags.Tag(atags.CMDLINE, payload))
    memory = atags.memory_map(atags.decode(atags.encode(tags)))
    kept = len(line) <= 1023
    layout = predict(memory, arch="arm", page_size=4096, block_size=64 * MIB, kernel="6.1").layout
    assert bool(_said(layout, "LINE_TOO_LONG")) != kept
    if kept or len(line) > 1023 + len(" mem=64M"):
        assert [r.range.size for r in layout.ram] == [64 * MIB if kept else 256 * MIB]


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        (_tree(Node("soc")), "no memory node"),
        (_tree(Node("memory", (("device_type", strings("memory")), ("reg", bytes(16))))), "size 0"),
        (
            _tree(Node("memory", (("device_type", strings("memory")), _reg(Range(0, MIB)), ("status", b"disabled\0")))),
            "disabled",
        ),
        (_tree(Node("memory@40000000", (_reg(Range(GIB, 2 * GIB)),))), "no device_type"),
        (_tree(Node("images"), Node("configurations")), "FIT image"),
        (_tree(Node("fragment@0", (), (Node("__overlay__"),))), "overlay"),
    ],
)
def test_a_tree_without_memory_says_why(tree: Tree, why: str) -> None:
    layout = _zones(memory_map(fdt.encode(tree)))
    assert why in _said(layout, "NO_MEMORY")[0]
    assert layout.zones == ()


@pytest.mark.parametrize(
    ("banks", "why"), [((), "no ATAG_MEM"), ((atags.Tag(atags.MEM, bytes(8)),) * 2, "each bank of the list has size 0")]
)
def test_a_list_without_memory_says_why(banks: tuple[atags.Tag, ...], why: str) -> None:
    layout = _zones(replace(atags.memory_map((atags.core(), *banks)), arch="arm"), "6.1")
    assert why in _said(layout, "NO_MEMORY")[0]


def test_a_line_that_leaves_no_memory_does_not_boot() -> None:
    memory = memory_map(atags.encode((atags.core(), atags.mem(Range.sized(GIB, 256 * MIB)))))
    layout = predict(memory, arch="arm", page_size=4096, block_size=64 * MIB, cmdline="mem=foo", kernel="6.1").layout
    assert "does not boot" in _said(layout, "NO_MEMORY")[0]


def test_a_tree_that_uefi_overrides() -> None:
    memory = memory_map((DATA / "virt-uefi.dtb").read_bytes())
    for kernel in ("6.1", "6.12"):
        layout = _zones(memory, kernel)
        assert _said(layout, "UEFI_MAP")
        assert "Movable" not in {z.zone for z in layout.zones}
    seen = "40000000-7fffffff : System RAM\n80000000-87ffffff : reserved\n88000000-9fffffff : System RAM\n"
    layout = _zones(iomem.as_found(memory, seen))
    assert not _said(layout, "UEFI_MAP")
    assert iomem.system_ram(seen) == tuple(r.range for r in layout.ram)


LOG = """[    0.000000] efi: mem00: [Conventional Memory|   |  |  |  |  |  |  |  |  |   |WB|WT|WC|UC] \
range=[0x0000000040000000-0x000000005fffffff] (512MB)
[    0.000000] efi: mem01: [Runtime Data       |RUN|  |  |  |  |  |  |  |  |   |WB|WT|WC|UC] \
range=[0x0000000060000000-0x00000000600fffff] (1MB)
[    0.000000] efi: mem02: [Conventional Memory|   |  |  |SP|  |  |  |  |  |   |WB|  |  |  ] \
range=[0x0000000080000000-0x000000008fffffff] (256MB)
[    0.000000] efi: mem03: [Memory Mapped I/O  |RUN|  |  |  |  |  |  |  |  |   |  |  |  |UC] \
range=[0x0000000009010000-0x0000000009010fff] (0MB)
"""


def test_uefis_own_map() -> None:
    tree = MemoryMap((MemoryRegion(Range(GIB, 3 * GIB), 0, True, "/memory"),), uefi=4, arch="arm64")
    layout = _zones(efi.apply(tree, efi.decode(LOG)))
    assert [r.range for r in layout.ram] == [Range(0x40000000, 0x60000000)]
    assert {r.start for h in layout.hidden for r in (h.range,)} == {0x60000000, 0x80000000}


ARM64_LOG = """[    0.000000] efi: Getting EFI parameters from FDT:
[    0.000000] efi: EFI v2.7 by EDK II
[    0.000000] efi: Processing EFI memory map:
[    0.000000] efi:   0x000004000000-0x000007ffffff [Memory Mapped I/O|RUN|  |  |  |  |  |  |  |  |  |   |  |  |  |UC]
[    0.000000] efi:   0x000080000000-0x0000957bffff [Conventional|   |  |  |  |  |  |  |  |  |  |   |WB|  |  |  ]
[    0.000000] efi:   0x0000957c0000-0x00009809ffff [Loader Code |   |  |  |  |  |  |  |  |  |  |   |WB|WT|WC|UC]
[    0.000000] Ignoring memory block 0x0 - 0x1000
[    0.000000] efi:   0x0000980a0000-0x00009ffaffff [Boot Data   |attr=0x0000000100000008]
[    0.000000] efi:   0x00009ffb0000-0x00009fffffff [Runtime Data|RUN|  |  |  |  |  |  |  |  |  |   |WB|WT|WC|UC]
[    0.000000] efi:   0x000880000000-0x00088fffffff [Conventional|   |  |  |  |SP|  |  |  |  |  |   |WB|  |  |  ]
"""


@pytest.mark.parametrize("page_size", [4096, 65536])
@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_uefis_map_as_arm64_prints_it(page_size: int, stamped: bool, cut: bool) -> None:
    """reserve_regions: entries without numbers, an attribute that has no name, ends within a page of 64K."""
    log = ARM64_LOG.replace("957bffff", "957b1fff").replace("957c0000", "957b2000")
    log = log if stamped else "".join(line[15:] for line in log.splitlines(keepends=True))
    lines = log.splitlines(keepends=True)
    kept = "".join(lines[:-1] if cut else lines)
    tree = MemoryMap(uefi=6, arch="arm64")
    if cut:
        with pytest.raises(FormatError, match="5 of 6"):
            efi.apply(tree, efi.decode(kept))
        return
    memory = efi.apply(tree, efi.decode(kept))
    layout = predict(memory, arch="arm64", page_size=page_size, block_size=512 * MIB, kernel="6.12").layout
    assert [r.range for r in layout.ram] == [Range(0x80000000, 0x9FFB0000)]
    assert {h.range.start: h.why for h in layout.hidden} == {
        0x9FFB0000: "no-map: UEFI",
        0x880000000: "UEFI, soft-reserved: no RAM before a driver adds it",
    }
    assert sum(z.present for z in layout.zones) * page_size == 512 * MIB
    taken = efi.apply(tree, efi.soft_reservations_ignored(efi.decode(kept)))
    assert taken.regions[-1].range == Range(0x880000000, 0x890000000)


@pytest.mark.parametrize(("page", "starts"), [("4K", 0x980A3000), ("64K", 0x980B0000)])
def test_a_page_that_is_reserved_in_part_is_no_ram(
    page: str, starts: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """memrange_efi_to_native goes outward, memblock_mark_nomap comes last."""
    log = ARM64_LOG.replace(
        "0x0000957c0000-0x00009809ffff [Loader Code ", "0x0000957c0000-0x0000980a2fff [Reserved    "
    )
    (tmp_path / "log").write_text(log.replace("0x0000980a0000", "0x0000980a3000"))
    assert run(["zones", "--efi-memmap", str(tmp_path / "log"), "--page-size", page, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert f"{starts - 0x957C0000 >> 10}K" in str(said["warnings"]), said["warnings"]
    size = 4096 if page == "4K" else 65536
    assert [(z["start_pfn"] * size, z["present"] * size) for z in said["zones"]] == [(0x80000000, 512 * MIB)]


def test_a_map_of_arm64_without_its_beginning_is_refused() -> None:
    with pytest.raises(FormatError, match="the log is not whole"):
        efi.decode("".join(ARM64_LOG.splitlines(keepends=True)[4:]))


@pytest.mark.parametrize(("line", "ram"), [("efi=debug", 2 * GIB), ("efi=debug,nosoftreserve", 2 * GIB + 256 * MIB)])
def test_soft_reservations_may_be_off(line: str, ram: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = ARM64_LOG.replace("0x000080000000-0x0000957bffff", "0x000020000000-0x0000957bffff")
    (tmp_path / "log").write_text(log)
    assert run(["zones", "--efi-memmap", str(tmp_path / "log"), "--cmdline", line, "--json"]) == 0
    assert sum(z["present"] for z in json.loads(capsys.readouterr().out)["zones"]) * 4096 == ram


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.3"])
def test_a_map_with_mirrored_memory_is_not_said_to_have_none(kernel: str) -> None:
    """efi_find_mirror, of each kernel in the table: where it found some, kernelcore=mirror is not ignored."""
    mirrored = LOG.replace("[Conventional Memory|   |  |", "[Conventional Memory|   |  |MR", 1)
    for log, code in ((LOG, "OPTION_IGNORED"), (mirrored, "OPTION_NOT_FOLLOWED")):
        layout = _zones(efi.apply(MemoryMap(uefi=4, arch="arm64"), efi.decode(log)), kernel, "kernelcore=mirror")
        assert [f.code for f in layout.findings if "kernelcore=mirror" in f.message] == [code]


@given(st.sets(st.integers(0, 3), min_size=1, max_size=3))
def test_a_map_that_lost_lines_is_refused(kept: set[int]) -> None:
    lines = LOG.splitlines(keepends=True)
    tree = MemoryMap(uefi=4)
    with pytest.raises(FormatError, match="not whole"):
        efi.apply(tree, efi.decode("".join(lines[n] for n in sorted(kept))))


def _processors(*compatible: str) -> Tree:
    named = (("compatible", strings(*compatible)),) if compatible else ()
    cpu = Node("cpu@0", (("device_type", strings("cpu")), *named))
    return _tree(Node("cpus", (), (cpu,)), _ram(Range(GIB, 2 * GIB)))


@pytest.mark.parametrize(
    ("compatible", "arch"),
    [
        (("sifive,u74-mc", "riscv"), "riscv64"),
        (("thead,c906", "riscv"), "riscv64"),
        (("arm,cortex-a53",), "arm64"),
        (("arm,cortex-a57", "arm,armv8"), "arm64"),
        (("arm,neoverse-n1",), "arm64"),
        (("apple,icestorm",), "arm64"),
        (("arm,cortex-a7",), "arm"),
        (("arm,cortex-a15",), "arm"),
        (("arm,arm1176jzf-s",), "arm"),
        (("qcom,krait",), "arm"),
        (("loongson,la464",), "loongarch64"),
        (("mti,interaptiv",), "mips"),
        (("brcm,brahma-b15",), "arm"),
        (("brcm,brahma-b53",), "arm64"),
        (("arm,cortex-a32",), "arm"),
        (("arm,cortex-m7",), "arm"),
        (("apm,potenza",), "arm64"),
        (("qcom,kryo",), "arm64"),
        (("xlnx,microblaze-8.40.a",), "xlnx,microblaze-8.40.a"),
        (("nobody,knows",), "nobody,knows"),
        ((), None),
    ],
)
def test_a_tree_says_whose_it_is(compatible: tuple[str, ...], arch: str | None) -> None:
    memory = memory_map(fdt.encode(_processors(*compatible)))
    assert memory.arch == arch
    if arch in ("arm", "arm64", None):
        assert _zones(memory).zones
    else:
        with pytest.raises(Refusal, match=f"no zone rules for '{arch}'"):
            _zones(memory)


def test_processors_are_known_by_their_nodes_name_too() -> None:
    cpu = Node("cpu@0", (("compatible", strings("riscv")),))
    assert memory_map(fdt.encode(_tree(Node("cpus", (), (cpu,))))).arch == "riscv64"


def test_a_processor_that_no_row_knows_may_be_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.dtb").write_bytes(fdt.encode(_processors("nobody,knows")))
    assert run(["zones", "--dtb", str(tmp_path / "t.dtb")]) == 1
    assert "no zone rules for 'nobody,knows'; if you know what it is: --arch arm" in capsys.readouterr().err
    assert run(["zones", "--dtb", str(tmp_path / "t.dtb"), "--arch", "arm64"]) == 0
    printed = capsys.readouterr().out
    assert "nobody here knows processors that are nobody,knows: these are the rules of arm64" in printed
    assert "leave out --arch" not in printed


def test_other_machines_are_refused_and_not_guessed() -> None:
    assert memory_map((DATA / "visionfive2.dtb").read_bytes()).arch == "riscv64"
    x86 = iomem.restrict(memory_map((DATA / "x86.srat").read_bytes()), (DATA / "x86.iomem").read_text())
    with pytest.raises(Refusal, match="no zone rules for 'x86_64'"):
        _zones(x86)


@pytest.mark.referee
def test_every_real_board_gives_zones_or_says_why_not() -> None:
    from codec import debian_blobs

    for name, blob in debian_blobs.sample().items():
        memory = memory_map(blob)
        layout = _zones(memory)
        assert layout.zones or _said(layout, "NO_MEMORY"), name


FILE = "40000000-5fffffff : System RAM\n  40010000-40ffffff : Kernel code\n60000000-7fffffff : System RAM\n"
STAMPS = [
    "",
    "[   12.345678] ",
    "<6>[   12.345678][    T0] ",
    "[Sat Nov 28 10:00:00 2026] ",
    "Nov 28 10:00:00 board kernel: ",
    "2026-11-28T10:00:00,123456+00:00 ",
    "2026-11-28T10:00:00.123456+0000 board kernel: ",
    "[2026-11-28 10:00:00.123] ",
    "[10:00:00.123] ",
    "[12.345678 0.000012] ",
]
PROMPTS = [
    "# ",
    "/ # ",
    "~ # ",
    "$ ",
    "host% ",
    "root@board:~# ",
    "[root@host ~]# ",
    "sh-5.1# ",
    "pi@pi:/sys $ ",
    "=> ",
]
COMMANDS = ["cat {}", "sudo cat {}", "ssh root@board cat {}", "ssh board 'cat {}'", "dmesg", ""]
TALK = ["", "\n", "[sudo] password for pi: \n", "Script started on 2026-11-28\n"]
AFTER = ["", "\n\n", "{}", "{}\n", "{}exit\nexit\n", "Connection to board closed.\n", "\x04", "\0\0"]
WRITTEN = [
    lambda text: text,
    lambda text: "\ufeff" + text,
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("\n", "\r\r\n"),
    lambda text: "".join(f"    {line}" for line in text.splitlines(keepends=True)),
    lambda text: "".join(f"> {line}" for line in text.splitlines(keepends=True)),
    lambda text: "\x1b[?2004h" + text.replace("# ", "\x1b[01;32m# \x1b[0m"),
    lambda text: "\f" + text,
]


@given(
    st.sampled_from(STAMPS),
    st.sampled_from(PROMPTS),
    st.sampled_from(["", *COMMANDS]),
    st.sampled_from(TALK),
    st.sampled_from(AFTER),
    st.sampled_from(WRITTEN),
    st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]),
)
def test_what_a_console_or_an_editor_adds_is_not_read(
    stamp: str, prompt: str, command: str, talk: str, after: str, written: Callable[[str], str], encoding: str
) -> None:
    for file, read in ((FILE, iomem.decode), (LINE + "\n", _line)):
        asked = f"{prompt}{command.format('/proc/file')}\n" if command else ""
        body = "".join(stamp + line for line in file.splitlines(keepends=True))
        text = written(asked + talk + body + after.format(prompt))
        bom = "" if encoding == "utf-8" or text.startswith("\ufeff") else "\ufeff"
        assert read(console.text((bom + text).encode(encoding))) == read(file)


def _line(text: str) -> str | None:
    return (memory_map(text.encode()).cmdline or "").strip()


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# cat /proc/iomem\n", "40000000-5fffffff System RAM\n", "nothing\n" + FILE]
)
def test_what_is_no_iomem_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        iomem.decode(text)


LINE = "console=ttyS0 mem=512M@0x40000000"


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        f"{LINE}\r\n",
        f"\ufeff{LINE}\n",
        f"root@board:~# cat /proc/cmdline\n{LINE}\nroot@board:~#\n",
        f"[    0.000000] Kernel command line: {LINE}\n",
        f"=> printenv bootargs\nbootargs={LINE}\n=> ",
        f"bootargs={LINE}\n",
    ],
)
def test_a_command_line_from_a_console(text: str) -> None:
    assert memory_map(text.encode()).cmdline == LINE


@pytest.mark.parametrize("line", ["kernelcore=30%", "movablecore=25%", "systemd.unit=what$", "mem=1G#", "a=b>"])
def test_a_word_with_a_value_is_no_prompt(line: str) -> None:
    assert memory_map(f"{line}\n".encode()).cmdline == line
    assert _line(f"=> printenv bootargs\nbootargs={line}\n=> ") == line


@pytest.mark.parametrize("padding", [b"\0", b"\n", b"\r\n"])
def test_a_command_line_may_be_padded(padding: bytes) -> None:
    assert memory_map(LINE.encode() + padding * (1 << 16)).cmdline == LINE


@pytest.mark.parametrize("data", [b"PATH=/bin\0HOME=/root\0", b"mem=64M\0quiet\n", b"arm,armv8\0arm,v8\0"])
def test_words_with_a_nul_between_them_are_no_command_line(data: bytes) -> None:
    with pytest.raises(FormatError, match="none of device tree"):
        memory_map(data)


@pytest.mark.parametrize("text", ["root:x:0:0::/:/bin/sh\nbin:x:1:1::/:/bin/sh\n", "name = 'x'\nblock_size = '64M'\n"])
def test_any_other_text_is_no_command_line(text: str) -> None:
    with pytest.raises(FormatError, match="2 lines"):
        memory_map(text.encode())


def test_a_stamp_is_taken_off_once() -> None:
    assert console.lines("<6>[    0.000000][    T0] [    1.0] x\n") == ["[    1.0] x"]


@pytest.mark.referee
def test_dtc_agrees_that_the_trees_made_here_are_trees(tmp_path: Path) -> None:
    path = tmp_path / "t.dtb"
    path.write_bytes(fdt.encode(_processors("arm,cortex-a7")))
    assert subprocess.run(["dtc", "-q", "-I", "dtb", str(path)], capture_output=True, check=True).stdout


# ACPI, and marks that go too far.

FLASH = Range.sized(0x4000000, 64 * MIB)


def _text(*ranges: tuple[Range, str]) -> str:
    return "".join(f"{r.start:08x}-{r.end - 1:08x} : {name}\n" for r, name in ranges)


def test_memory_that_no_domain_covers_costs_all_of_them() -> None:
    memory = iomem.restrict(
        memory_map((DATA / "acpi-numa2.srat").read_bytes()), (DATA / "acpi-numa2.iomem").read_text()
    )
    layout = _zones(memory, "7.3.4")
    assert [(z.node, z.zone, z.start_pfn, z.spanned, z.present) for z in layout.zones] == [
        (0, "DMA", 16384, 770048, 540672)
    ]
    (dma, movable) = _zones(memory, "7.3.4", "movablecore=512M").zones
    assert (dma.node, movable.node, movable.present) == (0, 0, 131072)
    assert _said(layout, "NUMA_IGNORED")
    faked = predict(
        memory,
        arch="arm64",
        page_size=4096,
        block_size=128 * MIB,
        kernel="7.3",
        cmdline="numa=fake=4",
        numa_emu=True,
    ).layout
    assert "drops it with firmware's nodes" in _said(faked, "OPTION_IGNORED")[0]


@given(st.integers(0, 64), st.booleans(), st.sampled_from(["6.1", "6.12", "7.3"]))
def test_a_domain_for_each_byte_or_none(missing: int, mapped: bool, kernel: str) -> None:
    nodes = [MemoryRegion(Range.sized(GIB * (1 + n), GIB), n, source=f"SRAT {n}") for n in range(2)]
    memory = MemoryMap(tuple(nodes), arch="arm64", domains=(0, 1))
    flash = Range.sized(FLASH.start, missing * MIB)
    found = [(r.range, "System RAM") for r in nodes] + (
        [(flash, "System RAM" if mapped else "reserved")] if missing else []
    )
    layout = _zones(iomem.restrict(memory, _text(*sorted(found))), kernel)
    assert {z.node for z in layout.zones} == ({0} if missing else {0, 1})


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.3.4"])
def test_a_kernel_without_memory_of_its_own_panics(kernel: str) -> None:
    memory = memory_map((DATA / "allhot.dtb").read_bytes())
    layout = _zones(memory, kernel, "movable_node")
    assert (layout.zones, layout.blocks) == ((), ())
    assert "panics at boot" in _said(layout, "PANICS")[0]
    assert _zones(memory, kernel, "").zones
    with pytest.raises(Refusal, match="panics"):
        Model.boot(board.load("virt-arm64"), description=(DATA / "allhot.dtb").read_bytes(), cmdline="movable_node")


@given(st.lists(st.booleans(), min_size=1, max_size=4), st.booleans(), st.sampled_from(["6.1", "6.12", "7.3"]))
def test_one_bank_that_is_not_marked_is_enough(hot: list[bool], word: bool, kernel: str) -> None:
    marked = [
        _ram(Range.sized(GIB * (1 + n), 512 * MIB), **({"hotpluggable": b""} if h else {})) for n, h in enumerate(hot)
    ]
    layout = _zones(memory_map(fdt.encode(_tree(*marked))), kernel, "movable_node" if word else "")
    assert bool(_said(layout, "PANICS")) == (word and all(hot))
    assert bool(layout.zones) != (word and all(hot))


UEFI_LOG = (
    "efi: mem00: [Conventional Memory|   |  |  |  |  |  |  |  |  |   |WB|WT|WC|UC] "
    "range=[0x0000000040000000-0x000000007fffffff]\n"
)


def test_acpi_without_srat_and_memory_that_came_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = Range.sized(4 * GIB, GIB)
    (tmp_path / "iomem").write_text(_text((Range(GIB, 2 * GIB), "System RAM"), (later, "System RAM")))
    (tmp_path / "log").write_text(UEFI_LOG)
    assert run(["zones", "--iomem", str(tmp_path / "iomem")]) == 0
    assert "32-39" in capsys.readouterr().out
    assert run(["zones", "--iomem", str(tmp_path / "iomem"), "--efi-memmap", str(tmp_path / "log")]) == 0
    said = capsys.readouterr().out
    assert f"NOT_AT_BOOT: {later} (1G) came after boot" in said
    assert "IOMEM_DIFFERS" not in said
    assert "32-39" not in said


def test_an_x86_host_is_not_judged_by_the_rules_of_arm64(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "iomem").write_text((DATA / "x86.iomem").read_text() + "fec00000-fec003ff : IOAPIC 0\n")
    its = ["zones", "--iomem", str(tmp_path / "iomem")]
    assert run(its) == 1
    assert "UNSUPPORTED: no zone rules for 'x86_64'; known: arm, arm64; hotbank list" in capsys.readouterr().err
    assert run([*its, "--arch", "arm64"]) == 0
    assert "ARCH_DIFFERS: the description is for x86_64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("aarch64", 0, "NODE"),
        ("amd64", 1, "no zone rules for 'x86_64'; known: arm, arm64"),
        ("riscv64", 1, "no zone rules for 'riscv64'; known: arm, arm64"),
        ("vax", 2, "'vax' is not one of 'arm', 'arm64', 'x86_64'"),
    ],
)
def test_an_architecture_by_any_of_its_names(
    name: str, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["zones", "--board", "virt-arm64", "--arch", name]) == status
    assert said in "".join(capsys.readouterr())


def test_every_name_of_an_architecture_is_of_one() -> None:
    rows = [row for row in kernels.ARCHES.values() if row.name != kernels.ANY]
    names = [name for row in rows for name in (row.name, *row.also)]
    assert len(names) == len(set(names))
    assert [kernels.arch_called(name) for row in rows for name in (row.name, *row.machines, *row.also)] == [
        row.name for row in rows for _ in (row.name, *row.machines, *row.also)
    ]


def test_an_srat_beside_memory_that_came_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = Range.sized(4 * GIB, GIB)
    there, may_come = Range(GIB, 2 * GIB), Range(4 * GIB, 8 * GIB)
    table = srat.Table((srat.memory(0, there), srat.memory(0, may_come, hot_pluggable=True), srat.gicc(0, 0)))
    (tmp_path / "srat").write_bytes(srat.encode(table))
    (tmp_path / "iomem").write_text(_text((Range(GIB, 2 * GIB), "System RAM"), (later, "System RAM")))
    (tmp_path / "log").write_text(UEFI_LOG)
    arguments = ["zones", "--srat", str(tmp_path / "srat"), "--iomem", str(tmp_path / "iomem"), "--arch", "arm64"]
    assert run(arguments) == 0
    assert f"MAYBE_ADDED: {later} (1G) is hot-pluggable" in capsys.readouterr().out
    assert run([*arguments, "--efi-memmap", str(tmp_path / "log")]) == 0
    said = capsys.readouterr().out
    assert f"NOT_AT_BOOT: {later}" in said
    assert "MAYBE_ADDED" not in said
    assert "32-39" not in said


# What early boot of arm64 does with addresses.


@given(st.integers(0, 3), st.integers(1, 3), st.sampled_from(["6.1", "7.3"]))
def test_memory_beyond_the_linear_map_is_not_used(low: int, more: int, kernel: str) -> None:
    """arm64_memblock_init: 128 TiB from the GiB on in which memory begins."""
    start, edge = low * GIB + 512 * MIB, (1 << 47) + low * GIB
    top = Range(edge - GIB, edge + more * GIB)
    layout = _zones(memory_map(fdt.encode(_tree(_ram(Range.sized(start, GIB)), _ram(top)))), kernel)
    assert [r.range for r in layout.ram] == [Range.sized(start, GIB), Range(top.start, edge)]
    assert [h.range for h in layout.hidden if "linear map" in h.why] == [Range(edge, top.end)]


@given(st.integers(0, 500), st.integers(1, 12))
def test_an_initramfs_in_a_movable_bank_leaves_it_movable(at: int, size: int) -> None:
    """memblock_add and memblock_clear_nomap leave the mark alone: the bank's zone begins where the bank does."""
    initrd = Range.sized(2 * GIB + at * MIB, size * MIB)
    chosen = Node(
        "chosen", (("linux,initrd-start", cells(0, initrd.start)), ("linux,initrd-end", cells(0, initrd.end)))
    )
    bank = _ram(Range.sized(2 * GIB, 512 * MIB), hotpluggable=b"")
    layout = _zones(memory_map(fdt.encode(_tree(chosen, _ram(Range(GIB, 2 * GIB)), bank))), "6.1", "movable_node")
    assert [(z.zone, z.start_pfn) for z in layout.zones] == [("DMA", GIB >> 12), ("Movable", 2 * GIB >> 12)]


# How far masters reach, and what 32-bit arm sees of memory above 4 GiB.


def _iort(*nodes: tuple[int, int, int], count: int | None = None) -> bytes:
    """A table of nodes: type, revision, bits of address that the master has."""
    body = bytearray()
    for kind, revision, bits in nodes:
        own = bytes({1: 12, 2: 16}.get(kind, 16)) + bytes((bits, 0, 0, 0))
        body += struct.pack("<BHBIII", kind, 16 + len(own), revision, 0, 0, 0) + own
    head = struct.pack("<4sIBB6s8sI4sI", b"IORT", 48 + len(body), 3, 0, b"HOTBNK", b"HOTBANK ", 1, b"HBNK", 1)
    table = bytearray(head + struct.pack("<III", len(nodes) if count is None else count, 48, 0) + body)
    table[9] = -sum(table) & 0xFF
    return bytes(table)


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 4, 5]), st.integers(0, 3), st.sampled_from([0, 30, 32, 40, 64])))
)
def test_zone_dma_ends_where_the_narrowest_master_does(nodes: list[tuple[int, int, int]]) -> None:
    """acpi_iort_dma_get_max_cpu_address, written down once more."""
    limit = 64
    for kind, revision, bits in nodes:
        if bits and (kind == 1 or (kind == 2 and revision >= 1)):
            limit = min(limit, bits)
    assert iort.dma_limit(_iort(*nodes)) == 1 << limit
    assert iort.dma_limit(_iort(*nodes, count=99) + b"behind") == 1 << limit


@given(st.binary(max_size=90), st.integers(0, 90), st.integers(0, 255))
def test_any_bytes_are_an_iort_or_refused(data: bytes, at: int, byte: int) -> None:
    table = bytearray(_iort((1, 0, 32), (2, 1, 30)))
    table[at % len(table)] = byte
    table[9] = (table[9] - sum(table)) & 0xFF
    for one in (data, bytes(table)):
        with suppress(FormatError):
            assert iort.dma_limit(one) <= 1 << 64


@pytest.mark.referee
def test_iasl_has_the_limits_in_the_same_places(tmp_path: Path) -> None:
    (tmp_path / "iort.aml").write_bytes(_iort((1, 0, 32), (2, 1, 30), (2, 0, 24)))
    subprocess.run(["iasl", "-d", "iort.aml"], cwd=tmp_path, capture_output=True, check=True)
    said = (tmp_path / "iort.dsl").read_text()
    assert re.findall(r"Memory Size Limit : (\w+)|Memory Address Limit\)? : (\w+)", said)
    assert [int(found, 16) for found in re.findall(r"(?:Size|Address) Limit : (\w+)", said)] == [32, 30, 24]


@pytest.mark.parametrize(("kernel", "ends"), [("6.1", 0x40000000), ("6.12", 0x40000000), ("7.3", 0x40000000)])
def test_an_acpi_machine_whose_masters_reach_a_gib(
    kernel: str, ends: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Raspberry Pi 4 with UEFI and ACPI."""
    (tmp_path / "iomem").write_text(_text((Range(0, 2 * GIB), "System RAM"), (Range(4 * GIB, 8 * GIB), "System RAM")))
    (tmp_path / "iort").write_bytes(_iort((1, 0, 30)))
    its = ["zones", "--iomem", str(tmp_path / "iomem"), "--kernel", kernel]
    assert run(its) == 0
    assert "DMA_LIMIT_UNKNOWN" in capsys.readouterr().out
    assert run([*its, "--iort", str(tmp_path / "iort")]) == 0
    said = capsys.readouterr().out
    assert "DMA_LIMIT_UNKNOWN" not in said
    assert [line.split()[1:4] for line in said.splitlines()[1:4]] == [
        ["DMA", "0x0", f"{ends - 1:#x}"],
        ["DMA32", f"{ends:#x}", "0xffffffff"],
        ["Normal", "0x100000000", "0x1ffffffff"],
    ]
    assert run(["zones", "--board", "virt-arm64", "--iort", str(tmp_path / "iort")]) == 2


def test_32_bit_arm_beyond_4_gib() -> None:
    """arm_add_memory and zone_sizes_init: a Cortex-A15 board of 6 GiB, with and without LPAE."""
    tree = _tree(_processors("arm,cortex-a15").root.children[0], _ram(Range(2 * GIB, 8 * GIB), hotpluggable=b""))
    memory = memory_map(fdt.encode(tree))
    assert memory.arch == "arm"
    low = _zones(memory, "6.12")
    assert [(z.zone, z.end_pfn) for z in low.zones] == [("Normal", 0xB0000), ("HighMem", 0xFFFFF)]
    assert "--lpae" in _said(low, "NOT_USED")[0]
    for line in ("movable_node", "movablemem=1G@4G"):
        high = predict(
            memory, arch="arm", page_size=4096, block_size=64 * MIB, kernel="6.12", cmdline=line, lpae=True
        ).layout
        assert [(z.zone, z.end_pfn) for z in high.zones] == [("DMA", 0xB0000), ("HighMem", 0x200000)]
        assert (high.blocks, bool(_said(high, "NO_BLOCKS"))) == ((), True)
        assert "without memory hotplug" in _said(high, "HOTPLUGGABLE_IGNORED")[0]
        assert bool(_said(high, "OPTION_IGNORED")) == (line != "movable_node")


def test_lpae_is_32_bit_arms(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zones", "--board", "virt-arm64", "--lpae"]) == 1
    assert "arm64 has no LPAE" in capsys.readouterr().err
    assert run(["zones", "--board", "arm-2009", "--lpae", "--strategy", "banks"]) == 1
    assert "strategy banks knows no LPAE" in capsys.readouterr().err


# Bytes that somebody printed.


def _acpidump(data: bytes, name: str = "SRAT") -> str:
    rows = [data[at : at + 16] for at in range(0, len(data), 16)]
    return f"{name} @ 0x0000000000000000\n" + "".join(
        f"    {16 * n:04X}: {row.hex(' ').upper():<48} {_seen(row)}\n" for n, row in enumerate(rows)
    )


def _seen(row: bytes) -> str:
    return "".join(chr(byte) if 32 < byte < 127 else "." for byte in row)


def _md(data: bytes, *, words: bool) -> str:
    data += bytes(-len(data) % 16)
    rows = [data[at : at + 16] for at in range(0, len(data), 16)]
    grouped = [
        " ".join(row[at : at + 4][::-1].hex() for at in range(0, len(row), 4)) if words else row.hex(" ")
        for row in rows
    ]
    return "".join(f"{0x100 + 16 * n:08x}: {text}    {_seen(rows[n])}\n" for n, text in enumerate(grouped))


def _canonical(at: int, data: bytes) -> str:
    left, right = data[at : at + 8], data[at + 8 : at + 16]
    return f"{at:08x}  {left.hex(' '):<23}  {right.hex(' '):<23}  |{_seen(left + right)}|\n"


DUMPS: dict[str, Callable[[bytes], str]] = {
    "acpidump": lambda data: _acpidump(b"x" * 40, "FACP") + "\n" + _acpidump(data) + "\n",
    "xxd": lambda data: "".join(
        f"{at:08x}: {data[at : at + 16].hex(' ', -2):<40} {_seen(data[at : at + 16])}\n"
        for at in range(0, len(data), 16)
    ),
    "hexdump -C": lambda data: "".join(map(_canonical, range(0, len(data), 16), repeat(data))) + f"{len(data):08x}\n",
    "md.b": lambda data: "=> md.b 100 400\n" + _md(data, words=False) + "=> \n",
    "md": lambda data: "=> md 100 100\n" + _md(data, words=True) + "=> \n",
}


@pytest.mark.parametrize("how", DUMPS)
@pytest.mark.parametrize("what", ["srat", "atags", "dtb"])
def test_a_description_that_somebody_printed(how: str, what: str) -> None:
    data = {
        "srat": srat.encode(srat.Table((srat.memory(0, Range(GIB, 2 * GIB)), srat.gicc(0, 0)))),
        "atags": atags.encode((atags.core(), atags.mem(Range(GIB, 2 * GIB)))),
        "dtb": fdt.encode(_tree(_ram(Range(GIB, 2 * GIB)))),
    }[what]
    if how == "acpidump" and what != "srat":
        return
    assert memory_map(DUMPS[how](data).replace("\n", "\r\n").encode()) == memory_map(data)
    if len(data) > 64:
        lines = DUMPS[how](data).splitlines(keepends=True)
        with pytest.raises(FormatError, match="a gap"):
            memory_map("".join(lines[:-5] + lines[-4:] if how == "acpidump" else lines[:2] + lines[3:]).encode())


def _squeezed(text: str) -> str:
    """Lines like the one before them as hexdump, od and ``xxd -a`` print them: one star."""
    kept = list[str]()
    for before, line in pairwise(["", *text.splitlines(keepends=True)]):
        same = line[8:] == before[8:] and len(line) > 12
        kept += [] if same and kept[-1] == "*\n" else ["*\n" if same else line]
    return "".join(kept)


def _grouped(data: bytes, width: int, *, swapped: bool, row: int = 16) -> str:
    """Groups of so many bytes, and where the data ends: hexdump, ``hexdump -x``, ``od -A x -t x4``, ``xxd -c``."""
    rows = [data[at : at + row] for at in range(0, len(data), row)]
    words = [[part[at : at + width] for at in range(0, len(part), width)] for part in rows]
    lines = (" ".join((word.ljust(width, b"\0")[::-1] if swapped else word).hex() for word in part) for part in words)
    return "".join(f"{n * row:07x} {line}\n" for n, line in enumerate(lines)) + f"{len(data):07x}\n"


@pytest.mark.parametrize("zeros", [0, 1, 15, 16, 40, 200])
@pytest.mark.parametrize("wide", [False, True])
def test_dumps_leave_out_equal_lines_and_group_as_they_like(zeros: int, wide: bool) -> None:
    chosen = Node("chosen", (("pad", bytes(zeros)), ("bootargs", strings("quiet"))))
    data = fdt.encode(_tree(chosen, _ram(Range(GIB, 2 * GIB)))) + bytes(zeros)
    canonical = DUMPS["hexdump -C"](data)
    dumps = {
        "hexdump -C": _squeezed(canonical),
        "hexdump": _squeezed(_grouped(data, 2, swapped=True)),
        "od -A x -t x4": _grouped(data, 4, swapped=True),
        "md.q": _grouped(data, 8, swapped=True),
        "xxd -c 32": _grouped(data, 2, swapped=False, row=32),
        "xxd -p": "".join(data[at : at + 30].hex() + "\n" for at in range(0, len(data), 30)),
    }
    for how, text in dumps.items():
        assert "*" in text or zeros < 200 or not how.startswith("hexdump")
        assert memory_map(text.encode("utf-16" if wide else "utf-8")) == memory_map(data), how
        talk = "U-Boot 2025.01 (Jan 06 2025)\nDRAM:  1 GiB\nHit any key to stop autoboot:  0\n=> fdt print\n"
        assert how == "xxd -p" or memory_map((talk + text + "=> boot\nStarting kernel ...\n").encode()) == memory_map(
            data
        )
    cut = _squeezed(canonical).replace("*\n", "")
    if zeros == 200:
        with pytest.raises(FormatError, match="a gap"):
            memory_map(cut.encode())


@pytest.mark.parametrize("end", ["ffffffff", "ffffffffffffffff"])
def test_a_star_stands_for_no_more_than_a_description_has(end: str) -> None:
    with pytest.raises(FormatError, match="64M behind the first"):
        memory_map(f"0000 00 00\n*\n{end} 00 00\n".encode())


def test_a_machine_has_several_tables_of_one_name() -> None:
    """SSDT, mostly."""
    table = srat.encode(srat.Table((srat.memory(0, Range(GIB, 2 * GIB)), srat.gicc(0, 0))))
    others = "".join(_acpidump(bytes((n,)) * 40, "SSDT") + "\n" for n in range(3))
    assert memory_map((others + _acpidump(table) + "\n" + others).encode()) == memory_map(table)


def test_an_iort_that_acpidump_printed(tmp_path: Path) -> None:
    (tmp_path / "iomem").write_text(_text((Range(0, 2 * GIB), "System RAM")))
    (tmp_path / "dump").write_text(_acpidump(_iort((1, 0, 30)), "IORT"))
    assert run(["zones", "--iomem", str(tmp_path / "iomem"), "--iort", str(tmp_path / "dump")]) == 0
    assert iort.dma_limit(DUMPS["xxd"](_iort((1, 0, 30))).encode()) == GIB
    with pytest.raises(FormatError, match="no SRAT among IORT"):
        memory_map((tmp_path / "dump").read_bytes())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/dts-v1/;\n\n/ {\n\tmemory@0 { };\n};\n", "dtc -I dts"),
        ("// SPDX-License-Identifier: GPL-2.0\n/*\n * A board\n */\n/dts-v1/;\n#include <x>\n", "dtc -I dts"),
        ("/ {\n\t#address-cells = <0x2>;\n};\n", "dtc -I dts"),
        ('/*\n * Intel ACPI Component Architecture\n */\n\n[000h 0000 004h]  Signature : "SRAT"\n', "iasl FILE"),
    ],
)
def test_source_is_told_how_to_become_a_description(text: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        memory_map(text.encode())
