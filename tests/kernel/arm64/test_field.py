# SPDX-License-Identifier: Apache-2.0
"""What the field hands in, on real kernels: reservations in the order of each, a CMA area that the kernel places,
blocks that hold their own memmap, and rules that udev follows, in a guest alone, whose memory blocks it may write to.

One guest for each kernel: ``make field``.
"""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from field.test_udev import FORMS, HARMLESS, NO_JUMP, OPEN, PLAIN
from host.captured_trees import write
from hotbank import kernels, operate
from hotbank.boards_qemu import Wanted, arm64
from hotbank.boards_qemu.parts.packages import Archive
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code, KernelError
from hotbank.firmware import fdt, memory_map
from hotbank.firmware.fdt import Node, Tree, cells, strings
from hotbank.host.rules import parse
from hotbank.host.tree import Tree as Files
from hotbank.host.udev import onlinings
from hotbank.memory import MIB, BlockState, Kind, Online, Range, merge, without
from hotbank.sysfs import names
from hotbank.zones import Layout, iomem, predict
from kernel.kernel_kit import complaints, guest, lean
from patience import HANG

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

HOLDER = Path(__file__).parents[1] / "guest_huge.py"
ATTEMPT = 10.0  # seconds for an offline that can't succeed
BOARDS = {"6.1": "virt-arm64-virtio-mem", "6.12": "virt-arm64-kmem", "7.3": "virt-arm64-kmem"}
BOTH = Range.sized(0x6000_0000, 8 * MIB)  # listed and no-map
WITHIN = Range.sized(0x6800_0000, 128 * MIB)  # where the kernel places what has no reg
LENT, SECURE = 32 * MIB, 4 * MIB
LIBRARIES = """libacl1 libaudit1 libblkid1 libc6 libcap-ng0 libcap2 libcrypt1 libkmod2 liblzma5 libmount1 libpam0g
    libpcre2-8-0 libseccomp2 libselinux1 libssl3t64 libsystemd-shared libudev1 libzstd1 zlib1g"""
RULES = FORMS | PLAIN | {name: (rule, 0) for name, rule in (HARMLESS | NO_JUMP | OPEN).items()}
FOLLOWED = {
    name: rule.replace("WORD", "online")
    for name, (rule, _) in RULES.items()
    if not {"RUN", "online_movable"} & set(re.split(r"\W+", rule))
}


@dataclass(frozen=True)
class Booted:
    """A guest, its device tree, and the series of its kernel."""

    machine: QemuMachine
    tree: Tree
    series: str

    @property
    def layout(self) -> Layout:
        """What this kernel is said to make of that tree."""
        told, release = memory_map(fdt.encode(self.tree)), self.run("uname -r")
        return predict(told, arch="arm64", page_size=4096, block_size=128 * MIB, kernel=release).layout

    def run(self, line: str) -> str:
        return self.machine.runner.run(line, timeout=HANG).strip()


@pytest.fixture(scope="module", params=BOARDS)
def booted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    trees = list[Tree]()

    def with_reservations(*arguments: object) -> Tree:
        trees.append(_reserving(made(*arguments)))  # type: ignore[arg-type]
        return trees[-1]

    made, disk = arm64.device_tree, _disk_with_udev(tmp_path_factory.mktemp("udev"))
    drive = ("-drive", f"file={disk},if=none,id=udev,format=raw", "-device", "virtio-blk-pci,drive=udev")
    line = "memory_hotplug.memmap_on_memory=1"
    own = {"opt/huge.py": HOLDER.read_text(encoding="utf-8")}
    wanted = Wanted(BOARDS[request.param], series=request.param, cmdline=line, files=own, qemu_arguments=drive)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arm64, "device_tree", with_reservations)
        with guest(lean(wanted)) as machine:
            yield Booted(machine, trees[-1], request.param)
            assert complaints(machine) == []


def _reserving(tree: Tree) -> Tree:
    """The tree with a range that is listed and no-map, and with two pools that the kernel has to place."""
    places = ("alloc-ranges", _cells(WITHIN)), ("alignment", cells(0, 2 * MIB))
    pool = ("compatible", strings("shared-dma-pool"))
    children = (
        Node(f"fw@{BOTH.start:x}", (("reg", _cells(BOTH)), ("no-map", b""))),
        Node("lent", (pool, ("reusable", b""), ("size", cells(0, LENT)), *places)),
        Node("secure", (pool, ("no-map", b""), ("size", cells(0, SECURE)), *places)),
    )
    own = (("#address-cells", cells(2)), ("#size-cells", cells(2)), ("ranges", b""))
    root = fdt.edit(tree.root, ["reserved-memory"], Node("reserved-memory", own, children))
    return replace(tree, root=root, reservations=(*tree.reservations, (BOTH.start, BOTH.size)))


