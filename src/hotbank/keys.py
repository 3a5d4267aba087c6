# SPDX-License-Identifier: Apache-2.0
"""The reader of hotbank's own TOML files (boards, workloads, costs), and where the shipped ones are.

Nothing is guessed and no unknown key is passed over: a wrong key is a BoardError with the key, its value and what is
allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hotbank.errors import BoardError, Code
from hotbank.memory import parse_size
from hotbank.numbers import finite, is_whole
from hotbank.regular import read_regular

_SHORTEST, _LONGEST = 1e-6, 1e9  # seconds
_LARGEST = 16 << 20  # bytes of a file
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_T = TypeVar("_T")


def shipped(folder: str) -> tuple[Path, ...]:
    """Where the package's own ``boards``, ``workloads`` or ``kernel`` are: in it, or beside it in the source tree."""
    package = Path(__file__).resolve().parent
    return tuple(path for path in (package / folder, package.parents[1] / folder) if path.is_dir())


def find(kind: str, name: str | os.PathLike[str]) -> Path:
    """The path of a ``board`` or ``workload``: a file, or the name of one that is shipped. Raises BoardError."""
    path, folder = Path(name), f"{kind}s"
    if path.is_file():
        return path
    for home in shipped(folder):
        file = home / f"{path.name.removesuffix('.toml')}.toml"
        if file.is_file() and path.parent in (Path("."), Path(folder)):
            return file
    known = ", ".join(sorted({file.stem for home in shipped(folder) for file in home.glob("*.toml")}))
    raise BoardError(kind, str(name), f"no such file; shipped {folder}: {known}")


def read(kind: str, path: str | os.PathLike[str], *, code: Code | None = None) -> str:
    """The file's text. Raises BoardError, with ``code`` where it is given."""
    try:
        return read_regular(path, _LARGEST).decode()
    except (OSError, UnicodeDecodeError) as e:
        raise BoardError(kind, os.fspath(path), f"unreadable: {e}", code=code) from e


def table(kind: str, data: str, *, code: Code | None = None) -> Keys:
    """The whole file as a table. Raises BoardError, with ``code`` where it is given."""
    import tomllib  # hosts without a board file start sooner without it

    try:
        return Keys("", tomllib.loads(data))
    except tomllib.TOMLDecodeError as e:
        raise BoardError(kind, "TOML", str(e), code=code) from e
    except (ValueError, RecursionError) as e:
        raise BoardError(kind, "TOML", "numbers of thousands of digits, or nested without end", code=code) from e


class Keys:
    """One TOML table; every key must be taken, or ``done`` names the one that is not known.

    ``where``: what comes before a key's name in errors, such as ``bank.low.``. Raises BoardError.
    """

    def __init__(self, where: str, table: object) -> None:
        if not isinstance(table, Mapping):
            raise BoardError(where.rstrip(".") or "file", table, "must be a table")
        self._where, self._table, self._known = where, dict(table), set[str]()

    def take(self, key: str, parse: Callable[[Any], _T], default: _T | None = None) -> _T:
        """The parsed value of ``key``; a key without default must be there."""
        self._known.add(key)
        if key not in self._table:
            if default is None:
                raise BoardError(self._where + key, None, "must be given")
            return default
        return self._parse(key, parse)

    def maybe(self, key: str, parse: Callable[[Any], _T]) -> _T | None:
        """Like take, for a key whose absence means something."""
        self._known.add(key)
        return self._parse(key, parse) if key in self._table else None

    def tables(self, key: str) -> list[tuple[str, Keys]]:
        """The named tables below ``key``, in the file's order."""
        self._known.add(key)
        group = self._table.get(key, {})
        if not isinstance(group, Mapping):
            raise BoardError(self._where + key, group, "must be tables such as [bank.low]")
        return [(_name(f"{self._where}{key}.{n}", n), Keys(f"{self._where}{key}.{n}.", t)) for n, t in group.items()]

    def arrays(self, key: str) -> list[Keys]:
        """The tables of the array ``[[key]]``, in the file's order."""
        self._known.add(key)
        entries = self._table.get(key, [])
        if not isinstance(entries, list):
            raise BoardError(self._where + key, entries, f"must be tables such as [[{key}]]")
        return [Keys(f"{self._where}{key}[{n}].", entry) for n, entry in enumerate(entries)]

    def done(self) -> None:
        """Raise BoardError if a key is left that nobody took."""
        for key in self._table:
            if key not in self._known:
                allowed = "unknown key; known here: " + ", ".join(sorted(self._known))
                raise BoardError(self._where + key, self._table[key], allowed)

    def _parse(self, key: str, parse: Callable[[Any], _T]) -> _T:
        value = self._table[key]
        try:
            return parse(value)
        except ValueError as e:
            raise BoardError(self._where + key, value, str(e)) from e


def _name(where: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BoardError(where, name, "a name has lower-case letters, digits, - and _")
    return name


def text(value: object) -> str:
    """A string. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def boolean(value: object) -> bool:
    """``true`` or ``false``. Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def whole(value: object) -> int:
    """A whole number, 0 or more. Raises ValueError."""
    if not is_whole(value) or value < 0:
        raise ValueError("must be a whole number, 0 or more, below 2**64")
    return value


def count(value: object) -> int:
    """A whole number, 1 or more. Raises ValueError."""
    number = whole(value)
    if not number:
        raise ValueError("must be more than 0")
    return number


def seconds(value: object) -> float:
    """Seconds: a microsecond at least, since less can be lost beside what a clock shows, and 31 years at most. Raises
    ValueError."""
    found = finite(value)
    if found is None or not _SHORTEST <= found <= _LONGEST:
        raise ValueError("must be a number of seconds from 0.000001 to 1e9")
    return found


def moment(value: object) -> float:
    """Seconds since a beginning, 0 or more, 31 years at most. Raises ValueError."""
    found = finite(value)
    if found is None or not 0 <= found <= _LONGEST:
        raise ValueError("must be seconds, 0 or more, 1e9 at most")
    return found


def amount(value: object) -> float:
    """A number, 0 or more. Raises ValueError."""
    found = finite(value)
    if found is None or found < 0:
        raise ValueError("must be a number, 0 or more")
    return found


def one_of(choices: tuple[str, ...]) -> Callable[[object], str]:
    """A parser for one of these words."""

    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError("must be one of " + ", ".join(choices))
        return str(value)

    return parse


def power_of_two(value: object) -> int:
    """A size in bytes, such as ``"64M"``, that is a power of two. Raises ValueError."""
    size = parse_size(value)  # type: ignore[arg-type]  # refuses other types itself
    if size <= 0 or size & (size - 1):
        raise ValueError("must be a power of two")
    return size


def address(value: object) -> int:
    """A physical address or a size, below 2**64 bytes. Raises ValueError."""
    return parse_size(value)  # type: ignore[arg-type]  # refuses other types itself
