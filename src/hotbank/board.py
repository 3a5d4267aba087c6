# SPDX-License-Identifier: Apache-2.0
"""The board file: a machine's banks, power domains and boot description, as TOML.

``loads`` checks everything that can be checked without a machine and raises BoardError with all mistakes: line and key,
value and what is allowed. ``TABLES`` has every key; docs/board.md says what each is for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING

from hotbank import kernels, memspec
from hotbank import keys as toml
from hotbank.errors import BoardError, Code
from hotbank.keys import Key, Keys, address, amount, boolean, count, one_of, power_of_two, seconds, text, whole
from hotbank.machine import DomainStatus, Fitted
from hotbank.memory import KIB, Power, Range, block_named, format_size
from hotbank.numbers import U64
from hotbank.routes import NONE, ROUTES, route

if TYPE_CHECKING:  # a host without a board starts sooner
    from pathlib import Path

DESCRIPTIONS = ("atags", "dtb", "srat", "cmdline")
SWITCHES = ("none", "command", "regulator", "machine")
SYSTEM_BOARD = "/etc/hotbank/board.toml"

_HOTTEST = 125  # degrees Celsius: what automotive parts are made for
_MAX_NODE = 1023  # CONFIG_NODES_SHIFT is at most 10


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
    over several chips, so its leaving saves nothing. ``dram``: its devices.
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
    dram: Fitted = field(default_factory=Fitted)

    def argv(self, state: Power) -> tuple[str, ...]:
        """The command that brings it into that state; empty where there is none."""
        return {Power.OFF: self.off, Power.SELF_REFRESH: self.self_refresh, Power.ON: self.on}.get(state, ())

    @property
    def programs(self) -> Mapping[str, tuple[str, ...]]:
        """The command for each of its states and for ``status``, by that word."""
        return {**{state.value: self.argv(state) for state in self.states}, "status": self.status}


@dataclass(frozen=True, slots=True)
class Board:
    """A machine's memory as its designer knows it. Sizes in bytes."""

    name: str
    arch: str = kernels.ANY
    page_size: int = 4 * KIB
    block_size: int = 0
    describe: str = "dtb"
    cmdline: str = ""
    auto: bool = False
    banks: tuple[Bank, ...] = ()
    domains: tuple[Domain, ...] = ()

    def bank(self, name: str) -> Bank | None:
        """The bank of that name, or None."""
        return next((b for b in self.banks if b.name == name), None)

    def domain(self, name: str) -> Domain | None:
        """The power domain of that name, or None."""
        return next((d for d in self.domains if d.name == name), None)

    def status(self, domain: Domain, power: Power) -> DomainStatus:
        """The domain as a machine shows it while its power is that."""
        banks = tuple(bank.name for bank in self.banks if bank.domain == domain.name)
        return DomainStatus(domain.name, power, domain.states, banks, domain.switch, domain.interleaved, domain.dram)

    @property
    def pages_at_boot(self) -> int:
        """How many pages the banks have that are there from the start."""
        return sum(bank.range.size for bank in self.banks if bank.at_boot) // self.page_size

    def blocks(self, bank: Bank) -> range:
        """Numbers of the memory blocks that the bank touches, in the kernel or not."""
        return bank.range.blocks(self.block_size)


def find(name: str | os.PathLike[str]) -> Path:
    """The path of a board: a file, or the name of one that is shipped (``arm-2009``). Raises BoardError."""
    return toml.find("board", name)


def shipped() -> tuple[Path, ...]:
    """The files of the shipped boards, by name."""
    return tuple(
        sorted((file for home in toml.shipped("boards") for file in home.glob("*.toml")), key=lambda f: f.stem)
    )


def load(name: str | os.PathLike[str]) -> Board:
    """Read a board file, or one of the shipped boards by name. Raises BoardError."""
    path = find(name)
    return loads(toml.read("board", path), str(path))


def read(name: str | os.PathLike[str]) -> str:
    """The text of a board file, or of one of the shipped boards by name. Raises BoardError."""
    return toml.read("board", find(name))