def _cells(part: Range) -> bytes:
    return cells(part.start >> 32, part.start & 0xFFFF_FFFF, 0, part.size)


def _disk_with_udev(folder: Path) -> Path:
    """Debian 13's udev with what it needs, and the rules to be tried."""
    root, disk, archive = folder / "root", folder / "disk", Archive.open("arm64")
    for name in ("sys", "proc", "dev", "run/udev", "tmp", "etc/udev/rules.d", "rules"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for deb in archive.fetch(*(archive.newest(name) for name in ("udev", *LIBRARIES.split()))):
        subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True)
    for place in ("usr/lib/udev", "usr/share", "usr/lib/aarch64-linux-gnu/gconv"):
        shutil.rmtree(root / place, ignore_errors=True)
    for name in ("bin", "sbin", "lib"):
        (root / name).symlink_to(f"usr/{name}")
    for number, text in enumerate(FOLLOWED.values()):
        (root / "rules" / f"{number:02d}").write_text(text + "\n", encoding="utf-8")
    with open(disk, "wb") as file:
        file.truncate(128 * MIB)
    form = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal,^metadata_csum", "-d", str(root), str(disk)]
    subprocess.run(form, check=True)
    return disk


def test_what_is_listed_and_no_map_is_memory_or_not_by_the_kernels_order(booted: Booted) -> None:
    """And of the pools that the kernel placed, the one that is no-map is missing where it was said to lie."""
    seen = iomem.system_ram(booted.run("cat /proc/iomem"))
    told = merge(one.range for one in booted.layout.ram)
    assert any(one.overlaps(BOTH) for one in seen) is any(one.overlaps(BOTH) for one in told)
    assert any(one.overlaps(BOTH) for one in told) is (booted.series == "6.1")
    (placed,) = without(told, seen)
    assert placed.size == SECURE
    assert WITHIN.contains(placed)
    assert without(seen, told) == ()


