# SPDX-License-Identifier: Apache-2.0
"""A board as QEMU's arm64 ``virt`` machine, booted from our own device tree.

With ``-kernel`` QEMU would replace the tree's /memory nodes by its own (hw/arm/boot.c, arm_load_dtb), so everything is
put into memory by the generic loader, and 40 bytes of our own start the kernel as Documentation/arch/arm64/booting.rst
wants: x0 holds the tree, x1 to x3 are zero. The first MiB of memory belongs to a blob of QEMU's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotbank import kernels
from hotbank.board import Bank, Board
from hotbank.boards_qemu import virt
from hotbank.boards_qemu.parts import bank_module, compressed
from hotbank.boards_qemu.parts.packages import Archive, Progress, cache_folder
from hotbank.boards_qemu.port import Disk, GuestBoot, GuestKernel
from hotbank.boards_qemu.qemu import Loaded, QemuCommand, memory_arguments
from hotbank.errors import BoardError, Code, MachineError
from hotbank.firmware import devicetree, fdt
from hotbank.guest import serial
from hotbank.memory import GIB, MIB, MemoryRegion, Range, format_size
from hotbank.routes import route

ARCH, DEBIAN, PROGRAM = "arm64", "arm64", "qemu-system-aarch64"
NAMES = bank_module.ArchNames(DEBIAN, ARCH, "aarch64-linux-gnu-")
OPTIONS = ("PCI_HOST_GENERIC", "SERIAL_AMBA_PL011_CONSOLE", "VIRTIO_CONSOLE", "VIRTIO_PCI")
AGENT_MODULES = ("virtio_pci", "virtio_console")  # built in or not, by the kernel's version
# There for whoever wants to try something: a file system, block devices, swap, injected errors.
CARRIED = ("ext4", "crc32c_generic", "virtio_blk", "zram", "memory_notifier_error_inject")
DISK: Disk | None = Disk("virtio-blk-pci", "/dev/vda")
DIMMS = False
SUPPLIES = True
SERIES = kernels.DEFAULT
INFO_BLOCK = 2 * MIB  # what the kmem route keeps below its bank, in memory that is always on
_STUB, _KERNEL = virt.RAM + MIB, virt.RAM + 2 * MIB
# Boots in half the time that the emulation of "max" needs; a unit that counts cycles costs a fifth of all the rest.
CPU = "cortex-a57,pmu=off"


def check(board: Board) -> None:
    """Raise BoardError unless QEMU's ``virt`` machine can be this board."""
    if board.arch != ARCH:
        raise BoardError("arch", board.arch, f"must be {ARCH} for QEMU's arm64 machine")
    end = virt.check_memory(in_ram(board))
    if not in_ram(board) or not in_ram(board)[0].at_boot:
        raise BoardError("bank", None, f"the bank at {virt.RAM:#x} must be there at boot")
    for bank in plugged(board):
        if bank.range.start < device_memory(end):
            allowed = f"must be {device_memory(end):#x} or more: there QEMU's device memory begins"
            raise BoardError(f"bank.{bank.name}.start", f"{bank.range.start:#x}", allowed)


def in_ram(board: Board) -> tuple[Bank, ...]:
    """The banks that are QEMU's main memory, by address."""
    return tuple(sorted((b for b in board.banks if route(b.route).in_guest), key=lambda b: b.range))


def plugged(board: Board) -> tuple[Bank, ...]:
    """The banks behind a virtio-mem device each, by address."""
    return tuple(sorted((b for b in board.banks if not route(b.route).in_guest), key=lambda b: b.range))


def kernel(series: str | None, drives: bool, progress: Progress) -> GuestKernel:
    """Debian's newest of that series, unmodified. See Port."""
    archive = Archive.open(DEBIAN, progress)
    release = archive.kernel(series or SERIES, DEBIAN)
    folder = archive.unpack_kernel(release)
    driver = (bank_module.build(release, NAMES, cache_folder(), progress),) if drives else ()
    return GuestKernel(only(folder, "**/vmlinuz*"), only(folder, "**/lib/modules/*"), driver)


