# SPDX-License-Identifier: Apache-2.0
"""What launching a guest needs to know of an architecture: one module for each (arm64.py, arm32.py) is such a port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hotbank.board import Board
from hotbank.boards_qemu.parts.bank_module import ArchNames
from hotbank.boards_qemu.parts.packages import Progress
from hotbank.boards_qemu.qemu import QemuCommand


@dataclass(frozen=True, slots=True)
class GuestBoot:
    """What a machine is started with. ``cmdline`` is put behind the board's own. ``cpus``: emulated CPUs.

    ``default_on``: banks of the ``driver`` route that the driver adds by itself. ``supplies``: the GPIO line that feeds
    a bank, by its name; banks of one line share one supply.
    """

    kernel: Path
    initrd: Path
    cmdline: str = ""
    cpus: int = 2
    default_on: tuple[str, ...] = ()
    supplies: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """What a disk is. ``device``: as QEMU is told of it, but for its drive; ``path``: where the guest has it."""

    device: str
    path: str


@dataclass(frozen=True, slots=True)
class GuestKernel:
    """A kernel to boot. ``modules``: its ``lib/modules/VERSION``, None when it has none; ``extra``: modules of ours."""

    image: Path
    modules: Path | None = None
    extra: tuple[Path, ...] = ()


class Port(Protocol):
    """``ARCH``: as boards name it; ``DEBIAN``: as Debian names it, whose BusyBox and Python run in the guest.

    ``NAMES``: as all name it. ``OPTIONS``: what its machine can't do without of a kernel's configuration.

    ``PROGRAM``: QEMU's. ``AGENT_MODULES``: what reaches the agent's ports, where it is not built in. ``CARRIED``:
    modules that a guest has for whoever wants to try something. ``DISK``: one that its kernel can read, None for none.
    ``DIMMS``: whether banks without a route are DIMMs, which the kernel adds by itself. ``SUPPLIES``: whether its
    kernel can feed banks through lines of the GPIO block.
    """

    ARCH: str
    DEBIAN: str
    NAMES: ArchNames
    OPTIONS: tuple[str, ...]
    PROGRAM: str
    AGENT_MODULES: tuple[str, ...]
    CARRIED: tuple[str, ...]
    DISK: Disk | None
    DIMMS: bool
    SUPPLIES: bool

    def check(self, board: Board) -> None:
        """Raise BoardError unless the machine can be this board."""
        ...

    def kernel(self, series: str | None, drives: bool, progress: Progress) -> GuestKernel:
        """A kernel of that series, None for the usual one, fetched or built if need be; with our bank driver if it
        ``drives`` banks. Raises MachineError."""
        ...

    def command(self, board: Board, boot: GuestBoot, folder: Path, files: Mapping[str, Path]) -> QemuCommand:
        """How to start QEMU. ``folder``: where what is loaded is written; ``files``: a backing file for each bank.

        Raises BoardError, MachineError.
        """
        ...
