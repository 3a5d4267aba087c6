# SPDX-License-Identifier: Apache-2.0
"""A guest for each kernel, each rule asked of it and of the model of its row, within a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from hotbank import kernels
from hotbank.boards_qemu.parts.packages import Progress, no_progress
from hotbank.errors import HotbankError, MachineError, Refusal
from hotbank.radar.guests import Subject, booted
from hotbank.radar.matrix import Cell, Matrix
from hotbank.radar.rules import RULES, Rule

DEADLINE = 600.0  # seconds for one kernel, its boot included


def look(
    series: Sequence[str],
    rules: Sequence[str] = (),
    *,
    deadline: float = DEADLINE,
    progress: Progress = no_progress,
    on_cell: Callable[[Cell], None] = lambda _cell: None,
    matrix: Matrix | None = None,
) -> Matrix:
    """Ask each kernel about each rule, all rules where none is named; ``deadline``: seconds for one kernel.

    A kernel that can't be had, does not come up or does not answer is entered with the reason. ``on_cell`` hears of
    each answer. ``matrix``: where to enter them, so that what was seen outlives an interruption.
    """
    began, matrix = time.monotonic(), matrix or Matrix()
    asked = [RULES[name] for name in rules or RULES]
    commits = kernels.rules()
    matrix.commits = {rule.name: commits[rule.column] for rule in RULES.values() if rule.column}
    for one in series:
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


def ask(series: str, rules: Sequence[Rule], deadline: float, progress: Progress) -> Iterator[Cell]:
    """The cells of one kernel. Raises MachineError, Refusal."""
    with booted(series, progress) as subject, _limited(subject, deadline):
        release = subject.release
        for rule in rules:
            modelled = rule.modelled(release)
            try:
                yield Cell(rule.name, series, release, rule.real(subject), modelled)
            except HotbankError as e:
                yield Cell(rule.name, series, release, None, modelled, str(e))


class _limited:  # noqa: N801  # a context manager is named like a function
    """At the deadline the guest ends, and whoever waits for it hears so."""

    def __init__(self, subject: Subject, seconds: float) -> None:
        self._timer = threading.Timer(seconds, subject.machine.qemu.stop)

    def __enter__(self) -> None:
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
