# SPDX-License-Identifier: Apache-2.0
"""cpio's "newc" form, in which an initramfs comes (Documentation/driver-api/early-userspace/buffer-format.rst)."""

from __future__ import annotations

import os
import stat


class Cpio:
    """A newc archive in the making. Parents are made as needed; the first file of a name stays."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._names: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path in self._names

    def directory(self, path: str) -> None:
        """A folder and its parents."""
        if path and path not in self._names:
            self.directory(os.path.dirname(path))
            self._entry(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """A regular file; text is written as UTF-8."""
        self._add(path, stat.S_IFREG | mode, data.encode() if isinstance(data, str) else data)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def node(self, path: str, mode: int, major: int, minor: int) -> None:
        """A device node; ``mode`` with its type (S_IFCHR, S_IFBLK)."""
        self._add(path, mode, b"", major, minor)

    def finished(self) -> bytes:
        """The finished archive."""
        trailer = Cpio()
        trailer._entry("TRAILER!!!", 0, b"")
        return b"".join(self._parts + trailer._parts)

    def _add(self, path: str, mode: int, data: bytes, major: int = 0, minor: int = 0) -> None:
        if path not in self._names:
            self.directory(os.path.dirname(path))
            self._entry(path, mode, data, major, minor)

    def _entry(self, path: str, mode: int, data: bytes, major: int = 0, minor: int = 0) -> None:
        self._names.add(path)
        name = path.encode() + b"\0"
        inode = len(self._names)
        numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % number for number in numbers)
        self._parts += [_padded(header + name), _padded(data)]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
