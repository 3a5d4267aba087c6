# SPDX-License-Identifier: Apache-2.0
"""What sysfs and procfs say, read from captured and made-up trees."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from host import captured_trees as trees
from host.captured_trees import MEMORY, Made, MadeBlock, write
from hotbank import board as boards
from hotbank.errors import MachineError, Refusal
from hotbank.host import Host
from hotbank.host import tree as files
from hotbank.host.ram import Ram
from hotbank.host.tree import Tree
from hotbank.machine import ZoneInfo
from hotbank.memory import MIB, BlockState, KernelState, Kind, Power, Range

BOARD = """
name = "made"
arch = "arm64"
block_size = "128M"
[bank.low]
start = 0x40000000
size = "256M"
[bank.high]
start = 0x50000000
size = "256M"
movable = true
domain = "ddr"
[bank.away]
start = 0x80000000
size = "128M"
at_boot = false
route = "kmem"
domain = "ddr"
[domain.ddr]
states = ["on", "off"]
switch = "command"
on = ["true"]
off = ["true"]
status = ["echo", "on"]
"""


def test_a_dump_of_a_real_kernel(tmp_path: Path) -> None:
    dump = next(d for d in trees.DUMPS if d.stem == "6.12.95")
    snapshot = Host(trees.from_dump(dump, tmp_path)).snapshot()
    assert [b.number for b in snapshot.blocks] == list(range(8, 16))
    assert {(b.state, b.valid_zones, b.node) for b in snapshot.blocks} == {(BlockState.ONLINE, ("DMA",), 0)}
    assert snapshot.blocks[0].range == Range(0x40000000, 0x48000000)
    assert (snapshot.arch, snapshot.page_size, snapshot.block_size) == ("arm64", 4096, 128 * MIB)
    assert (snapshot.boot_memory_leaves, snapshot.auto_online, snapshot.pending) == (False, "offline", None)
    expected = ZoneInfo(0, "DMA", 262144, 262144, 262144, 247905, 234702, 5632, 7040, 8448, 16288, 0)
    assert snapshot.zones == (expected,)
    bank = snapshot.bank("memory8")
    assert bank is not None
    assert (bank.kernel, bank.power, bank.route, bank.zone, bank.at_boot) == ("online", "on", "none", "DMA", True)


def ram_of(tree: Tree) -> Ram:
    return Ram.of(tree, files.arch(tree))


def _twin(text: str) -> list[tuple[str, ...]]:
    """Zones by a line-by-line reader that knows nothing of the other one."""
    zones, words = [], dict[str, str]()
    for line in [*text.splitlines(), "Node 0, zone end"]:
        parts = line.replace("pages free", "free").split()
        if parts[0] == "Node" and parts[2] == "zone":
            if words.get("present", "0") != "0":
                zones.append(
                    tuple(words[k] for k in ("node", "zone", "start_pfn:", "spanned", "managed", "free", "high"))
                )
            words = {"node": parts[1].rstrip(","), "zone": parts[3]}
        elif (len(parts) == 2 and parts[0] not in words) or parts[0] == "start_pfn:":
            words[parts[0]] = parts[1]
    return zones


@pytest.mark.parametrize("blocks", trees.BOOTS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_zones_of_captured_boots(blocks: Path, tmp_path: Path) -> None:
    root = trees.from_boot(blocks, tmp_path)
    found = [
        tuple(str(v) for v in (z.node, z.zone, z.start_pfn, z.spanned, z.managed, z.free, z.high))
        for z in files.zones(Tree(root))
    ]
    assert found
    assert found == _twin((root / "proc/zoneinfo").read_text())
    assert files.page_size(Tree(root)) == 4096
    assert all(ram_of(Tree(root)).at_boot(b.range) for b in files.blocks(Tree(root), 128 * MIB))


def test_reserves_of_a_captured_boot(tmp_path: Path) -> None:
    """6 GiB with the upper 3 GiB Movable: DMA, DMA32, Normal, Movable, as ``protection`` counts them."""
    blocks = next(path for path in trees.BOOTS if path.parts[-3:-1] == ("6.1.176", "movablecore1g-6g"))
    found = [
        (z.zone, z.reserve_normal, z.reserve_movable) for z in files.zones(Tree(trees.from_boot(blocks, tmp_path)))
    ]
    assert found == [("DMA", 2048, 2950), ("Normal", 0, 7222), ("Movable", 0, 0)]


def test_gaps_missing_links_and_other_names(tmp_path: Path) -> None:
    snapshot = Host(trees.gaps().at(tmp_path)).snapshot()
    by_number = {b.number: b for b in snapshot.blocks}
    assert list(by_number) == [0, *range(8, 23), 24, 25, 26, 8192, 8193, 8194]
    assert (by_number[0].node, by_number[0].valid_zones) == (None, ("none",))
    assert (by_number[17].node, by_number[18].node) == (None, 1)
    assert by_number[22].valid_zones == ()
    assert by_number[8192].range.start == 8192 * 128 * MIB
    assert snapshot.pending == 13
    offline = snapshot.bank("memory11")
    assert offline is not None
    assert (offline.kernel, offline.zone) == (KernelState.OFFLINE, None)


@pytest.mark.parametrize("unit", files.PAGE_SIZES)
@pytest.mark.parametrize("with_meminfo", [True, False])
def test_page_size_of_a_captured_tree(unit: int, with_meminfo: bool, tmp_path: Path) -> None:
    size = 512 * MIB
    rng = random.Random(unit)
    for case in range(20):
        online = [n for n in range(1, 9) if rng.random() < 0.7] or [1]
        present = int(size * len(online) / unit * rng.uniform(0.6, 1))
        managed = int(present * rng.uniform(0.9, 1))
        zone = f"Node 0, zone Normal\n  pages free {managed // 2}\n        min 1\n        low 2\n        high 3\n"
        zone += f"        spanned {present}\n        present {present}\n        managed {managed}\n  start_pfn: 9\n"
        content = {"proc/zoneinfo": zone}
        if with_meminfo:
            content["proc/meminfo"] = f"MemTotal:  {managed * unit // 1024} kB\n"
        blocks = tuple(MadeBlock(n, "online" if n in online else "offline") for n in range(1, 9))
        root = Made(blocks, size, content).at(tmp_path / str(case))
        assert Host(root).snapshot().page_size == unit


def test_banks_of_a_board(tmp_path: Path) -> None:
    blocks = (MadeBlock(8), MadeBlock(9), MadeBlock(10, zones="Movable"), MadeBlock(11, "offline", "Movable Normal"))
    snapshot = Host(Made(blocks).at(tmp_path), boards.loads(BOARD)).snapshot()
    assert [(b.name, b.kernel, b.blocks, b.zone) for b in snapshot.banks] == [
        ("low", KernelState.ONLINE, (8, 9), "Normal"),
        ("high", KernelState.PARTIAL, (10, 11), "Movable"),
        ("away", KernelState.ABSENT, (), None),
    ]
    domain = snapshot.domain("ddr")
    assert domain is not None
    # The board's status command must not run for a machine that is not this one.
    assert (domain.power, domain.banks) == (Power.UNKNOWN, ("high", "away"))


def test_a_bank_is_partial_when_a_block_of_it_is_missing(tmp_path: Path) -> None:
    snapshot = Host(Made((MadeBlock(8),)).at(tmp_path), boards.loads(BOARD)).snapshot()
    low = snapshot.bank("low")
    assert low is not None
    assert low.kernel is KernelState.PARTIAL


def test_board_below_the_root(tmp_path: Path) -> None:
    root = Made((MadeBlock(8),)).at(tmp_path)
    write(root, {"etc/hotbank/board.toml": BOARD})
    assert [b.name for b in Host(root).snapshot().banks] == ["low", "high", "away"]


ZONE = """Node 0, zone Normal
  pages free 10
        min 1
        low 2
        high 3
        spanned 100
        present 100
        managed 90
        protection: (0, 0)
  pagesets
  start_pfn: 9
