# SPDX-License-Identifier: Apache-2.0
"""The reader of hotbank's own TOML files (boards, workloads, costs), and where the shipped ones are.

Nothing is guessed and no unknown key is passed over: a wrong key is a BoardError with file, line and key, its value and
what is allowed. Reading goes on after a mistake, so that all of a file's are told at once (``Keys.check``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hotbank.errors import BoardError, Code
from hotbank.memory import parse_size
from hotbank.numbers import digits, finite, is_whole
from hotbank.regular import read_regular

if TYPE_CHECKING:  # what only those need who read a file is imported by them, so that a listing starts fast
    from pathlib import Path

_SHORTEST, _LONGEST = 1e-6, 1e9  # seconds
_LARGEST = 16 << 20  # bytes of a file
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_AT_LINE = re.compile(r"at line ([0-9]+)")


def shipped(folder: str) -> tuple[Path, ...]:
    """Where the package's own ``boards``, ``workloads`` or ``kernel`` are: in it, or beside it in the source tree."""
    from pathlib import Path

    package = Path(__file__).resolve().parent
    return tuple(path for path in (package / folder, package.parents[1] / folder) if path.is_dir())


def find(kind: str, name: str | os.PathLike[str]) -> Path:
    """The path of a ``board`` or ``workload``: a file, or the name of one that is shipped. Raises BoardError."""
    from pathlib import Path

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
        data = read_regular(path, _LARGEST)
    except OSError as e:
        raise BoardError(kind, os.fspath(path), f"unreadable: {e.strerror}", code=code) from e
    return decoded(kind, data, os.fspath(path), code=code)


def decoded(kind: str, data: bytes, file: str, *, code: Code | None = None) -> str:
    """The same of the bytes of a file of that name. Raises BoardError."""
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise BoardError(kind, file, f"no text: its byte {e.start} is no UTF-8", code=code) from e


