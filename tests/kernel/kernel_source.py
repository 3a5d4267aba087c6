# SPDX-License-Identifier: Apache-2.0
"""Single files of Debian's kernel source package, kept in the cache: all of it would take a gigabyte and a minute."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from hotbank.boards_qemu.parts.packages import Archive, cache_folder, host_architecture

SERIES = "6.12"  # whose checkpatch judges what we write


def from_source(*names: str, series: str = SERIES) -> Path:
    """A folder with these files of the kernel's source in it, by their names there."""
    package = Archive.open(host_architecture()).fetch(f"linux-source-{series}")[0]
    folder = cache_folder() / "sources" / package.stem
    if not all((folder / name).exists() for name in names):
        part = folder.with_suffix(f".{os.getpid()}")
        part.mkdir(parents=True)
        _take(package, f"linux-source-{series}", names, part)
        shutil.copytree(part, folder, dirs_exist_ok=True)
        shutil.rmtree(part)
    return folder


def _take(package: Path, whole: str, names: tuple[str, ...], into: Path) -> None:
    """The second tar ends when it has all of them, and the first one hears that as an error."""
    wanted = " ".join(f"{whole}/{name}" for name in names)
    take = (
        f"dpkg-deb --fsys-tarfile {package} | tar -xO ./usr/src/{whole}.tar.xz"
        f" | tar -xJ -C {into} --occurrence=1 --strip-components=1 {wanted}"
    )
    subprocess.run(["sh", "-c", take], check=False, stderr=subprocess.DEVNULL)
    missing = [name for name in names if not (into / name).exists()]
    assert not missing, f"{package.name} has no {missing}"
