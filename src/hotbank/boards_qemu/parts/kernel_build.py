# SPDX-License-Identifier: Apache-2.0
"""A kernel for a board in QEMU, built from Debian's source package with our port applied.

The tree and its objects stay in the cache, one set for each source, so that a changed port compiles only what it
touches. What comes out is kept by content: source, port and modules make the key, and the same key is answered
without a compiler.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from hotbank.boards_qemu.parts.kernel_port import KernelPort, lines_of
from hotbank.boards_qemu.parts.packages import Archive, Progress, cache_folder, host_architecture, no_progress
from hotbank.errors import Code, MachineError
from hotbank.keys import shipped

ARCHES = ("arm",)

_CROSS = {"arm": "arm-linux-gnueabihf-", "arm64": "aarch64-linux-gnu-"}
_IMAGE = {"arm": "zImage", "arm64": "Image"}  # below arch/ARCH/boot
_TOOLS = {  # program: Debian package
    "make": "make",
    "gcc": "gcc",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "tar": "tar",
    "xz": "xz-utils",
}
_CROSS_TOOLS = {"gcc": "gcc", "ld": "binutils"}
_COMPILING = re.compile(r"^\s+(?:CC|AS|LD)\b(?: \[M\])?\s+(\S+)")


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """What was built, in a folder of the cache. ``release`` is what ``uname -r`` will print. ``objects``: where it was
    built last, against which a module can be built as long as nothing else is built there."""

    folder: Path
    release: str
    arch: str
    objects: Path

    @property
    def image(self) -> Path:
        """The zImage or Image; a device tree may be appended to a copy of a zImage."""
        return self.folder / _IMAGE[self.arch]

    @property
    def config(self) -> Path:
        """The kernel's configuration."""
        return self.folder / "config"

    @property
    def modules(self) -> Path:
        """``lib/modules/RELEASE``, with the modules that were built with it and the list of what is built in."""
        return self.folder / "lib/modules" / self.release


def port_folder(arch: str) -> Path:
    """Where the port for ``arch`` is: beside the installed package, or in the source tree."""
    for home in shipped("kernel"):
        if (home / arch / "edits.toml").is_file():
            return home / arch
    raise MachineError(
        f"no kernel port for {arch} is installed", code=Code.UNSUPPORTED, remedy=f"ports: {', '.join(ARCHES)}"
    )


