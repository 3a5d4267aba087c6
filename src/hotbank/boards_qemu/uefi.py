# SPDX-License-Identifier: Apache-2.0
"""A board as QEMU's arm64 ``virt`` machine with UEFI: ACPI describes it; banks that are not there at boot are DIMMs.

Debian's cloud kernels add DIMMs by themselves (drivers/acpi/acpi_memhotplug.c), need no driver of ours, and have what
the agent needs built in since 6.12, so that an image without its modules will do. Firmware is Debian's qemu-efi-aarch64
(EDK2), which finds kernel, initrd and command line where QEMU puts them (docs/specs/fw_cfg).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hotbank.board import Bank, Board
from hotbank.boards_qemu import arm64, virt
from hotbank.boards_qemu.parts.packages import Archive, Progress, no_progress
from hotbank.boards_qemu.port import Disk, GuestBoot, GuestKernel
from hotbank.boards_qemu.qemu import QemuCommand
from hotbank.errors import BoardError
from hotbank.guest import serial
from hotbank.routes import NONE

ARCH, DEBIAN, PROGRAM = arm64.ARCH, arm64.DEBIAN, arm64.PROGRAM
NAMES = arm64.NAMES
OPTIONS: tuple[str, ...] = (*arm64.OPTIONS, "EFI_STUB", "ACPI_HOTPLUG_MEMORY")
AGENT_MODULES: tuple[str, ...] = arm64.AGENT_MODULES
CARRIED: tuple[str, ...] = ()
DISK: Disk | None = Disk("nvme,serial=hotbank", "/dev/nvme0n1")  # the only one that cloud kernels have built in
DIMMS = True
SUPPLIES = False
DESCRIBED = "srat"  # how the board file says that ACPI describes it
FLAVOUR = f"cloud-{DEBIAN}"
_FIRMWARE, _CODE = "qemu-efi-aarch64", "usr/share/qemu-efi-aarch64/QEMU_EFI.fd"


def check(board: Board) -> None:
    """Raise BoardError unless QEMU's ``virt`` machine with UEFI can be this board."""
    if board.arch != ARCH:
        raise BoardError("arch", board.arch, f"must be {ARCH} for QEMU's arm64 machine")
    others = [bank for bank in board.banks if bank.route != NONE.name]
    if others:
        raise BoardError(
            f"bank.{others[0].name}.route", others[0].route, f"must be {NONE.name}: DIMMs come by themselves"
        )
    there = tuple(bank for bank in board.banks if bank.at_boot)
    if len(there) != 1:
        raise BoardError("bank", None, "one must be there at boot, and all others are DIMMs")
    end = virt.check_memory(there)
    for bank in _dimms(board):
        if bank.range.start < arm64.device_memory(end):
            allowed = f"must be {arm64.device_memory(end):#x} or more: there QEMU's device memory begins"
            raise BoardError(f"bank.{bank.name}.start", f"{bank.range.start:#x}", allowed)


def kernel(series: str | None, drives: bool, progress: Progress) -> GuestKernel:
    """Debian's newest of that series for machines in a cloud, unmodified. See Port."""
    del drives  # DIMMs need no driver of ours
    archive = Archive.open(DEBIAN, progress)
    release = archive.kernel(series or arm64.SERIES, FLAVOUR, whole=False)
    folder = archive.unpack_kernel(release, whole=False)
    modules = next(iter(folder.glob("**/lib/modules/*/modules.order")), None)
    return GuestKernel(arm64.only(folder, "**/vmlinuz*"), modules and modules.parent)


def command(board: Board, boot: GuestBoot, folder: Path, files: Mapping[str, Path]) -> QemuCommand:
    """See Port."""
    check(board)
    (low,) = (bank for bank in board.banks if bank.at_boot)
    line = " ".join(filter(None, ("console=ttyAMA0", board.cmdline, boot.cmdline)))
    arguments = ("-M", "virt", "-cpu", arm64.CPU, "-smp", str(boot.cpus), "-bios", str(_firmware()))
    started = ("-kernel", str(arm64.unpacked_kernel(boot.kernel, folder)), "-initrd", str(boot.initrd), "-append", line)
    room = sum(bank.range.size for bank in board.banks)
    memory = ("-m", f"{low.range.size}B,slots={len(_dimms(board))},maxmem={room}B")
    return QemuCommand(PROGRAM, (*arguments, *memory, *_plugged(board, files), *started), ports=serial.PORTS)


def _dimms(board: Board) -> tuple[Bank, ...]:
    return tuple(sorted((bank for bank in board.banks if not bank.at_boot), key=lambda bank: bank.range))


def _plugged(board: Board, files: Mapping[str, Path]) -> tuple[str, ...]:
    arguments: list[str] = []
    for bank in _dimms(board):
        backend = f"memory-backend-file,id=mem-{bank.name},size={bank.range.size}B,mem-path={files[bank.name]},share=on"
        device = f"pc-dimm,id=bank-{bank.name},memdev=mem-{bank.name},addr={bank.range.start:#x}"
        arguments += ["-object", backend, "-device", device]
    return tuple(arguments)


def _firmware() -> Path:
    """Fetched when it is needed first."""
    (folder,) = Archive.open(DEBIAN, no_progress).unpack(_FIRMWARE)
    return folder / _CODE