def loads(text: str, file: str = "") -> Board:
    """A board from TOML text. ``file``: its name, for messages. Raises BoardError, which has all mistakes."""
    keys = toml.table("board", text, file=file, schema=TABLES)
    try:
        return _board(keys)
    except BoardError as e:
        if e.others:
            e.remedy = f"hotbank board check FILE tells all {len(e.mistakes)} mistakes"
        raise


def _board(keys: Keys) -> Board:
    domain_tables, bank_tables = keys.tables("domain"), keys.tables("bank")
    given = keys.read(TABLES[""])
    domains = {name: _domain(name, table) for name, table in domain_tables}
    banks = [(bank, table) for name, table in bank_tables if (bank := _bank(name, table)) is not None]
    if not bank_tables:
        keys.note("bank", None, "at least one [bank.NAME] must be given")
    _check_block_size(keys, **given)
    _check_overlaps(banks)
    for bank, table in banks:
        _check_alignment(bank, table, given["block_size"], given["page_size"])
        _check_domain(bank, table, domains)
    keys.check()
    return Board(**given, domains=tuple(domains.values()), banks=tuple(bank for bank, _ in banks))


def _check_block_size(keys: Keys, arch: str, page_size: int, block_size: int | None, **_: object) -> None:
    least = kernels.arch(arch).largest_buddy(page_size)
    if block_size is not None and block_size < least * page_size:
        allowed = f"at least {least} pages ({format_size(least * page_size)}), the buddy allocator's largest block"
        keys.note("block_size", format_size(block_size), allowed)


def _bank(name: str, keys: Keys) -> Bank | None:
    """None where it can't be said where it lies."""
    _check_name(name, keys)
    given = keys.read(TABLES["bank"])
    start, size = given.pop("start"), given.pop("size")
    if size == 0:
        keys.note("size", size, "must be more than 0")
    if start is None or not size:
        return None
    if start + size > U64:
        keys.note("size", f"{size:#x}", "start + size must be at most 2**64")
    return Bank(name, Range.sized(start, size), **given)


def _domain(name: str, keys: Keys) -> Domain:
    _check_name(name, keys)
    given = keys.read(TABLES["domain"])
    dram = Fitted(**{part: given.pop(part) for part in _FITTED})
    domain = Domain(name, self_refresh=given.pop("self-refresh"), dram=dram, **given)
    _check_switch(domain, keys)
    return domain


def table_name(name: str) -> str:
    """A name that a bank or domain can have. Raises ValueError."""
    if block_named(name) is not None:
        raise ValueError("would be taken for a memory block; choose a name that is no number and no memoryN")
    return toml.table_name(name)


def _check_name(name: str, keys: Keys) -> None:
    try:
        table_name(name)
    except ValueError as e:
        keys.note("", name, str(e))


def _part(value: object) -> str:
    name = text(value)
    try:
        memspec.named(name)
    except BoardError as e:
        raise ValueError(e.allowed if e.key == "memspec" else f"is no part: {e}") from e
    return name


def _temperature(value: object) -> int:
    degrees = whole(value)
    if degrees > _HOTTEST:
        raise ValueError(f"must be degrees Celsius, at most {_HOTTEST}")
    return degrees


def _share(value: object) -> float:
    share = amount(value)
    if not 0 < share <= 1:
        raise ValueError("must be more than 0 and at most 1")
    return share


def _check_switch(domain: Domain, keys: Keys) -> None:
    if domain.switch == "none" and Power.OFF in domain.states:
        keys.note("switch", "none", 'must be command, regulator or machine when states has "off"')
    if domain.switch == "regulator" and domain.regulator is None:
        keys.note("regulator", None, "must name the regulator")
    if domain.switch == "command":
        _check_commands(domain, keys)