def test_a_pool_without_a_place_is_where_it_was_said_to_lie(booted: Booted) -> None:
    said = [one.message for one in booted.layout.findings if one.code == "RESERVED_SOMEWHERE"]
    assert any("lent" in one and "32M" in one and str(WITHIN) in one for one in said), said
    line = booted.run("dmesg | grep -i 'created CMA memory pool at.*size 32 MiB'")
    at = re.search(r"pool at (0x[0-9a-f]+), size", line)
    assert at is not None, line
    pool = Range.sized(int(at[1], 16), LENT)
    assert WITHIN.contains(pool)
    block = booted.machine.survey(pool.start // (128 * MIB))
    assert "cma" in block.unknown or any(one.why is Code.CMA for one in block.blocking)


@pytest.mark.parametrize("booted", ["7.3"], indirect=True)
@pytest.mark.parametrize(("shift", "pages"), [(16, 64), (25, 3)], ids=["64K", "32M"])
def test_huge_pages_of_every_size_in_a_movable_block(booted: Booted, shift: int, pages: int) -> None:
    """A small one finds a place; a gigantic one is there only if the administrator wants it so, and stays."""
    machine, setting = booted.machine, "/proc/sys/vm/movable_gigantic_pages"
    number = _an_offline_block(machine)
    machine.online(number, Online.MOVABLE)
    pool = f"/sys/kernel/mm/hugepages/hugepages-{(1 << shift) // 1024}kB/nr_hugepages"
    booted.run(f"echo 0 > {setting}; echo 100 > {pool}")
    before = machine.survey(number).kinds.get(Kind.HUGETLB, 0)
    booted.run(f"echo 0 > {pool}; echo 1 > {setting}; echo 100 > {pool}")
    there = int(booted.run(f"cat {pool}"))
    assert (before > 0) is (shift == 16)
    booted.run("rm -rf /run/huge; mkdir -p /run/huge; mkfifo /run/huge/in /run/huge/out")
    held = machine.runner.start(f"exec python3 -S /opt/huge.py /run/huge {there} {shift}")
    booted.run("echo where > /run/huge/in; cat /run/huge/out > /dev/null")
    survey = machine.survey(number)
    (huge,) = survey.huge
    assert (huge.pages, huge.gigantic, huge.free) == (1 << shift - 12, shift == 25, 0)
    assert len(huge.first) >= min(pages, 1)
    answer = operate.explain(machine, f"memory{number}")
    assert (answer.code is Code.HUGETLB) is (shift == 25), answer
    if shift == 25:
        with pytest.raises(KernelError, match="EINTR"):
            machine.offline(number, machine.clock.now() + ATTEMPT)
    else:
        machine.offline(number, machine.clock.now() + HANG)
    held.kill()
    booted.run(f"until echo 0 > {pool} && grep -q ^0 {pool}; do sleep 0.1; done; echo 0 > {setting}")
    if shift == 25:
        machine.offline(number, machine.clock.now() + HANG)


@pytest.mark.parametrize("booted", ["6.12", "7.3"], indirect=True)
def test_a_block_that_holds_its_own_memmap_leaves(booted: Booted) -> None:
    """Unless arm64 refuses to cut the memmap's leaf."""
    machine, devices = booted.machine, "/sys/bus/dax/devices/dax0.0"
    _an_offline_block(machine)
    drivers = "/sys/bus/dax/drivers/kmem"
    booted.run(f"echo dax0.0 > {drivers}/unbind; echo 1 > {devices}/memmap_on_memory; echo dax0.0 > {drivers}/bind")
    bank = machine.snapshot().bank("high")
    assert bank is not None
    number = bank.blocks[1]
    machine.online(number, Online.MOVABLE)
    survey = machine.survey(number)
    assert survey.kinds[Kind.RESERVED] == 32768 * 64 // 4096
    answer, vetoed = operate.explain(machine, f"memory{number}"), kernels.kernel(booted.run("uname -r")).vetoes_leaf
    assert answer.impossible is vetoed, answer
    assert not vetoed or (answer.code, "memmap" in answer.fact) == (Code.VETO, True)
    if vetoed:
        with pytest.raises(KernelError) as refused:
            machine.offline(number, machine.clock.now() + HANG)
        assert refused.value.errno == errno.EPERM
        return
    machine.offline(number, machine.clock.now() + HANG)
    block = machine.snapshot().block(number)
    assert block is not None
    assert block.state is BlockState.OFFLINE


@pytest.mark.parametrize("booted", ["6.12"], indirect=True)
def test_udev_does_what_the_parser_says(booted: Booted, tmp_path: Path) -> None:
    """``udevadm test`` of Debian 13 says what it would write, and writes nothing; ``verify`` which lines it leaves
    out."""
    block = f"/{names.block(_an_offline_block(booted.machine))}"
    here = "chroot /mnt udevadm"
    look = f"{here} test --action=add {block} 2>&1 | grep 'skipping writing ATTR' || true"
    check = f"{here} verify --no-style --no-summary /etc/udev/rules.d 2>&1 || true"
    mounts = f"for d in sys proc dev; do mount --bind /$d /mnt/$d; done; {here} --version"
    each = f"echo @@@; echo $file; cp $file /mnt/etc/udev/rules.d/40-memory.rules; {look}; {check}"
    version, *said = booted.run(f"{mounts}; for file in /mnt/rules/*; do {each}; done").split("@@@")
    assert int(version.split()[0]) >= 257
    puts = re.compile(rf'ATTR\{{(?:{block}/)?(?:state\}}="online"|online\}}="(?:1|yes)")')
    seen = {name: puts.search(lines) is not None for name, lines in zip(FOLLOWED, said, strict=True)}
    told = {name: _acts(tmp_path / str(number), rule) for number, (name, rule) in enumerate(FOLLOWED.items())}
    known = {name: acts for name, acts in told.items() if acts is not None}
    print("udev", version, "follows", len(seen), "rules;", len(seen) - len(known), "are open here")
    assert {name: seen[name] for name in known if known[name] != seen[name]} == {}, "\n".join(said)
    left_out = {name for name, lines in zip(FOLLOWED, said, strict=True) if _LEFT_OUT.search(lines)}
    assert left_out == {name for name, rule in FOLLOWED.items() if len(parse(rule + "\n")) < _written(rule)}


_LEFT_OUT = re.compile(r"Invalid (?:key|operator|attribute|prefix|ENV attribute)|line ignored", re.ASCII)


def _written(rule: str) -> int:
    """How many lines a rules file has by its look: none continued, no comment."""
    lines = re.sub(r"\\\n\s*(?:#.*\n)?\s*", "", rule).splitlines()
    return sum(bool(line.strip()) and not line.startswith("#") for line in lines)


def _an_offline_block(machine: QemuMachine) -> int:
    if not machine.snapshot().bank("high").blocks:  # type: ignore[union-attr]
        machine.add("high")
    return next(block.number for block in machine.snapshot().blocks if block.state is BlockState.OFFLINE)


def _acts(root: Path, rule: str) -> bool | None:
    """Whether the parser says that the rule puts an added block online; None where it says that this is open."""
    own = {"proc/sys/kernel/arch": "aarch64\n", "etc/udev/rules.d/40-memory.rules": rule + "\n"}
    sure = {one.sure for one in onlinings(Files(write(root, own))) if one.word != Online.MOVABLE}
    return None if sure == {False} else bool(sure)
