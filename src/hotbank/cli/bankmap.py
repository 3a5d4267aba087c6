# SPDX-License-Identifier: Apache-2.0
"""A map of the banks: one bar a memory block, what is in it by share, what is dark left blank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hotbank.machine import Machine, Snapshot
from hotbank.memory import BlockState, Kind

WIDTH = 24  # cells of one block
_LABEL = 31  # columns of a row beside its blocks

# Sign, its colour on a terminal, what it stands for. Cells are drawn in this order.
SIGNS: tuple[tuple[str, str, str, frozenset[Kind]], ...] = (
    (
        "#",
        "red",
        "kernel",
        frozenset({Kind.RESERVED, Kind.KERNEL, Kind.SLAB, Kind.PAGE_TABLE, Kind.UNKNOWN, Kind.UNBACKED}),
    ),
    ("a", "cyan", "anon", frozenset({Kind.ANON, Kind.SHMEM, Kind.HUGETLB, Kind.BALLOON})),
    ("f", "blue", "file", frozenset({Kind.FILE})),
    ("!", "magenta", "poisoned", frozenset({Kind.POISONED})),
)
FREE, OUT = ".", " "
LEGEND = "  ".join(f"{sign} {name}" for sign, _, name, _ in SIGNS[:3]) + f"  {FREE} free  blank: not in the kernel"


def fitting(snapshot: Snapshot, columns: int) -> int:
    """Cells of one block with which every bank's row fits into so many columns: at most WIDTH, at least 4."""
    most = max((len(snapshot.blocks_of(bank)) for bank in snapshot.banks), default=1)
    return max(4, min(WIDTH, (columns - _LABEL) // most - 1))


def rows(machine: Machine, snapshot: Snapshot, width: int = WIDTH) -> Iterator[tuple[str, str]]:
    """A label and a line of cells for each bank, one group of ``width`` cells a block."""
    for bank in snapshot.banks:
        cells = "|".join(_block(machine, snapshot, number, width) for number in snapshot.blocks_of(bank))
        yield f"{bank.name:<6} {bank.kernel:<8} power {bank.power:<5}", f"|{cells}|"


def bar(kinds: Mapping[Kind, int], width: int = WIDTH) -> str:
    """Cells in proportion to pages; whatever is there at all gets at least one cell."""
    total = sum(kinds.values())
    cells = ""
    for sign, _, _, meant in SIGNS:
        pages = sum(kinds.get(kind, 0) for kind in meant)
        cells += sign * (max(1, round(pages * width / total)) if pages else 0)
    return cells[:width].ljust(width, FREE)


def _block(machine: Machine, snapshot: Snapshot, number: int, width: int) -> str:
    block = snapshot.block(number)
    if block is None:
        return OUT * width
    if block.state is not BlockState.ONLINE:
        return "offline".center(width)[:width]
    return bar(machine.survey(number).kinds, width)
