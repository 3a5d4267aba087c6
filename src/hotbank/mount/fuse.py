# SPDX-License-Identifier: Apache-2.0
"""The files of a machine through FUSE (libfuse 3, by mfusepy).

A write is answered when the machine has done it, as in sysfs. A signal for the writer reaches the machine: FUSE tells
(fuse(4), FUSE_INTERRUPT), and the offline under way is interrupted. Each open sees the machine as it is, and a file
that is open keeps what it had, as seq_file does; which files there are may be a moment old.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable
from typing import Any

import mfusepy

from hotbank.errors import Code, HotbankError, KernelError, MachineError, Refusal
from hotbank.machine import Machine
from hotbank.mount.files import File, Folder, Link, MachineFiles

_ASK_EVERY = 0.02  # seconds of wall time between two looks for a signal
_MOMENT = 0.2  # seconds of wall time
_SYSFS_SIZE = 4096  # what sysfs says of every file
_THREADS = 10  # libfuse 3.12 complains of its own default
_OPTIONS: dict[str, Any] = {"direct_io": True, "fsname": "hotbank", "nosuid": True, "nodev": True}
if mfusepy.fuse_version_major >= 3:
    _OPTIONS["max_idle_threads"] = _THREADS


def mount(reader: Machine, writer: Machine | None, folder: str, ready: Callable[[], None] = lambda: None) -> None:
    """Show the machine at ``folder`` until somebody unmounts it, or SIGTERM or SIGINT come, which unmount it: all of
    these are its end and no error. Main thread only.

    ``writer``: see MachineFiles. ``ready`` is called when it is mounted. Raises MachineError.
    """
    if not os.path.isdir(folder):
        raise MachineError(f"{folder} is no folder", code=Code.SYSTEM_ERROR, remedy="mkdir it")
    operations = _Operations(MachineFiles(reader, writer), ready)
    try:
        mfusepy.FUSE(operations, folder, foreground=True, **_OPTIONS)
    except RuntimeError as e:
        if operations.mounted:
            return  # libfuse tells an end by a signal as it tells a failure
        raise MachineError(
            f"{folder} can't be mounted", code=Code.SYSTEM_ERROR, remedy="see whether /dev/fuse and libfuse3 are there"
        ) from e


class _Operations(mfusepy.Operations):  # type: ignore[misc]  # mfusepy has no types
    """libfuse's questions, by path. Called from threads of libfuse."""

    use_ns = True

    def __init__(self, files: MachineFiles, ready: Callable[[], None]) -> None:
        self._files, self._ready = files, ready
        self.mounted = False
        self._handles = itertools.count(1)
        self._texts: dict[int, bytes] = {}
        self._known, self._until = Folder(), 0.0

    def init(self, path: str) -> None:  # noqa: ARG002
        """Mounted."""
        self.mounted = True
        self._ready()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:  # noqa: ARG002
        """stat(2)."""
        entry = self._find(path)
        kind, mode, size = stat.S_IFREG, 0o444, _SYSFS_SIZE if path.startswith("/sys") else 0
        if isinstance(entry, Folder):
            kind, mode, size = stat.S_IFDIR, 0o755, 0
        elif isinstance(entry, Link):
            kind, mode, size = stat.S_IFLNK, 0o777, 0
        elif entry.store is not None:
            mode = 0o644
        return {"st_mode": kind | mode, "st_nlink": 1, "st_size": size, "st_uid": os.getuid(), "st_gid": os.getgid()}

    def readdir(self, path: str, fh: int) -> list[str]:  # noqa: ARG002
        """readdir(3)."""
        entry = self._find(path)
        if not isinstance(entry, Folder):
            raise mfusepy.FuseOSError(errno.ENOTDIR)
        return [".", "..", *entry.entries]

    def readlink(self, path: str) -> str:
        """readlink(2)."""
        entry = self._find(path)
        if not isinstance(entry, Link):
            raise mfusepy.FuseOSError(errno.EINVAL)
        return entry.target

    def open(self, path: str, flags: int) -> int:
        """open(2): what is read later is what is there now."""
        self._until = 0.0
        entry = self._find(path)
        if not isinstance(entry, File):
            raise mfusepy.FuseOSError(errno.EISDIR)
        if flags & os.O_ACCMODE != os.O_RDONLY and entry.store is None:
            raise mfusepy.FuseOSError(errno.EACCES)
        handle = next(self._handles)
        self._texts[handle] = entry.text().encode()
        return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:  # noqa: ARG002
        """pread(2)."""
        return self._texts[fh][offset : offset + size]

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:  # noqa: ARG002
        """Nothing, as in sysfs: ``O_TRUNC`` is how shells open what they write to."""
        return 0

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:  # noqa: ARG002
        """write(2): one ``store``, answered when it is done."""
        entry = self._find(path)
        store = entry.store if isinstance(entry, File) else None
        if store is None:
            raise mfusepy.FuseOSError(errno.EACCES)
        word = data.decode("ascii", "replace").removesuffix("\n")
        self._carry_out(lambda: store(word))
        return len(data)

    def release(self, path: str, fh: int) -> int:  # noqa: ARG002
        """close(2)."""
        self._texts.pop(fh, None)
        return 0

    def _find(self, path: str) -> File | Link | Folder:
        if time.monotonic() >= self._until:
            try:
                self._known = self._files.tree()
            except HotbankError as e:
                raise mfusepy.FuseOSError(_errno(e)) from e
            self._until = time.monotonic() + _MOMENT
        entry = self._known.find(path)
        if entry is None:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return entry

    def _carry_out(self, store: Callable[[], None]) -> None:
        """Run it in a thread, and pass signals for the writer on to the machine meanwhile."""
        failed: list[int] = []

        def run() -> None:
            try:
                store()
            except HotbankError as e:
                failed.append(_errno(e))
            except BaseException:  # a write that was not carried out must not read as one that was
                failed.append(errno.EIO)
                raise

        worker = threading.Thread(target=run, daemon=True)
        worker.start()
        while worker.is_alive():
            worker.join(_ASK_EVERY)
            if worker.is_alive() and mfusepy._libfuse.fuse_interrupted():
                self._files.interrupt()
        self._until = 0.0
        if failed:
            raise mfusepy.FuseOSError(failed[0])


def _errno(error: HotbankError) -> int:
    if isinstance(error, KernelError):
        return error.errno
    if error.code is Code.NO_SUCH_BANK:
        return errno.ENOENT
    return errno.EBUSY if isinstance(error, Refusal) else errno.EIO
