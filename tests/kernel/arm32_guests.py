# SPDX-License-Identifier: Apache-2.0
"""Guests of the 32-bit tests: the ported kernel, built once and kept by content, on boards in QEMU."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from hotbank import board as boards
from hotbank.board import Board
from hotbank.boards_qemu import arm32, dram, virt
from hotbank.boards_qemu.launch import PROGRAMS
from hotbank.boards_qemu.parts import bank_module, initramfs, kernel_build
from hotbank.boards_qemu.parts.cpio import Cpio
from hotbank.boards_qemu.parts.packages import Archive, cache_folder
from hotbank.boards_qemu.port import GuestBoot
from hotbank.boards_qemu.qemu import Qemu
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.firmware import atags, devicetree
from hotbank.memory import MIB, MemoryRegion, Range
from kernel import splats
from microscope import kernel as microscope
from patience import until

HERE = Path(__file__).parent
RAM = virt.RAM
RELEASE = os.environ.get("HOTBANK_ARM32")  # of the kernel that these tests boot, the port's usual one without it
MICROSCOPE = bool(os.environ.get("HOTBANK_ARM32_MICROSCOPE"))
TAKEN = 16 if MICROSCOPE else 0  # MiB that a kernel keeps for itself to look for mistakes
SHARED = Path("/dev/shm")  # in a file on disk, a read of a dark bank would leave no trace


@cache
def kernel() -> kernel_build.BuiltKernel:
    """Our kernel for 32-bit ARM, with the bank driver; under the microscope, where the environment says so."""
    build = microscope.built_port if MICROSCOPE else partial(kernel_build.build, "arm")
    return build(release=RELEASE, modules=[bank_module.source_folder()])


@cache
def programs() -> tuple[Path, ...]:
    """BusyBox and Python for the guest."""
    return Archive.open("armhf").unpack(*PROGRAMS, depends=True)


def initrd(folder: Path, board: Board, built: kernel_build.BuiltKernel, files: Mapping[str, bytes | str]) -> Path:
    """An initramfs with this package, the bank driver and the tests' own programs."""
    contents = initramfs.Contents(
        name=board.name,
        programs=programs(),
        modules=built.modules,
        load=(bank_module.NAME,),
        files=dict(files),
    )
    return initramfs.build(contents, folder, cache_folder())


@contextmanager
def booted(
    name: str,
    *,
    tags: Sequence[atags.Tag] | None = None,
    cmdline: str = "",
    built: kernel_build.BuiltKernel | None = None,
    files: Mapping[str, bytes | str] | None = None,
    cpus: int = 1,
) -> Iterator[QemuMachine]:
    """The board of that name, up. ``tags``: what is said instead of the board's own list. ``cpus``: one, which is half
    the work for who emulates it, unless a second has something to show."""
    path = boards.find(name)
    board = boards.load(path)
    own = {"etc/hotbank/board.toml": path.read_bytes(), **(files or {})}
    built = built or kernel()
    with tempfile.TemporaryDirectory(prefix="hb32-") as temporary:
        folder = Path(temporary)
        boot = GuestBoot(built.image, initrd(folder, board, built, own), cmdline, cpus)
        backing = dram.create(board, Path(tempfile.mkdtemp(prefix="hb32-", dir=SHARED)))
        try:
            memory = [(backing[bank.name].path, bank.range) for bank in arm32.in_ram(board)]
            tree = arm32.device_tree(arm32.base_tree(boot.cpus, folder), board)
            said = arm32.tag_list(board, boot) if tags is None else tags_of(tags, boot)
            machine = QemuMachine(board, Qemu(arm32.start(memory, said, tree, boot, folder), folder), backing)
        except BaseException:
            dram.discard(backing)
            raise
        with machine:
            machine.wait_until_up()
            yield machine


def tags_of(tags: Sequence[atags.Tag], boot: GuestBoot) -> tuple[atags.Tag, ...]:
    """A list behind CORE, with the initial RAM disk and the command line that a boot needs; its own CMDLINE stays."""
    own = [str(tag.fields()["cmdline"]) for tag in tags if tag.tag == atags.CMDLINE]
    line = " ".join(filter(None, ("console=ttyAMA0", *own, boot.cmdline)))
    rest = [tag for tag in tags if tag.tag != atags.CMDLINE]
    return (atags.core(), *rest, arm32.initrd_tag(boot), atags.cmdline(line))


def mib(start: int, size: int) -> Range:
    """A range by its offset into RAM and its size, both in MiB."""
    return Range.sized(RAM + start * MIB, size * MIB)


def complaints(machine: QemuMachine) -> list[str]:
    """What the guest's kernel says of mistakes."""
    return list(splats.read(machine.runner.run("dmesg")).mistakes)


def printed(
    folder: Path, tags: Sequence[atags.Tag], commands: Mapping[str, str], *, size: Range, image: Path | None = None
) -> dict[str, str]:
    """Boot with a list of tags, run a command each, switch off; what they printed, by name.

    No Python and no agent in this guest: it lives for a second or two. ``size``: QEMU's memory. ``image``: another
    zImage than ours.
    """
    (folder / "initrd").write_bytes(_printing_initrd(commands))
    boot = GuestBoot(image or kernel().image, folder / "initrd", cpus=1)
    bank = folder / "bank"
    bank.touch()
    os.truncate(bank, size.size)
    tree = devicetree.add_memory(devicetree.set_memory(arm32.base_tree(boot.cpus, folder)), [MemoryRegion(size)])
    with Qemu(arm32.start([(bank, size)], tags_of(tags, boot), tree, boot, folder), folder) as guest:
        until(lambda: not guest.running, "its switching off", pause=0.05)
        log = guest.console_log().replace("\r", "")
    marked = dict(re.findall(r"^@@ (\S+)\n(.*?)^@@ end\n", log, re.DOTALL | re.MULTILINE))
    assert set(marked) == set(commands), log[-3000:]
    return marked


def _printing_initrd(commands: Mapping[str, str]) -> bytes:
    archive = Cpio()
    archive.node("dev/console", stat.S_IFCHR | 0o600, 5, 1)
    archive.file("bin/busybox", next(p for f in programs() for p in f.glob("bin/busybox")).read_bytes(), 0o755)
    parts = "\n".join(f"echo @@ {name}\n{command}\necho @@ end" for name, command in commands.items())
    archive.file("init", f"{_PRINTING_INIT}{parts}\nsync; poweroff -f\n", 0o755)
    return archive.finished()


_PRINTING_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /bin /proc /sys
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
echo 1 > /proc/sys/kernel/printk
"""
