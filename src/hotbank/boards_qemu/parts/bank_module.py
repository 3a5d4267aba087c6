# SPDX-License-Identifier: Apache-2.0
"""Cross-builds our bank driver (kernel/bank) against the headers of a Debian kernel or the tree that a kernel was built
in, and keeps what it built.

Debian's header packages expect to lie in /usr: a tree of links that points into the unpacked packages stands in
for that. A build is keyed by the driver's source and by the kernel's package, or what the tree exports.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

from hotbank.boards_qemu.parts.packages import Archive, Progress, host_architecture, no_progress
from hotbank.errors import Code, MachineError
from hotbank.keys import shipped

NAME = "hotbank_bank"
# What a module depends on: the kernel's name, its configuration, its symbols with their versions.
_OF_TREE = ("include/config/kernel.release", "include/generated/autoconf.h", "Module.symvers")

# What the kernel was built with and need not be here: pahole, and an option of GCC 14. Without that, cold functions are
# not aligned as arm64 wants of those that it traces, and it oopses when it loads them: none is traced.
_WITHOUT = ("CONFIG_DEBUG_INFO_BTF_MODULES=", "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", "CC_FLAGS_FTRACE=")
_MODPOST = "modpost"


@dataclass(frozen=True, slots=True)
class ArchNames:
    """An architecture by its three names: Debian's, the kernel's, and the compiler's prefix."""

    debian: str
    kernel: str
    prefix: str


def source_folder() -> Path:
    """Where the driver's source is: in the installed package, or in the source tree beside it."""
    for home in shipped("kernel"):
        if (home / "bank").is_dir():
            return home / "bank"
    raise MachineError(
        "the source of the bank driver is not installed",
        code=Code.UNSUPPORTED,
        remedy="work in the source tree, or give an --initrd with the driver inside",
    )


def build(release: str, target: ArchNames, cache: Path, progress: Progress = no_progress) -> Path:
    """The driver for a release of Debian's kernel, built if need be. Raises MachineError."""
    built = _kept(cache, [release.encode()])
    if not built.exists():
        progress(f"building the bank driver for {release}")
        headers = kernel_headers(release, target, cache, progress)
        make_module(source_folder(), headers, target, built)
    return built


def build_in(tree: Path, target: ArchNames, cache: Path, progress: Progress = no_progress) -> Path:
    """The driver for the kernel that was built in ``tree``, built if need be. Raises MachineError."""
    built = _kept(cache, [(tree / name).read_bytes() for name in _OF_TREE])
    if not built.exists():
        progress(f"building the bank driver in {tree}")
        make_module(source_folder(), tree, target, built)
    return built


def _kept(cache: Path, kernel: Sequence[bytes]) -> Path:
    """Where the driver for that kernel is kept."""
    source = source_folder()
    how = " ".join(_WITHOUT).encode()
    files = (path.read_bytes() for path in sorted(source.iterdir()))
    key = hashlib.sha256(b"".join((*kernel, how, *files))).hexdigest()
    return cache / "modules" / key[:16] / f"{NAME}.ko"


def kernel_headers(release: str, target: ArchNames, cache: Path, progress: Progress = no_progress) -> Path:
    """A folder to give to ``make -C``, for modules of a release of Debian's kernel."""
    common = release.rsplit("-", 1)[0]
    own, shared = Archive.open(target.debian, progress).unpack(
        f"linux-headers-{release}", f"linux-headers-{common}-common"
    )
    (tools,) = Archive.open(host_architecture(), progress).unpack(_kbuild(common))
    tree = cache / "headers" / release
    if not (tree / "Makefile").exists() or (tree / "Makefile").is_symlink():  # not moved: it was cut short
        _link_tree(tree / "common", shared / "usr/src" / f"linux-headers-{common}-common", tools)
        _link_tree(tree, own / "usr/src" / f"linux-headers-{release}", tools)
        _see_that_it_runs(tree, progress)
        _move(tree / "Makefile", {f"linux-headers-{common}-common": tree / "common", f"linux-headers-{release}": tree})
    return tree


def make_module(source: Path, headers: Path, target: ArchNames, built: Path) -> None:
    """Run the kernel's build in a copy of ``source`` and put the module at ``built``."""
    if missing := [program for program in ("make", f"{target.prefix}gcc") if shutil.which(program) is None]:
        package = f"gcc-{target.prefix.rstrip('-')}"
        raise MachineError(
            f"{missing[0]} is not installed", code=Code.SYSTEM_ERROR, remedy=f"apt-get install make {package}"
        )
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as own:  # others may build the same
        work = shutil.copytree(source, Path(own) / "build")
        done = subprocess.run(building(work, headers, target), capture_output=True, text=True)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "error" in line.lower() or "No such file" in line]
            complaint = (lines or done.stderr.splitlines() or ["?"])[0]
            raise MachineError(f"the bank driver did not build: {complaint}", code=Code.SYSTEM_ERROR)
        (work / f"{NAME}.ko").replace(built)


def building(work: Path, headers: Path, target: ArchNames) -> list[str]:
    """The command that builds the module whose source is in ``work``."""
    argv = ["make", "-C", str(headers), f"M={work}", f"ARCH={target.kernel}", f"CROSS_COMPILE={target.prefix}"]
    modpost = [f"MODPOST={own}" for own in (headers / _MODPOST,) if own.exists()]
    return [*argv, *_WITHOUT, f"CC={target.prefix}gcc", *modpost, "modules"]


def _kbuild(common: str) -> str:
    """``6.12.117+deb12`` has its tools in linux-kbuild-6.12.117+deb12, ``6.1.0-56`` in linux-kbuild-6.1."""
    return f"linux-kbuild-{common if '+' in common else '.'.join(common.split('.')[:2])}"


def _link_tree(tree: Path, own: Path, tools: Path) -> None:
    tree.mkdir(parents=True, exist_ok=True)
    (kbuild,) = (tools / "usr/lib").glob("linux-kbuild-*")
    for entry in own.iterdir():
        if entry.name not in ("vmlinux", "scripts", "tools"):
            _link(tree / entry.name, entry)
    _link(tree / "scripts", kbuild / "scripts")
    _link(tree / "tools", kbuild / "tools")


def _see_that_it_runs(tree: Path, progress: Progress) -> None:
    """A kernel of a newer Debian brings a modpost that wants that Debian's C library: run it with one."""
    tool = (tree / "scripts/mod/modpost.real-lsb-64").resolve()  # ``modpost`` itself only picks the one of these
    if not tool.exists() or "GLIBC" not in subprocess.run([tool], stdin=DEVNULL, capture_output=True, text=True).stderr:
        return
    archive = Archive.open(host_architecture(), progress)
    (library,) = archive.unpack(archive.newest("libc6"))
    loader = next(path for path in library.rglob("ld-linux*") if path.is_file() and not path.is_symlink())
    script = f'#!/bin/sh\nexec {loader} --library-path {loader.parent} {tool} "$@"\n'
    (tree / _MODPOST).write_text(script, encoding="utf-8")
    (tree / _MODPOST).chmod(0o755)


def _move(makefile: Path, moved: Mapping[str, Path]) -> None:
    """Put a file in the place of its link, in which folders of /usr/src are where they really are."""
    text = makefile.read_text(encoding="utf-8")
    for name, folder in moved.items():
        text = text.replace(f"/usr/src/{name}\n", f"{folder}\n").replace(f"/usr/src/{name}/", f"{folder}/")
    part = makefile.with_suffix(f".{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(makefile)


def _link(link: Path, target: Path) -> None:
    with suppress(FileExistsError):
        link.symlink_to(target)
