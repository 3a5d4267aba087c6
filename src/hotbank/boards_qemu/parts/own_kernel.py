# SPDX-License-Identifier: Apache-2.0
"""A kernel of the user's own: an image, and the tree that it was built from, against which our driver is built.

A kernel that lacks something boots in silence or not at all. So what a guest can't do without is looked up before, in
the tree's configuration or in the one that the image carries (CONFIG_IKCONFIG, kernel/configs.c), and all of it is
named at once. Modules that the tree has compiled go into the guest like those of a package.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotbank import kernels, packed
from hotbank.boards_qemu.parts import compressed
from hotbank.boards_qemu.parts.bank_module import ArchNames
from hotbank.errors import Code, FormatError, MachineError
from hotbank.memory import MIB

# What every guest of ours needs: our initramfs, its programs, and memory that comes and goes.
GUEST = (
    "BLK_DEV_INITRD", "BINFMT_ELF", "BINFMT_SCRIPT", "DEVTMPFS", "EPOLL", "FUTEX", "MEMORY_HOTPLUG", "MEMORY_HOTREMOVE",
    "PROC_FS", "SYSFS", "TMPFS", "UNIX",
)  # fmt: skip
DRIVER = ("MODULES", "MODULE_UNLOAD")

_CARRIED = re.compile(rb"IKCFG_ST(.*?)IKCFG_ED", re.DOTALL)
_LARGEST = 4 * MIB  # ten times what a distribution's configuration takes
_RELEASE = re.compile(rb"Linux version (\S+) \(")
_SET = re.compile(r"^CONFIG_(\w+)=([ym])$", re.MULTILINE)
# Made by the build, and needed by that of a module.
_BUILT = ("include/config/kernel.release", "include/generated/autoconf.h", "Module.symvers", "Makefile")

Options = Mapping[str, str]  # ``y`` or ``m`` by name, without CONFIG_; what is off is not there


@dataclass(frozen=True, slots=True)
class Tree:
    """A kernel's tree as ``make`` left it: the source itself, or the folder that ``O=`` named."""

    folder: Path
    arch: ArchNames

    @classmethod
    def opened(cls, folder: Path, arch: ArchNames) -> Tree:
        """Raises MachineError when no kernel for ``arch`` was built there."""
        tree = cls(folder, arch)
        if arch.kernel.upper() not in tree.options:
            raise MachineError(
                f"{folder} is no tree of a kernel for {arch.kernel}: no .config there says so",
                code=Code.BAD_FORMAT,
                remedy="give the folder that the kernel was built in (O= of make, or the source)",
            )
        if missing := [name for name in _BUILT if not (folder / name).is_file()]:
            raise MachineError(
                f"{folder} has no {', '.join(missing)}: no kernel was built there",
                code=Code.SYSTEM_ERROR,
                remedy=f"make -C {folder} ARCH={arch.kernel} CROSS_COMPILE={arch.prefix} all",
            )
        return tree

    @property
    def release(self) -> str:
        """What ``uname -r`` prints."""
        return (self.folder / _BUILT[0]).read_text(encoding="utf-8", errors="replace").strip()

    @property
    def options(self) -> Options:
        """Its configuration; empty where there is none."""
        try:
            return _options((self.folder / ".config").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return {}

    def check_image(self, image: Path) -> None:
        """Raise MachineError when the image says that it is another release. A zImage says nothing."""
        said = _RELEASE.search(_unpacked(image))
        if said and said[1].decode("utf-8", "replace") != self.release:
            raise MachineError(
                f"{image} is {said[1].decode('utf-8', 'replace')}, and {self.folder} was built as {self.release}",
                code=Code.UNSUPPORTED,
                remedy="give an image and the tree that it comes from",
            )

    def modules(self, folder: Path) -> Path:
        """A ``lib/modules/RELEASE`` below ``folder``: links to the modules that were compiled, and what is built in."""
        at = folder / "lib/modules" / self.release
        at.mkdir(parents=True)
        for path in self._compiled():
            (at / path.name).symlink_to(path.resolve())
        if (self.folder / "modules.builtin").is_file():
            shutil.copy(self.folder / "modules.builtin", at)
        return at

    def _compiled(self) -> Iterable[Path]:
        """By modules.order, which names the modules, or their objects (since 6.3)."""
        try:
            names = os.fsdecode((self.folder / "modules.order").read_bytes()).split()
        except OSError:
            return []
        return [self.folder / Path(name).with_suffix(".ko") for name in names]


def check_arch(image: Path, arch: ArchNames) -> None:
    """Raise MachineError for a file that is no kernel for ``arch``: that, too, would boot in silence."""
    found = kernels.arch_of_image(_unpacked(image))
    if found != arch.kernel:
        raise MachineError(
            f"{image} is no kernel for {arch.kernel}{f', but one for {found}' if found else ''}",
            code=Code.BAD_FORMAT,
            remedy=f"give what make ARCH={arch.kernel} leaves in arch/{arch.kernel}/boot (of arm the zImage)",
        )


def options_of(image: Path) -> Options:
    """The configuration that a kernel carries; empty when it carries none."""
    carried = _CARRIED.search(_unpacked(image))
    try:
        return _options(packed.unpacked(carried[1], _LARGEST).decode("utf-8", "replace")) if carried else {}
    except FormatError:
        return {}


def check_options(options: Options, needed: Sequence[str], where: str, *, loadable: bool) -> None:
    """Raise MachineError that names every needed option that is off, or a module where none is ``loadable``.

    ``where``: whose configuration it is."""
    missing = [f"CONFIG_{name}" for name in needed if options.get(name, "") not in ("y", *"m" * loadable)]
    if missing:
        raise MachineError(
            f"{where} lacks {', '.join(missing)}, without which it can't be this guest",
            code=Code.UNSUPPORTED,
            remedy="build the kernel with them" + ("" if loadable else ", or give its modules too"),
        )


def _options(config: str) -> Options:
    return dict(_SET.findall(config))


def _unpacked(image: Path) -> bytes:
    return compressed.kernel_image(image.read_bytes(), str(image))
