# SPDX-License-Identifier: Apache-2.0
"""What a sweep found: for each kernel and rule the kernel's answer and the model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hotbank import kernels
from hotbank.documents import SCHEMA
from hotbank.kernels import Commit


@dataclass(frozen=True, slots=True)
class Cell:
    """One experiment. ``series``: as it was asked for; ``release``: the kernel that ran. ``real`` and ``modelled``: one
    word each; ``real`` is None where the kernel gave no answer, and ``why`` says why not."""

    rule: str
    series: str
    release: str
    real: str | None
    modelled: str
    why: str = ""

    @property
    def different(self) -> bool:
        """True if the kernel answered, and not as the model of its row."""
        return self.real is not None and self.real != self.modelled


@dataclass(frozen=True, slots=True)
class Change:
    """A rule whose answer is not that of the kernel before. ``commit``: the table's word for it, None: it has none."""

    rule: str
    before: Cell
    after: Cell
    commit: Commit | None

    @property
    def explained(self) -> bool:
        """True if the table has the rule change between these two as well."""
        return self.before.modelled != self.after.modelled


@dataclass(slots=True)
class Matrix:
    """All cells of a sweep, kernel by kernel in the order that was asked for. ``columns``: of the table of kernels, by
    rule. ``unheard``: kernels that gave no answer at all, and why."""

    cells: list[Cell] = field(default_factory=list)
    columns: Mapping[str, str] = field(default_factory=dict)
    unheard: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def of(self, rule: str) -> list[Cell]:
        """The cells of one rule."""
        return [cell for cell in self.cells if cell.rule == rule]

    @property
    def rules(self) -> list[str]:
        """The rules that were asked about."""
        return list(dict.fromkeys(cell.rule for cell in self.cells))

    @property
    def releases(self) -> list[str]:
        """The kernels that ran."""
        return list(dict.fromkeys(cell.release for cell in self.cells))

    @property
    def differences(self) -> list[Cell]:
        """Where the model's row says something else than the kernel did."""
        return [cell for cell in self.cells if cell.different]

    def neighbour(self, cell: Cell) -> Cell | None:
        """The nearest kernel before it, else after it, of which the same rule is right: between the two lies what the
        table does not know."""
        alike = self.of(cell.rule)
        at = alike.index(cell)
        right = [other for other in (*reversed(alike[:at]), *alike[at + 1 :]) if other.real and not other.different]
        return right[0] if right else None

    @property
    def changes(self) -> Iterator[Change]:
        """Between which two of these kernels a rule changed."""
        for rule in self.rules:
            heard = [cell for cell in self.of(rule) if cell.real is not None]
            for before, after in pairwise(heard):
                if before.real != after.real:
                    yield Change(rule, before, after, self._commit(rule, before, after))

    def _commit(self, rule: str, before: Cell, after: Cell) -> Commit | None:
        column = self.columns.get(rule)
        return kernels.cause(column, before.release, after.release) if column else None

    def document(self) -> dict[str, Any]:
        """The JSON of ``hotbank radar --json``."""
        return {
            "schema": SCHEMA["radar"],
            "seconds": round(self.seconds, 1),
            "cells": [_cell(cell) for cell in self.cells],
            "differences": [
                _cell(cell) | {"neighbour": other.release if (other := self.neighbour(cell)) else None}
                for cell in self.differences
            ],
            "changes": [
                {
                    "rule": change.rule,
                    "before": {"release": change.before.release, "answer": change.before.real},
                    "after": {"release": change.after.release, "answer": change.after.real},
                    "commit": str(change.commit) if change.commit else None,
                    "explained": change.explained,
                }
                for change in self.changes
            ],
            "unheard": dict(self.unheard),
        }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "rule": cell.rule,
        "kernel": cell.series,
        "release": cell.release,
        "answer": cell.real,
        "model": cell.modelled,
        "why": cell.why or None,
    }
