# SPDX-License-Identifier: Apache-2.0
"""The board file: a machine's banks, power domains and boot description, as TOML.

``loads`` checks everything that can be checked without a machine and raises BoardError with the key, its
value and what is allowed; nothing is guessed and no unknown key is passed over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hotbank import kernels, memspec
from hotbank import keys as toml
from hotbank.errors import BoardError, Code
from hotbank.keys import Keys, address, amount, boolean, count, one_of, power_of_two, seconds, text, whole
from hotbank.machine import DomainStatus, Fitted
from hotbank.memory import KIB, Power, Range, block_named, format_size
from hotbank.numbers import U64
from hotbank.routes import NONE, ROUTES, route

ARCHES = (*kernels.bootable(), kernels.ANY)
DESCRIPTIONS = ("atags", "dtb", "srat", "cmdline")
SWITCHES = ("none", "command", "regulator", "machine")
SYSTEM_BOARD = Path("/etc/hotbank/board.toml")

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

    def status(self, domain: Domain, power: Power) -> DomainStatus:
        """The domain as a machine shows it while its power is that."""
        banks = tuple(bank.name for bank in self.banks if bank.domain == domain.name)
        return DomainStatus(domain.name, power, domain.states, banks, domain.switch, domain.interleaved, domain.dram)

    def blocks(self, bank: Bank) -> range:
        """Numbers of the memory blocks that the bank touches, in the kernel or not."""
        return bank.range.blocks(self.block_size)


def find(name: str | os.PathLike[str]) -> Path:
    """The path of a board: a file, or the name of one that is shipped (``arm-2009``). Raises BoardError."""
    return toml.find("board", name)


def load(name: str | os.PathLike[str]) -> Board:
    """Read a board file, or one of the shipped boards by name. Raises BoardError."""
    return loads(read(name))


def read(name: str | os.PathLike[str]) -> str:
    """The text of a board file, or of one of the shipped boards by name. Raises BoardError."""
    return toml.read("board", find(name))


def loads(text: str) -> Board:
    """A board from TOML text. Raises BoardError."""
    board = _board(toml.table("board", text))
    _check_banks(board)
    return board


def _board(keys: Keys) -> Board:
    page_size = keys.take("page_size", _page_size, 4 * KIB)
    board = Board(
        name=keys.take("name", _printable),
        arch=keys.take("arch", one_of(ARCHES), kernels.ANY),
        page_size=page_size,
        block_size=keys.take("block_size", power_of_two),
        describe=keys.take("describe", one_of(DESCRIPTIONS), "dtb"),
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
    _check_name("bank", name)
    start, size = keys.take("start", address), keys.take("size", address)
    bank = Bank(
        name=name,
        range=Range.sized(start, size),
        movable=keys.take("movable", boolean, False),
        at_boot=keys.take("at_boot", boolean, True),
        route=keys.take("route", one_of(tuple(ROUTES)), NONE.name),
        domain=keys.maybe("domain", text),
        node=keys.maybe("node", _node),
    )
    keys.done()
    if size == 0:
        raise BoardError(f"bank.{name}.size", size, "must be more than 0")
    if bank.range.end > U64:
        raise BoardError(f"bank.{name}.size", f"{size:#x}", "start + size must be at most 2**64")
    return bank


def _domain(name: str, keys: Keys) -> Domain:
    _check_name("domain", name)
    domain = Domain(
        name=name,
        states=keys.take("states", _states, (Power.ON,)),
        switch=keys.take("switch", one_of(SWITCHES), "none"),
        interleaved=keys.take("interleaved", boolean, False),
        off=keys.take("off", _argv, ()),
        self_refresh=keys.take("self-refresh", _argv, ()),
        on=keys.take("on", _argv, ()),
        status=keys.take("status", _argv, ()),
        timeout=keys.take("timeout", seconds, 10.0),
        regulator=keys.maybe("regulator", text),
        dram=_fitted(keys),
    )
    keys.done()
    _check_switch(domain)
    return domain


def _check_name(kind: str, name: str) -> None:
    if block_named(name) is not None:
        allowed = "would be taken for a memory block; choose a name that is no number and no memoryN"
        raise BoardError(f"{kind}.{name}", name, allowed)


def _fitted(keys: Keys) -> Fitted:
    usual = Fitted()
    return Fitted(
        part=keys.maybe("part", _part),
        ranks=keys.take("ranks", count, usual.ranks),
        channels=keys.take("channels", count, usual.channels),
        temperature=keys.take("temperature", _temperature, usual.temperature),
        share=keys.maybe("share", _share),
    )


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


def _page_size(value: object) -> int:
    size = power_of_two(value)
    if not 4 * KIB <= size <= 64 * KIB:
        raise ValueError("must be a power of two from 4K to 64K")
    return size


def _argv(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) and word for word in value):
        raise ValueError('must be a list of words such as ["ddrctl", "off", "1"]')
    return tuple(value)


def _states(value: object) -> tuple[Power, ...]:
    allowed = ("on", "self-refresh", "off")
    if not isinstance(value, list) or "on" not in value or any(state not in allowed for state in value):
        raise ValueError('must be a list of "on" (always) and "self-refresh", "off"')
    return tuple(Power(state) for state in allowed if state in value)
