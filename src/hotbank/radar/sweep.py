# SPDX-License-Identifier: Apache-2.0
"""A guest for each kernel, each rule asked of it and of the model of its row, within a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from hotbank.boards_qemu import uefi
from hotbank.boards_qemu.parts.packages import Archive, Progress, no_progress
from hotbank.errors import Code, HotbankError, MachineError, Refusal
from hotbank.radar.guests import Subject, booted
from hotbank.radar.matrix import Cell, Matrix
from hotbank.radar.rules import RULES, Rule

DEADLINE = 600.0  # seconds for one kernel, from when it is up: until then the guest has limits of its own


def look(
    series: Sequence[str] = (),
    rules: Sequence[str] = (),
    *,
    deadline: float = DEADLINE,
    progress: Progress = no_progress,
    on_cell: Callable[[Cell], None] = lambda _cell: None,
    matrix: Matrix | None = None,
) -> Matrix:
    """Ask each kernel about each rule, all rules where none is named, and the newest of each series of Debian's archive
    where none is named; ``deadline``: seconds for one kernel.

    A kernel that can't be had, does not come up or does not answer is entered with the reason. ``on_cell`` hears of
    each answer. ``matrix``: where to enter them, so that what was seen outlives an interruption.
    Raises Refusal for a rule that there is not, MachineError where the archive can't be asked what it has.
    """
    matrix, asked = matrix or Matrix(), _chosen(rules)
    began = time.monotonic() - matrix.seconds
    matrix.columns = {rule.name: rule.column for rule in RULES.values() if rule.column}
    for one in series or Archive.open(uefi.DEBIAN, progress).series(uefi.FLAVOUR, whole=False):
        try:
            for cell in ask(one, asked, deadline, progress):
                matrix.cells.append(cell)
                on_cell(cell)
        except (MachineError, Refusal) as e:
            matrix.unheard[one] = str(e)
            progress(f"{one}: {e}")
        finally:
            matrix.seconds = time.monotonic() - began
    return matrix


def _chosen(names: Sequence[str]) -> list[Rule]:
    """Each once, in the order in which a guest can be asked: an experiment finds what those before it have left."""
    if unknown := [name for name in names if name not in RULES]:
        raise Refusal(Code.UNSUPPORTED, f"there is no rule {unknown[0]}", remedy=f"known: {', '.join(RULES)}")
    return [rule for name, rule in RULES.items() if name in names or not names]


def ask(series: str, rules: Sequence[Rule], deadline: float, progress: Progress) -> Iterator[Cell]:
    """The cells of one kernel. Raises MachineError, Refusal."""
    with booted(series, progress) as subject, _limited(subject, deadline) as limit:
        release = subject.release
        for rule in rules:
            modelled = rule.modelled(release)
            try:
                yield Cell(rule.name, series, release, rule.real(subject), modelled)
            except HotbankError as e:
                yield Cell(rule.name, series, release, None, modelled, limit.over or str(e))


class _limited:  # noqa: N801  # a context manager is named like a function
    """At the deadline the guest ends, and whoever waits for it hears so. ``over``: why, once it is."""

    def __init__(self, subject: Subject, seconds: float) -> None:
        self._subject, self._seconds, self.over = subject, seconds, ""
        self._timer = threading.Timer(seconds, self._end)

    def _end(self) -> None:
        self.over = f"its deadline of {self._seconds:g} s is over"
        self._subject.machine.qemu.stop()

    def __enter__(self) -> Self:
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