def command(board: Board, boot: GuestBoot, folder: Path, files: Mapping[str, Path]) -> QemuCommand:
    """See Port; device tree and stub are written into ``folder``."""
    check(board)
    image = unpacked_kernel(boot.kernel, folder)
    tree_at = _up(_KERNEL + image_size(image), 2 * MIB)
    initrd = Range.sized(tree_at + 2 * MIB, boot.initrd.stat().st_size)
    low = in_ram(board)[0]
    if initrd.end + 64 * MIB > low.range.end:
        enough = format_size(_up(initrd.end + 64 * MIB - virt.RAM, board.block_size))
        allowed = f"must be {enough} or more to boot this kernel"
        raise BoardError(f"bank.{low.name}.size", format_size(low.range.size), allowed)
    tree = device_tree(base_tree(board, boot.cpus, folder), board, boot, initrd)
    (folder / "board.dtb").write_bytes(fdt.encode(tree))
    (folder / "stub").write_bytes(stub(tree_at, _KERNEL))
    loaded = (
        Loaded(folder / "stub", _STUB),
        Loaded(image, _KERNEL),
        Loaded(folder / "board.dtb", tree_at),
        Loaded(boot.initrd, initrd.start),
    )
    memory = memory_arguments([(files[bank.name], bank.range) for bank in in_ram(board)], boot.cpus)
    arguments = ("-M", "virt", "-cpu", CPU, *_with_device_memory(memory, board), *_virtio_mem(board, files))
    return QemuCommand(PROGRAM, (*arguments, *virt.start_at(_STUB)), loaded, serial.PORTS)


def base_tree(board: Board, cpus: int, folder: Path) -> fdt.Tree:
    """The tree of the bare machine, as QEMU describes it."""
    size = sum(bank.range.size for bank in in_ram(board))
    return virt.base_tree(PROGRAM, ("-cpu", CPU, "-smp", str(cpus), "-m", f"{size}B"), folder)


def device_tree(base: fdt.Tree, board: Board, boot: GuestBoot, initrd: Range) -> fdt.Tree:
    """The board's tree: its memory, its banks by their routes, and what /chosen tells the kernel."""
    tree = devicetree.set_memory(base)
    numa = any(bank.node is not None or _wants_nodes(bank) for bank in board.banks)
    info = {bank.range.start - _IN_TREE[bank.route].below for bank in in_ram(board) if bank.route in _IN_TREE}
    for bank in in_ram(board):
        if bank.at_boot:
            end = next((start for start in info if bank.range.start < start < bank.range.end), bank.range.end)
            node = bank.node if bank.node is not None else 0 if numa else None
            tree = devicetree.add_memory(tree, [MemoryRegion(Range(bank.range.start, end), node, bank.movable)])
        elif bank.route in _IN_TREE:
            tree = _IN_TREE[bank.route].put(tree, bank, boot)
            tree = tree if bank.node is None else _with_memory_to_come(tree, bank)
    line = " ".join(filter(None, ("console=ttyAMA0", board.cmdline, boot.cmdline)))
    tree = devicetree.set_bootargs(tree, line)
    return _with_initrd(tree, initrd)


def stub(tree_at: int, kernel_at: int) -> bytes:
    """The first instructions: x0 = device tree, x1 = x2 = x3 = 0, jump to the kernel."""
    load_tree_x0, zero_x1, zero_x2, zero_x3 = 0x580000C0, 0xAA1F03E1, 0xAA1F03E2, 0xAA1F03E3
    load_kernel_x4, jump_x4 = 0x58000084, 0xD61F0080
    code = (load_tree_x0, zero_x1, zero_x2, zero_x3, load_kernel_x4, jump_x4)
    return struct.pack("<6I2Q", *code, tree_at, kernel_at)


def image_size(kernel: Path) -> int:
    """Bytes that the kernel occupies once it runs, its BSS included. Raises MachineError for no arm64 Image."""
    with open(kernel, "rb") as file:
        header = file.read(64)
    if header[56:60] != b"ARM\x64":
        raise MachineError(
            f"{kernel} is no arm64 Image", code=Code.BAD_FORMAT, remedy="give the vmlinuz of an arm64 kernel package"
        )
    return int.from_bytes(header[16:24], "little")


def unpacked_kernel(kernel: Path, folder: Path) -> Path:
    """The kernel itself: as it is, or out of what it is packed in."""
    packed = kernel.read_bytes()
    unpacked = compressed.kernel_image(packed, str(kernel))
    if unpacked is packed:
        return kernel
    image = folder / "Image"
    image.write_bytes(unpacked)
    return image


def device_memory(ram_end: int) -> int:
    """Where hot-plugged memory begins on ``virt``: at the next GiB (hw/arm/virt.c, machvirt_init)."""
    return _up(ram_end, GIB)


def _with_device_memory(memory: Sequence[str], board: Board) -> tuple[str, ...]:
    """Room for virtio-mem in ``-m``, where the board has such banks."""
    banks = plugged(board)
    if not banks:
        return tuple(memory)
    ram_end = in_ram(board)[-1].range.end
    room = _up(banks[-1].range.end - device_memory(ram_end), GIB)
    return tuple(
        f"{size},maxmem={ram_end - virt.RAM + room}B" if flag == "-m" else size for flag, size in _pairs(memory)
    )


