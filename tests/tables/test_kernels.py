# SPDX-License-Identifier: Apache-2.0
"""The table of kernels and architectures: which row judges a release, where each column comes from, what a page size
makes of a block."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import board, kernels
from hotbank.errors import BoardError, Code, FormatError, Refusal
from hotbank.host import Host
from hotbank.kernels import ARCHES, KERNELS, Kernel
from hotbank.machine import Block, Pages
from hotbank.memory import KIB, MIB, BlockState, Kind, MemoryMap, MemoryRegion, Range
from hotbank.model import Model, capture
from hotbank.zones import predict

OLDEST = min(tuple(map(int, row.release.split("."))) for row in KERNELS)


FIRST = {
    "auto_online": "6.17",  # a choice of Debian's, of which 6.16.12 said offline and 6.17.8 online
    "steals_smallest": "6.12",  # by its stable kernel
}


@pytest.mark.parametrize(
    ("release", "row", "newer"),
    [
        ("6.1", "6.1", False),
        ("6.1.176", "6.1", False),
        ("6.2-rc1", "6.2", False),
        ("6.11.10", "6.11", False),
        ("6.12.95-cloud", "6.12", False),
        ("6.12.95+deb12-arm64", "6.12", False),
        ("6.19.14+deb13-arm64", "6.19", False),
        ("6.23", "6.19", False),
        ("7.0", "7.0", False),
        ("7.3.4", "7.3", False),
        ("7.9", "7.3", True),
        ("7.10.1", "7.3", True),
        ("10.0", "7.3", True),
    ],
)
def test_the_newest_row_that_is_not_newer_judges(release: str, row: str, newer: bool) -> None:
    judged = kernels.kernel(release)
    assert (judged.release, judged.judged_by, judged.newer) == (release, row, newer)
    assert (row in judged.caveat) is newer
    assert replace(judged, release=row, judged_by="", newer=False) in KERNELS


@given(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["", ".7", ".7-rt", "-rc3", "+deb13-arm64", "~bpo12"]))
def test_any_release_is_judged_or_refused(major: int, minor: int, rest: str) -> None:
    release = f"{major}.{minor}{rest}"
    if (major, minor) < OLDEST:
        with pytest.raises(Refusal):
            kernels.kernel(release)
        return
    fitting = [row for row in KERNELS if tuple(map(int, row.release.split("."))) <= (major, minor)]
    assert kernels.kernel(release).judged_by == fitting[-1].release


@pytest.mark.parametrize("text", ["", "6", "six.twelve", "5.10", "2.6.39", "v6.12", "6.12345", "-1.2"])
def test_older_releases_and_what_is_none_are_refused(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        kernels.kernel(text)
    assert caught.value.code is Code.UNSUPPORTED
    assert kernels.known() in (caught.value.remedy or "")


def test_each_column_has_its_commit_and_the_rows_agree_with_it() -> None:
    """A row has the difference exactly when its release is not older than the first that has it."""
    rules = kernels.rules()
    assert len(rules) >= 8
    for column, commits in rules.items():
        assert all(re.fullmatch(r"[0-9a-f]{12}", commit.hash) and commit.subject for commit in commits), column
        before = Kernel.__dataclass_fields__[column].default
        first, *until = (FIRST.get(column) or commits[0].since, *(commit.since for commit in commits[1:]))
        for row in KERNELS:
            its = kernels._series(row.release)
            within = kernels._series(first) <= its and all(its < kernels._series(end) for end in until)
            assert (getattr(row, column) != before) == within, (row.release, column)


@pytest.mark.parametrize(
    ("one", "other", "commit"),
    [("6.1", "6.12", "c5f1e2d18909"), ("6.18", "6.19", "300709fbefd1"), ("7.3.4", "6.12.95", "300709fbefd1")],
)
def test_the_commit_behind_a_difference_is_that_of_the_newer_release(one: str, other: str, commit: str) -> None:
    assert kernels.cause("prepares_blocks", one, other).hash == commit


def test_rows_ascend() -> None:
    series = [kernels._series(row.release) for row in KERNELS]
    assert series == sorted(set(series))
    assert kernels.DEFAULT in [row.release for row in KERNELS]


@pytest.mark.parametrize(
    ("arch", "page_size", "orders"),
    [
        ("arm", 4 * KIB, (10, 10)),
        ("arm64", 4 * KIB, (10, 9)),
        ("arm64", 16 * KIB, (11, 11)),
        ("arm64", 64 * KIB, (13, 13)),
        ("x86_64", 4 * KIB, (10, 9)),
        ("any", 64 * KIB, (13, 13)),
        ("mips", 4 * KIB, (10, 9)),
    ],
)
def test_orders(arch: str, page_size: int, orders: tuple[int, int]) -> None:
    its = kernels.arch(arch)
    assert (its.name, its.max_order(page_size), its.pageblock_order(page_size)) == (arch, *orders)


def test_machines_are_told_apart() -> None:
    named = {
        "aarch64": "arm64",
        "armv7l": "arm",
        "armv6l": "arm",
        "x86_64": "x86_64",
        "riscv64": "riscv64",
        "sh4": "sh4",
    }
    assert {machine: kernels.arch_of_machine(machine) for machine in named} == named
    assert kernels.arch("sh4").boot_memory_leaves is None
    assert kernels.arch(None).boot_memory_leaves is None


def test_lowmem_of_32_bit_arm() -> None:
    """PAGE_OFFSET 0xc0000000: 768 MiB beside 240 MiB of vmalloc space, and never less than 32 MiB."""
    lowmem = ARCHES["arm"].lowmem
    assert lowmem is not None
    assert [lowmem.size(v) for v in (None, 496 * MIB, 1 << 40, 0)] == [768 * MIB, 512 * MIB, 32 * MIB, 992 * MIB]


def test_a_32_bit_host_says_what_its_memmap_costs(tmp_path: Path) -> None:
    memory = tmp_path / "sys/devices/system/memory"
    (memory / "memory0").mkdir(parents=True)
    (memory / "memory0/state").write_text("online\n")
    (memory / "block_size_bytes").write_text("4000000\n")
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    for machine, size in (("armv7l", 32), ("aarch64", 64)):
        (tmp_path / "proc/sys/kernel/arch").write_text(f"{machine}\n")
        assert Host(tmp_path).snapshot().memmap_per_page == size


def test_marks_of_a_captured_host_count_where_its_kernel_heeds_them(tmp_path: Path) -> None:
    """``movablemem=`` is read by the port alone: on arm64 the word changes nothing, ``movable_node`` does."""
    memory = tmp_path / "sys/devices/system/memory"
    (memory / "memory0").mkdir(parents=True)
    (memory / "memory0/state").write_text("online\n")
    (memory / "block_size_bytes").write_text("8000000\n")
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    for machine, line, moves in (
        ("aarch64", "movablemem=1G@2G", False),
        ("aarch64", "movable_node", True),
        ("armv7l", "movablemem=1G@2G", True),
        ("armv7l", "quiet", False),
    ):
        (tmp_path / "proc/sys/kernel/arch").write_text(f"{machine}\n")
        (tmp_path / "proc/cmdline").write_text(f"{line}\n")
        assert Host(tmp_path).snapshot().policy.movable_node is moves, (machine, line)


def _board(page_size: str, block_size: str) -> str:
    bank = f'start = 0x40000000\nsize = "1G"\nmovable = true\nroute = "{"driver"}"'
    return f'name = "b"\npage_size = "{page_size}"\nblock_size = "{block_size}"\n[bank.low]\n{bank}\n'


@pytest.mark.parametrize(("page_size", "least"), [("4K", 4), ("16K", 32), ("64K", 512)])
def test_a_block_holds_the_largest_buddy_of_its_page_size(page_size: str, least: int) -> None:
    """1024 pages of 64K are less than the largest buddy: such a board loaded, and then no model could boot it."""
    with pytest.raises(BoardError, match=f"{least}M"):
        board.loads(_board(page_size, f"{least // 2}M"))
    assert board.loads(_board(page_size, f"{least}M")).block_size == least * MIB


def test_a_capture_with_blocks_below_the_largest_buddy_is_refused() -> None:
    model = Model.boot(board.load("virt-arm64"), backend="reference", seed=1)
    taken = capture.take(model)
    size = 32 * MIB
    blocks = (Block(0, Range(0, size), BlockState.OFFLINE),)
    pages = capture.BlockCapture(Pages(0, ((Kind.HOLE, size // (64 * KIB)),)))
    snapshot = replace(
        taken.snapshot, page_size=64 * KIB, block_size=size, blocks=blocks, banks=(), domains=(), zones=()
    )
    with pytest.raises(FormatError, match="at least 8192"):
        capture._check(capture.Capture(snapshot, (pages,)))


PRETEND = """
import sys
from dataclasses import replace
from pathlib import Path
from hotbank import kernels
kernels.KERNELS += (replace(kernels.KERNELS[-1], release="9.1", auto_online="online_movable"),)
from hotbank.__main__ import main
sys.argv = ["hotbank", *sys.argv[1:]]
main()
"""


def test_a_pretend_release_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(KERNELS[-1], release="9.1", auto_online="online_movable", forgets_tree_marks=False)
    monkeypatch.setattr(kernels, "KERNELS", (*KERNELS, row))
    firmware = MemoryMap((MemoryRegion(Range(1 << 30, 2 << 30)), MemoryRegion(Range(2 << 30, 3 << 30), None, True)))
    sizes = {"page_size": 4 * KIB, "block_size": 128 * MIB}
    made = predict(firmware, arch="arm64", cmdline="movable_node", kernel="9.1.3", **sizes)  # type: ignore[arg-type]
    assert {z.zone for z in made.layout.zones} == {"DMA", "Movable"}
    assert [f.code for f in made.layout.findings] == ["BOOT_MEMORY"]
    newer = predict(firmware, arch="arm64", kernel="9.2", **sizes)  # type: ignore[arg-type]
    assert newer.layout.findings[0].code == "KERNEL_NEWER"
    model = Model.boot(board.load("virt-arm64"), kernel="9.1", backend="reference")
    assert model.snapshot().auto_online == "online_movable"


@pytest.mark.parametrize(
    "verb", [["zones", "--help"], ["up", "--help"], ["zones", "--board", "arm-2009", "--kernel", "2.6"]]
)
def test_a_pretend_release_is_known_to_the_command_line(verb: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PRETEND, *verb], capture_output=True, text=True, check=False)
    assert "6.1 to 9.1" in " ".join((done.stdout + done.stderr).split())