def table(
    kind: str, data: str, *, code: Code | None = None, file: str = "", schema: Mapping[str, Sequence[Key]] | None = None
) -> Keys:
    """The whole file as a table. ``file``: its name; ``schema``: which tables know which keys, for hints.

    Raises BoardError, with ``code`` where it is given.
    """
    import tomllib  # hosts without a board file start sooner without it

    source = Source(data, file, schema or {}, code)
    try:
        return Keys("", tomllib.loads(data), source)
    except tomllib.TOMLDecodeError as e:
        found = _AT_LINE.search(str(e))
        raise BoardError(kind, "TOML", str(e), code=code, file=file, line=digits(found[1]) or 0 if found else 0) from e
    except (ValueError, RecursionError) as e:
        huge = "numbers of thousands of digits, or nested without end"
        raise BoardError(kind, "TOML", huge, code=code, file=file) from e


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table: what reads its value (ValueError for what is not allowed), and what it is without one.

    ``needed``: it must be given.
    """

    name: str
    parse: Callable[[Any], Any]
    default: Any = None
    needed: bool = False


class Source:
    """A file that is being read, and what is wrong with it so far: one mistake a key, the first.

    ``schema``: the keys of each kind of table, ``""`` for those above all tables.
    """

    def __init__(self, text: str, file: str, schema: Mapping[str, Sequence[Key]], code: Code | None) -> None:
        self.schema, self._code = schema, code
        self._text, self._file = text, file
        self._mistakes: dict[str, BoardError] = {}

    def note(self, key: str, value: object, allowed: str, code: Code | None = None) -> None:
        """Keep a mistake."""
        if key not in self._mistakes:
            line = self._line(key)
            mistake = BoardError(key, value, allowed, code=code or self._code, file=self._file, line=line)
            self._mistakes[key] = mistake

    def check(self) -> None:
        """Raise the mistake that comes first in the file, if there is one, with all others behind it."""
        if self._mistakes:
            e, *others = sorted(self._mistakes.values(), key=lambda mistake: mistake.line)
            raise BoardError(e.key, e.value, e.allowed, code=e.code, file=e.file, line=e.line, others=others)

    @cached_property
    def _lines(self) -> Mapping[str, int]:
        from hotbank import lines

        return lines.of_keys(self._text)

    def _line(self, key: str) -> int:
        """Of the key; of the table that should have it where it is missing."""
        while key and key not in self._lines:
            key = key.rpartition(".")[0]
        return self._lines.get(key, 1)


class Keys:
    """One TOML table. ``where``: what comes before a key's name in errors, such as ``bank.low.``.

    The tables below are asked for first, then ``read`` takes the keys, and ``check`` raises what is wrong.
    """

    def __init__(self, where: str, table: Mapping[str, Any], source: Source) -> None:
        self._where, self._table, self._source, self._known = where, table, source, set[str]()

    def read(self, known: Iterable[Key]) -> dict[str, Any]:
        """The value of each of these keys, its default where it is not given or wrong. Any other key is a mistake."""
        values = {key.name: self._value(key) for key in known}
        self._note_unknown()
        return values

    def note(self, key: str, value: object, allowed: str, code: Code | None = None) -> None:
        """A mistake that shows only beside other values, or with ``""`` in the table as such; ``check`` raises it."""
        self._source.note((self._where + key).rstrip("."), value, allowed, code)

    def check(self) -> None:
        """Raise BoardError with all that is wrong with the file so far."""
        self._source.check()

    def tables(self, key: str) -> list[tuple[str, Keys]]:
        """The named tables below ``key``, in the file's order."""
        self._known.add(key)
        group = self._table.get(key, {})
        if not isinstance(group, Mapping):
            self.note(key, group, f"must be tables such as [{key}.low]")
            return []
        return [(name, Keys(f"{self._where}{key}.{name}.", group[name], self._source)) for name in self._named(key)]

    def arrays(self, key: str) -> list[Keys]:
        """The tables of the array ``[[key]]``, in the file's order."""
        self._known.add(key)
        entries = self._table.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            self.note(key, entries, f"must be tables such as [[{key}]]")
            return []
        return [Keys(f"{self._where}{key}[{n}].", entry, self._source) for n, entry in enumerate(entries)]

    def _value(self, key: Key) -> Any:
        self._known.add(key.name)
        if key.name not in self._table:
            if key.needed:
                self.note(key.name, None, "must be given")
            return key.default
        try:
            return key.parse(self._table[key.name])
        except ValueError as e:
            self.note(key.name, self._table[key.name], str(e))
        return key.default

    def _named(self, key: str) -> list[str]:
        """The names of the tables below ``key``, without those that are none."""
        named = []
        for name, table in self._table[key].items() if key in self._table else ():
            if not isinstance(table, Mapping):
                self.note(f"{key}.{name}", table, "must be a table")
                continue
            try:
                table_name(name)
            except ValueError as e:
                self.note(f"{key}.{name}", name, str(e))
            named.append(name)
        return named

    def _note_unknown(self) -> None:
        for key in self._table:
            if key not in self._known:
                self.note(key or '""', self._table[key], f"unknown key; {self._hint(key)}")  # TOML lets a key be empty

    def _hint(self, key: str) -> str:
        """What was meant, where that can be told; else what is known here."""
        from difflib import get_close_matches

        if near := get_close_matches(key, self._known, 1):
            return f"did you mean {near[0]}?"
        homes = [kind for kind, keys in self._source.schema.items() if any(key == each.name for each in keys)]
        if homes:
            return f"it belongs {' or '.join(map(self._home, homes))}"
        return "known here: " + ", ".join(sorted(self._known))

    def _home(self, kind: str) -> str:
        """Where a key of another kind of table belongs: to the one that this table names, if it names one."""
        own = self._table.get(kind)
        return f"to {kind}.{own if isinstance(own, str) else 'NAME'}" if kind else "above the first [table]"


def table_name(name: str) -> str:
    """A name as tables have it. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name has lower-case letters, digits, - and _")
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


def one_of(choices: Collection[str]) -> Callable[[object], str]:
    """A parser for one of these words."""

    def parse(value: object) -> str:
        if value not in list(choices):
            raise ValueError("must be one of " + ", ".join(choices) + meant(value, choices))
        return str(value)

    return parse


def meant(value: object, choices: Iterable[str]) -> str:
    """What to say behind a refused word: the choice that it is most like, if it is like one."""
    from difflib import get_close_matches

    near = get_close_matches(value, [*choices], 1) if isinstance(value, str) else []
    return f"; did you mean {near[0]}?" if near else ""


def power_of_two(value: object) -> int:
    """A size in bytes, such as ``"64M"``, that is a power of two. Raises ValueError."""
    size = parse_size(value)  # type: ignore[arg-type]  # refuses other types itself
    if size <= 0 or size & (size - 1):
        raise ValueError("must be a power of two")
    return size


def address(value: object) -> int:
    """A physical address or a size, below 2**64 bytes. Raises ValueError."""
    return parse_size(value)  # type: ignore[arg-type]  # refuses other types itself