def _pairs(arguments: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(("", *arguments), arguments, strict=False)


def _virtio_mem(board: Board, files: Mapping[str, Path]) -> tuple[str, ...]:
    arguments: list[str] = []
    for bank in plugged(board):
        backend = f"memory-backend-file,id=mem-{bank.name},size={bank.range.size}B,mem-path={files[bank.name]},share=on"
        device = f"virtio-mem-pci,id=bank-{bank.name},memdev=mem-{bank.name},memaddr={bank.range.start:#x}"
        arguments += ["-object", backend, "-device", f"{device},requested-size=0,block-size=2M"]
    return tuple(arguments)


def _with_pmem_region(tree: fdt.Tree, bank: Bank, boot: GuestBoot) -> fdt.Tree:
    del boot
    at = bank.range.start - INFO_BLOCK
    cells = fdt.cells(at >> 32, at & 0xFFFFFFFF, (bank.range.end - at) >> 32, (bank.range.end - at) & 0xFFFFFFFF)
    properties = (
        ("compatible", fdt.strings("pmem-region")),
        ("reg", cells),
        ("numa-node-id", fdt.cells(bank.node or 0)),
    )
    return virt.with_node(tree, fdt.Node(f"pmem@{at:x}", properties))


def _wants_nodes(bank: Bank) -> bool:
    return bank.route in _IN_TREE and _IN_TREE[bank.route].numa


def _with_memory_to_come(tree: fdt.Tree, bank: Bank) -> fdt.Tree:
    """The kernel adds memory to no node that it did not hear of at boot, and hears of nodes by memory, also by what its
    ``status`` keeps out of memblock (drivers/of/of_numa.c, ``of_numa_parse_memory_nodes``; drivers/of/fdt.c,
    ``early_init_dt_scan_memory``)."""
    at, size = bank.range.start, bank.range.size
    properties = (
        ("device_type", fdt.strings("memory")),
        ("reg", fdt.cells(at >> 32, at & 0xFFFFFFFF, size >> 32, size & 0xFFFFFFFF)),
        ("numa-node-id", fdt.cells(bank.node or 0)),
        ("status", fdt.strings("disabled")),
    )
    return virt.with_node(tree, fdt.Node(f"memory@{at:x}", properties))


def _with_driver_bank(tree: fdt.Tree, bank: Bank, boot: GuestBoot) -> fdt.Tree:
    properties = [("hotbank,default-on", b"")] if bank.name in boot.default_on else []
    if boot.supplies and bank.name in boot.supplies:
        tree, phandle = _with_supply(tree, boot.supplies[bank.name])
        properties.append(("bank-supply", fdt.cells(phandle)))
    return virt.with_driver_bank(tree, bank, properties)


@dataclass(frozen=True, slots=True)
class _InTree:
    """How the tree says that a bank of a route may come. ``below``: bytes that the route takes from the memory below
    the bank. ``numa``: memory has to have node numbers."""

    put: Callable[[fdt.Tree, Bank, GuestBoot], fdt.Tree]
    below: int = 0
    numa: bool = False


_IN_TREE: Mapping[str, _InTree] = {
    "kmem": _InTree(_with_pmem_region, below=INFO_BLOCK, numa=True),
    "driver": _InTree(_with_driver_bank),
}


def _with_supply(tree: fdt.Tree, line: int) -> tuple[fdt.Tree, int]:
    """A regulator-fixed that a GPIO line of the PL061 switches, active high, made when the first bank wants it; its
    phandle."""
    name = f"regulator-line{line}"
    known = tree.root.child(name)
    if known is not None:
        return tree, known.u32s("phandle")[0]
    gpio = next(node for _, node in tree.walk() if "arm,pl061" in node.strings("compatible"))
    used = [node.u32s("phandle")[0] for _, node in tree.walk() if node.get("phandle")]
    phandle = max(used) + 1
    properties = (
        ("compatible", fdt.strings("regulator-fixed")),
        ("regulator-name", fdt.strings(f"banks-line{line}")),
        ("regulator-min-microvolt", fdt.cells(1_100_000)),
        ("regulator-max-microvolt", fdt.cells(1_100_000)),
        ("gpio", fdt.cells(gpio.u32s("phandle")[0], line, 0)),
        ("enable-active-high", b""),
        ("phandle", fdt.cells(phandle)),
    )
    return virt.with_node(tree, fdt.Node(name, properties)), phandle


def _with_initrd(tree: fdt.Tree, initrd: Range) -> fdt.Tree:
    chosen = tree.root.child("chosen") or fdt.Node("chosen")
    for edge, value in (("start", initrd.start), ("end", initrd.end)):
        chosen = chosen.with_property(f"linux,initrd-{edge}", fdt.cells(value >> 32, value & 0xFFFFFFFF))
    return virt.with_node(tree, chosen)


def only(folder: Path, pattern: str) -> Path:
    """The one file of an unpacked package that matches. Raises MachineError where there is none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise MachineError(f"{folder.name} has no {pattern}", code=Code.SYSTEM_ERROR)
    return found[0]


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
