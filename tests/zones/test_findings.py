# SPDX-License-Identifier: Apache-2.0
"""What the prediction warns of, and what it stays silent about; and /proc/iomem beside it."""

from __future__ import annotations

import pytest

from hotbank.errors import FormatError
from hotbank.firmware import memory_map
from hotbank.memory import MIB, MemoryRegion, Range, Reservation
from hotbank.zones import Layout, iomem
from zones import captured_boots
from zones.maps import arm, arm64, codes, memory, region


def _message(layout: Layout, code: str) -> str:
    return next(w.message for w in layout.findings if w.code == code)


def test_a_plain_board_has_no_surprises() -> None:
    assert codes(arm64(memory(region(1024, 1024)))) == []
    assert codes(arm(memory(region(1024, 256), region(1280, 256, hot=True, source="ATAG_MEM_MOVABLE")))) == []


@pytest.mark.parametrize(
    ("kernel", "line", "why"),
    [
        ("6.1", "", "without movable_node"),
        ("6.12", "", "kernel 6.12 clears that mark"),
        ("6.12", "movable_node", "kernel 6.12 clears that mark"),
        ("7.3", "movable_node", "kernel 7.3 clears that mark"),
    ],
)
def test_hotpluggable_that_is_ignored(kernel: str, line: str, why: str) -> None:
    layout = arm64(memory(region(1024, 512), region(1536, 512, hot=True)), line, kernel)
    assert why in _message(layout, "HOTPLUGGABLE_IGNORED")
    assert "BOOT_MEMORY" in codes(layout)


def test_hotpluggable_that_is_honoured_is_boot_memory_all_the_same() -> None:
    layout = arm64(memory(region(1024, 512), region(1536, 512, hot=True)), "movable_node", "6.1")
    assert codes(layout) == ["BOOT_MEMORY"]


def test_ratio_and_memmap() -> None:
    board = memory(region(1024, 16384))
    assert "MOVABLE_RATIO" in codes(arm64(board, "movablecore=12500M"))
    assert "MOVABLE_RATIO" not in codes(arm64(board, "movablecore=12200M"))
    assert "MOVABLE_RATIO" in codes(arm64(board, "movablecore=10G memory_hotplug.auto_movable_ratio=100"))
    absurd = "memory_hotplug.auto_movable_ratio=" + "9" * 5000
    assert "MOVABLE_RATIO" in codes(arm64(board, f"movablecore=12500M {absurd}"))
    assert "MEMMAP_COST" not in codes(arm64(board, "movablecore=10G"))
    assert "the memmap takes 256M" in _message(arm64(memory(region(32768, 16384)), "kernelcore=1G"), "MEMMAP_COST")


def test_a_crash_kernel_keeps_to_its_own_memory() -> None:
    usable = (Range(1200 * MIB, 1456 * MIB), Range(1800 * MIB, 1864 * MIB))
    for layout in (arm64(memory(region(1024, 1024), usable=usable)), arm(memory(region(1024, 1024), usable=usable))):
        assert [r.range for r in layout.ram] == [*usable]
        assert "outside linux,usable-memory-range" in _message(layout, "NOT_USED")


def test_options_without_effect() -> None:
    board = memory(region(1024, 4096))
    assert "movablecore= has no effect" in _message(arm64(board, "movable_node movablecore=1G"), "OPTION_IGNORED")
    assert "mirror" in _message(arm64(board, "kernelcore=mirror"), "OPTION_IGNORED")
    assert "arm port only" in _message(arm64(board, "movablemem=1G@2G"), "OPTION_IGNORED")
    assert "gets 1G" in _message(arm64(board, "movablecore=3G"), "MOVABLE_SHORT")
    assert "keeps 2047" in _message(arm64(board, "x" * 2048), "LINE_TOO_LONG")


def test_memory_that_the_kernel_will_not_use_and_why() -> None:
    board = memory(
        region(1024, 1024),
        reserved=(
            Reservation(Range.sized(1100 * MIB, MIB), "firmware"),
            Reservation(Range.sized(1200 * MIB, MIB), "secure", no_map=True),
            Reservation(Range.sized(1300 * MIB, MIB), "lent", reusable=True),
            Reservation(Range.sized(9000 * MIB, MIB), "elsewhere"),
        ),
        pmem=(MemoryRegion(Range.sized(4096 * MIB, 512 * MIB), 0, False, "/pmem"),),
    )
    layout = arm64(board, "mem=768M")
    assert [(h.range.start // MIB, h.range.size // MIB, h.why.split(":")[0]) for h in layout.hidden] == [
        (1100, 1, "reserved"),
        (1200, 1, "no-map"),
        (1792, 256, "mem=0x30000000 on the command line"),
        (4096, 512, "/pmem"),
    ]
    assert codes(layout).count("NOT_USED") == 4
    assert layout.reserved == (Range.sized(1100 * MIB, MIB),)


@pytest.mark.parametrize("name", captured_boots.cases())
def test_captured_iomem_agrees(name: str) -> None:
    boot = captured_boots.load(name)
    text = (captured_boots.DATA / name / "iomem").read_text()
    layout = arm64(memory_map(boot.dtb), boot.cmdline or "", boot.kernel)
    assert list(iomem.differences(layout, iomem.system_ram(text))) == []
    wrong = arm64(memory_map(boot.dtb), f"{boot.cmdline} mem=256M", boot.kernel)
    assert [w.code for w in iomem.differences(wrong, iomem.system_ram(text))] == ["IOMEM_DIFFERS"]


def test_srat_takes_what_is_there_from_iomem() -> None:
    text = (
        "40000000-6fffffff : System RAM\n  40200000-41eeffff : Kernel code\n70000000-7fffffff : reserved\n"
        "80000000-bfffffff : System RAM\n100000000-13fffffff : System RAM (kmem)\n"
    )
    srat = memory(
        region(1024, 1024, node=0, source="SRAT[0]"),
        region(2048, 1024, node=1, source="SRAT[1]"),
        region(4096, 65536, node=1, hot=True, source="SRAT[2]"),
    )
    limited = iomem.restrict(srat, text)
    assert [(r.range.start // MIB, r.range.size // MIB, r.node) for r in limited.regions] == [
        (1024, 1024, 0),
        (2048, 1024, 1),
    ]
    layout = arm64(limited)
    assert [(z.node, z.present * 4096 // MIB) for z in layout.zones] == [(0, 1024), (1, 1024)]
    assert [r.range for r in layout.ram] == [Range(1024 * MIB, 1792 * MIB), Range(2048 * MIB, 3072 * MIB)]


@pytest.mark.parametrize(
    ("text", "field"),
    [("00000000-00000000 : System RAM\n", "addresses"), ("junk\n", "line"), ("2000-1000 : System RAM\n", "end")],
)
def test_iomem_that_says_nothing(text: str, field: str) -> None:
    with pytest.raises(FormatError) as caught:
        iomem.decode(text)
    assert caught.value.field == field
