# SPDX-License-Identifier: Apache-2.0
"""A board as QEMU's 32-bit ARM ``virt`` machine, booted from our own list of ATAGs.

The list says what memory there is; the machine's devices come from a device tree appended to the zImage, into which
the decompressor folds the tags (arch/arm/boot/compressed/atags_to_fdt.c). 28 bytes of our own start it as
Documentation/arm/booting.rst wants: r0 = 0, r1 = machine id, r2 = the list. Everything lies above the blob that QEMU
keeps at the start of memory, and within the first 128 MiB, which is where the zImage looks for the start of memory.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hotbank.board import Bank, Board
from hotbank.boards_qemu.qemu import Command, Loaded, memory_arguments
from hotbank.errors import BoardError, MachineError
from hotbank.firmware import atags, describe, devicetree, fdt
from hotbank.guest import serial
from hotbank.memory import MIB, Range, format_size

PROGRAM = "qemu-system-arm"
RAM = 0x4000_0000
NO_MACHINE_ID = 0xFFFF_FFFF  # the device tree says which machine it is
_STUB, _TAGS, _ZIMAGE, _INITRD = (RAM + offset * MIB for offset in (62, 63, 64, 96))
_CPU = "cortex-a15"
# The root file system is memory, and half of a small board's memory is to leave: what the agent never uses goes first.
SETUP = """rm -rf /lib/libcrypto* /lib/libssl* /lib/libdb-* /lib/libsqlite3* /lib/libkrb5* /lib/libk5* /lib/libgssapi*
cd /usr/lib/python3.* && rm -rf asyncio email html http multiprocessing xml
cd /"""


@dataclass(frozen=True, slots=True)
class Boot:
    """What the machine is started with. ``kernel``: a zImage without a device tree. ``cmdline`` is put behind the
    board's own. ``cpus``: emulated CPUs."""

    kernel: Path
    initrd: Path
    cmdline: str = ""
    cpus: int = 2


def check(board: Board) -> None:
    """Raise BoardError unless QEMU's ``virt`` machine can be this board."""
    if board.arch != "arm":
        raise BoardError("arch", board.arch, "must be arm for QEMU's 32-bit machine")
    if board.describe != "atags":
        raise BoardError("describe", board.describe, "must be atags for QEMU's 32-bit machine")
    expected = RAM
    for bank in in_ram(board):
        if bank.range.start != expected:
            allowed = f"must be {expected:#x}: QEMU's memory begins at {RAM:#x} and has no gaps"
            raise BoardError(f"bank.{bank.name}.start", f"{bank.range.start:#x}", allowed)
        expected = bank.range.end
    low = in_ram(board)[0]
    if not low.at_boot or low.movable:
        raise BoardError(f"bank.{low.name}.movable", low.movable, "must be false: the kernel boots in this bank")


def in_ram(board: Board) -> tuple[Bank, ...]:
    """The banks by address: all of them are QEMU's main memory."""
    return tuple(sorted(board.banks, key=lambda bank: bank.range))


def command(board: Board, boot: Boot, folder: Path, files: Mapping[str, Path]) -> Command:
    """How to start QEMU. ``folder``: where tags, stub and kernel are written; ``files``: a backing file for each bank.

    Raises BoardError, MachineError.
    """
    check(board)
    memory = [(files[bank.name], bank.range) for bank in in_ram(board)]
    _check_room(in_ram(board)[0], boot.initrd.stat().st_size + 64 * MIB)
    tree = device_tree(base_tree(boot.cpus, folder), board)
    return start(memory, tag_list(board, boot), tree, boot, folder)


def start(
    memory: Sequence[tuple[Path, Range]], tags: Sequence[atags.Tag], tree: fdt.Tree, boot: Boot, folder: Path
) -> Command:
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
    return Command(
        PROGRAM, (*arguments, "-device", f"loader,addr={_STUB:#x},cpu-num=0"), loaded, serial.PORTS, "device"
    )


def tag_list(board: Board, boot: Boot) -> tuple[atags.Tag, ...]:
    """The board's tags, with the initial RAM disk and the command line of this boot."""
    said = atags.decode(describe(board, "atags").data)
    line = " ".join(filter(None, ("console=ttyAMA0", board.cmdline, boot.cmdline)))
    memory = tuple(tag for tag in said if tag.tag != atags.CMDLINE)
    return (*memory, initrd_tag(boot), atags.cmdline(line))


def initrd_tag(boot: Boot) -> atags.Tag:
    """Where the initial RAM disk is."""
    return atags.initrd2(Range.sized(_INITRD, boot.initrd.stat().st_size))


def base_tree(cpus: int, folder: Path) -> fdt.Tree:
    """The tree of the bare machine, as QEMU describes it."""
    path = folder / "virt.dtb"
    argv = [PROGRAM, "-M", f"virt,dumpdtb={path}", "-cpu", _CPU, "-smp", str(cpus), "-nodefaults", "-display", "none"]
    try:
        subprocess.run(argv, capture_output=True, text=True, check=True)
    except FileNotFoundError as e:
        raise MachineError(f"{PROGRAM} is not installed", remedy="apt-get install qemu-system-arm") from e
    except subprocess.CalledProcessError as e:
        raise MachineError(f"{PROGRAM} gave no device tree: {e.stderr.strip()}") from e
    return fdt.decode(path.read_bytes())


def device_tree(base: fdt.Tree, board: Board) -> fdt.Tree:
    """The machine's tree with the banks that our driver attends to. Its memory is only where the zImage lies: the tags
    take its place."""
    tree = devicetree.add_memory(devicetree.set_memory(base), in_ram(board)[0].range)
    for bank in in_ram(board):
        if bank.route == "driver":
            tree = devicetree.add_bank(tree, bank.name, bank.range)
            name = f"bank@{bank.range.start:x}"
            node = tree.root.child(name)
            if node is not None and bank.at_boot:
                at_boot = node.with_property("hotbank,at-boot", b"")
                tree = replace(tree, root=fdt.edit(tree.root, [name], at_boot))
    return tree


def stub(tags_at: int, kernel_at: int) -> bytes:
    """The first instructions: r0 = 0, r1 = no machine id, r2 = the tags, jump to the kernel."""
    zero_r0, load_r1, load_r2, load_pc = 0xE3A00000, 0xE59F1004, 0xE59F2004, 0xE59FF004
    return struct.pack("<7I", zero_r0, load_r1, load_r2, load_pc, NO_MACHINE_ID, tags_at, kernel_at)


def _check_room(low: Bank, needed: int) -> None:
    if _INITRD + needed > low.range.end:
        allowed = f"must be {format_size(-(-(_INITRD + needed - RAM) // MIB) * MIB)} or more to boot in it"
        raise BoardError(f"bank.{low.name}.size", format_size(low.range.size), allowed)