"""
IOMEM = """00000000-00000fff : Reserved
40000000-47ffffff : System RAM
  40200000-41eeffff : Kernel code
50000000-57ffffff : System RAM (kmem)
150000000-15fffffff : CXL Window 0
  150000000-157ffffff : dax0.0
    150000000-157ffffff : System RAM (kmem)
60000000-67fffffe : System RAM
"""


def test_iomem_tells_boot_memory_and_holes(tmp_path: Path) -> None:
    tree = Tree(write(tmp_path, {"proc/iomem": IOMEM, "proc/sys/kernel/arch": "aarch64\n"}))
    ram = ram_of(tree)
    parts = [Range.sized(start, 128 * MIB) for start in (0x40000000, 0x50000000, 0x150000000, 0x60000000, 0x70000000)]
    assert [ram.at_boot(p) for p in parts] == [True, False, False, True, True]
    assert [ram.covers(p) for p in parts] == [True, True, True, False, False]
    write(tmp_path, {"sys/bus/acpi/devices/PNP0C80:00/status": "15\n"})
    assert [ram_of(tree).at_boot(p) for p in parts] == [None, False, False, None, None]


def test_hidden_addresses_are_unknown(tmp_path: Path) -> None:
    hidden = (
        "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n00000000-00000000 : System RAM (kmem)\n"
    )
    ram = ram_of(Tree(write(tmp_path, {"proc/iomem": hidden})))
    assert ram.resources is None
    assert ram.covers(Range(0, 4096)) is None
    assert ram.at_boot(Range(0, 4096)) is None


def test_firmware_map_tells_boot_memory_on_x86(tmp_path: Path) -> None:
    content = {
        "proc/sys/kernel/arch": "x86_64\n",
        "proc/iomem": "00001000-bfffffff : System RAM\n100000000-13fffffff : System RAM\n",
        "sys/firmware/memmap/0/start": "0x1000\n",
        "sys/firmware/memmap/0/end": "0xbfffffff\n",
        "sys/firmware/memmap/0/type": "System RAM\n",
        "sys/firmware/memmap/1/start": "0x100000000\n",
        "sys/firmware/memmap/1/end": "0x13fffffff\n",
        "sys/firmware/memmap/1/type": "Reserved\n",
    }
    ram = ram_of(Tree(write(tmp_path, content)))
    assert ram.at_boot(Range(0x8000000, 0x10000000)) is True
    assert ram.at_boot(Range(0x100000000, 0x108000000)) is False


def test_no_memory_blocks(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="shows no memory blocks"):
        Host(tmp_path)


def test_unknown_state_is_an_error_and_not_a_guess(tmp_path: Path) -> None:
    root = Made((MadeBlock(8, state="strange"),)).at(tmp_path)
    with pytest.raises(MachineError, match="'strange'"):
        Host(root).snapshot()


def test_survey_of_no_block(tmp_path: Path) -> None:
    host = Host(Made((MadeBlock(8),)).at(tmp_path))
    with pytest.raises(Refusal, match="no block memory7"):
        host.survey(7)
    assert not (tmp_path / MEMORY / "memory7").exists()


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A device has no end, and a FIFO would hold its reader up."""
    (tmp_path / "zeros").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("zeros", "fifo", "folder", "loop", "missing"):
        assert Tree(tmp_path).read(name) is None
    with open(tmp_path / "long", "wb") as file:
        file.truncate(17 << 20)
    assert Tree(tmp_path).read("long") is None


