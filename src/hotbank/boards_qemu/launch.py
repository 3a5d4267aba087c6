# SPDX-License-Identifier: Apache-2.0
"""From a board to a running guest: what is needed is fetched and built (``prepare``), then QEMU is started (``start``).

The two are apart because they run in different processes: ``hotbank up`` prepares and shows its progress, the
daemon starts QEMU and owns it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hotbank import board as boards
from hotbank import kernels
from hotbank.board import Board
from hotbank.boards_qemu import arm32, arm64, dram, leftovers, uefi
from hotbank.boards_qemu.gpio import lines_of
from hotbank.boards_qemu.parts import bank_module, initramfs, own_kernel
from hotbank.boards_qemu.parts.packages import Archive, Progress, cache_folder, no_progress
from hotbank.boards_qemu.port import GuestBoot, GuestKernel, Port
from hotbank.boards_qemu.qemu import Qemu, QemuCommand
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import BoardError, Code, MachineError
from hotbank.host.switch import commands
from hotbank.routes import route

PROGRAMS = ("busybox-static", "python3-minimal", "libpython3-stdlib")
PORTS: Mapping[str, Port] = {port.ARCH: port for port in (arm64, arm32)}
SUPPLY_MODULE = "fixed"  # a regulator behind a GPIO line
SUPPLY_OPTIONS = ("GPIO_PL061", "REGULATOR_FIXED_VOLTAGE")
# Options that name files: what must be there, and what may be given.
_FILES = (
    ("kernel", "file", f"give an Image, or a series of Debian's kernel such as {kernels.DEFAULT}"),
    ("modules", "folder", "give the kernel's lib/modules/VERSION"),
    ("source", "folder", "give the folder that the kernel was built in"),
    ("initrd", "file", "leave it out to have one made"),
)
# New memory stays offline until hotbank puts it online: else it could land in a kernel zone.
POLICY = "memhp_default_state=offline"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to run. ``board``: a shipped board or a file. ``series``: of the kernel, None for the port's usual one,
    unless ``kernel`` (an Image) is given, with ``initrd`` or without. ``source``: the folder that it was built in, in
    which our driver is built for it; ``modules``: its ``lib/modules/VERSION``, where no driver of ours is needed.

    ``cmdline`` comes last on the kernel's command line. ``default_on``: banks that the driver adds by itself.
    ``supplies``: GPIO lines that feed banks, by their names; None for one to each domain that our driver switches, as
    long as kernel and initramfs are ours. ``files``: more files in the guest. ``run_commands``: the programs that the
    board names as switches are run, here and not in the guest.
    """

    board: str
    series: str | None = None
    kernel: str | None = None
    modules: str | None = None
    source: str | None = None
    initrd: str | None = None
    cmdline: str = ""
    cpus: int = 2
    default_on: tuple[str, ...] = ()
    supplies: Mapping[str, int] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    qemu_arguments: tuple[str, ...] = ()
    run_commands: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that starting needs, as paths and words that cross to another process. ``folder`` is the guest's own."""

    board: str
    folder: str
    kernel: str
    initrd: str
    cmdline: str
    cpus: int
    default_on: tuple[str, ...] = ()
    supplies: Mapping[str, int] = field(default_factory=dict)
    qemu_arguments: tuple[str, ...] = ()
    run_commands: bool = False


def prepare(wanted: Wanted, folder: Path, progress: Progress = no_progress) -> Prepared:
    """Fetch and build what is missing. ``folder``: short, private, empty. Raises BoardError, MachineError."""
    path, wanted = boards.find(wanted.board), _given(wanted)
    board = boards.load(path)
    port = port_of(board)
    port.check(board)
    _check_programs(port)
    making = _Making(wanted, path, board, port, folder, progress)
    kernel, supplies = making.kernel(), making.supplies()
    initrd = wanted.initrd or making.initrd(kernel, supplies)
    return Prepared(
        board=str(path.resolve()),
        folder=str(folder),
        kernel=str(kernel.image),
        initrd=str(initrd),
        cmdline=" ".join(filter(None, ("quiet", POLICY, wanted.cmdline))),
        cpus=wanted.cpus,
        default_on=wanted.default_on,
        supplies=supplies,
        qemu_arguments=wanted.qemu_arguments,
        run_commands=wanted.run_commands,
    )


def _given(wanted: Wanted) -> Wanted:
    """With whole paths: who starts the guest has a working folder of its own. Raises MachineError for what is not
    there."""
    _check_together(wanted)
    paths: dict[str, Any] = {}
    for option, kind, remedy in _FILES:
        given = getattr(wanted, option)
        if given is not None:
            path = Path(given).resolve()
            if not (path.is_dir() if kind == "folder" else path.is_file()):
                raise MachineError(
                    f"--{option} {given}: there is no such {kind}", code=Code.SYSTEM_ERROR, remedy=remedy
                )
            paths[option] = str(path)
    return replace(wanted, **paths)


def _check_together(wanted: Wanted) -> None:
    """Raise MachineError for an option that would have no effect beside the others."""
    for option in ("modules", "source"):
        if not getattr(wanted, option):
            continue
        if not wanted.kernel:
            what, remedy = "belongs to an Image of your own", "give it with --kernel"
        elif wanted.initrd:
            what, remedy = "has no effect beside --initrd, which has its modules inside", "leave one of them out"
        elif option == "modules" and wanted.source:
            what, remedy = "has no effect beside --source, whose modules are taken", "leave one of them out"
        else:
            continue
        raise MachineError(f"--{option} {what}", code=Code.UNSUPPORTED, remedy=remedy)


