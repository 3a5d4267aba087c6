# SPDX-License-Identifier: Apache-2.0
"""A board as QEMU's 32-bit ARM ``virt`` machine, booted from our own list of ATAGs.

The list says what memory there is; the machine's devices come from a device tree appended to the zImage, into which
the decompressor folds the tags (arch/arm/boot/compressed/atags_to_fdt.c). 28 bytes of our own start it as
Documentation/arm/booting.rst wants: r0 = 0, r1 = machine id, r2 = the list. Everything lies above the blob that QEMU
keeps at the start of memory, and within the first 128 MiB, which is where the zImage looks for the start of memory.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hotbank.board import Bank, Board
from hotbank.boards_qemu import virt
from hotbank.boards_qemu.parts import bank_module, kernel_build
from hotbank.boards_qemu.parts.packages import Progress
from hotbank.boards_qemu.port import Disk, GuestBoot, GuestKernel
from hotbank.boards_qemu.qemu import Loaded, QemuCommand, memory_arguments
from hotbank.errors import BoardError
from hotbank.firmware import atags, describe, devicetree, fdt
from hotbank.guest import serial
from hotbank.memory import MIB, MemoryRegion, Range, format_size
from hotbank.routes import route

ARCH, DEBIAN, PROGRAM = "arm", "armhf", "qemu-system-arm"
NAMES = bank_module.ArchNames(DEBIAN, ARCH, "arm-linux-gnueabihf-")
OPTIONS = ("ARM_APPENDED_DTB", "ARM_ATAG_DTB_COMPAT", "SERIAL_AMBA_PL011_CONSOLE", "VIRTIO_CONSOLE", "VIRTIO_MMIO")
AGENT_MODULES: tuple[str, ...] = ()  # our own kernel has all of that built in
CARRIED: tuple[str, ...] = ()
DISK: Disk | None = None
DIMMS = False
SUPPLIES = False  # our kernel has no driver for the GPIO block
NO_MACHINE_ID = 0xFFFF_FFFF  # the device tree says which machine it is
_STUB, _TAGS, _ZIMAGE, _INITRD = (virt.RAM + offset * MIB for offset in (62, 63, 64, 96))
_CPU = "cortex-a15,pmu=off"  # a unit that counts cycles costs a fifth of all the rest


def check(board: Board) -> None:
    """Raise BoardError unless QEMU's ``virt`` machine can be this board."""
    if board.arch != ARCH:
        raise BoardError("arch", board.arch, f"must be {ARCH} for QEMU's 32-bit machine")
    if board.describe != "atags":
        raise BoardError("describe", board.describe, "must be atags for QEMU's 32-bit machine")
    virt.check_memory(in_ram(board))
    low = in_ram(board)[0]
    if not low.at_boot or low.movable:
        raise BoardError(f"bank.{low.name}.movable", low.movable, "must be false: the kernel boots in this bank")


def in_ram(board: Board) -> tuple[Bank, ...]:
    """The banks by address: all of them are QEMU's main memory."""
    return tuple(sorted(board.banks, key=lambda bank: bank.range))


def kernel(series: str | None, drives: bool, progress: Progress) -> GuestKernel:
    """Our port, of one of its releases; compiled the first time, which takes minutes. See Port."""
    driver = [bank_module.source_folder()] if drives else []
    built = kernel_build.build(ARCH, release=series, modules=driver, progress=progress)
    return GuestKernel(built.image, built.modules)


def command(board: Board, boot: GuestBoot, folder: Path, files: Mapping[str, Path]) -> QemuCommand:
    """See Port; tags, stub and kernel are written into ``folder``."""
    check(board)
    memory = [(files[bank.name], bank.range) for bank in in_ram(board)]
    _check_room(in_ram(board)[0], boot.initrd.stat().st_size + 64 * MIB)
    tree = device_tree(base_tree(boot.cpus, folder), board, boot.default_on)
    return start(memory, tag_list(board, boot), tree, boot, folder)


def start(
    memory: Sequence[tuple[Path, Range]], tags: Sequence[atags.Tag], tree: fdt.Tree, boot: GuestBoot, folder: Path
) -> QemuCommand:
    """How to start QEMU with any list of tags; ``memory``: backing files and their ranges, from RAM on, without gaps.

    Raises Refusal when the decompressor could not take the list.
    """
    atags.check_appended(tags, tree.root.u32s("#size-cells")[0])
    (folder / "tags").write_bytes(atags.encode(tags))
    (folder / "stub").write_bytes(stub(_TAGS, _ZIMAGE))
    # The decompressor unfolds the tree into 1 MiB at most (head.S), which QEMU's padding alone would fill.
    (folder / "kernel").write_bytes(boot.kernel.read_bytes() + fdt.encode(replace(tree, padding=b"")))
    loaded = (
        Loaded(folder / "stub", _STUB),
        Loaded(folder / "tags", _TAGS),
        Loaded(folder / "kernel", _ZIMAGE),
        Loaded(boot.initrd, _INITRD),
    )
    arguments = ("-M", "virt", "-cpu", _CPU, *memory_arguments(memory, boot.cpus))
    return QemuCommand(PROGRAM, (*arguments, *virt.start_at(_STUB)), loaded, serial.PORTS, "device")


def tag_list(board: Board, boot: GuestBoot) -> tuple[atags.Tag, ...]:
    """The board's tags, with the initial RAM disk and the command line of this boot."""
    said = atags.decode(describe(board, "atags").data)
    line = " ".join(filter(None, ("console=ttyAMA0", board.cmdline, boot.cmdline)))
    memory = tuple(tag for tag in said if tag.tag != atags.CMDLINE)
    return (*memory, initrd_tag(boot), atags.cmdline(line))


def initrd_tag(boot: GuestBoot) -> atags.Tag:
    """Where the initial RAM disk is."""
    return atags.initrd2(Range.sized(_INITRD, boot.initrd.stat().st_size))


def base_tree(cpus: int, folder: Path) -> fdt.Tree:
    """The tree of the bare machine, as QEMU describes it."""
    return virt.base_tree(PROGRAM, ("-cpu", _CPU, "-smp", str(cpus)), folder)


def device_tree(base: fdt.Tree, board: Board, default_on: Sequence[str] = ()) -> fdt.Tree:
    """The machine's tree with the banks that our driver attends to. Its memory is only where the zImage lies: the tags
    take its place. ``default_on``: banks that the driver adds by itself."""
    tree = devicetree.add_memory(devicetree.set_memory(base), [MemoryRegion(in_ram(board)[0].range)])
    for bank in in_ram(board):
        if route(bank.route).bank_files:
            flags = {"hotbank,at-boot": bank.at_boot, "hotbank,default-on": bank.name in default_on}
            tree = virt.with_driver_bank(tree, bank, [(name, b"") for name, is_so in flags.items() if is_so])
    return tree


def stub(tags_at: int, kernel_at: int) -> bytes:
    """The first instructions: r0 = 0, r1 = no machine id, r2 = the tags, jump to the kernel."""
    zero_r0, load_r1, load_r2, load_pc = 0xE3A00000, 0xE59F1004, 0xE59F2004, 0xE59FF004
    return struct.pack("<7I", zero_r0, load_r1, load_r2, load_pc, NO_MACHINE_ID, tags_at, kernel_at)


def _check_room(low: Bank, needed: int) -> None:
    if _INITRD + needed > low.range.end:
        allowed = f"must be {format_size(-(-(_INITRD + needed - virt.RAM) // MIB) * MIB)} or more to boot in it"
        raise BoardError(f"bank.{low.name}.size", format_size(low.range.size), allowed)