def test_a_tree_of_fifos_holds_nobody_up(tmp_path: Path) -> None:
    root = Made((MadeBlock(8),)).at(tmp_path)
    before = Host(root).snapshot()
    pages = ("kpageflags", "kpagecount", "kpagecgroup", "kcore")
    for name in ("zoneinfo", "iomem", "meminfo", "vmstat", "cmdline", "pressure/memory", *pages):
        path = root / "proc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
    assert Host(root).snapshot() == before
    assert Host(root).reading().zones == ()
    assert Host(root).survey(8).kinds[Kind.UNKNOWN] == before.pages_per_block
    assert {f.code for f in Host(root).doctor()} >= {"VIEW_MISSING"}


def test_how_much_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file once a snapshot, two of each block; a reading is three files, and none with a line for each page."""
    numbers = range(8, 40)
    root = Made(tuple(MadeBlock(n) for n in numbers), files={"proc/zoneinfo": ZONE, "proc/iomem": IOMEM}).at(tmp_path)
    for number in numbers:
        os.symlink(f"../../memory/memory{number}", root / f"sys/devices/system/node/node0/memory{number}")
    host, opened, listed = Host(root), list[str](), list[str]()
    real_open, real_list = os.open, os.listdir

    def counted_open(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        opened.append(path)
        return real_open(path, flags, mode, dir_fd=dir_fd)

    def counted_list(path: str) -> list[str]:
        listed.append(path)
        return real_list(path)

    monkeypatch.setattr(os, "open", counted_open)
    monkeypatch.setattr(os, "listdir", counted_list)
    host.snapshot()
    of_blocks = [path for path in opened if re.match(r"memory\d+/", path)]
    assert sorted(of_blocks) == sorted(f"memory{n}/{name}" for n in numbers for name in ("state", "valid_zones"))
    assert max(Counter(opened).values()) == 1
    assert len(opened) - len(of_blocks) < 16
    assert len(listed) < 8
    opened.clear()
    listed.clear()
    host.reading()
    assert [path.removeprefix(f"{root}/proc/") for path in opened] == ["vmstat", "zoneinfo", "pressure/memory"]
    assert [os.path.basename(path) for path in listed] == ["hwmon", "powercap", "thermal"]  # where meters would be
    listed.clear()
    host.reading()
    assert listed == []


def test_a_block_that_leaves_while_we_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(Made((MadeBlock(8), MadeBlock(10))).at(tmp_path))
    monkeypatch.setattr(files, "block_numbers", lambda _: [8, 9, 10])
    assert [b.number for b in files.blocks(tree, 128 * MIB)] == [8, 10]


def test_one_block_is_as_the_list_has_it(tmp_path: Path) -> None:
    host = Host(Made((MadeBlock(8), MadeBlock(10, zones="Movable"))).at(tmp_path))
    assert tuple(host.block(number) for number in (8, 10)) == host.snapshot().blocks
    assert {host.block(number) for number in (-1, 9, 1 << 70)} == {None}
    write(tmp_path, {f"{MEMORY}/memory8/state": "gone\n"})
    with pytest.raises(MachineError, match="no state of a memory block"):
        host.block(8)


def test_one_block_that_leaves_while_we_look_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, right = Host(Made((MadeBlock(8), MadeBlock(10))).at(tmp_path)), files.state

    def too_late(tree: Tree, number: int) -> BlockState:
        shutil.rmtree(tmp_path / MEMORY / f"memory{number}")
        return right(tree, number)

    monkeypatch.setattr(files, "state", too_late)
    assert host.block(10) is None