def start(prepared: Prepared, on_end: Callable[[], None] = lambda: None) -> QemuMachine:
    """Start QEMU and return when the guest answers; the calling thread has to outlive the machine.

    ``on_end`` is called when the guest ends by itself. Raises MachineError.
    """
    board, folder = boards.load(prepared.board), Path(prepared.folder)
    base, prefix = dram.home()
    leftovers.sweep(base, prefix)
    with leftovers.new_folder(base, f"{prefix}{os.getpid()}.") as at:
        files = dram.create(board, at)
    try:
        command = _command(board, prepared, folder, {name: file.path for name, file in files.items()})
        command = command.with_arguments(prepared.qemu_arguments)
        real = commands(board) if prepared.run_commands else {}
        machine = QemuMachine(board, Qemu(command, folder, on_end), files, prepared.supplies, real=real)
    except BaseException:
        dram.discard(files)
        raise
    try:
        machine.wait_until_up()
    except BaseException:
        machine.close()
        raise
    return machine


def port_of(board: Board) -> Port:
    """The port that plays the board. Raises BoardError."""
    if board.arch not in PORTS:
        raise BoardError("arch", board.arch, f"must be {' or '.join(PORTS)} to run in QEMU")
    with_acpi: Port = uefi
    described_by_acpi = board.arch == uefi.ARCH and board.describe == uefi.DESCRIBED
    return with_acpi if described_by_acpi else PORTS[board.arch]


def _command(board: Board, prepared: Prepared, folder: Path, files: Mapping[str, Path]) -> QemuCommand:
    kernel, initrd = Path(prepared.kernel), Path(prepared.initrd)
    boot = GuestBoot(kernel, initrd, prepared.cmdline, prepared.cpus, prepared.default_on, prepared.supplies)
    return port_of(board).command(board, boot, folder, files)


def _check_programs(port: Port) -> None:
    for program in (port.PROGRAM, "setpriv"):
        if shutil.which(program) is None:
            raise MachineError(
                f"{program} is not installed",
                code=Code.SYSTEM_ERROR,
                remedy="apt-get install qemu-system-arm util-linux",
            )


@dataclass(frozen=True, slots=True)
class _Making:
    """The parts of one guest in the making. ``path``: the board's file. ``folder``: the guest's own."""

    wanted: Wanted
    path: Path
    board: Board
    port: Port
    folder: Path
    progress: Progress

    def kernel(self) -> GuestKernel:
        """The one that was given, or the port's."""
        wanted = self.wanted
        if wanted.kernel is None:
            return self.port.kernel(wanted.series, self._drives, self.progress)
        own_kernel.check_arch(Path(wanted.kernel), self.port.NAMES)
        if tree := self._tree():
            return self._built(tree, Path(wanted.kernel))
        if self._drives and not wanted.initrd:
            raise MachineError(
                "the bank driver is built for Debian's kernels and in the tree of one's own",
                code=Code.UNSUPPORTED,
                remedy="give --source with the folder that the kernel was built in, or --initrd with the driver inside",
            )
        image, modules = Path(wanted.kernel), Path(wanted.modules) if wanted.modules else None
        if not wanted.initrd and (options := own_kernel.options_of(image)):
            own_kernel.check_options(options, self._needed, str(image), loadable=modules is not None)
        return GuestKernel(image, modules)

    def supplies(self) -> dict[str, int]:
        """The line that feeds each bank, by its name."""
        if self.wanted.supplies is not None:
            return dict(self.wanted.supplies)
        return lines_of(self.board) if self.port.SUPPLIES and self._feeds() else {}

    def initrd(self, kernel: GuestKernel, supplies: Mapping[str, int]) -> Path:
        """Packed into the guest's folder."""
        contents = initramfs.Contents(
            name=self.board.name,
            programs=Archive.open(self.port.DEBIAN, self.progress).unpack(*PROGRAMS, depends=True),
            modules=kernel.modules,
            load=self._to_load(supplies) if kernel.modules else (),
            carry=self.port.CARRIED if kernel.modules else (),
            extra_modules=kernel.extra,
            files={"etc/hotbank/board.toml": self.path.read_bytes(), **self.wanted.files},
        )
        return initramfs.build(contents, self.folder, cache_folder())

    @property
    def _drives(self) -> bool:
        """True if a bank of the board comes and goes by our driver."""
        return any(bank_module.NAME in route(bank.route).modules for bank in self.board.banks)

    @property
    def _needed(self) -> tuple[str, ...]:
        return (*own_kernel.GUEST, *self.port.OPTIONS, *(own_kernel.DRIVER if self._drives else ()))

    def _tree(self) -> own_kernel.Tree | None:
        return own_kernel.Tree.opened(Path(self.wanted.source), self.port.NAMES) if self.wanted.source else None

    def _built(self, tree: own_kernel.Tree, image: Path) -> GuestKernel:
        """A kernel and all that its tree has for it."""
        own_kernel.check_options(tree.options, self._needed, f"{tree.folder}/.config", loadable=True)
        tree.check_image(image)
        build = bank_module.build_in
        driver = (build(tree.folder, self.port.NAMES, cache_folder(), self.progress),) if self._drives else ()
        return GuestKernel(image, tree.modules(self.folder), driver)

    def _feeds(self) -> bool:
        """True if the kernel can switch a line, and an initramfs of ours says so to it."""
        if tree := self._tree():
            return all(option in tree.options for option in SUPPLY_OPTIONS)
        return self.wanted.kernel is None and self.wanted.initrd is None

    def _to_load(self, supplies: Mapping[str, int]) -> tuple[str, ...]:
        """The modules loaded at boot, in this order: a supply is there before the driver that asks for it."""
        routes = (name for bank in self.board.banks for name in route(bank.route).modules)
        return tuple(dict.fromkeys((*self.port.AGENT_MODULES, *([SUPPLY_MODULE] if supplies else []), *routes)))
