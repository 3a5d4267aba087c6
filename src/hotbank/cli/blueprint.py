# SPDX-License-Identifier: Apache-2.0
"""A board as a picture: the line of addresses with a letter a bank, below it what each power domain switches.

Drawn from the map of a machine that has all of the board's banks and none of them in the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from string import ascii_uppercase

from hotbank.board import Bank, Board
from hotbank.cli import table
from hotbank.machine import BankStatus, Snapshot
from hotbank.memory import Power, format_size
from hotbank.report.cells import Map, Strip

_HOLE = ".."
LEGEND = (
    "capital: may leave   small: stays   ..: no memory",
    "=: switched together   ~: so, and interleaved: saves nothing",
)
_BANKS = ("", "BANK", "RANGE", "SIZE", "AT BOOT", "MAY LEAVE", "ROUTE", "DOMAIN", "NODE")
_DOMAINS = ("DOMAIN", "STATES", "SWITCH", "INTERLEAVED", "DRAM", "RANKS", "CHANNELS")


def lines(board: Board, columns: int) -> Iterator[str]:
    """The picture at most so many columns wide, and tables of banks and domains."""
    yield (
        f"{board.name}: {board.arch}, pages of {format_size(board.page_size)}, blocks of "
        f"{format_size(board.block_size)}, described by {board.describe}"
    )
    yield ""
    strips = Map.of(_bare(board)).strips
    letters = _letters(board)
    yield from _picture(board, strips, letters, columns)
    yield ""
    yield from LEGEND
    yield ""
    yield from table.lines(_BANKS, [_bank(bank, letters[bank.name]) for bank in _in_order(board)], right=("SIZE",))
    if board.domains:
        yield ""
        yield from table.lines(_DOMAINS, [*_domains(board)])


def may_leave(bank: Bank) -> bool:
    """True for a bank that the board means to take away."""
    return bank.movable or not bank.at_boot


def _bare(board: Board) -> Snapshot:
    banks = (
        BankStatus.of(bank.name, bank.range, (), Power.ON, at_boot=bank.at_boot, domain=bank.domain)
        for bank in board.banks
    )
    return Snapshot(
        board.name,
        board.arch,
        board.page_size,
        board.block_size,
        "",
        banks=tuple(banks),
        domains=tuple(board.status(domain, Power.ON) for domain in board.domains),
    )


def _in_order(board: Board) -> list[Bank]:
    return sorted(board.banks, key=lambda bank: bank.range)


def _letters(board: Board) -> dict[str, str]:
    """By bank, in the order of addresses; beyond the 26th from the start again."""
    letters = ((bank, ascii_uppercase[at % len(ascii_uppercase)]) for at, bank in enumerate(_in_order(board)))
    return {bank.name: letter if may_leave(bank) else letter.lower() for bank, letter in letters}


def _picture(board: Board, strips: Sequence[Strip], letters: dict[str, str], columns: int) -> Iterator[str]:
    start, end = f"{strips[0].range.start:#x}", f"{strips[-1].range.end - 1:#x}"
    label = max(len(start), *(len(domain.name) for domain in board.domains), 0)
    widths = _widths(strips, columns - label - len(end) - len(" |") - len("| "))
    yield f"{start:<{label}} |{_row(strips, widths, [letters[_name(strip)] for strip in strips], _HOLE)}| {end}"
    for domain in board.domains:
        sign = "~" if domain.interleaved else "="
        yield f"{domain.name:<{label}}  {_row(strips, widths, [sign if _in(s, domain.name) else ' ' for s in strips])}"


def _name(strip: Strip) -> str:
    assert strip.bank is not None  # the machine has no other memory
    return strip.bank.name


def _in(strip: Strip, domain: str) -> bool:
    return strip.bank is not None and strip.bank.domain == domain


def _widths(strips: Sequence[Strip], room: int) -> list[int]:
    """Cells of each strip, by size; one at least, of which the largest ones then have fewer."""
    free = max(room - len(_HOLE) * sum(1 for _ in _gaps(strips)), len(strips))
    total = sum(strip.range.size for strip in strips)
    widths = [max(1, strip.range.size * free // total) for strip in strips]
    if sum(widths) <= free:
        return widths
    return [1 + strip.range.size * (free - len(strips)) // total for strip in strips]


def _gaps(strips: Sequence[Strip]) -> Iterator[int]:
    """Where in the row a hole lies before a strip."""
    return (at for at in range(1, len(strips)) if strips[at - 1].range.end < strips[at].range.start)


def _row(strips: Sequence[Strip], widths: Sequence[int], signs: Sequence[str], hole: str = " " * len(_HOLE)) -> str:
    gaps = {*_gaps(strips)}
    each = zip(widths, signs, strict=True)
    return "".join(f"{hole if at in gaps else ''}{sign * width}" for at, (width, sign) in enumerate(each)).rstrip(" ")


def _bank(bank: Bank, letter: str) -> list[str]:
    size, node = format_size(bank.range.size), "-" if bank.node is None else str(bank.node)
    words = [("no", "yes")[bank.at_boot], ("no", "yes")[may_leave(bank)]]
    return [letter, bank.name, str(bank.range), size, *words, bank.route, bank.domain or "-", node]


def _domains(board: Board) -> Iterator[list[str]]:
    for domain in board.domains:
        dram = domain.dram
        spread = "yes" if domain.interleaved else "no"
        counts = [str(dram.ranks), str(dram.channels)]
        yield [domain.name, ", ".join(domain.states), domain.switch, spread, dram.part or "any", *counts]