def _check_commands(domain: Domain, keys: Keys) -> None:
    for state in domain.states:
        if not domain.argv(state):
            keys.note(state, None, "must be an argv list, one for each of states")
    if not domain.status:
        keys.note("status", None, "must be an argv list that prints on, self-refresh or off")


def _check_overlaps(banks: list[tuple[Bank, Keys]]) -> None:
    by_start = sorted(banks, key=lambda each: each[0].range)
    for (lower, _), (upper, keys) in pairwise(by_start):
        if lower.range.overlaps(upper.range):
            keys.note("start", f"{upper.range.start:#x}", f"overlaps bank.{lower.name} ({lower.range})", Code.OVERLAP)


def _check_alignment(bank: Bank, keys: Keys, block_size: int | None, page_size: int) -> None:
    leaves = bank.movable or not bank.at_boot or route(bank.route).enters
    kind, unit = ("block_size", block_size) if leaves else ("page_size", page_size)
    for key, value in (("start", bank.range.start), ("size", bank.range.size)):
        if unit is not None and value % unit:
            keys.note(key, f"{value:#x}", f"must be a multiple of {kind} = {format_size(unit)}", Code.NOT_ALIGNED)


def _check_domain(bank: Bank, keys: Keys, known: Mapping[str, Domain]) -> None:
    if bank.domain is not None and bank.domain not in known:
        names = ", ".join(known) or "none"
        keys.note("domain", bank.domain, f"no such domain; known: {names}{toml.meant(bank.domain, known)}")


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


def _arch(value: object) -> str:
    its = kernels.arch_called(value) if isinstance(value, str) else value
    if its != value and its in kernels.ARCHES:
        raise ValueError(f"its name in the kernel is {its}")
    return one_of(kernels.ARCHES)(value)


def _page_size(value: object) -> int:
    size = power_of_two(value)
    if not 4 * KIB <= size <= 64 * KIB:
        raise ValueError("must be a power of two from 4K to 64K")
    return size


def _argv(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) and word for word in value):
        raise ValueError('must be a list of words such as ["ddrctl", "off", "1"]')
    if "/" in value[0] and not value[0].startswith("/"):
        raise ValueError("a program is a name or an absolute path: who runs it may be in any folder")
    return tuple(value)


def _states(value: object) -> tuple[Power, ...]:
    allowed = ("on", "self-refresh", "off")
    if not isinstance(value, list) or "on" not in value or any(state not in allowed for state in value):
        raise ValueError('must be a list of "on" (always) and "self-refresh", "off"')
    return tuple(Power(state) for state in allowed if state in value)


_USUAL = Fitted()
_FITTED = tuple(each.name for each in fields(Fitted))

TABLES: Mapping[str, tuple[Key, ...]] = {
    "": (
        Key("name", _printable, needed=True),
        Key("arch", _arch, kernels.ANY),
        Key("page_size", _page_size, 4 * KIB),
        Key("block_size", power_of_two, needed=True),
        Key("describe", one_of(DESCRIPTIONS), "dtb"),
        Key("cmdline", _line, ""),
        Key("auto", boolean, default=False),
    ),
    "bank": (
        Key("start", address, needed=True),
        Key("size", address, needed=True),
        Key("movable", boolean, default=False),
        Key("at_boot", boolean, default=True),
        Key("route", one_of(ROUTES), NONE.name),
        Key("domain", text),
        Key("node", _node),
    ),
    "domain": (
        Key("states", _states, (Power.ON,)),
        Key("switch", one_of(SWITCHES), "none"),
        Key("interleaved", boolean, default=False),
        Key("off", _argv, ()),
        Key("self-refresh", _argv, ()),
        Key("on", _argv, ()),
        Key("status", _argv, ()),
        Key("timeout", seconds, 10.0),
        Key("regulator", text),
        Key("part", _part),
        Key("ranks", count, _USUAL.ranks),
        Key("channels", count, _USUAL.channels),
        Key("temperature", _temperature, _USUAL.temperature),
        Key("share", _share),
    ),
}
"""Every key of a board file, by the kind of its table; ``""``: above all tables."""
