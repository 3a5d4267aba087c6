# SPDX-License-Identifier: Apache-2.0
"""The board file: a machine's banks, power domains and boot description, as TOML.

``loads`` checks everything that can be checked without a machine and raises BoardError with the key, its
value and what is allowed; nothing is guessed and no unknown key is passed over.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from hotbank import kernels
from hotbank.errors import BoardError, Code
from hotbank.memory import KIB, Power, Range, format_size, parse_size
from hotbank.routes import NONE, ROUTES, route

ARCHES = (*kernels.bootable(), kernels.ANY)
DESCRIPTIONS = ("atags", "dtb", "srat", "cmdline")
SWITCHES = ("none", "command", "regulator", "machine")
SYSTEM_BOARD = Path("/etc/hotbank/board.toml")

_U64 = 1 << 64
_MAX_NODE = 1023  # CONFIG_NODES_SHIFT is at most 10
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bank:
    """A named range that leaves and returns as one. ``node``: NUMA node, None where the board names none."""

    name: str
    range: Range
    movable: bool = False
    at_boot: bool = True
    route: str = NONE.name
    domain: str | None = None
    node: int | None = None


@dataclass(frozen=True, slots=True)
class Domain:
    """What one power switch switches.

    ``off``, ``self_refresh``, ``on``, ``status``: argv lists for ``switch = "command"``; ``timeout`` in seconds.
    ``regulator``: name of the regulator for ``switch = "regulator"``. ``interleaved``: an address range is spread
    over several chips, so its leaving saves nothing.
    """

    name: str
    states: tuple[Power, ...] = (Power.ON,)
    switch: str = "none"
    interleaved: bool = False
    off: tuple[str, ...] = ()
    self_refresh: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    timeout: float = 10.0
    regulator: str | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """A machine's memory as its designer knows it. Sizes in bytes."""

    name: str
    arch: str = kernels.ANY
    page_size: int = 4 * KIB
    block_size: int = 0
    describe: str = "dtb"
    cmdline: str = ""
    banks: tuple[Bank, ...] = ()
    domains: tuple[Domain, ...] = ()

    def bank(self, name: str) -> Bank | None:
        """The bank of that name, or None."""
        return next((b for b in self.banks if b.name == name), None)

    def domain(self, name: str) -> Domain | None:
        """The power domain of that name, or None."""
        return next((d for d in self.domains if d.name == name), None)

    def blocks(self, bank: Bank) -> range:
        """Numbers of the memory blocks that the bank touches, in the kernel or not."""
        return bank.range.blocks(self.block_size)