def build(
    arch: str,
    *,
    release: str | None = None,
    source: Path | None = None,
    port: Path | KernelPort | None = None,
    variant: str = "",
    modules: Sequence[Path] = (),
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> BuiltKernel:
    """The kernel of our port for ``arch``: from the cache, or compiled now (a few minutes).

    ``release``: one that the port is for, None for its usual one. ``source``: an unmodified kernel tree, which is
    copied; without it Debian's linux-source package of that release is fetched. ``port``: another one instead of ours,
    or its folder. ``variant``: objects are kept for each by themselves, so that two configurations of one source don't
    undo each other's. ``modules``: folders of kernel modules to build with it.
    ``progress`` hears one line for each step. Raises MachineError (a tool, the package or space is missing, or the
    compiler fails) and Refusal (the port does not fit the source).
    """
    cache = cache or cache_folder()
    ours = port if isinstance(port, KernelPort) else KernelPort.load(port or port_folder(arch))
    tree = Tree.of(source or package_of(ours, release), cache, progress, variant)
    kernel = cache / "kernels" / _key(arch, tree.name, ours, modules)
    if not (kernel / "release").exists():
        _check_tools(arch)
        with tree.locked():
            if not (kernel / "release").exists():  # nobody built it while we waited
                tree.unpack()
                progress(f"applying {len(ours.edits)} edits and {len(ours.files)} files")
                ours.apply(tree.source, tree.originals)
                _compile(tree, arch, ours, modules, kernel)
    return BuiltKernel(kernel, (kernel / "release").read_text(encoding="utf-8").strip(), arch, tree.objects)


def package_of(port: KernelPort, release: str | None) -> str:
    """The Debian package with the source of a release that the port is for, None for its usual one.

    Raises MachineError for another release."""
    release = release or port.releases[0]
    if release not in port.releases:
        raise MachineError(
            f"our port is of {' and '.join(port.releases)}, not of {release}",
            code=Code.UNSUPPORTED,
            remedy="give --kernel one of these, or leave it out; hotbank up takes a zImage as well",
        )
    return f"linux-source-{release}"


@dataclass(frozen=True, slots=True)
class Tree:
    """One kernel source in the cache. ``origin``: the Debian package's file, or a folder to copy.

    ``source`` is the tree with some port applied, ``originals`` what the files were that it edits.
    """

    folder: Path
    origin: Path
    progress: Progress
    variant: str = ""

    @classmethod
    def of(cls, source: Path | str, cache: Path, progress: Progress, variant: str = "") -> Tree:
        """Of an unmodified kernel tree, or a Debian package by its name. Raises MachineError."""
        if isinstance(source, str):
            package = Archive.open(host_architecture(), progress).fetch(source)[0]
            return cls(cache / "linux" / package.stem, package, progress, variant)
        if not any(source.glob("arch/*/Kconfig")):
            raise MachineError(
                f"{source} is no kernel source", code=Code.BAD_FORMAT, remedy="give the folder that holds MAINTAINERS"
            )
        return cls(cache / "linux" / f"tree-{_fingerprint(source)}", source.resolve(), progress, variant)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def originals(self) -> Path:
        return self.folder / "originals"

    @property
    def objects(self) -> Path:
        return self.folder / f"objects{self.variant}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One build at a time: others wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def unpack(self) -> None:
        """Have the source there. An unpacking that was cut short is begun anew."""
        if self.source.is_dir():
            return
        self.progress(f"unpacking {self.origin.name}")
        part = self.folder / "part"
        shutil.rmtree(part, ignore_errors=True)
        if self.origin.is_dir():
            shutil.copytree(self.origin, part, symlinks=True)
        else:
            _unpack_package(self.origin, part)
        part.rename(self.source)


def _unpack_package(package: Path, part: Path) -> None:
    part.mkdir()
    _run(["dpkg-deb", "-x", str(package), str(part / "deb")])
    archives = sorted((part / "deb").glob("usr/src/linux-source-*.tar.*"))
    if not archives:
        raise MachineError(f"{package.name} holds no kernel source", code=Code.BAD_FORMAT)
    _run(["tar", "-xf", str(archives[0]), "-C", str(part), "--strip-components=1"])
    shutil.rmtree(part / "deb")


def _fingerprint(source: Path) -> str:
    """Names, sizes and times of a tree's files: enough to notice that it changed."""
    digest = hashlib.sha256(str(source.resolve()).encode())
    for folder, _, names in sorted(os.walk(source)):
        for name in sorted(names):
            status = os.lstat(os.path.join(folder, name))
            digest.update(f"{folder}/{name} {status.st_size} {status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _key(arch: str, source: str, port: KernelPort, modules: Sequence[Path]) -> str:
    digest = hashlib.sha256(f"{arch}\0{source}".encode())
    for line in (*lines_of(port), *_module_sources(modules)):
        digest.update(line.encode() + b"\0")
    return f"{arch}-{digest.hexdigest()[:16]}"


def _module_sources(modules: Sequence[Path]) -> Iterator[str]:
    for folder in modules:
        for path in sorted(p for p in folder.iterdir() if p.suffix in (".c", ".h") or p.name in ("Kbuild", "Makefile")):
            yield f"{folder.name}/{path.name}\0{path.read_text(encoding='utf-8')}"


def _check_tools(arch: str) -> None:
    prefix = _CROSS[arch]
    needed = _TOOLS | {f"{prefix}{tool}": f"{package}-{prefix[:-1]}" for tool, package in _CROSS_TOOLS.items()}
    missing = {package for program, package in needed.items() if shutil.which(program) is None}
    if missing:
        names = " ".join(sorted(missing))
        raise MachineError(
            f"building a kernel needs {names}", code=Code.SYSTEM_ERROR, remedy=f"on Debian: apt-get install {names}"
        )


def _compile(tree: Tree, arch: str, port: KernelPort, modules: Sequence[Path], kernel: Path) -> None:
    tree.objects.mkdir(exist_ok=True)
    fragment = tree.folder / "config"
    fragment.write_text(port.config, encoding="utf-8")
    make = _Make(tree, arch)
    make("configuring", f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig")
    _check_config(port.config, (tree.objects / ".config").read_text(encoding="utf-8"))
    make("compiling", _IMAGE[arch], "modules")
    part = kernel.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    release = (tree.objects / "include/config/kernel.release").read_text(encoding="utf-8").strip()
    (part / "lib/modules" / release).mkdir(parents=True)
    for folder in modules:
        _compile_module(make, tree, folder, part / "lib/modules" / release)
    shutil.copy(tree.objects / "modules.builtin", part / "lib/modules" / release)
    shutil.copy(tree.objects / "arch" / arch / "boot" / _IMAGE[arch], part)
    shutil.copy(tree.objects / ".config", part / "config")
    shutil.copy(tree.objects / "System.map", part / "System.map")
    shutil.copy(tree.objects / "include/config/kernel.release", part / "release")
    shutil.rmtree(kernel, ignore_errors=True)
    part.rename(kernel)


def _compile_module(make: _Make, tree: Tree, folder: Path, into: Path) -> None:
    """Build a module in a copy of its folder: objects don't belong into the source."""
    copy = tree.folder / "modules" / folder.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    make(f"compiling {folder.name}", f"M={copy}", "modules")
    for module in copy.glob("*.ko"):
        shutil.copy(module, into / module.name)


def _check_config(fragment: str, config: str) -> None:
    """Kconfig drops what depends on something that is not set, without a word."""
    have = set(config.splitlines())
    dropped = [line for line in fragment.splitlines() if line.startswith("CONFIG_") and line not in have]
    if dropped:
        raise MachineError(f"the kernel's configuration did not take {', '.join(dropped)}", code=Code.SYSTEM_ERROR)


@dataclass(frozen=True, slots=True)
class _Make:
    """``make`` for a tree, heard line by line; its whole output is in ``log``."""

    tree: Tree
    arch: str

    def __call__(self, what: str, *targets: str) -> None:
        argv = ["make", "-C", str(self.tree.source), f"O={self.tree.objects}", f"-j{os.cpu_count() or 1}"]
        argv += [f"ARCH={self.arch}", f"CROSS_COMPILE={_CROSS[self.arch]}", *targets]
        self.tree.progress(what)
        log = self.tree.folder / "log"
        with open(log, "w", encoding="utf-8") as out:
            child = subprocess.Popen(
                argv, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
            )
            with child:
                for count, line in enumerate(_compiled(child.stdout or (), out), start=1):
                    if count % 100 == 0:
                        self.tree.progress(f"{what}: {count} files, {line}")
        if child.returncode:
            raise MachineError(
                f"{what} failed: {_first_error(log)}", code=Code.SYSTEM_ERROR, remedy=f"the whole output is in {log}"
            )


def _compiled(lines: Iterable[str], out: TextIO) -> Iterator[str]:
    """The files that the compiler was busy with; every line goes into the log."""
    for line in lines:
        out.write(line)
        if match := _COMPILING.match(line):
            yield match[1]


def _environment() -> dict[str, str]:
    """Same source, same image: no date, no user, no host in it; no flags from outside."""
    fixed = {"KBUILD_BUILD_TIMESTAMP": "1970-01-01", "KBUILD_BUILD_USER": "hotbank", "KBUILD_BUILD_HOST": "hotbank"}
    left_out = ("MAKEFLAGS", "MFLAGS", "KCONFIG_CONFIG", "ARCH", "CROSS_COMPILE")
    return {**{k: v for k, v in os.environ.items() if k not in left_out}, **fixed, "LC_ALL": "C"}


def _first_error(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if re.search(r"\berror\b|\*\*\*|No space", line, re.IGNORECASE)]
    return (errors or lines or ["no output"])[0].strip()


def _run(argv: list[str]) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as e:
        raise MachineError(f"{argv[0]} is not installed", code=Code.SYSTEM_ERROR) from e
    except subprocess.CalledProcessError as e:
        raise MachineError(
            f"{argv[0]} failed: {(e.stderr.strip().splitlines() or ['without a word'])[-1]}", code=Code.SYSTEM_ERROR
        ) from e
