# SPDX-License-Identifier: Apache-2.0
"""What boards in QEMU have fetched and built: packages, sources, kernels, modules, programs. All of it is made again
when it is missing, so all of it may go.

What goes is moved aside at one stroke first: whoever finds a folder of the cache finds all of it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hotbank.boards_qemu.leftovers import new_folder, sweep
from hotbank.boards_qemu.parts.packages import cache_folder
from hotbank.errors import Code, MachineError

_GOING = ".going-"  # what is moved aside


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing in the cache. ``kind``: the folder that it lies in; ``size``: bytes on the disk."""

    kind: str
    name: str
    size: int


def kept(cache: Path | None = None) -> tuple[Kept, ...]:
    """All there is, by kind and name. ``cache``: the user's own."""
    folder = cache or cache_folder()
    found = [path for kind in kinds(folder) for path in sorted((folder / kind).iterdir())]
    return tuple(Kept(path.parent.name, path.name, _size(path)) for path in found)


def kinds(cache: Path | None = None) -> tuple[str, ...]:
    """The folders that something may lie in."""
    return tuple(sorted(path.name for path in (cache or cache_folder()).glob("[!.]*") if path.is_dir()))


def clean(item: Kept, cache: Path | None = None) -> None:
    """Remove it. Raises MachineError while somebody fetches into it or builds in it."""
    folder = cache or cache_folder()
    with new_folder(folder, _GOING) as aside:
        with _unused(folder / item.kind / item.name) as path:
            path.rename(aside / item.name)
        shutil.rmtree(aside)


def finish(cache: Path | None = None) -> None:
    """Remove what a ``clean`` that was interrupted had moved aside."""
    sweep(cache or cache_folder(), _GOING)


@contextmanager
def _unused(path: Path) -> Iterator[Path]:
    """Folders that somebody works in have a lock in them, which that one holds (packages.py, kernel_build.py)."""
    if not (path / "lock").is_file():
        yield path
        return
    with open(path / "lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "wait until what fetches or builds there is through"
            raise MachineError(f"{path} is in use", code=Code.SYSTEM_ERROR, remedy=remedy) from None
        yield path


def _size(path: Path) -> int:
    """Like du(1): blocks, and what has several names once."""
    seen = {(found.st_dev, found.st_ino): found.st_blocks for found in _stats(path)}
    return 512 * sum(seen.values())


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of all below it; what goes meanwhile is gone."""
    for folder, folders, files in ((str(path.parent), [], [path.name]), *os.walk(path)):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                yield os.lstat(os.path.join(folder, name))
