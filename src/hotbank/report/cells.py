# SPDX-License-Identifier: Apache-2.0
"""The map as a value: every memory block in the order of addresses, what is in it, whose it is, and which are dark.

Pure. Whoever shows a map draws this one: a terminal, a browser, a picture of a board.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import groupby

from hotbank.errors import Code
from hotbank.machine import BankStatus, Snapshot, Survey
from hotbank.memory import IMMOVABLE_KINDS, BlockState, Kind, Power, Range


class Group(StrEnum):
    """What a map tells apart of what pages hold, in the order in which it is drawn."""

    KERNEL = "kernel"
    PINNED = "pinned"
    ANON = "anon"
    FILE = "file"
    UNKNOWN = "unknown"
    POISONED = "poisoned"
    HOLE = "hole"
    FREE = "free"


GROUP: Mapping[Kind, Group] = {
    **dict.fromkeys(IMMOVABLE_KINDS, Group.KERNEL),
    **dict.fromkeys((Kind.ANON, Kind.SHMEM, Kind.HUGETLB, Kind.BALLOON), Group.ANON),
    Kind.FILE: Group.FILE,
    Kind.UNKNOWN: Group.UNKNOWN,
    Kind.POISONED: Group.POISONED,
    **dict.fromkeys((Kind.HOLE, Kind.UNPLUGGED), Group.HOLE),
    Kind.FREE: Group.FREE,
}


KEEPS = frozenset({Group.KERNEL, Group.PINNED, Group.POISONED})
"""What keeps a block from leaving, or from coming back."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One memory block, in the kernel or not.

    ``state``: None where the kernel has no such block. ``zone``: as ``Block.zone``. ``power``: of its bank. ``kinds``:
    pages by kind, None where nobody looked. ``why``: the reasons that pages in it give against its leaving, in the
    survey's order. ``pinned``: how many pages of each kind the survey names as pinned; there may be more. ``used``: as
    ``Block.used``, which takes no look at pages.
    """

    block: int
    range: Range
    state: BlockState | None = None
    zone: str | None = None
    power: Power = Power.ON
    kinds: Mapping[Kind, int] | None = None
    why: tuple[Code, ...] = ()
    pinned: Mapping[Kind, int] = field(default_factory=dict)
    used: int | None = None

    @property
    def dark(self) -> bool:
        """Without the power to be used."""
        return self.power.dark

    @property
    def groups(self) -> dict[Group, int]:
        """Pages by group, summing to the block's pages; empty where nobody looked."""
        kinds = Counter(self.kinds or {})
        pinned = Counter(self.pinned) & kinds
        groups = Counter({Group.PINNED: pinned.total()})
        for kind, pages in kinds.items():
            groups[GROUP[kind]] += pages - pinned[kind]
        return {group: groups[group] for group in Group if groups[group] > 0}

    def parts(self, width: int) -> tuple[tuple[Group, int], ...]:
        """The groups as parts of ``width`` in all, by pages; whatever is there at all gets one, as far as they go:
        first what keeps the block from leaving, then the most."""
        groups = self.groups
        total = sum(groups.values())
        sizes = {group: max(1, round(pages * width / total)) for group, pages in groups.items()}
        while sizes and (over := sum(sizes.values()) - width):
            widest = max(sizes, key=lambda group: (sizes[group], group not in KEEPS, -groups[group]))
            sizes[widest] -= 1 if over > 0 else over
        return tuple((group, size) for group, size in sizes.items() if size)


@dataclass(frozen=True, slots=True)
class Strip:
    """Adjacent blocks of one bank, or of none. Blocks that are banks under their own names belong to none."""

    bank: BankStatus | None
    cells: tuple[Cell, ...]
    interleaved: bool = False

    @property
    def range(self) -> Range:
        """From its first block to its last, in whole blocks."""
        return Range(self.cells[0].range.start, self.cells[-1].range.end)


@dataclass(frozen=True)  # without slots: it keeps its index
class Map:
    """All memory of a machine, by address."""

    machine: str
    page_size: int
    block_size: int
    strips: tuple[Strip, ...] = ()

    @classmethod
    def of(cls, snapshot: Snapshot, surveys: Mapping[int, Survey] | None = None) -> Map:
        """Every block that the kernel or a bank of the board has, once. ``surveys``: of the blocks to see into."""
        found = surveys or {}
        numbers = {b.number for b in snapshot.blocks}.union(*(snapshot.blocks_of(bank) for bank in snapshot.banks))
        strips = (_strip(snapshot, found, run) for run in _runs(snapshot, sorted(numbers)))
        return cls(snapshot.machine, snapshot.page_size, snapshot.block_size, tuple(strips))

    @property
    def cells(self) -> Iterator[Cell]:
        """All blocks, ascending."""
        return (cell for strip in self.strips for cell in strip.cells)

    def cell(self, block: int) -> Cell | None:
        """The block of that number, or None where there is no such memory."""
        return self._by_number.get(block)

    @cached_property
    def _by_number(self) -> dict[int, Cell]:
        return {cell.block: cell for cell in self.cells}


def _runs(snapshot: Snapshot, numbers: Iterable[int]) -> Iterator[list[tuple[int, BankStatus | None]]]:
    """Numbers with their bank, in runs without a gap of one bank each."""
    placed = [(number, _named(snapshot.bank_at(number))) for number in numbers]
    runs = groupby(enumerate(placed), key=lambda e: (e[1][0] - e[0], e[1][1] and e[1][1].name))
    return ([pair for _, pair in run] for _, run in runs)


def _named(bank: BankStatus | None) -> BankStatus | None:
    return None if bank is None or bank.is_a_block else bank


def _strip(snapshot: Snapshot, surveys: Mapping[int, Survey], run: list[tuple[int, BankStatus | None]]) -> Strip:
    bank = run[0][1]
    domain = snapshot.domain(bank.domain) if bank is not None and bank.domain else None
    power = bank.power if bank is not None else Power.ON
    cells = tuple(_cell(snapshot, number, power, surveys.get(number)) for number, _ in run)
    return Strip(bank, cells, domain is not None and domain.interleaved)


def _cell(snapshot: Snapshot, number: int, power: Power, survey: Survey | None) -> Cell:
    block, span = snapshot.block(number), Range.sized(number * snapshot.block_size, snapshot.block_size)
    if block is None:
        return Cell(number, span, power=power)
    if survey is None:
        return Cell(number, span, block.state, block.zone, power, used=block.used)
    why = tuple(dict.fromkeys(evidence.why for evidence in survey.blocking))
    pinned = Counter(evidence.kind for evidence in survey.blocking if evidence.why is Code.PINNED)
    return Cell(number, span, block.state, block.zone, power, survey.kinds, why, pinned, block.used)
