# SPDX-License-Identifier: Apache-2.0
"""Machines that are a real kernel in QEMU.

    record = up(Wanted("virt-arm64"), progress=print)     hotbank up virt-arm64 --qemu
    with console() as stream: ...                         hotbank console

background.py   what these two do, in a process that stays
daemon.py       that process
launch.py       from a board to a running guest
port.py         what launching needs of an architecture
arm64.py        a board as QEMU's arm64 machine, with our own device tree
uefi.py         the same with UEFI, ACPI and DIMMs
arm32.py        a board as QEMU's 32-bit machine, with ATAGs
virt.py         what both machines have in common
qemu.py         one QEMU process
qmp.py          its monitor
dram.py         a file for each bank: its content and its power
gpio.py         the line that feeds it
shell.py        shell commands in the guest
supervisor.py   all of that as one Machine, whose other half runs in the guest (hotbank.guest)
leftovers.py    folders, and what is left of them after a kill
kept.py         what was fetched and built, to be listed and removed
parts/          what a guest is made of: kernel, modules, initramfs, and the packages they come from
"""

from hotbank.boards_qemu.background import clear, console, up
from hotbank.boards_qemu.launch import Prepared, Wanted, prepare, start

__all__ = ["Prepared", "Wanted", "clear", "console", "prepare", "start", "up"]
