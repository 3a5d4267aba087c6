# SPDX-License-Identifier: Apache-2.0
"""An initramfs with BusyBox, Python and what of this package runs inside, for a kernel and an architecture.

The kernel unpacks it (init/initramfs.c). It stays uncompressed: an emulated CPU needs longer to
unpack it than QEMU needs to load it.

In the guest, BusyBox init keeps three programs alive: the agent (guest/agent.py) and the runner (guest/runner.py), each
on virtio-serial ports of its own, and a shell on the console.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hotbank.boards_qemu.parts import elf, inside, kmodules
from hotbank.boards_qemu.parts.cpio import Cpio
from hotbank.errors import Code, MachineError
from hotbank.guest import serial

HOME = "usr/lib/hotbank"  # where the guest finds this package

# What nothing in a guest imports: its root file system is memory, and to unpack it takes time. Of compiled modules the
# libraries that only they need stay out as well, OpenSSL and Kerberos among them.
_PYTHON_LEFT_OUT = {
    "test", "lib2to3", "idlelib", "tkinter", "ensurepip", "distutils", "pydoc_data", "turtledemo", "unittest",
    "xmlrpc", "wsgiref", "curses", "sqlite3", "dbm", "venv", "msilib", "__pycache__",
    "asyncio", "email", "html", "http", "multiprocessing", "xml", "turtle", "pydoc", "doctest", "mailbox",
    "_hashlib", "_ssl", "_dbm", "_sqlite3", "_curses", "_curses_panel", "nis", "readline", "_asyncio", "_testcapi",
    "_codecs_cn", "_codecs_hk", "_codecs_iso2022", "_codecs_jp", "_codecs_kr", "_codecs_tw", "_multiprocessing",
}  # fmt: skip

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /bin /sbin /dev /proc /sys /tmp /run /root /mnt
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t tmpfs -o size=90% tmp /tmp
mount -t tmpfs -o mode=700 run /run
ip link set lo up 2>/dev/null
hostname @NAME@
echo /bin/modprobe > /proc/sys/kernel/modprobe
for module in @MODULES@; do modprobe "$module"; done
exec init
"""

INITTAB = """::respawn:/sbin/agent
::respawn:/sbin/runner
@CONSOLE@::respawn:-/bin/sh
::ctrlaltdel:/bin/reboot -f
"""

AGENT = """#!/bin/sh
. /etc/profile
echo -1000 >/proc/self/oom_score_adj
exec python3 -S -m hotbank.guest.agent @CHANGE_PORT@ @READ_PORT@ </dev/null >>/tmp/agent.log 2>&1
"""

RUNNER = """#!/bin/sh
. /etc/profile
for port in /sys/class/virtio-ports/*; do
    if [ "$(cat "$port/name" 2>/dev/null)" = @RUNNER_PORT@ ]; then
        exec python3 -S -m hotbank.guest.runner <>"/dev/${port##*/}" >&0 2>>/tmp/runner.log
    fi
done
echo >>/run/waits
[ "$(wc -l </run/waits)" -gt 20 ] && echo "CONFIG_VIRTIO_CONSOLE is missing: no port to the host" >/dev/console
sleep 1
"""

PROFILE = """export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root PS1='guest# '
export PYTHONPATH=/@HOME@ PYTHONDONTWRITEBYTECODE=1
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=67108864
"""
# The last line: what a look at pages takes for itself is kept for the next one. Taken anew each time, it would lie in
# blocks that were looked at before and move with them; and fresh pages look pinned while they wait in a batch.


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into a guest.

    ``programs``: folders of unpacked packages with BusyBox, Python and their libraries. ``modules``: the folder
    ``lib/modules/VERSION`` of the kernel, or None when all is built in; ``load`` are the modules loaded at boot,
    ``carry`` those that are only there for modprobe, where the kernel has them. ``extra_modules``: kernel modules of
    our own. ``files``: more files by path in the guest.
    """

    name: str
    programs: Sequence[Path]
    modules: Path | None = None
    load: Sequence[str] = ()
    carry: Sequence[str] = ()
    extra_modules: Sequence[Path] = ()
    files: dict[str, bytes | str] = field(default_factory=dict)
    console: str = "ttyAMA0"


def build(contents: Contents, folder: Path, cache: Path) -> Path:
    """Write ``folder/initrd``: two archives in one file, the programs (made once, kept in ``cache``), then the rest.

    Raises MachineError when a program, library or module is nowhere to be found.
    """
    python = python_of(contents.programs)
    base = _base(contents.programs, python, cache)
    initrd = folder / "initrd"
    initrd.write_bytes(base.read_bytes() + _own(contents, python).finished())
    return initrd


def python_of(programs: Iterable[Path]) -> Path:
    """The Python binary among unpacked packages."""
    return _found(programs, ("usr/bin/python3.*",))


@cache
def bytecode(source: bytes, name: str) -> bytes:
    """What a ``.pyc`` holds, marked never to be checked against its source (PEP 552)."""
    unchecked = (1).to_bytes(4, "little")
    code = compile(source, name, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(source) + marshal.dumps(code)


def _own(contents: Contents, python: Path) -> Cpio:
    """All that is not somebody else's program: scripts, the given files, this package, kernel modules."""
    archive = Cpio()
    for path, data in contents.files.items():
        archive.file(path, data, 0o755 if data[:2] in (b"#!", "#!") else 0o644)
    modules = () if contents.modules is None else _add_modules(archive, contents, contents.modules)
    _add_scripts(archive, contents, [name for name in contents.load if name in modules])
    for path, source in inside.package_files():
        _add_source(archive, f"{HOME}/{path}", source, python.name)
    return archive


