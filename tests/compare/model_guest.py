# SPDX-License-Identifier: Apache-2.0
"""A guest that is a model: its workload lasts and its pins hold. It answers as Real does; nothing is poisoned, since
the model then kills who has the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from hotbank import board
from hotbank.compare import twin
from hotbank.compare.operations import Operation, Verb
from hotbank.compare.outcome import Outcome, seen
from hotbank.machine import Pages, Snapshot
from hotbank.model import Model

BOARD = """
name = "twins"
arch = "arm64"
block_size = "16M"
[bank.low]
start = 0x40000000
size = "192M"
[bank.high]
start = 0x50000000
size = "64M"
movable = true
at_boot = false
route = "ROUTE"
"""


class ModelGuest:
    """One boot of it."""

    vetoes = True

    def __init__(self, route: str, cmdline: str = "cma=0") -> None:
        self.model = Model.boot(board.loads(BOARD.replace("ROUTE", route)), cmdline=cmdline, backend="reference")
        self._held: dict[str, int] = {}
        self._pins: list[int] = []

    def snapshot(self) -> Snapshot:
        """As it stands."""
        return self.model.snapshot()

    def pages(self, block: int) -> Pages:
        """What every page of a block is."""
        return self.model.pages(block)

    def holes(self, block: int) -> bool:
        """True if there is not memory everywhere in it."""
        return bool(self.model.survey(block).holes)

    def perform(self, operation: Operation, patience: float) -> Outcome:
        """Do it, and keep what it changed."""
        if operation.verb not in (Verb.HOLD, Verb.PIN, Verb.UNPIN, Verb.POISON):
            return twin.perform(self.model, operation, patience)
        self._load(operation)
        return seen(self.model.snapshot(), 0, 0)

    def ask(self, do: str) -> int:
        """Damaged pages."""
        assert do == "damaged"
        self.model.validate()
        return len(self.model.check_contents())

    def _load(self, operation: Operation) -> None:
        model = self.model
        if operation.verb is Verb.HOLD:
            if operation.word in self._held:
                model.exit(self._held.pop(operation.word))
            self._held[operation.word] = model.spawn(operation.word, anon_pages=operation.chunks * 384)
        elif operation.verb is Verb.UNPIN:
            for handle in self._pins:
                model.unpin(handle)
            self._pins.clear()
        elif operation.verb is Verb.PIN:
            bank = self.model.snapshot().bank(operation.bank or "")
            self.pin_a_page(bank.blocks if bank is not None else ())

    def pin_a_page(self, blocks: Sequence[int]) -> None:
        """Pin a page of what is held in these blocks, if there is one."""
        held = ((pid, page) for pid in self._held.values() for n in blocks for page in self.model.place(pid, n)[:1])
        found = next(held, None)
        if found is not None:
            self._pins.append(self.model.pin(*found))


def with_model_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models in place of guests."""

    @contextmanager
    def booted(*_: object) -> Iterator[ModelGuest]:
        guest = ModelGuest("driver")
        guest.machine = guest.model  # type: ignore[attr-defined]
        yield guest

    monkeypatch.setattr("hotbank.compare.booted", booted)