def find(name: str | os.PathLike[str]) -> Path:
    """The path of a board: a file, or the name of one that is shipped (``arm-2009``).

    Raises BoardError when there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    for folder in _shipped_folders():
        shipped = folder / f"{path.name.removesuffix('.toml')}.toml"
        if shipped.is_file() and path.parent in (Path("."), Path("boards")):
            return shipped
    known = ", ".join(sorted({p.stem for f in _shipped_folders() for p in f.glob("*.toml")}))
    raise BoardError("board", str(name), f"no such file; shipped boards: {known}")


def load(name: str | os.PathLike[str]) -> Board:
    """Read a board file, or one of the shipped boards by name. Raises BoardError."""
    return loads(read(name))


def read(name: str | os.PathLike[str]) -> str:
    """The text of a board file, or of one of the shipped boards by name. Raises BoardError."""
    path = find(name)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise BoardError("board", str(path), f"unreadable: {e}") from e


def loads(text: str) -> Board:
    """A board from TOML text. Raises BoardError."""
    import tomllib  # hosts without a board file start sooner without it

    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as e:  # beside its own error: numbers of thousands of digits, deep nesting
        raise BoardError("board", "TOML", str(e)) from e
    board = _board(Keys("", table))
    _check_banks(board)
    return board


def _shipped_folders() -> tuple[Path, ...]:
    package = Path(__file__).resolve().parent
    return tuple(p for p in (package / "boards", package.parents[1] / "boards") if p.is_dir())


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
            huge = isinstance(value, int) and abs(value) >= _U64  # Python refuses to print thousands of digits
            raise BoardError(self._where + key, "a huge number" if huge else value, str(e)) from e


def _board(keys: Keys) -> Board:
    page_size = keys.take("page_size", _page_size, 4 * KIB)
    board = Board(
        name=keys.take("name", _printable),
        arch=keys.take("arch", _one_of(ARCHES), kernels.ANY),
        page_size=page_size,
        block_size=keys.take("block_size", _power_of_two),
        describe=keys.take("describe", _one_of(DESCRIPTIONS), "dtb"),
        cmdline=keys.take("cmdline", _line, ""),
        domains=tuple(_domain(name, table) for name, table in keys.tables("domain")),
        banks=tuple(_bank(name, table) for name, table in keys.tables("bank")),
    )
    keys.done()
    least = kernels.arch(board.arch).largest_buddy(page_size)
    if board.block_size < least * page_size:
        allowed = f"at least {least} pages ({format_size(least * page_size)}), the buddy allocator's largest block"
        raise BoardError("block_size", format_size(board.block_size), allowed)
    return board


def _bank(name: str, keys: Keys) -> Bank:
    start, size = keys.take("start", _address), keys.take("size", _address)
    bank = Bank(
        name=name,
        range=Range.sized(start, size),
        movable=keys.take("movable", boolean, False),
        at_boot=keys.take("at_boot", boolean, True),
        route=keys.take("route", _one_of(tuple(ROUTES)), NONE.name),
        domain=keys.maybe("domain", text),
        node=keys.maybe("node", _node),
    )
    keys.done()
    if size == 0:
        raise BoardError(f"bank.{name}.size", size, "must be more than 0")
    if bank.range.end > _U64:
        raise BoardError(f"bank.{name}.size", f"{size:#x}", "start + size must be at most 2**64")
    return bank


def _domain(name: str, keys: Keys) -> Domain:
    domain = Domain(
        name=name,
        states=keys.take("states", _states, (Power.ON,)),
        switch=keys.take("switch", _one_of(SWITCHES), "none"),
        interleaved=keys.take("interleaved", boolean, False),
        off=keys.take("off", _argv, ()),
        self_refresh=keys.take("self-refresh", _argv, ()),
        on=keys.take("on", _argv, ()),
        status=keys.take("status", _argv, ()),
        timeout=keys.take("timeout", seconds, 10.0),
        regulator=keys.maybe("regulator", text),
    )
    keys.done()
    _check_switch(domain)
    return domain


def _check_switch(domain: Domain) -> None:
    where = f"domain.{domain.name}"
    if domain.switch == "none" and Power.OFF in domain.states:
        raise BoardError(f"{where}.switch", "none", 'must be command, regulator or machine when states has "off"')
    if domain.switch == "regulator" and domain.regulator is None:
        raise BoardError(f"{where}.regulator", None, "must name the regulator")
    if domain.switch == "command":
        argv = {Power.OFF: domain.off, Power.SELF_REFRESH: domain.self_refresh, Power.ON: domain.on}
        for state in domain.states:
            if not argv[state]:
                raise BoardError(f"{where}.{state}", None, "must be an argv list, one for each of states")
        if not domain.status:
            raise BoardError(f"{where}.status", None, "must be an argv list that prints on, self-refresh or off")


def _check_banks(board: Board) -> None:
    if not board.banks:
        raise BoardError("bank", None, "at least one [bank.NAME] must be given")
    for bank in board.banks:
        _check_bank(board, bank)
    by_start = sorted(board.banks, key=lambda b: b.range)
    for lower, upper in pairwise(by_start):
        if lower.range.overlaps(upper.range):
            allowed = f"overlaps bank.{lower.name} ({lower.range})"
            raise BoardError(f"bank.{upper.name}.start", f"{upper.range.start:#x}", allowed, code=Code.OVERLAP)


def _check_bank(board: Board, bank: Bank) -> None:
    leaves = bank.movable or not bank.at_boot or route(bank.route).enters
    unit = board.block_size if leaves else board.page_size
    for key, value in (("start", bank.range.start), ("size", bank.range.size)):
        if value % unit:
            kind = "block_size" if leaves else "page_size"
            allowed = f"must be a multiple of {kind} = {format_size(unit)}"
            raise BoardError(f"bank.{bank.name}.{key}", f"{value:#x}", allowed, code=Code.NOT_ALIGNED)
    if bank.domain is not None and board.domain(bank.domain) is None:
        known = ", ".join(d.name for d in board.domains) or "none"
        raise BoardError(f"bank.{bank.name}.domain", bank.domain, f"no such domain; known: {known}")


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
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("must be a whole number, 0 or more")
    return value


def seconds(value: object) -> float:
    """Seconds above 0. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("must be a number of seconds above 0")
    return float(value)


def _printable(value: object) -> str:
    name = text(value)
    if not name or not name.isprintable():
        raise ValueError("must be printable text")
    return name


def _line(value: object) -> str:
    line = text(value)
    if "\0" in line or "\n" in line:
        raise ValueError("must be one line")
    return line


def _node(value: object) -> int:
    number = whole(value)
    if number > _MAX_NODE:
        raise ValueError(f"must be at most {_MAX_NODE}")
    return number


def _address(value: object) -> int:
    number = parse_size(value)  # type: ignore[arg-type]  # refuses other types itself
    if number >= _U64:
        raise ValueError("must be less than 2**64")
    return number


def _page_size(value: object) -> int:
    size = _power_of_two(value)
    if not 4 * KIB <= size <= 64 * KIB:
        raise ValueError("must be a power of two from 4K to 64K")
    return size


def _power_of_two(value: object) -> int:
    size = parse_size(value)  # type: ignore[arg-type]  # refuses other types itself
    if size <= 0 or size & (size - 1):
        raise ValueError("must be a power of two")
    return size


def _one_of(choices: tuple[str, ...]) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError("must be one of " + ", ".join(choices))
        return str(value)

    return parse


def _argv(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) and word for word in value):
        raise ValueError('must be a list of words such as ["ddrctl", "off", "1"]')
    return tuple(value)


def _states(value: object) -> tuple[Power, ...]:
    allowed = ("on", "self-refresh", "off")
    if not isinstance(value, list) or "on" not in value or any(state not in allowed for state in value):
        raise ValueError('must be a list of "on" (always) and "self-refresh", "off"')
    return tuple(Power(state) for state in allowed if state in value)
