# SPDX-License-Identifier: Apache-2.0
"""Folders of machines in QEMU, and what is left of them when their processes were killed.

A folder in use is locked (flock(2)) by those who use it, and a lock ends with its process, however that ends. Nothing
else would tell a folder in use from one that was left behind: a process id may have been given to another process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def held(folder: Path) -> Iterator[Path]:
    """The folder, in use as long as the context or this process lasts. Raises FileNotFoundError when it is gone."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        os.stat(folder)  # whoever swept held the lock until it was gone
        yield folder
    finally:
        os.close(file)


@contextmanager
def new_folder(base: Path, prefix: str) -> Iterator[Path]:
    """A private folder in ``base``, in use as ``held`` is; it stays."""
    with ExitStack() as stack:
        yield _made(stack, base, prefix)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A private folder among the temporary files, removed afterwards; if this process is killed, by whoever asks next
    for one of that prefix."""
    base = Path(tempfile.gettempdir())
    sweep(base, prefix)
    with new_folder(base, prefix) as folder:
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def _made(stack: ExitStack, base: Path, prefix: str) -> Path:
    """Made and held; once more where somebody swept in between."""
    while True:
        with suppress(FileNotFoundError):
            return stack.enter_context(held(Path(tempfile.mkdtemp(dir=base, prefix=prefix))))


def sweep(base: Path, prefix: str) -> None:
    """Remove the folders of that prefix that nobody uses."""
    for folder in base.glob(f"{prefix}*"):
        with suppress(OSError):
            _remove_unused(folder)


def _remove_unused(folder: Path) -> None:
    """Raises OSError when it is in use, gone, or no folder."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(file)


def sweep_links(folder: Path, pattern: str) -> None:
    """Remove symbolic links into folders that are gone."""
    for link in folder.glob(pattern):
        with suppress(OSError):
            if not link.readlink().parent.is_dir():
                link.unlink(missing_ok=True)