def _base(programs: Sequence[Path], python: Path, cache: Path) -> Path:
    """BusyBox, Python and libraries, from the cache when the same packages were packed before."""
    packed = [p.name for p in programs], importlib.util.MAGIC_NUMBER, sorted(_PYTHON_LEFT_OUT)
    key = hashlib.sha256(repr(packed).encode()).hexdigest()[:16]
    path = cache / "initramfs" / f"{key}.cpio"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(_programs(programs, python).finished())
        part.replace(path)
    return path


def _add_scripts(archive: Cpio, contents: Contents, load: Sequence[str]) -> None:
    words = {
        "NAME": contents.name,
        "MODULES": " ".join(load),
        "CHANGE_PORT": serial.CHANGE,
        "READ_PORT": serial.READ,
        "RUNNER_PORT": serial.RUNNER,
        "CONSOLE": contents.console,
        "HOME": HOME,
    }
    archive.node("dev/console", stat.S_IFCHR | 0o600, 5, 1)
    archive.node("dev/null", stat.S_IFCHR | 0o666, 1, 3)
    archive.file("init", _filled(INIT, words), 0o755)
    archive.file("sbin/agent", _filled(AGENT, words), 0o755)
    archive.file("sbin/runner", _filled(RUNNER, words), 0o755)
    archive.file("etc/inittab", _filled(INITTAB, words))
    archive.file("etc/profile", _filled(PROFILE, words))


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"@([A-Z_]+)@", lambda match: words[match[1]], text)


def _programs(folders: Sequence[Path], python: Path) -> Cpio:
    archive = Cpio()
    busybox = _found(folders, ("bin/busybox", "usr/bin/busybox"))
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    archive.file(f"usr/bin/{python.name}", python.read_bytes(), 0o755)
    archive.link("usr/bin/python3", python.name)
    binaries = [python.read_bytes()]
    for folder in folders:
        library = folder / "usr/lib" / python.name
        binaries += _add_python(archive, library, python.name) if library.is_dir() else []
    _add_libraries(archive, folders, binaries)
    return archive


def _found(folders: Iterable[Path], patterns: Iterable[str]) -> Path:
    for folder in folders:
        for pattern in patterns:
            for path in sorted(folder.glob(pattern)):
                if path.is_file() and not path.is_symlink():
                    return path
    raise MachineError(f"no {' or '.join(patterns)} in the packages for the guest", code=Code.SYSTEM_ERROR)


def _add_python(archive: Cpio, library: Path, python: str) -> list[bytes]:
    """Python's own modules; the compiled ones are returned, because they need libraries."""
    binaries = []
    for path in sorted(library.rglob("*")):
        inside = path.relative_to(library)
        names = {*inside.parts, inside.name.split(".")[0]}
        if _PYTHON_LEFT_OUT & names or inside.parts[0].startswith("config-") or not path.is_file():
            continue
        data = path.read_bytes()
        if elf.is_elf(data):
            binaries.append(data)
        _add_source(archive, f"usr/lib/{python}/{inside}", data, python)
    return binaries


def _add_source(archive: Cpio, path: str, data: bytes, python: str) -> None:
    """A file of the library, with bytecode beside it when this interpreter is of the guest's version."""
    archive.file(path, data)
    tag = f"cpython-{python.removeprefix('python').replace('.', '')}"
    if path.endswith(".py") and tag == sys.implementation.cache_tag:
        folder, name = os.path.split(path.removesuffix(".py"))
        archive.file(f"{folder}/__pycache__/{name}.{tag}.pyc", bytecode(data, f"/{path}"))


def _add_libraries(archive: Cpio, folders: Sequence[Path], binaries: list[bytes]) -> None:
    """The shared libraries that the binaries need, and those that these need; a library that no package has is
    left out, and the one Python module that wants it can't be imported."""
    known = {path.name: path for folder in folders for path in folder.glob("**/*.so*") if path.is_file()}
    wanted = [name for data in binaries for name in elf.needed(data)]
    done: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in done or name not in known:
            continue
        done.add(name)
        data = known[name].read_bytes()
        archive.file(f"lib/{name}", data, 0o755)
        wanted += elf.needed(data)


def _add_modules(archive: Cpio, contents: Contents, folder: Path) -> set[str]:
    """The modules and their tables; their names, without those that the kernel has built in."""
    modules = kmodules.collect(folder, contents.load, contents.extra_modules, if_there=contents.carry)
    at = f"lib/modules/{folder.name}"
    archive.directory(at)
    for module in modules:
        archive.file(f"{at}/{module.name}.ko", module.data)
    for name, text in kmodules.tables(modules).items():
        archive.file(f"{at}/{name}", text)
    return {module.name for module in modules}
