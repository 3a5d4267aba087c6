# SPDX-License-Identifier: Apache-2.0
"""Between which two releases of Debian's archive a rule changed: what is halfway is asked, again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hotbank.boards_qemu import uefi
from hotbank.boards_qemu.parts.packages import Archive, Progress, no_progress
from hotbank.errors import Code, MachineError
from hotbank.radar.matrix import Cell, Matrix
from hotbank.radar.sweep import DEADLINE, look

Ask = Callable[[str], Cell]


@dataclass(frozen=True, slots=True)
class Found:
    """``before`` and ``after``: neighbours in the archive that differ; None where both ends say the same."""

    rule: str
    before: Cell | None
    after: Cell | None
    asked: tuple[Cell, ...] = field(default=())


def search(
    rule: str,
    oldest: str,
    newest: str,
    *,
    deadline: float = DEADLINE,
    progress: Progress = no_progress,
    matrix: Matrix | None = None,
) -> Found:
    """The first kernel of the archive that answers unlike the one before it. Raises MachineError for a kernel that
    can't be had or gives no answer."""
    archive = Archive.open(uefi.DEBIAN, progress)
    there = archive.kernels(uefi.FLAVOUR, whole=False)
    first, last = (there.index(archive.kernel(s, uefi.FLAVOUR, whole=False)) for s in (oldest, newest))
    kept = matrix or Matrix()

    def ask(release: str) -> Cell:
        look([release.removesuffix(f"-{uefi.FLAVOUR}")], [rule], deadline=deadline, progress=progress, matrix=kept)
        return kept.cells[-1] if not kept.unheard else _unheard(kept)

    try:
        return halve(rule, there[min(first, last) : max(first, last) + 1], ask)
    finally:
        kept.cells.sort(key=lambda cell: there.index(cell.release))  # what changed between which two goes by that


def halve(rule: str, releases: Sequence[str], ask: Ask) -> Found:
    """By asking as few of the releases as it takes; a rule that changed twice is found changing once."""
    cells = {0: _heard(ask(releases[0])), len(releases) - 1: _heard(ask(releases[-1]))}
    low, high = 0, len(releases) - 1
    if cells[low].real == cells[high].real:
        return Found(rule, None, None, tuple(cells.values()))
    while high - low > 1:
        middle = (low + high) // 2
        cells[middle] = _heard(ask(releases[middle]))
        low, high = (middle, high) if cells[middle].real == cells[low].real else (low, middle)
    return Found(rule, cells[low], cells[high], tuple(cells.values()))


def _heard(cell: Cell) -> Cell:
    if cell.real is None:
        raise MachineError(f"{cell.release} gave no answer about {cell.rule}: {cell.why}", code=Code.SYSTEM_ERROR)
    return cell


def _unheard(matrix: Matrix) -> Cell:
    (release, why) = next(iter(matrix.unheard.items()))
    raise MachineError(f"{release}: {why}", code=Code.SYSTEM_ERROR)
